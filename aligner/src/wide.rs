//! The widest vector instructions of the machine for plain loops, without a build for each machine.

/// Runs `operation` compiled for the vector instructions found at run time (AVX2 or AVX-512 on x86-64).
///
/// Only code that is inlined into `operation` gains, and `operation` itself must be marked
/// `#[inline(always)]`. Rust never fuses a product and a sum
/// on its own, so results are the same bytes with and without.
#[inline]
pub(crate) fn wide<R>(operation: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_loops_give_the_same_bits() {
        let a: Vec<f32> = (0..1003).map(|i| (i as f32).sqrt()).collect();
        let sum = |a: &[f32]| -> Vec<f32> { a.iter().map(|x| x * 1.1 + 0.3 * x * x).collect() };
        let (plain, fast) = (sum(&a), wide(|| sum(&a)));
        assert!(
            plain
                .iter()
                .zip(&fast)
                .all(|(p, f)| p.to_bits() == f.to_bits())
        );
    }
}
