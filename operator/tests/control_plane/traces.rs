//! Traces: what a collector gets to see of a request.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::cluster::{cluster, eventually};
use crate::process::Process;

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources.into_iter().flat_map(|spans| spans.scope_spans);
        let spans = scopes.flat_map(|spans| spans.spans);
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|pair| pair.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        other => panic!("{key}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_a_span_for_each_reconcile() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let collector = Collector::default();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = format!("http://{}", incoming.local_addr().unwrap());
    let service = TraceServiceServer::new(collector.clone());
    let server = tokio::spawn(
        Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming),
    );
    let options = ["--otlp-endpoint", &address];
    let operator = Process::with(&cluster, &Process::kubeconfig(), &options, "info");
    operator.until_it_leads().await;
    let request = cluster.create("a", &[]).await.unwrap();
    cluster.pod(1).await;
    // What was not sent yet is sent before it ends.
    operator.terminate();
    let span = eventually("a span", async || {
        let spans = collector.0.lock().unwrap();
        spans.iter().find(|span| span.name == "reconcile").cloned()
    })
    .await;
    assert_eq!(attribute(&span, "request").as_deref(), Some("a"));
    assert_eq!(attribute(&span, "uid"), request.metadata.uid);
    assert_eq!(
        attribute(&span, "namespace"),
        Some(cluster.namespace.clone())
    );
    assert!(span.end_time_unix_nano > span.start_time_unix_nano);
    server.abort();
    drop(operator);
    cluster.discard().await;
}
