//! The request: what to align, where it lies, and where the result goes.
//!
//! Roles of points and matrices are named `patch` and `template`, never source and target.

use std::num::NonZero;

use serde::{Deserialize, Serialize};

use crate::RegistrationParameters;

/// What to align, and where the result goes. Immutable once created, `suspend`,
/// `cancel` and `ttlSecondsAfterFinished` excepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AlignmentSpec {
    /// Name of a template that the installation offers. Omitted: the installation's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            length(min = 1, max = 63),
            regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
        )
    )]
    pub template: Option<String>,
    /// The incoming data.
    pub patch: Patch,
    /// The linear placement of the patch in the template.
    pub placement: Placement,
    /// Point pairs that draw the registration; `registration.landmarkMode` says how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 1000)))]
    pub landmarks: Vec<Landmark>,
    /// Parameters of the registration.
    #[serde(default)]
    pub registration: RegistrationParameters,
    /// Where the results go, and which of them.
    pub output: Output,
    /// Who the request speaks for to its image service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// Memory and CPU of the pod. Only used in a cluster; omitted: the installation's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The alignment fails after this many seconds. Only used in a cluster.
    #[serde(default = "default_active_deadline_seconds")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 604_800)))]
    pub active_deadline_seconds: i64,
    /// The finished request's Job and pod are removed after this many seconds; the request and its
    /// status stay. Only used in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 31_536_000)))]
    pub ttl_seconds_after_finished: Option<i32>,
    /// While true, no pod runs. Only used in a cluster.
    #[serde(default)]
    pub suspend: bool,
    /// True ends the request: its Job is removed, and there will be no result. It cannot be taken
    /// back. Only used in a cluster.
    #[serde(default)]
    pub cancel: bool,
}

pub(crate) const fn default_active_deadline_seconds() -> i64 {
    21_600
}

/// The incoming data: images to transform, and the depth that drives the registration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Patch {
    /// Volumes that are resampled with the one transform; names are unique.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 16)))]
    pub images: Vec<PatchImage>,
    /// The patch's cortical depth, or the segmentation to compute it from.
    pub depth: Depth,
}

/// One volume to transform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchImage {
    /// Becomes part of the output's file name.
    #[cfg_attr(
        feature = "schema",
        schemars(
            length(min = 1, max = 100),
            regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
        )
    )]
    pub name: String,
    /// Where the volume lies.
    pub source: Source,
    /// How values between voxels are found. Omitted: `linear`.
    #[serde(default)]
    pub interpolation: Interpolation,
}

/// How values between voxels are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Interpolation {
    /// Trilinear.
    #[default]
    Linear,
    /// The nearest voxel's value.
    Nearest,
    /// For label images: the nearest voxel's value, never computed with.
    Label,
}

/// The patch's depth: exactly one of the two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Depth {
    /// Compute the equivolumetric depth from a segmentation.
    Segmentation(SegmentationSource),
    /// Use this map: 0 at the pial surface, 1 at the white matter.
    Map {
        /// Where the map lies.
        source: Source,
    },
}

/// A segmentation of the patch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SegmentationSource {
    /// Where the segmentation lies.
    pub source: Source,
    /// Which values mean what. Omitted: 0, 100, 200.
    #[serde(default)]
    pub labels: Labels,
}

/// Values of a segmentation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Labels {
    /// Outside of the brain.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    pub csf: Vec<i32>,
    /// Cortical grey matter.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    pub grey: Vec<i32>,
    /// White matter.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    pub white: Vec<i32>,
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            csf: vec![0],
            grey: vec![100],
            white: vec![200],
        }
    }
}

/// Where an input lies: exactly one of the kinds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Source {
    /// A file on a persistent volume claim of the request's namespace.
    Volume(VolumeFile),
    /// An image of an image service, fetched with the request's credentials.
    ImageService(ServiceImage),
    /// A file that a web server gives to everybody.
    Http(HttpFile),
}

/// An image of an image service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceImage {
    /// Where the service is, for example `https://images.example.org/chumni/`. Its origin must be
    /// one that the installation allows, and the same for all image services of a request.
    #[cfg_attr(feature = "schema", schemars(length(min = 8, max = 2048)))]
    pub base_url: String,
    /// Name of the image, as the service lists it: without `.nii` or `.nii.gz`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 255)))]
    pub name: String,
}

/// A file on a web server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpFile {
    /// Where the file is. Its origin must be one that the installation allows. No token is sent.
    #[cfg_attr(feature = "schema", schemars(length(min = 8, max = 2048)))]
    pub url: String,
    /// SHA-256 of the file, as lower-case hexadecimal digits: another file is refused.
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))
    )]
    pub sha256: String,
}

/// A file on a persistent volume claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeFile {
    /// Name of the claim. Without a cluster: a name that `--claim NAME=DIR` maps to a folder.
    #[cfg_attr(
        feature = "schema",
        schemars(
            length(min = 1, max = 253),
            regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
        )
    )]
    pub claim_name: String,
    /// File below the root of the claim; no `..`, not absolute.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 1024)))]
    pub path: String,
}

/// Where the outputs go: exactly one of the kinds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Destination {
    /// A folder on a persistent volume claim of the request's namespace; made if missing.
    Volume(VolumeFolder),
    /// An image service, which takes images and depth maps, nothing else.
    ImageService(ImageService),
}

/// An image service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageService {
    /// Where the service is, for example `https://images.example.org/chumni/`. Its origin must be
    /// one that the installation allows, and the same for all image services of a request.
    #[cfg_attr(feature = "schema", schemars(length(min = 8, max = 2048)))]
    pub base_url: String,
}

/// A folder on a persistent volume claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeFolder {
    /// Name of the claim. Without a cluster: a name that `--claim NAME=DIR` maps to a folder.
    #[cfg_attr(
        feature = "schema",
        schemars(
            length(min = 1, max = 253),
            regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
        )
    )]
    pub claim_name: String,
    /// Folder below the root of the claim; no `..`, not absolute. Omitted: the root.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 1024)))]
    pub path: String,
}

/// The linear placement of the patch in the template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Placement {
    /// Patch → template, millimetres, row-major; last row 0 0 0 1; the template side is the
    /// template's physical space (RAS).
    pub matrix: [[f64; 4]; 4],
    /// What the matrix and the landmarks mean by a position in the patch.
    #[serde(default)]
    pub space: Space,
}

/// Space of positions in the patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Space {
    /// What VoluBA sends: voxel index i covers [i, i+1) × voxel size, so that a voxel's centre
    /// lies at (i + ½) × voxel size.
    #[default]
    Viewer,
    /// What the old backend computed with: a voxel's centre lies at i × voxel size.
    ScaledVoxel,
    /// The physical space of the patch's NIfTI header (RAS): exported VoluBA files.
    Physical,
}

/// One pair of corresponding points, in mm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Landmark {
    /// Position in the template's physical space (RAS).
    pub template: [f64; 3],
    /// Position in the patch, in the space that `placement.space` names.
    pub patch: [f64; 3],
    /// For reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 100)))]
    pub name: Option<String>,
    /// Inactive pairs are reported, not used.
    #[serde(default = "yes")]
    pub active: bool,
    /// Weight relative to the other pairs. Hard landmarks are met whatever their weight.
    #[serde(default = "one")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0.001, max = 1000.0)))]
    pub weight: f64,
}

const fn yes() -> bool {
    true
}

const fn one() -> f64 {
    1.0
}

/// Where the results go, and which of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Output {
    /// Where the results go.
    pub destination: Destination,
    /// Grids onto which the images are resampled. Omitted: the patch's own.
    #[serde(default = "default_grids")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 2)))]
    pub grids: Vec<OutputGrid>,
    /// What to write. Omitted: everything but `thickness` and `layers`.
    #[serde(default = "default_artifacts")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 7)))]
    pub artifacts: Vec<OutputArtifact>,
    /// Number of `layers`.
    #[serde(default = "default_layer_count")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 255)))]
    pub layer_count: NonZero<u8>,
}

fn default_grids() -> Vec<OutputGrid> {
    vec![OutputGrid::Patch]
}

fn default_artifacts() -> Vec<OutputArtifact> {
    OutputArtifact::DEFAULT.to_vec()
}

pub(crate) const fn default_layer_count() -> NonZero<u8> {
    NonZero::<u8>::MIN.saturating_add(9)
}

/// Grid onto which images are resampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum OutputGrid {
    /// The patch's own grid: shown in the template with the placement matrix, unchanged.
    Patch,
    /// The template's grid, cropped to the patch.
    Template,
}

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum OutputArtifact {
    /// The transformed images.
    Images,
    /// The forward displacement field and the affine.
    Warp,
    /// The inverse displacement field.
    InverseWarp,
    /// The depth map and its validity.
    Depth,
    /// `report.json`.
    Report,
    /// The thickness of the cortex in mm; only for a segmentation.
    Thickness,
    /// Layers of equal volume, as many as `layerCount`; only for a segmentation.
    Layers,
}

impl OutputArtifact {
    /// What is written unless something else is asked for.
    pub const DEFAULT: [Self; 5] = [
        Self::Images,
        Self::Warp,
        Self::InverseWarp,
        Self::Depth,
        Self::Report,
    ];
}

/// Key of the Secret that holds the token; no other key of a Secret can be used.
pub const TOKEN_KEY: &str = "bearer-token";

/// Where the token for an image service lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credentials {
    /// A Secret of the request's namespace; its key `bearer-token` holds the token. Without a
    /// cluster, `--token-file` names the file.
    #[cfg_attr(
        feature = "schema",
        schemars(
            length(min = 1, max = 253),
            regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
        )
    )]
    pub secret_name: String,
}

/// Memory and CPU of the aligner pod, as Kubernetes quantities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// For example `4Gi`. Request and limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            length(max = 20),
            regex(pattern = r"^[1-9][0-9]*(Ki|Mi|Gi|Ti|k|M|G|T)?$")
        )
    )]
    pub memory: Option<String>,
    /// For example `2` or `1500m`. Request and limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(length(max = 20), regex(pattern = r"^[1-9][0-9]*m?$"))
    )]
    pub cpu: Option<String>,
}
