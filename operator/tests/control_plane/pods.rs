//! What pods do, and what is told of it.

use kube::ResourceExt;
use serde_json::json;

use crate::cluster::{cluster, condition, eventually};
use crate::kubelet::message;
use crate::settle;

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
async fn a_request_waits_for_the_template_without_using_up_its_tries() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let operator = cluster.operator();
    cluster.create("a", &[]).await.unwrap();
    let absent = message(
        "TemplateUnavailable",
        &[("message", json!("template `bigbrain`: no such file"))],
    );
    let first = cluster.pod(1).await;
    cluster.end_pod(&first, 68, &absent).await;
    let status = cluster.until_reason("a", "TemplateUnavailable").await["status"].clone();
    assert_eq!(status["phase"], "Pending");
    assert_eq!(condition(&status, "StaticDataReady")["status"], "False");
    // The real Job controller makes the next pod, after a pause, and counts no failure.
    let second = eventually("a second pod", async || {
        let pods = cluster.pods().await;
        pods.into_iter().find(|pod| pod.uid() != first.uid())
    })
    .await;
    let pause = second.creation_timestamp().unwrap().0.as_second()
        - first.creation_timestamp().unwrap().0.as_second();
    assert!((9..60).contains(&pause), "{pause} s");
    let jobs = cluster.jobs().await;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].status.as_ref().unwrap().failed.unwrap_or(0), 0);
    cluster.run_pod(&second).await;
    let status = cluster.until_reason("a", "Running").await["status"].clone();
    assert_eq!(status["attempts"], 1);
    let conditions = status["conditions"].as_array().unwrap();
    assert!(conditions.iter().all(|c| c["type"] != "StaticDataReady"));
    let quality = json!({"quality": alignment_api::Quality::default()});
    let text = message("Success", &[("result", quality)]);
    cluster.end_pod(&second, 0, &text).await;
    let status = cluster.until_phase("a", "Succeeded").await["status"].clone();
    assert_eq!(condition(&status, "StaticDataReady")["status"], "True");
    assert_eq!(status["attempts"], 1);
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
