//! `operator gateway`: an HTTP interface for those who do not speak to the cluster.
//!
//! It holds nothing that another replica would need: a request is a resource of the cluster, its
//! identifier the name of that resource, and every answer about it comes from a watch.
//!
//! | Question | Module |
//! |---|---|
//! | the old interface: bodies, answers, errors | [`v0`] |
//! | the interface for programs and for the page | [`v1`] |
//! | who calls, and how often | [`identity`], [`rate`] |
//! | which requests there are; making one, with its Secret | [`requests`] |
//! | the page for people | [`page`] |
//! | what has to go: tokens at the end, requests without a token, old ones | [`upkeep`] |
//! | the caller's images, and with them the token's worth | [`images`] |
//! | how a registration went, what its result looks like | [`curve`], [`pictures`] |
//! | whether an operator works | [`health`] |
//! | connections and their limits | [`server`] |

pub mod curve;
pub mod health;
pub mod id;
pub mod identity;
pub mod images;
pub mod page;
pub mod pictures;
pub mod proxy;
pub mod rate;
pub mod requests;
pub mod server;
pub mod upkeep;
pub mod v0;
pub mod v1;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::timeout::TimeoutLayer;
use transfer::RootCerts;
use transfer::policy::Policy;

use crate::cli::{GatewayArguments, UnknownRequest};
use crate::client;
use crate::metrics::Metrics;
use crate::readiness::{Readiness, Role};
use crate::run::stop_on_signal;
use crate::telemetry::Telemetry;
use health::WorkerHealth;
use identity::Identity;
use images::Images;
use pictures::Gallery;
use rate::Rate;
use requests::Requests;

/// Largest body: a thousand pairs with names.
const LARGEST_BODY: usize = 512 << 10;
/// Time for an answer, reading the body included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests that are followed at the same time.
const MOST_FOLLOWED: usize = 1024;

/// What all answers draw from.
#[derive(Clone)]
pub struct Gateway {
    requests: Requests,
    images: Images,
    /// Origins of image services that may be named.
    image_services: Arc<[String]>,
    identity: Identity,
    rate: Rate,
    gallery: Gallery,
    /// Places for those who follow a request.
    followers: Arc<Semaphore>,
    health: WorkerHealth,
    metrics: Metrics,
    stop: CancellationToken,
    trust_proxy: bool,
    unknown_is_not_found: bool,
    source_url: Option<Arc<str>>,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If the settings are of no use, the cluster is not configured, or a port is taken.
pub fn run(arguments: GatewayArguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no async runtime")?;
    runtime.block_on(async {
        let _telemetry = Telemetry::start(arguments.log_format, None)?;
        start(arguments).await
    })
}

async fn start(arguments: GatewayArguments) -> anyhow::Result<()> {
    let roots = match &arguments.ca_file {
        Some(path) => transfer::read_authorities(path)
            .map_err(|problem| anyhow::anyhow!("--ca-file {problem}"))?,
        None => RootCerts::WebPki,
    };
    let config = kube::Config::infer()
        .await
        .context("no configuration of a cluster")?;
    let metrics = Metrics::default();
    let client = client::connect(config, &metrics)?;
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone())?);

    let namespace = &arguments.namespace;
    let readiness = Readiness::default();
    readiness.set(Role::Working);
    let (requests, changes) = Requests::watch(client.clone(), namespace, &readiness);
    let services = arguments.allow_origin.iter();
    let services = services.chain(&arguments.allow_private_origin);
    let gateway = Gateway {
        requests: requests.clone(),
        image_services: services.map(ToString::to_string).collect(),
        identity: Identity::new(&arguments, client.clone(), roots.clone())?,
        rate: Rate::per_minute(arguments.calls_per_minute),
        gallery: Gallery::new(client.clone(), namespace),
        followers: Arc::new(Semaphore::new(MOST_FOLLOWED)),
        stop: stop.clone(),
        images: Images::new(
            Policy::new(&arguments.allow_origin, &arguments.allow_private_origin),
            roots,
        ),
        health: WorkerHealth::new(client, namespace),
        metrics: metrics.clone(),
        trust_proxy: arguments.trust_proxy,
        unknown_is_not_found: arguments.unknown_request == UnknownRequest::NotFound,
        source_url: arguments
            .source_url
            .as_deref()
            .filter(|url| !url.is_empty())
            .map(Into::into),
    };
    let identity = gateway.identity.clone();
    tokio::spawn(async move { identity.prepare().await });
    let keep = Duration::from_secs(arguments.keep_seconds);
    let upkeep = tokio::spawn(upkeep::run(requests, changes, keep, stop.clone()));
    let closed = CancellationToken::new();
    let admin = crate::health::serve(
        arguments.admin_listen,
        metrics,
        readiness.clone(),
        closed.clone(),
    )
    .await
    .with_context(|| format!("cannot listen on {}", arguments.admin_listen))?;
    let admin = tokio::spawn(admin);
    let server = server::serve(arguments.listen, router(gateway, &arguments), stop.clone())
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace,
        "gateway started"
    );
    server.await;
    readiness.set(Role::Idle);
    upkeep.await.context("upkeep")?;
    closed.cancel();
    admin.await.context("HTTP server")??;
    tracing::info!("gateway stopped");
    Ok(())
}

/// Everything that is served. The outermost layer says which pages may read the answer, so that
/// errors say it, too.
fn router(gateway: Gateway, arguments: &GatewayArguments) -> Router {
    let measure = middleware::from_fn_with_state(gateway.clone(), count);
    let v0 = v0::routes()
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(timeout())
        .layer(cors(arguments, &[Method::POST], &[]));
    let headers = [
        header::IF_NONE_MATCH,
        HeaderName::from_static("idempotency-key"),
        HeaderName::from_static("image-service-token"),
        HeaderName::from_static("last-event-id"),
    ];
    let v1 = v1::routes().layer(
        cors(arguments, &[Method::POST, Method::DELETE], &headers).expose_headers([
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
        ]),
    );
    v0.merge(v1)
        .merge(page::routes())
        .layer(middleware::map_response(harden))
        .layer(measure)
        .with_state(gateway)
}

fn timeout() -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, PATIENCE)
}

fn cors(arguments: &GatewayArguments, methods: &[Method], headers: &[HeaderName]) -> CorsLayer {
    let origins = arguments.cors_origin.iter();
    let origins: Vec<HeaderValue> = origins
        .filter_map(|origin| origin.to_string().parse().ok())
        .collect();
    let always = [Method::GET, Method::HEAD, Method::OPTIONS];
    let methods: Vec<_> = always.iter().chain(methods).cloned().collect();
    let always = [header::AUTHORIZATION, header::CONTENT_TYPE];
    let headers: Vec<_> = always.iter().chain(headers).cloned().collect();
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods(methods)
        .allow_headers(headers)
        .max_age(Duration::from_secs(arguments.cors_max_age))
}

/// What no page of the gateway needs, no browser shall do with it.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        (
            "content-security-policy",
            "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; \
             frame-ancestors 'none'; form-action 'self'; base-uri 'none'",
        ),
        ("cache-control", "no-store"),
    ] {
        headers
            .entry(HeaderName::from_static(name))
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn count(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<axum::extract::MatchedPath>()
        .map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let response = next.run(request).await;
    gateway.metrics.answered(&method, &route, response.status());
    response
}
