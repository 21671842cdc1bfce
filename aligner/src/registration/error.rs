//! Why a registration can fail.

use crate::observer::Interrupted;

/// The input that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Depth of the patch.
    Fixed,
    /// Depth of the template.
    Moving,
    /// Validity of the patch's depth.
    Validity,
    /// Landmark pairs.
    Landmarks,
    /// The affine map from patch to template.
    Placement,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fixed => "patch depth",
            Self::Moving => "template depth",
            Self::Validity => "validity of the patch depth",
            Self::Landmarks => "landmark pairs",
            Self::Placement => "placement of the patch",
        })
    }
}

/// A hard landmark pair that was not met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnmetLandmark {
    /// Index among the pairs of the input.
    pub index: usize,
    /// Remaining distance in the patch's world, mm.
    pub residual_mm: f64,
}

/// Why a registration gave no result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RegistrationError {
    /// The placement puts all of the patch's cortex outside the template.
    #[error(
        "{:.1} % of the patch's cortex lies inside the template image, expected some of it; check the placement",
        100.0 * share
    )]
    NoOverlap {
        /// Share of the cortex inside, 0 to 1.
        share: f64,
    },
    /// An image holds no slope to align.
    #[error("{which} is constant, expected depths between 0 and 1 with a slope between them")]
    ConstantImage {
        /// The image.
        which: Side,
    },
    /// NaN or infinity among the values, or a negative landmark weight.
    #[error("{which} has a value that is not a finite number, or a negative weight")]
    NotFinite {
        /// The input.
        which: Side,
    },
    /// A map that cannot be inverted.
    #[error("{which} has a matrix that cannot be inverted")]
    Singular {
        /// What the matrix belongs to.
        which: Side,
    },
    /// The validity is not on the patch's grid.
    #[error("validity has {found:?} voxels, expected the patch's {expected:?}")]
    ShapeMismatch {
        /// Shape of the validity.
        found: [usize; 3],
        /// Shape of the patch.
        expected: [usize; 3],
    },
    /// Too few voxels along an axis.
    #[error("{which} has {shape:?} voxels, expected {needed} or more along every axis")]
    TooSmall {
        /// The image.
        which: Side,
        /// Its shape.
        shape: [usize; 3],
        /// Fewest voxels per axis.
        needed: usize,
    },
    /// The optimisation left the numbers, or pushed all cortex out of the template.
    #[error("the optimisation diverged at shrink factor {shrink_factor}, iteration {iteration}")]
    Diverged {
        /// Shrink factor of the level.
        shrink_factor: u32,
        /// Iteration, from 1.
        iteration: u32,
    },
    /// The result still folds at the stiffest setting.
    #[error(
        "the transform folds in {forward} cells and its inverse in {inverse} after {attempts} attempts, expected none"
    )]
    Folds {
        /// Folded cells of the forward field.
        forward: u64,
        /// Folded cells of the inverse field.
        inverse: u64,
        /// Attempts, each stiffer than the one before.
        attempts: u32,
        /// Indices of the two landmark pairs that ask for the strongest distortion.
        strained: Option<[usize; 2]>,
    },
    /// Hard landmarks that no transform was found for.
    #[error(
        "{} of the hard landmark pairs cannot be met to {tolerance} voxels without folding space, the worst ends {:.2} mm off; correct them, or use soft landmarks",
        unmet.len(),
        unmet.first().map_or(0.0, |pair| pair.residual_mm)
    )]
    LandmarksNotMet {
        /// The pairs, the worst first.
        unmet: Vec<UnmetLandmark>,
        /// Largest distance that counts as met, in voxels of the patch.
        tolerance: f64,
    },
    /// The process was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}
