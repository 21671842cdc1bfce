//! Watches requests, their Jobs and pods, and runs the reconciles that changes call for.
//!
//! One controller per watched namespace, or one for all. Caches keep only what is read.

use std::sync::Arc;

use futures::future::join_all;
use futures::{FutureExt, Stream, StreamExt, future, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::api::DynamicObject;
use kube::runtime::controller::Config;

use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Controller, Predicate, PredicateConfig, WatchStreamExt, predicates};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::build::metadata::selector;
use crate::context::{Context, Scope};
use crate::logs::Followers;
use crate::memory::Memory;
use crate::observe::{PodIndex, Ready};
use crate::reconcile::{error_policy, reconcile};
use crate::request::{Kind, Request};
use crate::watch::{self, WatchResult};

/// Reconciles of one kind of request at the same time, over all namespaces.
const CONCURRENCY: u16 = 32;
/// New lists that have not been answered by reconciles yet; one stands for all.
const RELISTS: usize = 1;
/// Reconciles that progress has asked for and that have not begun.
const TRIGGERS: usize = 256;

/// Runs until the token is cancelled and the reconciles under way have ended. No namespaces: all.
pub async fn run(context: Arc<Context>, namespaces: &[String], stop: CancellationToken) {
    let scopes: Vec<_> = match namespaces {
        [] => vec![None],
        names => names.iter().map(|name| Some(name.as_str())).collect(),
    };
    let concurrency = (CONCURRENCY / scopes.len().min(CONCURRENCY.into()) as u16).max(1);
    let controllers = scopes.into_iter().flat_map(|namespace| {
        Kind::ALL.map(|kind| run_scope(context.clone(), kind, namespace, concurrency, stop.clone()))
    });
    join_all(controllers).await;
}

async fn run_scope(
    context: Arc<Context>,
    kind: Kind,
    namespace: Option<&str>,
    concurrency: u16,
    stop: CancellationToken,
) {
    let request_writer = reflector::store::Writer::new(kind);
    let request_store = request_writer.as_reader();
    let (job_store, job_writer) = reflector::store();
    let (trigger, triggers) = mpsc::channel(TRIGGERS);
    // A new list tells what is there. What vanished meanwhile is nobody's event, and the event of
    // what is new comes before the cache holds it.
    let (relisted, relists) = mpsc::channel(RELISTS);
    let pods = Arc::new(PodIndex::default());
    let followers = Followers::new(
        context.client.clone(),
        context.log_permits.clone(),
        context.metrics.clone(),
        trigger,
    );
    let requests_relisted = relisted.clone();
    let requests = watch_requests(&context, followers.clone(), kind, namespace)
        .reflect(request_writer)
        .inspect(move |event| {
            if let Ok(Event::InitDone) = event {
                let _ = requests_relisted.try_send(());
            }
        })
        .applied_objects()
        // Own writes of progress do not matter; a new phase may call for the next step.
        .predicate_filter(
            predicates::generation.combine(phase),
            PredicateConfig::default(),
        );
    let jobs_ready = Arc::new(Ready::default());
    let filled = jobs_ready.clone();
    let jobs_relisted = relisted.clone();
    let jobs = watch_jobs(&context, kind, namespace)
        .reflect(job_writer)
        .inspect(move |event| {
            if let Ok(Event::InitDone) = event {
                filled.set();
                let _ = jobs_relisted.try_send(());
            }
        })
        .touched_objects();
    let pod_triggers = watch_pods(&context, kind, namespace, pods.clone(), relisted);
    context.metrics.watch(request_store.clone());
    let scope = Arc::new(Scope {
        context,
        jobs: job_store,
        jobs_ready,
        pods,
        followers,
    });
    let never_began = never_began(request_store.clone(), scope.clone(), stop.clone());
    let controller = Controller::for_stream_with(requests, request_store, kind)
        .owns_stream(jobs)
        .reconcile_on(pod_triggers)
        .reconcile_on(received(triggers))
        .reconcile_all_on(received(relists))
        .with_config(Config::default().concurrency(concurrency))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile, error_policy, scope)
        .for_each(|outcome| {
            if let Err(error) = outcome {
                note_error(&error);
            }
            future::ready(())
        });
    tokio::select! {
        () = controller => {}
        () = never_began => {}
    }
}

/// Returns once the work shall end that has not begun: a cache was never filled, because the API server
/// does not answer, or does not let the operator read. The controller would wait for it, whatever it
/// is told; nothing is under way.
async fn never_began(requests: Store<Request>, scope: Arc<Scope>, stop: CancellationToken) {
    stop.cancelled().await;
    let filled = async {
        let _ = requests.wait_until_ready().await;
        scope.jobs_ready.wait().await;
        scope.pods.wait_until_ready().await;
    };
    if filled.now_or_never().is_some() {
        future::pending::<()>().await;
    }
}

fn received<T>(mut receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> {
    stream::poll_fn(move |context| receiver.poll_recv(context))
}

fn note_error<R, Q>(error: &kube::runtime::controller::Error<R, Q>)
where
    R: std::error::Error + 'static,
    Q: std::error::Error + 'static,
{
    use kube::runtime::controller::Error;
    match error {
        // The reconcile's own errors are told where the next try is decided.
        Error::ReconcilerFailed(..) => {}
        // A pod or a Job outlives its request for a moment.
        Error::ObjectNotFound(object) => tracing::debug!(%object, "request is gone"),
        error => tracing::warn!(%error, "watch interrupted"),
    }
}

/// The phase changes seldom, other parts of the status often. Without a phase: nothing was written
/// yet, and there is nothing to compare.
fn phase(request: &Request) -> Option<u64> {
    request.phase().map(|phase| phase as u64)
}

/// Of the Jobs and pods of the requests of a kind.
fn own_config(kind: Kind) -> watcher::Config {
    watch::config().labels(&selector(kind))
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Requests are read one by one: one that this version does not understand hides no other.
fn watch_requests(
    context: &Context,
    followers: Followers,
    kind: Kind,
    namespace: Option<&str>,
) -> impl Stream<Item = WatchResult<Event<Request>>> + Send + 'static {
    let resource = kind.resource();
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(context.client.clone(), namespace, &resource),
        None => Api::all_with(context.client.clone(), &resource),
    };
    let memory = context.memory.clone();
    let cache = context.readiness.cache(kind.plural(), namespace);
    watcher(api, watch::config())
        .default_backoff()
        .inspect(move |event| watch::note_cache(&cache, event))
        .filter_map(move |event| {
            let event = event
                .map(|event| watch::parse_event(event, kind))
                .transpose();
            if let Some(Ok(event)) = &event {
                note_request(event, &memory, &followers);
            }
            future::ready(event)
        })
}

fn note_request(event: &Event<Request>, memory: &Memory, followers: &Followers) {
    match event {
        Event::Apply(request) | Event::InitApply(request) => memory.saw_request(request),
        Event::Delete(request) => {
            let uid = request.uid().unwrap_or_default();
            memory.forget(&uid);
            followers.forget(&uid);
        }
        Event::Init | Event::InitDone => {}
    }
}

fn watch_jobs(
    context: &Context,
    kind: Kind,
    namespace: Option<&str>,
) -> impl Stream<Item = WatchResult<Event<Job>>> + Send + 'static {
    let memory = context.memory.clone();
    let cache = context.readiness.cache("jobs", namespace);
    watcher(api::<Job>(&context.client, namespace), own_config(kind))
        .default_backoff()
        .inspect(move |event| watch::note_cache(&cache, event))
        .modify(|job: &mut Job| {
            job.managed_fields_mut().clear();
            if let Some(spec) = &mut job.spec {
                spec.template = PodTemplateSpec::default();
            }
        })
        .inspect(move |event| match event {
            Ok(Event::Apply(job) | Event::InitApply(job)) => memory.saw_job(job),
            Ok(Event::Delete(job)) => memory.saw_job_deleted(job),
            _ => {}
        })
}

fn watch_pods(
    context: &Context,
    kind: Kind,
    namespace: Option<&str>,
    index: Arc<PodIndex>,
    relisted: mpsc::Sender<()>,
) -> impl Stream<Item = ObjectRef<Request>> + Send + 'static {
    let cache = context.readiness.cache("pods", namespace);
    watcher(api::<Pod>(&context.client, namespace), own_config(kind))
        .default_backoff()
        .inspect(move |event| watch::note_cache(&cache, event))
        .flat_map(move |event| {
            let triggers = match event {
                Ok(event) => {
                    if let Event::InitDone = event {
                        let _ = relisted.try_send(());
                    }
                    index.take(event)
                }
                Err(error) => {
                    tracing::warn!(%error, "watch of pods interrupted");
                    Vec::new()
                }
            };
            stream::iter(triggers)
        })
}
