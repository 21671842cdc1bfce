//! Many who ask the gateway, and many who only hold it up.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::{Scene, send};
use crate::load::{at_most, quantile, size};

const ALIGNMENT: &str = "/v0/alignment-computation/";

/// One question on a connection that stays open; gives the time until the whole answer is there.
async fn ask(stream: &mut TcpStream, path: &str) -> Duration {
    let start = Instant::now();
    let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "closed: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            assert!(head.starts_with("HTTP/1.1 200"), "{text}");
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            if body.len() == length.unwrap_or(0_usize) {
                return start.elapsed();
            }
        }
    }
}

async fn reads(scene: &Scene) -> f64 {
    let answer = send(scene.gateway.admin, "GET", "/metrics", &[], "")
        .await
        .unwrap();
    let reads = answer.body.lines().filter(|line| {
        line.starts_with("voluba_align_api_requests_total{verb=\"GET\"")
            && (line.contains("alignmentrequests") || line.contains("depthmaprequests"))
    });
    reads
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_that_poll_cost_the_api_server_nothing() {
    let Some(scene) = Scene::quiet().await else {
        return;
    };
    let id = scene.accepted(ALIGNMENT, &scene.alignment()).await;
    let path = format!("{ALIGNMENT}{id}");
    let (clients, seconds) = (size(200, 1000), size(5, 30));
    let before = reads(&scene).await;
    let polls = (0..clients).map(|number| {
        let (path, port) = (&path, scene.gateway.port);
        async move {
            // They did not all begin at once.
            let part = 1000 * number as u64 / clients as u64;
            tokio::time::sleep(Duration::from_millis(part)).await;
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let mut times = Vec::new();
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            for _ in 0..seconds {
                ticks.tick().await;
                times.push(ask(&mut stream, path).await);
            }
            times
        }
    });
    let mut times: Vec<Duration> = join_all(polls).await.into_iter().flatten().collect();
    assert_eq!(times.len(), clients * seconds);
    at_most(
        "polling-p99",
        1000.0 * quantile(&mut times, 0.99),
        "ms",
        50.0,
    );
    at_most(
        "polling-p50",
        1000.0 * quantile(&mut times, 0.5),
        "ms",
        50.0,
    );
    let asked = reads(&scene).await - before;
    at_most("polling-reads-of-the-api-server", asked, "calls", 0.0);
    assert_eq!(asked, 0.0);
    scene.cluster.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_take_no_place_from_those_that_speak() {
    let Some(scene) = Scene::quiet().await else {
        return;
    };
    let id = scene.accepted(ALIGNMENT, &scene.alignment()).await;
    let path = format!("{ALIGNMENT}{id}");
    let before = scene.gateway.resident_mebibytes();
    let count = size(3000, 10_000);
    let port = scene.gateway.port;
    let mut held = Vec::new();
    let mut times = Vec::new();
    let mut most = before;
    for number in 0..count {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        // A head that never ends.
        let _ = stream.write_all(b"GET /health HTTP/1.1\r\nHost: ").await;
        held.push(stream);
        if number % (count / 50) == 0 {
            let start = Instant::now();
            let answer = send(port, "GET", &path, &[], "").await.unwrap();
            assert_eq!(answer.status, 200);
            times.push(start.elapsed());
            most = most.max(scene.gateway.resident_mebibytes());
        }
    }
    most = most.max(scene.gateway.resident_mebibytes());
    at_most("slow-connections-memory", most - before, "MiB", 64.0);
    at_most(
        "slow-connections-healthy-p99",
        quantile(&mut times, 0.99),
        "s",
        1.0,
    );
    assert!(most - before < 64.0);
    // Whoever was silent for long is gone, and nothing else is lost.
    drop(held);
    let answer = send(port, "GET", &path, &[], "").await.unwrap();
    assert_eq!(answer.status, 200);
    scene.cluster.discard().await;
}
