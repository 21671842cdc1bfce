//! Metrics in Prometheus' format.

use std::sync::{Arc, Mutex, PoisonError};

use kube::client::Body;
use kube::runtime::reflector::Store;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::crd::Phase;
use crate::request::Request;

/// Labels of the counter of API requests.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ApiLabels {
    /// HTTP method, or `WATCH`.
    pub verb: String,
    /// Resource, with its subresource.
    pub resource: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AnswerLabels {
    method: String,
    route: String,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

/// All metrics of the program. Clones share their values.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    api_requests: Family<ApiLabels, Counter>,
    answers: Family<AnswerLabels, Counter>,
    requests: Family<PhaseLabels, Gauge>,
    stores: Arc<Mutex<Vec<Store<Request>>>>,
    /// Reconciles that were started.
    pub reconciles: Counter,
    /// Reconciles that ended in an error.
    pub reconcile_errors: Counter,
    /// Time that reconciles took.
    pub reconcile_duration: Histogram,
    queue_wait: Histogram,
    phase_duration: Family<PhaseLabels, Histogram>,
    /// Logs that are followed.
    pub log_followers: Gauge,
    /// Whether this replica does the work.
    pub leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("voluba_align");
        let api_requests = Family::default();
        let answers = Family::default();
        let requests = Family::default();
        let reconciles = Counter::default();
        let reconcile_errors = Counter::default();
        let reconcile_duration = Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        let queue_wait = Histogram::new(exponential_buckets(1.0, 2.0, 16));
        let phase_duration: Family<PhaseLabels, Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(1.0, 2.0, 16)));
        let log_followers = Gauge::default();
        let leader = Gauge::default();
        registry.register(
            "api_requests",
            "Requests to the Kubernetes API server",
            Family::clone(&api_requests),
        );
        registry.register(
            "http_answers",
            "Answers of the gateway",
            Family::clone(&answers),
        );
        registry.register(
            "alignment_requests",
            "Requests of both kinds by phase",
            Family::clone(&requests),
        );
        registry.register("reconciles", "Reconciles started", reconciles.clone());
        registry.register(
            "reconcile_errors",
            "Reconciles that ended in an error",
            reconcile_errors.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "Time that reconciles took",
            Unit::Seconds,
            reconcile_duration.clone(),
        );
        registry.register_with_unit(
            "queue_wait",
            "Time from the creation of a request until its pod runs",
            Unit::Seconds,
            queue_wait.clone(),
        );
        registry.register_with_unit(
            "phase_duration",
            "Time that requests stayed in a phase that they have left",
            Unit::Seconds,
            Family::clone(&phase_duration),
        );
        registry.register("log_followers", "Logs followed", log_followers.clone());
        registry.register("leader", "1 if this replica does the work", leader.clone());
        Self {
            registry: Arc::new(registry),
            api_requests,
            answers,
            requests,
            stores: Arc::default(),
            reconciles,
            reconcile_errors,
            reconcile_duration,
            queue_wait,
            phase_duration,
            log_followers,
            leader,
        }
    }
}

impl Metrics {
    /// Has the requests of a cache counted.
    pub fn watch(&self, store: Store<Request>) {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.push(store);
    }

    /// Notes that a request has gone from one phase to another; seconds since its creation and in the
    /// phase that it left, where they are known.
    pub fn moved(
        &self,
        from: Phase,
        to: Phase,
        since_creation: Option<f64>,
        in_phase: Option<f64>,
    ) {
        let labels = PhaseLabels { phase: from.name() };
        if let Some(seconds) = in_phase {
            self.phase_duration.get_or_create(&labels).observe(seconds);
        }
        if to == Phase::Running
            && let Some(seconds) = since_creation
        {
            self.queue_wait.observe(seconds);
        }
    }

    /// Counts an answer of the gateway.
    pub fn answered(&self, method: &http::Method, route: &str, code: http::StatusCode) {
        let labels = AnswerLabels {
            method: match method.as_str() {
                known @ ("GET" | "HEAD" | "POST" | "OPTIONS") => known.to_owned(),
                _ => "other".to_owned(),
            },
            route: route.to_owned(),
            code: code.as_u16(),
        };
        self.answers.get_or_create(&labels).inc();
    }

    /// The text that Prometheus reads.
    pub fn encode(&self) -> String {
        self.count_requests();
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "metrics not encoded");
        }
        text
    }

    fn count_requests(&self) {
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<_> = stores.iter().flat_map(Store::state).collect();
        for phase in Phase::ALL {
            let of_phase =
                |request: &&Arc<Request>| request.phase().unwrap_or(Phase::Pending) == phase;
            let count = all.iter().filter(of_phase).count();
            let labels = PhaseLabels {
                phase: phase.name(),
            };
            self.requests.get_or_create(&labels).set(count as i64);
        }
    }

    /// Number of requests of this kind so far.
    pub fn api_requests(&self, verb: &str, resource: &str) -> u64 {
        let labels = ApiLabels {
            verb: verb.to_owned(),
            resource: resource.to_owned(),
        };
        self.api_requests.get_or_create(&labels).get()
    }

    /// Counts a request to the API server.
    pub fn count(&self, request: &http::Request<Body>) {
        let watch = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("watch=true"));
        let verb = if watch {
            "WATCH".to_owned()
        } else {
            request.method().to_string()
        };
        let resource = resource(request.uri().path());
        self.api_requests
            .get_or_create(&ApiLabels { verb, resource })
            .inc();
    }
}

/// Resource and subresource out of the path of an API request.
fn resource(path: &str) -> String {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let rest = match parts.as_slice() {
        ["apis", _, _, "namespaces", _, rest @ ..]
        | ["api", _, "namespaces", _, rest @ ..]
        | ["apis", _, _, rest @ ..]
        | ["api", _, rest @ ..] => rest,
        _ => &[],
    };
    match rest {
        [resource] | [resource, _] => (*resource).to_owned(),
        [resource, _, subresource] => format!("{resource}/{subresource}"),
        _ => "other".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_resource() {
        for (path, expected) in [
            ("/apis/batch/v1/namespaces/a/jobs/x", "jobs"),
            ("/api/v1/namespaces/a/pods", "pods"),
            ("/api/v1/pods", "pods"),
            ("/api/v1/namespaces/a/pods/x/log", "pods/log"),
            ("/version", "other"),
        ] {
            assert_eq!(resource(path), expected);
        }
    }

    #[test]
    fn the_text_names_every_metric() {
        let metrics = Metrics::default();
        metrics.reconciles.inc();
        metrics.moved(Phase::Pending, Phase::Running, Some(3.0), Some(2.0));
        metrics.moved(Phase::Running, Phase::Failed, Some(60.0), None);
        let text = metrics.encode();
        for name in [
            "voluba_align_reconciles_total 1",
            "voluba_align_alignment_requests{phase=\"Running\"} 0",
            "voluba_align_reconcile_duration_seconds_bucket",
            "voluba_align_queue_wait_seconds_count 1",
            "voluba_align_phase_duration_seconds_count{phase=\"Pending\"} 1",
        ] {
            assert!(text.contains(name), "{name}\n{text}");
        }
    }
}
