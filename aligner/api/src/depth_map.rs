//! The request for a depth map alone: from a segmentation, without a template.

use std::num::NonZero;

use serde::{Deserialize, Serialize};

use crate::request::{default_active_deadline_seconds, default_layer_count};
use crate::{Credentials, Destination, OutputArtifact, Resources, SegmentationSource};

/// What to compute the equivolumetric depth of, and where it goes. Immutable once created, `suspend`,
/// `cancel` and `ttlSecondsAfterFinished` excepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DepthMapSpec {
    /// The segmentation of the patch.
    pub segmentation: SegmentationSource,
    /// Where the results go, and which of them.
    pub output: DepthMapOutput,
    /// Who the request speaks for to its image service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// Memory and CPU of the pod. Only used in a cluster; omitted: the installation's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The computation fails after this many seconds. Only used in a cluster.
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

/// Where the results go, and which of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DepthMapOutput {
    /// Where the results go.
    pub destination: Destination,
    /// What to write. Omitted: `depth` and `report`.
    #[serde(default = "default_artifacts")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 4)))]
    pub artifacts: Vec<DepthMapArtifact>,
    /// Number of `layers`.
    #[serde(default = "default_layer_count")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 255)))]
    pub layer_count: NonZero<u8>,
}

fn default_artifacts() -> Vec<DepthMapArtifact> {
    vec![DepthMapArtifact::Depth, DepthMapArtifact::Report]
}

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum DepthMapArtifact {
    /// The depth map and its validity.
    Depth,
    /// The thickness of the cortex in mm.
    Thickness,
    /// Layers of equal volume, as many as `layerCount`.
    Layers,
    /// `report.json` and `report.html`.
    Report,
}

impl From<DepthMapArtifact> for OutputArtifact {
    fn from(artifact: DepthMapArtifact) -> Self {
        match artifact {
            DepthMapArtifact::Depth => Self::Depth,
            DepthMapArtifact::Thickness => Self::Thickness,
            DepthMapArtifact::Layers => Self::Layers,
            DepthMapArtifact::Report => Self::Report,
        }
    }
}
