//! The coarse lattice that carries the velocity, and cubic B-splines between lattice and voxels.
//!
//! A lattice cell is a block of `spacing` voxels; the lattice value belongs to the block's centre.
//! Between centres values are cubic B-splines *through* the lattice values, mirrored at the border
//! (Unser, Aldroubi, Eden 1993).

use rayon::{prelude::*, slice::Chunks};

use super::{LEAF, sum::dot};
use crate::{scratch::PerThread, wide::wide};

/// Elements of a slab that the prefilter along z treats together.
const PIECE: usize = 256;

/// Vectors on a lattice, in memory `[z][component][y][x]`, x fastest.
///
/// A z-slab holds all three components next to each other, so that one parallel loop over slabs
/// writes all of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LatticeField {
    pub(super) shape: [usize; 3],
    pub(super) values: Vec<f32>,
}

impl LatticeField {
    pub(super) fn zero(shape: [usize; 3]) -> Self {
        Self {
            shape,
            values: vec![0.0; 3 * shape.iter().product::<usize>()],
        }
    }

    /// Elements of one component in one slab.
    pub(super) fn plane(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// All three components of one z after the other.
    pub(super) fn slabs(&self) -> Chunks<'_, f32> {
        self.values.par_chunks(3 * self.plane())
    }

    /// The array from a component's first element on, for a locator with slabs of `3·plane`.
    pub(super) fn component(&self, component: usize) -> &[f32] {
        &self.values[component * self.plane()..]
    }

    /// Largest squared length of a vector, each component divided by `unit`.
    pub(super) fn max_square(&self, unit: [f32; 3]) -> f32 {
        let plane = self.plane();
        self.values
            .par_chunks(3 * plane)
            .map(|slab| {
                let (x, rest) = slab.split_at(plane);
                let (y, z) = rest.split_at(plane);
                x.iter()
                    .zip(y)
                    .zip(z)
                    .map(|((x, y), z)| {
                        let v = [x / unit[0], y / unit[1], z / unit[2]];
                        v[0] * v[0] + v[1] * v[1] + v[2] * v[2]
                    })
                    .fold(0.0, f32::max)
            })
            .reduce(|| 0.0, f32::max)
    }

    /// Multiplies every vector.
    pub(super) fn scale(&mut self, factor: f32) {
        let plane = self.plane();
        self.values.par_chunks_mut(plane).for_each(|values| {
            for value in values {
                *value *= factor;
            }
        });
    }

    /// Becomes another field of its shape with each component multiplied by a factor of its own.
    pub(super) fn set_scaled_axes(&mut self, field: &Self, factors: [f32; 3]) {
        let plane = self.plane();
        let planes = self.values.par_chunks_mut(plane);
        let planes = planes.zip(field.values.par_chunks(plane)).enumerate();
        planes.for_each(|(index, (scaled, values))| {
            for (scaled, value) in scaled.iter_mut().zip(values) {
                *scaled = value * factors[index % 3];
            }
        });
    }

    /// Adds another field on the same lattice.
    pub(super) fn add(&mut self, other: &Self) {
        let plane = self.plane();
        let others = other.values.par_chunks(plane);
        let planes = self.values.par_chunks_mut(plane).zip(others);
        planes.for_each(|(values, others)| {
            for (value, other) in values.iter_mut().zip(others) {
                *value += other;
            }
        });
    }

    /// Mean squared length of a vector.
    pub(super) fn mean_square(&self) -> f64 {
        dot(&self.values, &self.values) / (self.values.len() / 3).max(1) as f64
    }

    /// The coefficients of the B-spline through the lattice values.
    pub(super) fn into_coefficients(mut self) -> Self {
        self.become_coefficients();
        self
    }

    /// [`Self::into_coefficients`] in place.
    pub(super) fn become_coefficients(&mut self) {
        let [nx, ny, nz] = self.shape;
        let plane = self.plane();
        let [along_x, along_y, along_z] = self.shape.map(Prefilter::new);
        let planes = self.values.par_chunks_mut(plane).with_max_len(LEAF);
        planes.for_each(|plane| {
            plane
                .chunks_exact_mut(nx)
                .for_each(|row| along_x.solve(row, 1));
            along_y.solve(plane, nx);
        });
        debug_assert_eq!(self.values.len(), 3 * nx * ny * nz);
        along_z.solve_slabs(&mut self.values);
    }

    /// The field on another lattice over the same volume: `cells_per_cell[a]` cells of this lattice
    /// make one of the other.
    pub(super) fn resampled(self, shape: [usize; 3], cells_per_cell: [f64; 3]) -> Self {
        let coefficients = self.into_coefficients();
        let upsampler = Upsampler::new(coefficients.shape, shape, cells_per_cell);
        let scratch: PerThread<Plane> = PerThread::new();
        let mut target = Self::zero(shape);
        let [nx, ny, _] = shape;
        target
            .values
            .par_chunks_mut(3 * nx * ny)
            .enumerate()
            .with_max_len(LEAF)
            .for_each(|(z, slab)| {
                scratch.with(|plane| {
                    upsampler.start_plane(&coefficients, z, plane);
                    for (row, out) in slab.chunks_exact_mut(nx).enumerate() {
                        upsampler.row(plane, row / ny, row % ny, out);
                    }
                });
            });
        target
    }
}

/// The tridiagonal system (1, 4, 1)/6 with mirrored ends, factored for one axis length.
struct Prefilter {
    /// Thomas algorithm: multiplier of the next unknown, and 1 / pivot.
    upper: Vec<f32>,
    inverse_pivot: Vec<f32>,
}

impl Prefilter {
    fn new(n: usize) -> Self {
        let mut upper = Vec::with_capacity(n);
        let mut inverse_pivot = Vec::with_capacity(n);
        let mut previous = 0.0_f64;
        for i in 0..n {
            let mirrored = usize::from(i == 0) + usize::from(i + 1 == n);
            let pivot = (4.0 + mirrored as f64 - previous) / 6.0;
            previous = 1.0 / 6.0 / pivot;
            upper.push(previous as f32);
            inverse_pivot.push((1.0 / pivot) as f32);
        }
        Self {
            upper,
            inverse_pivot,
        }
    }

    /// Solves across slabs, one element of each to a line, for all lines at once.
    fn solve_slabs(&self, values: &mut [f32]) {
        let slab = values.len() / self.upper.len().max(1);
        // The same piece of every slab makes lines that need no others.
        let pieces = slab.div_ceil(PIECE);
        let mut lines: Vec<Vec<&mut [f32]>> = (0..pieces).map(|_| Vec::new()).collect();
        for slab in values.chunks_exact_mut(slab.max(1)) {
            for (line, piece) in lines.iter_mut().zip(slab.chunks_mut(PIECE)) {
                line.push(piece);
            }
        }
        lines.par_iter_mut().for_each(|line| {
            for i in 0..line.len() {
                let (before, rest) = line.split_at_mut(i);
                self.eliminate(i, before.last().map(|piece| &**piece), &mut *rest[0]);
            }
            for i in (0..line.len().saturating_sub(1)).rev() {
                let (current, next) = line.split_at_mut(i + 1);
                self.substitute(i, next[0], &mut *current[i]);
            }
        });
    }

    /// Row i of the elimination.
    fn eliminate(&self, i: usize, previous: Option<&[f32]>, current: &mut [f32]) {
        let inverse = self.inverse_pivot[i];
        match previous {
            None => current.iter_mut().for_each(|value| *value *= inverse),
            Some(previous) => {
                for (value, previous) in current.iter_mut().zip(previous) {
                    *value = (*value - previous / 6.0) * inverse;
                }
            }
        }
    }

    /// Row i of the substitution.
    fn substitute(&self, i: usize, next: &[f32], current: &mut [f32]) {
        // The factor of unknown i + 1 in row i, as the mirrored ends do not change it.
        let upper = self.upper[i];
        for (value, next) in current.iter_mut().zip(next) {
            *value -= upper * *next;
        }
    }

    /// Solves along an axis whose neighbours lie `stride` apart, for all `stride` lines at once.
    fn solve(&self, values: &mut [f32], stride: usize) {
        let n = self.upper.len();
        for i in 0..n {
            let (before, rest) = values.split_at_mut(i * stride);
            let previous = i.checked_sub(1).map(|i| &before[i * stride..]);
            self.eliminate(i, previous, &mut rest[..stride]);
        }
        for i in (0..n.saturating_sub(1)).rev() {
            let (current, next) = values.split_at_mut((i + 1) * stride);
            self.substitute(i, &next[..stride], &mut current[i * stride..]);
        }
    }
}

/// The four lattice points that a position depends on, with the cubic B-spline's weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taps {
    pub(super) index: [usize; 4],
    pub(super) weight: [f32; 4],
}

impl Taps {
    /// At `position` in cells, 0 = centre of the first of `n` cells.
    pub(super) fn at(position: f64, n: usize) -> Self {
        let floor = position.floor();
        let t = position - floor;
        let s = 1.0 - t;
        let weight = [
            s * s * s / 6.0,
            (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0,
            (3.0 * s * s * s - 6.0 * s * s + 4.0) / 6.0,
            t * t * t / 6.0,
        ];
        let period = 2 * n as i64;
        let mirrored = |index: i64| {
            let inside = index.rem_euclid(period);
            inside.min(period - 1 - inside) as usize
        };
        Self {
            index: std::array::from_fn(|k| mirrored(floor as i64 - 1 + k as i64)),
            weight: weight.map(|value| value as f32),
        }
    }
}

/// Columns that are turned into rows together: the numbers of a cache line. One by one, the rows of a grid
/// whose size is a power of two would drive each other out of the cache.
const STRIPE: usize = 16;

/// Evaluates B-splines on a finer grid, one z-plane after the other: separable, and without a
/// full-size intermediate.
pub(super) struct Upsampler {
    taps: [Vec<Taps>; 3],
    lattice: [usize; 3],
}

/// Working memory of [`Upsampler`] for one plane.
#[derive(Default)]
pub(super) struct Plane {
    /// Coefficients combined along z, x fastest.
    combined: Vec<f32>,
    /// The same, y fastest.
    columns: Vec<f32>,
    /// [`STRIPE`] columns combined along x.
    stripe: Vec<f32>,
    /// All columns, x fastest, for each component.
    expanded: [Vec<f32>; 3],
}

impl Upsampler {
    /// From a lattice onto a grid of which one voxel is `cells_per_voxel[a]` cells wide; both begin
    /// at the same border.
    pub(super) fn new(lattice: [usize; 3], grid: [usize; 3], cells_per_voxel: [f64; 3]) -> Self {
        let taps = std::array::from_fn(|axis| {
            (0..grid[axis])
                .map(|index| {
                    let position = (index as f64 + 0.5) * cells_per_voxel[axis] - 0.5;
                    Taps::at(position, lattice[axis])
                })
                .collect()
        });
        Self { taps, lattice }
    }

    /// Prepares `plane` for the rows of grid plane `z`.
    pub(super) fn start_plane(&self, coefficients: &LatticeField, z: usize, plane: &mut Plane) {
        let [cells_x, cells_y, _] = self.lattice;
        let size = cells_x * cells_y;
        let nx = self.taps[0].len();
        let Taps { index, weight } = self.taps[2][z];
        for component in 0..3 {
            let source = index.map(|slab| {
                let start = (3 * slab + component) * size;
                &coefficients.values[start..start + size]
            });
            plane.combined.resize(size, 0.0);
            wide(
                #[inline(always)]
                || combine(source, weight, &mut plane.combined),
            );
            plane.columns.resize(size, 0.0);
            for (x, column) in plane.columns.chunks_exact_mut(cells_y).enumerate() {
                let rows = plane.combined.chunks_exact(cells_x);
                for (value, row) in column.iter_mut().zip(rows) {
                    *value = row[x];
                }
            }
            plane.stripe.resize(STRIPE * cells_y, 0.0);
            let expanded = &mut plane.expanded[component];
            expanded.resize(nx * cells_y, 0.0);
            // Column by column: neighbours along y have the same weights.
            for (taps, first) in self.taps[0].chunks(STRIPE).zip((0..).step_by(STRIPE)) {
                for (taps, column) in taps.iter().zip(plane.stripe.chunks_exact_mut(cells_y)) {
                    let source = taps.index.map(|x| &plane.columns[x * cells_y..][..cells_y]);
                    wide(
                        #[inline(always)]
                        || combine(source, taps.weight, column),
                    );
                }
                for (y, row) in expanded.chunks_exact_mut(nx).enumerate() {
                    let columns = plane.stripe.chunks_exact(cells_y);
                    for (value, column) in row[first..].iter_mut().zip(columns) {
                        *value = column[y];
                    }
                }
            }
        }
    }

    /// Row `y` of one component of the plane that was started.
    pub(super) fn row(&self, plane: &Plane, component: usize, y: usize, out: &mut [f32]) {
        let nx = self.taps[0].len();
        let Taps { index, weight } = self.taps[1][y];
        let source = index.map(|row| &plane.expanded[component][row * nx..(row + 1) * nx]);
        wide(
            #[inline(always)]
            || combine(source, weight, out),
        );
    }
}

#[inline(always)]
fn combine(source: [&[f32]; 4], weight: [f32; 4], out: &mut [f32]) {
    let n = out.len();
    let [a, b, c, d] = source.map(|part| &part[..n]);
    for i in 0..n {
        out[i] = weight[0] * a[i] + weight[1] * b[i] + weight[2] * c[i] + weight[3] * d[i];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noisy(shape: [usize; 3]) -> LatticeField {
        let mut field = LatticeField::zero(shape);
        for (i, value) in field.values.iter_mut().enumerate() {
            *value = ((i * 7919) % 101) as f32 / 101.0 - 0.5;
        }
        field
    }

    #[test]
    fn the_spline_goes_through_the_lattice_values() {
        for shape in [[5, 4, 6], [1, 2, 3], [7, 1, 1]] {
            let field = noisy(shape);
            let same = field.clone().resampled(shape, [1.0; 3]);
            for (found, expected) in same.values.iter().zip(&field.values) {
                assert!((found - expected).abs() < 1e-5, "{shape:?}");
            }
        }
    }

    #[test]
    fn a_constant_stays_constant_on_a_finer_grid() {
        let mut field = LatticeField::zero([4, 5, 3]);
        field.values.fill(2.5);
        // 11 voxels of a third: the last cell is only partly covered.
        let fine = field.resampled([11, 14, 9], [1.0 / 3.0; 3]);
        assert!(fine.values.iter().all(|value| (value - 2.5).abs() < 1e-5));
    }

    #[test]
    fn a_cosine_that_fits_the_border_is_followed() {
        // cos(pi (x + 1/2) / n) has no slope at the border, like the mirrored spline.
        let n = 16;
        let wave = |x: f64| (std::f64::consts::PI * (x + 0.5) / n as f64).cos();
        let mut field = LatticeField::zero([n, 1, 1]);
        for x in 0..n {
            field.values[x] = wave(x as f64) as f32;
        }
        let fine = field.resampled([3 * n, 1, 1], [1.0 / 3.0, 1.0, 1.0]);
        for i in 0..3 * n {
            let expected = wave((i as f64 + 0.5) / 3.0 - 0.5);
            assert!((fine.values[i] as f64 - expected).abs() < 1e-4);
        }
    }

    #[test]
    fn positions_beyond_the_border_are_mirrored() {
        let taps = Taps::at(-0.5, 4);
        assert_eq!(taps.index, [1, 0, 0, 1]);
        assert_eq!(Taps::at(3.5, 4).index, [2, 3, 3, 2]);
    }
}
