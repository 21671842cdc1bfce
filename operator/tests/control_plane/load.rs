//! Load: many requests at once, one after another, and none to do anything for. Figures are printed
//! beside their bars; only wrong results fail. `VOLUBA_SOAK=1` runs the full sizes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{ListParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use operator::build::{self, Attempt};
use operator::crd::AlignmentRequest;
use operator::settings::Settings;
use operator::validate::validate;

use crate::cluster::{Cluster, cluster, document};
use crate::kubelet;
use crate::process::Process;

/// Requests made at the same time.
pub(crate) const WRITERS: usize = 16;
/// A burst takes long on a slow machine; that is told, not refused.
const PATIENCE: Duration = Duration::from_secs(900);

/// How many: few for every day, all of them where figures are asked for.
pub(crate) fn size(small: usize, full: usize) -> usize {
    match std::env::var("VOLUBA_SOAK").as_deref() {
        Ok("1") => full,
        _ => small,
    }
}

/// Prints a figure that must not exceed its bar.
pub(crate) fn at_most(name: &str, value: f64, unit: &str, bar: f64) {
    let verdict = if value <= bar { "ok" } else { "short" };
    println!("figure {name} {value:.2} {unit} bar {bar} {verdict}");
}

/// Prints a figure that must reach its bar.
fn at_least(name: &str, value: f64, unit: &str, bar: f64) {
    let verdict = if value >= bar { "ok" } else { "short" };
    println!("figure {name} {value:.2} {unit} bar {bar} {verdict}");
}

/// The time in seconds below which this share of all lies.
pub(crate) fn quantile(times: &mut [Duration], share: f64) -> f64 {
    times.sort();
    let at = ((times.len() - 1) as f64 * share).round() as usize;
    times[at].as_secs_f64()
}

pub(crate) async fn create_all(cluster: &Cluster, count: usize) {
    let names = stream::iter((0..count).map(|number| format!("r{number}")));
    names
        .for_each_concurrent(WRITERS, |name| async move {
            cluster.create(&name, &[]).await.unwrap();
        })
        .await;
}

async fn until_phase(operator: &Process, phase: &str, count: usize) {
    let metric = format!("voluba_align_alignment_requests{{phase=\"{phase}\"}}");
    let since = Instant::now();
    while operator.metric(&metric).await != Some(count as f64) {
        assert!(since.elapsed() < PATIENCE, "not all of {count} are {phase}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_requests_ends_well_and_every_job_is_made_once() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let count = size(30, 1000);
    let operator = Process::start(&cluster);
    let kubelet = tokio::spawn(kubelet::end_all(cluster.api()));
    operator.until_it_leads().await;
    let (start, cpu) = (Instant::now(), operator.cpu_seconds());
    create_all(&cluster, count).await;
    let created = start.elapsed();
    until_phase(&operator, "Succeeded", count).await;
    let rate = count as f64 / start.elapsed().as_secs_f64();
    at_least("burst-full-lifecycles", rate, "1/s", 100.0);
    let cpu = operator.cpu_seconds() - cpu;
    println!(
        "note: created within {:.1} s; {:.2} ms of the operator's processor time per request",
        created.as_secs_f64(),
        1000.0 * cpu / count as f64
    );
    let memory = operator.resident_mebibytes();
    at_most("burst-memory", memory, "MiB", 100.0);
    let reads = operator
        .sum("voluba_align_api_requests_total{verb=\"GET\"", "none")
        .await;
    let writes = operator
        .sum("voluba_align_api_requests_total", "\"WATCH\"")
        .await
        - reads;
    println!("note: {}", operator.calls().await);
    at_most("writes-per-request", writes / count as f64, "", 6.0);
    // Three lists at the start; their pages are those of an empty namespace.
    at_most("reads-per-request", (reads - 3.0) / count as f64, "", 0.0);
    let requests: Vec<AlignmentRequest> = cluster
        .api()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    let uids: BTreeSet<_> = requests.iter().filter_map(ResourceExt::uid).collect();
    let jobs = cluster.jobs().await;
    let owners: BTreeSet<_> = jobs
        .iter()
        .map(|job| job.owner_references()[0].uid.clone())
        .collect();
    assert_eq!((jobs.len(), owners), (count, uids));
    kubelet.abort();
    cluster.discard().await;
}

/// The same Jobs without requests and without an operator: what this machine can do at all.
#[tokio::test(flavor = "multi_thread")]
async fn the_job_controller_alone_sets_the_pace() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let count = size(30, 1000);
    let kubelet = tokio::spawn(kubelet::end_all(cluster.api()));
    let request: operator::request::Request = serde_json::from_value(document("r", &[])).unwrap();
    let settings = Settings::with_image("aligner:test");
    let valid = validate(&request, &settings).unwrap();
    let mut job = build::job(&request, &valid, Attempt::FIRST, &settings);
    job.metadata.owner_references = None;
    let jobs: Api<Job> = cluster.api();
    let ended = watcher(jobs.clone(), watcher::Config::default())
        .applied_objects()
        .try_filter(|job| {
            let status = job.status.as_ref();
            std::future::ready(status.is_some_and(|status| status.succeeded == Some(1)))
        })
        .filter_map(async |job| Some(job.ok()?.name_any()));
    let start = Instant::now();
    let create = stream::iter(0..count).for_each_concurrent(WRITERS, |number| {
        let (jobs, mut job) = (jobs.clone(), job.clone());
        job.metadata.name = Some(format!("r{number}"));
        async move {
            jobs.create(&PostParams::default(), &job).await.unwrap();
        }
    });
    let all_ended = async {
        let mut names = BTreeSet::new();
        let mut ended = std::pin::pin!(ended);
        while names.len() < count {
            names.insert(ended.next().await.unwrap());
        }
    };
    futures::join!(create, all_ended);
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("note: {rate:.1} Jobs per second without requests and operator");
    kubelet.abort();
    cluster.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_gets_its_job_at_once() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = Process::start(&cluster);
    operator.until_it_leads().await;
    let mut times = Vec::new();
    let mut jobs = cluster.watch_jobs();
    for number in 0..size(5, 200) {
        cluster.create(&format!("r{number}"), &[]).await.unwrap();
        let start = Instant::now();
        jobs.until_made_for(&format!("r{number}")).await;
        times.push(start.elapsed());
        // One at a time: the Job controller has done its part before the next.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (half, most) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
    at_most("created-to-job-p50", 1000.0 * half, "ms", 20.0);
    at_most("created-to-job-p99", 1000.0 * most, "ms", 150.0);
    drop(operator);
    cluster.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_where_nothing_happens() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let count = size(20, 1000);
    let seconds = size(3, 60) as u64;
    let operator = Process::start(&cluster);
    operator.until_it_leads().await;
    create_all(&cluster, count).await;
    until_phase(&operator, "Pending", count).await;
    // The Jobs' pods, their conditions and the events of all come after the requests.
    let calls = async || {
        operator
            .sum("voluba_align_api_requests_total", "\"WATCH\"")
            .await
    };
    let mut before = calls().await;
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = calls().await;
        if now == before {
            break;
        }
        before = now;
    }
    let cpu = operator.cpu_seconds();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let asked = calls().await - before;
    at_most("idle-requests", asked, "", 0.0);
    let cpu = operator.cpu_seconds() - cpu;
    println!(
        "note: {:.2} % of a processor with {count} requests waiting",
        100.0 * cpu / seconds as f64
    );
    assert_eq!(asked, 0.0);
    drop(operator);
    cluster.discard().await;
}
