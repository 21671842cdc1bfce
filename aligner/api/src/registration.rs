//! Parameters of the registration: presets, overrides, and the effective values after merging.
//!
//! The defaults of the method are written here and nowhere else. Quantities that depend on the
//! data (the smoothness length, the landmark uncertainty) are given as multiples of measured
//! scales, so that an image in micrometres and one in millimetres are treated alike.

use serde::{Deserialize, Serialize};

/// Named set of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Preset {
    /// Four iterations per level: half the time, a few percent less accurate.
    Fast,
    /// Eight iterations per level.
    #[default]
    Standard,
    /// Twenty iterations per level: worthwhile where both depth maps are nearly free of error.
    Fine,
}

/// How landmarks act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum LandmarkMode {
    /// They pull, as strongly as their uncertainty allows; wrong ones lose their weight.
    #[default]
    Soft,
    /// Every active pair is met to 0.1 voxel of the patch, or the alignment fails.
    Hard,
}

/// Registration parameters of a request: a preset, and every value that may replace the preset's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistrationParameters {
    /// Set of parameters to start from: `fast`, `standard` or `fine`.
    #[serde(default)]
    pub preset: Preset,
    /// Pyramid levels, coarsest first. Omitted: shrink factors 4, 2, 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 8)))]
    pub levels: Option<Vec<LevelParameters>>,
    /// Distance over which the displacement is smooth, in mm. Omitted: 0.95 / (root mean square
    /// slope of the patch's depth), about the thickness of the cortex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0.000_001, max = 1000.0)))]
    pub smoothness_length_mm: Option<f64>,
    /// Smoothness length in units of 1 / (root mean square slope of the patch's depth);
    /// `smoothnessLengthMm` goes before it. Omitted: 0.95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0.01, max = 100.0)))]
    pub smoothness_length_factor: Option<f64>,
    /// Factor of the smoothness energy; larger is stiffer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0.0001, max = 1000.0)))]
    pub smoothness_weight: Option<f64>,
    /// Smallest smoothness weight in units of the mean square slope; it remains where the two depths
    /// agree. Omitted: 0.000033.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0.000_000_001, max = 1.0)))]
    pub smoothness_floor: Option<f64>,
    /// Root mean square residual of depth above which a larger one no longer stiffens the transform.
    /// Omitted: 0.06.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0.001, max = 1.0)))]
    pub residual_ceiling: Option<f64>,
    /// Root mean square velocity, in units of the smoothness length, above which the smoothness
    /// weight falls. Omitted: 0.12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0.001, max = 100.0)))]
    pub amplitude_factor: Option<f64>,
    /// How landmarks act: `soft` or `hard`.
    #[serde(default)]
    pub landmark_mode: LandmarkMode,
    /// Standard deviation of the landmark positions in mm. Omitted: the larger of one patch voxel
    /// and a twentieth of the cortical thickness. Hard landmarks have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0.000_001, max = 1000.0)))]
    pub landmark_uncertainty_mm: Option<f64>,
    /// Volume over which the error of depth is correlated, in units of the cubed cortical thickness:
    /// larger makes landmarks stronger against depth. Omitted: 0.018.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0.0001, max = 100.0)))]
    pub landmark_volume_factor: Option<f64>,
    /// Spacing of the velocity lattice in voxels of the level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 2, max = 16)))]
    pub lattice_spacing: Option<u32>,
    /// Largest number of conjugate-gradient steps per iteration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 200)))]
    pub conjugate_gradient_steps: Option<u32>,
    /// A level ends when the root mean square step falls below this many voxels of the level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0.00001, max = 1.0)))]
    pub step_tolerance: Option<f64>,
}

/// One level of the pyramid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LevelParameters {
    /// The level's voxels are this many patch voxels wide.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 64)))]
    pub shrink_factor: u32,
    /// Largest number of Gauss-Newton iterations.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000)))]
    pub iterations: u32,
    /// Scale of the robust weight in units of the root mean square residual.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.05, max = 100.0)))]
    pub robust_scale: f64,
}

/// Parameters after the preset and the overrides were merged: what the aligner runs with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveRegistration {
    /// Pyramid levels, coarsest first.
    pub levels: Vec<LevelParameters>,
    /// Smoothness length in mm, if fixed by the request.
    pub smoothness_length_mm: Option<f64>,
    /// Smoothness length as a multiple of 1 / (root mean square slope of depth).
    pub smoothness_length_factor: f64,
    /// Factor of the smoothness energy.
    pub smoothness_weight: f64,
    /// Smallest smoothness weight in units of the mean square slope.
    pub smoothness_floor: f64,
    /// Residual above which a larger residual no longer stiffens the transform.
    pub residual_ceiling: f64,
    /// Root mean square velocity, as a multiple of the smoothness length, above which the
    /// smoothness weight falls.
    pub amplitude_factor: f64,
    /// How landmarks act.
    #[serde(default)]
    pub landmark_mode: LandmarkMode,
    /// Landmark uncertainty in mm, if fixed by the request.
    pub landmark_uncertainty_mm: Option<f64>,
    /// Correlation volume of the depth error in units of the cubed cortical thickness; sets
    /// landmarks against depth.
    pub landmark_volume_factor: f64,
    /// Spacing of the velocity lattice in voxels of the level.
    pub lattice_spacing: u32,
    /// Largest number of conjugate-gradient steps per iteration.
    pub conjugate_gradient_steps: u32,
    /// Stopping threshold in voxels of the level.
    pub step_tolerance: f64,
}

impl RegistrationParameters {
    /// Merges the preset with the overrides.
    pub fn effective(&self) -> EffectiveRegistration {
        let iterations = match self.preset {
            Preset::Fast => 4,
            Preset::Standard => 8,
            Preset::Fine => 20,
        };
        let levels = [(4, 2.0), (2, 1.0), (1, 0.7)]
            .map(|(shrink_factor, robust_scale)| LevelParameters {
                shrink_factor,
                iterations,
                robust_scale,
            })
            .to_vec();
        EffectiveRegistration {
            levels: self.levels.clone().unwrap_or(levels),
            smoothness_length_mm: self.smoothness_length_mm,
            smoothness_length_factor: self.smoothness_length_factor.unwrap_or(0.95),
            smoothness_weight: self.smoothness_weight.unwrap_or(0.67),
            smoothness_floor: self.smoothness_floor.unwrap_or(3.3e-5),
            residual_ceiling: self.residual_ceiling.unwrap_or(0.06),
            amplitude_factor: self.amplitude_factor.unwrap_or(0.12),
            landmark_mode: self.landmark_mode,
            landmark_uncertainty_mm: self.landmark_uncertainty_mm,
            // 2 mm³ at a thickness of 3.3 mm (the human cortex on which it was measured).
            landmark_volume_factor: self.landmark_volume_factor.unwrap_or(0.018),
            lattice_spacing: self.lattice_spacing.unwrap_or(3),
            conjugate_gradient_steps: self.conjugate_gradient_steps.unwrap_or(40),
            step_tolerance: self.step_tolerance.unwrap_or(0.01),
        }
    }
}
