//! From a request to a [`ValidatedRequest`], or to everything that is wrong with it.
//!
//! The contract's own rules live in `alignment-api`; here come those that depend on the
//! installation: templates, limits, the size that fits a Job.

use std::collections::BTreeSet;

use alignment_api::{Destination, Origin, RequestDocument, Resources, Source, Violation, WebUrl};

use crate::crd::LONGEST_NAME;
use crate::quantity::{Cpu, Memory};
use crate::request::Request;
use crate::settings::{Settings, Template};

/// The request travels in an annotation, and those of an object have 256 KiB in all.
const LARGEST_DOCUMENT: usize = 240 * 1024;

/// A request with everything that a Job needs.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedRequest {
    /// The document for the aligner, as canonical JSON.
    pub document: String,
    /// The template to register to, for an alignment.
    pub template: Option<Template>,
    /// Every claim of the request, sorted by name.
    pub claims: Vec<Claim>,
    /// Memory of the first attempt.
    pub memory: Memory,
    /// CPU of the pod.
    pub cpu: Cpu,
    /// What the pod reaches beyond its volumes; none, if nothing.
    pub network: Option<Reached>,
}

/// What a pod reaches beyond its volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Origins on the public internet, sorted.
    pub origins: BTreeSet<Origin>,
    /// Origins that may have private addresses, sorted.
    pub private_origins: BTreeSet<Origin>,
    /// The Secret with the token.
    pub secret: Option<String>,
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
    request: &Request,
    settings: &Settings,
) -> Result<ValidatedRequest, Vec<Violation>> {
    let document = request.document();
    let mut found = Vec::new();
    check_name(&document, &mut found);
    found.extend(alignment_api::validate(&document));
    let template = check_template(&document, settings, &mut found);
    check_destination(&document, settings, &mut found);
    let network = check_origins(&document, settings, &mut found);
    let memory = check_memory(&document, settings, &mut found);
    let cpu = check_cpu(&document, settings, &mut found);
    let text = check_size(&document, &mut found);
    match (memory, cpu) {
        (Some(memory), Some(cpu)) if found.is_empty() => Ok(ValidatedRequest {
            document: text,
            template,
            claims: claims(&document),
            memory,
            cpu,
            network,
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
    let asked = document.spec.alignment()?.template.as_deref();
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
    if let Destination::Volume(folder) = document.spec.destination()
        && folder.claim_name == settings.static_data_claim
    {
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

/// Where the request goes beyond its volumes, as far as the installation allows it.
fn check_origins(
    document: &RequestDocument,
    settings: &Settings,
    found: &mut Vec<Violation>,
) -> Option<Reached> {
    let mut urls: Vec<(String, &str)> = Vec::new();
    for (field, source) in document.spec.sources() {
        match source {
            Source::Volume(_) => {}
            Source::Http(file) => urls.push((format!("{field}.http.url"), &file.url)),
            Source::ImageService(image) => {
                urls.push((format!("{field}.imageService.baseUrl"), &image.base_url));
            }
        }
    }
    if let Destination::ImageService(service) = document.spec.destination() {
        let field = "spec.output.destination.imageService.baseUrl".to_owned();
        urls.push((field, &service.base_url));
    }
    let credentials = document.spec.credentials();
    let mut reached = Reached {
        secret: credentials.map(|credentials| credentials.secret_name.clone()),
        ..Reached::default()
    };
    for (field, text) in &urls {
        // A malformed URL is reported by the contract's validation.
        let Ok(url) = WebUrl::parse(text) else {
            continue;
        };
        let origin = url.origin().clone();
        if settings.private_origins.contains(&origin) {
            reached.private_origins.insert(origin);
        } else if settings.origins.contains(&origin) {
            reached.origins.insert(origin);
        } else {
            add(found, field, refused_origin(&origin, settings));
        }
    }
    (!urls.is_empty()).then_some(reached)
}

fn refused_origin(origin: &Origin, settings: &Settings) -> String {
    let allowed = settings.origins.iter().chain(&settings.private_origins);
    let names: Vec<_> = allowed.map(ToString::to_string).collect();
    let names = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    format!("`{origin}` is not an allowed origin of this installation (allowed: {names})")
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
    document.spec.resources().cloned().unwrap_or_default()
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
    let destination = match document.spec.destination() {
        Destination::Volume(folder) => Some(folder.claim_name.as_str()),
        Destination::ImageService(_) => None,
    };
    let sources = document.spec.sources();
    let names: BTreeSet<&str> = sources
        .iter()
        .filter_map(|(_, source)| match source {
            Source::Volume(file) => Some(file.claim_name.as_str()),
            Source::ImageService(_) | Source::Http(_) => None,
        })
        .chain(destination)
        .collect();
    names
        .into_iter()
        .map(|name| Claim {
            name: name.to_owned(),
            writable: destination == Some(name),
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::crd::{AlignmentRequest, DepthMapRequest};
    use alignment_api::AlignmentSpec;

    /// The smallest valid request, as an API server would give it.
    pub(crate) fn request() -> Request {
        with(&[])
    }

    /// The same with the values at these JSON pointers replaced.
    pub(crate) fn with(changes: &[(&str, Value)]) -> Request {
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
        let request: AlignmentRequest = serde_json::from_value(document).unwrap();
        request.into()
    }

    /// The smallest valid request for a depth map, with the values at these JSON pointers replaced.
    pub(crate) fn depth_map(changes: &[(&str, Value)]) -> Request {
        let mut document = json!({
            "apiVersion": "voluba.ebrains.eu/v1alpha1", "kind": "DepthMapRequest",
            "metadata": {
                "name": "hoc1", "namespace": "alice", "generation": 1,
                "uid": "1a1b2c3d-0000-4000-8000-000000000000", "resourceVersion": "10",
            },
            "spec": {
                "segmentation": {"source": {"volume": {"claimName": "patches", "path": "s.nii.gz"}}},
                "output": {"destination": {"volume": {"claimName": "results", "path": "hoc1"}}},
            }
        });
        for (pointer, value) in changes {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            document.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        let request: DepthMapRequest = serde_json::from_value(document).unwrap();
        request.into()
    }

    #[test]
    fn a_depth_map_needs_no_template_and_obeys_the_installation_all_the_same() {
        let mut settings = Settings::with_image("i");
        let valid = validate(&depth_map(&[]), &settings).unwrap();
        assert_eq!(valid.template, None);
        assert!(valid.document.contains(r#""kind":"DepthMapRequest""#));
        settings.max_cpu = Some("4".parse().unwrap());
        let changes = [
            ("/spec/resources", json!({"cpu": "5"})),
            (
                "/spec/output/destination",
                json!({"volume": {"claimName": "voluba-static-data"}}),
            ),
        ];
        let found = describe(&validate(&depth_map(&changes), &settings).unwrap_err());
        for expected in ["spec.resources.cpu: is 5", "holds the templates"] {
            assert!(found.contains(expected), "{found}");
        }
    }

    fn violations(changes: &[(&str, Value)], settings: &Settings) -> String {
        describe(&validate(&with(changes), settings).unwrap_err())
    }

    #[test]
    fn a_valid_request_gets_the_defaults_of_the_installation() {
        let valid = validate(&request(), &Settings::with_image("i")).unwrap();
        assert_eq!(valid.template.unwrap().name, "bigbrain");
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
    fn what_lies_beyond_the_volumes_must_be_allowed() {
        let service =
            json!({"imageService": {"baseUrl": "https://images.example.org/c", "name": "a"}});
        let http =
            json!({"http": {"url": "http://data.voluba.svc/s.nii.gz", "sha256": "0".repeat(64)}});
        let changes = [
            ("/spec/patch/images/0/source", service),
            ("/spec/patch/depth/segmentation/source", http),
            ("/spec/credentials", json!({"secretName": "token"})),
        ];
        let mut settings = Settings::with_image("i");
        let found = violations(&changes, &settings);
        for expected in [
            "spec.patch.images[0].source.imageService.baseUrl: `https://images.example.org` is not an \
             allowed origin of this installation (allowed: none)",
            "spec.patch.depth.segmentation.source.http.url: `http://data.voluba.svc` is not",
        ] {
            assert!(found.contains(expected), "{found}");
        }
        let origin = |text| Origin::parse(text).unwrap();
        settings.origins = vec![
            origin("https://images.example.org"),
            origin("https://other.example.org"),
        ];
        settings.private_origins = vec![origin("http://data.voluba.svc")];
        let valid = validate(&with(&changes), &settings).unwrap();
        let network = valid.network.unwrap();
        // Only what the request names.
        assert_eq!(network.origins, [settings.origins[0].clone()].into());
        assert_eq!(
            network.private_origins,
            [settings.private_origins[0].clone()].into()
        );
        assert_eq!(network.secret.as_deref(), Some("token"));
        let claims: Vec<_> = valid.claims.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(claims, ["results"]);
        assert_eq!(validate(&request(), &settings).unwrap().network, None);
    }

    #[test]
    fn the_document_is_what_the_aligner_reads() {
        let valid = validate(&request(), &Settings::with_image("i")).unwrap();
        let document: RequestDocument<AlignmentSpec> =
            serde_json::from_str(&valid.document).unwrap();
        assert_eq!(document.metadata.name.as_deref(), Some("hoc1"));
        assert_eq!(Some(&document.spec), request().spec.alignment());
        assert_eq!(document.metadata.uid, request().metadata.uid);
        assert!(!valid.document.contains("resourceVersion"));
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
