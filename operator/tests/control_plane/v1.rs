//! The interface for programs: a running gateway, a real API server, a provider of tokens.

use fake_image_service::{Call, Fault};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ResourceQuota, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use operator::crd::{AlignmentRequest, DepthMapRequest};
use serde_json::{Value, json};

use crate::cluster::eventually;
use crate::gateway::{Answer, Scene, TOKEN};
use crate::issuer::{AUDIENCE, Issuer};

pub(crate) const REQUESTS: &str = "/v1/requests";

pub(crate) struct Known {
    pub(crate) scene: Scene,
    pub(crate) issuer: Issuer,
}

impl Known {
    pub(crate) async fn new(options: &[&str]) -> Option<Self> {
        let issuer = Issuer::start().await;
        let identity = ["--oidc-issuer", &issuer.url, "--oidc-audience", AUDIENCE];
        let scene = Scene::new(&[&identity, options].concat()).await?;
        Some(Self { scene, issuer })
    }

    pub(crate) fn depth_map(&self) -> Value {
        let base = self.scene.service.base();
        json!({"kind": "DepthMapRequest", "metadata": {"name": "left"}, "spec": {
            "segmentation": {"source": {"imageService": {"baseUrl": base, "name": "seg"}}},
            "output": {"artifacts": ["depth"], "destination": {"imageService": {"baseUrl": base}}}}})
    }

    pub(crate) fn alignment(&self) -> Value {
        let base = self.scene.service.base();
        let image = |name: &str| json!({"imageService": {"baseUrl": base, "name": name}});
        json!({"kind": "AlignmentRequest", "spec": {
            "patch": {"images": [{"name": "image", "source": image("image")}],
                "depth": {"segmentation": {"source": image("seg")}}},
            "placement": {"matrix": [[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]]},
            "output": {"destination": {"imageService": {"baseUrl": base}}, "artifacts": ["images"]}}})
    }

    pub(crate) async fn call(
        &self,
        who: &str,
        method: &str,
        path: &str,
        body: &Value,
        more: &[(&str, &str)],
    ) -> Answer {
        let bearer = format!("Bearer {}", self.issuer.token(who));
        let mut headers = vec![
            ("Authorization", bearer.as_str()),
            ("Image-Service-Token", TOKEN),
        ];
        let mut text = String::new();
        if !body.is_null() {
            headers.push(("Content-Type", "application/json"));
            text = body.to_string();
        }
        headers.extend(more);
        self.scene.gateway.call(method, path, &headers, &text).await
    }

    pub(crate) async fn made(&self, who: &str, body: &Value) -> String {
        let answer = self.call(who, "POST", REQUESTS, body, &[]).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(answer.header("location"), format!("{REQUESTS}/{id}"));
        id
    }

    /// Waits until the gateway, which watches, gives it out.
    pub(crate) async fn is_read(&self, id: &str) {
        let path = format!("{REQUESTS}/{id}");
        eventually("the request", async || {
            (self.scene.gateway.get(&path).await.status == 200).then_some(())
        })
        .await;
    }

    async fn listed(&self, who: &str, query: &str) -> Value {
        let answer = self
            .call(who, "GET", &format!("{REQUESTS}{query}"), &Value::Null, &[])
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    pub(crate) async fn status(&self, id: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        let params = PatchParams::default();
        let alignments: Api<AlignmentRequest> = self.scene.cluster.api();
        if alignments.patch_status(id, &params, &patch).await.is_err() {
            let maps: Api<DepthMapRequest> = self.scene.cluster.api();
            maps.patch_status(id, &params, &patch).await.unwrap();
        }
    }
}

/// A problem of this name, in its form.
pub(crate) fn problem(answer: &Answer, status: u16, name: &str) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        "application/problem+json",
        "{answer:?}"
    );
    let body = answer.json();
    assert_eq!(body["type"], format!("urn:voluba:problem:{name}"));
    assert_eq!(body["status"], status);
    assert!(body["title"].is_string() && body["detail"].is_string());
    body
}

fn ids(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_made_listed_read_cancelled_and_deleted() {
    let Some(known) = Known::new(&[]).await else {
        return;
    };
    let first = known.made("alice", &known.depth_map()).await;
    let second = known.made("alice", &known.alignment()).await;
    let other = known.made("bob", &known.alignment()).await;
    // The token is in the Secret and nowhere else; the document is what was sent.
    let request: DepthMapRequest = known.scene.cluster.api().get(&first).await.unwrap();
    let spec = serde_json::to_value(&request.spec).unwrap();
    let name = format!("voluba-gateway-{first}");
    assert_eq!(spec["credentials"]["secretName"], name);
    let secret: Secret = known.scene.cluster.api().get(&name).await.unwrap();
    assert_eq!(
        secret.data.unwrap()["bearer-token"],
        ByteString(TOKEN.as_bytes().to_vec())
    );
    assert_eq!(
        secret.metadata.owner_references.unwrap()[0].uid,
        request.uid().unwrap()
    );

    listed_in_parts(&known, [&first, &second, &other]).await;
    read_by_whoever_knows(&known, &first).await;
    ended_by_its_author(&known, &first, &second).await;
    let log = known.scene.gateway.log();
    assert!(
        !log.contains(TOKEN) && !log.contains("eyJ"),
        "a token in the log"
    );
    known.scene.cluster.discard().await;
}

/// Own ones, the newest first.
async fn listed_in_parts(known: &Known, [first, second, other]: [&String; 3]) {
    eventually("the list", async || {
        (ids(&known.listed("alice", "").await) == [second.clone(), first.clone()]).then_some(())
    })
    .await;
    assert_eq!(ids(&known.listed("bob", "").await), [other.as_str()]);
    assert_eq!(ids(&known.listed("carol", "").await), [""; 0]);
    let part = known.listed("alice", "?limit=1").await;
    assert_eq!(ids(&part), [second.as_str()]);
    let next = part["continue"].as_str().unwrap();
    let part = known
        .listed("alice", &format!("?limit=1&continue={next}"))
        .await;
    assert_eq!(
        (ids(&part), &part["continue"]),
        (vec![first.clone()], &Value::Null)
    );
    assert_eq!(
        ids(&known.listed("alice", "?kind=DepthMapRequest").await),
        [first.as_str()]
    );
    assert_eq!(ids(&known.listed("alice", "?phase=Failed").await), [""; 0]);
    for query in [
        "?limit=0",
        "?kind=Job",
        "?phase=Gone",
        "?continue=x",
        "?what=1",
    ] {
        let answer = known
            .call(
                "alice",
                "GET",
                &format!("{REQUESTS}{query}"),
                &Value::Null,
                &[],
            )
            .await;
        problem(&answer, 400, "invalid-parameter");
    }
}

/// Also what the old interface made.
async fn read_by_whoever_knows(known: &Known, first: &str) {
    let path = format!("{REQUESTS}/{first}");
    let answer = known.scene.gateway.get(&path).await;
    let view = answer.json();
    assert_eq!(
        (answer.status, &view["phase"], &view["name"]),
        (200, &json!("Pending"), &json!("left"))
    );
    assert_eq!(view["spec"].get("credentials"), None);
    let tag = answer.header("etag").to_owned();
    let same = known
        .scene
        .gateway
        .call("GET", &path, &[("If-None-Match", &tag)], "")
        .await;
    assert_eq!((same.status, same.body.as_str()), (304, ""));
    let old = known
        .scene
        .accepted("/v0/depth-map-computation/", &known.scene.depth_map())
        .await;
    eventually("the old one", async || {
        let answer = known.scene.gateway.get(&format!("{REQUESTS}/{old}")).await;
        (answer.status == 200).then_some(())
    })
    .await;

    let old = format!("{REQUESTS}/{old}");
    let answer = known.call("alice", "DELETE", &old, &Value::Null, &[]).await;
    problem(&answer, 403, "forbidden");
}

async fn ended_by_its_author(known: &Known, first: &str, second: &str) {
    let path = format!("{REQUESTS}/{first}");
    for (method, path) in [("POST", format!("{path}/cancel")), ("DELETE", path.clone())] {
        problem(
            &known.call("bob", method, &path, &Value::Null, &[]).await,
            403,
            "forbidden",
        );
        problem(
            &known.scene.gateway.call(method, &path, &[], "").await,
            401,
            "unauthorized",
        );
    }
    let answer = known
        .call(
            "alice",
            "POST",
            &format!("{path}/cancel"),
            &Value::Null,
            &[],
        )
        .await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let request: DepthMapRequest = known.scene.cluster.api().get(first).await.unwrap();
    assert_eq!(serde_json::to_value(&request.spec).unwrap()["cancel"], true);
    known.status(second, json!({"phase": "Succeeded"})).await;
    let over = format!("{REQUESTS}/{second}/cancel");
    eventually("the end is known", async || {
        let answer = known.call("alice", "POST", &over, &Value::Null, &[]).await;
        (answer.status == 409).then(|| problem(&answer, 409, "over"))
    })
    .await;
    let answer = known
        .call("alice", "DELETE", &path, &Value::Null, &[])
        .await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    eventually("it is gone", async || {
        let answer = known.scene.gateway.get(&path).await;
        (answer.status == 404).then(|| problem(&answer, 404, "not-found"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_where_it_stands() {
    let Some(known) = Known::new(&[]).await else {
        return;
    };
    let changed = |pointer: &str, value: Value| {
        let mut body = known.alignment();
        *body.pointer_mut(pointer).unwrap() = value;
        body
    };
    let claim = json!({"volume": {"claimName": "results", "path": "x"}});
    let elsewhere = json!({"imageService": {"baseUrl": "https://evil.example.org"}});
    for (body, field) in [
        (json!({}), "kind"),
        (changed("/kind", json!("Job")), "kind"),
        (
            changed("/spec/placement/matrix/3/3", json!(2)),
            "spec.placement.matrix[3]",
        ),
        (
            changed("/spec/patch/images", json!([])),
            "spec.patch.images",
        ),
        (
            changed("/spec/output/destination", claim),
            "spec.output.destination.volume",
        ),
        (
            changed("/spec/output/destination", elsewhere),
            "spec.output.destination.imageService.baseUrl",
        ),
        (
            changed(
                "/spec/patch/images/0/source/imageService/name",
                json!("none"),
            ),
            "spec.patch.images[0].source.imageService.name",
        ),
        (
            changed("/spec/patch/images/0/name", json!("../x")),
            "spec.patch.images[0].name",
        ),
    ] {
        let answer = known.call("alice", "POST", REQUESTS, &body, &[]).await;
        let found = problem(&answer, 422, "invalid-request");
        let errors = found["errors"].as_array().unwrap();
        assert!(
            errors.iter().any(|error| error["field"] == field),
            "{field}: {found}"
        );
    }
    calls_that_make_no_sense(&known).await;
    services_that_do_not_help(&known).await;
    let requests: Api<AlignmentRequest> = known.scene.cluster.api();
    let all = requests.list(&ListParams::default()).await.unwrap();
    assert!(all.items.is_empty(), "a refused request was made");
    known.scene.cluster.discard().await;
}

async fn calls_that_make_no_sense(known: &Known) {
    let bearer = format!("Bearer {}", known.issuer.token("alice"));
    let json = ("Content-Type", "application/json");
    let auth = ("Authorization", bearer.as_str());
    let gateway = &known.scene.gateway;
    problem(
        &gateway.call("POST", REQUESTS, &[auth, json], "{").await,
        400,
        "invalid-json",
    );
    problem(
        &gateway.call("POST", REQUESTS, &[auth], "{}").await,
        415,
        "unsupported-media-type",
    );
    let large = format!("\"{}\"", "x".repeat(600 << 10));
    problem(
        &gateway.call("POST", REQUESTS, &[auth, json], &large).await,
        413,
        "too-large",
    );
    problem(
        &gateway.call("PUT", REQUESTS, &[auth], "").await,
        405,
        "method-not-allowed",
    );
    for path in [
        "/v1/nothing",
        "/v1/requests/x",
        "/v1/requests/x/y/z",
        "/v1/requests/x/events",
    ] {
        problem(&gateway.get(path).await, 404, "not-found");
    }
}

/// The image service refuses the token, or does not help.
async fn services_that_do_not_help(known: &Known) {
    let bearer = format!("Bearer {}", known.issuer.token("alice"));
    let json = ("Content-Type", "application/json");
    let auth = ("Authorization", bearer.as_str());
    let gateway = &known.scene.gateway;
    let other = ("Image-Service-Token", "other");
    let body = known.depth_map().to_string();
    let answer = gateway
        .call("POST", REQUESTS, &[auth, json, other], &body)
        .await;
    problem(&answer, 401, "unauthorized");
    // Without a token of its own, the caller's is tried there.
    let answer = gateway.call("POST", REQUESTS, &[auth, json], &body).await;
    problem(&answer, 401, "unauthorized");
    let sent = known.scene.service.journal();
    assert!(
        sent.iter().all(|call| call.path.ends_with("/list")),
        "{sent:?}"
    );
    known.scene.service.fail(Call::List, 1, Fault::status(503));
    problem(
        &known
            .call("alice", "POST", REQUESTS, &known.depth_map(), &[])
            .await,
        502,
        "image-service",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_has_the_last_word_and_it_is_told() {
    let Some(known) = Known::new(&[]).await else {
        return;
    };
    let none = json!({"metadata": {"name": "none"},
        "spec": {"hard": {"count/depthmaprequests.voluba.ebrains.eu": "0"}}});
    let none: ResourceQuota = serde_json::from_value(none).unwrap();
    let quotas: Api<ResourceQuota> = known.scene.cluster.api();
    quotas.create(&PostParams::default(), &none).await.unwrap();
    let answer = known
        .call("alice", "POST", REQUESTS, &known.depth_map(), &[])
        .await;
    let found = problem(&answer, 403, "refused");
    assert!(
        found["detail"].as_str().unwrap().contains("quota: none"),
        "{found}"
    );
    let secrets: Api<Secret> = known.scene.cluster.api();
    assert!(
        secrets
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    known.scene.cluster.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_makes_a_call_repeatable() {
    let Some(known) = Known::new(&[]).await else {
        return;
    };
    let key = [("Idempotency-Key", "5a0e7c1e-key")];
    let body = known.depth_map();
    let calls = (0..8).map(|_| known.call("alice", "POST", REQUESTS, &body, &key));
    let answers = futures::future::join_all(calls).await;
    let mut made: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    made.sort_unstable();
    assert_eq!(made, [200, 200, 200, 200, 200, 200, 200, 201]);
    let first = answers[0].json()["id"].clone();
    assert!(answers.iter().all(|answer| answer.json()["id"] == first));
    let requests: Api<DepthMapRequest> = known.scene.cluster.api();
    assert_eq!(
        requests
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    // One that died before it had its Secret gets it by the next call.
    let secrets: Api<Secret> = known.scene.cluster.api();
    let name = format!("voluba-gateway-{}", first.as_str().unwrap());
    secrets
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    let answer = known.call("alice", "POST", REQUESTS, &body, &key).await;
    assert_eq!(answer.status, 200);
    secrets.get(&name).await.unwrap();
    // The same key for something else, and for somebody else.
    let mut other = body.clone();
    other["metadata"]["name"] = json!("right");
    let answer = known.call("alice", "POST", REQUESTS, &other, &key).await;
    problem(&answer, 422, "idempotency-key-reused");
    let answer = known.call("bob", "POST", REQUESTS, &body, &key).await;
    assert_eq!(answer.status, 201);
    assert_ne!(answer.json()["id"], first);
    // Once it is gone, the key makes a new one, whatever is left of the old.
    let path = format!("{REQUESTS}/{}", first.as_str().unwrap());
    let gone = known
        .call("alice", "DELETE", &path, &Value::Null, &[])
        .await;
    assert_eq!(gone.status, 204);
    let answer = known.call("alice", "POST", REQUESTS, &body, &key).await;
    assert_eq!(
        (answer.status, &answer.json()["id"]),
        (201, &first),
        "{answer:?}"
    );
    let uid = requests.get(first.as_str().unwrap()).await.unwrap().uid();
    crate::settle().await;
    let secret = secrets.get(&name).await.unwrap();
    let owner = secret.metadata.owner_references.unwrap().remove(0);
    assert_eq!(Some(owner.uid), uid);
    let long = "x".repeat(256);
    for wrong in ["", long.as_str()] {
        let answer = known
            .call(
                "alice",
                "POST",
                REQUESTS,
                &body,
                &[("Idempotency-Key", wrong)],
            )
            .await;
        problem(&answer, 400, "invalid-parameter");
    }
    known.scene.cluster.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_provider_requests_can_be_read_and_no_more() {
    let Some(scene) = Scene::new(&[]).await else {
        return;
    };
    let about = scene.gateway.get("/v1").await.json();
    assert_eq!(about["identity"], Value::Null);
    assert_eq!(about["imageServices"], json!([scene.service.origin()]));
    let token = format!("Bearer {TOKEN}");
    let answer = scene
        .gateway
        .call("GET", REQUESTS, &[("Authorization", &token)], "")
        .await;
    problem(&answer, 404, "not-offered");
    let id = scene
        .accepted("/v0/alignment-computation/", &scene.alignment())
        .await;
    eventually("the request", async || {
        let answer = scene.gateway.get(&format!("{REQUESTS}/{id}")).await;
        (answer.status == 200).then_some(())
    })
    .await;
    let document = scene.gateway.get("/v1/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    scene.cluster.discard().await;
}
