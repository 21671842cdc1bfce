//! The operator against a real API server with its controllers: etcd, kube-apiserver,
//! kube-controller-manager, kube-scheduler. There is no node; the tests play the kubelet.
//!
//! `make test` starts the control plane and names it in `VOLUBA_TEST_KUBECONFIG`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod cluster;
mod load;

use std::time::Duration;

use cluster::{cluster, condition, document, eventually};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use operator::crd::AlignmentRequest;
use operator::leader::Elector;
use serde_json::{Value, json};

/// What the aligner leaves behind.
fn message(outcome: &str, more: &[(&str, Value)]) -> String {
    let mut message = json!({"schema": alignment_api::TERMINATION_SCHEMA, "outcome": outcome});
    for (key, value) in more {
        message[key] = value.clone();
    }
    message.to_string()
}

fn success() -> String {
    let mut quality = serde_json::to_value(alignment_api::Quality::default()).unwrap();
    quality["depthResidualAfter"] = json!(0.0425);
    let artifact = json!({"name": "nmda.nii.gz", "kind": "image", "sha256": "ab", "bytes": 12});
    let result = json!({"quality": quality, "artifacts": [artifact], "warnings": ["thin cortex"]});
    message("Success", &[("result", result)])
}

/// Long enough for a wrong second object to appear.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}

/// A refusal of the API server as text.
async fn refusal(cluster: &cluster::Cluster, changes: &[(&str, Value)]) -> String {
    let document = document("bad", changes);
    let resource = kube::api::ApiResource::erase::<AlignmentRequest>(&());
    let api: Api<kube::api::DynamicObject> =
        Api::namespaced_with(cluster.admin.clone(), &cluster.namespace, &resource);
    let object = serde_json::from_value(document).unwrap();
    api.create(&PostParams::default(), &object)
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_with_words_that_help() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let source = json!({"source": {"volume": {"claimName": "c", "path": "p"}}});
    let cases: [(&str, Value, &str); 10] = [
        (
            "/spec/placement/matrix",
            json!([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [5, 6, 7, 1]]),
            "the last row of the matrix must be 0 0 0 1",
        ),
        (
            "/spec/placement/matrix",
            json!([[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
            "the matrix is singular",
        ),
        (
            "/spec/placement/matrix",
            json!([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]),
            "should have at least 4 items",
        ),
        (
            "/spec/patch/depth",
            json!({"segmentation": source, "map": source}),
            "exactly one of segmentation, map must be set",
        ),
        (
            "/spec/patch/depth",
            json!({}),
            "exactly one of segmentation, map must be set",
        ),
        (
            "/spec/output/destination",
            json!({}),
            "spec.output.destination.volume: Required value",
        ),
        (
            "/spec/activeDeadlineSeconds",
            json!(0),
            "spec.activeDeadlineSeconds",
        ),
        ("/spec/template", json!("Big Brain"), "spec.template"),
        (
            "/spec/resources",
            json!({"memory": "lots"}),
            "spec.resources.memory",
        ),
        (
            "/metadata/name",
            json!("x".repeat(53)),
            "the name may have at most 52 characters",
        ),
    ];
    for (pointer, value, expected) in cases {
        let found = refusal(&cluster, &[(pointer, value.clone())]).await;
        assert!(found.contains(expected), "{pointer} {value}: {found}");
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_suspend_and_ttl_can_change() {
    let Some(cluster) = cluster().await else {
        return;
    };
    cluster.create("a", &[]).await.unwrap();
    let api: Api<AlignmentRequest> = cluster.api();
    let patch = async |spec: Value| {
        let patch = Patch::Merge(json!({"spec": spec}));
        api.patch("a", &PatchParams::default(), &patch).await
    };
    for spec in [
        json!({"template": "bigbrain"}),
        json!({"landmarks": [{"template": [1, 2, 3], "patch": [1, 2, 3]}]}),
        json!({"placement": {"space": "physical"}}),
        json!({"registration": {"preset": "fine"}}),
        json!({"output": {"grids": ["template"]}}),
        json!({"resources": {"cpu": "3"}}),
        json!({"activeDeadlineSeconds": 7}),
        json!({"patch": {"images": [{"name": "b", "source": {"volume": {"claimName": "c", "path": "p"}}}]}}),
    ] {
        let error = patch(spec.clone()).await.unwrap_err().to_string();
        assert!(
            error.contains("make a new AlignmentRequest"),
            "{spec}: {error}"
        );
    }
    patch(json!({"suspend": true, "ttlSecondsAfterFinished": 5}))
        .await
        .unwrap();
    patch(json!({"ttlSecondsAfterFinished": null}))
        .await
        .unwrap();
    cluster.finish().await;
}

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
    let document: alignment_api::RequestDocument = serde_json::from_str(annotation).unwrap();
    assert_eq!(document.spec, request.spec.0);
    assert_eq!(alignment_api::validate(&document), []);

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
async fn an_invalid_request_says_why_and_gets_no_job() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = cluster.operator();
    let flat = json!([[1e-9, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]);
    cluster
        .create("flat", &[("/spec/placement/matrix", flat)])
        .await
        .unwrap();
    cluster
        .create("mouse", &[("/spec/template", json!("mouse"))])
        .await
        .unwrap();
    for (name, expected) in [
        ("flat", "spec.placement.matrix"),
        ("mouse", "`mouse` is not offered here (offered: bigbrain)"),
    ] {
        let status = cluster.until_phase(name, "Failed").await["status"].clone();
        let accepted = condition(&status, "Accepted");
        assert_eq!(
            (&accepted["status"], &accepted["reason"]),
            (&json!("False"), &json!("InvalidRequest"))
        );
        assert!(
            accepted["message"].as_str().unwrap().contains(expected),
            "{accepted}"
        );
    }
    settle().await;
    operator.stop().await;
    assert!(cluster.jobs().await.is_empty());
    assert_eq!(
        cluster.event_reasons().await,
        ["InvalidRequest", "InvalidRequest"]
    );
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_request_removes_its_job_and_pod() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = cluster.operator();
    cluster.create("a", &[]).await.unwrap();
    let pod = cluster.pod(1).await;
    cluster.run_pod(&pod).await;
    cluster.until_phase("a", "Running").await;
    let api: Api<AlignmentRequest> = cluster.api();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    eventually("the garbage collector", async || {
        let empty = cluster.jobs().await.is_empty() && cluster.pods().await.is_empty();
        empty.then_some(())
    })
    .await;
    settle().await;
    assert!(cluster.jobs().await.is_empty());
    operator.stop().await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_can_be_suspended_and_resumed() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = cluster.operator();
    cluster.create("a", &[]).await.unwrap();
    let pod = cluster.pod(1).await;
    cluster.run_pod(&pod).await;
    cluster.until_phase("a", "Running").await;
    let api: Api<AlignmentRequest> = cluster.api();
    let suspend = async |value: bool| {
        let patch = Patch::Merge(json!({"spec": {"suspend": value}}));
        api.patch("a", &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    suspend(true).await;
    let status = cluster.until_phase("a", "Suspended").await["status"].clone();
    assert_eq!(condition(&status, "Suspended")["status"], "True");
    eventually("no pod", async || {
        cluster.pods().await.is_empty().then_some(())
    })
    .await;
    suspend(false).await;
    let pod = cluster.pod(1).await;
    cluster.run_pod(&pod).await;
    cluster.until_phase("a", "Running").await;
    cluster.end_pod(&pod, 0, &success()).await;
    let status = cluster.until_phase("a", "Succeeded").await["status"].clone();
    assert_eq!(condition(&status, "Suspended")["status"], "False");
    assert_eq!(cluster.jobs().await.len(), 1);
    operator.stop().await;
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
async fn an_unusable_image_fails_at_once_and_for_good() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = cluster.operator();
    cluster.create("a", &[]).await.unwrap();
    let pod = cluster.pod(1).await;
    cluster.run_pod(&pod).await;
    let text = message(
        "InvalidImage",
        &[("message", json!("nmda.nii.gz: not a NIfTI file"))],
    );
    cluster.end_pod(&pod, 65, &text).await;
    let status = cluster.until_phase("a", "Failed").await["status"].clone();
    assert_eq!(
        status["failure"],
        json!({"reason": "InvalidImage", "message": "nmda.nii.gz: not a NIfTI file",
            "exitCode": 65, "retryable": false})
    );
    assert_eq!(condition(&status, "Failed")["reason"], "InvalidImage");
    settle().await;
    assert_eq!(cluster.pods().await.len(), 1);
    assert_eq!(cluster.jobs().await.len(), 1);
    operator.stop().await;
    assert!(cluster.event_reasons().await.contains(&"Failed".to_owned()));
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_memory_gives_exactly_one_larger_attempt() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = cluster.operator();
    cluster.create("a", &[]).await.unwrap();
    let needs = |bytes: u64| {
        message(
            "InsufficientMemory",
            &[
                ("requiredMemoryBytes", json!(bytes)),
                ("message", json!("too large")),
            ],
        )
    };
    let pod = cluster.pod(1).await;
    cluster.run_pod(&pod).await;
    cluster.end_pod(&pod, 71, &needs(5 << 30)).await;
    let pod = cluster.pod(2).await;
    let resources = pod.spec.clone().unwrap().containers[0]
        .resources
        .clone()
        .unwrap();
    assert_eq!(resources.limits.unwrap()["memory"].0, "5632Mi");
    cluster.run_pod(&pod).await;
    cluster.end_pod(&pod, 71, &needs(9 << 30)).await;
    let status = cluster.until_phase("a", "Failed").await["status"].clone();
    assert_eq!(status["failure"]["reason"], "InsufficientMemory");
    let text = status["failure"]["message"].as_str().unwrap();
    assert!(
        text.contains("needs 9663676416 bytes, had 5632Mi"),
        "{text}"
    );
    settle().await;
    assert_eq!(cluster.jobs().await.len(), 2);
    operator.stop().await;
    cluster.finish().await;
}

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
async fn what_keeps_a_pod_from_starting_is_told_and_heals() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = cluster.operator();
    cluster.create("a", &[]).await.unwrap();
    // There is no node: the real scheduler says so.
    let status = cluster.until_reason("a", "PodUnschedulable").await["status"].clone();
    assert_eq!(status["phase"], "Pending");
    let pod = cluster.pod(1).await;
    let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
    let container = json!({"name": "aligner", "image": "i", "imageID": "i", "ready": false,
        "restartCount": 0, "state": waiting});
    let scheduled = json!({"type": "PodScheduled", "status": "True"});
    cluster
        .set_pod(
            &pod,
            json!({"conditions": [scheduled], "containerStatuses": [container]}),
        )
        .await;
    let status = cluster.until_reason("a", "ImagePullFailed").await["status"].clone();
    assert_eq!(status["phase"], "Pending");
    assert!(
        condition(&status, "Progressing")["message"]
            .as_str()
            .unwrap()
            .contains("no such image")
    );
    cluster.run_pod(&pod).await;
    cluster.until_reason("a", "Running").await;
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

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_pod_leaves_behind_fits_the_status() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = cluster.operator();
    let nasty = format!("\u{1b}[31m{}\u{202e}\u{0}", "ä".repeat(1500));
    let huge = message(
        "Success",
        &[(
            "result",
            json!({"quality": alignment_api::Quality {
        folded_cells: u64::MAX, jacobian_max: 1e308, ..Default::default()},
        "artifacts": [{"name": "n".repeat(900), "kind": "image", "sha256": "s".repeat(900), "bytes": u64::MAX}],
        "warnings": vec!["w".repeat(30); 40]}),
        )],
    );
    for (name, code, text, phase) in [
        ("nasty", 65, &nasty, "Failed"),
        ("huge", 0, &huge, "Succeeded"),
    ] {
        cluster.create(name, &[]).await.unwrap();
        let pod = eventually("the pod", async || {
            let pods = cluster.pods().await;
            pods.into_iter()
                .find(|pod| pod.labels()["voluba.ebrains.eu/request"] == name)
        })
        .await;
        cluster.end_pod(&pod, code, text).await;
        cluster.until_phase(name, phase).await;
    }
    let failure = cluster.request("nasty").await["status"]["failure"].clone();
    let text = failure["message"].as_str().unwrap();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.chars().count() <= 2000);
    let status = cluster.until_phase("huge", "Succeeded").await["status"].clone();
    assert_eq!(status["result"]["quality"]["foldedCells"], i64::MAX);
    operator.stop().await;
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
