//! From a request to a [`ValidatedRequest`], or to everything that is wrong with it.
//!
//! The contract's own rules live in `alignment-api`; here come those that depend on the
//! installation: templates, limits, the size that fits a Job.

use std::collections::BTreeSet;

use alignment_api::{Depth, Destination, RequestDocument, Resources, Source, Violation};

use crate::crd::{AlignmentRequest, LONGEST_NAME};
use crate::quantity::{Cpu, Memory};
use crate::settings::{Settings, Template};

/// The request travels in an annotation, and those of an object have 256 KiB in all.
const LARGEST_DOCUMENT: usize = 240 * 1024;

/// A request with everything that a Job needs.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedRequest {
    /// The document for the aligner, as canonical JSON.
    pub document: String,
    /// The template to register to.
    pub template: Template,
    /// Every claim of the request, sorted by name.
    pub claims: Vec<Claim>,
    /// Memory of the first attempt.
    pub memory: Memory,
    /// CPU of the pod.
    pub cpu: Cpu,
}

/// A claim that the pod mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// Whether results are written to it.
    pub writable: bool,
}

/// Checks a request against the contract and the installation.
///
/// # Errors
/// Every violation, in the order of the request's fields.
pub fn validate(
    request: &AlignmentRequest,
    settings: &Settings,
) -> Result<ValidatedRequest, Vec<Violation>> {
    let document = request.document();
    let mut found = Vec::new();
    check_name(&document, &mut found);
    found.extend(alignment_api::validate(&document));
    let template = check_template(&document, settings, &mut found);
    check_destination(&document, settings, &mut found);
    let memory = check_memory(&document, settings, &mut found);
    let cpu = check_cpu(&document, settings, &mut found);
    let text = check_size(&document, &mut found);
    match (template, memory, cpu) {
        (Some(template), Some(memory), Some(cpu)) if found.is_empty() => Ok(ValidatedRequest {
            document: text,
            template,
            claims: claims(&document),
            memory,
            cpu,
        }),
        _ => Err(found),
    }
}

/// All violations as one text.
pub fn describe(violations: &[Violation]) -> String {
    let sentences: Vec<_> = violations.iter().map(ToString::to_string).collect();
    sentences.join("; ")
}

fn add(found: &mut Vec<Violation>, field: &str, message: String) {
    found.push(Violation {
        field: field.to_owned(),
        message,
    });
}

fn check_name(document: &RequestDocument, found: &mut Vec<Violation>) {
    let length = document.metadata.name.as_deref().unwrap_or("").len();
    if length == 0 || length > LONGEST_NAME {
        add(
            found,
            "metadata.name",
            format!("has {length} characters, expected 1 to {LONGEST_NAME}"),
        );
    }
}

fn check_template(
    document: &RequestDocument,
    settings: &Settings,
    found: &mut Vec<Violation>,
) -> Option<Template> {
    let asked = document.spec.template.as_deref();
    let template = settings.templates.find(asked);
    if template.is_none() {
        let offered = settings.templates.names();
        let message = match asked {
            Some(name) => format!("`{name}` is not offered here (offered: {offered})"),
            None => format!("is missing, and there is no default (offered: {offered})"),
        };
        add(found, "spec.template", message);
    }
    template.cloned()
}

/// Results on the static-data claim could replace a template.
fn check_destination(document: &RequestDocument, settings: &Settings, found: &mut Vec<Violation>) {
    let Destination::Volume(folder) = &document.spec.output.destination;
    if folder.claim_name == settings.static_data_claim {
        add(
            found,
            "spec.output.destination.volume.claimName",
            format!(
                "`{}` holds the templates, which no request may change",
                folder.claim_name
            ),
        );
    }
}

fn check_memory(
    document: &RequestDocument,
    settings: &Settings,
    found: &mut Vec<Violation>,
) -> Option<Memory> {
    let asked = resources(document).memory;
    let memory = match &asked {
        // A malformed quantity is reported by the contract's validation.
        Some(text) => text.parse().ok()?,
        None => settings.default_memory,
    };
    if let Some(limit) = settings.max_memory.filter(|limit| memory > *limit) {
        let message = format!("is {memory}, this installation allows at most {limit}");
        add(found, "spec.resources.memory", message);
    }
    Some(memory)
}

fn check_cpu(
    document: &RequestDocument,
    settings: &Settings,
    found: &mut Vec<Violation>,
) -> Option<Cpu> {
    let asked = resources(document).cpu;
    let cpu = match &asked {
        Some(text) => text.parse().ok()?,
        None => settings.default_cpu,
    };
    if let Some(limit) = settings.max_cpu.filter(|limit| cpu > *limit) {
        let message = format!("is {cpu}, this installation allows at most {limit}");
        add(found, "spec.resources.cpu", message);
    }
    Some(cpu)
}

fn resources(document: &RequestDocument) -> Resources {
    document.spec.resources.clone().unwrap_or_default()
}

fn check_size(document: &RequestDocument, found: &mut Vec<Violation>) -> String {
    let text = serde_json::to_string(document).unwrap_or_else(|error| {
        add(found, "spec", format!("cannot be written as JSON: {error}"));
        String::new()
    });
    if text.len() > LARGEST_DOCUMENT {
        let message = format!(
            "has {} bytes, at most {LARGEST_DOCUMENT} fit a Job",
            text.len()
        );
        add(found, "spec", message);
    }
    text
}

fn claims(document: &RequestDocument) -> Vec<Claim> {
    let Destination::Volume(destination) = &document.spec.output.destination;
    let patch = &document.spec.patch;
    let depth = match &patch.depth {
        Depth::Segmentation(segmentation) => &segmentation.source,
        Depth::Map { source } => source,
    };
    let sources = patch.images.iter().map(|image| &image.source);
    let names: BTreeSet<&str> = sources
        .chain([depth])
        .map(|Source::Volume(file)| file.claim_name.as_str())
        .chain([destination.claim_name.as_str()])
        .collect();
    names
        .into_iter()
        .map(|name| Claim {
            name: name.to_owned(),
            writable: name == destination.claim_name,
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The smallest valid request, as an API server would give it.
    pub(crate) fn request() -> AlignmentRequest {
        with(&[])
    }

    /// The same with the values at these JSON pointers replaced.
    pub(crate) fn with(changes: &[(&str, Value)]) -> AlignmentRequest {
        let mut document = json!({
            "apiVersion": "voluba.ebrains.eu/v1alpha1", "kind": "AlignmentRequest",
            "metadata": {
                "name": "hoc1", "namespace": "alice", "generation": 1,
                "uid": "0a1b2c3d-0000-4000-8000-000000000000", "resourceVersion": "10",
            },
            "spec": {
                "patch": {
                    "images": [{"name": "a", "source": {"volume": {"claimName": "patches", "path": "a.nii.gz"}}}],
                    "depth": {"segmentation": {"source": {"volume": {"claimName": "patches", "path": "s.nii.gz"}}}},
                },
                "placement": {"matrix": [[1,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]},
                "output": {"destination": {"volume": {"claimName": "results", "path": "hoc1"}}},
            }
        });
        for (pointer, value) in changes {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            document.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        serde_json::from_value(document).unwrap()
    }

    fn violations(changes: &[(&str, Value)], settings: &Settings) -> String {
        describe(&validate(&with(changes), settings).unwrap_err())
    }

    #[test]
    fn a_valid_request_gets_the_defaults_of_the_installation() {
        let valid = validate(&request(), &Settings::with_image("i")).unwrap();
        assert_eq!(valid.template.name, "bigbrain");
        assert_eq!(valid.memory.to_string(), "4Gi");
        assert_eq!(valid.cpu.to_string(), "2");
        let claims: Vec<_> = valid
            .claims
            .iter()
            .map(|c| (c.name.as_str(), c.writable))
            .collect();
        assert_eq!(claims, [("patches", false), ("results", true)]);
    }

    #[test]
    fn the_document_is_what_the_aligner_reads() {
        let valid = validate(&request(), &Settings::with_image("i")).unwrap();
        let document: RequestDocument = serde_json::from_str(&valid.document).unwrap();
        assert_eq!(document.metadata.name.as_deref(), Some("hoc1"));
        assert_eq!(document.spec, request().spec.0);
        assert!(!valid.document.contains("uid"));
    }

    #[test]
    fn every_violation_is_reported_those_of_the_contract_and_those_of_the_installation() {
        let mut settings = Settings::with_image("i");
        settings.max_memory = Some("8Gi".parse().unwrap());
        settings.max_cpu = Some("4".parse().unwrap());
        let found = violations(
            &[
                ("/metadata/name", json!("x".repeat(53))),
                ("/spec/template", json!("mouse")),
                (
                    "/spec/placement/matrix",
                    json!([[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
                ),
                ("/spec/resources", json!({"memory": "9Gi", "cpu": "5"})),
                (
                    "/spec/output/destination",
                    json!({"volume": {"claimName": "voluba-static-data"}}),
                ),
            ],
            &settings,
        );
        for expected in [
            "metadata.name: has 53 characters",
            "spec.template: `mouse` is not offered here (offered: bigbrain)",
            "spec.placement.matrix: is singular",
            "spec.resources.memory: is 9Gi, this installation allows at most 8Gi",
            "spec.resources.cpu: is 5, this installation allows at most 4",
            "spec.output.destination.volume.claimName: `voluba-static-data` holds the templates",
        ] {
            assert!(found.contains(expected), "{expected}\n{found}");
        }
    }

    #[test]
    fn a_request_that_does_not_fit_a_job_is_refused() {
        let landmark =
            json!({"template": [1.5, 2.5, 3.5], "patch": [1.0, 2.0, 3.0], "name": "ä".repeat(100)});
        let landmarks: Vec<_> = (0..1000).map(|_| landmark.clone()).collect();
        let found = violations(
            &[("/spec/landmarks", json!(landmarks))],
            &Settings::with_image("i"),
        );
        assert!(found.starts_with("spec: has "), "{found}");
    }
}
