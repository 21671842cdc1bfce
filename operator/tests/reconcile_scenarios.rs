//! The whole reconcile against a scripted API server: exactly these requests, in this order, and
//! no other.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use k8s_openapi::api::batch::v1::Job;
use kube::client::Body;
use kube::runtime::reflector::{self, ObjectRef, store::Writer};
use kube::runtime::watcher::Event;
use kube::{Client, ResourceExt};
use operator::build::metadata::job_name;
use operator::context::{Context, Scope};
use operator::error::Error;
use operator::events;
use operator::logs::Followers;
use operator::metrics::Metrics;
use operator::observe::{PodIndex, Ready};
use operator::readiness::Readiness;
use operator::reconcile::reconcile;
use operator::request::Request as AnyRequest;
use operator::settings::Settings;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower_test::mock;

type Handle = mock::Handle<Request<Body>, Response<Body>>;

const JOBS: &str = "/apis/batch/v1/namespaces/alice/jobs";
const STATUS: &str =
    "/apis/voluba.ebrains.eu/v1alpha1/namespaces/alice/alignmentrequests/minimal/status";

const PODS: &str = "/api/v1/namespaces/alice/pods";

const LOG: &str = "/api/v1/namespaces/alice/pods/pod/log";

/// One operator, its caches, and the API server's side of its connection.
struct Bench {
    scope: Arc<Scope>,
    handle: Handle,
    jobs: Writer<Job>,
    request: Value,
    version: u64,
    triggers: mpsc::Receiver<ObjectRef<AnyRequest>>,
    _events: mpsc::Receiver<events::Note>,
}

impl Bench {
    fn new() -> Self {
        let (service, handle) = mock::pair::<Request<Body>, Response<Body>>();
        let client = Client::new(service, "alice");
        let (events, receiver) = events::queue();
        let metrics = Metrics::default();
        let settings = Settings::with_image("aligner:test");
        let context = Context::new(
            client.clone(),
            settings,
            metrics.clone(),
            events,
            Readiness::default(),
        );
        let (store, mut jobs) = reflector::store();
        jobs.apply_watcher_event(&Event::Init);
        jobs.apply_watcher_event(&Event::InitDone);
        let ready = Ready::default();
        ready.set();
        let pods = Arc::new(PodIndex::default());
        pods.take(Event::Init);
        pods.take(Event::InitDone);
        let (trigger, triggers) = mpsc::channel(16);
        let followers = Followers::new(client, context.log_permits.clone(), metrics, trigger);
        let text = include_str!("fixtures/minimal.yaml");
        let mut request: Value = serde_yaml_ng::from_str(text).unwrap();
        request["metadata"]["uid"] = json!("0a1b2c3d-0000-4000-8000-000000000000");
        request["metadata"]["generation"] = json!(1);
        request["metadata"]["resourceVersion"] = json!("10");
        Self {
            scope: Arc::new(Scope {
                context: Arc::new(context),
                jobs: store,
                jobs_ready: Arc::new(ready),
                pods,
                followers,
            }),
            handle,
            jobs,
            request,
            version: 10,
            triggers,
            _events: receiver,
        }
    }

    fn request(&self) -> Arc<AnyRequest> {
        Arc::new(serde_json::from_value(self.request.clone()).unwrap())
    }

    fn next_version(&mut self) -> Value {
        self.version += 1;
        json!(self.version.to_string())
    }

    fn job_path(&self, attempt: i32) -> String {
        format!("{JOBS}/{}", job_name(&self.request(), attempt))
    }

    /// Runs one reconcile against this script; gives the bodies that were sent.
    async fn reconcile(&mut self, script: Vec<Step>) -> (Result<(), Error>, Vec<Value>) {
        let work = tokio::spawn(reconcile(self.request(), self.scope.clone()));
        let mut sent = Vec::new();
        for step in script {
            let next = tokio::time::timeout(Duration::from_secs(5), self.handle.next_request());
            let (request, reply) = next.await.expect("a request is missing").unwrap();
            let (method, path) = (
                request.method().to_string(),
                request.uri().path().to_owned(),
            );
            assert_eq!(
                (method.as_str(), path.as_str()),
                (step.method, step.path.as_str())
            );
            let body = request.into_body().collect_bytes().await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let mut answer = step.answer.unwrap_or_else(|| body.clone());
            if path == STATUS && step.code == StatusCode::OK {
                // As a server does: the whole object, with a new version.
                self.request["status"] = body["status"].clone();
                self.request["metadata"]["resourceVersion"] = self.next_version();
                answer = self.request.clone();
            }
            let json = serde_json::to_vec(&answer).unwrap();
            let bytes = Body::from(step.text.map_or(json, String::into_bytes));
            reply.send_response(Response::builder().status(step.code).body(bytes).unwrap());
            sent.push(body);
        }
        let outcome = work.await.unwrap().map(drop);
        let more = tokio::time::timeout(Duration::from_millis(20), self.handle.next_request());
        if let Ok(Some((request, _))) = more.await {
            panic!(
                "one request too many: {} {}",
                request.method(),
                request.uri()
            );
        }
        (outcome, sent)
    }

    /// The watch shows a Job.
    fn see_job(&mut self, mut job: Value, status: Value) {
        job["metadata"]["uid"] = json!("job-uid");
        job["metadata"]["resourceVersion"] = self.next_version();
        job["status"] = status;
        let job = serde_json::from_value(job).unwrap();
        self.jobs.apply_watcher_event(&Event::Apply(job));
    }

    /// The watch shows a pod of the Job.
    fn see_pod(&self, name: &str, status: &Value) {
        let pod = json!({
            "metadata": {
                "name": name, "namespace": "alice", "uid": format!("{name}-uid"),
                "labels": {"voluba.ebrains.eu/request": "minimal"},
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j",
                    "uid": "job-uid", "controller": true}],
            },
            "status": status,
        });
        let event = Event::Apply(serde_json::from_value(pod).unwrap());
        self.scope.pods.take(event);
    }

    fn phase(&self) -> &str {
        self.request["status"]["phase"].as_str().unwrap_or("")
    }
}

struct Step {
    method: &'static str,
    path: String,
    code: StatusCode,
    /// Nothing echoes what was sent.
    answer: Option<Value>,
    /// Instead of JSON.
    text: Option<String>,
}

fn step(method: &'static str, path: impl Into<String>) -> Step {
    Step {
        method,
        path: path.into(),
        code: StatusCode::OK,
        answer: None,
        text: None,
    }
}

fn failing(mut step: Step, code: u16, reason: &str, message: &str) -> Step {
    step.code = StatusCode::from_u16(code).unwrap();
    step.answer = Some(
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "message": message, "code": code}),
    );
    step
}

/// The Job that was sent, as the server would return it.
fn created(sent: &[Value]) -> Value {
    sent[0].clone()
}

fn progressing(bench: &Bench) -> &str {
    let all = bench.request["status"]["conditions"].as_array().unwrap();
    let found = all.iter().find(|c| c["type"] == "Progressing").unwrap();
    found["reason"].as_str().unwrap()
}

#[tokio::test]
async fn from_creation_to_success_in_four_writes_without_a_read_but_the_log() {
    let mut bench = Bench::new();
    let (done, sent) = bench
        .reconcile(vec![step("POST", JOBS), step("PATCH", STATUS)])
        .await;
    done.unwrap();
    assert_eq!(bench.phase(), "Pending");
    assert_eq!(sent[1]["metadata"]["uid"], bench.request["metadata"]["uid"]);
    let job = created(&sent);

    // The watch is behind: the own writes are believed.
    bench.reconcile(vec![]).await.0.unwrap();

    bench.see_job(job.clone(), json!({"active": 1}));
    bench.see_pod("pod", &json!({"phase": "Pending"}));
    bench.reconcile(vec![]).await.0.unwrap();

    bench.see_pod("pod", &json!({"phase": "Running"}));
    let log = failing(step("GET", LOG), 404, "NotFound", "no");
    let script = vec![step("PATCH", STATUS), log];
    bench.reconcile(script).await.0.unwrap();
    assert_eq!(bench.phase(), "Running");

    let end = json!({"schema": alignment_api::TERMINATION_SCHEMA, "outcome": "Success",
        "result": {"artifacts": [], "quality": alignment_api::Quality::default()}});
    let terminated = json!({"terminated": {"exitCode": 0, "message": end.to_string()}});
    bench.see_pod(
        "pod",
        &json!({"phase": "Succeeded", "containerStatuses": [{"name": "aligner",
        "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": terminated}]}),
    );
    bench.reconcile(vec![]).await.0.unwrap();

    let complete = json!({"conditions": [{"type": "Complete", "status": "True"}],
        "completionTime": "2026-01-01T00:00:00Z"});
    bench.see_job(job, complete);
    bench
        .reconcile(vec![step("PATCH", STATUS)])
        .await
        .0
        .unwrap();
    assert_eq!(bench.phase(), "Succeeded");
    assert_eq!(
        bench.request["status"]["completionTime"],
        "2026-01-01T00:00:00Z"
    );
    assert_eq!(bench.request["status"]["result"]["quality"]["overlap"], 0.0);

    bench.reconcile(vec![]).await.0.unwrap();
}

#[tokio::test]
async fn a_template_that_is_not_there_yet_costs_two_statuses_and_no_further_job() {
    let mut bench = Bench::new();
    let (done, sent) = bench
        .reconcile(vec![step("POST", JOBS), step("PATCH", STATUS)])
        .await;
    done.unwrap();
    bench.see_job(created(&sent), json!({"active": 1}));

    let said = json!({"schema": alignment_api::TERMINATION_SCHEMA, "outcome": "TemplateUnavailable",
        "message": "template `bigbrain`: no such file"});
    let terminated = json!({"terminated": {"exitCode": 68, "message": said.to_string()}});
    let absent = json!({"phase": "Failed", "containerStatuses": [{"name": "aligner", "image": "",
        "imageID": "", "ready": false, "restartCount": 0, "state": terminated}]});
    bench.see_pod("pod", &absent);
    let script = vec![step("PATCH", STATUS)];
    bench.reconcile(script).await.0.unwrap();
    assert_eq!(
        (bench.phase(), progressing(&bench)),
        ("Pending", "TemplateUnavailable")
    );
    // The Job makes the next pod; it fails in the same way, and nothing is new.
    bench.see_pod("later", &json!({"phase": "Pending"}));
    bench.reconcile(vec![]).await.0.unwrap();
    bench.see_pod("later", &absent);
    bench.reconcile(vec![]).await.0.unwrap();

    bench.see_pod("last", &json!({"phase": "Running"}));
    let log = failing(
        step("GET", "/api/v1/namespaces/alice/pods/last/log"),
        404,
        "NotFound",
        "no",
    );
    let script = vec![step("PATCH", STATUS), log];
    bench.reconcile(script).await.0.unwrap();
    assert_eq!((bench.phase(), progressing(&bench)), ("Running", "Running"));
    assert_eq!(bench.request["status"]["attempts"], 1);
}

#[tokio::test]
async fn progress_in_the_log_reaches_the_status() {
    let mut bench = Bench::new();
    let script = vec![step("POST", JOBS), step("PATCH", STATUS)];
    let (_, sent) = bench.reconcile(script).await;
    bench.see_job(created(&sent), json!({"active": 1}));
    bench.see_pod("pod", &json!({"phase": "Running"}));
    let line = |stage: &str, percent: i32| {
        let schema = alignment_api::PROGRESS_SCHEMA;
        json!({"schema": schema, "stage": stage, "percent": percent, "level": 1}).to_string()
    };
    let mut log = step("GET", LOG);
    log.text = Some(format!(
        "started\n{}\n{}\n{{\"stage\": \"write\", \"percent\": 99}}\n{}\n",
        line("load", 2),
        line("register", 30),
        line("register", 31),
    ));
    let script = vec![step("PATCH", STATUS), log];
    bench.reconcile(script).await.0.unwrap();
    // Both stages at once, and the last line at the end of the stream.
    for _ in 0..3 {
        let trigger = tokio::time::timeout(Duration::from_secs(5), bench.triggers.recv());
        assert_eq!(trigger.await.unwrap().unwrap().name, "minimal");
    }
    bench
        .reconcile(vec![step("PATCH", STATUS)])
        .await
        .0
        .unwrap();
    let progress = json!({"stage": "register", "percent": 31, "level": 1});
    assert_eq!(bench.request["status"]["progress"], progress);
}

#[tokio::test]
async fn an_invalid_request_gets_one_status_and_no_job() {
    let mut bench = Bench::new();
    bench.request["spec"]["template"] = json!("mouse");
    bench
        .reconcile(vec![step("PATCH", STATUS)])
        .await
        .0
        .unwrap();
    assert_eq!(bench.phase(), "Failed");
    assert_eq!(
        bench.request["status"]["failure"]["reason"],
        "InvalidRequest"
    );
    assert_eq!(bench.request["status"]["conditions"][0]["type"], "Accepted");
    assert_eq!(bench.request["status"]["conditions"][0]["status"], "False");
    bench.reconcile(vec![]).await.0.unwrap();
}

#[tokio::test]
async fn a_job_that_an_earlier_operator_made_is_taken_over() {
    let mut bench = Bench::new();
    let (_, sent) = Bench::new()
        .reconcile(vec![step("POST", JOBS), step("PATCH", STATUS)])
        .await;
    let mut read = step("GET", bench.job_path(1));
    read.answer = Some(created(&sent));
    let conflict = failing(step("POST", JOBS), 409, "AlreadyExists", "exists");
    let script = vec![conflict, read, step("PATCH", STATUS)];
    bench.reconcile(script).await.0.unwrap();
    assert_eq!(bench.request["status"]["attempts"], 1);
}

#[tokio::test]
async fn a_job_of_somebody_else_is_left_alone() {
    let mut bench = Bench::new();
    let mut read = step("GET", bench.job_path(1));
    read.answer = Some(json!({"metadata": {"name": "x", "uid": "y"}}));
    let conflict = failing(step("POST", JOBS), 409, "AlreadyExists", "exists");
    bench
        .reconcile(vec![conflict, read, step("PATCH", STATUS)])
        .await
        .0
        .unwrap();
    assert_eq!(progressing(&bench), "PodsNotCreated");
}

#[tokio::test]
async fn a_full_quota_is_told_once_and_not_asked_again_at_once() {
    let mut bench = Bench::new();
    let refused = failing(step("POST", JOBS), 403, "Forbidden", "exceeded quota: jobs");
    bench
        .reconcile(vec![refused, step("PATCH", STATUS)])
        .await
        .0
        .unwrap();
    assert_eq!(progressing(&bench), "QuotaExceeded");
    assert_eq!(bench.phase(), "Pending");
    bench.reconcile(vec![]).await.0.unwrap();
}

#[tokio::test]
async fn a_server_error_changes_nothing() {
    let mut bench = Bench::new();
    let broken = failing(step("POST", JOBS), 503, "ServiceUnavailable", "try later");
    let (outcome, _) = bench.reconcile(vec![broken]).await;
    assert!(matches!(
        outcome,
        Err(Error::Api {
            call: "create job",
            ..
        })
    ));
    bench
        .reconcile(vec![step("POST", JOBS), step("PATCH", STATUS)])
        .await
        .0
        .unwrap();
}

#[tokio::test]
async fn a_namespace_that_goes_away_is_left_alone() {
    let mut bench = Bench::new();
    let mut refused = failing(step("POST", JOBS), 403, "Forbidden", "being terminated");
    refused.answer.as_mut().unwrap()["details"] =
        json!({"causes": [{"reason": "NamespaceTerminating", "message": "x", "field": "x"}]});
    bench.reconcile(vec![refused]).await.0.unwrap();
}

#[tokio::test]
async fn a_missing_job_is_looked_for_before_another_is_made() {
    let mut bench = Bench::new();
    let first = bench.job_path(1);
    bench.request["status"] = json!({"attempts": 1, "phase": "Running", "jobName": "x"});
    let gone = failing(step("GET", first), 404, "NotFound", "no");
    let script = vec![gone, step("POST", JOBS), step("PATCH", STATUS)];
    let (done, sent) = bench.reconcile(script).await;
    done.unwrap();
    assert!(
        sent[1]["metadata"]["name"]
            .as_str()
            .unwrap()
            .ends_with("-2")
    );
    assert_eq!(progressing(&bench), "JobDeleted");
    assert_eq!(bench.phase(), "Running");
    assert_eq!(bench.request["status"]["attempts"], 2);
}

#[tokio::test]
async fn a_finished_request_makes_no_call_even_if_its_job_is_gone() {
    let mut bench = Bench::new();
    bench.request["status"] = json!({"observedGeneration": 1, "attempts": 1, "phase": "Succeeded"});
    bench.reconcile(vec![]).await.0.unwrap();
}

#[tokio::test]
async fn a_request_that_is_being_deleted_is_left_alone() {
    let mut bench = Bench::new();
    bench.request["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    bench.reconcile(vec![]).await.0.unwrap();
}

#[tokio::test]
async fn a_status_that_breaks_a_bound_is_reduced_to_its_essential_part() {
    let mut bench = Bench::new();
    let refused = failing(step("PATCH", STATUS), 422, "Invalid", "too long");
    let script = vec![step("POST", JOBS), refused, step("PATCH", STATUS)];
    bench.reconcile(script).await.0.unwrap();
    assert_eq!(bench.phase(), "Pending");
}

#[tokio::test]
async fn suspending_patches_the_job() {
    let mut bench = Bench::new();
    let (_, sent) = bench
        .reconcile(vec![step("POST", JOBS), step("PATCH", STATUS)])
        .await;
    let mut job = created(&sent);
    bench.see_job(job.clone(), json!({"active": 1}));
    bench.request["spec"]["suspend"] = json!(true);
    bench.request["metadata"]["generation"] = json!(2);
    let mut patch = step("PATCH", bench.job_path(1));
    job["spec"]["suspend"] = json!(true);
    job["metadata"]["uid"] = json!("job-uid");
    job["metadata"]["resourceVersion"] = json!("99");
    patch.answer = Some(job);
    let (done, sent) = bench.reconcile(vec![patch, step("PATCH", STATUS)]).await;
    done.unwrap();
    assert_eq!(sent[0], json!({"spec": {"suspend": true}}));
    assert_eq!(bench.phase(), "Suspended");
    assert_eq!(bench.request().name_any(), "minimal");
}

/// A list of Jobs or pods.
fn list(path: &str, kind: &str, items: &[&Value]) -> Step {
    let mut list = step("GET", path);
    list.answer = Some(json!({"kind": format!("{kind}List"), "apiVersion": "v1",
        "metadata": {"resourceVersion": "100"}, "items": items}));
    list
}

fn conditions(bench: &Bench) -> Vec<(&str, &str)> {
    let all = bench.request["status"]["conditions"].as_array().unwrap();
    let conditions = all.iter();
    conditions
        .map(|c| (c["type"].as_str().unwrap(), c["status"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn cancelling_is_told_then_the_job_goes_then_its_pod_is_waited_for() {
    let mut bench = Bench::new();
    let (_, sent) = bench
        .reconcile(vec![step("POST", JOBS), step("PATCH", STATUS)])
        .await;
    let mut job = created(&sent);
    bench.see_job(job.clone(), json!({"active": 1}));
    bench.request["spec"]["cancel"] = json!(true);
    bench.request["metadata"]["generation"] = json!(2);
    job["metadata"]["uid"] = json!("job-uid");
    job["metadata"]["resourceVersion"] = json!("99");
    let of_job = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "job-uid",
        "controller": true}]);
    let pod = json!({"metadata": {"name": "pod", "uid": "pod-uid", "ownerReferences": of_job,
        "labels": {"voluba.ebrains.eu/request": "minimal"}}, "status": {"phase": "Running"}});
    let read =
        |jobs: &[&Value], pods: &[&Value]| vec![list(JOBS, "Job", jobs), list(PODS, "Pod", pods)];

    let mut script = read(&[&job], &[&pod]);
    script.push(step("PATCH", STATUS));
    bench.reconcile(script).await.0.unwrap();
    assert_eq!(
        (bench.phase(), progressing(&bench)),
        ("Pending", "Cancelling")
    );

    // Somebody changed the Job meanwhile: it may have ended.
    let mut script = read(&[&job], &[&pod]);
    let conflict = step("DELETE", bench.job_path(1));
    script.push(failing(conflict, 409, "Conflict", "precondition failed"));
    let (outcome, _) = bench.reconcile(script).await;
    assert!(outcome.unwrap_err().is_outdated());

    let mut script = read(&[&job], &[&pod]);
    let mut delete = step("DELETE", bench.job_path(1));
    delete.answer = Some(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}));
    script.push(delete);
    let (done, sent) = bench.reconcile(script).await;
    done.unwrap();
    assert_eq!(
        sent[2]["preconditions"],
        json!({"uid": "job-uid", "resourceVersion": "99"})
    );
    assert_eq!(sent[2]["propagationPolicy"], "Background");

    // The cache still shows the Job; the pod still runs.
    bench.reconcile(read(&[], &[&pod])).await.0.unwrap();
    assert_eq!(bench.phase(), "Pending");

    let mut script = read(&[], &[]);
    script.push(step("PATCH", STATUS));
    bench.reconcile(script).await.0.unwrap();
    assert_eq!(bench.phase(), "Cancelled");
    assert_eq!(
        conditions(&bench),
        [
            ("Accepted", "True"),
            ("Progressing", "False"),
            ("Cancelled", "True")
        ]
    );
    assert!(bench.request["status"]["completionTime"].is_string());
    assert!(bench.request["status"].get("failure").is_none());
}

#[tokio::test]
async fn a_request_that_is_made_cancelled_gets_one_status_and_no_job() {
    let mut bench = Bench::new();
    bench.request["spec"]["cancel"] = json!(true);
    let script = vec![
        list(JOBS, "Job", &[]),
        list(PODS, "Pod", &[]),
        step("PATCH", STATUS),
    ];
    bench.reconcile(script).await.0.unwrap();
    assert_eq!(bench.phase(), "Cancelled");
    assert!(bench.request["status"].get("attempts").is_none());
    bench.reconcile(vec![]).await.0.unwrap();
}

#[tokio::test]
async fn a_job_that_is_gone_when_it_is_to_be_deleted_is_as_good() {
    let mut bench = Bench::new();
    let (_, sent) = bench
        .reconcile(vec![step("POST", JOBS), step("PATCH", STATUS)])
        .await;
    let mut job = created(&sent);
    job["metadata"]["uid"] = json!("job-uid");
    bench.request["spec"]["cancel"] = json!(true);
    let read = || vec![list(JOBS, "Job", &[&job]), list(PODS, "Pod", &[])];
    let mut script = read();
    script.push(step("PATCH", STATUS));
    bench.reconcile(script).await.0.unwrap();
    let mut script = read();
    let gone = step("DELETE", bench.job_path(1));
    script.push(failing(gone, 404, "NotFound", "no"));
    bench.reconcile(script).await.0.unwrap();
    assert_eq!(progressing(&bench), "Cancelling");
}
