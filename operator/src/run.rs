//! `operator run`: connects everything and takes it down in order.
//!
//! On SIGTERM the reconciles under way end first, then the Lease is given up, then the port is
//! closed.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::RunArguments;
use crate::client;
use crate::health;
use crate::leader::{Elector, LEASE};
use crate::metrics::Metrics;
use crate::readiness::{Readiness, Role};
use crate::telemetry::Telemetry;
use crate::worker::Worker;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If the settings are of no use, the cluster is not configured, the port is taken, or the Lease
/// is lost.
pub fn run(arguments: RunArguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no async runtime")?;
    runtime.block_on(async {
        let collector = arguments.otlp_endpoint.as_deref();
        let telemetry = Telemetry::start(arguments.log_format, collector)?;
        let outcome = start(arguments).await;
        // It waits for a thread of its own.
        let _ = tokio::task::spawn_blocking(|| telemetry.stop()).await;
        outcome
    })
}

async fn start(arguments: RunArguments) -> anyhow::Result<()> {
    let namespaces = arguments.watched();
    let settings = arguments.installation.settings()?;
    let config = kube::Config::infer()
        .await
        .context("no configuration of a cluster")?;
    let metrics = Metrics::default();
    let client = client::connect(config, &metrics)?;
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
        readiness: readiness.clone(),
        pod_name: arguments.pod_name.clone(),
        namespaces,
    };
    let outcome = if arguments.leader_elect {
        let namespace = &arguments.pod_namespace;
        let elector = Elector::new(client, namespace, LEASE, &arguments.pod_name);
        worker.work_as_leader(elector, stop).await
    } else {
        worker.work(stop).await;
        Ok(())
    };
    readiness.set(Role::Idle);
    closed.cancel();
    server.await.context("HTTP server")??;
    tracing::info!("operator stopped");
    outcome
}

/// Cancels the token at SIGTERM or SIGINT.
///
/// # Errors
/// If the signals cannot be caught.
pub fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
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
