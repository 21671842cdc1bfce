//! Runs `AlignmentRequest` and `DepthMapRequest` resources as Kubernetes Jobs.
//!
//! Whenever a request, its Job or its pod changes, one reconcile runs the same pipeline:
//!
//! | Step | Module | Does |
//! |---|---|---|
//! | observe | [`observe`] | collects the request's Job, pods and progress from caches |
//! | validate | [`validate`] | turns the request into a [`validate::ValidatedRequest`] or all violations |
//! | decide | [`decide`] | picks at most one write; pure |
//! | build | [`build`] | renders the Job; pure |
//! | apply | [`apply`] | makes the write |
//! | status | [`status`] | derives the status; pure; written once, if it changed |
//!
//! Only observe, apply and the status patch hold a client. A reconcile can stop anywhere and run
//! again: names are deterministic, and what has to be remembered stands in the request's status.
//! The aligner itself knows nothing of Kubernetes; the contract with it is the crate
//! `alignment-api`.

pub mod apply;
pub mod build;
pub mod cli;
pub mod client;
pub mod conditions;
pub mod context;
pub mod controller;
pub mod crd;
pub mod decide;
pub mod ending;
pub mod error;
pub mod events;
pub mod explain;
pub mod gateway;
pub mod health;
pub mod leader;
pub mod logs;
pub mod memory;
pub mod metrics;
pub mod observe;
pub mod phase_time;
pub mod pictures;
pub mod quantity;
pub mod readiness;
pub mod reconcile;
pub mod report;
pub mod request;
pub mod run;
pub mod settings;
pub mod static_data;
pub mod status;
pub mod telemetry;
pub mod validate;
pub mod watch;
pub mod worker;
