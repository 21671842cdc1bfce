//! Where the surfaces of the cortex run between voxel centres.
//!
//! Labels say only on which side of a surface a voxel centre lies. Each class mask is smoothed
//! with K = 2 G(σ) − G(2σ), where G is a Gaussian of this standard deviation. Where a surface of mean
//! curvature H passes, its mask smoothed by G alone is off by σ·H / √(2π): what lies on the inner side
//! of the tangent plane is missing. In K the two terms cancel, so that the surface stays where it is.
//! (A kernel whose second moment vanishes, such as 2 G − G∗G, leaves nearly half of that.)
//!
//! The surface is taken where the smoothed mask passes ½ on the grid edge from a grey voxel to its
//! neighbour. The edge is never left: labels are always respected.

use rayon::prelude::*;

use super::components::{CSF, GREY, WHITE};
use super::sheet::{neighbours, position};
use crate::wide::wide;

/// A surface on the grid edge from a grey voxel to a neighbour.
pub(super) struct Crossing {
    /// Flat index of the grey voxel.
    pub(super) voxel: u32,
    /// Direction of the neighbour: −x, +x, −y, +y, −z, +z.
    pub(super) direction: u8,
    /// True for the white surface, false for the pial one.
    pub(super) white: bool,
    /// Distance from the grey voxel in spacings, [`NEAREST`] to 1.
    pub(super) distance: f32,
}

/// Standard deviation of G, in units of √(largest spacing · spacing of the axis), for a sheet of
/// `voxels` of the largest spacing.
///
/// Less leaves the staircase of the labels, and their noise. More averages more of it away, but rounds off
/// folds of a small radius; a thick sheet can afford that. The growth is slower than that of the thickness,
/// so that both errors fall.
fn deviation(voxels: f64) -> f64 {
    (1.02 * libm::pow(voxels / 8.0, 0.7)).clamp(0.9, 2.0)
}

/// K as a sum of Gaussians: the weight of each, and its variance in units of that of G.
const SUM: [(f32, f64); 2] = [(2.0, 1.0), (-1.0, 4.0)];

/// Closest that a surface comes to a grey voxel's centre, in spacings; bounds the stencil weights.
const NEAREST: f32 = 0.02;

/// Voxels along each side of a brick. Its smoothed copy fits in the cache of a core, and its rows, one
/// voxel longer on either side, are two of [`Run`].
const BRICK: usize = 30;

/// Voxels of a row that are filtered together, in registers.
type Run = [f32; 16];

/// Every edge from grey to another tissue, ordered by brick.
///
/// `state` holds [`CSF`], [`GREY`] or [`WHITE`] (other values belong to none) for each voxel, x
/// fastest; beyond the image its outermost voxels are repeated.
///
/// `thickness_mm` is typical for the sheet.
pub(super) fn crossings(
    state: &[u8],
    shape: [usize; 3],
    spacing: [f64; 3],
    thickness_mm: f64,
) -> Vec<Crossing> {
    let smoother = Smoother::new(state, shape, spacing, thickness_mm);
    let bricks = shape.map(|size| size.div_ceil(BRICK));
    (0..bricks.iter().product())
        .into_par_iter()
        .flat_map_iter(|brick| {
            let start = position(bricks, brick).map(|index| index * BRICK);
            let mut found = smoother.crossings_in(start, CSF);
            found.extend(smoother.crossings_in(start, WHITE));
            found
        })
        .collect()
}

struct Smoother<'a> {
    state: &'a [u8],
    shape: [usize; 3],
    /// For each term of [`SUM`] the Gaussian along each axis, with an odd number of taps.
    kernels: [[Vec<f32>; 3]; SUM.len()],
}

/// An array over a part of the image, x fastest.
struct Patch {
    /// Image index of the first voxel; may lie outside of the image.
    start: [isize; 3],
    size: [usize; 3],
    values: Vec<f32>,
}

impl<'a> Smoother<'a> {
    fn new(state: &'a [u8], shape: [usize; 3], spacing: [f64; 3], thickness_mm: f64) -> Self {
        let coarsest = (0..3)
            .filter(|&axis| shape[axis] > 1)
            .map(|axis| spacing[axis])
            .fold(0.0, f64::max);
        let sigma = deviation(thickness_mm / coarsest);
        let kernels = SUM.map(|(_, variance)| {
            std::array::from_fn(|axis| {
                if shape[axis] > 1 {
                    gaussian(sigma * (variance * coarsest / spacing[axis]).sqrt())
                } else {
                    vec![1.0]
                }
            })
        });
        Self {
            state,
            shape,
            kernels,
        }
    }

    /// The crossings from grey voxels of one brick into one tissue.
    fn crossings_in(&self, start: [usize; 3], tissue: u8) -> Vec<Crossing> {
        let edges = self.edges_in(start, tissue);
        if edges.is_empty() {
            return Vec::new();
        }
        let smoothed = wide(
            #[inline(always)]
            || self.smooth(start, tissue),
        );
        edges
            .into_iter()
            .map(|(voxel, direction, other)| Crossing {
                voxel: voxel as u32,
                direction,
                white: tissue == WHITE,
                distance: crossing(
                    smoothed.at(position(self.shape, voxel)) - 0.5,
                    smoothed.at(position(self.shape, other)) - 0.5,
                ),
            })
            .collect()
    }

    /// Edges from a grey voxel of the brick to a voxel of `tissue`: flat index, direction, flat
    /// index of the neighbour.
    fn edges_in(&self, start: [usize; 3], tissue: u8) -> Vec<(usize, u8, usize)> {
        let [nx, ny, nz] = self.shape;
        let end: [usize; 3] = std::array::from_fn(|a| (start[a] + BRICK).min([nx, ny, nz][a]));
        let mut edges = Vec::new();
        for z in start[2]..end[2] {
            for y in start[1]..end[1] {
                for x in start[0]..end[0] {
                    let flat = x + nx * (y + ny * z);
                    if self.state[flat] != GREY {
                        continue;
                    }
                    for (direction, other) in neighbours(self.shape, [x, y, z]) {
                        if self.state[other] == tissue {
                            edges.push((flat, direction, other));
                        }
                    }
                }
            }
        }
        edges
    }

    /// K ∗ the mask of `tissue`, over the brick and one voxel around it.
    #[inline(always)]
    fn smooth(&self, start: [usize; 3], tissue: u8) -> Patch {
        // A loop, as a closure here would not be compiled for wide vectors.
        let mut sum = self.term(0, start, tissue);
        for term in 1..SUM.len() {
            let other = self.term(term, start, tissue);
            for (sum, value) in sum.values.iter_mut().zip(other.values) {
                *sum += value;
            }
        }
        sum
    }

    /// One term of the sum.
    #[inline(always)]
    fn term(&self, term: usize, start: [usize; 3], tissue: u8) -> Patch {
        let kernels = &self.kernels[term];
        let margin = std::array::from_fn(|axis| kernels[axis].len() / 2);
        let mut patch = self.mask(start, tissue, margin);
        for (axis, kernel) in kernels.iter().enumerate() {
            patch = patch.filtered(axis, kernel);
        }
        for value in &mut patch.values {
            *value *= SUM[term].0;
        }
        patch
    }

    /// The mask of `tissue` over the brick, one voxel around it, and this `margin`.
    fn mask(&self, start: [usize; 3], tissue: u8, margin: [usize; 3]) -> Patch {
        let margin = margin.map(|voxels| voxels + 1);
        let size: [usize; 3] =
            std::array::from_fn(|a| (self.shape[a] - start[a]).min(BRICK) + 2 * margin[a]);
        let start: [isize; 3] = std::array::from_fn(|a| start[a] as isize - margin[a] as isize);
        let clamp = |at: isize, axis: usize| at.clamp(0, self.shape[axis] as isize - 1) as usize;
        let columns: Vec<usize> = (0..size[0])
            .map(|x| clamp(start[0] + x as isize, 0))
            .collect();
        let mut values = Vec::with_capacity(size.iter().product());
        for z in 0..size[2] {
            let z = clamp(start[2] + z as isize, 2);
            for y in 0..size[1] {
                let y = clamp(start[1] + y as isize, 1);
                let row = &self.state[self.shape[0] * (y + self.shape[1] * z)..][..self.shape[0]];
                let inside = |&x: &usize| f32::from(u8::from(row[x] == tissue));
                values.extend(columns.iter().map(inside));
            }
        }
        Patch {
            start,
            size,
            values,
        }
    }
}

impl Patch {
    fn at(&self, index: [usize; 3]) -> f32 {
        let [x, y, z]: [usize; 3] =
            std::array::from_fn(|a| (index[a] as isize - self.start[a]) as usize);
        self.values[x + self.size[0] * (y + self.size[1] * z)]
    }

    /// Filtered along one axis; shorter by the kernel's length less one.
    #[inline(always)]
    fn filtered(&self, axis: usize, kernel: &[f32]) -> Self {
        let (mut start, mut size) = (self.start, self.size);
        start[axis] += (kernel.len() / 2) as isize;
        size[axis] -= kernel.len() - 1;
        let stride = [1, self.size[0], self.size[0] * self.size[1]][axis];
        let mut values = vec![0.0; size.iter().product()];
        for (row, out) in values.chunks_exact_mut(size[0]).enumerate() {
            let (y, z) = (row % size[1], row / size[1]);
            let source = &self.values[self.size[0] * (y + self.size[1] * z)..];
            let (runs, rest) = out.as_chunks_mut::<{ size_of::<Run>() / size_of::<f32>() }>();
            for (place, run) in runs.iter_mut().enumerate() {
                *run = filter_run(&source[place * run.len()..], kernel, stride);
            }
            let from = size[0] - rest.len();
            for (place, value) in rest.iter_mut().enumerate() {
                let taps = kernel
                    .iter()
                    .zip(source[from + place..].iter().step_by(stride));
                *value = taps.map(|(weight, value)| weight * value).sum();
            }
        }
        Self {
            start,
            size,
            values,
        }
    }
}

#[inline(always)]
fn filter_run(source: &[f32], kernel: &[f32], stride: usize) -> Run {
    let mut sums: Run = Default::default();
    for (tap, weight) in kernel.iter().enumerate() {
        let values = &source[tap * stride..][..sums.len()];
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += weight * value;
        }
    }
    sums
}

/// Taps of a Gaussian, cut at four standard deviations (in voxels) and normalised.
fn gaussian(sigma: f64) -> Vec<f32> {
    let radius = (3.5 * sigma + 0.5) as i32;
    let taps: Vec<f64> = (-radius..=radius)
        .map(|tap| libm::exp(-0.5 * f64::from(tap * tap) / (sigma * sigma)))
        .collect();
    let sum: f64 = taps.iter().sum();
    taps.iter().map(|tap| (tap / sum) as f32).collect()
}

/// Where a line from `here` (grey) to `there` (the tissue) passes zero.
fn crossing(here: f32, there: f32) -> f32 {
    let fraction = if here >= 0.0 {
        NEAREST
    } else if there <= 0.0 {
        1.0
    } else {
        here / (here - there)
    };
    fraction.clamp(NEAREST, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_aligned_plane_lies_half_way_between_centres() {
        let shape = [40, 9, 7];
        let state: Vec<u8> = (0..shape.iter().product())
            .map(|flat| if flat % 40 < 35 { GREY } else { WHITE })
            .collect();
        let found = crossings(&state, shape, [1.0, 1.0, 2.0], 35.0);
        assert_eq!(found.len(), 63);
        for crossing in found {
            assert!(crossing.white && crossing.direction == 1);
            assert!((crossing.distance - 0.5).abs() < 1e-5);
        }
    }

    #[test]
    fn a_ball_keeps_its_radius() {
        let (centre, radius) = ([20.3, 19.6, 20.1], 12.0);
        let distance = |at: [usize; 3]| {
            (0..3)
                .map(|a| (at[a] as f64 - centre[a]).powi(2))
                .sum::<f64>()
                .sqrt()
        };
        let shape = [41, 40, 41];
        let state: Vec<u8> = (0..shape.iter().product())
            .map(|flat| {
                if distance(position(shape, flat)) < radius {
                    CSF
                } else {
                    GREY
                }
            })
            .collect();
        let found = crossings(&state, shape, [1.0; 3], 8.0);
        let mean = found
            .iter()
            .map(|crossing| {
                let flat = crossing.voxel as usize;
                let mut near = neighbours(shape, position(shape, flat));
                let (_, other) = near.find(|near| near.0 == crossing.direction).unwrap();
                let (from, other) = (
                    distance(position(shape, flat)),
                    distance(position(shape, other)),
                );
                from + f64::from(crossing.distance) * (other - from)
            })
            .sum::<f64>()
            / found.len() as f64;
        // Plain Gaussian smoothing would be off by sigma²/radius = 0.07 voxels.
        assert!((mean - radius).abs() < 0.03, "mean radius {mean}");
    }
}
