//! The pod: one container without any privilege, its volumes, its arguments.

use std::collections::BTreeMap;

use alignment_api::TOKEN_KEY;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, DownwardAPIVolumeFile, DownwardAPIVolumeSource,
    EmptyDirVolumeSource, KeyToPath, LocalObjectReference, ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec,
    ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::metadata;
use crate::quantity::Memory;
use crate::request::Request;
use crate::settings::{Authorities, Settings};
use crate::validate::ValidatedRequest;

/// Name of the container.
pub const CONTAINER: &str = "aligner";
const REQUEST_FOLDER: &str = "/request";
const REQUEST_FILE: &str = "request.json";
const STATIC_DATA: &str = "/static-data";
const SCRATCH: &str = "/tmp";
/// Results are written next to their final names, so scratch space stays nearly empty, unless
/// volumes are downloaded to it or uploaded from it.
const SCRATCH_LIMIT: Memory = Memory::from_bytes(1 << 30);
const CREDENTIALS: &str = "/credentials";
const AUTHORITIES_FOLDER: &str = "/authorities";
const AUTHORITIES_FILE: &str = "ca-bundle.crt";
/// For the owner, which is root, and for group 0, which the container's user is in.
const TOKEN_MODE: i32 = 0o440;
const TERMINATION_MESSAGE: &str = "/dev/termination-log";
/// Time for the aligner to end by itself after SIGTERM.
const GRACE_PERIOD_SECONDS: i64 = 30;

/// The pod template of a request.
pub fn template(
    request: &Request,
    valid: &ValidatedRequest,
    memory: Memory,
    settings: &Settings,
) -> PodTemplateSpec {
    let annotations = [(metadata::REQUEST.to_owned(), valid.document.clone())];
    let (volumes, mounts) = volumes(valid, settings);
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(metadata::labels(request)),
            annotations: Some(BTreeMap::from(annotations)),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            containers: vec![container(valid, memory, mounts, settings)],
            enable_service_links: Some(false),
            image_pull_secrets: pull_secrets(settings),
            restart_policy: Some("Never".to_owned()),
            security_context: Some(pod_security()),
            service_account_name: settings.aligner_service_account.clone(),
            termination_grace_period_seconds: Some(GRACE_PERIOD_SECONDS),
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
    }
}

fn container(
    valid: &ValidatedRequest,
    memory: Memory,
    mounts: Vec<VolumeMount>,
    settings: &Settings,
) -> Container {
    Container {
        name: CONTAINER.to_owned(),
        image: Some(settings.aligner_image.clone()),
        image_pull_policy: settings.aligner_image_pull_policy.clone(),
        args: Some(arguments(valid, settings)),
        resources: Some(resources(valid, memory)),
        security_context: Some(container_security()),
        termination_message_path: Some(TERMINATION_MESSAGE.to_owned()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn arguments(valid: &ValidatedRequest, settings: &Settings) -> Vec<String> {
    let mut arguments = vec!["run".to_owned(), format!("{REQUEST_FOLDER}/{REQUEST_FILE}")];
    for claim in &valid.claims {
        arguments.push("--claim".to_owned());
        arguments.push(format!("{}={}", claim.name, claim_folder(&claim.name)));
    }
    if let Some(network) = &valid.network {
        let half = settings.scratch_limit.bytes() / 2;
        arguments.extend(["--download-limit".to_owned(), half.to_string()]);
        for (option, origins) in [
            ("--allow-origin", &network.origins),
            ("--allow-private-origin", &network.private_origins),
        ] {
            for origin in origins {
                arguments.extend([option.to_owned(), origin.to_string()]);
            }
        }
        if network.secret.is_some() {
            let file = format!("{CREDENTIALS}/{TOKEN_KEY}");
            arguments.extend(["--token-file".to_owned(), file]);
        }
        if settings.authorities.is_some() {
            let file = format!("{AUTHORITIES_FOLDER}/{AUTHORITIES_FILE}");
            arguments.extend(["--ca-file".to_owned(), file]);
        }
    }
    if let Some(template) = &valid.template {
        let file = format!("{}={STATIC_DATA}/{}", template.name, template.path);
        arguments.extend(["--template".to_owned(), file]);
    }
    let options = [
        ("--progress", "json".to_owned()),
        ("--termination-message", TERMINATION_MESSAGE.to_owned()),
        ("--threads", valid.cpu.threads().to_string()),
    ];
    for (option, value) in options {
        arguments.extend([option.to_owned(), value]);
    }
    if let Some(template) = &valid.template
        && let Some(sha256) = &template.sha256
    {
        let value = format!("{}={sha256}", template.name);
        arguments.extend(["--template-sha256".to_owned(), value]);
    }
    arguments
}

/// The claim's name is part of the path, so that a message about a file names the claim.
fn claim_folder(name: &str) -> String {
    format!("/claims/{name}")
}

/// Requests equal limits: memory that is not there cannot be lent, and a predicted time holds.
fn resources(valid: &ValidatedRequest, memory: Memory) -> ResourceRequirements {
    let amounts = BTreeMap::from([
        ("cpu".to_owned(), Quantity(valid.cpu.to_string())),
        ("memory".to_owned(), Quantity(memory.to_string())),
    ]);
    ResourceRequirements {
        limits: Some(amounts.clone()),
        requests: Some(amounts),
        ..ResourceRequirements::default()
    }
}

/// No user and no group are named: OpenShift assigns them, elsewhere the image does.
fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

fn pull_secrets(settings: &Settings) -> Option<Vec<LocalObjectReference>> {
    let names = settings.image_pull_secrets.iter();
    let secrets: Vec<_> = names
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    (!secrets.is_empty()).then_some(secrets)
}

fn volumes(valid: &ValidatedRequest, settings: &Settings) -> (Vec<Volume>, Vec<VolumeMount>) {
    let mut volumes = vec![
        request_volume(),
        scratch_volume(match valid.network {
            Some(_) => settings.scratch_limit,
            None => SCRATCH_LIMIT,
        }),
    ];
    let mut mounts = vec![
        mount("request", REQUEST_FOLDER, false),
        mount("scratch", SCRATCH, true),
    ];
    if valid.template.is_some() {
        let claim = &settings.static_data_claim;
        volumes.insert(1, claim_volume("static-data", claim, false));
        mounts.insert(1, mount("static-data", STATIC_DATA, false));
    }
    for (index, claim) in valid.claims.iter().enumerate() {
        let name = format!("claim-{index}");
        volumes.push(claim_volume(&name, &claim.name, claim.writable));
        mounts.push(mount(&name, &claim_folder(&claim.name), claim.writable));
    }
    let secret = valid.network.as_ref().and_then(|n| n.secret.as_ref());
    if let Some(secret) = secret {
        volumes.push(secret_volume(secret));
        mounts.push(mount("credentials", CREDENTIALS, false));
    }
    if valid.network.is_some()
        && let Some(authorities) = &settings.authorities
    {
        volumes.push(authorities_volume(authorities));
        mounts.push(mount("authorities", AUTHORITIES_FOLDER, false));
    }
    (volumes, mounts)
}

/// One key of the Secret, whatever else it holds: a Secret for another purpose does not mount.
fn secret_volume(name: &str) -> Volume {
    Volume {
        name: "credentials".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.to_owned()),
            default_mode: Some(TOKEN_MODE),
            items: Some(vec![KeyToPath {
                key: TOKEN_KEY.to_owned(),
                path: TOKEN_KEY.to_owned(),
                mode: None,
            }]),
            optional: None,
        }),
        ..Volume::default()
    }
}

fn authorities_volume(authorities: &Authorities) -> Volume {
    Volume {
        name: "authorities".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: authorities.config_map.clone(),
            items: Some(vec![KeyToPath {
                key: authorities.key.clone(),
                path: AUTHORITIES_FILE.to_owned(),
                mode: None,
            }]),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn mount(name: &str, path: &str, writable: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: (!writable).then_some(true),
        ..VolumeMount::default()
    }
}

fn claim_volume(name: &str, claim: &str, writable: bool) -> Volume {
    Volume {
        name: name.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.to_owned(),
            read_only: (!writable).then_some(true),
        }),
        ..Volume::default()
    }
}

fn scratch_volume(limit: Memory) -> Volume {
    Volume {
        name: "scratch".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(limit.to_string())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// The request as a file, out of the pod's own annotation: no object beside the Job to lose.
fn request_volume() -> Volume {
    let file = DownwardAPIVolumeFile {
        path: REQUEST_FILE.to_owned(),
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{}']", metadata::REQUEST),
            ..ObjectFieldSelector::default()
        }),
        ..DownwardAPIVolumeFile::default()
    };
    Volume {
        name: "request".to_owned(),
        downward_api: Some(DownwardAPIVolumeSource {
            items: Some(vec![file]),
            ..DownwardAPIVolumeSource::default()
        }),
        ..Volume::default()
    }
}
