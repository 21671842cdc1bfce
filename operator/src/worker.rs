//! The work of a replica: all controllers and the publisher of events, with or without a Lease.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio_util::sync::CancellationToken;

use crate::build::metadata::MANAGER;
use crate::context::Context;
use crate::leader::{Elector, LEASE};
use crate::metrics::Metrics;
use crate::readiness::{Readiness, Role};
use crate::settings::Settings;
use crate::{controller, events};

/// Events that were queued last are published within this time, or not at all.
const EVENTS_PATIENCE: Duration = Duration::from_secs(3);

/// Everything that the working replica needs.
pub struct Worker {
    /// The API server.
    pub client: Client,
    /// What the installation decided.
    pub settings: Settings,
    /// Counters.
    pub metrics: Metrics,
    /// What `/readyz` says.
    pub readiness: Readiness,
    /// Name of this replica.
    pub pod_name: String,
    /// Namespaces to watch; none for all.
    pub namespaces: Vec<String>,
}

impl Worker {
    /// Works while the Lease is held, until the token is cancelled.
    ///
    /// # Errors
    /// If the Lease is lost, or cannot be given up at the end.
    pub async fn work_as_leader(
        self,
        mut elector: Elector,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        self.readiness.set(Role::Waiting);
        tokio::select! {
            () = elector.acquire() => {}
            () = stop.cancelled() => return Ok(()),
        }
        tracing::info!("leading");
        let end = stop.child_token();
        let mut work = tokio::spawn(self.work(end.clone()));
        let lost = {
            // Renewed until the last reconcile has ended: nobody else may begin before.
            let hold = elector.hold();
            tokio::pin!(hold);
            tokio::select! {
                () = &mut hold => true,
                done = &mut work => {
                    done.context("controller")?;
                    false
                }
            }
        };
        if lost {
            // What still runs may not write any more.
            work.abort();
            bail!("the Lease {LEASE} was lost");
        }
        elector.release().await.context("Lease not released")
    }

    /// Works until the token is cancelled and what was under way has ended.
    pub async fn work(self, stop: CancellationToken) {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: Some(self.pod_name),
        };
        let recorder = Recorder::new(self.client.clone(), reporter);
        let (events, receiver) = events::queue();
        let publisher = tokio::spawn(events::publish(recorder, receiver));
        self.metrics.leader.set(1);
        self.readiness.set(Role::Working);
        let metrics = self.metrics.clone();
        let context = Context::new(
            self.client,
            self.settings,
            self.metrics,
            events,
            self.readiness,
        );
        controller::run(Arc::new(context), &self.namespaces, stop).await;
        // The context is gone, and with it the queue: what is left of it is published.
        if tokio::time::timeout(EVENTS_PATIENCE, publisher)
            .await
            .is_err()
        {
            tracing::debug!("some events were not published");
        }
        metrics.leader.set(0);
    }
}
