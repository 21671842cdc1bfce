//! Runs `AlignmentRequest` resources as Kubernetes Jobs.
fn main() {}
