//! The aligner runs in pods without any access to Kubernetes: it must not even know how.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken expectation fails the test"
)]

use std::process::Command;

#[test]
fn the_aligner_depends_on_no_cluster_client_runtime_or_schema_generator() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "aligner",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success());
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("alignment-api"), "{tree}");
    for name in [
        "kube",
        "kube-client",
        "k8s-openapi",
        "tokio",
        "schemars",
        // One blocking HTTP client, and nothing of the system's to link to.
        "hyper",
        "openssl-sys",
        "fake-image-service",
    ] {
        assert!(
            !tree
                .lines()
                .any(|line| line.split(' ').next() == Some(name)),
            "the aligner depends on {name}"
        );
    }
}
