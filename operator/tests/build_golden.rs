//! A request goes in, a Job comes out, as `operator explain` shows it. `UPDATE_GOLDEN=1` rewrites
//! what is expected.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

use std::path::PathBuf;

use clap::Parser;
use operator::cli::{Cli, Command};
use operator::explain::explain;

fn path(parts: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(parts)
}

/// Runs `explain` on a fixture; gives its success, output and problems.
fn run(fixture: &str, options: &[&str]) -> (bool, String, String) {
    let file = path("fixtures").join(fixture);
    let mut command = vec!["operator", "explain", file.to_str().unwrap()];
    command.extend([
        "--aligner-image",
        "registry.example.org/aligner@sha256:0123",
    ]);
    command.extend(options);
    let Command::Explain(arguments) = Cli::parse_from(command).command else {
        panic!("another command");
    };
    let (mut out, mut problems) = (Vec::new(), Vec::new());
    let code = explain(*arguments, &mut out, &mut problems).unwrap();
    (
        code == std::process::ExitCode::SUCCESS,
        String::from_utf8(out).unwrap(),
        String::from_utf8(problems).unwrap(),
    )
}

fn assert_golden(name: &str, actual: &str) {
    let file = path("golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        actual,
        expected,
        "{} differs; UPDATE_GOLDEN=1 rewrites it",
        file.display()
    );
}

#[test]
fn the_smallest_request() {
    let (valid, job, problems) = run("minimal.yaml", &[]);
    assert!(valid, "{problems}");
    assert_golden("minimal.yaml", &job);
}

#[test]
fn a_request_and_an_installation_with_every_option() {
    let templates = path("fixtures").join("templates.yaml");
    let options = [
        "--templates-file",
        templates.to_str().unwrap(),
        "--aligner-image-pull-policy",
        "Always",
        "--image-pull-secret",
        "registry",
        "--aligner-service-account",
        "aligner",
        "--static-data-claim",
        "templates",
        "--max-memory",
        "64Gi",
        "--max-cpu",
        "8",
    ];
    let (valid, job, problems) = run("full.yaml", &options);
    assert!(valid, "{problems}");
    assert_golden("full.yaml", &job);
}

#[test]
fn a_depth_map_alone() {
    let (valid, job, problems) = run("depth-map.yaml", &[]);
    assert!(valid, "{problems}");
    assert_golden("depth-map.yaml", &job);
}

const ORIGINS: [&str; 4] = [
    "--allow-origin",
    "https://images.example.org",
    "--allow-private-origin",
    "http://data.voluba.svc:8080",
];

#[test]
fn a_request_without_a_claim() {
    let (valid, job, problems) = run("network.yaml", &ORIGINS);
    assert!(valid, "{problems}");
    assert_golden("network.yaml", &job);
}

#[test]
fn a_private_authority_reaches_pods_with_a_network_and_no_others() {
    let authorities = ["--authorities-config-map", "trusted"];
    let (valid, job, problems) = run("network.yaml", &[&ORIGINS[..], &authorities].concat());
    assert!(valid, "{problems}");
    assert_golden("authorities.yaml", &job);
    let (_, without, _) = run("minimal.yaml", &[]);
    assert_eq!(run("minimal.yaml", &authorities).1, without);
}

#[test]
fn a_kind_that_does_not_exist_is_named_and_nothing_else() {
    let (valid, job, problems) = run("wrong-kind.yaml", &[]);
    assert!(!valid && job.is_empty());
    let expected =
        "kind: is `DepthMapRequests`, expected `AlignmentRequest` or `DepthMapRequest`\n";
    assert_eq!(problems, expected);
}

#[test]
fn violations_are_listed_one_per_line_and_no_job_is_shown() {
    let (valid, job, problems) = run("full.yaml", &["--max-memory", "8Gi", "--max-cpu", "2"]);
    assert!(!valid);
    assert_eq!(job, "");
    let fields: Vec<_> = problems
        .lines()
        .map(|l| l.split(':').next().unwrap())
        .collect();
    assert_eq!(fields, ["spec.resources.memory", "spec.resources.cpu"]);
}

/// No request can weaken the pod: whatever stands in it, these parts are the same.
#[test]
fn all_pods_are_equally_restricted() {
    let security = |fixture| {
        let job: serde_json::Value = serde_yaml_ng::from_str(&run(fixture, &ORIGINS).1).unwrap();
        let pod = &job["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        serde_json::json!([
            pod["securityContext"],
            pod["automountServiceAccountToken"],
            pod["enableServiceLinks"],
            pod["serviceAccountName"],
            pod["nodeSelector"],
            pod["hostNetwork"],
            pod["hostPID"],
            container["securityContext"],
            container["image"],
            container["command"],
            container["env"],
            pod["initContainers"],
            job["spec"]["podFailurePolicy"],
        ])
    };
    assert_eq!(security("minimal.yaml"), security("full.yaml"));
    assert_eq!(security("minimal.yaml"), security("network.yaml"));
}
