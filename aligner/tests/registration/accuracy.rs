//! Known warps are recovered, without folds.

use aligner::{
    affine::Affine,
    field::DisplacementField,
    grid::Grid,
    observer::Silent,
    registration::{Registration, RegistrationError, RegistrationInput, register},
    transform::{compose_residual, corner_jacobian},
    volume::Volume,
};
use alignment_api::RegistrationParameters;

use crate::phantom::{PLAIN, Phantom};

pub(crate) fn assert_sound(result: &Registration) {
    for field in [&result.forward, &result.inverse] {
        assert_eq!(corner_jacobian(field).folded_cells, 0);
        assert!(corner_jacobian(field).min > 0.0);
        let finite = field
            .components
            .iter()
            .flatten()
            .all(|value| value.is_finite());
        assert!(finite);
    }
}

#[test]
fn a_known_warp_is_recovered_without_folds() {
    let phantom = Phantom::new(PLAIN, 1.0);
    let start = phantom.errors(&DisplacementField::zero(phantom.fixed.grid));
    let result = phantom.register(&RegistrationParameters::default());
    let (whole, normal) = phantom.errors(&result.forward);
    assert_sound(&result);
    assert_eq!(result.attempts, 1);
    assert!(result.warnings.is_empty());
    // A voxel is 0.5 mm. Depth sees the motion across the sheet, which must be found to a tenth of
    // a voxel; the motion along it follows only through folds and smoothness.
    assert!(start.1 > 0.15, "{start:?}");
    assert!(normal < 0.05, "{normal} of {}", start.1);
    assert!(whole < 0.75 * start.0, "{whole} of {}", start.0);
    // The residual shrinks within the last level of an exact problem.
    let last = &result.levels[2].residuals;
    assert!(last[last.len() - 1] < last[0]);
}

#[test]
fn the_inverse_undoes_the_forward_field() {
    let phantom = Phantom::new(PLAIN, 1.0);
    let result = phantom.register(&RegistrationParameters::default());
    let (mean, max) = compose_residual(&result.forward, &result.inverse);
    // The inverse is refined to 1e-4 voxels of 0.5 mm; the other order suffers the interpolation.
    assert!(mean < 1e-4 && max < 1e-3, "{mean} {max}");
    let (mean, max) = compose_residual(&result.inverse, &result.forward);
    assert!(mean < 0.01 && max < 0.05, "{mean} {max}");
}

#[test]
fn an_invalid_block_is_not_believed() {
    let clean = Phantom::new(PLAIN, 1.0);
    let mut spoiled = Phantom::new(PLAIN, 1.0);
    let grid = spoiled.fixed.grid;
    let mut validity = aligner::volume::Volume::filled(grid, 1.0_f32);
    let [nx, ny, nz] = grid.shape;
    for index in 0..nx * ny * nz / 2 {
        let [x, y] = [index % nx, index / nx % ny];
        if x < nx / 2 && y < ny / 2 {
            validity.values_mut()[index] = 0.0;
            // The sheet from three voxels further up: plausible, but wrong.
            spoiled.fixed.values_mut()[index] = clean.fixed.values()[index + 3 * nx * ny];
        }
    }
    let parameters = RegistrationParameters::default().effective();
    let run = |validity| {
        let input = RegistrationInput {
            validity,
            ..spoiled.input()
        };
        let result =
            aligner::registration::register(&input, &parameters, &aligner::observer::Silent);
        clean.errors(&result.unwrap().forward).1
    };
    let everywhere = Volume::filled(grid, 1.0_f32);
    let (trusted, masked) = (run(Some(&everywhere)), run(Some(&validity)));
    assert!(masked < 0.7 * trusted, "{masked}, {trusted} if trusted");
}

#[test]
fn a_depth_guessed_beside_a_face_is_not_believed() {
    let clean = Phantom::new(PLAIN, 1.0);
    let spoiled = Phantom::guessed_beside_faces();
    let grid = spoiled.fixed.grid;
    let everywhere = Volume::filled(grid, 1.0_f32);
    let parameters = RegistrationParameters::default().effective();
    let run = |validity| {
        let input = RegistrationInput {
            validity,
            ..spoiled.input()
        };
        clean.errors(&register(&input, &parameters, &Silent).unwrap().forward)
    };
    let (judged, trusted) = (run(None), run(Some(&everywhere)));
    assert!(
        judged.1 < 0.85 * trusted.1 && judged.0 < 0.95 * trusted.0,
        "{judged:?}, {trusted:?} if trusted"
    );
}

#[test]
fn an_aligned_pair_stays_where_it_is() {
    let mut phantom = Phantom::new(PLAIN, 1.0);
    // The patch itself as its template: the answer is no motion.
    phantom.moving = phantom.fixed.clone();
    phantom.fixed_to_moving = aligner::affine::Affine::IDENTITY;
    let result = phantom.register(&RegistrationParameters::default());
    let longest = result
        .forward
        .components
        .iter()
        .flatten()
        .fold(0.0_f32, |a, b| a.max(b.abs()));
    assert!(longest < 1e-3, "{longest}");
}

/// The phantom with noise on the depth, which a soft enough transform follows until it folds.
fn noisy() -> Phantom {
    let mut phantom = Phantom::new(PLAIN, 1.0);
    let mut state = 7_u32;
    let fixed = &phantom.fixed;
    let values = fixed.values().iter().map(|depth| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 8) as f32 / (1 << 24) as f32 - 0.5;
        (depth + 0.3 * noise).clamp(0.0, 1.0)
    });
    let values: Vec<f32> = values.collect();
    let [nx, ny, _] = fixed.grid.shape;
    phantom.fixed = Volume::from_fn(fixed.grid, |(x, y, z)| values[x + nx * (y + ny * z)]);
    phantom
}

/// Registration of the noisy phantom with next to no smoothness but a floor.
fn flexible(floor: f64) -> Result<Registration, RegistrationError> {
    let parameters = RegistrationParameters {
        smoothness_length_factor: Some(0.1),
        smoothness_weight: Some(1e-4),
        smoothness_floor: Some(floor),
        ..Default::default()
    };
    register(&noisy().input(), &parameters.effective(), &Silent)
}

#[test]
fn a_transform_that_folds_is_computed_again_stiffer() {
    let result = flexible(1e-4).unwrap();
    assert_sound(&result);
    assert_eq!(result.attempts, 2);
    assert!(
        result.warnings[0].contains("folded"),
        "{:?}",
        result.warnings
    );
}

#[test]
fn a_transform_that_folds_at_the_stiffest_is_an_error() {
    let RegistrationError::Folds {
        forward,
        inverse,
        attempts,
        strained,
    } = flexible(1e-7).unwrap_err()
    else {
        panic!("folds expected");
    };
    assert!(forward + inverse > 0);
    assert_eq!((attempts, strained), (4, None));
}

/// A sheet ten voxels thick along z: for x below 20 it lies inside the patch, beyond it leaves at the upper face.
/// The template begins at x = 26; its sheet lies a voxel lower, with another contrast.
fn half_cut() -> (Volume<f32>, Volume<f32>) {
    let depth = |x: f64, z: f64| {
        let start = 7.0 + 12.0 / (1.0 + (20.0 - x).exp());
        ((z - start) / 10.0).clamp(0.0, 1.0)
    };
    let volume = |first: usize, value: &dyn Fn(f64, f64) -> f64| {
        let grid = Grid {
            shape: [40 - first, 24, 24],
            voxel_to_world: Affine::translation([first as f64, 0.0, 0.0]),
        };
        Volume::from_fn(grid, |(x, _, z)| value((x + first) as f64, z as f64) as f32)
    };
    let template = |x, z| 0.05 + 0.85 * depth(x, z + 1.0);
    (volume(0, &depth), volume(26, &template))
}

#[test]
fn where_the_template_has_cut_columns_alone_they_are_all_there_is_to_go_by() {
    let parameters = RegistrationParameters::default().effective();
    let (fixed, moving) = half_cut();
    let input = RegistrationInput {
        fixed: &fixed,
        validity: None,
        moving: &moving,
        fixed_to_moving: Affine::IDENTITY,
        landmarks: &[],
    };
    // Without them no voxel would have any weight, and the residual would be no number.
    let result = register(&input, &parameters, &Silent).unwrap();
    assert_sound(&result);
    let middle = 32 + 40 * (12 + 24 * 20);
    let step = result.forward.components[2][middle];
    assert!((-1.5..-0.2).contains(&step), "{step}");
}
