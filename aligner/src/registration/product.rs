//! Products of small dense matrices in f32.
//!
//! Written in vectors: left to the compiler, the same loops came out vectorised or not, four times slower,
//! depending on what was compiled beside them.

use pulp::{Arch, Simd, WithSimd};

/// A row-major matrix inside a larger slice.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) values: &'a [f32],
    /// Elements from one row to the next.
    pub(super) stride: usize,
}

/// Rows of a tile: enough sums side by side to hide how long an addition takes.
const ROWS: usize = 4;
/// Columns of a tile: a multiple of the lanes of any vector.
pub(super) const COLUMNS: usize = 16;

/// `out = a · b`, where a is rows × inner, b is inner × columns, and the rows of `out` lie
/// `out_stride` apart. `size` is `[rows, inner, columns]`.
///
/// Every element is summed in the order of `inner`, and each product rounded before it is added, whatever
/// the vectors of the machine. With fewer columns than [`COLUMNS`], b is copied unless its slice goes on for
/// as many elements after the start of its last row.
pub(super) fn multiply(a: View, b: View, out: &mut [f32], out_stride: usize, size: [usize; 3]) {
    let [rows, inner, columns] = size;
    if rows == 0 || columns == 0 {
        return;
    }
    let mut tiles = Tiles {
        a,
        b,
        out,
        out_stride,
        size,
    };
    if columns >= COLUMNS || inner.saturating_sub(1) * b.stride + COLUMNS <= b.values.len() {
        Arch::new().dispatch(tiles);
        return;
    }
    let mut values = vec![0.0; inner * COLUMNS];
    for (k, row) in values.chunks_exact_mut(COLUMNS).enumerate() {
        row[..columns].copy_from_slice(&b.values[k * b.stride..][..columns]);
    }
    tiles.b = View {
        values: &values,
        stride: COLUMNS,
    };
    Arch::new().dispatch(tiles);
}

/// The product, tile by tile. Where a tile is read, `b` holds [`COLUMNS`] elements.
struct Tiles<'a> {
    a: View<'a>,
    b: View<'a>,
    out: &'a mut [f32],
    out_stride: usize,
    size: [usize; 3],
}

impl WithSimd for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let [rows, _, columns] = self.size;
        for column in (0..columns).step_by(COLUMNS) {
            // The last tile is moved back, and computes some elements again.
            let column = column.min(columns.saturating_sub(COLUMNS));
            for row in (0..rows).step_by(ROWS) {
                match S::F32_LANES {
                    16 => self.tile::<S, 1>(simd, row, column),
                    8 => self.tile::<S, 2>(simd, row, column),
                    4 => self.tile::<S, 4>(simd, row, column),
                    _ => self.tile::<S, 16>(simd, row, column),
                }
            }
        }
    }
}

impl Tiles<'_> {
    /// [`COLUMNS`] columns in V vectors each, held in registers.
    #[inline(always)]
    fn tile<S: Simd, const V: usize>(&mut self, simd: S, row: usize, column: usize) {
        let [rows, inner, columns] = self.size;
        let (first, second) = (self.line(row), self.line(row + 1));
        let (third, fourth) = (self.line(row + 2), self.line(row + 3));
        let mut sums = [[simd.splat_f32s(0.0); V]; ROWS];
        for k in 0..inner {
            let values = &self.b.values[k * self.b.stride + column..][..COLUMNS];
            let (values, _) = S::as_simd_f32s(values);
            let factors = [first[k], second[k], third[k], fourth[k]];
            for h in 0..ROWS {
                let factor = simd.splat_f32s(factors[h]);
                for v in 0..V {
                    sums[h][v] = simd.add_f32s(sums[h][v], simd.mul_f32s(factor, values[v]));
                }
            }
        }
        for (sums, row) in sums.iter().zip(row..rows) {
            let out = &mut self.out[row * self.out_stride + column..];
            if columns >= COLUMNS {
                let (out, _) = S::as_mut_simd_f32s(&mut out[..COLUMNS]);
                out.copy_from_slice(sums);
            } else {
                // One by one: so few that to call for a copy would take longer.
                let sums: &[f32] = pulp::bytemuck::cast_slice(sums);
                for (out, sum) in out[..columns].iter_mut().zip(sums) {
                    *out = *sum;
                }
            }
        }
    }

    /// A row of a; beyond the last, the last once more.
    #[inline(always)]
    fn line(&self, row: usize) -> &[f32] {
        let [rows, inner, _] = self.size;
        &self.a.values[row.min(rows - 1) * self.a.stride..][..inner]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_all_sizes_agree_with_the_definition() {
        for size in [
            [1, 1, 1],
            [4, 3, 8],
            [5, 7, 13],
            [9, 2, 20],
            [7, 4, 37],
            [2, 3, 18],
            [4, 1, 2],
            [3, 5, 4],
            [6, 0, 3],
            [3, 0, 20],
            [0, 3, 20],
        ] {
            let [rows, inner, columns] = size;
            let a: Vec<f32> = (0..rows * (inner + 2))
                .map(|i| (i * 7 % 11) as f32)
                .collect();
            let b: Vec<f32> = (0..inner * columns).map(|i| (i * 5 % 13) as f32).collect();
            let mut out = vec![7.0; rows * (columns + 1)];
            let left = View {
                values: &a,
                stride: inner + 2,
            };
            let right = View {
                values: &b,
                stride: columns,
            };
            multiply(left, right, &mut out, columns + 1, size);
            for r in 0..rows {
                for c in 0..columns {
                    let expected: f32 = (0..inner)
                        .map(|k| a[r * (inner + 2) + k] * b[k * columns + c])
                        .sum();
                    assert_eq!(out[r * (columns + 1) + c], expected);
                }
            }
        }
    }

    #[test]
    fn products_are_the_same_bits_in_vectors_of_any_width() {
        let size = [6, 9, 21];
        let [rows, inner, columns] = size;
        let values = |n: usize| -> Vec<f32> { (0..n).map(|i| (i as f32 + 0.3).sqrt()).collect() };
        let (a, b) = (values(rows * inner), values(inner * columns));
        let view = |values, stride| View { values, stride };
        let mut expected = vec![0.0; rows * columns];
        for (i, out) in expected.iter_mut().enumerate() {
            for k in 0..inner {
                *out += a[i / columns * inner + k] * b[k * columns + i % columns];
            }
        }
        let check = |run: &dyn Fn(Tiles)| {
            let mut out = vec![7.0; rows * columns];
            run(Tiles {
                a: view(&a, inner),
                b: view(&b, columns),
                out: &mut out,
                out_stride: columns,
                size,
            });
            assert!(
                out.iter()
                    .zip(&expected)
                    .all(|(o, e)| o.to_bits() == e.to_bits())
            );
        };
        check(&|tiles| Arch::new().dispatch(tiles));
        check(&|tiles| tiles.with_simd(pulp::Scalar));
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            check(&|tiles| simd.vectorize(|| tiles.with_simd(simd)));
        }
    }
}
