//! The old interface, row by row of its contract: a running gateway, a real API server.

use std::time::Duration;

use fake_image_service::{Call, Fault};
use kube::ResourceExt;
use operator::crd::{AlignmentRequest, DepthMapRequest};
use serde_json::{Value, json};

use crate::cluster::eventually;
use crate::gateway::{Scene, TOKEN};
use crate::kubelet::message;

const DEPTH_MAP: &str = "/v0/depth-map-computation/";
const ALIGNMENT: &str = "/v0/alignment-computation/";

fn with(body: &Value, changes: &[(&str, Value)]) -> Value {
    let mut body = body.clone();
    for (name, value) in changes {
        body[*name] = value.clone();
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn both_posts_are_accepted_and_become_requests() {
    let Some(scene) = Scene::new(&[]).await else {
        return;
    };
    // With a slash at the end or not, the service is the same.
    let slash = json!(format!("{}/", scene.service.base()));
    let body = with(&scene.depth_map(), &[("image_service_base_url", slash)]);
    let id = scene.accepted(DEPTH_MAP, &body).await;
    assert_eq!(id.len(), 36);
    let request: DepthMapRequest = scene.cluster.api().get(&id).await.unwrap();
    let spec = serde_json::to_value(&request.spec).unwrap();
    assert_eq!(
        spec["segmentation"]["source"]["imageService"]["name"],
        "seg"
    );
    assert_eq!(spec["output"]["artifacts"], json!(["depth"]));
    assert_eq!(
        spec["credentials"]["secretName"],
        format!("voluba-gateway-{id}")
    );
    assert_eq!(scene.service.count(Call::List), 1);
    let journal = scene.service.journal();
    assert!(
        journal.iter().all(|call| call.path.ends_with("/list")),
        "{journal:?}"
    );

    let id = scene.accepted(ALIGNMENT, &scene.alignment()).await;
    let request: AlignmentRequest = scene.cluster.api().get(&id).await.unwrap();
    let spec = serde_json::to_value(&request.spec).unwrap();
    assert_eq!(spec["placement"]["space"], "viewer");
    assert_eq!(spec["placement"]["matrix"][1], json!([0.0, 1.0, 0.0, 6.0]));
    // source_point is the template's, target_point the image's.
    assert_eq!(spec["landmarks"][0]["template"], json!([1.0, 2.0, 3.0]));
    assert_eq!(spec["landmarks"][0]["patch"], json!([4.0, 5.0, 6.0]));
    // Three rows do.
    let three = json!([[1, 0, 0, "5"], [0, 1, 0, 6], [0, 0, 1, 7]]);
    let changes = [
        ("transformation_matrix", three),
        ("landmark_pairs", json!([])),
        ("other", json!(1)),
    ];
    scene
        .accepted(ALIGNMENT, &with(&scene.alignment(), &changes))
        .await;
    scene.cluster.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_has_its_code_and_its_form() {
    let Some(scene) = Scene::new(&[]).await else {
        return;
    };
    authorization(&scene).await;
    images(&scene).await;
    bodies(&scene).await;
    fields(&scene).await;
    paths(&scene).await;
    scene.cluster.discard().await;
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

async fn authorization(scene: &Scene) {
    let depth_map = scene.depth_map().to_string();
    let gateway = &scene.gateway;
    // Authorization: nothing, another scheme, another case, two spaces, no token.
    for given in ["", "Basic x", "bearer x", "Bearer  x", "Bearer "] {
        let headers = [("Authorization", given), JSON];
        let answer = gateway.call("POST", DEPTH_MAP, &headers, &depth_map).await;
        assert_eq!(answer.status, 401, "{given}: {answer:?}");
        assert!(answer.json()["errors"][0].is_string());
    }
    // The body is looked at first.
    let answer = gateway.call("POST", DEPTH_MAP, &[JSON], "{}").await;
    assert_eq!(answer.status, 422);
    // The image service does not know the token.
    let headers = [("Authorization", "Bearer other"), JSON];
    let answer = gateway.call("POST", DEPTH_MAP, &headers, &depth_map).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    assert!(answer.json()["errors"][0].is_string());
}

async fn images(scene: &Scene) {
    let gateway = &scene.gateway;
    // Images that are not listed, or of the wrong type.
    for (path, changes, word) in [
        (DEPTH_MAP, ("segmentation_name", json!("none")), "none"),
        (
            DEPTH_MAP,
            ("segmentation_name", json!("image")),
            "segmentation",
        ),
        (ALIGNMENT, ("image_name", json!("none")), "none"),
        (ALIGNMENT, ("image_name", json!("seg")), "image"),
        (ALIGNMENT, ("depth_map_name", json!("seg")), "image"),
    ] {
        let body = if path == DEPTH_MAP {
            scene.depth_map()
        } else {
            scene.alignment()
        };
        let answer = gateway.post(path, &with(&body, &[changes])).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let sentence = answer.json()["errors"][0].as_str().unwrap().to_owned();
        assert!(sentence.contains(word), "{sentence}");
    }
    // The image service answers with something else, or not at all.
    for fault in [
        Fault::status(403),
        Fault::status(404),
        Fault::status(500),
        Fault::Answer(200, Vec::new(), "<html>".to_owned()),
        Fault::Vanish,
        Fault::Late(Duration::from_secs(15)),
    ] {
        scene.service.fail(Call::List, 1, fault.clone());
        let answer = gateway.post(DEPTH_MAP, &scene.depth_map()).await;
        assert_eq!(answer.status, 500, "{fault:?}: {answer:?}");
        assert!(answer.json()["errors"][0].is_string());
    }
}

async fn bodies(scene: &Scene) {
    let gateway = &scene.gateway;
    let token = format!("Bearer {TOKEN}");
    let depth_map = scene.depth_map().to_string();
    // Syntax.
    let headers = [("Authorization", token.as_str()), JSON];
    let answer = gateway.call("POST", DEPTH_MAP, &headers, "{").await;
    assert_eq!(answer.status, 400);
    let body = answer.json();
    assert_eq!(
        (&body["code"], &body["status"]),
        (&json!(400), &json!("Bad Request"))
    );
    assert!(body["errors"]["json"][0].is_string());
    // Another type of content counts as no content.
    for type_ in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let headers = [("Authorization", token.as_str()), ("Content-Type", type_)];
        let answer = gateway.call("POST", DEPTH_MAP, &headers, &depth_map).await;
        assert_eq!(answer.status, 422, "{type_}");
        assert_eq!(answer.json()["errors"].as_object().unwrap().len(), 2);
    }
    // Numbers that are none.
    let nan = scene
        .alignment()
        .to_string()
        .replace("[1,0,0,5]", "[NaN,0,0,5]");
    let answer = gateway.call("POST", ALIGNMENT, &headers, &nan).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    // What does not fit.
    let large = format!("{{\"image_name\": \"{}\"}}", "x".repeat(600 << 10));
    let answer = gateway.call("POST", ALIGNMENT, &headers, &large).await;
    assert_eq!(answer.status, 413);
}

async fn fields(scene: &Scene) {
    let gateway = &scene.gateway;
    // Fields.
    for (changes, place) in [
        (
            ("image_service_base_url", json!("http://chumni/")),
            "/errors/image_service_base_url/0",
        ),
        (
            (
                "image_service_base_url",
                json!("https://other.example.org/"),
            ),
            "/errors/image_service_base_url/0",
        ),
        (("image_name", json!(3)), "/errors/image_name/0"),
        (
            ("landmark_pairs", json!([{"target_point": [1, 2, 3]}])),
            "/errors/landmark_pairs/0/source_point/0",
        ),
        (
            (
                "landmark_pairs",
                json!([{"source_point": [0, 0, 0], "target_point": [1, 2, 3], "active": "maybe"}]),
            ),
            "/errors/landmark_pairs/0/active/0",
        ),
        (
            (
                "transformation_matrix",
                json!([[1], [0, 1, 0, 0], [0, 0, 1, 0]]),
            ),
            "/errors/transformation_matrix/0/0",
        ),
        (
            (
                "transformation_matrix",
                json!([[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]]),
            ),
            "/errors/transformation_matrix/0",
        ),
        (
            (
                "transformation_matrix",
                json!([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 3]]),
            ),
            "/errors/transformation_matrix/0",
        ),
    ] {
        let answer = gateway
            .post(ALIGNMENT, &with(&scene.alignment(), &[changes]))
            .await;
        assert_eq!(answer.status, 422, "{answer:?}");
        let body = answer.json();
        assert_eq!(
            (&body["code"], &body["status"]),
            (&json!(422), &json!("Unprocessable Entity"))
        );
        assert!(
            body.pointer(place).is_some_and(Value::is_string),
            "{place}: {body}"
        );
    }
}

async fn paths(scene: &Scene) {
    let gateway = &scene.gateway;
    // Paths and methods.
    for (method, path, code) in [
        ("GET", "/v0/nothing", 404),
        ("GET", "/echo", 404),
        ("DELETE", DEPTH_MAP, 405),
        ("GET", ALIGNMENT, 405),
        ("POST", "/health", 405),
    ] {
        let answer = gateway.call(method, path, &[], "").await;
        assert_eq!(answer.status, code, "{method} {path}");
        assert_eq!(answer.json()["code"], code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_computation_is_followed_to_its_end() {
    let Some(scene) = Scene::new(&[]).await else {
        return;
    };
    let operator = scene.cluster.operator_with(settings(&scene));
    let url = "precomputed://https://images.example.org/nifti/x/y";
    let artifact = |name: &str, kind: &str| json!({"name": name, "kind": kind, "sha256": "ab", "bytes": 1, "neuroglancerUrl": url});
    let lives = [
        (
            DEPTH_MAP,
            scene.depth_map(),
            artifact("seg-equivolumetric-depth-1", "depth"),
        ),
        (
            ALIGNMENT,
            scene.alignment(),
            artifact("image-transformed-1", "image"),
        ),
    ];
    for (path, body, artifact) in lives {
        let id = scene.accepted(path, &body).await;
        let item = format!("{path}{id}");
        // Nobody needs to say who they are.
        let answer = scene.gateway.get(&item).await;
        assert_eq!(
            answer.json(),
            json!({"finished": false, "message": "PENDING"})
        );
        let pod = eventually("a pod", async || {
            let pods = scene.cluster.pods().await;
            pods.into_iter()
                .find(|pod| pod.name_any().starts_with(&id[..20]))
        })
        .await;
        scene.cluster.run_pod(&pod).await;
        let running = eventually("the stage", async || {
            let body = scene.gateway.get(&item).await.json();
            (body["message"] != "PENDING").then_some(body)
        })
        .await;
        let text = running["message"].as_str().unwrap();
        assert!(text.starts_with("PROGRESS (downloading "), "{text}");
        let result = json!({"artifacts": [artifact], "warnings": []});
        let done = message("Success", &[("result", result)]);
        scene.cluster.end_pod(&pod, 0, &done).await;
        let ended = eventually("the end", async || {
            let body = scene.gateway.get(&item).await.json();
            (body["finished"] == true).then_some(body)
        })
        .await;
        assert_eq!(ended["message"], "SUCCESS (success)");
        assert!(ended.get("error").is_none());
        let results = &ended["results"];
        assert_eq!(
            results["image_service_base_url"],
            format!("{}/", scene.service.base())
        );
        if path == DEPTH_MAP {
            let name = results["depth_map_name"].as_str().unwrap();
            assert!(name.contains("-equivolumetric-depth"));
            assert_eq!(results["depth_map_neuroglancer_url"], url);
        } else {
            assert_eq!(results["transformed_image_name"], "image-transformed-1");
            assert_eq!(results["transformed_image_neuroglancer_url"], url);
            // What the front end shows the result with: only its last column is in nanometres.
            let shift = results["transformation_matrix"][0][3].as_f64().unwrap() * 1e6;
            assert_eq!(shift, 5e6);
            // Both paths share the identifiers.
            let other = scene.gateway.get(&format!("{DEPTH_MAP}{id}")).await.json();
            assert_eq!(&other["results"], results);
        }
    }
    failure(&scene).await;
    operator.stop().await;
    scene.cluster.finish().await;
}

async fn failure(scene: &Scene) {
    // A failure says why.
    let id = scene.accepted(DEPTH_MAP, &scene.depth_map()).await;
    let pod = eventually("a pod", async || {
        let pods = scene.cluster.pods().await;
        pods.into_iter().find(|pod| {
            pod.name_any().starts_with(&id[..20]) && pod.labels()["voluba.ebrains.eu/request"] == id
        })
    })
    .await;
    let failed = message("InvalidImage", &[("message", json!("no cortex in it"))]);
    scene.cluster.end_pod(&pod, 65, &failed).await;
    let ended = eventually("the failure", async || {
        let body = scene.gateway.get(&format!("{DEPTH_MAP}{id}")).await.json();
        (body["finished"] == true).then_some(body)
    })
    .await;
    assert_eq!(ended["error"], true);
    let text = ended["message"].as_str().unwrap();
    assert!(
        text.starts_with("FAILURE (InvalidImage: ") && text.contains("no cortex in it"),
        "{text}"
    );
}

fn settings(scene: &Scene) -> operator::settings::Settings {
    let mut settings = operator::settings::Settings::with_image("aligner:test");
    settings.private_origins = vec![alignment_api::Origin::parse(&scene.service.origin()).unwrap()];
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_identifier_is_pending_for_a_minute_and_then_a_failure_or_404() {
    let Some(scene) = Scene::new(&[]).await else {
        return;
    };
    let young = uuid::Uuid::now_v7();
    let old = "0a1b2c3d-0000-4000-8000-000000000000";
    let strict = crate::gateway::Gateway::start(
        &scene.cluster,
        &scene.kubeconfig,
        &scene.service,
        &["--unknown-request", "not-found"],
    )
    .await;
    for gateway in [&scene.gateway, &strict] {
        let answer = gateway.get(&format!("{ALIGNMENT}{young}")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.json(),
            json!({"finished": false, "message": "PENDING"})
        );
    }
    for id in [old, "nonsense", "..%2F..%2Fsecrets"] {
        let answer = scene.gateway.get(&format!("{ALIGNMENT}{id}")).await;
        assert_eq!(answer.status, 200, "{id}");
        let body = answer.json();
        assert_eq!(
            (&body["finished"], &body["error"]),
            (&json!(true), &json!(true))
        );
        assert_eq!(
            strict.get(&format!("{ALIGNMENT}{id}")).await.status,
            404,
            "{id}"
        );
    }
    drop(strict);
    scene.cluster.discard().await;
}
