//! Operators that stop, start and take over: in this process, and the program as processes.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use kube::Api;
use kube::api::{Patch, PatchParams};
use operator::crd::AlignmentRequest;
use operator::leader::Elector;
use serde_json::json;

use crate::cluster::{cluster, eventually};
use crate::kubelet::success;
use crate::load::{WRITERS, at_most, create_all, quantile, size};
use crate::process::Process;
use crate::settle;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_starts_anew_goes_on_where_the_other_stopped() {
    let Some(cluster) = cluster().await else {
        return;
    };
    for name in ["a", "b"] {
        cluster.create(name, &[]).await.unwrap();
    }
    let first = cluster.operator();
    cluster.until_phase("a", "Pending").await;
    cluster.until_phase("b", "Pending").await;
    first.stop().await;
    // Both end while nobody looks.
    eventually("two pods", async || {
        (cluster.pods().await.len() == 2).then_some(())
    })
    .await;
    for pod in cluster.pods().await {
        cluster.end_pod(&pod, 0, &success()).await;
    }
    let second = cluster.operator();
    for name in ["a", "b"] {
        let status = cluster.until_phase(name, "Succeeded").await["status"].clone();
        assert_eq!(status["result"]["quality"]["depthResidualAfter"], 0.0425);
    }
    second.stop().await;
    assert_eq!(cluster.jobs().await.len(), 2);

    // A third finds nothing to do.
    let before = cluster
        .metrics
        .api_requests("PATCH", "alignmentrequests/status");
    let third = cluster.operator();
    settle().await;
    third.stop().await;
    let after = cluster
        .metrics
        .api_requests("PATCH", "alignmentrequests/status");
    assert_eq!(before, after);
    assert_eq!(cluster.metrics.api_requests("POST", "jobs"), 2);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_one_leads_and_the_other_follows_at_once() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let client = cluster.operator_client();
    let elector = |me: &str| Elector::new(client.clone(), &cluster.namespace, "lease", me);
    let (mut first, mut second) = (elector("first"), elector("second"));
    assert!(first.attempt().await.unwrap());
    assert!(!second.attempt().await.unwrap());
    assert!(first.attempt().await.unwrap());
    first.release().await.unwrap();
    assert!(second.attempt().await.unwrap());
    assert!(!first.attempt().await.unwrap());
    cluster.finish().await;
}

/// Waits until this replica works; gives the time since then.
async fn until_it_works(replica: &Process, since: Instant) -> Duration {
    while replica.metric("voluba_align_leader").await != Some(1.0) {
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "nobody took over"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_waits_takes_over_from_one_that_ends_or_dies() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let (mut asked, mut died) = (Vec::new(), Vec::new());
    let mut leader = Process::replica(&cluster, "r0");
    leader.until_it_leads().await;
    for number in 1..=size(2, 10) {
        let next = Process::replica(&cluster, &format!("r{number}"));
        eventually("the standby", async || {
            next.metric("voluba_align_leader").await
        })
        .await;
        // Long enough for it to know who leads, and not at the same moment of its round each time.
        tokio::time::sleep(Duration::from_millis(2500 + 370 * number as u64 % 1000)).await;
        assert_eq!(next.metric("voluba_align_leader").await, Some(0.0));
        let start = Instant::now();
        if number % 2 == 1 {
            leader.terminate();
            asked.push(until_it_works(&next, start).await);
        } else {
            leader.kill();
            died.push(until_it_works(&next, start).await);
        }
        leader = next;
    }
    at_most(
        "takeover-after-sigterm",
        quantile(&mut asked, 1.0),
        "s",
        2.0,
    );
    at_most(
        "takeover-after-sigkill",
        quantile(&mut died, 1.0),
        "s",
        17.0,
    );
    // The one that leads now does the work.
    cluster.create("r", &[]).await.unwrap();
    cluster.pod(1).await;
    drop(leader);
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
        // A container that starts again has the name of its pod, and the Lease with it.
        let killed = Process::replica(&cluster, "same");
        killed.until_it_leads().await;
        drop(killed);
        let name = format!("r{number}");
        cluster.create(&name, &[]).await.unwrap();
        let mut jobs = cluster.watch_jobs();
        let start = Instant::now();
        let next = Process::replica(&cluster, "same");
        jobs.until_made_for(&name).await;
        times.push(start.elapsed());
        drop(next);
    }
    let most = quantile(&mut times, 0.99);
    at_most("recovery-after-kill-p99", most, "s", 0.8);
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
    at_most("restart", start.elapsed().as_secs_f64(), "s", 5.0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    at_most("memory", operator.resident_mebibytes(), "MiB", 100.0);
    for (verb, resource) in [("PATCH", "alignmentrequests/status"), ("POST", "jobs")] {
        let name =
            format!("voluba_align_api_requests_total{{verb=\"{verb}\",resource=\"{resource}\"}}");
        assert_eq!(operator.metric(&name).await, Some(0.0), "{name}");
    }
    assert!(cluster.jobs().await.is_empty());
    drop(operator);
    cluster.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_may_read_nothing_ends_when_it_is_asked_to() {
    let Some(cluster) = cluster().await else {
        return;
    };
    cluster.revoke().await;
    let operator = cluster.operator();
    eventually("a refusal", async || {
        let (ready, text) = operator.readiness.report();
        (!ready && text.contains("refused")).then_some(())
    })
    .await;
    operator.stop().await;
    cluster.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_taken_away_are_told_and_the_work_goes_on_when_they_return() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = cluster.operator();
    let until_ready = async |wanted: bool| {
        let since = Instant::now();
        loop {
            let (ready, text) = operator.readiness.report();
            if ready == wanted {
                return text;
            }
            // Watches that run go on: the API server asks for rights when they begin.
            assert!(since.elapsed() < Duration::from_secs(180), "{text}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    until_ready(true).await;
    cluster.revoke().await;
    let text = until_ready(false).await;
    assert!(text.contains("is forbidden"), "{text}");
    cluster.create("a", &[]).await.unwrap();
    cluster.grant().await;
    let granted = Instant::now();
    cluster.pod(1).await;
    println!(
        "note: at work {:.1} s after the rights returned",
        granted.elapsed().as_secs_f64()
    );
    until_ready(true).await;
    operator.stop().await;
    // What was refused meanwhile is what was tested.
    cluster.discard().await;
}
