//! What belongs to the old service as a whole: its own routes, and the pages that may call it.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::cluster::eventually;
use crate::gateway::{PAGE, Scene, TOKEN};

const DEPTH_MAP: &str = "/v0/depth-map-computation/";
const ALIGNMENT: &str = "/v0/alignment-computation/";

#[tokio::test(flavor = "multi_thread")]
async fn the_routes_of_the_service_itself() {
    let Some(scene) = Scene::new(&[
        "--trust-proxy",
        "--source-url",
        "https://code.example.org/x",
    ])
    .await
    else {
        return;
    };
    let gateway = &scene.gateway;
    for (path, code, to) in [
        ("/", 302, "/redoc"),
        ("/source", 302, "https://code.example.org/x"),
        ("/swagger-ui", 302, "/swagger-ui/index.html"),
        ("/v0/alignment-computation", 308, ALIGNMENT),
        ("/v0/depth-map-computation", 308, DEPTH_MAP),
    ] {
        let answer = gateway.get(path).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (code, to),
            "{path}"
        );
        assert!(answer.header("content-type").starts_with("text/html"));
    }
    let answer = gateway.get("/health").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    let document = gateway.get("/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.0"));
    let scheme = &document["components"]["securitySchemes"]["chumni_auth"];
    assert_eq!(scheme["scheme"], "bearer");
    // The pages need no other host.
    for path in [
        "/redoc",
        "/swagger-ui/index.html",
        "/swagger-ui/swagger-initializer.js",
    ] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        for part in ["src=\"http", "href=\"http", "src=\"//", "href=\"//"] {
            assert!(!answer.body.contains(part), "{path}: {part}");
        }
    }
    assert_eq!(gateway.get("/swagger-ui/none.js").await.status, 404);
    // A proxy's prefix is part of what is given out; an odd one is not believed.
    let body = scene.depth_map().to_string();
    for (prefix, expected) in [("/voluba", "/voluba/v0/"), ("//evil.example", "/v0/")] {
        let token = format!("Bearer {TOKEN}");
        let headers = [
            ("Authorization", token.as_str()),
            ("Content-Type", "application/json"),
            ("X-Forwarded-Prefix", prefix),
        ];
        let answer = gateway.call("POST", DEPTH_MAP, &headers, &body).await;
        let url = answer.json()["status_polling_url"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(url.starts_with(expected), "{url}");
    }
    // Nobody works; then somebody does.
    let start = Instant::now();
    let answer = gateway.get("/v0/worker-health").await;
    assert_eq!(answer.status, 500);
    assert!(answer.json()["message"].is_string());
    assert!(start.elapsed() < Duration::from_secs(5));
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {"name": "voluba-align-operator"},
        "spec": {"holderIdentity": "a", "renewTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string()},
    }))
    .unwrap();
    let leases: Api<Lease> = scene.cluster.api();
    leases.create(&PostParams::default(), &lease).await.unwrap();
    eventually("health", async || {
        let answer = gateway.get("/v0/worker-health").await;
        (answer.status == 200 && answer.body.is_empty()).then_some(())
    })
    .await;
    scene.cluster.discard().await;
}

const ORIGINS: [&str; 30] = [
    PAGE,
    "http://voluba.example.org",
    "https://voluba.example.org:443",
    "https://voluba.example.org:8443",
    "https://voluba.example.org.evil.com",
    "https://voluba.example.org.",
    "https://evil-voluba.example.org",
    "https://x.voluba.example.org",
    "https://example.org",
    "https://voluba.example.orgx",
    "https://VOLUBA.example.org",
    "HTTPS://voluba.example.org",
    "https://voluba.example.org/",
    "https://voluba.example.org/x",
    "https://voluba.example.org@evil.com",
    "https://evil.com#voluba.example.org",
    "https://evil.com?voluba.example.org",
    "https://evil.com/voluba.example.org",
    "https://voluba%2eexample.org",
    "https://x.hbp.eu.evil.com",
    "https://voluba.hbp.eu",
    "https://evil.com",
    "http://localhost",
    "http://127.0.0.1",
    "null",
    "file://",
    "*",
    "chrome-extension://voluba.example.org",
    "https://voluba.example.org https://evil.com",
    "https://voluba.example.org,https://evil.com",
];

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_named_origins_may_call_and_no_others() {
    let Some(scene) = Scene::new(&[]).await else {
        return;
    };
    let gateway = &scene.gateway;
    for origin in ORIGINS {
        let allowed = origin == PAGE;
        let expected = if allowed { PAGE } else { "" };
        // Errors, too, say who may read them.
        for path in ["/health", "/v0/nothing", "/v0/alignment-computation"] {
            let answer = gateway.call("GET", path, &[("Origin", origin)], "").await;
            assert_eq!(
                answer.header("access-control-allow-origin"),
                expected,
                "{origin} {path}"
            );
            assert!(
                answer
                    .header("vary")
                    .to_ascii_lowercase()
                    .contains("origin")
            );
        }
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            (
                "Access-Control-Request-Headers",
                "authorization,content-type",
            ),
        ];
        let answer = gateway.call("OPTIONS", ALIGNMENT, &headers, "").await;
        assert_eq!(answer.status, 200, "{origin}");
        assert_eq!(
            answer.header("access-control-allow-origin"),
            expected,
            "{origin}"
        );
        if allowed {
            assert_eq!(answer.header("access-control-max-age"), "600");
            assert!(
                answer
                    .header("access-control-allow-methods")
                    .contains("POST")
            );
            let headers = answer
                .header("access-control-allow-headers")
                .to_ascii_lowercase();
            assert_eq!(headers, "authorization,content-type");
        }
        assert_eq!(answer.header("access-control-allow-credentials"), "");
    }
    scene.cluster.discard().await;
}
