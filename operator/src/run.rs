//! `operator run`: connects everything and takes it down in order.
//!
//! On SIGTERM the reconciles under way end first, then the Lease is given up, then the port is
//! closed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::build::metadata::MANAGER;
use crate::cli::{LogFormat, RunArguments};
use crate::context::Context;
use crate::health::{self, Readiness};
use crate::leader::{Elector, LEASE};
use crate::metrics::{Metrics, counted_client};
use crate::settings::Settings;
use crate::{controller, events};

/// Events that were queued last are published within this time, or not at all.
const EVENTS_PATIENCE: Duration = Duration::from_secs(3);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If the settings are of no use, the cluster is not configured, the port is taken, or the Lease
/// is lost.
pub fn run(arguments: RunArguments) -> anyhow::Result<()> {
    log_to_stderr(arguments.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no async runtime")?;
    runtime.block_on(start(arguments))
}

fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.init(),
    }
}

async fn start(arguments: RunArguments) -> anyhow::Result<()> {
    let namespaces = arguments.watched();
    let settings = arguments.installation.settings()?;
    let config = kube::Config::infer()
        .await
        .context("no configuration of a cluster")?;
    let metrics = Metrics::default();
    let client = counted_client(config, &metrics)?;
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone())?);

    let readiness = Readiness::default();
    let closed = CancellationToken::new();
    let server = health::serve(
        arguments.listen,
        metrics.clone(),
        readiness.clone(),
        closed.clone(),
    )
    .await
    .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let server = tokio::spawn(server);
    readiness.set(true);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        ?namespaces,
        image = settings.aligner_image,
        templates = settings.templates.names(),
        "operator started"
    );

    let worker = Worker {
        client: client.clone(),
        settings,
        metrics: metrics.clone(),
        pod_name: arguments.pod_name.clone(),
        namespaces,
    };
    let outcome = if arguments.leader_elect {
        let namespace = &arguments.pod_namespace;
        let elector = Elector::new(client, namespace, LEASE, &arguments.pod_name);
        work_as_leader(elector, worker, stop).await
    } else {
        worker.work(stop).await;
        Ok(())
    };
    readiness.set(false);
    closed.cancel();
    server.await.context("HTTP server")??;
    tracing::info!("operator stopped");
    outcome
}

fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop");
        stop.cancel();
    })
}

/// Works while the Lease is held.
async fn work_as_leader(
    mut elector: Elector,
    worker: Worker,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        () = elector.acquire() => {}
        () = stop.cancelled() => return Ok(()),
    }
    tracing::info!("leading");
    let end = stop.child_token();
    let mut work = tokio::spawn(worker.work(end.clone()));
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

/// Everything that the working replica needs.
struct Worker {
    client: Client,
    settings: Settings,
    metrics: Metrics,
    pod_name: String,
    namespaces: Vec<String>,
}

impl Worker {
    async fn work(self, stop: CancellationToken) {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: Some(self.pod_name),
        };
        let recorder = Recorder::new(self.client.clone(), reporter);
        let (events, receiver) = events::queue();
        let publisher = tokio::spawn(events::publish(recorder, receiver));
        self.metrics.leader.set(1);
        let metrics = self.metrics.clone();
        let context = Context::new(self.client, self.settings, self.metrics, events);
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
