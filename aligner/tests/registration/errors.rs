//! Inputs that cannot be aligned are named.

use std::sync::atomic::{AtomicU32, Ordering};

use aligner::{
    affine::Affine,
    grid::Grid,
    observer::{Cancel, Observer, Silent, Step},
    registration::{LandmarkPair, RegistrationError, RegistrationInput, Side, register},
    volume::Volume,
};
use alignment_api::{LevelParameters, RegistrationParameters};

use crate::phantom::{PLAIN, Phantom};

fn error(input: &RegistrationInput) -> RegistrationError {
    let parameters = RegistrationParameters::default().effective();
    register(input, &parameters, &Silent).unwrap_err()
}

#[test]
fn a_patch_beside_the_template_has_no_overlap() {
    let mut phantom = Phantom::new(PLAIN, 1.0);
    phantom.fixed_to_moving = Affine::translation([500.0, 0.0, 0.0]);
    let error = error(&phantom.input());
    assert_eq!(error, RegistrationError::NoOverlap { share: 0.0 });
    assert!(error.to_string().starts_with("0.0 % of the patch's cortex"));
}

#[test]
fn constant_depths_are_named() {
    let phantom = Phantom::new(PLAIN, 1.0);
    for value in [0.0, 0.4, 1.0] {
        let flat = Volume::filled(phantom.fixed.grid, value);
        let input = RegistrationInput {
            fixed: &flat,
            ..phantom.input()
        };
        assert_eq!(
            error(&input),
            RegistrationError::ConstantImage { which: Side::Fixed }
        );
    }
    let flat = Volume::filled(phantom.moving.grid, 0.5);
    let input = RegistrationInput {
        moving: &flat,
        ..phantom.input()
    };
    assert_eq!(
        error(&input),
        RegistrationError::ConstantImage {
            which: Side::Moving
        }
    );
}

#[test]
fn a_patch_without_valid_cortex_counts_as_constant() {
    let phantom = Phantom::new(PLAIN, 1.0);
    let none = Volume::filled(phantom.fixed.grid, 0.0);
    let input = RegistrationInput {
        validity: Some(&none),
        ..phantom.input()
    };
    assert_eq!(
        error(&input),
        RegistrationError::ConstantImage { which: Side::Fixed }
    );
}

#[test]
fn values_that_are_no_numbers_are_named() {
    let mut phantom = Phantom::new(PLAIN, 1.0);
    phantom.fixed.values_mut()[77] = f32::NAN;
    assert_eq!(
        error(&phantom.input()),
        RegistrationError::NotFinite { which: Side::Fixed }
    );
    let mut phantom = Phantom::new(PLAIN, 1.0);
    phantom.moving.values_mut()[77] = f32::INFINITY;
    assert_eq!(
        error(&phantom.input()),
        RegistrationError::NotFinite {
            which: Side::Moving
        }
    );
    let mut phantom = Phantom::new(PLAIN, 1.0);
    phantom.landmarks.push(LandmarkPair {
        fixed_mm: [f64::NAN, 0.0, 0.0],
        moving_mm: [0.0; 3],
        weight: 1.0,
    });
    assert_eq!(
        error(&phantom.input()),
        RegistrationError::NotFinite {
            which: Side::Landmarks
        }
    );
}

#[test]
fn flat_patches_and_foreign_validities_are_refused() {
    let phantom = Phantom::new(PLAIN, 1.0);
    for shape in [[48, 36, 1], [1, 1, 1], [3, 40, 40]] {
        let grid = Grid {
            shape,
            ..phantom.fixed.grid
        };
        let flat = Volume::filled(grid, 0.5);
        let input = RegistrationInput {
            fixed: &flat,
            ..phantom.input()
        };
        let expected = RegistrationError::TooSmall {
            which: Side::Fixed,
            shape,
            needed: 4,
        };
        assert_eq!(error(&input), expected);
    }
    let grid = Grid {
        shape: [48, 36, 47],
        ..phantom.fixed.grid
    };
    let foreign = Volume::filled(grid, 1.0);
    let input = RegistrationInput {
        validity: Some(&foreign),
        ..phantom.input()
    };
    let expected = RegistrationError::ShapeMismatch {
        found: [48, 36, 47],
        expected: [48, 36, 48],
    };
    assert_eq!(error(&input), expected);
}

#[test]
fn a_singular_placement_is_refused() {
    let mut phantom = Phantom::new(PLAIN, 1.0);
    phantom.fixed_to_moving = Affine::scaling([1.0, 0.0, 1.0]);
    assert_eq!(
        error(&phantom.input()),
        RegistrationError::Singular {
            which: Side::Placement
        }
    );
}

#[test]
fn levels_too_coarse_for_the_patch_are_skipped_with_a_warning() {
    let phantom = Phantom::new(PLAIN, 1.0);
    let level = |shrink_factor| LevelParameters {
        shrink_factor,
        iterations: 1,
        robust_scale: 1.0,
    };
    let mut parameters = RegistrationParameters {
        levels: Some(vec![level(16), level(4)]),
        ..RegistrationParameters::default()
    };
    let result = phantom.register(&parameters);
    assert_eq!(result.levels.len(), 1);
    assert_eq!(result.levels[0].shrink_factor, 4);
    assert!(result.warnings[0].contains("shrink factor 16 was skipped"));
    parameters.levels = Some(vec![level(16)]);
    let error = register(&phantom.input(), &parameters.effective(), &Silent).unwrap_err();
    assert!(matches!(
        error,
        RegistrationError::TooSmall { needed: 64, .. }
    ));
}

/// Asks to stop after some steps, and checks that progress never goes back.
struct Stopper {
    steps: AtomicU32,
    limit: u32,
    fraction: std::sync::Mutex<f64>,
}

impl Observer for Stopper {
    fn step(&self, step: &Step) {
        let mut last = self.fraction.lock().unwrap();
        assert!(step.fraction >= *last && step.fraction <= 1.0);
        assert!(step.metric.unwrap().is_finite());
        *last = step.fraction;
        self.steps.fetch_add(1, Ordering::Relaxed);
    }
}

impl Cancel for Stopper {
    fn cancelled(&self) -> bool {
        self.steps.load(Ordering::Relaxed) >= self.limit
    }
}

#[test]
fn a_request_to_stop_is_followed_after_the_iteration() {
    let phantom = Phantom::new(PLAIN, 1.0);
    let parameters = RegistrationParameters::default().effective();
    let stopper = |limit| Stopper {
        steps: AtomicU32::new(0),
        limit,
        fraction: std::sync::Mutex::new(0.0),
    };
    let early = stopper(3);
    let error = register(&phantom.input(), &parameters, &early).unwrap_err();
    assert!(matches!(error, RegistrationError::Interrupted(_)));
    assert_eq!(early.steps.load(Ordering::Relaxed), 3);
    let never = stopper(u32::MAX);
    assert!(register(&phantom.input(), &parameters, &never).is_ok());
    assert!(*never.fraction.lock().unwrap() > 0.3);
}
