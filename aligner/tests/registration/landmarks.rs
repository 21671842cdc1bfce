//! Landmarks: soft ones pull, hard ones are met, wrong ones are found out.

use aligner::{
    affine::Affine,
    observer::Silent,
    registration::{LandmarkPair, Registration, RegistrationError, register},
};
use alignment_api::{LandmarkMode, RegistrationParameters};

use crate::{
    accuracy::assert_sound,
    phantom::{PLAIN, Phantom},
};

fn soft(uncertainty_mm: f64) -> RegistrationParameters {
    RegistrationParameters {
        landmark_uncertainty_mm: Some(uncertainty_mm),
        ..RegistrationParameters::default()
    }
}

fn hard() -> RegistrationParameters {
    RegistrationParameters {
        landmark_mode: LandmarkMode::Hard,
        ..RegistrationParameters::default()
    }
}

/// A phantom with pairs whose template positions are off by normal noise of this size per axis.
fn jittered(count: usize, deviation_mm: f64) -> Phantom {
    let mut phantom = Phantom::new(PLAIN, 1.0);
    phantom.landmarks = phantom.exact_landmarks(count);
    let mut state = 99_u64;
    let mut uniform = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f64 / (1_u64 << 24) as f64
    };
    for pair in &mut phantom.landmarks {
        for value in &mut pair.moving_mm {
            // The sum of twelve uniform numbers is nearly normal, with variance 1.
            *value += deviation_mm * ((0..12).map(|_| uniform()).sum::<f64>() - 6.0);
        }
    }
    phantom
}

/// Distances in voxels of the patch from where the written field takes each pair to its place.
fn distances(phantom: &Phantom, result: &Registration) -> Vec<f64> {
    let chain = aligner::chain::Chain::default().then(aligner::chain::Link::Field(&result.forward));
    let to_voxel = phantom.fixed.grid.voxel_to_world.inverse().unwrap();
    let back = phantom.fixed_to_moving.inverse().unwrap();
    let distance = |pair: &LandmarkPair| {
        let found = to_voxel.apply(chain.apply(pair.fixed_mm));
        let wanted = to_voxel.apply(back.apply(pair.moving_mm));
        (0..3)
            .map(|a| (found[a] - wanted[a]).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    phantom.landmarks.iter().map(distance).collect()
}

fn last_residual(result: &Registration) -> f64 {
    *result.levels.last().unwrap().residuals.last().unwrap()
}

#[test]
fn landmarks_pull_the_rest_of_the_cortex_along() {
    let mut phantom = Phantom::new(PLAIN, 1.0);
    let without = phantom.errors(&phantom.register(&RegistrationParameters::default()).forward);
    phantom.landmarks = phantom.exact_landmarks(15);
    let result = phantom.register(&soft(0.15));
    let with = phantom.errors(&result.forward);
    assert_sound(&result);
    assert_eq!(result.landmark_uncertainty_mm, Some(0.15));
    // All voxels of the cortex are held out; 15 pairs in 9 ml must matter.
    assert!(with.0 < 0.95 * without.0, "{with:?}, without {without:?}");
}

#[test]
fn a_landmark_without_weight_changes_nothing() {
    for parameters in [RegistrationParameters::default(), hard()] {
        let mut phantom = Phantom::new(PLAIN, 1.0);
        let without = phantom.register(&parameters);
        phantom.landmarks = phantom.exact_landmarks(3);
        for pair in &mut phantom.landmarks {
            pair.weight = 0.0;
        }
        let with = phantom.register(&parameters);
        assert_eq!(with.forward, without.forward);
    }
}

#[test]
fn a_pair_of_weight_two_pulls_like_the_pair_given_twice() {
    // The phantom's depths are exact: pairs must be more certain than they are to move it by 0.01 mm.
    let mut phantom = jittered(6, 0.5);
    phantom.landmarks.push(phantom.landmarks[5]);
    let twice = phantom.register(&soft(0.2));
    phantom.landmarks.pop();
    let once = phantom.register(&soft(0.2));
    phantom.landmarks[5].weight = 2.0;
    let weighted = phantom.register(&soft(0.2));
    let residual = |result: &Registration| result.landmarks[5].residual_mm;
    // Sums in another order, through 24 iterations in f32.
    assert!((residual(&twice) - residual(&weighted)).abs() < 1e-3);
    assert!(residual(&weighted) < residual(&once) - 0.01);
}

#[test]
fn a_smaller_uncertainty_pulls_closer() {
    let phantom = jittered(12, 0.3);
    let mean = |result: &Registration| distances(&phantom, result).iter().sum::<f64>() / 12.0;
    let (strict, lax) = (
        mean(&phantom.register(&soft(0.1))),
        mean(&phantom.register(&soft(0.6))),
    );
    assert!(strict < 0.6 * lax, "{strict}, lax {lax}");
}

#[test]
fn hard_pairs_are_met_to_a_tenth_of_a_voxel() {
    let mut shifted = Phantom::new(PLAIN, 1.0);
    shifted.landmarks = shifted.exact_landmarks(12);
    // A placement that is off by three quarters of the cortex: all pairs start more than 2.5 mm off.
    shifted.fixed_to_moving = Affine::translation([1.5, 1.5, -1.5]).after(&shifted.fixed_to_moving);
    let mut oblique = Phantom::oblique();
    oblique.landmarks = oblique.exact_landmarks(12);
    for (name, phantom) in [
        ("exact", jittered(12, 0.0)),
        ("half a voxel of noise", jittered(12, 0.25)),
        ("shifted", shifted),
        ("oblique", oblique),
    ] {
        let result = phantom.register(&hard());
        assert_sound(&result);
        let worst = distances(&phantom, &result).into_iter().fold(0.0, f64::max);
        assert!(worst <= 0.1, "{name}: {worst} voxels");
        for (outcome, distance) in result.landmarks.iter().zip(distances(&phantom, &result)) {
            assert!((outcome.residual_voxels - distance).abs() < 1e-6);
            assert_eq!(outcome.share, 1.0);
        }
        assert_eq!(result.landmark_uncertainty_mm, None);
    }
}

#[test]
fn hard_pairs_cost_the_match_of_depth_little_and_help_the_rest() {
    let mut phantom = Phantom::new(PLAIN, 1.0);
    let without = phantom.register(&RegistrationParameters::default());
    phantom.landmarks = phantom.exact_landmarks(12);
    let with = phantom.register(&hard());
    let errors = [&with, &without].map(|result| phantom.errors(&result.forward));
    assert!(errors[0].0 < 0.95 * errors[1].0, "{errors:?}");
    let residuals = [&with, &without].map(last_residual);
    // 0.01 of the thickness is far below what any segmentation offers.
    assert!(residuals[0] < residuals[1] + 0.01, "{residuals:?}");
}

#[test]
fn hard_pairs_that_contradict_each_other_fail_by_index() {
    let mut phantom = Phantom::new(PLAIN, 1.0);
    phantom.landmarks = phantom.exact_landmarks(12);
    // The place of pair 7 once more, but 3 mm away in the template.
    let mut torn = phantom.landmarks[7];
    torn.moving_mm[0] += 3.0;
    phantom.landmarks.push(torn);
    let error = register(&phantom.input(), &hard().effective(), &Silent).unwrap_err();
    let RegistrationError::LandmarksNotMet { unmet, .. } = &error else {
        panic!("{error}");
    };
    let mut indices: Vec<usize> = unmet.iter().map(|pair| pair.index).collect();
    indices.sort_unstable();
    assert_eq!(indices, [7, 12], "{unmet:?}");
    assert!(unmet[0].residual_mm >= unmet[1].residual_mm);
    assert!(unmet[0].residual_mm + unmet[1].residual_mm > 2.9);
    assert!(error.to_string().contains("2 of the hard landmark pairs"));
}

#[test]
fn a_hard_pair_that_only_a_fold_would_meet_fails_by_index() {
    let mut phantom = jittered(12, 0.0);
    phantom.landmarks[3].moving_mm[0] += 8.0;
    let error = register(&phantom.input(), &hard().effective(), &Silent).unwrap_err();
    match error {
        RegistrationError::Folds { strained, .. } => assert!(strained.unwrap().contains(&3)),
        RegistrationError::LandmarksNotMet { unmet, .. } => assert_eq!(unmet[0].index, 3),
        other => panic!("{other}"),
    }
}

#[test]
fn a_wrong_pair_among_twelve_is_found_and_changes_little() {
    for (wrong, axis) in [(2, 0), (9, 1), (5, 2)] {
        let mut phantom = jittered(12, 0.2);
        let pair = phantom.landmarks.remove(wrong);
        let without = phantom.errors(&phantom.register(&soft(0.3)).forward);
        phantom.landmarks.insert(wrong, pair);
        phantom.landmarks[wrong].moving_mm[axis] += 8.0;
        let result = phantom.register(&soft(0.3));
        assert_sound(&result);
        for (index, outcome) in result.landmarks.iter().enumerate() {
            if index == wrong {
                assert!(outcome.share < 0.01, "{wrong}: {outcome:?}");
                assert!((outcome.residual_mm - 8.0).abs() < 1.5, "{outcome:?}");
            } else {
                assert!(outcome.share > 0.9, "{wrong}, {index}: {outcome:?}");
            }
        }
        let with = phantom.errors(&result.forward);
        // Its pull at the coarsest level, where it may still be right, leaves a trace.
        assert!(with.0 < 1.05 * without.0, "{wrong}: {with:?}, {without:?}");
        assert!(with.1 < 1.05 * without.1, "{wrong}: {with:?}, {without:?}");
    }
}

#[test]
fn honest_noise_costs_no_weight() {
    for deviation in [0.2, 0.5] {
        let phantom = jittered(24, deviation);
        let result = phantom.register(&soft(deviation));
        let shares: Vec<f64> = result.landmarks.iter().map(|pair| pair.share).collect();
        let mean = shares.iter().sum::<f64>() / 24.0;
        assert!(mean > 0.95, "{shares:?}");
        assert!(shares.iter().all(|share| *share > 0.5), "{shares:?}");
        assert!(result.contradictions.is_empty());
    }
}

#[test]
fn pairs_that_start_far_off_but_agree_keep_their_weight() {
    let mut phantom = jittered(12, 0.1);
    // Shifted by 2.5 mm, with an uncertainty of 0.3 mm: nearly a thickness.
    phantom.fixed_to_moving = Affine::translation([0.0, 0.0, 2.5]).after(&phantom.fixed_to_moving);
    let result = phantom.register(&soft(0.3));
    for outcome in &result.landmarks {
        assert!(outcome.share > 0.9, "{outcome:?}");
    }
}

#[test]
fn soft_pairs_that_contradict_each_other_are_told_and_nothing_folds() {
    let mut phantom = jittered(12, 0.1);
    let mut torn = phantom.landmarks[4];
    torn.fixed_mm[1] += 0.4;
    torn.moving_mm[0] += 5.0;
    phantom.landmarks.push(torn);
    let result = phantom.register(&soft(0.3));
    assert_sound(&result);
    assert_eq!(result.contradictions.len(), 1);
    let found = result.contradictions[0];
    assert_eq!(found.pairs, [4, 12]);
    assert!((found.patch_mm - 0.4).abs() < 1e-9 && found.template_mm > 4.5);
}

#[test]
fn pairs_outside_the_patch_do_no_harm() {
    let mut phantom = Phantom::new(PLAIN, 1.0);
    for far in [-3.0, 1e9] {
        phantom.landmarks.push(LandmarkPair {
            fixed_mm: [far, 5.0, 5.0],
            moving_mm: [0.0; 3],
            weight: 1.0,
        });
    }
    assert_sound(&phantom.register(&RegistrationParameters::default()));
}

#[test]
fn landmarks_give_the_same_bytes_for_any_number_of_threads() {
    let phantom = jittered(12, 0.2);
    for parameters in [soft(0.2), hard()] {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new();
            let pool = pool.num_threads(threads).build().unwrap();
            pool.install(|| phantom.register(&parameters))
        };
        let (one, two) = (run(1), run(2));
        assert_eq!(one.forward, two.forward);
        assert_eq!(one.inverse, two.inverse);
        assert_eq!(one.landmarks, two.landmarks);
    }
}
