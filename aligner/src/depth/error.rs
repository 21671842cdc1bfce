//! Why no depth map can be made.

use std::fmt;

use crate::observer::Interrupted;

/// The segmentation cannot carry a depth map, or the computation was stopped.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DepthError {
    /// No voxel of the cortex.
    #[error("no grey matter in the segmentation: found {csf} CSF and {white} white voxels")]
    NoGrey {
        /// Voxels of CSF found.
        csf: usize,
        /// Voxels of white matter found.
        white: usize,
    },
    /// Nothing bounds the cortex from inside.
    #[error("no white matter in the segmentation: found {csf} CSF and {grey} grey voxels")]
    NoWhite {
        /// Voxels of CSF found.
        csf: usize,
        /// Voxels of grey matter found.
        grey: usize,
    },
    /// Nothing bounds the cortex from outside.
    #[error("no CSF in the segmentation: found {grey} grey and {white} white voxels")]
    NoCsf {
        /// Voxels of grey matter found.
        grey: usize,
        /// Voxels of white matter found.
        white: usize,
    },
    /// Values that the mapping does not name.
    #[error("labels without a tissue in the segmentation: {found}; the mapping knows {known:?}")]
    UnknownLabels {
        /// What was found, by ascending value.
        found: LabelCounts,
        /// Every value of the mapping, ascending.
        known: Vec<i32>,
    },
    /// No voxel has a value that the mapping gives to a tissue.
    #[error(
        "no {tissue} (label {}) in the segmentation: found {found}",
        mapped.iter().map(i32::to_string).collect::<Vec<_>>().join(", ")
    )]
    MissingTissue {
        /// Name of the tissue.
        tissue: &'static str,
        /// Values that would mean it.
        mapped: Vec<i32>,
        /// What was found, by ascending value.
        found: LabelCounts,
    },
    /// Most of the cortex has no pial or no white side.
    #[error(
        "{one_sided} of {grey} grey voxels lie in pieces that touch only CSF, only white matter \
         or neither; expected at most half"
    )]
    MostlyOneSided {
        /// Grey voxels in such pieces.
        one_sided: usize,
        /// All grey voxels.
        grey: usize,
    },
    /// The grid has no usable voxel size.
    #[error("voxel size along axis {axis} is {spacing_mm} mm; expected a positive number")]
    Spacing {
        /// Voxel axis, 0 to 2.
        axis: usize,
        /// What the grid says.
        spacing_mm: f64,
    },
    /// More voxels than the engine can number.
    #[error("the segmentation has {voxels} voxels; expected at most {limit}")]
    TooLarge {
        /// What was found.
        voxels: usize,
        /// What is possible.
        limit: usize,
    },
    /// The process was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// Label values and how many voxels carry each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelCounts(pub Vec<(i32, usize)>);

/// How many labels a message lists; a float image read as labels may hold thousands.
const LISTED: usize = 12;

impl fmt::Display for LabelCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (label, count)) in self.0.iter().take(LISTED).enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{label} ({count} voxels)")?;
        }
        if self.0.len() > LISTED {
            write!(f, " and {} more", self.0.len() - LISTED)?;
        }
        Ok(())
    }
}
