//! From the coarsest level to the finest, and from the final velocity to displacement fields.

use alignment_api::{EffectiveRegistration, LevelParameters, LevelReport};
use rayon::prelude::*;

use super::{
    LEAF, LandmarkOutcome, RegistrationError, Side,
    exponential::exponential,
    inverse::refine_inverse,
    landmarks::Landmarks,
    lattice::{LatticeField, Plane, Upsampler},
    level::{LevelSolver, Setting, lattice_shape},
    problem::{Problem, all},
    progress::Progress,
    pyramid::{FEWEST_VOXELS, level_shape},
    stencil::Frame,
};
use crate::{field::DisplacementField, grid::Grid, scratch::PerThread};

/// Result of one attempt.
pub(super) struct Outcome {
    pub(super) forward: DisplacementField,
    pub(super) inverse: DisplacementField,
    pub(super) levels: Vec<LevelReport>,
    pub(super) landmarks: Vec<LandmarkOutcome>,
}

/// The levels that are large enough, with a warning for each one that is not.
pub(super) fn usable_levels(
    shape: [usize; 3],
    parameters: &EffectiveRegistration,
) -> Result<(Vec<LevelParameters>, Vec<String>), RegistrationError> {
    let shrink = |level: &LevelParameters| level.shrink_factor.max(1) as usize;
    let fits = |level: &LevelParameters| {
        let coarse = level_shape(shape, shrink(level));
        coarse.iter().all(|&n| n >= FEWEST_VOXELS)
    };
    let (kept, skipped): (Vec<_>, Vec<_>) = parameters.levels.iter().cloned().partition(fits);
    if kept.is_empty() {
        return Err(RegistrationError::TooSmall {
            which: Side::Fixed,
            shape,
            needed: parameters.levels.iter().map(shrink).min().unwrap_or(1) * FEWEST_VOXELS,
        });
    }
    let warnings = skipped
        .iter()
        .map(|level| {
            format!(
                "the level with shrink factor {} was skipped: the patch of {shape:?} voxels is too small for it",
                level.shrink_factor
            )
        })
        .collect();
    Ok((kept, warnings))
}

/// Runs all levels with one smoothness floor.
pub(super) fn run(
    setting: &Setting,
    levels: &[LevelParameters],
    grid: Grid,
    progress: &mut Progress,
) -> Result<Outcome, RegistrationError> {
    let mut reports = Vec::new();
    let mut landmarks = Landmarks::new(setting.problem, setting.parameters.landmark_mode);
    let mut current: Option<(LatticeField, usize)> = None;
    let mut spent = Default::default();
    for (index, level) in levels.iter().enumerate() {
        progress.start_level(index)?;
        let block = patch_voxels_per_cell(setting, level);
        let shape = lattice_shape(
            level_shape(setting.problem.shape, level.shrink_factor.max(1) as usize),
            setting.parameters.lattice_spacing.max(1) as usize,
        );
        let start = match current {
            None => LatticeField::zero(shape),
            Some((velocity, old)) => velocity.resampled(shape, [block as f64 / old as f64; 3]),
        };
        let mut solver = LevelSolver::new(setting, level, index > 0);
        let (velocity, report) = solver.optimise(start, &mut landmarks, progress)?;
        spent = solver.into_volumes();
        reports.push(report);
        current = Some((velocity, block));
    }
    let (velocity, block) = current.unwrap_or((LatticeField::zero([1; 3]), 1));
    let frame = Frame {
        patch: setting.problem.shape,
        spacing: setting.problem.spacing,
        lattice: velocity.shape,
        block: block as f64,
    };
    let velocity = landmarks.met(velocity, &frame, progress)?;
    let (forward, inverse) = displacements(setting.problem, &velocity, block, grid, spent);
    // A fold test does not see a NaN: every comparison with it is false.
    if ![&forward, &inverse].into_iter().all(is_finite) {
        return Err(RegistrationError::Diverged {
            shrink_factor: levels.last().map_or(1, |level| level.shrink_factor),
            iteration: reports
                .last()
                .map_or(0, |level| level.residuals.len() as u32),
        });
    }
    Ok(Outcome {
        landmarks: landmarks.outcomes(setting.problem, &forward),
        forward,
        inverse,
        levels: reports,
    })
}

fn is_finite(field: &DisplacementField) -> bool {
    field
        .components
        .iter()
        .all(|component| all(component, f32::is_finite))
}

fn patch_voxels_per_cell(setting: &Setting, level: &LevelParameters) -> usize {
    (setting.parameters.lattice_spacing.max(1) * level.shrink_factor.max(1)) as usize
}

/// exp(v) and its inverse on the patch grid, in mm. `spent` volumes, if of that grid, become the forward
/// field: they need not be given back to the system and others taken.
fn displacements(
    problem: &Problem,
    velocity: &LatticeField,
    block: usize,
    grid: Grid,
    spent: [Vec<f32>; 3],
) -> (DisplacementField, DisplacementField) {
    let cell = problem.spacing.map(|size| (size * block as f64) as f32);
    let set = |field: &mut DisplacementField, factor: f32| {
        let mut displacement = exponential(velocity, factor, cell);
        displacement.scale(block as f32);
        let coefficients = displacement.into_coefficients();
        upsample(&coefficients, block, field);
    };
    let fits = spent.iter().all(|volume| volume.len() == grid.voxels());
    let mut forward = if fits {
        let components = spent;
        DisplacementField { grid, components }
    } else {
        DisplacementField::zero(grid)
    };
    let mut inverse = DisplacementField::zero(grid);
    set(&mut forward, 1.0);
    set(&mut inverse, -1.0);
    refine_inverse(&forward.components, &mut inverse.components, grid.shape);
    forward.transform_vectors(&grid.voxel_to_world);
    inverse.transform_vectors(&grid.voxel_to_world);
    (forward, inverse)
}

/// Sets every voxel of the patch to a displacement given by spline coefficients.
fn upsample(coefficients: &LatticeField, block: usize, field: &mut DisplacementField) {
    let shape = field.grid.shape;
    let [nx, ny, _] = shape;
    let upsampler = Upsampler::new(coefficients.shape, shape, [1.0 / block as f64; 3]);
    let scratch: PerThread<Plane> = PerThread::new();
    let [x, y, z] = &mut field.components;
    x.par_chunks_mut(nx * ny)
        .zip(y.par_chunks_mut(nx * ny))
        .zip(z.par_chunks_mut(nx * ny))
        .enumerate()
        .with_max_len(LEAF)
        .for_each(|(index, ((x, y), z))| {
            scratch.with(|plane| {
                upsampler.start_plane(coefficients, index, plane);
                for (component, out) in [x, y, z].into_iter().enumerate() {
                    for (row, out) in out.chunks_exact_mut(nx).enumerate() {
                        upsampler.row(plane, component, row, out);
                    }
                }
            });
        });
}
