//! The request file: what its kind is, whose it is, and what it asks for.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    AlignmentSpec, Credentials, Depth, DepthMapSpec, Destination, Resources, Source, Violation,
};

/// API group of the custom resources.
pub const API_GROUP: &str = "voluba.ebrains.eu";
/// Group and version, as in the `apiVersion` of a request.
pub const API_VERSION: &str = "voluba.ebrains.eu/v1alpha1";
/// Kind of a request for an alignment.
pub const KIND: &str = "AlignmentRequest";
/// Kind of a request for a depth map alone.
pub const DEPTH_MAP_KIND: &str = "DepthMapRequest";

/// A whole request file: the same document that `kubectl apply` takes. `kind` says which `spec` it
/// has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestDocument<S = RequestSpec> {
    /// Must be [`API_VERSION`].
    pub api_version: String,
    /// Must be [`KIND`] or [`DEPTH_MAP_KIND`].
    pub kind: String,
    /// Name and namespace; other metadata is ignored.
    #[serde(default)]
    pub metadata: Metadata,
    /// What to do.
    pub spec: S,
}

impl<S: Into<RequestSpec>> RequestDocument<S> {
    /// The same document, its kind known at run time only.
    pub fn erase(self) -> RequestDocument {
        RequestDocument {
            api_version: self.api_version,
            kind: self.kind,
            metadata: self.metadata,
            spec: self.spec.into(),
        }
    }
}

impl RequestDocument {
    /// Reads a document; its kind says which fields its spec may have.
    ///
    /// # Errors
    /// The kind, if it is none of those that there are, or the first field that does not fit.
    pub fn read(value: &Value) -> Result<Self, Violation> {
        match value.get("kind").map(|kind| kind.as_str().ok_or(kind)) {
            Some(Ok(KIND)) => read_as::<AlignmentSpec>(value),
            Some(Ok(DEPTH_MAP_KIND)) => read_as::<DepthMapSpec>(value),
            Some(Ok(other)) => Err(unknown_kind(&format!("is `{other}`"))),
            Some(Err(other)) => Err(unknown_kind(&format!("is {other}"))),
            None => Err(unknown_kind("is missing")),
        }
    }
}

fn read_as<S>(value: &Value) -> Result<RequestDocument, Violation>
where
    S: DeserializeOwned + Into<RequestSpec>,
{
    let document: RequestDocument<S> =
        serde_path_to_error::deserialize(value).map_err(|error| Violation {
            field: error.path().to_string(),
            message: error.inner().to_string(),
        })?;
    Ok(document.erase())
}

/// What is wrong with a kind, as a violation.
pub(crate) fn unknown_kind(what: &str) -> Violation {
    Violation {
        field: "kind".to_owned(),
        message: format!("{what}, expected `{KIND}` or `{DEPTH_MAP_KIND}`"),
    }
}

/// The part of the Kubernetes metadata that the aligner uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Name of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Namespace of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Identity of the request in its cluster; names in an image service derive from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// What a request of either kind asks for. It is written as the spec alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RequestSpec {
    /// Of an `AlignmentRequest`.
    Alignment(Box<AlignmentSpec>),
    /// Of a `DepthMapRequest`.
    DepthMap(Box<DepthMapSpec>),
}

impl From<AlignmentSpec> for RequestSpec {
    fn from(spec: AlignmentSpec) -> Self {
        Self::Alignment(Box::new(spec))
    }
}

impl From<DepthMapSpec> for RequestSpec {
    fn from(spec: DepthMapSpec) -> Self {
        Self::DepthMap(Box::new(spec))
    }
}

impl RequestSpec {
    /// The kind of the requests that have it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Alignment(_) => KIND,
            Self::DepthMap(_) => DEPTH_MAP_KIND,
        }
    }

    /// The spec of an alignment.
    pub fn alignment(&self) -> Option<&AlignmentSpec> {
        match self {
            Self::Alignment(spec) => Some(spec),
            Self::DepthMap(_) => None,
        }
    }

    /// Every input with the path of its field: images, then what the depth comes from.
    pub fn sources(&self) -> Vec<(String, &Source)> {
        let spec = match self {
            Self::Alignment(spec) => spec,
            Self::DepthMap(spec) => {
                let field = "spec.segmentation.source".to_owned();
                return vec![(field, &spec.segmentation.source)];
            }
        };
        let images = spec.patch.images.iter().enumerate();
        let mut all: Vec<_> = images
            .map(|(index, image)| (format!("spec.patch.images[{index}].source"), &image.source))
            .collect();
        all.push(match &spec.patch.depth {
            Depth::Segmentation(segmentation) => (
                "spec.patch.depth.segmentation.source".to_owned(),
                &segmentation.source,
            ),
            Depth::Map { source } => ("spec.patch.depth.map.source".to_owned(), source),
        });
        all
    }

    /// Where the results go.
    pub fn destination(&self) -> &Destination {
        match self {
            Self::Alignment(spec) => &spec.output.destination,
            Self::DepthMap(spec) => &spec.output.destination,
        }
    }

    /// Who the request speaks for to its image service.
    pub fn credentials(&self) -> Option<&Credentials> {
        match self {
            Self::Alignment(spec) => spec.credentials.as_ref(),
            Self::DepthMap(spec) => spec.credentials.as_ref(),
        }
    }

    /// Memory and CPU of the pod, as far as the request says them.
    pub fn resources(&self) -> Option<&Resources> {
        match self {
            Self::Alignment(spec) => spec.resources.as_ref(),
            Self::DepthMap(spec) => spec.resources.as_ref(),
        }
    }

    /// The request fails after this many seconds.
    pub fn active_deadline_seconds(&self) -> i64 {
        match self {
            Self::Alignment(spec) => spec.active_deadline_seconds,
            Self::DepthMap(spec) => spec.active_deadline_seconds,
        }
    }

    /// The finished request's Job is removed after this many seconds.
    pub fn ttl_seconds_after_finished(&self) -> Option<i32> {
        match self {
            Self::Alignment(spec) => spec.ttl_seconds_after_finished,
            Self::DepthMap(spec) => spec.ttl_seconds_after_finished,
        }
    }

    /// While true, no pod runs.
    pub fn suspend(&self) -> bool {
        match self {
            Self::Alignment(spec) => spec.suspend,
            Self::DepthMap(spec) => spec.suspend,
        }
    }

    /// Whether the request is to end without a result.
    pub fn cancel(&self) -> bool {
        match self {
            Self::Alignment(spec) => spec.cancel,
            Self::DepthMap(spec) => spec.cancel,
        }
    }
}
