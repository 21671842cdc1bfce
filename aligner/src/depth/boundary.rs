//! Where the surfaces of the cortex run between voxel centres.
//!
//! Labels say only on which side of a surface a voxel centre lies. Each class mask is smoothed
//! with K = 2 G(σ) − G(2σ), where G is a Gaussian of this standard deviation. Where a surface of mean
//! curvature H passes, its mask smoothed by G alone is off by σ·H / √(2π): what lies on the inner side
//! of the tangent plane is missing. In K the two terms cancel, so that the surface stays where it is.
//! (A kernel whose second moment vanishes, such as 2 G − G∗G, leaves nearly half of that.)
//!
//! The surface is taken where the smoothed mask passes ½ on the grid edge from a grey voxel to its
//! neighbour. Labels are noisy where this point lies beyond the edge, on the next one: the voxel between the
//! two is a stray (`strays`) and counts to the tissue on the other side. Where the surface turns within the
//! reach of the kernel, what is smoothed says less than the labels, and these are respected.

use rayon::prelude::*;

use super::components::{CSF, GREY, WHITE};
use super::sheet::{all_neighbours, neighbour, neighbours, position};
use super::strays::{self, Around, Stray};
use crate::wide::wide;

/// The two surfaces, as far as single voxels know them.
pub(super) struct Surfaces {
    pub(super) crossings: Vec<Crossing>,
    /// By ascending voxel.
    pub(super) strays: Vec<Stray>,
}

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

/// A grid edge from a grey voxel to another tissue.
struct Edge {
    voxel: usize,
    direction: u8,
    other: usize,
}

/// What one brick says.
#[derive(Default)]
struct Found {
    crossings: Vec<Crossing>,
    /// With the smoothed mask at the voxel and at its neighbours, less ½. Some more than once.
    strays: Vec<(Stray, Around)>,
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

/// A stray lies at least so far beyond the surface, in units of the smoothed mask: more than rounding.
const CLEARLY: f32 = 0.01;

/// Most by which 2 G(σ) − G(2σ) and G(σ) differ where labels may be strays. In units of a plane's rise over
/// a standard deviation this is a fifth: the surface turns by less than that.
const TURN: f32 = 0.075;

/// Voxels along each side of a brick.
const BRICK: usize = 28;

/// Voxels around it that are smoothed, too: those next to the neighbours.
const MARGIN: usize = 2;

/// Those of a row along x, with the margins.
const ROW: usize = BRICK + 2 * MARGIN;

/// Filtered in registers.
type Row = [f32; ROW];

/// Numbers between two slices, so that they do not fall on the same lines of a cache.
const GAP: usize = 16;

/// Finds where the surfaces run, and which labels contradict that.
///
/// `state` holds [`CSF`], [`GREY`] or [`WHITE`] (other values belong to none) for each voxel, x
/// fastest; beyond the image its outermost voxels are repeated. The strays in it change sides: those among
/// the grey ones become CSF or white, the others grey. There is a crossing then for every edge from grey to
/// another tissue, but where a stray became grey beside a third one.
///
/// `thickness_mm` is typical for the sheet.
pub(super) fn find(
    state: &mut [u8],
    shape: [usize; 3],
    spacing: [f64; 3],
    thickness_mm: f64,
) -> Surfaces {
    let smoother = Smoother::new(state, shape, spacing, thickness_mm);
    let bricks = shape.map(|size| size.div_ceil(BRICK));
    let found: Vec<Found> = (0..bricks.iter().product())
        .into_par_iter()
        .map_init(Scratch::default, |scratch, brick| {
            let start = position(bricks, brick).map(|index| index * BRICK);
            let edges = smoother.edges_in(start);
            let mut found = Found::default();
            for (tissue, edges) in edges.iter().enumerate() {
                smoother.look(start, edges, tissue, scratch, &mut found);
            }
            found
        })
        .collect();
    let mut crossings = Vec::with_capacity(found.iter().map(|found| found.crossings.len()).sum());
    let mut strays = Vec::new();
    for brick in found {
        crossings.extend(brick.crossings);
        strays.extend(brick.strays);
    }
    let strays = strays::apply(strays, state, shape, &mut crossings);
    Surfaces { crossings, strays }
}

struct Smoother<'a> {
    state: &'a [u8],
    shape: [usize; 3],
    terms: [Term; SUM.len()],
    /// Of CSF and of white matter.
    steps: [Steps; 2],
}

/// A Gaussian of [`SUM`].
struct Term {
    /// What a mask that begins at x = 0 becomes, from −`reach` to `reach` − 1; and beyond that as much
    /// as a row needs that begins or ends there.
    rise: Vec<f32>,
    /// Taps on either side along each axis.
    reach: [usize; 3],
    /// Along y and z, with an odd number of taps.
    kernels: [Vec<f32>; 2],
}

/// Where a tissue begins and ends in each row of the image along x.
struct Steps {
    /// x of each voxel that differs from the one before, row after row.
    at: Vec<u32>,
    /// Where the steps of each row begin, and whether the tissue is in its first voxel.
    rows: Vec<(u32, bool)>,
}

/// Reused from brick to brick.
#[derive(Default)]
struct Scratch {
    /// A slice after filtering along x.
    slice: Vec<Row>,
    /// All slices after filtering along y, with [`GAP`] numbers between them.
    slices: Vec<f32>,
    /// The mask smoothed by the first Gaussian alone.
    narrow: Vec<Row>,
    /// The result.
    smoothed: Vec<Row>,
}

impl<'a> Smoother<'a> {
    fn new(state: &'a [u8], shape: [usize; 3], spacing: [f64; 3], thickness_mm: f64) -> Self {
        let coarsest = (0..3)
            .filter(|&axis| shape[axis] > 1)
            .map(|axis| spacing[axis])
            .fold(0.0, f64::max);
        let sigma = deviation(thickness_mm / coarsest);
        let terms = SUM.map(|(_, variance)| {
            let [x, y, z] = std::array::from_fn(|axis| {
                if shape[axis] > 1 {
                    gaussian(sigma * (variance * coarsest / spacing[axis]).sqrt())
                } else {
                    vec![1.0]
                }
            });
            Term {
                reach: [&x, &y, &z].map(|kernel| kernel.len() / 2),
                rise: rise(&x),
                kernels: [y, z].map(|kernel| kernel.iter().map(|&tap| tap as f32).collect()),
            }
        });
        let (csf, white) = rayon::join(
            || Steps::of(state, shape[0], CSF),
            || Steps::of(state, shape[0], WHITE),
        );
        Self {
            state,
            shape,
            terms,
            steps: [csf, white],
        }
    }

    /// The crossings on edges of one brick into CSF (0) or white matter (1), and the strays at their ends.
    fn look(
        &self,
        start: [usize; 3],
        edges: &[Edge],
        tissue: usize,
        scratch: &mut Scratch,
        found: &mut Found,
    ) {
        if edges.is_empty() {
            return;
        }
        wide(
            #[inline(always)]
            || self.smooth(start, &self.steps[tissue], scratch),
        );
        let brick = Brick {
            smoother: self,
            start,
            tissue: [CSF, WHITE][tissue],
            scratch,
        };
        for edge in edges {
            found.crossings.push(Crossing {
                voxel: edge.voxel as u32,
                direction: edge.direction,
                white: tissue == 1,
                distance: crossing(brick.value(edge.voxel), brick.value(edge.other)),
            });
            found.strays.extend(brick.strays(edge));
        }
    }

    /// Rows of the brick along y and z, with the margins.
    fn rows_in(&self, start: [usize; 3]) -> [usize; 2] {
        [1, 2].map(|axis| (self.shape[axis] - start[axis]).min(BRICK) + 2 * MARGIN)
    }

    /// Edges from a grey voxel of the brick to CSF and to white matter.
    fn edges_in(&self, start: [usize; 3]) -> [Vec<Edge>; 2] {
        let end: [usize; 3] = std::array::from_fn(|a| (start[a] + BRICK).min(self.shape[a]));
        let mut edges = [Vec::new(), Vec::new()];
        for z in start[2]..end[2] {
            for y in start[1]..end[1] {
                let row = self.shape[0] * (y + self.shape[1] * z);
                for x in start[0]..end[0] {
                    let voxel = row + x;
                    if self.state[voxel] != GREY {
                        continue;
                    }
                    let grey = |near: [usize; 6]| near.iter().all(|&at| self.state[at] == GREY);
                    if all_neighbours(self.shape, [x, y, z]).is_some_and(grey) {
                        continue;
                    }
                    for (direction, other) in neighbours(self.shape, [x, y, z]) {
                        let edge = Edge {
                            voxel,
                            direction,
                            other,
                        };
                        match self.state[other] {
                            CSF => edges[0].push(edge),
                            WHITE => edges[1].push(edge),
                            _ => {}
                        }
                    }
                }
            }
        }
        edges
    }

    /// K ∗ the mask with these steps, over the brick and its margins.
    #[inline(always)]
    fn smooth(&self, start: [usize; 3], steps: &Steps, scratch: &mut Scratch) {
        let [ny, nz] = self.rows_in(start);
        let Scratch {
            slice,
            slices,
            narrow,
            smoothed,
        } = scratch;
        narrow.resize(ny * nz, [0.0; _]);
        smoothed.clear();
        smoothed.resize(ny * nz, [0.0; _]);
        let stride = ny * ROW + GAP;
        // Loops, as closures here would not be compiled for wide vectors.
        for (index, (term, (weight, _))) in self.terms.iter().zip(SUM).enumerate() {
            let [_, reach_y, reach_z] = term.reach;
            slice.resize(ny + 2 * reach_y, [0.0; _]);
            slices.resize((nz + 2 * reach_z) * stride, 0.0);
            for (z, filtered) in slices.chunks_exact_mut(stride).enumerate() {
                let z = self.within(2, start[2] + z, MARGIN + reach_z);
                for (y, row) in slice.iter_mut().enumerate() {
                    let y = self.within(1, start[1] + y, MARGIN + reach_y);
                    steps.fill(y + self.shape[1] * z, start[0], term, row);
                }
                for (y, row) in filtered.chunks_exact_mut(ROW).take(ny).enumerate() {
                    let sums = filter(slice[y..].as_flattened(), ROW, &term.kernels[0]);
                    row.copy_from_slice(&sums);
                }
            }
            for y in 0..ny {
                for z in 0..nz {
                    let from = &slices[z * stride + y * ROW..];
                    let sums = filter(from, stride, &term.kernels[1]);
                    if index == 0 {
                        narrow[y + ny * z] = sums;
                    }
                    for (value, sum) in smoothed[y + ny * z].iter_mut().zip(sums) {
                        *value += weight * sum;
                    }
                }
            }
        }
    }

    /// The voxel `margin` before `at` along an axis, or the outermost one if that lies beyond the image.
    #[inline(always)]
    fn within(&self, axis: usize, at: usize, margin: usize) -> usize {
        at.saturating_sub(margin).min(self.shape[axis] - 1)
    }
}

/// A brick after smoothing.
struct Brick<'a> {
    smoother: &'a Smoother<'a>,
    start: [usize; 3],
    /// Whose mask was smoothed.
    tissue: u8,
    scratch: &'a Scratch,
}

impl Brick<'_> {
    /// Row and place in it of a voxel.
    fn place(&self, voxel: usize) -> (usize, usize) {
        let [rows, _] = self.smoother.rows_in(self.start);
        let at = position(self.smoother.shape, voxel);
        let [x, y, z]: [usize; 3] =
            std::array::from_fn(|axis| at[axis] + MARGIN - self.start[axis]);
        (y + rows * z, x)
    }

    /// The smoothed mask less ½.
    fn value(&self, voxel: usize) -> f32 {
        let (row, x) = self.place(voxel);
        self.scratch.smoothed[row][x] - 0.5
    }

    /// Whether the surface turns within the reach of the kernel.
    fn turns(&self, voxel: usize) -> bool {
        let (row, x) = self.place(voxel);
        (self.scratch.smoothed[row][x] - self.scratch.narrow[row][x]).abs() > TURN
    }

    /// Whether the voxel is one of the outermost, which what is repeated beyond the image resembles.
    fn on_face(&self, voxel: usize) -> bool {
        let shape = self.smoother.shape;
        let at = position(shape, voxel);
        let mut axes = (0..3).filter(|&axis| shape[axis] > 1);
        axes.any(|axis| at[axis] == 0 || at[axis] + 1 == shape[axis])
    }

    /// The ends of an edge that are strays.
    ///
    /// The grey end is one if the smoothed mask passes ½ behind it, on the way to another grey voxel; the
    /// other one if it does beyond, on the way to another voxel of the tissue. A sheet or sulcus of a
    /// single voxel has none: it is never closed. Nor has a face of the image.
    fn strays(&self, edge: &Edge) -> impl Iterator<Item = (Stray, Around)> {
        let Smoother { state, shape, .. } = self.smoother;
        let lies = |voxel: usize, sign: f32, direction: u8, tissue: u8| {
            if sign * self.value(voxel) <= CLEARLY || self.on_face(voxel) {
                return false;
            }
            let behind = neighbour(*shape, voxel, direction);
            state[behind] == tissue && sign * self.value(behind) < 0.0 && !self.turns(voxel)
        };
        let grey = lies(edge.voxel, 1.0, edge.direction ^ 1, GREY).then_some((edge.voxel, true));
        let other = lies(edge.other, -1.0, edge.direction, self.tissue);
        let other = other.then_some((edge.other, false));
        grey.into_iter().chain(other).map(|(voxel, is_grey)| {
            let stray = Stray {
                voxel: voxel as u32,
                tissue: self.tissue,
                is_grey,
            };
            (stray, self.around(voxel))
        })
    }

    fn around(&self, voxel: usize) -> Around {
        let shape = self.smoother.shape;
        let mut near = [0.0; 6];
        for (direction, other) in neighbours(shape, position(shape, voxel)) {
            near[usize::from(direction)] = self.value(other);
        }
        Around {
            here: self.value(voxel),
            near,
        }
    }
}

impl Steps {
    fn of(state: &[u8], row_length: usize, tissue: u8) -> Self {
        let mut steps = Self {
            at: Vec::new(),
            rows: Vec::with_capacity(state.len() / row_length + 1),
        };
        for row in state.chunks_exact(row_length) {
            let inside = |&voxel: &u8| voxel == tissue;
            steps.rows.push((steps.at.len() as u32, inside(&row[0])));
            for (x, pair) in row.windows(2).enumerate() {
                if inside(&pair[0]) != inside(&pair[1]) {
                    steps.at.push(x as u32 + 1);
                }
            }
        }
        steps.rows.push((steps.at.len() as u32, false));
        steps
    }

    /// The mask filtered along x, in one row of the image from [`MARGIN`] before `start`.
    #[inline(always)]
    fn fill(&self, row: usize, start: usize, term: &Term, out: &mut Row) {
        let (first, inside) = self.rows[row];
        let steps = &self.at[first as usize..self.rows[row + 1].0 as usize];
        let reach = term.reach[0];
        // Steps that lie so far back that none of the row sees them.
        let before = steps.partition_point(|&step| step as usize + reach + MARGIN <= start);
        let inside = inside ^ (before % 2 == 1);
        *out = [f32::from(u8::from(inside)); _];
        let mut sign = if inside { -1.0 } else { 1.0 };
        for &step in &steps[before..] {
            let Some(place) = (start + reach + ROW - 1 - MARGIN).checked_sub(step as usize) else {
                break;
            };
            for (value, rise) in out.iter_mut().zip(&term.rise[place..]) {
                *value += sign * rise;
            }
            sign = -sign;
        }
    }
}

/// Filtered by a kernel whose taps are `stride` numbers apart, in one row.
#[inline(always)]
fn filter(values: &[f32], stride: usize, kernel: &[f32]) -> Row {
    let mut sums: Row = [0.0; _];
    for (tap, weight) in kernel.iter().enumerate() {
        let row = &values[tap * stride..][..sums.len()];
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += weight * value;
        }
    }
    sums
}

/// Taps of a Gaussian, cut at three and a half standard deviations (in voxels) and normalised.
fn gaussian(sigma: f64) -> Vec<f64> {
    let radius = (3.5 * sigma + 0.5) as i32;
    let taps: Vec<f64> = (-radius..=radius)
        .map(|tap| libm::exp(-0.5 * f64::from(tap * tap) / (sigma * sigma)))
        .collect();
    let sum: f64 = taps.iter().sum();
    taps.into_iter().map(|tap| tap / sum).collect()
}

/// Sums of the first taps: [`Term::rise`].
fn rise(kernel: &[f64]) -> Vec<f32> {
    let beyond = ROW - 1;
    let mut sum = 0.0;
    let sums = kernel[..kernel.len() - 1].iter().map(|tap| {
        sum += tap;
        sum as f32
    });
    let zeros = std::iter::repeat_n(0.0, beyond);
    let ones = std::iter::repeat_n(1.0, beyond);
    zeros.chain(sums).chain(ones).collect()
}

/// Where a line from `here` (grey) to `there` (the tissue) passes zero.
pub(super) fn crossing(here: f32, there: f32) -> f32 {
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
        let mut state: Vec<u8> = (0..shape.iter().product())
            .map(|flat| if flat % 40 < 35 { GREY } else { WHITE })
            .collect();
        let found = find(&mut state, shape, [1.0, 1.0, 2.0], 35.0).crossings;
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
        let mut state: Vec<u8> = (0..shape.iter().product())
            .map(|flat| {
                if distance(position(shape, flat)) < radius {
                    CSF
                } else {
                    GREY
                }
            })
            .collect();
        let found = find(&mut state, shape, [1.0; 3], 8.0).crossings;
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
