//! Checks the input of a registration and brings it into the frame in which it is solved.
//!
//! Positions are voxels of the patch. Lengths are in units of the mean patch voxel, measured along
//! the voxel axes: numbers then have the same size whether the image is in µm or in mm.

use std::sync::Arc;

use alignment_api::{EffectiveRegistration, LandmarkMode};
use rayon::prelude::*;

use super::{
    LandmarkPair, RegistrationError, RegistrationInput, Side, cortex::Cortex,
    pyramid::FEWEST_VOXELS,
};
use crate::affine::Affine;

/// Without a stated uncertainty, landmarks are as uncertain as this share of the thickness of the
/// cortex, or as one voxel if that is more.
const UNCERTAINTY_PER_THICKNESS: f64 = 0.05;
/// Hard landmarks pull like ones of this uncertainty in voxels. Weaker, and depth settles where it
/// must not stay; much stronger, and the linear equations are no longer solved in a few steps.
const HARD_UNCERTAINTY: f64 = 0.17;
/// Below this overlap a person should know.
const SMALL_OVERLAP: f64 = 0.5;
/// Values that one task checks.
const PIECE: usize = 1 << 14;

/// A landmark pair in voxels of the patch; `target` through the inverse of the affine map.
#[derive(Clone, Copy, Debug)]
pub(super) struct VoxelPair {
    pub(super) start: [f64; 3],
    pub(super) target: [f64; 3],
    pub(super) weight: f64,
}

/// A checked registration problem.
pub(super) struct Problem<'a> {
    pub(super) shape: [usize; 3],
    pub(super) spacing: [f64; 3],
    /// The unit of length in mm.
    pub(super) unit_mm: f64,
    pub(super) fixed: &'a [f32],
    pub(super) validity: Option<&'a [f32]>,
    pub(super) moving: &'a [f32],
    pub(super) moving_shape: [usize; 3],
    /// Voxel size of the moving image as it appears in the patch.
    pub(super) moving_spacing: [f64; 3],
    /// Voxel of the patch → voxel of the moving image.
    pub(super) fixed_to_moving: Affine,
    pub(super) landmarks: Vec<VoxelPair>,
    /// Of the patch at full resolution.
    pub(super) cortex: Arc<Cortex>,
    /// Mean square slope of the patch's depth.
    pub(super) slope_square: f64,
    /// Distance over which the displacement is smooth.
    pub(super) smoothness_length: f64,
    /// Standard deviation of landmark positions.
    pub(super) landmark_uncertainty: f64,
    pub(super) warnings: Vec<String>,
}

impl<'a> Problem<'a> {
    /// Checks everything that can be wrong with the input.
    pub(super) fn prepare(
        input: &RegistrationInput<'a>,
        parameters: &EffectiveRegistration,
    ) -> Result<Self, RegistrationError> {
        check_values(input)?;
        let grid = &input.fixed.grid;
        let unit_mm = grid.mean_spacing();
        let spacing = grid.spacing().map(|size| size / unit_mm);
        let fixed_to_moving = voxel_map(input)?;
        let cortex = Cortex::find(
            input.fixed.values(),
            grid.shape,
            spacing,
            input.validity.map(crate::volume::Volume::values),
        );
        let cortex = Arc::new(cortex);
        let slope_square = cortex.mean_square_slope;
        if slope_square.is_nan() || slope_square <= 0.0 {
            return Err(RegistrationError::ConstantImage { which: Side::Fixed });
        }
        let mut warnings = Vec::new();
        check_overlap(&cortex, input, &fixed_to_moving, &mut warnings)?;
        // A volume's cube root is the scale of an affine map, whatever its rotation.
        let scale = libm::cbrt(input.fixed_to_moving.determinant().abs());
        let slope = slope_square.sqrt();
        Ok(Self {
            shape: grid.shape,
            spacing,
            unit_mm,
            fixed: input.fixed.values(),
            validity: input.validity.map(crate::volume::Volume::values),
            moving: input.moving.values(),
            moving_shape: input.moving.grid.shape,
            moving_spacing: input
                .moving
                .grid
                .spacing()
                .map(|size| size / (unit_mm * scale)),
            fixed_to_moving,
            landmarks: voxel_landmarks(input)?,
            cortex,
            slope_square,
            smoothness_length: parameters
                .smoothness_length_mm
                .map_or(parameters.smoothness_length_factor / slope, |length| {
                    length / unit_mm
                }),
            landmark_uncertainty: landmark_uncertainty(parameters, unit_mm, slope),
            warnings,
        })
    }
}

/// Standard deviation of landmark positions, in the unit of length.
fn landmark_uncertainty(parameters: &EffectiveRegistration, unit_mm: f64, slope: f64) -> f64 {
    match (parameters.landmark_mode, parameters.landmark_uncertainty_mm) {
        (LandmarkMode::Hard, _) => HARD_UNCERTAINTY,
        (LandmarkMode::Soft, Some(length)) => length / unit_mm,
        (LandmarkMode::Soft, None) => (UNCERTAINTY_PER_THICKNESS / slope).max(1.0),
    }
}

fn check_values(input: &RegistrationInput) -> Result<(), RegistrationError> {
    let fixed = input.fixed.grid.shape;
    for (which, shape) in [
        (Side::Fixed, fixed),
        (Side::Moving, input.moving.grid.shape),
    ] {
        // Interpolation needs two voxels of the moving image, derivatives four of the fixed one.
        let needed = if which == Side::Fixed {
            FEWEST_VOXELS
        } else {
            2
        };
        if shape.iter().any(|&n| n < needed) {
            return Err(RegistrationError::TooSmall {
                which,
                shape,
                needed,
            });
        }
    }
    if let Some(validity) = input.validity
        && validity.grid.shape != fixed
    {
        return Err(RegistrationError::ShapeMismatch {
            found: validity.grid.shape,
            expected: fixed,
        });
    }
    let volumes = [
        (Side::Fixed, Some(input.fixed)),
        (Side::Moving, Some(input.moving)),
        (Side::Validity, input.validity),
    ];
    for (which, volume) in volumes {
        let values = volume.map_or(&[][..], |volume| volume.values());
        if !all(values, f32::is_finite) {
            return Err(RegistrationError::NotFinite { which });
        }
    }
    let moving = input.moving.values();
    if moving
        .first()
        .is_none_or(|first| all(moving, |value| value == *first))
    {
        return Err(RegistrationError::ConstantImage {
            which: Side::Moving,
        });
    }
    Ok(())
}

/// Whether all values pass. A piece is looked at to its end, which compiles to wide comparisons.
pub(super) fn all(values: &[f32], passes: impl Fn(f32) -> bool + Sync) -> bool {
    values
        .par_chunks(PIECE)
        .all(|piece| piece.iter().fold(true, |all, value| all & passes(*value)))
}

/// Voxel of the patch → voxel of the moving image.
fn voxel_map(input: &RegistrationInput) -> Result<Affine, RegistrationError> {
    let singular = |which| RegistrationError::Singular { which };
    let world_to_moving_voxel = input.moving.grid.voxel_to_world.inverse();
    let map = world_to_moving_voxel
        .ok_or(singular(Side::Moving))?
        .after(&input.fixed_to_moving)
        .after(&input.fixed.grid.voxel_to_world);
    if input.fixed.grid.voxel_to_world.inverse().is_none() {
        return Err(singular(Side::Fixed));
    }
    if map.inverse().is_none() {
        return Err(singular(Side::Placement));
    }
    Ok(map)
}

/// Share of the cortex whose place under the affine map lies inside the moving image.
fn check_overlap(
    cortex: &Cortex,
    input: &RegistrationInput,
    fixed_to_moving: &Affine,
    warnings: &mut Vec<String>,
) -> Result<(), RegistrationError> {
    let [nx, ny, _] = input.fixed.grid.shape;
    let last = input.moving.grid.shape.map(|n| n as f64 - 1.0);
    let count = |(z, mask): (usize, &[bool])| {
        let mut counts = [0_u64; 2];
        for (index, _) in mask.iter().enumerate().filter(|(_, mask)| **mask) {
            let position = [index % nx, index / nx, z].map(|i| i as f64);
            let place = fixed_to_moving.apply(position);
            counts[0] += 1;
            counts[1] += u64::from((0..3).all(|a| place[a] >= 0.0 && place[a] <= last[a]));
        }
        counts
    };
    let [voxels, inside] = cortex
        .mask
        .par_chunks(nx * ny)
        .enumerate()
        .map(count)
        .reduce(|| [0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
    let share = inside as f64 / voxels.max(1) as f64;
    if inside == 0 {
        return Err(RegistrationError::NoOverlap { share });
    }
    if share < SMALL_OVERLAP {
        warnings.push(format!(
            "only {:.0} % of the patch's cortex lies inside the template: check the placement",
            100.0 * share
        ));
    }
    Ok(())
}

/// Landmarks in voxels of the patch.
fn voxel_landmarks(input: &RegistrationInput) -> Result<Vec<VoxelPair>, RegistrationError> {
    let singular = |which| RegistrationError::Singular { which };
    let grid = &input.fixed.grid;
    let world_to_voxel = grid.voxel_to_world.inverse().ok_or(singular(Side::Fixed))?;
    let moving_to_fixed = input.fixed_to_moving.inverse();
    let moving_to_voxel = world_to_voxel.after(&moving_to_fixed.ok_or(singular(Side::Placement))?);
    let place = |pair: &LandmarkPair| {
        let start = world_to_voxel.apply(pair.fixed_mm);
        let target = moving_to_voxel.apply(pair.moving_mm);
        let finite = start.iter().chain(&target).chain([&pair.weight]);
        if !finite.copied().all(f64::is_finite) || pair.weight < 0.0 {
            return Err(RegistrationError::NotFinite {
                which: Side::Landmarks,
            });
        }
        Ok(VoxelPair {
            start,
            target,
            weight: pair.weight,
        })
    };
    input.landmarks.iter().map(place).collect()
}
