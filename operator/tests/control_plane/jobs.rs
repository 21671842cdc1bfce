//! Requests and their Jobs.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::cluster::{cluster, condition, eventually};
use crate::kubelet::success;
use crate::settle;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_becomes_one_job_and_its_result_reaches_the_status() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = cluster.operator();
    let request = cluster.create("a", &[]).await.unwrap();
    cluster.until_phase("a", "Pending").await;
    let pod = cluster.pod(1).await;
    let jobs = cluster.jobs().await;
    let owner = &jobs[0].owner_references()[0];
    assert_eq!(Some(&owner.uid), request.metadata.uid.as_ref());
    assert_eq!(owner.controller, Some(true));
    let spec = pod.spec.clone().unwrap();
    let container = &spec.containers[0];
    let arguments = container.args.clone().unwrap().join(" ");
    assert_eq!(
        arguments,
        "run /request/request.json --claim patches=/claims/patches --claim results=/claims/results \
         --template bigbrain=/static-data/bigbrain/depth.nii.gz --progress json \
         --termination-message /dev/termination-log --threads 2"
    );
    let annotation = &pod.annotations()["voluba.ebrains.eu/request"];
    let document: alignment_api::RequestDocument<alignment_api::AlignmentSpec> =
        serde_json::from_str(annotation).unwrap();
    assert_eq!(document.spec, request.spec.0);
    assert_eq!(alignment_api::validate(&document.erase()), []);

    cluster.run_pod(&pod).await;
    cluster.until_phase("a", "Running").await;
    cluster.end_pod(&pod, 0, &success()).await;
    let status = cluster.until_phase("a", "Succeeded").await["status"].clone();
    assert_eq!(condition(&status, "Complete")["status"], "True");
    assert_eq!(condition(&status, "Progressing")["status"], "False");
    assert_eq!(status["result"]["quality"]["depthResidualAfter"], 0.0425);
    assert_eq!(status["result"]["artifacts"][0]["name"], "nmda.nii.gz");
    assert_eq!(status["result"]["warnings"][0], "thin cortex");
    assert_eq!(status["result"]["location"]["claimName"], "results");
    assert_eq!(status["progress"]["percent"], 100);
    assert!(status["startTime"].is_string() && status["completionTime"].is_string());

    settle().await;
    operator.stop().await;
    assert_eq!(cluster.jobs().await.len(), 1);
    assert_eq!(cluster.pods().await.len(), 1);
    let mut reasons = cluster.event_reasons().await;
    reasons.sort();
    assert_eq!(reasons, ["JobCreated", "Succeeded"]);
    // One Job, and the statuses Pending, Running and Succeeded. Without a node one more is
    // unavoidable: the scheduler complains before the test can play the kubelet.
    let count = |verb, resource| cluster.metrics.api_requests(verb, resource);
    assert_eq!(count("POST", "jobs"), 1);
    assert_eq!(count("PATCH", "jobs"), 0);
    let statuses = count("PATCH", "alignmentrequests/status");
    assert!((3..=4).contains(&statuses), "{statuses}");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_deleted_by_hand_is_followed_by_a_second_attempt() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = cluster.operator();
    cluster.create("a", &[]).await.unwrap();
    cluster.pod(1).await;
    let job =
        cluster.until("a", "a Job", |s| s["attempts"] == 1).await["status"]["jobName"].clone();
    let jobs: Api<Job> = cluster.api();
    jobs.delete(job.as_str().unwrap(), &DeleteParams::background())
        .await
        .unwrap();
    let status = cluster
        .until("a", "attempt 2", |s| s["attempts"] == 2)
        .await["status"]
        .clone();
    assert_ne!(status["jobName"], job);
    let pod = cluster.pod(2).await;
    cluster.run_pod(&pod).await;
    cluster.end_pod(&pod, 0, &success()).await;
    cluster.until_phase("a", "Succeeded").await;
    assert_eq!(cluster.jobs().await.len(), 1);
    operator.stop().await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_quota_is_told_without_hammering() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}});
    let quota: ResourceQuota = serde_json::from_value(quota).unwrap();
    let quotas: Api<ResourceQuota> = cluster.api();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    eventually("the quota", async || {
        let quota = quotas.get("none").await.unwrap();
        quota.status.and_then(|status| status.hard)
    })
    .await;
    let operator = cluster.operator();
    cluster.create("a", &[]).await.unwrap();
    let status = cluster.until_reason("a", "QuotaExceeded").await["status"].clone();
    assert_eq!(condition(&status, "Accepted")["status"], "True");
    settle().await;
    assert_eq!(cluster.metrics.api_requests("POST", "jobs"), 1);
    operator.stop().await;
    cluster.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_job_is_removed_after_its_time_and_the_result_stays() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = cluster.operator();
    cluster
        .create("a", &[("/spec/ttlSecondsAfterFinished", json!(0))])
        .await
        .unwrap();
    let pod = cluster.pod(1).await;
    assert_eq!(
        cluster.jobs().await[0]
            .spec
            .as_ref()
            .unwrap()
            .ttl_seconds_after_finished,
        None
    );
    cluster.run_pod(&pod).await;
    cluster.end_pod(&pod, 0, &success()).await;
    cluster.until_phase("a", "Succeeded").await;
    eventually("no Job", async || {
        cluster.jobs().await.is_empty().then_some(())
    })
    .await;
    settle().await;
    assert!(cluster.jobs().await.is_empty());
    let status = cluster.request("a").await["status"].clone();
    assert_eq!(status["phase"], "Succeeded");
    assert_eq!(status["result"]["quality"]["depthResidualAfter"], 0.0425);
    operator.stop().await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_decides_when_its_job_runs() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = cluster.operator();
    let labels = json!({"kueue.x-k8s.io/queue-name": "team"});
    cluster
        .create("a", &[("/metadata/labels", labels)])
        .await
        .unwrap();
    cluster.until_reason("a", "Queued").await;
    let job = cluster.jobs().await.remove(0);
    assert_eq!(job.labels()["kueue.x-k8s.io/queue-name"], "team");
    assert!(cluster.pods().await.is_empty());
    // What Kueue does when the request's turn comes.
    let patch = Patch::Merge(json!({"spec": {"suspend": false}}));
    let jobs: Api<Job> = cluster.api();
    jobs.patch(&job.name_any(), &PatchParams::default(), &patch)
        .await
        .unwrap();
    let pod = cluster.pod(1).await;
    cluster.run_pod(&pod).await;
    cluster.until_phase("a", "Running").await;
    assert_eq!(cluster.metrics.api_requests("PATCH", "jobs"), 0);
    operator.stop().await;
    cluster.finish().await;
}
