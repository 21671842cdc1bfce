//! The operator against a real API server with its controllers: etcd, kube-apiserver,
//! kube-controller-manager, kube-scheduler. There is no node; the tests play the kubelet.
//!
//! `make test` starts the control plane and names it in `VOLUBA_TEST_KUBECONFIG`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod callers;
mod cluster;
mod crashes;
#[path = "../common/fault.rs"]
mod fault;
mod followed;
mod gateway;
mod gateway_crashes;
mod issuer;
mod jobs;
mod kubelet;
mod load;
mod pods;
mod polling;
mod process;
mod proxy;
mod replicas;
mod requests;
mod service;
mod tokens;
mod traces;
mod v0;
mod v1;

use std::time::Duration;

/// Long enough for a wrong second object to appear.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}
