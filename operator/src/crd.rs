//! The custom resources: their Rust types and the definitions that an API server stores.
//!
//! The specs are the contract's; only the status, which both share, is defined here. What Rust types
//! cannot express (rules, bounds of strings) is added in [`schema`].

pub mod schema;

use std::ops::Deref;

use alignment_api::{AlignmentSpec, DepthMapSpec, Destination, ResultSummary, Stage};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use schema::{definition, definitions};

/// Longest name of a request: the names of its Jobs derive from it.
pub const LONGEST_NAME: usize = 52;

/// What to align, and where the result goes. Immutable once created, `suspend`,
/// `cancel` and `ttlSecondsAfterFinished` excepted.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[kube(
    group = "voluba.ebrains.eu",
    version = "v1alpha1",
    kind = "AlignmentRequest",
    plural = "alignmentrequests",
    singular = "alignmentrequest",
    shortname = "align",
    category = "voluba",
    namespaced,
    status = "RequestStatus",
    derive = "PartialEq",
    doc = "One non-linear alignment of a patch to a template, run as a Job.",
    printcolumn = r#"{"name": "Phase", "type": "string", "jsonPath": ".status.phase"}"#,
    printcolumn = r#"{"name": "Progress", "type": "integer", "jsonPath": ".status.progress.percent"}"#,
    printcolumn = r#"{"name": "Stage", "type": "string", "jsonPath": ".status.progress.stage"}"#,
    printcolumn = r#"{"name": "Template", "type": "string", "jsonPath": ".spec.template"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "Job", "type": "string", "jsonPath": ".status.jobName", "priority": 1}"#,
    printcolumn = r#"{"name": "Quality", "type": "number", "jsonPath": ".status.result.quality.depthResidualAfter", "priority": 1}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Progressing\")].reason", "priority": 1}"#
)]
pub struct AlignmentRequestSpec(pub AlignmentSpec);

impl Deref for AlignmentRequestSpec {
    type Target = AlignmentSpec;

    fn deref(&self) -> &AlignmentSpec {
        &self.0
    }
}

/// What to compute the equivolumetric depth of, and where it goes. Immutable once created, `suspend`,
/// `cancel` and `ttlSecondsAfterFinished` excepted.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[kube(
    group = "voluba.ebrains.eu",
    version = "v1alpha1",
    kind = "DepthMapRequest",
    plural = "depthmaprequests",
    singular = "depthmaprequest",
    shortname = "depthmap",
    category = "voluba",
    namespaced,
    status = "RequestStatus",
    derive = "PartialEq",
    doc = "One computation of the equivolumetric depth of a patch, run as a Job.",
    printcolumn = r#"{"name": "Phase", "type": "string", "jsonPath": ".status.phase"}"#,
    printcolumn = r#"{"name": "Progress", "type": "integer", "jsonPath": ".status.progress.percent"}"#,
    printcolumn = r#"{"name": "Stage", "type": "string", "jsonPath": ".status.progress.stage"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "Job", "type": "string", "jsonPath": ".status.jobName", "priority": 1}"#,
    printcolumn = r#"{"name": "Thickness", "type": "number", "jsonPath": ".status.result.depth.medianThicknessMm", "priority": 1}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Progressing\")].reason", "priority": 1}"#
)]
pub struct DepthMapRequestSpec(pub DepthMapSpec);

impl Deref for DepthMapRequestSpec {
    type Target = DepthMapSpec;

    fn deref(&self) -> &DepthMapSpec {
        &self.0
    }
}

/// Where the request stands, in one word; derived from the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Accepted; no pod computes yet.
    Pending,
    /// The pod computes.
    Running,
    /// The result is written.
    Succeeded,
    /// There will be no result.
    Failed,
    /// Held back by `suspend` or by a queue.
    Suspended,
    /// Ended by `cancel`; there will be no result, and no pod computes any more.
    Cancelled,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Suspended,
        Self::Cancelled,
    ];

    /// Whether the request has ended.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Suspended => "Suspended",
            Self::Cancelled => "Cancelled",
        }
    }
}

/// What the operator has observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestStatus {
    /// Generation of the spec that this status belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pending, Running, Succeeded, Failed, Suspended or Cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Accepted, Progressing, Complete, Failed, Cancelled, Suspended, StaticDataReady.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// The Job of the newest attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub job_name: Option<String>,
    /// Jobs made for this request so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub attempts: Option<i32>,
    /// When the first Job started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the request ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// How far the aligner is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressStatus>,
    /// The result, after success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<AlignmentResult>,
    /// Why there is no result, after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// How far the aligner is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProgressStatus {
    /// Stage that runs.
    pub stage: Stage,
    /// Share of the whole run that is done, 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    pub percent: i32,
    /// Pyramid level of the registration, 0 = coarsest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 15))]
    pub level: Option<i32>,
    /// Iteration within the level, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub iteration: Option<i32>,
    /// Root mean square difference of depth over the cortex; smaller is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<f64>,
    /// Estimated seconds until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub eta_seconds: Option<i64>,
}

/// The result: figures, files, and where they lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlignmentResult {
    /// What the aligner reported; absent if its report was lost.
    #[serde(flatten)]
    pub summary: Option<ResultSummary>,
    /// Where the files are.
    pub location: ResultLocation,
    /// The linear placement of an alignment, as requested: patch → template, mm, row-major.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transformation_matrix: Option<[[f64; 4]; 4]>,
}

/// A folder on a claim of the request's namespace, or an image service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResultLocation {
    /// Name of the persistent volume claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub claim_name: Option<String>,
    /// Folder below the root of the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub path: Option<String>,
    /// Base URL of the image service; the artifacts' names are those that it lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub base_url: Option<String>,
}

impl From<&Destination> for ResultLocation {
    fn from(destination: &Destination) -> Self {
        match destination {
            Destination::Volume(folder) => Self {
                claim_name: Some(folder.claim_name.clone()),
                path: Some(folder.path.clone()),
                base_url: None,
            },
            Destination::ImageService(service) => Self {
                base_url: Some(service.base_url.clone()),
                ..Self::default()
            },
        }
    }
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// CamelCase word for programs.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Sentence for people.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// Exit code of the aligner, if it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Whether the same request may succeed at another time.
    pub retryable: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_phases_are_those_on_the_wire() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::json!(phase), phase.name());
        }
    }
}
