//! Products of small dense matrices in f32.

use crate::wide::wide;

/// A row-major matrix inside a larger slice.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) values: &'a [f32],
    /// Elements from one row to the next.
    pub(super) stride: usize,
}

/// `out = a · b`, where a is rows × inner, b is inner × columns, and the rows of `out` lie
/// `out_stride` apart. `size` is `[rows, inner, columns]`.
///
/// Every element is summed in the order of `inner`, whatever the tile it falls into.
pub(super) fn multiply(a: View, b: View, out: &mut [f32], out_stride: usize, size: [usize; 3]) {
    wide(
        #[inline(always)]
        || tiles(a, b, out, out_stride, size),
    );
}

#[inline(always)]
fn tiles(a: View, b: View, out: &mut [f32], out_stride: usize, [rows, inner, columns]: [usize; 3]) {
    let mut column = 0;
    while column < columns {
        let left = columns - column;
        // The narrowest tile that takes the rest, the widest one if none does; a tile that would
        // reach beyond the border is moved back and computes some elements again.
        let width = match left {
            1 => 1,
            2..=4 => 4,
            5..=8 => 8,
            _ => 16,
        };
        let width = if width > columns { 1 } else { width };
        let start = column.min(columns - width);
        match width {
            16 => strip::<16>(a, b, out, out_stride, (rows, inner, start)),
            8 => strip::<8>(a, b, out, out_stride, (rows, inner, start)),
            4 => strip::<4>(a, b, out, out_stride, (rows, inner, start)),
            _ => strip::<1>(a, b, out, out_stride, (rows, inner, start)),
        }
        column = start + width;
    }
}

/// W columns.
#[inline(always)]
fn strip<const W: usize>(
    a: View,
    b: View,
    out: &mut [f32],
    out_stride: usize,
    (rows, inner, column): (usize, usize, usize),
) {
    for row in (0..rows).step_by(4) {
        // The last tile is moved back; if there are fewer than four rows, some are done twice.
        let start = row.min(rows.saturating_sub(4));
        let rows = [0, 1, 2, 3].map(|h| (start + h).min(rows - 1));
        tile::<W>(a, b, out, out_stride, (rows, inner, column));
    }
}

/// One tile of 4 × W elements, held in registers.
#[inline(always)]
fn tile<const W: usize>(
    a: View,
    b: View,
    out: &mut [f32],
    out_stride: usize,
    (rows, inner, column): ([usize; 4], usize, usize),
) {
    let mut sums = [[0.0_f32; W]; 4];
    let line = |row| &a.values[row * a.stride..][..inner];
    // Not an array: the compiler would forget that all are of one length, and check each index.
    let (first, second, third, fourth) =
        (line(rows[0]), line(rows[1]), line(rows[2]), line(rows[3]));
    for k in 0..inner {
        let Some(values) = b.values[k * b.stride + column..].first_chunk::<W>() else {
            continue;
        };
        let factors = [first[k], second[k], third[k], fourth[k]];
        for (sums, factor) in sums.iter_mut().zip(factors) {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += factor * value;
            }
        }
    }
    for (row, sums) in rows.into_iter().zip(&sums) {
        let start = row * out_stride + column;
        out[start..start + W].copy_from_slice(sums);
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
}
