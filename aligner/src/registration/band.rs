//! Cosine transforms of lattice fields, of the lowest frequencies of each axis.
//!
//! Cosines are the eigenvectors of smoothness energies with a free border. A [`Band`] keeps the lowest
//! frequencies: the other rows of the matrices are left out. A spectrum is a plain vector in an order of
//! its own (see [`Band::squared_frequency`]); only element-wise operations and sums make sense on it.

use rayon::prelude::*;

use super::{
    LEAF,
    cosine::{Axis, frequency},
    lattice::LatticeField,
};
use crate::scratch::PerThread;

/// Columns that the transform along z treats together; they fit in the first-level cache.
const BLOCK: usize = 64;

/// Cosine transforms for lattices of one shape.
pub(super) struct Cosines {
    shape: [usize; 3],
    axes: [Axis; 3],
}

/// The lowest frequencies along each axis, and the transforms to and from them.
pub(super) struct Band<'a> {
    cosines: &'a Cosines,
    kept: [usize; 3],
}

/// Working memory of a thread.
#[derive(Default)]
struct Scratch {
    folds: Folds,
    slab: Vec<f32>,
}

/// Lines before and after they are folded, or the other way round.
#[derive(Default)]
struct Folds {
    a: Vec<f32>,
    b: Vec<f32>,
}

impl Folds {
    fn sized(&mut self, size: usize) -> (&mut [f32], &mut [f32]) {
        (sized(&mut self.a, size), sized(&mut self.b, size))
    }
}

/// The first `size` elements, whatever they hold.
fn sized(values: &mut Vec<f32>, size: usize) -> &mut [f32] {
    if values.len() < size {
        values.resize(size, 0.0);
    }
    &mut values[..size]
}

/// Fields on their way through a transform, for any band. A band's transforms touch as much as they need.
pub(super) struct Work {
    blocks: Vec<f32>,
    planes: Vec<f32>,
    scratch: PerThread<Scratch>,
}

impl Cosines {
    pub(super) fn new(shape: [usize; 3]) -> Self {
        Self {
            shape,
            axes: shape.map(Axis::new),
        }
    }

    pub(super) fn work(&self) -> Work {
        // Not clones of one: these stay untouched until they are written, in parallel.
        let [blocks, planes] =
            std::array::from_fn(|_| vec![0.0; 3 * self.shape.iter().product::<usize>()]);
        Work {
            blocks,
            planes,
            scratch: PerThread::new(),
        }
    }

    /// The `kept` lowest frequencies along each axis, at least one and at most all.
    pub(super) fn band(&self, kept: [usize; 3]) -> Band<'_> {
        Band {
            cosines: self,
            kept: std::array::from_fn(|axis| kept[axis].clamp(1, self.shape[axis])),
        }
    }
}

impl Band<'_> {
    /// Elements of a z-slab of a field: three components of a plane.
    fn slab(&self) -> usize {
        3 * self.cosines.shape[0] * self.cosines.shape[1]
    }

    /// Elements of a z-slab of which x and y are transformed.
    fn kept_slab(&self) -> usize {
        3 * self.kept[0] * self.kept[1]
    }

    /// Elements of a field of which x and y are transformed.
    fn size_along_z(&self) -> usize {
        self.kept_slab() * self.cosines.shape[2]
    }

    /// Elements of a spectrum.
    pub(super) fn len(&self) -> usize {
        self.kept_slab() * self.kept[2]
    }

    /// Elements of a piece of a spectrum, that the transforms treat together; the last one may be shorter.
    pub(super) fn piece(&self) -> usize {
        BLOCK * self.kept[2]
    }

    /// Sets every element of a spectrum to its |k|²: (π·index / (n·cell))² summed over the axes, `cell`
    /// the size of a lattice cell.
    pub(super) fn squared_frequency(&self, cell: [f64; 3], spectrum: &mut [f32]) {
        let squares: [Vec<f64>; 3] = std::array::from_fn(|axis| {
            let length = self.cosines.shape[axis] as f64 * cell[axis];
            let square = |position| {
                let index = frequency(position, self.kept[axis]) as f64;
                (std::f64::consts::PI * index / length).powi(2)
            };
            (0..self.kept[axis]).map(square).collect()
        });
        let [kx, ky, kz] = self.kept;
        spectrum
            .par_chunks_mut(self.piece())
            .enumerate()
            .for_each(|(block, out)| {
                let width = out.len() / kz;
                let columns: Vec<f64> = (block * BLOCK..block * BLOCK + width)
                    .map(|c| squares[0][c % kx] + squares[1][c / kx % ky])
                    .collect();
                for (line, along_z) in out.chunks_exact_mut(width).zip(&squares[2]) {
                    for (out, column) in line.iter_mut().zip(&columns) {
                        *out = (column + along_z) as f32;
                    }
                }
            });
    }

    /// Sets `spectrum` to that of a field, given by its z-slabs.
    pub(super) fn forward<'v>(
        &self,
        slabs: impl IndexedParallelIterator<Item = &'v [f32]>,
        work: &mut Work,
        spectrum: &mut [f32],
    ) {
        let scratch = &work.scratch;
        work.planes[..self.size_along_z()]
            .par_chunks_mut(self.kept_slab())
            .zip(slabs)
            .with_max_len(LEAF)
            .for_each(|(out, values)| {
                scratch.with(|scratch| self.forward_planes(values, out, &mut scratch.folds));
            });
        let pieces = spectrum
            .par_chunks_mut(self.piece())
            .map(|piece| (piece, ()));
        self.forward_z(work, pieces, |_, ()| 0.0);
    }

    /// Sets `field` to the one with a spectrum.
    pub(super) fn back(&self, spectrum: &[f32], work: &mut Work, field: &mut LatticeField) {
        self.back_z(spectrum.par_chunks(self.piece()), work);
        let blocks = &work.blocks[..self.size_along_z()];
        field
            .values
            .par_chunks_mut(self.slab())
            .enumerate()
            .with_max_len(LEAF)
            .for_each(|(z, out)| {
                work.scratch.with(|Scratch { folds, slab }| {
                    let planes = sized(slab, self.kept_slab());
                    self.gather(blocks, z, planes);
                    self.back_planes(planes, out, folds);
                });
            });
    }

    /// Between [`Self::back_z`] and [`Self::forward_z`]: `operation` changes one z-slab of the field in place.
    pub(super) fn conjugate(&self, operation: impl Fn(usize, &mut [f32]) + Sync, work: &mut Work) {
        let scratch = &work.scratch;
        let blocks = &work.blocks[..self.size_along_z()];
        work.planes[..self.size_along_z()]
            .par_chunks_mut(self.kept_slab())
            .enumerate()
            .with_max_len(LEAF)
            .for_each(|(z, planes)| {
                scratch.with(|Scratch { folds, slab }| {
                    let slab = sized(slab, self.slab());
                    self.gather(blocks, z, planes);
                    self.back_planes(planes, slab, folds);
                    operation(z, slab);
                    self.forward_planes(slab, planes, folds);
                });
            });
    }

    /// Along x and y, for the three planes of a slab.
    fn forward_planes(&self, slab: &[f32], out: &mut [f32], folds: &mut Folds) {
        let [nx, ny, _] = self.cosines.shape;
        let [kx, ky, _] = self.kept;
        let [along_x, along_y, _] = &self.cosines.axes;
        let (folded, other) = folds.sized(nx * ny);
        let planes = slab.chunks_exact(nx * ny);
        for (plane, out) in planes.zip(out.chunks_exact_mut(kx * ky)) {
            for (row, out) in plane.chunks_exact(nx).zip(folded.chunks_exact_mut(nx)) {
                along_x.fold_row(row, out);
            }
            let rows = &mut other[..kx * ny];
            along_x.rows_to_band(folded, kx, rows);
            let folded = &mut folded[..kx * ny];
            along_y.fold(rows, kx, folded);
            along_y.lines_to_band(folded, kx, ky, out);
        }
    }

    /// Reverts [`Self::forward_planes`].
    fn back_planes(&self, planes: &[f32], slab: &mut [f32], folds: &mut Folds) {
        let [nx, ny, _] = self.cosines.shape;
        let [kx, ky, _] = self.kept;
        let [along_x, along_y, _] = &self.cosines.axes;
        let (folded, other) = folds.sized(nx * ny);
        let planes = planes.chunks_exact(kx * ky);
        for (plane, out) in planes.zip(slab.chunks_exact_mut(nx * ny)) {
            let lines = &mut folded[..kx * ny];
            along_y.lines_from_band(plane, kx, ky, lines);
            let rows = &mut other[..kx * ny];
            along_y.unfold(lines, kx, rows);
            along_x.rows_from_band(rows, kx, folded);
            for (row, out) in folded.chunks_exact(nx).zip(out.chunks_exact_mut(nx)) {
                along_x.unfold_row(row, out);
            }
        }
    }

    /// The last step forward, along z, to the pieces of a spectrum. Each is handed to `finish`, with what came
    /// along; returns the sum over them.
    pub(super) fn forward_z<'p, T>(
        &self,
        work: &Work,
        pieces: impl IndexedParallelIterator<Item = (&'p mut [f32], T)>,
        finish: impl Fn(&mut [f32], T) -> f64 + Sync,
    ) -> f64 {
        let (slab, nz, kz) = (self.kept_slab(), self.cosines.shape[2], self.kept[2]);
        let axis = &self.cosines.axes[2];
        let terms: Vec<f64> = pieces
            .enumerate()
            .with_max_len(LEAF)
            .map(|(block, (out, more))| {
                let width = out.len() / kz;
                work.scratch.with(|scratch| {
                    let (lines, folded) = scratch.folds.sized(width * nz);
                    for (z, line) in lines.chunks_exact_mut(width).enumerate() {
                        let start = z * slab + block * BLOCK;
                        line.copy_from_slice(&work.planes[start..start + width]);
                    }
                    axis.fold(lines, width, folded);
                    axis.lines_to_band(folded, width, kz, out);
                });
                finish(out, more)
            })
            .collect();
        terms.into_iter().sum()
    }

    /// The first step back, along z, from the pieces of a spectrum.
    pub(super) fn back_z<'p>(
        &self,
        pieces: impl IndexedParallelIterator<Item = &'p [f32]>,
        work: &mut Work,
    ) {
        let (nz, kz) = (self.cosines.shape[2], self.kept[2]);
        let axis = &self.cosines.axes[2];
        let scratch = &work.scratch;
        work.blocks[..self.size_along_z()]
            .par_chunks_mut(BLOCK * nz)
            .zip(pieces)
            .with_max_len(LEAF)
            .for_each(|(out, input)| {
                let width = out.len() / nz;
                scratch.with(|scratch| {
                    let (folded, _) = scratch.folds.sized(out.len());
                    axis.lines_from_band(input, width, kz, folded);
                    axis.unfold(folded, width, out);
                });
            });
    }

    /// Slab z out of the blocks of [`Self::back_z`].
    fn gather(&self, blocks: &[f32], z: usize, slab: &mut [f32]) {
        let nz = self.cosines.shape[2];
        for (block, out) in slab.chunks_mut(BLOCK).enumerate() {
            let start = block * BLOCK * nz + z * out.len();
            out.copy_from_slice(&blocks[start..start + out.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::sum::{dot, dot_block};

    fn noisy(shape: [usize; 3]) -> LatticeField {
        let mut field = LatticeField::zero(shape);
        for (i, value) in field.values.iter_mut().enumerate() {
            *value = ((i * 7919) % 101) as f32 / 101.0 - 0.5;
        }
        field
    }

    fn forward(band: &Band, field: &LatticeField) -> Vec<f32> {
        let mut spectrum = vec![0.0; band.len()];
        band.forward(field.slabs(), &mut band.cosines.work(), &mut spectrum);
        spectrum
    }

    fn back(band: &Band, spectrum: &[f32]) -> LatticeField {
        let mut field = LatticeField::zero(band.cosines.shape);
        band.back(spectrum, &mut band.cosines.work(), &mut field);
        field
    }

    /// DCT-II of one component at one frequency, from the definition.
    fn direct(field: &LatticeField, component: usize, frequency: [usize; 3]) -> f64 {
        let n = field.shape;
        let factor = |axis: usize, x: usize| {
            let k = frequency[axis] as f64;
            let norm = if frequency[axis] == 0 { 1.0 } else { 2.0 };
            let angle = std::f64::consts::PI * k * (x as f64 + 0.5) / n[axis] as f64;
            (norm / n[axis] as f64).sqrt() * angle.cos()
        };
        let mut sum = 0.0;
        for z in 0..n[2] {
            for y in 0..n[1] {
                for x in 0..n[0] {
                    let index = (3 * z + component) * field.plane() + x + n[0] * y;
                    let value = field.values[index] as f64;
                    sum += value * factor(0, x) * factor(1, y) * factor(2, z);
                }
            }
        }
        sum
    }

    #[test]
    fn there_and_back_changes_nothing_and_keeps_the_norm() {
        for shape in [[7, 6, 5], [1, 2, 3], [12, 9, 22], [4, 1, 1]] {
            let field = noisy(shape);
            let cosines = Cosines::new(shape);
            let band = cosines.band(shape);
            let spectrum = forward(&band, &field);
            let norm = |values: &[f32]| values.iter().map(|v| (v * v) as f64).sum::<f64>();
            assert!((norm(&spectrum) / norm(&field.values) - 1.0).abs() < 1e-5);
            for (found, expected) in back(&band, &spectrum).values.iter().zip(&field.values) {
                assert!((found - expected).abs() < 1e-5, "{shape:?}");
            }
        }
    }

    /// Frequencies and component of every element of a spectrum, in its order.
    fn elements(kept: [usize; 3]) -> Vec<(usize, [usize; 3])> {
        let [kx, ky, kz] = kept;
        let slab = 3 * kx * ky;
        let mut all = Vec::new();
        for start in (0..slab).step_by(BLOCK) {
            for z in 0..kz {
                for column in start..(start + BLOCK).min(slab) {
                    let at = [
                        frequency(column % kx, kx),
                        frequency(column / kx % ky, ky),
                        frequency(z, kz),
                    ];
                    all.push((column / (kx * ky), at));
                }
            }
        }
        all
    }

    #[test]
    fn the_spectrum_agrees_with_the_definition() {
        // 90 columns make a full block and a partial one.
        for (shape, kept) in [
            ([5, 6, 7], [5, 6, 7]),
            ([5, 6, 7], [3, 4, 2]),
            ([9, 4, 6], [1, 4, 5]),
        ] {
            let field = noisy(shape);
            let spectrum = forward(&Cosines::new(shape).band(kept), &field);
            let expected = elements(kept);
            assert_eq!(spectrum.len(), expected.len());
            for (found, (component, at)) in spectrum.iter().zip(expected) {
                let expected = direct(&field, component, at);
                assert!((*found as f64 - expected).abs() < 1e-5, "{kept:?} {at:?}");
            }
        }
    }

    #[test]
    fn a_band_keeps_its_frequencies_and_no_others() {
        let shape = [9, 8, 7];
        let cosines = Cosines::new(shape);
        for kept in [[4, 3, 5], [1, 1, 1], [9, 8, 6]] {
            let band = cosines.band(kept);
            let spectrum = forward(&band, &noisy(shape));
            let within = back(&band, &spectrum);
            for (again, before) in forward(&band, &within).iter().zip(&spectrum) {
                assert!((again - before).abs() < 1e-5, "{kept:?}");
            }
            let norm = |values: &[f32]| values.iter().map(|v| (v * v) as f64).sum::<f64>();
            assert!((norm(&within.values) / norm(&spectrum) - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn frequencies_are_listed_in_the_order_of_the_spectrum() {
        let (shape, kept) = ([6, 8, 10], [6, 5, 7]);
        let cell = [0.5, 1.0, 2.0];
        let cosines = Cosines::new(shape);
        let band = cosines.band(kept);
        let mut found = vec![0.0; band.len()];
        band.squared_frequency(cell, &mut found);
        for (found, (_, at)) in found.iter().zip(elements(kept)) {
            let expected: f64 = (0..3)
                .map(|axis| {
                    let length = shape[axis] as f64 * cell[axis];
                    (std::f64::consts::PI * at[axis] as f64 / length).powi(2)
                })
                .sum();
            assert!((*found as f64 - expected).abs() < 1e-5 * expected.max(1.0));
        }
    }

    #[test]
    fn conjugation_acts_on_the_field() {
        let shape = [7, 6, 5];
        let cosines = Cosines::new(shape);
        let scale = |z: usize, slab: &mut [f32]| slab.iter_mut().for_each(|v| *v *= z as f32);
        for kept in [shape, [4, 5, 3]] {
            let band = cosines.band(kept);
            let spectrum = forward(&band, &noisy(shape));
            let mut found = vec![0.0; spectrum.len()];
            let mut work = cosines.work();
            band.back_z(spectrum.par_chunks(band.piece()), &mut work);
            band.conjugate(scale, &mut work);
            let pieces = found.par_chunks_mut(band.piece());
            let pieces = pieces.zip(spectrum.par_chunks(band.piece()));
            let product = band.forward_z(&work, pieces, |a, b| dot_block(a, b));
            assert!((product - dot(&found, &spectrum)).abs() < 1e-5 * product.abs());
            let mut field = back(&band, &spectrum);
            for (z, slab) in field.values.chunks_exact_mut(3 * 42).enumerate() {
                scale(z, slab);
            }
            for (found, expected) in found.iter().zip(forward(&band, &field)) {
                assert!((found - expected).abs() < 1e-5, "{kept:?}");
            }
        }
    }
}
