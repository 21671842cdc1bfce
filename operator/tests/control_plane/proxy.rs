//! A proxy in front of the real API server, in which one call of the program meets a fault.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body as Served;
use axum::extract::State;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::json;

use crate::fault::Fault;

/// A call and which one of its kind it is.
pub(crate) type Call = (String, u32);

struct Traffic {
    calls: BTreeMap<String, u32>,
    fault: Option<(Call, Fault)>,
    fired: bool,
    /// Killed when it is dropped.
    program: Option<Box<dyn Send>>,
}

/// The proxy. Ends when it is dropped.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
    kubeconfig: tempfile::NamedTempFile,
}

struct Shared {
    client: Client,
    traffic: Mutex<Traffic>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// A proxy to the server of this client. The fault happens to one call, once.
    pub(crate) async fn start(client: Client, fault: Option<(Call, Fault)>) -> Self {
        let traffic = Traffic {
            calls: BTreeMap::new(),
            fault,
            fired: false,
            program: None,
        };
        let shared = Arc::new(Shared {
            client,
            traffic: Mutex::new(traffic),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new()
            .fallback(serve)
            .with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let named = |name: &str, key: &str, value| json!([{"name": name, key: value}]);
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": named("proxy", "cluster", json!({"server": format!("http://{address}")})),
            "users": named("proxy", "user", json!({})),
            "contexts": named("proxy", "context", json!({"cluster": "proxy", "user": "proxy"}))});
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(kubeconfig.path(), text.to_string()).unwrap();
        Self {
            shared,
            server,
            kubeconfig,
        }
    }

    /// A kubeconfig that leads here.
    pub(crate) fn kubeconfig(&self) -> &str {
        self.kubeconfig.path().to_str().unwrap()
    }

    /// The program that dies when the fault is a kill.
    pub(crate) fn run(&self, program: impl Send + 'static) {
        self.shared.lock().program = Some(Box::new(program));
    }

    pub(crate) fn is_running(&self) -> bool {
        self.shared.lock().program.is_some()
    }

    /// Whether the call that the fault is for has come; true without a fault.
    pub(crate) fn has_met_its_fault(&self) -> bool {
        let state = self.shared.lock();
        state.fired || state.fault.is_none()
    }

    /// Calls so far: kind and number.
    pub(crate) fn calls(&self) -> BTreeMap<String, u32> {
        self.shared.lock().calls.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
        self.shared.lock().program = None;
    }
}

/// Verb and resource, as a role names them.
fn label(request: &Request<Bytes>) -> String {
    let (path, query) = (
        request.uri().path(),
        request.uri().query().unwrap_or_default(),
    );
    let (_, rest) = path.split_once("/namespaces/").unwrap_or(("", path));
    let parts: Vec<&str> = rest.split('/').collect();
    let resource = match parts.as_slice() {
        [_, resource] | [_, resource, _] => (*resource).to_owned(),
        [_, resource, _, subresource] => format!("{resource}/{subresource}"),
        _ => rest.to_owned(),
    };
    let verb = match request.method().as_str() {
        "GET" if query.contains("watch=true") => "watch",
        "GET" if parts.len() == 2 => "list",
        "GET" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        other => other,
    };
    format!("{verb} {resource}")
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request<Served>) -> Response<Served> {
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, body.collect().await.unwrap().to_bytes());
    let fault = {
        let mut state = shared.lock();
        let count = state.calls.entry(label(&request)).or_default();
        *count += 1;
        let call = (label(&request), *count);
        let hit = state.fault.as_ref().filter(|(which, _)| *which == call);
        let fault = hit.map(|(_, fault)| *fault).filter(|_| !state.fired);
        state.fired |= fault.is_some();
        fault
    };
    match fault {
        None => forward(&shared, &request).await,
        Some(Fault::KillBefore) => {
            shared.lock().program = None;
            std::future::pending().await
        }
        Some(Fault::KillAfter) => {
            drop(forward(&shared, &request).await);
            shared.lock().program = None;
            std::future::pending().await
        }
        Some(Fault::Conflict) => refused(409, "Conflict"),
        Some(Fault::TooManyRequests) => {
            let mut response = refused(429, "TooManyRequests");
            let second = http::HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, second);
            response
        }
        Some(Fault::Internal) => refused(500, "InternalError"),
        Some(Fault::Unavailable) => refused(503, "ServiceUnavailable"),
        Some(Fault::TimeoutCommitted) => {
            drop(forward(&shared, &request).await);
            refused(504, "Timeout")
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::HangCommitted) => {
            drop(forward(&shared, &request).await);
            std::future::pending().await
        }
        Some(Fault::Reset) => broken(forward(&shared, &request).await),
        Some(Fault::Duplicate) => {
            drop(forward(&shared, &request).await);
            forward(&shared, &request).await
        }
    }
}

async fn forward(shared: &Shared, request: &Request<Bytes>) -> Response<Served> {
    let mut copy = Request::builder()
        .method(request.method())
        .uri(request.uri());
    for name in [header::CONTENT_TYPE, header::ACCEPT] {
        if let Some(value) = request.headers().get(&name) {
            copy = copy.header(name, value);
        }
    }
    let copy = copy.body(Body::from(request.body().to_vec())).unwrap();
    match shared.client.send(copy).await {
        Ok(response) => {
            let (mut parts, body) = response.into_parts();
            parts.headers.remove(header::TRANSFER_ENCODING);
            Response::from_parts(parts, Served::new(body))
        }
        Err(error) => panic!("the proxy cannot reach the API server: {error}"),
    }
}

/// The answer breaks off in its middle.
fn broken(response: Response<Served>) -> Response<Served> {
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let start = Ok::<_, std::io::Error>(Bytes::from_static(b"{\"kind\":"));
    let cut = Err(std::io::Error::other("cut"));
    let body = Served::from_stream(futures::stream::iter([start, cut]));
    Response::from_parts(parts, body)
}

fn refused(code: u16, reason: &str) -> Response<Served> {
    let status = json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": "as the test has it", "reason": reason, "code": code});
    let mut response = Response::new(Served::from(status.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
