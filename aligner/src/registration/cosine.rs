//! Orthonormal cosine transforms along one axis (DCT-II forward, DCT-III back).
//!
//! Lattices have few points per axis and lengths of any factorisation, so the transform is a product with
//! the cosine matrix, halved by its symmetry: cosines of even index see only the even part of a line, the
//! others only the odd part. At these lengths that takes no longer than a fast transform.

use super::product::{COLUMNS, View, multiply};
use crate::wide::wide;

/// The cosine matrix of one axis, split by parity.
pub(super) struct Axis {
    n: usize,
    /// Rows are frequencies, columns folded positions; for even and for odd frequencies.
    forward: [Vec<f32>; 2],
    /// The transposes.
    back: [Vec<f32>; 2],
}

impl Axis {
    pub(super) fn new(n: usize) -> Self {
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
            // What a product reads beyond the last row.
            let more = std::iter::repeat_n(0.0, COLUMNS);
            cells
                .map(|(row, column)| {
                    if transposed {
                        (column, row)
                    } else {
                        (row, column)
                    }
                })
                .map(|(k, j)| entry(2 * k + parity, j))
                .chain(more)
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
        parts(self.n)
    }

    /// Sums and differences of opposite points, for `width` lines side by side.
    pub(super) fn fold(&self, lines: &[f32], width: usize, folded: &mut [f32]) {
        let [even, odd] = self.parts();
        let (sums, differences) = folded.split_at_mut(even * width);
        for j in 0..odd {
            let low = &lines[j * width..(j + 1) * width];
            let high = &lines[(self.n - 1 - j) * width..][..width];
            let sum = &mut sums[j * width..(j + 1) * width];
            let difference = &mut differences[j * width..(j + 1) * width];
            wide(
                #[inline(always)]
                || sums_and_differences([low, high], [sum, difference]),
            );
        }
        if even > odd {
            sums[odd * width..].copy_from_slice(&lines[odd * width..(odd + 1) * width]);
        }
    }

    /// The same for one contiguous line.
    pub(super) fn fold_row(&self, row: &[f32], folded: &mut [f32]) {
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
    pub(super) fn unfold(&self, parts: &[f32], width: usize, lines: &mut [f32]) {
        let [even, odd] = self.parts();
        let (evens, odds) = parts.split_at(even * width);
        for j in 0..odd {
            let (low, high) = lines.split_at_mut((self.n - 1 - j) * width);
            let low = &mut low[j * width..(j + 1) * width];
            let high = &mut high[..width];
            let a = &evens[j * width..(j + 1) * width];
            let b = &odds[j * width..(j + 1) * width];
            wide(
                #[inline(always)]
                || sums_and_differences([a, b], [low, high]),
            );
        }
        if even > odd {
            lines[odd * width..(odd + 1) * width].copy_from_slice(&evens[odd * width..]);
        }
    }

    /// The same for one contiguous line.
    pub(super) fn unfold_row(&self, parts: &[f32], row: &mut [f32]) {
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

    /// Frequencies of `width` lines side by side, the lowest `kept` of them, from folded lines.
    pub(super) fn lines_to_band(&self, folded: &[f32], width: usize, kept: usize, out: &mut [f32]) {
        self.lines(&self.forward, folded, [self.n, kept], width, out);
    }

    /// Reverts [`Self::lines_to_band`].
    pub(super) fn lines_from_band(
        &self,
        band: &[f32],
        width: usize,
        kept: usize,
        folded: &mut [f32],
    ) {
        self.lines(&self.back, band, [kept, self.n], width, folded);
    }

    /// Multiplies both parts of `width` lines with their matrices, from one length to another.
    fn lines(
        &self,
        tables: &[Vec<f32>; 2],
        lines: &[f32],
        [from, to]: [usize; 2],
        width: usize,
        out: &mut [f32],
    ) {
        let (inputs, outputs) = (parts(from), parts(to));
        for part in 0..2 {
            let matrix = View {
                values: &tables[part],
                stride: self.parts()[part],
            };
            let input = View {
                values: &lines[part * inputs[0] * width..],
                stride: width,
            };
            let out = &mut out[part * outputs[0] * width..];
            let size = [outputs[part], inputs[part], width];
            multiply(matrix, input, out, width, size);
        }
    }

    /// [`Self::lines_to_band`] for lines that are contiguous rows.
    pub(super) fn rows_to_band(&self, folded: &[f32], kept: usize, out: &mut [f32]) {
        let (inputs, outputs) = (self.parts(), parts(kept));
        let count = folded.len() / self.n;
        for part in 0..2 {
            let input = View {
                values: &folded[part * inputs[0]..],
                stride: self.n,
            };
            let matrix = View {
                values: &self.back[part],
                stride: inputs[part],
            };
            let out = &mut out[part * outputs[0]..];
            multiply(
                input,
                matrix,
                out,
                kept,
                [count, inputs[part], outputs[part]],
            );
        }
    }

    /// [`Self::lines_from_band`] for lines that are contiguous rows.
    pub(super) fn rows_from_band(&self, band: &[f32], kept: usize, folded: &mut [f32]) {
        let (inputs, outputs) = (parts(kept), self.parts());
        let count = band.len() / kept;
        for part in 0..2 {
            let input = View {
                values: &band[part * inputs[0]..],
                stride: kept,
            };
            let matrix = View {
                values: &self.forward[part],
                stride: outputs[part],
            };
            let out = &mut folded[part * outputs[0]..];
            multiply(
                input,
                matrix,
                out,
                self.n,
                [count, inputs[part], outputs[part]],
            );
        }
    }
}

#[inline(always)]
fn sums_and_differences([a, b]: [&[f32]; 2], [sums, differences]: [&mut [f32]; 2]) {
    let pairs = a.iter().zip(b);
    let outs = sums.iter_mut().zip(differences);
    for ((a, b), (sum, difference)) in pairs.zip(outs) {
        *sum = a + b;
        *difference = a - b;
    }
}

/// How many of the first `n` frequencies are even and how many are odd.
fn parts(n: usize) -> [usize; 2] {
    [n.div_ceil(2), n / 2]
}

/// The frequency at a position of a transformed line of which `kept` frequencies are kept: even
/// ones first, then odd ones.
pub(super) fn frequency(position: usize, kept: usize) -> usize {
    let [even, _] = parts(kept);
    if position < even {
        2 * position
    } else {
        2 * (position - even) + 1
    }
}
