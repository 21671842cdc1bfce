//! Where the surfaces of the cortex run between voxel centres.
//!
//! Labels say only on which side of a surface a voxel centre lies. Each class mask is smoothed
//! with K = 2 G − G∗G, where G is a Gaussian. The second moment of K vanishes, so that a curved
//! surface does not shrink as it would under G alone. The surface is taken where the smoothed mask
//! passes ½ on the grid edge from a grey voxel to its neighbour. The edge is never left: labels are
//! always respected.

use rayon::prelude::*;

use super::components::{CSF, GREY, WHITE};
use super::sheet::{neighbour, position};
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
/// Less than 0.9 leaves the staircase of the labels. More averages more of it away, but rounds off
/// folds, by the fourth power of what it is in units of their radius; a thick sheet can afford that. The
/// growth is slower than that of the thickness, so that both errors fall. On curved shells the best
/// values are about 1.1 for 8 voxels and 1.4 for 16.
fn deviation(voxels: f64) -> f64 {
    (0.5 * libm::cbrt(voxels)).clamp(0.9, 1.5)
}

/// Closest that a surface comes to a grey voxel's centre, in spacings; bounds the stencil weights.
const NEAREST: f32 = 0.02;

/// Voxels along each side of a brick. Its smoothed copy fits in the cache of a core.
const BRICK: usize = 32;

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
    /// G along each axis, with an odd number of taps.
    kernels: [Vec<f32>; 3],
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
        let kernels = std::array::from_fn(|axis| {
            if shape[axis] > 1 {
                gaussian(sigma * (coarsest / spacing[axis]).sqrt())
            } else {
                vec![1.0]
            }
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
                    for direction in 0..6_u8 {
                        let other = neighbour(self.shape, flat, usize::from(direction));
                        if let Some(other) = other.filter(|&at| self.state[at] == tissue) {
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
        let once = self.blur(self.mask(start, tissue));
        let mut twice = self.blur(Patch {
            start: once.start,
            size: once.size,
            values: once.values.clone(),
        });
        let [nx, ny, nz] = twice.size;
        let offset: [usize; 3] = std::array::from_fn(|a| (twice.start[a] - once.start[a]) as usize);
        for z in 0..nz {
            for y in 0..ny {
                let from =
                    offset[0] + once.size[0] * (y + offset[1] + once.size[1] * (z + offset[2]));
                let row = &mut twice.values[nx * (y + ny * z)..][..nx];
                for (value, single) in row.iter_mut().zip(&once.values[from..]) {
                    *value = 2.0 * single - *value;
                }
            }
        }
        twice
    }

    /// The mask of `tissue`, wide enough that two blurs leave the brick and one voxel around it.
    fn mask(&self, start: [usize; 3], tissue: u8) -> Patch {
        let margin: [usize; 3] = std::array::from_fn(|a| self.kernels[a].len());
        let size: [usize; 3] =
            std::array::from_fn(|a| (self.shape[a] - start[a]).min(BRICK) + 2 * margin[a]);
        let start: [isize; 3] = std::array::from_fn(|a| start[a] as isize - margin[a] as isize);
        let clamp = |at: isize, axis: usize| at.clamp(0, self.shape[axis] as isize - 1) as usize;
        let mut values = Vec::with_capacity(size.iter().product());
        for z in 0..size[2] {
            let z = clamp(start[2] + z as isize, 2);
            for y in 0..size[1] {
                let y = clamp(start[1] + y as isize, 1);
                let row = &self.state[self.shape[0] * (y + self.shape[1] * z)..][..self.shape[0]];
                values.extend((0..size[0]).map(|x| {
                    let inside = row[clamp(start[0] + x as isize, 0)] == tissue;
                    f32::from(u8::from(inside))
                }));
            }
        }
        Patch {
            start,
            size,
            values,
        }
    }

    #[inline(always)]
    fn blur(&self, mut patch: Patch) -> Patch {
        for axis in 0..3 {
            patch = patch.filtered(axis, &self.kernels[axis]);
        }
        patch
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
            let from = self.size[0] * (y + self.size[1] * z);
            for (tap, weight) in kernel.iter().enumerate() {
                let source = &self.values[from + tap * stride..][..size[0]];
                for (sum, value) in out.iter_mut().zip(source) {
                    *sum += weight * value;
                }
            }
        }
        Self {
            start,
            size,
            values,
        }
    }
}

/// Taps of a Gaussian, cut at four standard deviations (in voxels) and normalised.
fn gaussian(sigma: f64) -> Vec<f32> {
    let radius = (4.0 * sigma + 0.5) as i32;
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
                let (from, other) = (
                    distance(position(shape, flat)),
                    distance(position(
                        shape,
                        neighbour(shape, flat, usize::from(crossing.direction)).unwrap(),
                    )),
                );
                from + f64::from(crossing.distance) * (other - from)
            })
            .sum::<f64>()
            / found.len() as f64;
        // Plain Gaussian smoothing would be off by sigma²/radius = 0.07 voxels.
        assert!((mean - radius).abs() < 0.03, "mean radius {mean}");
    }
}
