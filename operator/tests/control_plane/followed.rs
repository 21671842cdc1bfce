//! A request is followed over the interface for programs: events, curve, pictures.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Resource, ResourceExt};
use operator::crd::AlignmentRequest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::eventually;
use crate::v1::{Known, REQUESTS, problem};

/// Reads events until this text has come.
async fn until(stream: &mut TcpStream, text: &mut String, wanted: &str) {
    let reading = async {
        let mut buffer = [0; 4096];
        while !text.contains(wanted) {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "closed before {wanted}: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading)
        .await
        .unwrap_or_else(|_| panic!("no {wanted}"));
}

async fn follow(known: &Known, id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", known.scene.gateway.port))
        .await
        .unwrap();
    let ask = format!("GET {REQUESTS}/{id}/events HTTP/1.1\r\nHost: gateway\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    stream
}

/// What the operator leaves: two files, one of which is no picture, and the curve.
fn pictures(request: &AlignmentRequest) -> ConfigMap {
    let picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x09\0\0\0\x09 and so on".to_vec();
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(format!("voluba-pictures-{}", request.name_any())),
            owner_references: Some(vec![request.owner_ref(&()).unwrap()]),
            ..ObjectMeta::default()
        },
        binary_data: Some(
            [
                ("after-0.png".to_owned(), ByteString(picture.clone())),
                ("evil.html".to_owned(), ByteString(b"<script>".to_vec())),
            ]
            .into(),
        ),
        data: Some(
            [(
                "curve.json".to_owned(),
                json!([{"level": 0, "iteration": 1, "metric": 0.25}]).to_string(),
            )]
            .into(),
        ),
        ..ConfigMap::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_followed_to_its_end_with_its_curve_and_pictures() {
    let Some(known) = Known::new(&[]).await else {
        return;
    };
    let id = known.made("alice", &known.alignment()).await;
    known.is_read(&id).await;
    let (mut stream, mut text) = (follow(&known, &id).await, String::new());
    until(&mut stream, &mut text, "\"phase\":\"Pending\"").await;
    assert!(text.contains("content-type: text/event-stream"), "{text}");
    for iteration in 1..=3 {
        let progress = json!({"stage": "register", "percent": 30 + iteration, "level": 0,
            "iteration": iteration, "metric": 0.3 / f64::from(iteration)});
        known
            .status(&id, json!({"phase": "Running", "progress": progress}))
            .await;
        until(
            &mut stream,
            &mut text,
            &format!("\"percent\":{}", 30 + iteration),
        )
        .await;
    }
    // Who comes later sees what has been, too.
    let view = known
        .scene
        .gateway
        .get(&format!("{REQUESTS}/{id}"))
        .await
        .json();
    assert_eq!(view["curve"].as_array().unwrap().len(), 3, "{view}");
    let request: AlignmentRequest = known.scene.cluster.api().get(&id).await.unwrap();
    let map = pictures(&request);
    let maps: Api<ConfigMap> = known.scene.cluster.api();
    maps.create(&PostParams::default(), &map).await.unwrap();
    known
        .status(
            &id,
            json!({"phase": "Succeeded", "completionTime": "2026-01-01T10:00:00Z"}),
        )
        .await;
    until(&mut stream, &mut text, "\"phase\":\"Succeeded\"").await;
    // It is closed by the gateway.
    let mut rest = Vec::new();
    let closing = stream.read_to_end(&mut rest);
    let ended = tokio::time::timeout(Duration::from_secs(2), closing).await;
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(
        ended.is_ok() || rest.contains("0\r\n\r\n") || text.ends_with("0\r\n\r\n"),
        "{rest}"
    );
    let view = known
        .scene
        .gateway
        .get(&format!("{REQUESTS}/{id}"))
        .await
        .json();
    assert_eq!(view["pictures"], json!(["after-0.png"]));
    assert_eq!(
        view["curve"],
        json!([{"level": 0, "iteration": 1, "metric": 0.25}])
    );
    pictures_are_given_out(&known, &id).await;
    gone_while_it_is_followed(&known).await;
    known.scene.cluster.discard().await;
}

async fn pictures_are_given_out(known: &Known, id: &str) {
    let answer = known
        .scene
        .gateway
        .get(&format!("{REQUESTS}/{id}/pictures/after-0.png"))
        .await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "image/png")
    );
    for name in ["evil.html", "none.png", "..%2fx"] {
        let answer = known
            .scene
            .gateway
            .get(&format!("{REQUESTS}/{id}/pictures/{name}"))
            .await;
        problem(&answer, 404, "not-found");
    }
}

async fn gone_while_it_is_followed(known: &Known) {
    let other = known.made("alice", &known.depth_map()).await;
    known.is_read(&other).await;
    let (mut stream, mut text) = (follow(known, &other).await, String::new());
    until(&mut stream, &mut text, "event: request").await;
    let answer = known
        .call(
            "alice",
            "DELETE",
            &format!("{REQUESTS}/{other}"),
            &Value::Null,
            &[],
        )
        .await;
    assert_eq!(answer.status, 204);
    until(&mut stream, &mut text, "event: deleted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_keeps_the_place_and_there_are_so_many_places() {
    let Some(known) = Known::new(&[]).await else {
        return;
    };
    let id = known.made("alice", &known.alignment()).await;
    known.is_read(&id).await;
    let mut followers = Vec::new();
    for _ in 0..1024 {
        let (mut stream, mut text) = (follow(&known, &id).await, String::new());
        until(&mut stream, &mut text, "event: request").await;
        followers.push((stream, text));
    }
    let path = format!("{REQUESTS}/{id}/events");
    let answer = known.scene.gateway.get(&path).await;
    problem(&answer, 503, "unavailable");
    assert_eq!(answer.header("retry-after"), "30");
    // Connections that say nothing push each other out, and nobody who follows.
    let port = known.scene.gateway.port;
    let mut silent = Vec::new();
    for _ in 0..3000 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let progress = json!({"stage": "register", "percent": 41});
    known
        .status(&id, json!({"phase": "Running", "progress": progress}))
        .await;
    for (stream, text) in &mut followers {
        until(stream, text, "\"percent\":41").await;
    }
    // A place that is left can be taken.
    drop(followers.pop());
    eventually("a place", async || {
        let (mut stream, mut text) = (follow(&known, &id).await, String::new());
        until(&mut stream, &mut text, "\r\n\r\n").await;
        text.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    known.scene.cluster.discard().await;
}

/// The head of a call has come, and the first half of its body.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_waited_for_so_long() {
    let Some(known) = Known::new(&[]).await else {
        return;
    };
    let bearer = format!("Authorization: Bearer {}", known.issuer.token("alice"));
    let old = format!("Authorization: Bearer {}", crate::gateway::TOKEN);
    let slow = async |path: &str, token: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", known.scene.gateway.port))
            .await
            .unwrap();
        let call = format!(
            "POST {path} HTTP/1.1\r\nHost: gateway\r\n{token}\r\nContent-Type: application/json\r\n\
             Content-Length: 100\r\n\r\n{{\"kind\":"
        );
        stream.write_all(call.as_bytes()).await.unwrap();
        let mut text = String::new();
        let answer = async {
            let mut buffer = [0; 4096];
            while !text.contains("\r\n\r\n") {
                let count = stream.read(&mut buffer).await.unwrap();
                assert!(count > 0, "closed: {text}");
                text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        // The limit is 30 s; the machine may be slow, too.
        tokio::time::timeout(Duration::from_secs(90), answer)
            .await
            .unwrap();
        text
    };
    let (new, old) = tokio::join!(
        slow(REQUESTS, &bearer),
        slow("/v0/alignment-computation/", &old)
    );
    assert!(new.starts_with("HTTP/1.1 408 "), "{new}");
    assert!(new.contains("application/problem+json"), "{new}");
    assert!(old.starts_with("HTTP/1.1 408 "), "{old}");
    known.scene.cluster.discard().await;
}
