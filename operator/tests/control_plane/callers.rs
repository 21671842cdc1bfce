//! Who calls the interface for programs: tokens of a provider, tokens of the cluster.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use operator::crd::DepthMapRequest;
use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually};
use crate::gateway::{Scene, TOKEN};
use crate::issuer::{AUDIENCE, Key};
use crate::v1::{Known, REQUESTS, problem};

#[tokio::test(flavor = "multi_thread")]
async fn only_good_tokens_say_who_calls() {
    let Some(known) = Known::new(&["--calls-per-minute", "60"]).await else {
        return;
    };
    let issuer = &known.issuer;
    let (header, claims) = (
        json!({"alg": "ES256", "kid": "one"}),
        issuer.claims("alice"),
    );
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        issuer.key.sign(&header, &claims)
    };
    let stranger = Key::new("one");
    let good = issuer.key.sign(&header, &claims);
    let (body, _) = good.rsplit_once('.').unwrap();
    let none = {
        let token = stranger.sign(&json!({"alg": "none"}), &claims);
        format!("{}.", token.rsplit_once('.').unwrap().0)
    };
    for (what, token) in [
        ("another key", stranger.sign(&header, &claims)),
        ("no signature", format!("{body}.")),
        ("of none", none),
        (
            "by a secret",
            stranger.sign(&json!({"alg": "HS256", "kid": "one"}), &claims),
        ),
        (
            "an unknown key",
            stranger.sign(&json!({"alg": "ES256", "kid": "two"}), &claims),
        ),
        ("expired", with("exp", json!(1_700_000_000))),
        ("for ever", with("exp", Value::Null)),
        ("a text as time", with("exp", json!("9999999999"))),
        ("not yet", with("nbf", json!(9_999_999_999_u64))),
        ("not yet, as a text", with("nbf", json!("9999999999"))),
        ("another audience", with("aud", json!("other"))),
        ("no audience", with("aud", Value::Null)),
        (
            "another issuer",
            with("iss", json!("https://evil.example.org")),
        ),
        (
            "an issuer that begins so",
            with("iss", json!(format!("{}/", issuer.url))),
        ),
        ("nobody", with("sub", json!(""))),
        ("no text as name", with("sub", json!(7))),
        ("no token", "abc".to_owned()),
        ("two parts", "a.b".to_owned()),
        ("the image service's", TOKEN.to_owned()),
        ("much", "a".repeat(9000)),
    ] {
        let bearer = format!("Bearer {token}");
        let answer = known
            .scene
            .gateway
            .call("GET", REQUESTS, &[("Authorization", &bearer)], "")
            .await;
        let found = problem(&answer, 401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        let detail = found["detail"].as_str().unwrap();
        assert!(!detail.contains(&token), "{what}: {detail}");
    }
    schemes(&known, &good).await;
    new_keys_and_limits(&known).await;
    known.scene.cluster.discard().await;
}

/// The name of the scheme counts, not its case.
async fn schemes(known: &Known, good: &str) {
    for scheme in ["", "Basic", "Token"] {
        let given = format!("{scheme} {good}");
        let answer = known
            .scene
            .gateway
            .call("GET", REQUESTS, &[("Authorization", given.trim())], "")
            .await;
        problem(&answer, 401, "unauthorized");
    }
    let given = format!("bearer {good}");
    let answer = known
        .scene
        .gateway
        .call("GET", REQUESTS, &[("Authorization", &given)], "")
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn new_keys_and_limits(known: &Known) {
    let (issuer, claims) = (&known.issuer, known.issuer.claims("alice"));
    // A new key of the issuer is taken as soon as it may be asked again.
    let new = Key::new("three");
    issuer.publish(&new);
    let given = format!(
        "Bearer {}",
        new.sign(&json!({"alg": "ES256", "kid": "three"}), &claims)
    );
    eventually("the new key", async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let answer = known
            .scene
            .gateway
            .call("GET", REQUESTS, &[("Authorization", &given)], "")
            .await;
        (answer.status == 200).then_some(())
    })
    .await;
    // One caller's limit is nobody else's.
    let mut last = None;
    for _ in 0..61 {
        last = Some(
            known
                .call("alice", "GET", REQUESTS, &Value::Null, &[])
                .await,
        );
        if last.as_ref().unwrap().status != 200 {
            break;
        }
    }
    let answer = last.unwrap();
    problem(&answer, 429, "rate-limited");
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(
        known
            .call("bob", "GET", REQUESTS, &Value::Null, &[])
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_does_not_answer_is_no_fault_of_the_caller() {
    let issuer = "http://127.0.0.1:1/realms/x";
    let options = ["--oidc-issuer", issuer, "--oidc-audience", AUDIENCE];
    let Some(scene) = Scene::new(&options).await else {
        return;
    };
    let claims = json!({"iss": issuer, "sub": "alice", "aud": AUDIENCE, "exp": 9_999_999_999_u64});
    let token = Key::new("one").sign(&json!({"alg": "ES256", "kid": "one"}), &claims);
    let given = format!("Bearer {token}");
    let headers = [("Authorization", given.as_str())];
    let answer = scene.gateway.call("GET", REQUESTS, &headers, "").await;
    problem(&answer, 503, "unavailable");
    assert_eq!(answer.header("retry-after"), "5");
    scene.cluster.discard().await;
}

/// Gives the gateway the right that the chart gives it for this.
async fn allow_reviews(cluster: &Cluster) -> (Api<ClusterRole>, Api<ClusterRoleBinding>, String) {
    let role = format!("{}-reviews", cluster.namespace);
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": role},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "gateway", "namespace": cluster.namespace}]}))
    .unwrap();
    let rules: ClusterRole = serde_json::from_value(json!({"metadata": {"name": role}, "rules": [
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}]}))
    .unwrap();
    let params = PostParams::default();
    let roles: Api<ClusterRole> = Api::all(cluster.admin.clone());
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster.admin.clone());
    roles.create(&params, &rules).await.unwrap();
    bindings.create(&params, &binding).await.unwrap();
    (roles, bindings, role)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_may_say_who_calls() {
    let Some(scene) = Scene::new(&["--token-review-audience", AUDIENCE]).await else {
        return;
    };
    let cluster = &scene.cluster;
    let (roles, bindings, role) = allow_reviews(cluster).await;
    let (params, accounts): (_, Api<ServiceAccount>) = (PostParams::default(), cluster.api());
    let account = ServiceAccount {
        metadata: ObjectMeta {
            name: Some("alice".to_owned()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    };
    accounts.create(&params, &account).await.unwrap();
    let token = async |audience: &str| {
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![audience.to_owned()],
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let made = accounts
            .create_token_request("alice", &params, &request)
            .await
            .unwrap();
        made.status.unwrap().token
    };
    let good = format!("Bearer {}", token(AUDIENCE).await);
    eventually("the right to ask", async || {
        let answer = scene
            .gateway
            .call("GET", REQUESTS, &[("Authorization", &good)], "")
            .await;
        (answer.status == 200).then_some(())
    })
    .await;
    for other in [token("other").await, "abc".to_owned()] {
        let other = format!("Bearer {other}");
        let answer = scene
            .gateway
            .call("GET", REQUESTS, &[("Authorization", &other)], "")
            .await;
        problem(&answer, 401, "unauthorized");
    }
    // The cluster's token goes to no image service.
    let base = scene.service.base();
    let body = json!({"kind": "DepthMapRequest", "spec": {
        "segmentation": {"source": {"imageService": {"baseUrl": base, "name": "seg"}}},
        "output": {"artifacts": ["depth"], "destination": {"imageService": {"baseUrl": base}}}}})
    .to_string();
    let mut headers = vec![
        ("Authorization", good.as_str()),
        ("Content-Type", "application/json"),
    ];
    let answer = scene.gateway.call("POST", REQUESTS, &headers, &body).await;
    problem(&answer, 400, "invalid-parameter");
    assert!(
        scene.service.journal().is_empty(),
        "{:?}",
        scene.service.journal()
    );
    headers.push(("Image-Service-Token", TOKEN));
    let answer = scene.gateway.call("POST", REQUESTS, &headers, &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let request: DepthMapRequest = cluster.api().get(&id).await.unwrap();
    let owner = &request.annotations()["voluba.ebrains.eu/owner"];
    let expected = format!(
        "kubernetes#system:serviceaccount:{}:alice",
        cluster.namespace
    );
    assert_eq!(*owner, expected);
    let params = DeleteParams::default();
    roles.delete(&role, &params).await.unwrap();
    bindings.delete(&role, &params).await.unwrap();
    scene.cluster.discard().await;
}
