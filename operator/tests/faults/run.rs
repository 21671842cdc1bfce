//! One run: the operator, the API server and the rest of the cluster, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use alignment_api::Origin;
use operator::metrics::Metrics;
use operator::readiness::Readiness;
use operator::settings::Settings;
use operator::worker::Worker;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::lifecycle::{IMAGE_SERVICE, Lifecycle, REQUEST};
use crate::net::Net;
use crate::oracle::{Oracle, essence, phase};
use crate::plan::Plan;
use crate::store::{Kind, Store, name};
use crate::world::World;

/// No run needs longer, however much fails.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Nothing is under way any more if nothing has changed for so long.
const QUIET: Duration = Duration::from_secs(40);
/// A killed operator is back after this time.
const RESTART: Duration = Duration::from_millis(300);

/// What came of a run.
pub(crate) struct Outcome {
    /// Final status without what may differ.
    pub(crate) status: Value,
    pub(crate) calls: Vec<String>,
    pub(crate) events: usize,
    /// Made beside what the status tells: the pictures of the result.
    pub(crate) pictures: Vec<Arc<Value>>,
    /// An attempt was not counted, because nobody could know of it.
    pub(crate) renamed: bool,
    pub(crate) violations: Vec<String>,
    /// Time until the last change.
    pub(crate) took: Duration,
}

/// Runs a life with faults.
pub(crate) fn run(lifecycle: &'static Lifecycle, plan: Plan) -> Outcome {
    race(lifecycle, vec![plan])
}

/// Runs a life with one operator for each plan, all of which believe that they lead.
pub(crate) fn race(lifecycle: &'static Lifecycle, plans: Vec<Plan>) -> Outcome {
    virtually(simulate(lifecycle, plans))
}

/// Runs something in virtual time.
pub(crate) fn virtually<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(work)
}

async fn simulate(lifecycle: &'static Lifecycle, plans: Vec<Plan>) -> Outcome {
    let mut store = Store::new(Oracle::default());
    store.depth_maps = lifecycle.depth_map;
    store.pictures = lifecycle.pictures;
    let store = Arc::new(store);
    tokio::spawn(World::run(store.clone(), lifecycle));
    let user = store.clone();
    tokio::spawn(async move {
        sleep(Duration::from_secs(1)).await;
        user.create(Kind::Requests, lifecycle.request()).unwrap();
    });
    let nets = plans.into_iter().map(|plan| Net::new(store.clone(), plan));
    let nets: Vec<_> = nets.map(Arc::new).collect();
    for net in &nets {
        tokio::spawn(operate(net.clone()));
    }
    let start = Instant::now();
    loop {
        sleep(Duration::from_secs(5)).await;
        let quiet = store.lock().changed_at.elapsed() >= QUIET;
        if quiet && is_over(&store, lifecycle) || start.elapsed() > PATIENCE {
            return outcome(&store, &nets[0], lifecycle, start);
        }
    }
}

/// An operator that is started again whenever it dies.
async fn operate(net: Arc<Net>) {
    loop {
        let death = net.death();
        let operator = tokio::spawn(worker(&net).work(CancellationToken::new()));
        death.await;
        operator.abort();
        sleep(RESTART).await;
    }
}

pub(crate) fn worker(net: &Arc<Net>) -> Worker {
    Worker {
        client: net.client(),
        settings: Settings {
            origins: vec![Origin::parse(IMAGE_SERVICE).unwrap()],
            ..Settings::with_image("aligner:test")
        },
        metrics: Metrics::default(),
        readiness: Readiness::default(),
        pod_name: "operator".to_owned(),
        namespaces: vec!["alice".to_owned()],
    }
}

fn is_over(store: &Store, lifecycle: &Lifecycle) -> bool {
    let request = store.get(Kind::Requests, REQUEST);
    match lifecycle.phase {
        Some(wanted) => request.is_some_and(|request| phase(&request["status"]) == wanted),
        None => request.is_none(),
    }
}

fn outcome(store: &Store, net: &Net, lifecycle: &Lifecycle, start: Instant) -> Outcome {
    let request = store.get(Kind::Requests, REQUEST);
    let renamed = store.lock().oracle.renamed;
    let status = request.map_or(Value::Null, |request| essence(&request["status"]));
    let mut violations = std::mem::take(&mut store.lock().oracle.violations);
    if !is_over(store, lifecycle) {
        violations.push(format!("it did not come to its end: {status}"));
    }
    let jobs = store.lock().oracle.jobs;
    if jobs != lifecycle.jobs {
        violations.push(format!("{jobs} Jobs were made, not {}", lifecycle.jobs));
    }
    if [None, Some("Cancelled")].contains(&lifecycle.phase) {
        for kind in [Kind::Jobs, Kind::Pods] {
            let orphans = store.all(kind);
            violations.extend(
                orphans
                    .iter()
                    .map(|orphan| format!("{} is left", name(orphan))),
            );
        }
    }
    let took = store.lock().changed_at - start;
    let traffic = net.lock();
    Outcome {
        status,
        calls: traffic.calls.clone(),
        events: traffic.events,
        pictures: store.all(Kind::ConfigMaps),
        renamed,
        violations,
        took,
    }
}
