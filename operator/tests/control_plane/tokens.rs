//! The caller's token: in one Secret while it is needed, then nowhere.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use operator::crd::{AlignmentRequest, DepthMapRequest};
use serde_json::{Value, json};

use crate::cluster::eventually;
use crate::gateway::{Gateway, Scene, TOKEN, send};
use crate::load::at_most;

const DEPTH_MAP: &str = "/v0/depth-map-computation/";
const ALIGNMENT: &str = "/v0/alignment-computation/";

async fn secrets(scene: &Scene) -> Vec<Secret> {
    let api: Api<Secret> = scene.cluster.api();
    api.list(&ListParams::default()).await.unwrap().items
}

/// Where the token stands in what the namespace holds, Secrets included.
async fn places(scene: &Scene) -> Vec<String> {
    let mut found = Vec::new();
    let encoded = {
        // As it stands in a Secret's JSON.
        let secret = Secret {
            data: Some([("a".to_owned(), k8s_openapi::ByteString(TOKEN.into()))].into()),
            ..Secret::default()
        };
        let text = serde_json::to_value(secret).unwrap();
        text["data"]["a"].as_str().unwrap().to_owned()
    };
    for (group, version, kind, plural) in [
        ("", "v1", "Secret", "secrets"),
        ("", "v1", "ConfigMap", "configmaps"),
        ("", "v1", "Pod", "pods"),
        ("", "v1", "Event", "events"),
        ("batch", "v1", "Job", "jobs"),
        (
            "voluba.ebrains.eu",
            "v1alpha1",
            "AlignmentRequest",
            "alignmentrequests",
        ),
        (
            "voluba.ebrains.eu",
            "v1alpha1",
            "DepthMapRequest",
            "depthmaprequests",
        ),
    ] {
        let kind = kube::core::GroupVersionKind::gvk(group, version, kind);
        let resource = kube::api::ApiResource::from_gvk_with_plural(&kind, plural);
        let api: Api<DynamicObject> = Api::namespaced_with(
            scene.cluster.admin.clone(),
            &scene.cluster.namespace,
            &resource,
        );
        for object in api.list(&ListParams::default()).await.unwrap() {
            let text = serde_json::to_string(&object).unwrap();
            if text.contains(TOKEN) || text.contains(&encoded) {
                found.push(format!("{plural}/{}", object.name_any()));
            }
        }
    }
    found
}

async fn set_status(scene: &Scene, id: &str, status: Value) {
    let api: Api<DepthMapRequest> = scene.cluster.api();
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(id, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_in_one_secret_and_after_the_end_nowhere() {
    let Some(scene) = Scene::new(&[]).await else {
        return;
    };
    let id = scene.accepted(DEPTH_MAP, &scene.depth_map()).await;
    let secret = format!("voluba-gateway-{id}");
    assert_eq!(places(&scene).await, [format!("secrets/{secret}")]);
    let api: Api<Secret> = scene.cluster.api();
    let found = api.get(&secret).await.unwrap();
    let owner = &found.owner_references()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str()),
        ("DepthMapRequest", id.as_str())
    );
    let data = found.data.unwrap();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["bearer-token"]);
    assert_eq!(data["bearer-token"].0, TOKEN.as_bytes());

    // Another replica is no obstacle.
    let other = Gateway::start(&scene.cluster, &scene.kubeconfig, &scene.service, &[]).await;
    set_status(&scene, &id, json!({"phase": "Running"})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(places(&scene).await.len(), 1);
    let end = Instant::now();
    let failure = json!({"reason": "ImageNotFound", "message": "m", "retryable": false});
    let status = json!({"phase": "Failed", "failure": failure,
        "completionTime": "2026-01-01T00:00:00Z"});
    set_status(&scene, &id, status).await;
    eventually("the end of the Secret", async || {
        places(&scene).await.is_empty().then_some(())
    })
    .await;
    let took = end.elapsed().as_secs_f64();
    at_most("token-gone-after", took, "s", 5.0);
    assert!(took <= 5.0, "{took}");
    // The request stays, and no log says the token, at any level.
    assert_eq!(
        scene.gateway.get(&format!("{DEPTH_MAP}{id}")).await.json()["error"],
        true
    );
    for gateway in [&scene.gateway, &other] {
        assert!(!gateway.log().contains(TOKEN));
    }
    assert!(
        scene.gateway.log().len() > 1000,
        "it does log at this level"
    );
    drop(other);
    scene.cluster.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_secret_cannot_be_made_is_taken_back() {
    let Some(mut scene) = Scene::new(&[]).await else {
        return;
    };
    scene.gateway.kill();
    let roles: Api<k8s_openapi::api::rbac::v1::Role> = scene.cluster.api();
    let mut role = roles.get("gateway").await.unwrap();
    for rule in role.rules.iter_mut().flatten() {
        if rule
            .resources
            .iter()
            .flatten()
            .any(|resource| resource == "secrets")
        {
            rule.verbs = vec!["delete".to_owned()];
        }
    }
    roles
        .replace("gateway", &PostParams::default(), &role)
        .await
        .unwrap();
    let gateway = Gateway::start(&scene.cluster, &scene.kubeconfig, &scene.service, &[]).await;
    // The API server learns of new rules a moment later.
    let answer = eventually("a refusal", async || {
        let answer = gateway.post(ALIGNMENT, &scene.alignment()).await;
        (answer.status != 202).then_some(answer)
    })
    .await;
    assert_eq!(answer.status, 500);
    assert!(
        answer.json()["errors"][0]
            .as_str()
            .unwrap()
            .contains("try again")
    );
    let requests: Api<AlignmentRequest> = scene.cluster.api();
    let with_secret = secrets(&scene).await.len();
    eventually("nothing left", async || {
        let left = requests.list(&ListParams::default()).await.unwrap().items;
        let alive = left
            .iter()
            .filter(|one| one.metadata.deletion_timestamp.is_none());
        (alive.count() == with_secret).then_some(())
    })
    .await;
    drop(gateway);
    scene.cluster.discard().await;
}

/// Killed between the request and its Secret: what it leaves behind is a request without one.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_left_without_its_secret_goes_and_one_that_has_it_stays() {
    let Some(scene) = Scene::new(&[]).await else {
        return;
    };
    let whole = scene.accepted(DEPTH_MAP, &scene.depth_map()).await;
    let api: Api<DepthMapRequest> = scene.cluster.api();
    let mut copy = api.get(&whole).await.unwrap();
    let orphan = uuid::Uuid::now_v7().to_string();
    let labels = copy.metadata.labels.clone();
    copy.metadata = kube::api::ObjectMeta {
        name: Some(orphan.clone()),
        labels,
        ..Default::default()
    };
    api.create(&PostParams::default(), &copy).await.unwrap();
    let waiting = json!({"phase": "Pending", "conditions": [{
        "type": "Progressing", "status": "False", "reason": "CredentialMissing", "message": "m",
        "lastTransitionTime": "2026-01-01T10:00:00Z"}]});
    for id in [&whole, &orphan] {
        set_status(&scene, id, waiting.clone()).await;
    }
    eventually("the end of the orphan", async || {
        api.get_opt(&orphan).await.unwrap().is_none().then_some(())
    })
    .await;
    crate::settle().await;
    assert!(api.get_opt(&whole).await.unwrap().is_some());
    let left = secrets(&scene).await;
    let names: Vec<_> = left.iter().map(ResourceExt::name_any).collect();
    let own = format!("voluba-gateway-{whole}");
    let orphans = names.iter().filter(|name| **name != own).count();
    at_most("orphan-secrets", orphans as f64, "secrets", 0.0);
    assert_eq!(names, [own]);
    scene.cluster.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_ended_long_ago_are_removed() {
    let Some(scene) = Scene::new(&[]).await else {
        return;
    };
    let mut ids = Vec::new();
    for phase in ["Succeeded", "Running"] {
        let id = scene.accepted(DEPTH_MAP, &scene.depth_map()).await;
        let status = json!({"phase": phase, "completionTime": "2026-01-01T00:00:00Z"});
        set_status(&scene, &id, status).await;
        ids.push(id);
    }
    let options = ["--keep-seconds", "60"];
    let other = Gateway::start(&scene.cluster, &scene.kubeconfig, &scene.service, &options).await;
    let api: Api<DepthMapRequest> = scene.cluster.api();
    eventually("the end of the old one", async || {
        api.get_opt(&ids[0]).await.unwrap().is_none().then_some(())
    })
    .await;
    assert!(api.get_opt(&ids[1]).await.unwrap().is_some());
    drop(other);
    scene.cluster.discard().await;
}

/// Whoever can only reach the gateway reaches nothing else through it.
#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_can_read_no_secret_and_touch_no_pod() {
    let Some(scene) = Scene::new(&[]).await else {
        return;
    };
    let id = scene.accepted(DEPTH_MAP, &scene.depth_map()).await;
    let config = kube::config::Kubeconfig::read_from(&scene.kubeconfig).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default())
            .await
            .unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let namespace = &scene.cluster.namespace;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let name = format!("voluba-gateway-{id}");
    let forbidden =
        |error: kube::Error| matches!(error, kube::Error::Api(status) if status.is_forbidden());
    assert!(forbidden(secrets.get(&name).await.unwrap_err()));
    assert!(forbidden(
        secrets.list(&ListParams::default()).await.unwrap_err()
    ));
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client, namespace);
    assert!(forbidden(
        pods.list(&ListParams::default()).await.unwrap_err()
    ));
    // No path leads out of the namespace's requests.
    for path in [
        "/v0/alignment-computation/..%2f..",
        "/v0/../secrets",
        "//v0",
        "/%2e%2e/",
    ] {
        let answer = send(scene.gateway.port, "GET", path, &[], "")
            .await
            .unwrap();
        assert!(matches!(answer.status, 200 | 404), "{path}: {answer:?}");
        assert!(!answer.body.contains(TOKEN));
    }
    scene.cluster.discard().await;
}
