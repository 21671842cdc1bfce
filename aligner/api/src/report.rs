//! The result of an alignment: the full report and its compact form for the operator.
//!
//! A report holds no times, host names or absolute paths: the same request on the same data gives
//! the same bytes on a laptop and in a pod.

use serde::{Deserialize, Serialize};

use crate::{EffectiveRegistration, ExitCode, Labels, Placement};

/// Value of [`Report::schema`].
pub const REPORT_SCHEMA: &str = "voluba.ebrains.eu/report/v1";
/// Value of [`DepthMapReport::schema`].
pub const DEPTH_MAP_REPORT_SCHEMA: &str = "voluba.ebrains.eu/depth-map-report/v1";
/// Value of [`TerminationMessage::schema`].
pub const TERMINATION_SCHEMA: &str = "voluba.ebrains.eu/termination/v1";
/// Kubernetes keeps this many bytes of a termination message.
pub const TERMINATION_MESSAGE_LIMIT: usize = 4096;

/// `report.json`: what was done, with which data and parameters, and how good it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Always [`REPORT_SCHEMA`].
    pub schema: String,
    /// Version of the aligner.
    pub aligner_version: String,
    /// Name of the request, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The command that gives this result again; words in capitals stand for places.
    #[serde(default)]
    pub command: String,
    /// Name of the template.
    pub template: String,
    /// Every file that was read, with its digest.
    pub inputs: Vec<InputFile>,
    /// Placement as requested.
    pub placement: Placement,
    /// Patch physical space (RAS, mm) → template physical space (RAS, mm): the affine part.
    pub patch_to_template: [[f64; 4]; 4],
    /// How the patch's depth was obtained.
    pub depth: DepthReport,
    /// Parameters that were in force.
    pub registration: EffectiveRegistration,
    /// One entry per pyramid level.
    pub levels: Vec<LevelReport>,
    /// Quality figures.
    pub quality: Quality,
    /// Each landmark before and after.
    pub landmarks: Vec<LandmarkResidual>,
    /// Files that were written, the report itself left out.
    pub artifacts: Vec<Artifact>,
    /// What a person should know, in plain words.
    pub warnings: Vec<String>,
    /// A Neuroglancer view of the result in the template, if an image service shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewer_url: Option<String>,
}

/// `report.json` of a depth map alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DepthMapReport {
    /// Always [`DEPTH_MAP_REPORT_SCHEMA`].
    pub schema: String,
    /// Version of the aligner.
    pub aligner_version: String,
    /// Name of the request, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The command that gives this result again; words in capitals stand for places.
    #[serde(default)]
    pub command: String,
    /// Every file that was read, with its digest.
    pub inputs: Vec<InputFile>,
    /// Which values of the segmentation were taken for what.
    pub labels: Labels,
    /// What was found of the cortex.
    pub depth: DepthReport,
    /// Files that were written, the report itself left out.
    pub artifacts: Vec<Artifact>,
    /// What a person should know, in plain words.
    pub warnings: Vec<String>,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InputFile {
    /// What it was used for: `image:NAME`, `segmentation`, `depthMap`, `template`.
    pub role: String,
    /// File name without folder.
    pub name: String,
    /// SHA-256 of the file as stored, lower-case hexadecimal.
    pub sha256: String,
    /// Grid size in voxels.
    pub shape: [usize; 3],
    /// Voxel size in mm.
    pub voxel_size_mm: [f64; 3],
}

/// Where the patch's depth came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum DepthSource {
    /// Computed from a segmentation.
    Segmentation,
    /// Given as a map.
    Map,
}

/// How the patch's depth was obtained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DepthReport {
    /// Origin of the depth.
    pub source: DepthSource,
    /// Voxels with a depth strictly between 0 and 1.
    #[cfg_attr(feature = "schema", schemars(range(min = 0)))]
    pub cortex_voxels: usize,
    /// Mean validity over those voxels, 0 to 1; 1 for a given map.
    pub mean_validity: f64,
    /// Median thickness of the cortex in mm, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_thickness_mm: Option<f64>,
}

/// What happened on one pyramid level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LevelReport {
    /// Shrink factor of the level.
    pub shrink_factor: u32,
    /// Root mean square depth difference before each iteration.
    pub residuals: Vec<f64>,
    /// Root mean square step of each iteration in mm.
    pub steps_mm: Vec<f64>,
}

/// Quality figures of a result. Fields are absent where they do not apply.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Quality {
    /// Root mean square depth difference over the cortex after the linear placement alone.
    pub depth_residual_before: f64,
    /// The same after the non-linear registration.
    pub depth_residual_after: f64,
    /// Share of the patch's cortex that lies inside the template, 0 to 1.
    pub overlap: f64,
    /// Smallest Jacobian determinant of the forward field over all cell corners.
    pub jacobian_min: f64,
    /// Largest Jacobian determinant of the forward field over all cell corners.
    pub jacobian_max: f64,
    /// Cells of the forward field with a corner determinant ≤ 0.
    pub folded_cells: u64,
    /// Smallest Jacobian determinant of the inverse field over all cell corners.
    pub inverse_jacobian_min: f64,
    /// Cells of the inverse field with a corner determinant ≤ 0.
    pub inverse_folded_cells: u64,
    /// Mean of |x − forward(inverse(x))| in mm.
    pub inverse_consistency_mean_mm: f64,
    /// Maximum of |x − forward(inverse(x))| in mm.
    pub inverse_consistency_max_mm: f64,
    /// Mean displacement over the cortex in mm.
    pub displacement_mean_mm: f64,
    /// Largest displacement over the whole patch in mm.
    pub displacement_max_mm: f64,
    /// Mean residual of the active landmarks before, in mm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landmark_mean_before_mm: Option<f64>,
    /// Mean residual of the active landmarks after, in mm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landmark_mean_after_mm: Option<f64>,
}

/// One landmark pair, before and after the registration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LandmarkResidual {
    /// Name, or the position in the request (from 1).
    pub name: String,
    /// Whether the pair took part.
    pub active: bool,
    /// Distance in template space after the linear placement, in mm.
    pub before_mm: f64,
    /// Distance in template space after the registration, in mm.
    pub after_mm: f64,
    /// The request's weight times the share of it that was left in the end: less than the
    /// request's for a soft pair that stays far off. Absent for pairs that took no part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_weight: Option<f64>,
}

/// What a written file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum ArtifactKind {
    /// A resampled image.
    Image,
    /// Forward displacement field.
    Warp,
    /// Inverse displacement field.
    InverseWarp,
    /// Affine part, ITK text.
    Affine,
    /// Depth map of the patch.
    Depth,
    /// Validity of the depth map.
    Validity,
    /// `report.json`.
    Report,
    /// `report.html`: the report with pictures.
    Page,
    /// `preview.png`: the patch with the lines of both depths, in three planes.
    Preview,
    /// Thickness of the cortex.
    Thickness,
    /// Layers of equal volume.
    Layers,
}

/// A written file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// File name.
    #[cfg_attr(feature = "schema", schemars(length(max = 255)))]
    pub name: String,
    /// What the file is.
    pub kind: ArtifactKind,
    /// SHA-256 of the file, lower-case hexadecimal.
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub sha256: String,
    /// Size in bytes.
    #[cfg_attr(feature = "schema", schemars(range(min = 0)))]
    pub bytes: u64,
    /// Where Neuroglancer finds it, if an image service shows it: `precomputed://…`.
    #[cfg_attr(feature = "schema", schemars(length(max = 1024)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neuroglancer_url: Option<String>,
}

/// Result in the compact form that fits a termination message and the status of the resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ResultSummary {
    /// Quality figures of an alignment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// What was found of the cortex, for a depth map alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<DepthReport>,
    /// Files written, as many as fit.
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub artifacts: Vec<Artifact>,
    /// Warnings, as many as fit.
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    #[serde(default)]
    pub warnings: Vec<String>,
    /// A Neuroglancer view of the result in the template, if an image service shows it.
    #[cfg_attr(feature = "schema", schemars(length(max = 2048)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewer_url: Option<String>,
}

/// What a pod leaves behind for the operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminationMessage {
    /// Always [`TERMINATION_SCHEMA`].
    pub schema: String,
    /// How the process ended.
    pub outcome: ExitCode,
    /// One sentence for a person; empty after success.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Memory that the run needs, in bytes; set with `InsufficientMemory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_memory_bytes: Option<u64>,
    /// The result, after success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultSummary>,
}
