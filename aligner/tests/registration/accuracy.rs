//! Known warps are recovered, without folds.

use aligner::{
    field::DisplacementField,
    registration::Registration,
    transform::{compose_residual, corner_jacobian},
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
        let input = aligner::registration::RegistrationInput {
            validity,
            ..spoiled.input()
        };
        let result =
            aligner::registration::register(&input, &parameters, &aligner::observer::Silent);
        clean.errors(&result.unwrap().forward).1
    };
    let (trusted, masked) = (run(None), run(Some(&validity)));
    assert!(masked < 0.7 * trusted, "{masked}, {trusted} if trusted");
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
