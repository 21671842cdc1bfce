//! What a user does to a request, and what the API server lets nobody do.

use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use operator::crd::AlignmentRequest;
use serde_json::{Value, json};

use crate::cluster::{Cluster, cluster, condition, document, eventually};
use crate::kubelet::success;
use crate::settle;

/// A refusal of the API server as text.
async fn refusal(cluster: &Cluster, changes: &[(&str, Value)]) -> String {
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
    let cases: [(&str, Value, &str); 12] = [
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
            "exactly one of volume, imageService must be set",
        ),
        (
            "/spec/patch/images",
            json!([{"name": "a", "source": {}}]),
            "exactly one of volume, imageService, http must be set",
        ),
        (
            "/spec/credentials",
            json!({"secretName": "../token"}),
            "spec.credentials.secretName",
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
async fn only_suspend_cancel_and_ttl_can_change() {
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
        json!({"credentials": {"secretName": "another"}}),
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
async fn a_request_can_be_cancelled_for_good() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = cluster.operator();
    cluster.create("a", &[]).await.unwrap();
    let pod = cluster.pod(1).await;
    cluster.run_pod(&pod).await;
    cluster.until_phase("a", "Running").await;
    let api: Api<AlignmentRequest> = cluster.api();
    let patch = async |spec: Value| {
        let patch = Patch::Merge(json!({"spec": spec}));
        api.patch("a", &PatchParams::default(), &patch).await
    };
    patch(json!({"cancel": true})).await.unwrap();
    // Cancelling beats what is asked for besides, and is not taken back.
    for spec in [json!({"cancel": false}), json!({"cancel": null})] {
        let error = patch(spec.clone()).await.unwrap_err().to_string();
        assert!(error.contains("cannot be taken back"), "{spec}: {error}");
    }
    patch(json!({"suspend": true})).await.unwrap();

    let status = cluster.until_phase("a", "Cancelled").await["status"].clone();
    // No pod could still write when that was told.
    assert!(cluster.pods().await.is_empty() && cluster.jobs().await.is_empty());
    assert_eq!(condition(&status, "Cancelled")["status"], "True");
    let progressing = condition(&status, "Progressing");
    assert_eq!(
        (&progressing["status"], &progressing["reason"]),
        (&json!("False"), &json!("Cancelled"))
    );
    assert_eq!(status["attempts"], 1);
    assert!(status["startTime"].is_string() && status["completionTime"].is_string());
    assert!(status["failure"].is_null() && status["result"].is_null());

    settle().await;
    operator.stop().await;
    assert!(cluster.jobs().await.is_empty());
    let request = cluster.request("a").await;
    assert_eq!(request["status"]["phase"], "Cancelled");
    assert_eq!(cluster.metrics.api_requests("POST", "jobs"), 1);
    let reasons = cluster.event_reasons().await;
    assert!(reasons.contains(&"Cancelled".to_owned()), "{reasons:?}");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_made_cancelled_gets_no_job() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = cluster.operator();
    let queue = json!({"kueue.x-k8s.io/queue-name": "team"});
    for (name, more) in [
        ("plain", ("/spec/suspend", json!(false))),
        ("held", ("/spec/suspend", json!(true))),
        ("queued", ("/metadata/labels", queue)),
    ] {
        let changes = [("/spec/cancel", json!(true)), more];
        cluster.create(name, &changes).await.unwrap();
    }
    for name in ["plain", "held", "queued"] {
        cluster.until_phase(name, "Cancelled").await;
    }
    settle().await;
    operator.stop().await;
    assert_eq!(cluster.metrics.api_requests("POST", "jobs"), 0);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_written_before_the_cancelling_stays_one() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = cluster.operator();
    cluster.create("a", &[]).await.unwrap();
    let pod = cluster.pod(1).await;
    cluster.run_pod(&pod).await;
    cluster.until_phase("a", "Running").await;
    cluster.end_pod(&pod, 0, &success()).await;
    let api: Api<AlignmentRequest> = cluster.api();
    let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
    api.patch("a", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let status = cluster.until_phase("a", "Succeeded").await["status"].clone();
    assert_eq!(status["result"]["artifacts"][0]["name"], "nmda.nii.gz");
    settle().await;
    operator.stop().await;
    assert_eq!(cluster.jobs().await.len(), 1);
    assert_eq!(cluster.metrics.api_requests("DELETE", "jobs"), 0);
    cluster.finish().await;
}
