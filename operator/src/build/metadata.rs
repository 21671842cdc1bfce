//! Names, labels, annotations and the owner of what the operator makes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

use super::Attempt;
use crate::quantity::Memory;
use crate::request::{Kind, Request};

/// Field manager, and value of the label that the operator selects by.
pub const MANAGER: &str = "voluba-align-operator";
/// Name of the program in the pod.
pub const ALIGNER: &str = "voluba-aligner";
/// The system that all parts belong to.
pub const PART_OF: &str = "voluba-align";
/// Label that carries [`MANAGER`].
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// On Jobs, pods and pictures: label with the request's name. On pod templates: annotation with the request.
pub const REQUEST: &str = "voluba.ebrains.eu/request";
/// On Jobs, pods and pictures: label with the request's kind. Those of earlier versions lack it, and belong to
/// alignments.
pub const KIND: &str = "voluba.ebrains.eu/kind";
/// Annotation on Jobs: the memory is not the request's own, an earlier attempt had too little.
pub const RIGHT_SIZED: &str = "voluba.ebrains.eu/right-sized";
/// Annotation on Jobs: memory limit in bytes.
pub const MEMORY: &str = "voluba.ebrains.eu/memory";
/// Label by which Kueue takes charge of a Job.
pub const QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// Longest name of a Job: it becomes a label of its pods.
const LONGEST_JOB_NAME: usize = 63;

/// Name of the Job of an attempt: the request's name, cut, made unique by the request's uid.
pub fn job_name(request: &Request, attempt: i32) -> String {
    let uid: String = request.uid().unwrap_or_default().chars().take(8).collect();
    let suffix = format!("-{uid}-{attempt}");
    // Pods get their host name from the Job's name, where a dot is not welcome.
    let stem: String = request
        .name_any()
        .replace('.', "-")
        .chars()
        .take(LONGEST_JOB_NAME - suffix.len())
        .collect();
    format!("{}{suffix}", stem.trim_end_matches('-'))
}

/// The queue that the request was put into, if Kueue is to decide when the Job runs.
pub fn queue(request: &Request) -> Option<&String> {
    request.labels().get(QUEUE)
}

/// Selects the Jobs and pods of the requests of a kind.
pub fn selector(kind: Kind) -> String {
    let ours = format!("{MANAGED_BY_LABEL}={MANAGER}");
    match kind {
        Kind::Alignment => format!("{ours},{KIND} notin ({})", Kind::DepthMap.name()),
        Kind::DepthMap => format!("{ours},{KIND}={}", kind.name()),
    }
}

/// Labels that Jobs, pods and pictures share.
pub fn labels(request: &Request) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), ALIGNER.to_owned()),
        (MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned()),
        ("app.kubernetes.io/part-of".to_owned(), PART_OF.to_owned()),
        (REQUEST.to_owned(), request.name_any()),
        (KIND.to_owned(), request.kind().name().to_owned()),
    ])
}

/// Metadata of the Job of an attempt.
pub fn job_metadata(request: &Request, attempt: Attempt, memory: Memory) -> ObjectMeta {
    let mut labels = labels(request);
    if let Some(queue) = queue(request) {
        labels.insert(QUEUE.to_owned(), queue.clone());
    }
    let mut annotations = BTreeMap::from([(MEMORY.to_owned(), memory.bytes().to_string())]);
    if attempt.right_sized.is_some() {
        annotations.insert(RIGHT_SIZED.to_owned(), "true".to_owned());
    }
    ObjectMeta {
        name: Some(job_name(request, attempt.number)),
        namespace: request.namespace(),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: Some(vec![owner(request)]),
        ..ObjectMeta::default()
    }
}

/// Name of the ConfigMap with the pictures of a request's result.
pub fn pictures_name(request: &str) -> String {
    format!("voluba-pictures-{request}")
}

/// Metadata of the ConfigMap with the pictures of a request's result.
pub fn pictures_metadata(request: &Request) -> ObjectMeta {
    ObjectMeta {
        name: Some(pictures_name(&request.name_any())),
        namespace: request.namespace(),
        labels: Some(labels(request)),
        owner_references: Some(vec![owner(request)]),
        ..ObjectMeta::default()
    }
}

/// The request as owner. It does not block its own deletion: that would need a further permission
/// on OpenShift, for a guarantee that nobody asks for.
fn owner(request: &Request) -> OwnerReference {
    OwnerReference {
        api_version: Request::api_version(&request.kind()).into_owned(),
        kind: request.kind().name().to_owned(),
        name: request.name_any(),
        uid: request.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validate::tests::with;

    #[test]
    fn names_of_jobs_fit_a_label_and_tell_attempts_and_requests_apart() {
        for (name, attempt, expected) in [
            ("hoc1", 1, "hoc1-0a1b2c3d-1"),
            ("hoc1.nmda", 2, "hoc1-nmda-0a1b2c3d-2"),
        ] {
            let request = with(&[("/metadata/name", json!(name))]);
            assert_eq!(job_name(&request, attempt), expected);
        }
        let long = with(&[("/metadata/name", json!("x".repeat(52)))]);
        assert_eq!(job_name(&long, 1).len(), 63);
        assert_eq!(job_name(&long, 10).len(), 63);
    }

    #[test]
    fn the_queue_is_on_the_job_and_not_on_its_pods() {
        let request = with(&[("/metadata/labels", json!({QUEUE: "team", "other": "x"}))]);
        let metadata = job_metadata(&request, Attempt::FIRST, Memory::from_bytes(1));
        assert_eq!(metadata.labels.as_ref().unwrap()[QUEUE], "team");
        assert!(!metadata.labels.unwrap().contains_key("other"));
        assert!(!labels(&request).contains_key(QUEUE));
    }
}
