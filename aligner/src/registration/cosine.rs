//! Orthonormal cosine transforms of lattice fields (DCT-II forward, DCT-III back).
//!
//! Cosines are the eigenvectors of smoothness energies with a free border. Lattices have few points
//! per axis and lengths of any factorisation, so the transform is a product with the cosine matrix,
//! halved by its symmetry: cosines of even index see only the even part of a line, the others only
//! the odd part. At these lengths that takes no longer than a fast transform.
//!
//! A spectrum is a plain vector in an order of its own (see [`Cosines::squared_frequency`]); only
//! element-wise operations and sums make sense on it.

use rayon::prelude::*;

use super::{
    lattice::LatticeField,
    product::{View, multiply},
};

/// Columns that the transform along z treats together; they fit in the first-level cache.
const BLOCK: usize = 64;

/// The cosine matrix of one axis, split by parity.
struct Axis {
    n: usize,
    /// Rows are frequencies, columns folded positions; for even and for odd frequencies.
    forward: [Vec<f32>; 2],
    /// The transposes.
    back: [Vec<f32>; 2],
}

impl Axis {
    fn new(n: usize) -> Self {
        let entry = |k: usize, j: usize| {
            let norm = if k == 0 { 1.0 } else { 2.0 };
            // Reducing the phase in integers keeps the argument of the cosine small.
            let phase = (k * (2 * j + 1)) % (4 * n);
            let angle = std::f64::consts::PI * phase as f64 / (2 * n) as f64;
            ((norm / n as f64).sqrt() * libm::cos(angle)) as f32
        };
        let sizes = [n.div_ceil(2), n / 2];
        let table = |parity: usize, transposed: bool| {
            let size = sizes[parity];
            let cells = (0..size * size).map(|i| (i / size, i % size));
            cells
                .map(|(row, column)| {
                    if transposed {
                        (column, row)
                    } else {
                        (row, column)
                    }
                })
                .map(|(k, j)| entry(2 * k + parity, j))
                .collect()
        };
        Self {
            n,
            forward: [table(0, false), table(1, false)],
            back: [table(0, true), table(1, true)],
        }
    }

    /// Sizes of the even and of the odd part of a line.
    fn parts(&self) -> [usize; 2] {
        [self.n.div_ceil(2), self.n / 2]
    }

    /// The frequency at a position of a transformed line: even ones first, then odd ones.
    fn frequency(&self, position: usize) -> usize {
        let [even, _] = self.parts();
        if position < even {
            2 * position
        } else {
            2 * (position - even) + 1
        }
    }

    /// Sums and differences of opposite points, for `width` lines side by side.
    fn fold(&self, lines: &[f32], width: usize, folded: &mut [f32]) {
        let [even, odd] = self.parts();
        let (sums, differences) = folded.split_at_mut(even * width);
        for j in 0..odd {
            let low = &lines[j * width..(j + 1) * width];
            let high = &lines[(self.n - 1 - j) * width..][..width];
            let sum = &mut sums[j * width..(j + 1) * width];
            let difference = &mut differences[j * width..(j + 1) * width];
            for i in 0..width {
                sum[i] = low[i] + high[i];
                difference[i] = low[i] - high[i];
            }
        }
        if even > odd {
            sums[odd * width..].copy_from_slice(&lines[odd * width..(odd + 1) * width]);
        }
    }

    /// The same for one contiguous line.
    fn fold_row(&self, row: &[f32], folded: &mut [f32]) {
        let [even, odd] = self.parts();
        let (sums, differences) = folded.split_at_mut(even);
        let opposite = row[..odd].iter().zip(row.iter().rev());
        for ((sum, difference), (low, high)) in sums.iter_mut().zip(differences).zip(opposite) {
            *sum = low + high;
            *difference = low - high;
        }
        if even > odd {
            sums[odd] = row[odd];
        }
    }

    /// The lines with the given even and odd parts.
    fn unfold(&self, parts: &[f32], width: usize, lines: &mut [f32]) {
        let [even, odd] = self.parts();
        let (evens, odds) = parts.split_at(even * width);
        for j in 0..odd {
            let (low, high) = lines.split_at_mut((self.n - 1 - j) * width);
            let low = &mut low[j * width..(j + 1) * width];
            let high = &mut high[..width];
            let a = &evens[j * width..(j + 1) * width];
            let b = &odds[j * width..(j + 1) * width];
            for i in 0..width {
                low[i] = a[i] + b[i];
                high[i] = a[i] - b[i];
            }
        }
        if even > odd {
            lines[odd * width..(odd + 1) * width].copy_from_slice(&evens[odd * width..]);
        }
    }

    /// The same for one contiguous line.
    fn unfold_row(&self, parts: &[f32], row: &mut [f32]) {
        let [even, odd] = self.parts();
        let (evens, odds) = parts.split_at(even);
        let (low, high) = row.split_at_mut(even);
        let opposite = low.iter_mut().zip(high.iter_mut().rev());
        for ((low, high), (a, b)) in opposite.zip(evens.iter().zip(odds)) {
            *low = a + b;
            *high = a - b;
        }
        if even > odd {
            low[odd] = evens[odd];
        }
    }

    /// Multiplies both parts of `width` lines side by side with their matrices.
    fn multiply_lines(&self, tables: &[Vec<f32>; 2], lines: &[f32], width: usize, out: &mut [f32]) {
        let split = self.parts()[0] * width;
        let (even, odd) = lines.split_at(split);
        let (even_out, odd_out) = out.split_at_mut(split);
        for (part, (input, out)) in [(even, even_out), (odd, odd_out)].into_iter().enumerate() {
            let size = self.parts()[part];
            let matrix = View {
                values: &tables[part],
                stride: size,
            };
            let input = View {
                values: input,
                stride: width,
            };
            multiply(matrix, input, out, width, [size, size, width]);
        }
    }

    /// The same for lines that are contiguous rows; takes the transposed tables.
    fn multiply_rows(&self, transposed: &[Vec<f32>; 2], rows: &[f32], out: &mut [f32]) {
        let count = rows.len() / self.n;
        for (part, start) in [0, self.parts()[0]].into_iter().enumerate() {
            let size = self.parts()[part];
            if size == 0 {
                continue;
            }
            let matrix = View {
                values: &transposed[part],
                stride: size,
            };
            let input = View {
                values: &rows[start..],
                stride: self.n,
            };
            multiply(
                input,
                matrix,
                &mut out[start..],
                self.n,
                [count, size, size],
            );
        }
    }
}

/// Cosine transforms for lattices of one shape.
pub(super) struct Cosines {
    shape: [usize; 3],
    axes: [Axis; 3],
}

/// Buffers of one task.
#[derive(Default)]
pub(super) struct Scratch {
    a: Vec<f32>,
    b: Vec<f32>,
}

impl Scratch {
    fn sized(&mut self, size: usize) -> (&mut [f32], &mut [f32]) {
        self.a.resize(size, 0.0);
        self.b.resize(size, 0.0);
        (&mut self.a[..size], &mut self.b[..size])
    }
}

impl Cosines {
    pub(super) fn new(shape: [usize; 3]) -> Self {
        Self {
            shape,
            axes: shape.map(Axis::new),
        }
    }

    /// Elements of a z-slab: three components of a plane.
    fn slab(&self) -> usize {
        3 * self.shape[0] * self.shape[1]
    }

    /// |k|² of every element of a spectrum, in the spectrum's order: (π·index / (n·cell))² summed
    /// over the axes, `cell` the size of a lattice cell.
    pub(super) fn squared_frequency(&self, cell: [f64; 3]) -> Vec<f64> {
        let square = |axis: usize, position: usize| {
            let length = self.shape[axis] as f64 * cell[axis];
            let k = std::f64::consts::PI * self.axes[axis].frequency(position) as f64 / length;
            k * k
        };
        let [nx, ny, nz] = self.shape;
        let slab = self.slab();
        let mut all = Vec::with_capacity(slab * nz);
        for start in (0..slab).step_by(BLOCK) {
            for z in 0..nz {
                let columns = start..(start + BLOCK).min(slab);
                all.extend(
                    columns.map(|c| square(0, c % nx) + square(1, c / nx % ny) + square(2, z)),
                );
            }
        }
        all
    }

    /// Spectrum of a field.
    pub(super) fn forward(&self, field: &LatticeField) -> Vec<f32> {
        let mut spectrum = vec![0.0; field.values.len()];
        let mut planes = vec![0.0; field.values.len()];
        let slab = self.slab();
        planes
            .par_chunks_mut(slab)
            .zip(field.values.par_chunks(slab))
            .for_each_init(Scratch::default, |scratch, (out, values)| {
                out.copy_from_slice(values);
                self.forward_planes(out, scratch);
            });
        self.forward_z(&planes, &mut spectrum);
        spectrum
    }

    /// The field with a spectrum.
    pub(super) fn back(&self, spectrum: &[f32]) -> LatticeField {
        let mut blocks = vec![0.0; spectrum.len()];
        self.back_z(spectrum, &mut blocks);
        let mut field = LatticeField::zero(self.shape);
        field
            .values
            .par_chunks_mut(self.slab())
            .enumerate()
            .for_each_init(Scratch::default, |scratch, (z, out)| {
                self.gather(&blocks, z, out);
                self.back_planes(out, scratch);
            });
        field
    }

    /// `out = forward(operation(back(spectrum)))`, where `operation` changes one z-slab of the field
    /// in place; `work` is a buffer as long as the spectrum.
    pub(super) fn conjugate(
        &self,
        spectrum: &[f32],
        operation: impl Fn(usize, &mut [f32]) + Sync,
        [work, out]: [&mut Vec<f32>; 2],
    ) {
        self.back_z(spectrum, out);
        let blocks: &[f32] = out;
        work.par_chunks_mut(self.slab()).enumerate().for_each_init(
            Scratch::default,
            |scratch, (z, slab)| {
                self.gather(blocks, z, slab);
                self.back_planes(slab, scratch);
                operation(z, slab);
                self.forward_planes(slab, scratch);
            },
        );
        self.forward_z(work, out);
    }

    /// Along x and y, in place, for the three planes of a slab.
    fn forward_planes(&self, slab: &mut [f32], scratch: &mut Scratch) {
        let [nx, ny, _] = self.shape;
        let [along_x, along_y, _] = &self.axes;
        let (folded, other) = scratch.sized(nx * ny);
        for plane in slab.chunks_exact_mut(nx * ny) {
            for (row, out) in plane.chunks_exact(nx).zip(folded.chunks_exact_mut(nx)) {
                along_x.fold_row(row, out);
            }
            along_x.multiply_rows(&along_x.back, folded, other);
            along_y.fold(other, nx, folded);
            along_y.multiply_lines(&along_y.forward, folded, nx, plane);
        }
    }

    /// Reverts [`Self::forward_planes`].
    fn back_planes(&self, slab: &mut [f32], scratch: &mut Scratch) {
        let [nx, ny, _] = self.shape;
        let [along_x, along_y, _] = &self.axes;
        let (parts, other) = scratch.sized(nx * ny);
        for plane in slab.chunks_exact_mut(nx * ny) {
            along_y.multiply_lines(&along_y.back, plane, nx, parts);
            along_y.unfold(parts, nx, other);
            along_x.multiply_rows(&along_x.forward, other, parts);
            for (row, out) in parts.chunks_exact(nx).zip(plane.chunks_exact_mut(nx)) {
                along_x.unfold_row(row, out);
            }
        }
    }

    /// Along z, from slabs to the spectrum's blocks of columns: each task writes one block.
    fn forward_z(&self, planes: &[f32], spectrum: &mut [f32]) {
        let (slab, nz) = (self.slab(), self.shape[2]);
        let axis = &self.axes[2];
        spectrum
            .par_chunks_mut(BLOCK * nz)
            .enumerate()
            .for_each_init(Scratch::default, |scratch, (block, out)| {
                let width = out.len() / nz;
                let (lines, folded) = scratch.sized(out.len());
                for (z, line) in lines.chunks_exact_mut(width).enumerate() {
                    let start = z * slab + block * BLOCK;
                    line.copy_from_slice(&planes[start..start + width]);
                }
                axis.fold(lines, width, folded);
                axis.multiply_lines(&axis.forward, folded, width, out);
            });
    }

    /// Along z, from the spectrum to blocks in which z is a position again.
    fn back_z(&self, spectrum: &[f32], blocks: &mut [f32]) {
        let nz = self.shape[2];
        let axis = &self.axes[2];
        blocks
            .par_chunks_mut(BLOCK * nz)
            .zip(spectrum.par_chunks(BLOCK * nz))
            .for_each_init(Scratch::default, |scratch, (out, input)| {
                let width = out.len() / nz;
                let (parts, _) = scratch.sized(out.len());
                axis.multiply_lines(&axis.back, input, width, parts);
                axis.unfold(parts, width, out);
            });
    }

    /// Slab z out of the blocks of [`Self::back_z`].
    fn gather(&self, blocks: &[f32], z: usize, slab: &mut [f32]) {
        let nz = self.shape[2];
        for (block, out) in slab.chunks_mut(BLOCK).enumerate() {
            let start = block * BLOCK * nz + z * out.len();
            out.copy_from_slice(&blocks[start..start + out.len()]);
        }
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
            let spectrum = cosines.forward(&field);
            let norm = |values: &[f32]| values.iter().map(|v| (v * v) as f64).sum::<f64>();
            assert!((norm(&spectrum) / norm(&field.values) - 1.0).abs() < 1e-5);
            for (found, expected) in cosines.back(&spectrum).values.iter().zip(&field.values) {
                assert!((found - expected).abs() < 1e-5, "{shape:?}");
            }
        }
    }

    #[test]
    fn the_spectrum_agrees_with_the_definition() {
        let shape = [5, 6, 7];
        let field = noisy(shape);
        let cosines = Cosines::new(shape);
        let spectrum = cosines.forward(&field);
        // 90 columns make a full block and a partial one.
        for (z, column) in [(0, 0), (3, 17), (6, 63), (0, 64), (5, 89), (2, 70)] {
            let width = if column < BLOCK { BLOCK } else { 90 - BLOCK };
            let found = spectrum[column / BLOCK * BLOCK * 7 + z * width + column % BLOCK];
            let component = column / 30;
            let frequency = [
                cosines.axes[0].frequency(column % 5),
                cosines.axes[1].frequency(column / 5 % 6),
                cosines.axes[2].frequency(z),
            ];
            let expected = direct(&field, component, frequency);
            assert!((found as f64 - expected).abs() < 1e-5, "{z}, {column}");
        }
    }

    #[test]
    fn frequencies_are_listed_in_the_order_of_the_spectrum() {
        let shape = [6, 8, 10];
        let cell = [0.5, 1.0, 2.0];
        let cosines = Cosines::new(shape);
        let mut field = LatticeField::zero(shape);
        let plane = field.plane();
        let wave = |k: f64, x: usize, n: usize| {
            (std::f64::consts::PI * k * (x as f64 + 0.5) / n as f64).cos()
        };
        for z in 0..10 {
            for y in 0..8 {
                for x in 0..6 {
                    let value = wave(3.0, x, 6) * wave(2.0, y, 8) * wave(5.0, z, 10);
                    field.values[(3 * z + 1) * plane + x + 6 * y] = value as f32;
                }
            }
        }
        let spectrum = cosines.forward(&field);
        let largest = (0..spectrum.len())
            .max_by(|&a, &b| spectrum[a].abs().total_cmp(&spectrum[b].abs()))
            .unwrap();
        let expected = std::f64::consts::PI.powi(2)
            * ((3.0_f64 / 3.0).powi(2) + (2.0_f64 / 8.0).powi(2) + (5.0_f64 / 20.0).powi(2));
        assert!((cosines.squared_frequency(cell)[largest] - expected).abs() < 1e-9);
    }

    #[test]
    fn conjugation_acts_on_the_field() {
        let shape = [7, 6, 5];
        let field = noisy(shape);
        let cosines = Cosines::new(shape);
        let spectrum = cosines.forward(&field);
        let (mut work, mut out) = (spectrum.clone(), spectrum.clone());
        let double = |z: usize, slab: &mut [f32]| slab.iter_mut().for_each(|v| *v *= z as f32);
        cosines.conjugate(&spectrum, double, [&mut work, &mut out]);
        let result = cosines.back(&out);
        for (i, (found, before)) in result.values.iter().zip(&field.values).enumerate() {
            let expected = before * (i / (3 * 42)) as f32;
            assert!((found - expected).abs() < 1e-5);
        }
    }
}
