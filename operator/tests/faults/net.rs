//! The way between the operator and the API server, where everything can go wrong.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use operator::metrics::Metrics;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::api::{self, Call, failure};
use crate::fault::Fault;
use crate::pictures;
use crate::plan::Plan;
use crate::store::{Kind, Store, name};
use crate::stream::Watch;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Reply = Response<UnsyncBoxBody<Bytes, BoxError>>;

pub(crate) struct Traffic {
    pub(crate) plan: Plan,
    /// Every call so far: verb and resource.
    pub(crate) calls: Vec<String>,
    pub(crate) events: usize,
    /// The next list of this kind is as old as this version.
    pub(crate) stale: Option<(Kind, u64)>,
}

pub(crate) struct Net {
    pub(crate) store: Arc<Store>,
    traffic: Mutex<Traffic>,
    /// Number of operators that have died.
    deaths: watch::Sender<u64>,
}

impl Net {
    pub(crate) fn new(store: Arc<Store>, plan: Plan) -> Self {
        Self {
            store,
            traffic: Mutex::new(Traffic {
                plan,
                calls: Vec::new(),
                events: 0,
                stale: None,
            }),
            deaths: watch::Sender::new(0),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client with the layers of the program. It is cut off once its operator has died: what was
    /// left of it does nothing any more.
    pub(crate) fn client(self: &Arc<Self>) -> Client {
        let life = *self.deaths.borrow();
        let net = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let net = net.clone();
            async move {
                let response = net.clone().serve(life, request).await;
                if net.is_dead(life) {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(response)
            }
        });
        operator::client::layered(ClientBuilder::new(service, "alice"), &Metrics::default())
    }

    pub(crate) fn kill(&self) {
        self.store.lock().oracle.death();
        // The first lists of an operator come from the quorum: that is the server's promise.
        self.lock().stale = None;
        self.deaths.send_modify(|deaths| *deaths += 1);
    }

    pub(crate) fn is_dead(&self, life: u64) -> bool {
        *self.deaths.borrow() != life
    }

    /// Waits until the operator of now has died.
    pub(crate) async fn death(&self) {
        let mut deaths = self.deaths.subscribe();
        let _ = deaths.changed().await;
    }

    pub(crate) async fn travel(&self, lane: &str) {
        let delay = self.lock().plan.delay(lane);
        sleep(Duration::from_millis(delay)).await;
    }

    async fn serve(self: Arc<Self>, life: u64, request: Request<Body>) -> Reply {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap_or_default();
        let call = Call::of(
            parts.method.as_str(),
            &parts.uri,
            &body,
            self.store.depth_maps,
        );
        if call.kind == Kind::Others {
            return self.perform(life, &call);
        }
        if call.label() == "create jobs" {
            self.store.lock().oracle.asked_for(name(&call.body));
        }
        self.travel(&call.label()).await;
        if self.is_dead(life) {
            return std::future::pending().await;
        }
        let fault = {
            let mut traffic = self.lock();
            let number = traffic.calls.len();
            traffic.calls.push(call.label());
            traffic.plan.call(&call.label(), number)
        };
        trace(|| format!("{} {fault:?}", call.label()));
        let perform = || self.clone().perform(life, &call);
        match fault {
            None => {
                let response = perform();
                // That a name is taken does not say by whose Job.
                if response.status().is_success() {
                    self.tell(&call);
                }
                response
            }
            Some(Fault::KillBefore) => {
                self.kill();
                std::future::pending().await
            }
            Some(Fault::KillAfter) => {
                drop(perform());
                self.kill();
                std::future::pending().await
            }
            Some(Fault::Conflict) => refused(409, "Conflict", "try again"),
            Some(Fault::TooManyRequests) => too_many(),
            Some(Fault::Internal) => refused(500, "InternalError", "broken"),
            Some(Fault::Unavailable) => refused(503, "ServiceUnavailable", "not now"),
            Some(Fault::TimeoutCommitted) => {
                drop(perform());
                refused(504, "Timeout", "it may have been done")
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::HangCommitted) => {
                drop(perform());
                std::future::pending().await
            }
            Some(Fault::Reset) => broken(perform()),
            Some(Fault::Duplicate) => {
                drop(perform());
                perform()
            }
        }
    }

    fn perform(self: Arc<Self>, life: u64, call: &Call) -> Reply {
        match (call.verb, call.subresource.as_deref()) {
            ("watch", _) => {
                let since = call.parameter("resourceVersion").unwrap_or(0);
                let seconds = call.parameter("timeoutSeconds").unwrap_or(290);
                let until = Instant::now() + Duration::from_secs(seconds);
                streamed(Watch::new(self, life, call.kind, since, until).chunks())
            }
            ("get", Some("log")) => self.log(call),
            _ => {
                let stale = self.take_stale(call);
                let (code, value) = call.answer(&self.store, stale);
                reply(code, &value)
            }
        }
    }

    /// The operator learns of the Jobs that are the answer.
    fn tell(&self, call: &Call) {
        if call.kind == Kind::Jobs && call.verb != "watch" {
            let jobs = self.store.all(Kind::Jobs);
            let mut state = self.store.lock();
            for job in jobs {
                state.oracle.told(name(&job));
            }
        }
    }

    fn take_stale(&self, call: &Call) -> Option<u64> {
        let mut traffic = self.lock();
        let stale = traffic
            .stale
            .filter(|(kind, _)| call.parameter("limit").is_some() && *kind == call.kind)?;
        traffic.stale = None;
        Some(stale.1)
    }

    /// Some progress, then nothing until the pod ends, then its pictures, if it has any.
    fn log(self: Arc<Self>, call: &Call) -> Reply {
        let pod = call.name.clone().unwrap_or_default();
        let over = self.store.pictures && api::succeeded(&self.store, &pod);
        if !over && !api::runs(&self.store, &pod) {
            return refused(404, "NotFound", "no such pod");
        }
        let schema = alignment_api::PROGRESS_SCHEMA;
        let line = json!({"schema": schema, "stage": "register", "percent": 40}).to_string();
        let end = stream::once(async move {
            let mut changes = self.store.subscribe();
            while api::runs(&self.store, &pod) {
                let _ = changes.changed().await;
            }
            let told = self.store.pictures && api::succeeded(&self.store, &pod);
            Ok(if told { pictures::log() } else { Bytes::new() })
        });
        let first = stream::iter([Ok(Bytes::from(line + "\n"))]);
        streamed(first.chain(end))
    }
}

fn reply(code: u16, value: &Value) -> Reply {
    let body = Full::from(serde_json::to_vec(value).unwrap());
    let body = body.map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

fn refused(code: u16, reason: &str, message: &str) -> Reply {
    reply(code, &failure(code, reason, message))
}

fn too_many() -> Reply {
    let mut response = refused(429, "TooManyRequests", "slower");
    let second = http::HeaderValue::from_static("1");
    response.headers_mut().insert("retry-after", second);
    response
}

fn streamed(
    chunks: impl futures::Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
) -> Reply {
    let frames = chunks.map(|chunk| chunk.map(Frame::data));
    Response::new(StreamBody::new(frames).boxed_unsync())
}

/// The head of a response, and a body that breaks off.
fn broken(response: Reply) -> Reply {
    let half = Bytes::from_static(b"{\"kind\":");
    let reset: BoxError = "connection reset by peer".into();
    let (parts, _) = response.into_parts();
    let frames = stream::iter([Ok(Frame::data(half)), Err(reset)]);
    Response::from_parts(parts, StreamBody::new(frames).boxed_unsync())
}

/// Says what happens, for whoever repeats a plan with `VOLUBA_FAULT_TRACE`.
pub(crate) fn trace(what: impl FnOnce() -> String) {
    static WANTED: OnceLock<bool> = OnceLock::new();
    static START: OnceLock<Instant> = OnceLock::new();
    if *WANTED.get_or_init(|| std::env::var_os("VOLUBA_FAULT_TRACE").is_some()) {
        let start = START.get_or_init(Instant::now);
        println!("{:>10.3} {}", start.elapsed().as_secs_f64(), what());
    }
}
