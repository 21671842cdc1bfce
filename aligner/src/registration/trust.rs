//! Which landmark pairs are believed: robust weights, and pairs that contradict each other.

use super::{Contradiction, problem::VoxelPair};

/// Median length of a vector of three independent standard normal numbers.
const MEDIAN_LENGTH: f64 = 1.538;
/// Residuals up to this many standard deviations are honest: 97 of 100 jittered pairs.
const HONEST: f64 = 3.0;
/// Standard deviations beyond the honest ones at which a pair keeps a quarter of its weight.
const FADE: f64 = 2.0;
/// How far apart noise alone drives the displacements of two pairs, in standard deviations.
const NOISE_OF_A_DIFFERENCE: f64 = 5.0;
/// Difference of two pairs' displacements as a share of their distance that is too much: a stretch
/// to more than twice, or to less than half, or a reversal.
const LARGEST_STRAIN: f64 = 1.0;

/// Share of its weight, 0 to 1, that a pair keeps which is off by `residual`; `deviation` is the
/// standard deviation that residuals of right pairs have, in the same unit.
///
/// The influence function of Geman and McClure (1987) of what exceeds three standard deviations:
/// an honest pair keeps all of its weight, a pair that is far off has none.
pub(super) fn share(residual: f64, deviation: f64) -> f64 {
    let excess = (residual - HONEST * deviation).max(0.0) / (FADE * deviation);
    (1.0 + excess * excess).powi(-2)
}

/// Standard deviation per axis that a set of residual lengths shows, were they normal: by the
/// (lower) median, which up to half of the pairs cannot spoil. 0 without any.
pub(super) fn spread(residuals: impl Iterator<Item = f64>) -> f64 {
    let mut lengths: Vec<f64> = residuals.collect();
    lengths.sort_unstable_by(f64::total_cmp);
    let middle = lengths.len().saturating_sub(1) / 2;
    lengths.get(middle).copied().unwrap_or(0.0) / MEDIAN_LENGTH
}

/// Two pairs that lie close together and want to move differently, and how much so: the difference
/// of their displacements, less what `deviation` explains, over their distance (the smaller of the
/// two distances before and after).
struct Strain {
    pairs: [usize; 2],
    before: f64,
    after: f64,
    value: f64,
}

fn strains(pairs: &[VoxelPair], spacing: [f64; 3], deviation: f64) -> Vec<Strain> {
    let length = |v: [f64; 3]| {
        (0..3)
            .map(|a| (v[a] * spacing[a]).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    let minus = |a: [f64; 3], b: [f64; 3]| std::array::from_fn(|i| a[i] - b[i]);
    let mut found = Vec::new();
    for (j, b) in pairs.iter().enumerate().filter(|(_, b)| b.weight > 0.0) {
        for (i, a) in pairs[..j]
            .iter()
            .enumerate()
            .filter(|(_, a)| a.weight > 0.0)
        {
            let start: [f64; 3] = minus(a.start, b.start);
            let target: [f64; 3] = minus(a.target, b.target);
            let (before, after) = (length(start), length(target));
            let excess = length(minus(target, start)) - NOISE_OF_A_DIFFERENCE * deviation;
            if excess > 0.0 {
                found.push(Strain {
                    pairs: [i, j],
                    before,
                    after,
                    value: excess / before.min(after),
                });
            }
        }
    }
    found
}

/// Pairs that no smooth one-to-one transform meets together, the worst first. Every pair stands
/// in one entry at most: the partner of a wrong pair is not blamed for others.
///
/// `spacing` and `deviation` are in the registration's unit of length, which is `unit_mm` long.
pub(super) fn contradictions(
    pairs: &[VoxelPair],
    spacing: [f64; 3],
    deviation: f64,
    unit_mm: f64,
) -> Vec<Contradiction> {
    let mut strains = strains(pairs, spacing, deviation);
    strains.retain(|strain| strain.value > LARGEST_STRAIN);
    strains.sort_by(|a, b| b.value.total_cmp(&a.value));
    let mut named = vec![false; pairs.len()];
    let mut found = Vec::new();
    for strain in strains {
        if strain.pairs.iter().all(|&pair| !named[pair]) {
            strain.pairs.iter().for_each(|&pair| named[pair] = true);
            found.push(Contradiction {
                pairs: strain.pairs,
                patch_mm: strain.before * unit_mm,
                template_mm: strain.after * unit_mm,
            });
        }
    }
    found
}

/// The two pairs that ask for the strongest distortion; `None` if all pairs move alike.
pub(super) fn most_strained(pairs: &[VoxelPair], spacing: [f64; 3]) -> Option<[usize; 2]> {
    strains(pairs, spacing, 0.0)
        .into_iter()
        .max_by(|a, b| a.value.total_cmp(&b.value))
        .map(|strain| strain.pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(start: [f64; 3], target: [f64; 3]) -> VoxelPair {
        VoxelPair {
            start,
            target,
            weight: 1.0,
        }
    }

    #[test]
    fn honest_residuals_keep_their_weight_and_far_ones_lose_it() {
        assert_eq!(share(0.0, 0.4), 1.0);
        assert_eq!(share(1.2, 0.4), 1.0);
        assert!((share(2.0, 0.4) - 0.25).abs() < 1e-12);
        assert!(share(8.0, 0.4) < 0.001);
    }

    #[test]
    fn the_spread_is_that_of_the_right_half() {
        assert_eq!(spread([].into_iter()), 0.0);
        let all = [1.538, 0.2, 800.0, 900.0, 0.1];
        assert!((spread(all.into_iter()) - 1.0).abs() < 1e-12);
        // Of two, the better one counts.
        assert!((spread([1.538, 99.0].into_iter()) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn neighbours_that_move_apart_contradict_and_a_common_shift_does_not() {
        let pairs = [
            pair([10.0, 10.0, 10.0], [19.0, 10.0, 10.0]),
            pair([11.0, 10.0, 10.0], [20.0, 10.0, 10.0]),
            pair([10.0, 11.0, 10.0], [10.0, 15.0, 10.0]),
            pair([30.0, 10.0, 10.0], [30.0, 10.0, 10.0]),
        ];
        let found = contradictions(&pairs, [1.0, 1.0, 1.0], 0.5, 0.3);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].pairs.contains(&2));
        assert!(found[0].patch_mm <= 0.3 * 1.5 && found[0].template_mm > 0.3 * 9.0);
        // With an uncertainty of several voxels the same pairs are possible.
        assert!(contradictions(&pairs, [1.0, 1.0, 1.0], 3.0, 0.3).is_empty());
    }

    #[test]
    fn two_pairs_at_one_place_contradict_only_if_they_differ() {
        let twice = [pair([5.0; 3], [6.0; 3]), pair([5.0; 3], [6.0; 3])];
        assert!(contradictions(&twice, [1.0; 3], 0.5, 1.0).is_empty());
        let torn = [pair([5.0; 3], [6.0; 3]), pair([5.0; 3], [9.0; 3])];
        assert_eq!(contradictions(&torn, [1.0; 3], 0.5, 1.0).len(), 1);
    }
}
