//! What all reconciles share.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::Client;
use kube::runtime::reflector::Store;
use tokio::sync::Semaphore;

use crate::events::Events;
use crate::logs::{Followers, MOST_FOLLOWERS};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::observe::{PodIndex, Ready};
use crate::readiness::Readiness;
use crate::settings::Settings;

/// Shared by all reconciles of the program.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What the installation decided.
    pub settings: Settings,
    /// Counters.
    pub metrics: Metrics,
    /// Where events go.
    pub events: Events,
    /// What `/readyz` says.
    pub readiness: Readiness,
    /// Notes between reconciles.
    pub memory: Arc<Memory>,
    /// Bounds the number of logs that are followed.
    pub log_permits: Arc<Semaphore>,
}

impl Context {
    /// A context without any notes.
    pub fn new(
        client: Client,
        settings: Settings,
        metrics: Metrics,
        events: Events,
        readiness: Readiness,
    ) -> Self {
        Self {
            client,
            settings,
            metrics,
            events,
            readiness,
            memory: Arc::default(),
            log_permits: Arc::new(Semaphore::new(MOST_FOLLOWERS)),
        }
    }
}

/// Shared by all reconciles of one watched namespace, or of all of them.
pub struct Scope {
    /// The program's.
    pub context: Arc<Context>,
    /// Jobs that the watch shows.
    pub jobs: Store<Job>,
    /// Whether all Jobs are known.
    pub jobs_ready: Arc<Ready>,
    /// Pods that the watch shows.
    pub pods: Arc<PodIndex>,
    /// Logs that are followed.
    pub followers: Followers,
}
