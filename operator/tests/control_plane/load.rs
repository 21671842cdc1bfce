//! Load and kills: the program itself, as a process, against a real control plane. Figures are
//! printed beside their bars; only wrong results fail. `VOLUBA_SOAK=1` runs the full sizes.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use operator::crd::AlignmentRequest;
use serde_json::json;

use crate::cluster::{Cluster, KUBECONFIG, cluster, eventually};
use crate::success;

/// Requests made at the same time.
const WRITERS: usize = 16;

fn size(small: usize, full: usize) -> usize {
    match std::env::var("VOLUBA_SOAK").as_deref() {
        Ok("1") => full,
        _ => small,
    }
}

fn figure(name: &str, value: f64, unit: &str, bar: f64, at_least: bool) {
    let reached = if at_least { value >= bar } else { value <= bar };
    let verdict = if reached { "ok" } else { "short" };
    println!("figure {name} {value:.2} {unit} bar {bar} {verdict}");
}

/// The value below which this share of all lies.
fn quantile(times: &mut [Duration], share: f64) -> f64 {
    times.sort();
    let at = ((times.len() - 1) as f64 * share).round() as usize;
    times[at].as_secs_f64()
}

/// The program as a process of its own; killed when it is dropped.
struct Process {
    child: Child,
    port: u16,
}

impl Process {
    fn start(cluster: &Cluster) -> Self {
        // Free a moment ago; nobody else is likely to take it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let child = Command::new(env!("CARGO_BIN_EXE_operator"))
            .args(["run", "--namespace", &cluster.namespace])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--aligner-image", "aligner:test"])
            .env("KUBECONFIG", std::env::var(KUBECONFIG).unwrap())
            .env("RUST_LOG", "error")
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self { child, port }
    }

    fn resident_mebibytes(&self) -> f64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS"))
            .unwrap();
        let kibibytes: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kibibytes / 1024.0
    }

    /// A value out of `/metrics`; none, if the port is not open yet.
    async fn metric(&self, name: &str) -> Option<f64> {
        let address = ("127.0.0.1", self.port);
        let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, request)
            .await
            .ok()?;
        let mut text = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text)
            .await
            .ok()?;
        let value = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
        Some(text.lines().find_map(value).unwrap_or(0.0))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn create_all(cluster: &Cluster, count: usize) {
    let names = stream::iter((0..count).map(|number| format!("r{number}")));
    names
        .for_each_concurrent(WRITERS, |name| async move {
            cluster.create(&name, &[]).await.unwrap();
        })
        .await;
}

/// Ends every pod as soon as it is there.
async fn kubelet(pods: Api<Pod>) {
    let end = json!({"status": {"phase": "Succeeded", "containerStatuses": [{"name": "aligner",
        "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 0, "message": success()}}}]}});
    let events = watcher(pods.clone(), watcher::Config::default()).applied_objects();
    let waiting = events.try_filter(|pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        std::future::ready(phase == Some("Pending"))
    });
    waiting
        .for_each_concurrent(WRITERS, |pod| async {
            let Ok(pod) = pod else { return };
            let patch = Patch::Merge(&end);
            let params = PatchParams::default();
            let _ = pods.patch_status(&pod.name_any(), &params, &patch).await;
        })
        .await;
}

async fn in_phase(cluster: &Cluster, phase: &str) -> usize {
    let api: Api<AlignmentRequest> = cluster.api();
    let all = api.list(&kube::api::ListParams::default()).await.unwrap();
    let is = |request: &&AlignmentRequest| request.phase().is_some_and(|p| p.name() == phase);
    all.items.iter().filter(is).count()
}

/// Waits longer than other tests: what takes long here is told, not refused.
async fn until_all_succeeded(cluster: &Cluster, count: usize) {
    for _ in 0..3600 {
        if in_phase(cluster, "Succeeded").await == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("not all of {count} requests succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_requests_ends_well_and_every_job_is_made_once() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let count = size(30, 1000);
    let operator = Process::start(&cluster);
    let kubelet = tokio::spawn(kubelet(cluster.api()));
    eventually("the operator", async || {
        operator.metric("voluba_align_leader").await
    })
    .await;
    let start = Instant::now();
    create_all(&cluster, count).await;
    until_all_succeeded(&cluster, count).await;
    let rate = count as f64 / start.elapsed().as_secs_f64();
    figure("burst-full-lifecycles", rate, "1/s", 100.0, true);
    figure(
        "burst-memory",
        operator.resident_mebibytes(),
        "MiB",
        100.0,
        false,
    );
    let jobs = cluster.jobs().await;
    let owners: BTreeSet<_> = jobs
        .iter()
        .map(|job| job.owner_references()[0].uid.clone())
        .collect();
    assert_eq!((jobs.len(), owners.len()), (count, count));
    kubelet.abort();
    cluster.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_gets_its_job_at_once() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = Process::start(&cluster);
    eventually("the operator", async || {
        operator.metric("voluba_align_leader").await
    })
    .await;
    let mut times = Vec::new();
    let jobs = watcher(cluster.api::<Job>(), watcher::Config::default()).applied_objects();
    let mut jobs = std::pin::pin!(jobs);
    for number in 0..size(5, 200) {
        cluster.create(&format!("r{number}"), &[]).await.unwrap();
        let start = Instant::now();
        let wanted = format!("r{number}-");
        while !jobs
            .next()
            .await
            .unwrap()
            .is_ok_and(|job| job.name_any().starts_with(&wanted))
        {}
        times.push(start.elapsed());
    }
    figure(
        "created-to-job-p50",
        1000.0 * quantile(&mut times, 0.5),
        "ms",
        20.0,
        false,
    );
    figure(
        "created-to-job-p99",
        1000.0 * quantile(&mut times, 0.99),
        "ms",
        150.0,
        false,
    );
    drop(operator);
    cluster.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_operator_goes_on_where_it_was() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let mut times = Vec::new();
    let count = size(3, 100);
    for number in 0..count {
        let killed = Process::start(&cluster);
        eventually("the operator", async || {
            killed.metric("voluba_align_leader").await
        })
        .await;
        drop(killed);
        let name = format!("r{number}");
        cluster.create(&name, &[]).await.unwrap();
        let jobs = watcher(cluster.api::<Job>(), watcher::Config::default()).applied_objects();
        let mut jobs = std::pin::pin!(jobs);
        let start = Instant::now();
        let next = Process::start(&cluster);
        let wanted = format!("{name}-");
        while !jobs
            .next()
            .await
            .unwrap()
            .is_ok_and(|job| job.name_any().starts_with(&wanted))
        {}
        times.push(start.elapsed());
        drop(next);
    }
    figure(
        "recovery-after-kill-p99",
        quantile(&mut times, 0.99),
        "s",
        0.8,
        false,
    );
    assert_eq!(cluster.jobs().await.len(), count);
    cluster.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_among_many_finished_requests_writes_nothing() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let count = size(100, 10_000);
    create_all(&cluster, count).await;
    let finished =
        json!({"status": {"phase": "Succeeded", "attempts": 1, "observedGeneration": 1}});
    let requests: Api<AlignmentRequest> = cluster.api();
    let names = stream::iter((0..count).map(|number| format!("r{number}")));
    names
        .for_each_concurrent(WRITERS, |name| {
            let (requests, finished) = (&requests, &finished);
            async move {
                let patch = Patch::Merge(finished);
                let params = PatchParams::default();
                requests.patch_status(&name, &params, &patch).await.unwrap();
            }
        })
        .await;
    let start = Instant::now();
    let operator = Process::start(&cluster);
    let all = "voluba_align_alignment_requests{phase=\"Succeeded\"}";
    eventually("the cache", async || {
        let known = operator.metric(all).await?;
        let reconciled = operator.metric("voluba_align_reconciles_total").await?;
        (known == count as f64 && reconciled >= known).then_some(())
    })
    .await;
    figure("restart", start.elapsed().as_secs_f64(), "s", 5.0, false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    figure("memory", operator.resident_mebibytes(), "MiB", 100.0, false);
    for (verb, resource) in [("PATCH", "alignmentrequests/status"), ("POST", "jobs")] {
        let name =
            format!("voluba_align_api_requests_total{{verb=\"{verb}\",resource=\"{resource}\"}}");
        assert_eq!(operator.metric(&name).await, Some(0.0), "{name}");
    }
    assert!(cluster.jobs().await.is_empty());
    drop(operator);
    cluster.discard().await;
}
