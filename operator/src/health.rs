//! `/livez`, `/readyz` and `/metrics` over HTTP.

use std::future::IntoFuture;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::readiness::Readiness;

#[derive(Clone)]
struct Shared {
    metrics: Metrics,
    readiness: Readiness,
}

/// Opens the port, then serves it until the token is cancelled.
///
/// # Errors
/// If the port cannot be opened.
pub async fn serve(
    address: SocketAddr,
    metrics: Metrics,
    readiness: Readiness,
    stop: CancellationToken,
) -> std::io::Result<impl Future<Output = std::io::Result<()>>> {
    let listener = TcpListener::bind(address).await?;
    let router = Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(Shared { metrics, readiness });
    let server = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    Ok(server.into_future())
}

async fn ready(State(shared): State<Shared>) -> (StatusCode, String) {
    match shared.readiness.report() {
        (true, text) => (StatusCode::OK, text),
        (false, text) => (StatusCode::SERVICE_UNAVAILABLE, text),
    }
}

async fn metrics_text(State(shared): State<Shared>) -> impl IntoResponse {
    let type_ = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, type_)], shared.metrics.encode())
}
