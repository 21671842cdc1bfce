//! The log, and traces for whoever collects them.
//!
//! One span for each reconcile, with namespace, name and uid of its request. With `RUST_LOG` at
//! `kube_client=debug` the calls to the API server are spans below it. Nothing is sent unless a
//! collector is named; one that does not answer costs spans, never work.

use anyhow::{Context as _, ensure};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::build::metadata::MANAGER;
use crate::cli::LogFormat;

/// What has to be sent before the program ends.
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Logs to standard error from now on, and sends traces to a collector, if one is named: OTLP
    /// over gRPC, `http://HOST:PORT`. Needs the async runtime.
    ///
    /// # Errors
    /// If the address is of no use.
    pub fn start(format: LogFormat, collector: Option<&str>) -> anyhow::Result<Self> {
        let filter = EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn"));
        let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let log = match format {
            LogFormat::Json => log.json().flatten_event(true).boxed(),
            LogFormat::Text => log.boxed(),
        };
        let provider = collector
            .filter(|address| !address.is_empty())
            .map(|address| provider(address).context("--otlp-endpoint"))
            .transpose()?;
        let traces = provider.as_ref().map(|provider| {
            let tracer = provider.tracer(MANAGER);
            tracing_opentelemetry::layer().with_tracer(tracer)
        });
        tracing_subscriber::registry()
            .with(filter)
            .with(log)
            .with(traces)
            .init();
        Ok(Self(provider))
    }

    /// Sends what is left. Blocks for a few seconds at most.
    pub fn stop(self) {
        if let Some(provider) = self.0
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "some traces were not sent");
        }
    }
}

fn provider(address: &str) -> anyhow::Result<SdkTracerProvider> {
    let url: http::Uri = address.parse().context("not an address")?;
    ensure!(
        url.scheme_str() == Some("http") && url.authority().is_some(),
        "{address} is not of the form http://HOST:PORT (OTLP over gRPC, without TLS)"
    );
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(address)
        .build()
        .context("no exporter of traces")?;
    let resource = Resource::builder().with_service_name(MANAGER).build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_of_no_use_is_refused_by_name() {
        for address in ["collector:4317", "https://collector:4317", "http://", "a b"] {
            let error = Telemetry::start(LogFormat::Text, Some(address))
                .err()
                .unwrap();
            assert!(
                format!("{error:#}").starts_with("--otlp-endpoint: "),
                "{error:#}"
            );
        }
    }
}
