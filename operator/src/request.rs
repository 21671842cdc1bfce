//! A request of either kind, as the reconcile sees it.
//!
//! Clients know two resources, [`crate::crd::AlignmentRequest`] and
//! [`crate::crd::DepthMapRequest`]. What is observed, decided and written is the same for both, so
//! everything behind the watch handles this one type, whose kind is a value.

use std::borrow::Cow;

use alignment_api::{
    API_GROUP, API_VERSION, AlignmentSpec, DEPTH_MAP_KIND, DepthMapSpec, KIND, Metadata,
    RequestDocument, RequestSpec,
};
use kube::api::{ApiResource, DynamicObject, ObjectMeta};
use kube::{Resource, ResourceExt};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::crd::{AlignmentRequest, DepthMapRequest, Phase, RequestStatus};

/// Version of the API group.
const VERSION: &str = "v1alpha1";

/// Kind of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `AlignmentRequest`.
    #[default]
    Alignment,
    /// `DepthMapRequest`.
    DepthMap,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Alignment, Self::DepthMap];

    /// The kind of the requests that have such a spec.
    pub const fn of(spec: &RequestSpec) -> Self {
        match spec {
            RequestSpec::Alignment(_) => Self::Alignment,
            RequestSpec::DepthMap(_) => Self::DepthMap,
        }
    }

    /// The name of the kind.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alignment => KIND,
            Self::DepthMap => DEPTH_MAP_KIND,
        }
    }

    /// The name of the resource in paths and rules.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Alignment => "alignmentrequests",
            Self::DepthMap => "depthmaprequests",
        }
    }

    /// The resource, for requests whose type is known at run time only.
    pub fn resource(self) -> ApiResource {
        ApiResource::erase::<Request>(&self)
    }
}

/// A request: its metadata, what it asks for, and what has been observed.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Metadata of the resource.
    pub metadata: ObjectMeta,
    /// What it asks for; its variant is the kind.
    pub spec: RequestSpec,
    /// What has been observed.
    pub status: Option<RequestStatus>,
}

impl Request {
    /// Reads a request of this kind.
    ///
    /// # Errors
    /// What of the object is not understood.
    pub fn read(object: DynamicObject, kind: Kind) -> serde_json::Result<Self> {
        let DynamicObject { metadata, data, .. } = object;
        let spec = data.get("spec").unwrap_or(&Value::Null);
        let spec = match kind {
            Kind::Alignment => AlignmentSpec::deserialize(spec)?.into(),
            Kind::DepthMap => DepthMapSpec::deserialize(spec)?.into(),
        };
        let status = match data.get("status") {
            Some(status) => Option::deserialize(status)?,
            None => None,
        };
        Ok(Self {
            metadata,
            spec,
            status,
        })
    }

    /// Its kind.
    pub const fn kind(&self) -> Kind {
        Kind::of(&self.spec)
    }

    /// The document that the aligner reads: the spec, the name, the namespace and the uid.
    pub fn document(&self) -> RequestDocument {
        RequestDocument {
            api_version: API_VERSION.to_owned(),
            kind: self.kind().name().to_owned(),
            metadata: Metadata {
                name: Some(self.name_any()),
                namespace: self.namespace(),
                uid: self.uid(),
            },
            spec: self.spec.clone(),
        }
    }

    /// Phase as last written; nothing before the first write.
    pub fn phase(&self) -> Option<Phase> {
        self.status.as_ref().and_then(|status| status.phase)
    }

    /// Whether the status holds the end of the request. Such a status never changes again.
    pub fn is_finished(&self) -> bool {
        self.phase().is_some_and(Phase::is_final)
    }
}

impl<'de> Deserialize<'de> for Request {
    /// Of an object that says its kind.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = DynamicObject::deserialize(deserializer)?;
        let named = object.types.as_ref().map(|types| types.kind.as_str());
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| named == Some(kind.name()));
        let kind = kind.ok_or_else(|| D::Error::custom(format!("kind {named:?} is no request")))?;
        Self::read(object, kind).map_err(D::Error::custom)
    }
}

impl From<AlignmentRequest> for Request {
    fn from(request: AlignmentRequest) -> Self {
        Self {
            metadata: request.metadata,
            spec: request.spec.0.into(),
            status: request.status,
        }
    }
}

impl From<DepthMapRequest> for Request {
    fn from(request: DepthMapRequest) -> Self {
        Self {
            metadata: request.metadata,
            spec: request.spec.0.into(),
            status: request.status,
        }
    }
}

impl Resource for Request {
    type DynamicType = Kind;
    type Scope = kube::core::NamespaceResourceScope;

    fn kind(kind: &Kind) -> Cow<'_, str> {
        kind.name().into()
    }

    fn group(_: &Kind) -> Cow<'_, str> {
        API_GROUP.into()
    }

    fn version(_: &Kind) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural(kind: &Kind) -> Cow<'_, str> {
        kind.plural().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_what_their_definitions_say() {
        for kind in Kind::ALL {
            let resource = kind.resource();
            let expected = match kind {
                Kind::Alignment => ApiResource::erase::<AlignmentRequest>(&()),
                Kind::DepthMap => ApiResource::erase::<DepthMapRequest>(&()),
            };
            assert_eq!(resource, expected);
            assert_eq!(resource.api_version, API_VERSION);
        }
    }

    #[test]
    fn a_request_that_is_not_understood_is_told_by_its_field() {
        let object: DynamicObject =
            serde_json::from_value(serde_json::json!({"metadata": {"name": "a"}, "spec": {}}))
                .unwrap();
        let error = Request::read(object, Kind::DepthMap).unwrap_err();
        assert!(error.to_string().contains("segmentation"), "{error}");
    }
}
