//! The tests play the kubelet: what an aligner leaves behind, and pods that end as soon as they are
//! there.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

/// Pods that are ended at the same time.
const AT_ONCE: usize = 16;

/// What the aligner leaves behind.
pub(crate) fn message(outcome: &str, more: &[(&str, Value)]) -> String {
    let mut message = json!({"schema": alignment_api::TERMINATION_SCHEMA, "outcome": outcome});
    for (key, value) in more {
        message[key] = value.clone();
    }
    message.to_string()
}

/// What the aligner leaves behind when all went well.
pub(crate) fn success() -> String {
    let mut quality = serde_json::to_value(alignment_api::Quality::default()).unwrap();
    quality["depthResidualAfter"] = json!(0.0425);
    let artifact = json!({"name": "nmda.nii.gz", "kind": "image", "sha256": "ab", "bytes": 12});
    let result = json!({"quality": quality, "artifacts": [artifact], "warnings": ["thin cortex"]});
    message("Success", &[("result", result)])
}

/// Has every pod succeed as soon as it is there; never returns.
pub(crate) async fn end_all(pods: Api<Pod>) {
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
        .for_each_concurrent(AT_ONCE, |pod| async {
            let Ok(pod) = pod else { return };
            let patch = Patch::Merge(&end);
            let params = PatchParams::default();
            let _ = pods.patch_status(&pod.name_any(), &params, &patch).await;
        })
        .await;
}
