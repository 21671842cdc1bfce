//! The Gauss-Newton equations of the data term: per lattice cell, means of w·J·r and w·J·Jᵀ.
//!
//! J is the mean gradient of the two warped images, r their difference, and the weight
//! w = validity · \[s²/(s² + r²)\]² · g²/(g² + g₀²) with g = |J|: the influence function of Geman
//! and McClure (1987), which lets go of residuals that are large against s, times a trust that
//! grows with the slope of depth, because a flat depth tells little about position.

use rayon::prelude::*;

use super::{LEAF, warped::Warped};
use crate::wide::wide;

/// Right side (3) and upper triangle of the matrix (6: xx, xy, xz, yy, yz, zz).
const TERMS: usize = 9;
/// Terms on the diagonal of the matrix.
const DIAGONAL: [usize; 3] = [3, 6, 8];

/// Per lattice cell, b = mean w·J·r and A = mean w·J·Jᵀ; in memory `[z][term][y][x]`.
pub(super) struct NormalEquations {
    shape: [usize; 3],
    values: Vec<f32>,
}

/// Scales of the weight: squares of the robust scale s and of the reference slope g₀.
#[derive(Clone, Copy, Debug)]
pub(super) struct WeightScales {
    pub(super) residual: f32,
    pub(super) slope: f32,
}

impl NormalEquations {
    pub(super) fn zero(shape: [usize; 3]) -> Self {
        Self {
            shape,
            values: vec![0.0; TERMS * shape.iter().product::<usize>()],
        }
    }

    fn plane(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// Replaces the content by the sums over `warped`, whose voxels are `spacing` wide; a cell has
    /// `block` voxels along each axis, and sums are divided by their number.
    pub(super) fn accumulate(
        &mut self,
        warped: &Warped,
        spacing: [f64; 3],
        block: usize,
        scales: WeightScales,
    ) {
        let plane = self.plane();
        let cells = self.shape;
        self.values
            .par_chunks_mut(TERMS * plane)
            .enumerate()
            .with_max_len(LEAF)
            .for_each_init(
                || Rows::new(warped.shape[0]),
                |rows, (cell_z, slab)| {
                    for cell_y in 0..cells[1] {
                        rows.clear();
                        for z in block_range(cell_z, block, warped.shape[2]) {
                            for y in block_range(cell_y, block, warped.shape[1]) {
                                wide(
                                    #[inline(always)]
                                    || rows.voxels(warped, spacing, [y, z], scales),
                                );
                            }
                        }
                        for (term, sums) in slab.chunks_exact_mut(plane).enumerate() {
                            let out = &mut sums[cell_y * cells[0]..(cell_y + 1) * cells[0]];
                            rows.collect(term, block, out);
                        }
                    }
                },
            );
    }

    /// Adds `weight`·(J = identity) to the matrix of one cell and `weight`·`pull` to its right side.
    pub(super) fn add_point(&mut self, cell: [usize; 3], weight: f32, pull: [f32; 3]) {
        let plane = self.plane();
        let start = TERMS * plane * cell[2] + cell[0] + self.shape[0] * cell[1];
        for axis in 0..3 {
            self.values[start + axis * plane] += weight * pull[axis];
            self.values[start + DIAGONAL[axis] * plane] += weight;
        }
    }

    /// b as a field, by its z-slabs.
    pub(super) fn right_side(&self) -> impl IndexedParallelIterator<Item = &[f32]> {
        let plane = self.plane();
        self.values
            .par_chunks(TERMS * plane)
            .map(move |slab| &slab[..3 * plane])
    }

    /// Mean over cells of a third of A's trace.
    pub(super) fn mean_diagonal(&self) -> f64 {
        let plane = self.plane();
        let sums: Vec<f64> = self
            .values
            .par_chunks(plane)
            .enumerate()
            .filter(|(index, _)| DIAGONAL.contains(&(index % TERMS)))
            .map(|(_, values)| values.iter().map(|value| *value as f64).sum())
            .collect();
        // In the order of the planes: the same for any number of threads.
        let sum: f64 = sums.into_iter().sum();
        sum / (3 * plane * self.shape[2]).max(1) as f64
    }

    /// Multiplies the vectors of one z-slab by A, in place.
    pub(super) fn multiply(&self, z: usize, slab: &mut [f32]) {
        let plane = self.plane();
        let start = TERMS * plane * z;
        let matrix = &self.values[start + 3 * plane..start + TERMS * plane];
        let term = |index: usize| &matrix[index * plane..(index + 1) * plane];
        let [xx, xy, xz, yy, yz, zz] = std::array::from_fn(term);
        let (x, rest) = slab.split_at_mut(plane);
        let (y, z) = rest.split_at_mut(plane);
        let z = &mut z[..plane];
        wide(
            #[inline(always)]
            || {
                for i in 0..plane {
                    let v = [x[i], y[i], z[i]];
                    x[i] = xx[i] * v[0] + xy[i] * v[1] + xz[i] * v[2];
                    y[i] = xy[i] * v[0] + yy[i] * v[1] + yz[i] * v[2];
                    z[i] = xz[i] * v[0] + yz[i] * v[1] + zz[i] * v[2];
                }
            },
        );
    }
}

/// The voxels of a cell along one axis; none for a cell beyond the grid.
fn block_range(cell: usize, block: usize, n: usize) -> std::ops::Range<usize> {
    (cell * block).min(n)..((cell + 1) * block).min(n)
}

/// Values along one row of voxels, and the sums over the rows of a cell. Rows keep the arithmetic
/// in plain loops over x.
struct Rows {
    gradient: [Vec<f32>; 3],
    weight: Vec<f32>,
    sums: [Vec<f32>; TERMS],
}

impl Rows {
    fn new(nx: usize) -> Self {
        let row = || vec![0.0; nx];
        Self {
            gradient: std::array::from_fn(|_| row()),
            weight: row(),
            sums: std::array::from_fn(|_| row()),
        }
    }

    fn clear(&mut self) {
        self.sums.iter_mut().for_each(|sums| sums.fill(0.0));
    }

    /// Adds the terms of one row of voxels.
    #[inline(always)]
    fn voxels(&mut self, warped: &Warped, spacing: [f64; 3], at: [usize; 2], scales: WeightScales) {
        let [y, z] = at;
        self.gradient(warped, spacing, at);
        let residual = warped.row(&warped.residual, y, z);
        self.weigh(warped.row(&warped.weight, y, z), residual, scales);
        self.add(residual);
    }

    /// Central differences of half the image sum; one-sided at the border.
    #[inline(always)]
    fn gradient(&mut self, warped: &Warped, spacing: [f64; 3], [y, z]: [usize; 2]) {
        let [nx, ny, nz] = warped.shape;
        let [along_x, along_y, along_z] = &mut self.gradient;
        let row = |y, z| warped.row(&warped.sum, y, z);
        let half = |low: usize, high: usize, axis: usize| {
            (0.5 / (high.saturating_sub(low).max(1) as f64 * spacing[axis])) as f32
        };
        let neighbours = |i: usize, n: usize| (i.saturating_sub(1), (i + 1).min(n - 1));

        let here = &row(y, z)[..nx];
        let inner = half(0, 2, 0);
        for (out, window) in along_x[1..].iter_mut().zip(here.windows(3)) {
            *out = inner * (window[2] - window[0]);
        }
        let border = half(0, 1, 0);
        let (second, before_last) = (1.min(nx - 1), nx.saturating_sub(2));
        along_x[0] = border * (here[second] - here[0]);
        along_x[nx - 1] = border * (here[nx - 1] - here[before_last]);

        let (low, high) = neighbours(y, ny);
        difference(along_y, row(low, z), row(high, z), half(low, high, 1));
        let (low, high) = neighbours(z, nz);
        difference(along_z, row(y, low), row(y, high), half(low, high, 2));
    }

    #[inline(always)]
    fn weigh(&mut self, validity: &[f32], residual: &[f32], scales: WeightScales) {
        let n = self.weight.len();
        let [gx, gy, gz] = self.gradient.each_ref().map(|row| &row[..n]);
        let (validity, residual) = (&validity[..n], &residual[..n]);
        for i in 0..n {
            let square = gx[i] * gx[i] + gy[i] * gy[i] + gz[i] * gz[i];
            let robust = scales.residual / (scales.residual + residual[i] * residual[i]);
            self.weight[i] = validity[i] * robust * robust * square / (square + scales.slope);
        }
    }

    /// Adds w·J·r and w·J·Jᵀ of the row.
    #[inline(always)]
    fn add(&mut self, residual: &[f32]) {
        let n = self.weight.len();
        let [gx, gy, gz] = self.gradient.each_ref().map(|row| &row[..n]);
        let (weight, residual) = (&self.weight[..n], &residual[..n]);
        let [bx, by, bz, xx, xy, xz, yy, yz, zz] = self.sums.each_mut().map(|row| &mut row[..n]);
        for i in 0..n {
            let force = weight[i] * residual[i];
            bx[i] += force * gx[i];
            by[i] += force * gy[i];
            bz[i] += force * gz[i];
        }
        for i in 0..n {
            let w = weight[i] * gx[i];
            xx[i] += w * gx[i];
            xy[i] += w * gy[i];
            xz[i] += w * gz[i];
        }
        for i in 0..n {
            let w = weight[i] * gy[i];
            yy[i] += w * gy[i];
            yz[i] += w * gz[i];
            zz[i] += weight[i] * gz[i] * gz[i];
        }
    }

    /// Sums the row sums over the voxels of each cell.
    fn collect(&self, term: usize, block: usize, out: &mut [f32]) {
        let scale = 1.0 / (block * block * block) as f32;
        for (out, voxels) in out.iter_mut().zip(self.sums[term].chunks(block)) {
            *out = scale * voxels.iter().sum::<f32>();
        }
    }
}

#[inline(always)]
fn difference(out: &mut [f32], low: &[f32], high: &[f32], scale: f32) {
    for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
        *out = scale * (high - low);
    }
}
