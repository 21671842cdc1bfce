//! A real API server, a namespace per test with exactly the operator's rights in it, and the parts
//! of a kubelet that are needed: writing the status of pods.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::BoxStream;
use http::Response;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, ObjectList, Patch, PatchParams, PostParams};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config, ResourceExt};
use operator::context::Context;
use operator::crd::AlignmentRequest;
use operator::metrics::Metrics;
use operator::readiness::{self, Readiness};
use operator::settings::Settings;
use operator::{controller, events};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const KUBECONFIG: &str = "VOLUBA_TEST_KUBECONFIG";
const SKIP: &str = "VOLUBA_SKIP_CONTROL_PLANE";
/// Nothing here takes long on an idle machine; a busy one gets its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Exactly what the chart grants: the rules are read from its templates.
fn rules() -> Value {
    let chart = include_str!("../../../charts/voluba-align/templates/_helpers.tpl");
    let mut rules = Vec::new();
    for name in ["rules", "leaseRule"] {
        let start = format!("{{{{- define \"voluba-align.{name}\" -}}}}");
        let (_, rest) = chart.split_once(&start).expect(name);
        let (yaml, _) = rest.split_once("{{- end }}").expect(name);
        let part: Vec<Value> = serde_yaml_ng::from_str(yaml).expect(name);
        rules.extend(part);
    }
    assert!(rules.len() >= 7, "{rules:?}");
    Value::Array(rules)
}

/// One test's place.
pub(crate) struct Cluster {
    pub(crate) admin: Client,
    pub(crate) namespace: String,
    config: Config,
    pub(crate) forbidden: Arc<AtomicU64>,
    pub(crate) metrics: Metrics,
}

/// A place for a test. None, if these tests are switched off.
pub(crate) async fn cluster() -> Option<Cluster> {
    if std::env::var(SKIP).as_deref() == Ok("1") {
        println!("SKIPPED: {SKIP}=1, nothing was tested against an API server");
        return None;
    }
    // What the operator has to say, for whoever asks with RUST_LOG.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let Ok(path) = std::env::var(KUBECONFIG) else {
        panic!(
            "{KUBECONFIG} is not set: these tests need an API server. Use `make test`, which \
             starts one, or set {SKIP}=1 to do without them"
        );
    };
    let kubeconfig = Kubeconfig::read_from(&path).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    let admin = Client::try_from(config.clone()).unwrap();
    install_definition(&admin).await;
    let namespace = make_namespace(&admin).await;
    let cluster = Cluster {
        admin,
        namespace,
        config,
        forbidden: Arc::default(),
        metrics: Metrics::default(),
    };
    let role = json!({"metadata": {"name": "operator"}, "rules": rules()});
    let role: Role = serde_json::from_value(role).unwrap();
    let params = PostParams::default();
    cluster.api().create(&params, &role).await.unwrap();
    cluster.grant().await;
    // Pods need the namespace's default service account, which a controller makes.
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = cluster.api();
    eventually("a default service account", async || {
        accounts.get_opt("default").await.unwrap()
    })
    .await;
    Some(cluster)
}

async fn install_definition(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in operator::crd::definitions().unwrap() {
        let params = PatchParams::apply("test").force();
        let name = definition.name_any();
        api.patch(&name, &params, &Patch::Apply(&definition))
            .await
            .unwrap();
        let established = await_condition(api.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(PATIENCE, established)
            .await
            .unwrap()
            .unwrap();
    }
}

async fn make_namespace(client: &Client) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let time = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let name = format!(
        "t{}-{}-{number}",
        std::process::id(),
        time.as_millis() % 1_000_000
    );
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {
        "name": name,
        // Every pod of every test has to pass.
        "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
    }}))
    .unwrap();
    Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    name
}

impl Cluster {
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    /// Gives the operator its rights.
    pub(crate) async fn grant(&self) {
        let binding = json!({
            "metadata": {"name": "operator"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
            "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": self.namespace}],
        });
        let binding: RoleBinding = serde_json::from_value(binding).unwrap();
        self.api()
            .create(&PostParams::default(), &binding)
            .await
            .unwrap();
        // The API server learns of new rules by a watch, a moment later.
        let review: SubjectAccessReview = serde_json::from_value(json!({"metadata": {}, "spec": {
            "user": format!("system:serviceaccount:{}:operator", self.namespace),
            "resourceAttributes": {
                "namespace": self.namespace, "verb": "list",
                "group": "voluba.ebrains.eu", "resource": "alignmentrequests",
            },
        }}))
        .unwrap();
        let reviews: Api<SubjectAccessReview> = Api::all(self.admin.clone());
        eventually("the operator's rights", async || {
            let answer = reviews
                .create(&PostParams::default(), &review)
                .await
                .unwrap();
            answer
                .status
                .is_some_and(|status| status.allowed)
                .then_some(())
        })
        .await;
    }

    /// Takes its rights away.
    pub(crate) async fn revoke(&self) {
        let bindings: Api<RoleBinding> = self.api();
        let params = DeleteParams::default();
        bindings.delete("operator", &params).await.unwrap();
    }

    /// A client with the operator's rights and no more; refusals are counted.
    pub(crate) fn operator_client(&self) -> Client {
        let mut config = self.config.clone();
        let user = format!("system:serviceaccount:{}:operator", self.namespace);
        config.auth_info.impersonate = Some(user);
        config.default_retry = false;
        let forbidden = self.forbidden.clone();
        let count = tower::util::MapResponseLayer::new(move |response: Response<_>| {
            if response.status() == http::StatusCode::FORBIDDEN {
                forbidden.fetch_add(1, Ordering::Relaxed);
            }
            response
        });
        let builder = ClientBuilder::try_from(config).unwrap();
        operator::client::layered(builder.with_layer(&count), &self.metrics)
    }

    /// Starts the operator in this process.
    pub(crate) fn operator(&self) -> Operator {
        self.operator_with(Settings::with_image("aligner:test"))
    }

    pub(crate) fn operator_with(&self, settings: Settings) -> Operator {
        let readiness = Readiness::default();
        readiness.set(readiness::Role::Working);
        let client = self.operator_client();
        let (events, receiver) = events::queue();
        let reporter = Reporter {
            controller: "voluba-align-operator".into(),
            instance: None,
        };
        let recorder = Recorder::new(client.clone(), reporter);
        let publisher = tokio::spawn(events::publish(recorder, receiver));
        let context = Context::new(
            client,
            settings,
            self.metrics.clone(),
            events,
            readiness.clone(),
        );
        let stop = CancellationToken::new();
        let namespaces = vec![self.namespace.clone()];
        let token = stop.clone();
        let work = tokio::spawn(async move {
            controller::run(Arc::new(context), &namespaces, token).await;
        });
        Operator {
            readiness,
            stop,
            work,
            publisher,
        }
    }

    pub(crate) async fn create(
        &self,
        name: &str,
        changes: &[(&str, Value)],
    ) -> kube::Result<AlignmentRequest> {
        let request = serde_json::from_value(document(name, changes)).unwrap();
        self.api().create(&PostParams::default(), &request).await
    }

    pub(crate) async fn request(&self, name: &str) -> Value {
        let request: AlignmentRequest = self.api().get(name).await.unwrap();
        serde_json::to_value(request).unwrap()
    }

    /// Waits until the request's status is as told; gives the request.
    pub(crate) async fn until(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            last = self.request(name).await;
            if is(&last["status"]) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{name} did not get to {what}: {:#}", last["status"]);
    }

    pub(crate) async fn until_phase(&self, name: &str, phase: &str) -> Value {
        self.until(name, phase, |status| status["phase"] == phase)
            .await
    }

    pub(crate) async fn until_reason(&self, name: &str, reason: &str) -> Value {
        let told = |status: &Value| condition(status, "Progressing")["reason"] == reason;
        self.until(name, reason, told).await
    }

    pub(crate) fn watch_jobs(&self) -> JobWatch {
        let jobs = watcher(self.api(), watcher::Config::default());
        JobWatch(jobs.applied_objects().boxed())
    }

    pub(crate) async fn jobs(&self) -> Vec<Job> {
        let jobs: ObjectList<Job> = self.api().list(&ListParams::default()).await.unwrap();
        jobs.items
    }

    pub(crate) async fn pods(&self) -> Vec<Pod> {
        let pods: ObjectList<Pod> = self.api().list(&ListParams::default()).await.unwrap();
        pods.items
    }

    pub(crate) async fn event_reasons(&self) -> Vec<String> {
        let events: ObjectList<Event> = self.api().list(&ListParams::default()).await.unwrap();
        let ours = events
            .items
            .into_iter()
            .filter(|event| event.involved_object.kind.as_deref() == Some("AlignmentRequest"));
        ours.filter_map(|event| event.reason).collect()
    }

    /// Waits for the pod of the attempt's Job.
    pub(crate) async fn pod(&self, attempt: i32) -> Pod {
        eventually("a pod", async || {
            let pods = self.pods().await;
            let suffix = format!("-{attempt}");
            pods.into_iter().find(|pod| {
                let job = pod.labels().get("batch.kubernetes.io/job-name");
                job.is_some_and(|job| job.ends_with(&suffix))
            })
        })
        .await
    }

    pub(crate) async fn set_pod(&self, pod: &Pod, status: Value) {
        let pods: Api<Pod> = self.api();
        let patch = Patch::Merge(json!({"status": status}));
        let params = PatchParams::default();
        pods.patch_status(&pod.name_any(), &params, &patch)
            .await
            .unwrap();
    }

    pub(crate) async fn run_pod(&self, pod: &Pod) {
        let status =
            json!({"phase": "Running", "containerStatuses": [container(&json!({"running": {}}))]});
        self.set_pod(pod, status).await;
    }

    pub(crate) async fn end_pod(&self, pod: &Pod, exit_code: i32, message: &str) {
        let phase = if exit_code == 0 {
            "Succeeded"
        } else {
            "Failed"
        };
        let state =
            json!({"terminated": {"exitCode": exit_code, "message": message, "reason": "x"}});
        let status = json!({"phase": phase, "containerStatuses": [container(&state)]});
        self.set_pod(pod, status).await;
    }

    /// Ends a test: nothing may have been refused, and the namespace goes away.
    pub(crate) async fn finish(self) {
        let forbidden = self.forbidden.load(Ordering::Relaxed);
        assert_eq!(
            forbidden, 0,
            "the API server refused requests of the operator"
        );
        self.discard().await;
    }

    pub(crate) async fn discard(self) {
        let namespaces: Api<Namespace> = Api::all(self.admin.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::background())
            .await
            .unwrap();
    }
}

fn container(state: &Value) -> Value {
    json!({"name": "aligner", "image": "i", "imageID": "i", "ready": false, "restartCount": 0, "state": state})
}

/// Jobs as a watch shows them.
pub(crate) struct JobWatch(BoxStream<'static, watcher::Result<Job>>);

impl JobWatch {
    /// Waits until it has shown a Job of this request.
    pub(crate) async fn until_made_for(&mut self, request: &str) {
        let wanted = format!("{request}-");
        loop {
            match self.0.next().await.unwrap() {
                Ok(job) if job.name_any().starts_with(&wanted) => return,
                _ => {}
            }
        }
    }
}

/// The operator, running in this process.
pub(crate) struct Operator {
    pub(crate) readiness: Readiness,
    stop: CancellationToken,
    work: JoinHandle<()>,
    publisher: JoinHandle<()>,
}

impl Operator {
    /// As after SIGTERM.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.work)
            .await
            .expect("the operator did not stop")
            .unwrap();
        tokio::time::timeout(PATIENCE, self.publisher)
            .await
            .expect("events were left over")
            .unwrap();
    }
}

/// A small valid request with the values at these JSON pointers replaced.
pub(crate) fn document(name: &str, changes: &[(&str, Value)]) -> Value {
    let text = include_str!("../fixtures/minimal.yaml");
    let mut document: Value = serde_yaml_ng::from_str(text).unwrap();
    document["metadata"] = json!({"name": name});
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    document
}

pub(crate) fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    let all = status["conditions"].as_array().into_iter().flatten();
    all.into_iter()
        .find(|c| c["type"] == type_)
        .unwrap_or(&Value::Null)
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain for {what}");
}
