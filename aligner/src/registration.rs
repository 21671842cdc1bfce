//! Non-linear registration of two cortical depth maps.
//!
//! Finds a diffeomorphism of the patch, close to the identity, after which the affine placement
//! brings the patch's depth onto the template's. The transform is the exponential of a stationary
//! velocity on a coarse lattice; the velocity minimises a robust, slope-weighted difference of the
//! two depths plus a smoothness energy, by Gauss-Newton from coarse to fine.
//!
//! One iteration, in files: `exponential` of parts of the velocity both ways, `warped` images on
//! the way between them, `normal` equations per lattice cell, `solver` for the next step
//! (transforms to and from a `band` of frequencies, by `cosine` and `product`); `level` holds the
//! loop, `multilevel` the pyramid, and `problem` checks the input. `columns` that the image cuts
//! are doubted if there is no validity. `landmarks` pull in these equations; `trust` says which are
//! believed, `enforce` meets hard ones, `stencil` reads the field at a point. Computing depth,
//! reading files and judging the result are left to others.

use alignment_api::{EffectiveRegistration, LandmarkMode, LevelReport};

use crate::{
    affine::Affine, field::DisplacementField, observer::Observer, transform::corner_jacobian,
    volume::Volume,
};

mod band;
mod columns;
mod cortex;
mod cosine;
mod enforce;
mod error;
mod exponential;
mod inverse;
mod landmarks;
mod lattice;
mod level;
mod multilevel;
mod normal;
mod problem;
mod product;
mod progress;
mod pyramid;
mod smoothing;
mod solver;
mod stencil;
mod sum;
mod trust;
mod warped;

pub use error::{RegistrationError, Side, UnmetLandmark};

/// Planes or blocks that a thread takes at most at once: a thread that is done early waits for the other's last.
const LEAF: usize = 2;
/// Attempts before folds become an error.
const MOST_ATTEMPTS: u32 = 4;
/// Each further attempt multiplies the smallest smoothness weight by this.
const STIFFENING: f64 = 10.0;
/// Hard landmarks end at most this many voxels of the patch from their place.
const HARD_TOLERANCE: f64 = 0.1;

/// Two positions that are known to be the same place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LandmarkPair {
    /// Position in the patch's world, mm.
    pub fixed_mm: [f64; 3],
    /// Position in the template's world, mm.
    pub moving_mm: [f64; 3],
    /// Weight against other pairs, ≥ 0; 1 is normal. Two counts like a pair given twice. Pairs of
    /// weight 0 take no part; hard pairs are met whatever their weight.
    pub weight: f64,
}

/// What became of a landmark pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LandmarkOutcome {
    /// Distance in the patch's world from where the transform takes the pair's patch position to
    /// the template position under the inverse placement, mm.
    pub residual_mm: f64,
    /// The same in voxels of the patch.
    pub residual_voxels: f64,
    /// Share of its weight that the pair kept, 0 to 1: little if it stayed far off. 1 in hard mode.
    pub share: f64,
}

/// Two landmark pairs that no smooth one-to-one transform meets together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contradiction {
    /// Their indices among the pairs of the input.
    pub pairs: [usize; 2],
    /// Distance of their patch positions, mm.
    pub patch_mm: f64,
    /// Distance of their template positions under the inverse placement, mm.
    pub template_mm: f64,
}

/// What is to be aligned.
#[derive(Clone, Copy, Debug)]
pub struct RegistrationInput<'a> {
    /// Depth of the patch, 0 to 1.
    pub fixed: &'a Volume<f32>,
    /// How far the patch's depth can be trusted, 0 to 1, on the patch's grid. `None`: it is judged by where
    /// the image cuts columns of the cortex.
    pub validity: Option<&'a Volume<f32>>,
    /// Depth of the template, 0 to 1; a part of it that holds the patch is enough.
    pub moving: &'a Volume<f32>,
    /// World of the patch → world of the template, mm.
    pub fixed_to_moving: Affine,
    /// Known correspondences, may be empty. A pair that starts outside the patch moves as the
    /// nearest voxel of the border does.
    pub landmarks: &'a [LandmarkPair],
}

/// The transform and how it was found.
///
/// The whole map from patch world to template world is x ↦ `fixed_to_moving`(x + u(x)) with the
/// displacement u of `forward`; x + u⁻¹(x) with that of `inverse` reverts x + u(x). Neither field
/// folds, and neither holds a NaN.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Forward displacement, mm RAS+, on the patch's grid.
    pub forward: DisplacementField,
    /// Inverse displacement, mm RAS+, on the patch's grid.
    pub inverse: DisplacementField,
    /// What happened on each level of the last attempt, coarsest first.
    pub levels: Vec<LevelReport>,
    /// Attempts until there was no fold, 1 to 4.
    pub attempts: u32,
    /// Landmark uncertainty that was in force, mm; `None` for hard landmarks.
    pub landmark_uncertainty_mm: Option<f64>,
    /// One for each pair of the input.
    pub landmarks: Vec<LandmarkOutcome>,
    /// Soft pairs that contradict each other, the worst first; a pair stands in one at most.
    pub contradictions: Vec<Contradiction>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Aligns the patch's depth to the template's.
///
/// The same input gives the same bytes for any number of threads. Lengths along the voxel axes are
/// taken as orthogonal: a sheared patch grid is registered, with a smoothness that is sheared too.
///
/// Method: symmetric log-domain registration (as Vercauteren et al. 2009, but solved by Gauss-Newton
/// with an explicit energy in place of filtered forces), exponential by scaling and squaring
/// (Arsigny et al. 2006), robust weight of Geman and McClure (1987). If the forward or the inverse
/// field folds, the registration is repeated with a tenfold smallest smoothness, up to four times.
///
/// # Errors
/// [`RegistrationError`] if the input cannot be aligned, if the optimisation diverges, if the
/// transform folds at the stiffest setting, or if the observer asks to stop.
pub fn register(
    input: &RegistrationInput,
    parameters: &EffectiveRegistration,
    observer: &dyn Observer,
) -> Result<Registration, RegistrationError> {
    let problem = problem::Problem::prepare(input, parameters)?;
    let (levels, skipped) = multilevel::usable_levels(problem.shape, parameters)?;
    let grid = input.fixed.grid;
    let costs = levels
        .iter()
        .map(|level| (level.shrink_factor.max(1) as usize, level.iterations));
    let mut progress = progress::Progress::new(observer, grid.shape, costs);
    let mut folds = (0, 0);
    let mut floor = parameters.smoothness_floor;
    for attempt in 0..MOST_ATTEMPTS {
        progress.start_attempt(attempt);
        let setting = level::Setting {
            problem: &problem,
            parameters,
            floor,
        };
        let multilevel::Outcome {
            forward,
            inverse,
            levels,
            landmarks,
        } = multilevel::run(&setting, &levels, grid, &mut progress)?;
        if parameters.landmark_mode == LandmarkMode::Hard {
            check_met(input.landmarks, &landmarks)?;
        }
        folds = (
            corner_jacobian(&forward).folded_cells,
            corner_jacobian(&inverse).folded_cells,
        );
        if folds == (0, 0) {
            return Ok(Registration {
                forward,
                inverse,
                levels,
                attempts: attempt + 1,
                landmark_uncertainty_mm: (parameters.landmark_mode == LandmarkMode::Soft)
                    .then_some(problem.landmark_uncertainty * problem.unit_mm),
                landmarks,
                contradictions: contradictions(&problem, parameters),
                warnings: warnings(&problem, skipped, attempt),
            });
        }
        floor *= STIFFENING;
    }
    Err(RegistrationError::Folds {
        forward: folds.0,
        inverse: folds.1,
        attempts: MOST_ATTEMPTS,
        strained: trust::most_strained(&problem.landmarks, problem.spacing),
    })
}

/// Hard pairs must have been met: more stiffness would not help.
fn check_met(
    pairs: &[LandmarkPair],
    outcomes: &[LandmarkOutcome],
) -> Result<(), RegistrationError> {
    let mut unmet: Vec<UnmetLandmark> = pairs
        .iter()
        .zip(outcomes)
        .enumerate()
        .filter(|(_, (pair, outcome))| {
            pair.weight > 0.0 && outcome.residual_voxels > HARD_TOLERANCE
        })
        .map(|(index, (_, outcome))| UnmetLandmark {
            index,
            residual_mm: outcome.residual_mm,
        })
        .collect();
    if unmet.is_empty() {
        return Ok(());
    }
    unmet.sort_by(|a, b| b.residual_mm.total_cmp(&a.residual_mm));
    Err(RegistrationError::LandmarksNotMet {
        unmet,
        tolerance: HARD_TOLERANCE,
    })
}

fn contradictions(
    problem: &problem::Problem,
    parameters: &EffectiveRegistration,
) -> Vec<Contradiction> {
    match parameters.landmark_mode {
        LandmarkMode::Soft => trust::contradictions(
            &problem.landmarks,
            problem.spacing,
            problem.landmark_uncertainty,
            problem.unit_mm,
        ),
        LandmarkMode::Hard => Vec::new(),
    }
}

fn warnings(problem: &problem::Problem, skipped: Vec<String>, repeated: u32) -> Vec<String> {
    let mut warnings = problem.warnings.clone();
    warnings.extend(skipped);
    if repeated > 0 {
        warnings.push(format!(
            "the transform folded and was computed again, {repeated} of at most {} times, each time stiffer",
            MOST_ATTEMPTS - 1
        ));
    }
    warnings
}
