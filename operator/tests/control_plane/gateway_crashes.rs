//! The gateway is killed, or meets an error, at each of its writes: between request and Secret, before and
//! after. Another replica lives on, and a caller who asks again gets what it asked for.

use std::path::Path;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use operator::crd::DepthMapRequest;
use serde_json::json;

use crate::cluster::eventually;
use crate::fault::Fault;
use crate::gateway::{Answer, Gateway, Scene, TOKEN, send};
use crate::issuer::{AUDIENCE, Issuer};
use crate::load::at_most;
use crate::proxy::Proxy;

/// Plans at the same time.
const AT_ONCE: usize = 4;
/// The writes of one call, in their order.
const WRITES: [&str; 2] = ["create depthmaprequests", "create secrets"];
const OLD: &str = "/v0/depth-map-computation/";
const NEW: &str = "/v1/requests";

struct Play {
    scene: Scene,
    issuer: Issuer,
}

impl Play {
    async fn new() -> Option<Self> {
        let issuer = Issuer::start().await;
        let identity = ["--oidc-issuer", &issuer.url, "--oidc-audience", AUDIENCE];
        let scene = Scene::new(&identity).await?;
        Some(Self { scene, issuer })
    }

    /// Asks a replica; none, if it dies meanwhile.
    async fn ask(&self, port: u16, path: &str) -> Option<Answer> {
        let base = self.scene.service.base();
        let (token, body) = if path == OLD {
            (TOKEN.to_owned(), self.scene.depth_map())
        } else {
            let body = json!({"kind": "DepthMapRequest", "spec": {
                "segmentation": {"source": {"imageService": {"baseUrl": base, "name": "seg"}}},
                "output": {"artifacts": ["depth"], "destination": {"imageService": {"baseUrl": base}}}}});
            (self.issuer.token("alice"), body)
        };
        let bearer = format!("Bearer {token}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
            ("Image-Service-Token", TOKEN),
            ("Idempotency-Key", "the-key"),
        ];
        send(port, "POST", path, &headers, &body.to_string()).await
    }

    async fn requests(&self) -> Vec<DepthMapRequest> {
        let api: Api<DepthMapRequest> = self.scene.cluster.api();
        api.list(&ListParams::default()).await.unwrap().items
    }

    async fn secrets(&self) -> Vec<Secret> {
        let api: Api<Secret> = self.scene.cluster.api();
        let mine = ListParams::default().labels("voluba.ebrains.eu/gateway");
        api.list(&mine).await.unwrap().items
    }

    /// As the operator does: a request whose pod waits for its Secret says so.
    async fn tell_missing(&self) {
        let api: Api<DepthMapRequest> = self.scene.cluster.api();
        for request in self.requests().await {
            let status = json!({"status": {"phase": "Pending", "conditions": [{
                "type": "Progressing", "status": "False", "reason": "CredentialMissing",
                "message": "m", "lastTransitionTime": "2026-01-01T10:00:00Z"}]}});
            let patch = Patch::Merge(status);
            // It may be gone by now.
            let _ = api
                .patch_status(&request.name_any(), &PatchParams::default(), &patch)
                .await;
        }
    }

    /// Waits until each request has its Secret, and each Secret its request; gives how many there are.
    async fn until_whole(&self, what: &str) -> usize {
        eventually(what, async || {
            let requests: Vec<_> = self
                .requests()
                .await
                .iter()
                .filter_map(ResourceExt::uid)
                .collect();
            let secrets = self.secrets().await;
            let mut owners: Vec<_> = secrets
                .into_iter()
                .flat_map(|secret| secret.metadata.owner_references.unwrap_or_default())
                .map(|owner| owner.uid)
                .collect();
            let mut wanted = requests.clone();
            owners.sort();
            wanted.sort();
            (owners == wanted).then_some(requests.len())
        })
        .await
    }
}

/// One call that meets a fault; tells whether the write came that the fault was for.
async fn play(path: &str, write: &str, fault: Fault) -> Option<bool> {
    let what = format!("{path} {write} {fault:?}");
    let play = Play::new().await?;
    let cluster = &play.scene.cluster;
    let proxy = Proxy::start(cluster.admin.clone(), Some(((write.to_owned(), 1), fault))).await;
    let identity = [
        "--oidc-issuer",
        &play.issuer.url,
        "--oidc-audience",
        AUDIENCE,
    ];
    let doomed = Gateway::start(
        cluster,
        Path::new(proxy.kubeconfig()),
        &play.scene.service,
        &identity,
    )
    .await;
    let port = doomed.port;
    proxy.run(doomed);
    let answer = play.ask(port, path).await;
    let accepted = answer.as_ref().is_some_and(|answer| answer.status < 300);
    let killed = matches!(fault, Fault::KillBefore | Fault::KillAfter);
    assert!(answer.is_some() != killed, "{what}: {answer:?}");
    // Every Secret has an owner from the first moment on, with which it goes.
    for secret in play.secrets().await {
        let owners = secret.metadata.owner_references.unwrap_or_default();
        assert_eq!(owners.len(), 1, "{what}: {:?}", secret.metadata.name);
    }
    if path == NEW {
        // Asked again, elsewhere, until it is taken: one request, whole.
        eventually(&what, async || {
            let again = play.ask(play.scene.gateway.port, path).await.unwrap();
            assert!(
                again.status < 300 || again.status == 503,
                "{what}: {again:?}"
            );
            (again.status < 300).then_some(())
        })
        .await;
        assert_eq!(play.until_whole(&what).await, 1, "{what}");
    } else {
        // Nobody asks again: what is not whole goes, and what was accepted stays.
        play.tell_missing().await;
        let left = play.until_whole(&what).await;
        assert!(left == 1 || !accepted, "{what}: accepted, and gone");
    }
    let met = proxy.has_met_its_fault();
    play.scene.cluster.discard().await;
    Some(met)
}

#[tokio::test(flavor = "multi_thread")]
async fn at_whatever_write_the_gateway_dies_no_secret_is_left_over() {
    let mut plans = Vec::new();
    for path in [OLD, NEW] {
        for write in WRITES {
            plans.extend(Fault::ALL.map(|fault| (path, write, fault)));
        }
    }
    let met: Vec<Option<bool>> = stream::iter(&plans)
        .map(|(path, write, fault)| play(path, write, *fault))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    if met.contains(&None) {
        return;
    }
    let unmet = met.iter().filter(|met| **met == Some(false)).count();
    at_most("gateway-faults-not-met", unmet as f64, "plans", 0.0);
    assert_eq!(unmet, 0, "of {}", plans.len());
}
