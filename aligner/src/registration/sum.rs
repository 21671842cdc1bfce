//! Sums whose value does not depend on the number of threads: fixed blocks, combined in order.

use rayon::prelude::*;

use crate::wide::wide;

/// Elements per block; part of the result's definition, not a tuning knob.
pub(super) const BLOCK: usize = 4096;
/// Accumulators within a block, so that the additions can run side by side.
const LANES: usize = 8;

/// Σ aᵢ·bᵢ in f64.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    sum(
        a.par_chunks(BLOCK).zip(b.par_chunks(BLOCK)),
        #[inline(always)]
        |(a, b)| dot_block(a, b),
    )
}

/// Σ of a term per block; `term` may change what its block borrows, so that one pass does both.
///
/// Must be marked `#[inline(always)]`, as for [`wide`].
pub(super) fn sum<B>(
    blocks: impl IndexedParallelIterator<Item = B>,
    term: impl Fn(B) -> f64 + Sync,
) -> f64 {
    let terms: Vec<f64> = blocks
        .map(|block| {
            wide(
                #[inline(always)]
                || term(block),
            )
        })
        .collect();
    terms.into_iter().sum()
}

/// The part of [`dot`] that one block adds.
#[inline(always)]
pub(super) fn dot_block(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let (whole_a, rest_a) = a.as_chunks::<LANES>();
    let (whole_b, rest_b) = b.as_chunks::<LANES>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] as f64 * b[lane] as f64;
        }
    }
    let rest: f64 = rest_a
        .iter()
        .zip(rest_b)
        .map(|(a, b)| *a as f64 * *b as f64)
        .sum();
    lanes.into_iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_counts_every_element() {
        let a: Vec<f32> = (0..10_001).map(|i| (i % 17) as f32).collect();
        let b: Vec<f32> = (0..10_001).map(|i| (i % 5) as f32).collect();
        let expected: f64 = a.iter().zip(&b).map(|(a, b)| (a * b) as f64).sum();
        assert!((dot(&a, &b) - expected).abs() < 1e-6);
    }
}
