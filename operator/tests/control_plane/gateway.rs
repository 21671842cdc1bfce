//! The gateway as a process of its own, with the rights that the chart gives it and no more, an image
//! service beside it, and a client that sends whatever it is told to.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use fake_image_service::FakeService;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::{Cluster, cluster, eventually};
use crate::process::{Process, resident_mebibytes};

/// The token of the one caller.
pub(crate) const TOKEN: &str = "canary-5f1c1a0e-token";
/// A page that may call.
pub(crate) const PAGE: &str = "https://voluba.example.org";

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// A gateway; killed when it is dropped.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) port: u16,
    /// Of /metrics.
    pub(crate) admin: u16,
    /// What it has written to its log.
    log: std::path::PathBuf,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The rights that the chart gives the gateway.
fn rules() -> Value {
    let chart = include_str!("../../../charts/voluba-align/templates/_helpers.tpl");
    let start = "{{- define \"voluba-align.gatewayRules\" -}}";
    let (_, rest) = chart.split_once(start).expect("rules of the gateway");
    let (yaml, _) = rest.split_once("{{- end }}").unwrap();
    serde_yaml_ng::from_str(yaml).unwrap()
}

/// Gives a user of this namespace the gateway's rights, and writes a kubeconfig for it.
pub(crate) async fn user(cluster: &Cluster, rules: Value) -> std::path::PathBuf {
    let role: Role =
        serde_json::from_value(json!({"metadata": {"name": "gateway"}, "rules": rules})).unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "gateway"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "gateway"},
        "subjects": [{"kind": "ServiceAccount", "name": "gateway", "namespace": cluster.namespace}],
    }))
    .unwrap();
    let params = PostParams::default();
    cluster.api().create(&params, &role).await.unwrap();
    cluster.api().create(&params, &binding).await.unwrap();
    let text = std::fs::read_to_string(Process::kubeconfig()).unwrap();
    let mut config: Value = serde_yaml_ng::from_str(&text).unwrap();
    let name = format!("system:serviceaccount:{}:gateway", cluster.namespace);
    for user in config["users"].as_array_mut().unwrap() {
        user["user"]["as"] = json!(name);
    }
    let path = std::env::temp_dir().join(format!("{}.kubeconfig", cluster.namespace));
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

impl Gateway {
    /// Starts one and waits until it knows what there is.
    pub(crate) async fn start(
        cluster: &Cluster,
        kubeconfig: &std::path::Path,
        service: &FakeService,
        options: &[&str],
    ) -> Self {
        Self::logging(cluster, kubeconfig, service, options, "trace").await
    }

    /// The same with a level of the log.
    async fn logging(
        cluster: &Cluster,
        kubeconfig: &std::path::Path,
        service: &FakeService,
        options: &[&str],
        level: &str,
    ) -> Self {
        // A port that was free may be somebody's a moment later.
        loop {
            let mut gateway = Self::spawn(cluster, kubeconfig, service, options, level);
            let ready = eventually("the gateway", async || {
                if gateway.child.try_wait().unwrap().is_some() {
                    return Some(false);
                }
                let answer = send(gateway.admin, "GET", "/readyz", &[], "").await?;
                (answer.status == 200).then_some(true)
            })
            .await;
            if ready {
                return gateway;
            }
            assert!(gateway.log().contains("cannot listen"), "{}", gateway.log());
        }
    }

    fn spawn(
        cluster: &Cluster,
        kubeconfig: &std::path::Path,
        service: &FakeService,
        options: &[&str],
        level: &str,
    ) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (port, admin) = (free_port(), free_port());
        let log = std::env::temp_dir().join(format!("{}-{number}.log", cluster.namespace));
        let child = Command::new(env!("CARGO_BIN_EXE_operator"))
            .args(["gateway", "--namespace", &cluster.namespace])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--admin-listen", &format!("127.0.0.1:{admin}")])
            .args(["--allow-private-origin", &service.origin()])
            .args(["--cors-origin", PAGE])
            .args(options)
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_LOG", level)
            .stderr(Stdio::from(std::fs::File::create(&log).unwrap()))
            .spawn()
            .unwrap();
        Self {
            child,
            port,
            admin,
            log,
        }
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn resident_mebibytes(&self) -> f64 {
        resident_mebibytes(self.child.id())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        send(self.port, method, path, headers, body)
            .await
            .unwrap_or_else(|| panic!("no answer: {method} {path}\n{}", self.log()))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], "").await
    }

    /// A POST as the front end sends it.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let token = format!("Bearer {TOKEN}");
        let headers = [
            ("Authorization", token.as_str()),
            ("Content-Type", "application/json"),
            ("Origin", PAGE),
        ];
        self.call("POST", path, &headers, &body.to_string()).await
    }
}

/// Sends a request; none, if nobody listens.
pub(crate) async fn send(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Option<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    if !body.is_empty() {
        let length = body.len().to_string();
        head.extend(["Content-Length: ", &length, "\r\n"]);
    }
    let request = format!("{head}\r\n{body}");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Some(Answer {
        status,
        headers,
        body: body.to_owned(),
    })
}

/// A place, an image service with the example's images, and a gateway.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) service: FakeService,
    pub(crate) kubeconfig: std::path::PathBuf,
    pub(crate) gateway: Gateway,
}

impl Scene {
    pub(crate) async fn new(options: &[&str]) -> Option<Self> {
        Self::logging(options, "trace").await
    }

    /// One whose gateway logs as in earnest, for figures.
    pub(crate) async fn quiet() -> Option<Self> {
        Self::logging(&[], "info").await
    }

    async fn logging(options: &[&str], level: &str) -> Option<Self> {
        let cluster = cluster().await?;
        let service = FakeService::start().unwrap();
        service.accept(TOKEN);
        let data = |name: &str| {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data");
            std::fs::read(folder.join(name)).unwrap()
        };
        let segmentation = data("patch_segmentation.nii.gz");
        service.put_segmentation(TOKEN, "seg.nii.gz", segmentation.clone());
        service.put(Some(TOKEN), "image.nii.gz", segmentation.clone());
        service.put(Some(TOKEN), "seg-equivolumetric-depth.nii.gz", segmentation);
        let kubeconfig = user(&cluster, rules()).await;
        let gateway = Gateway::logging(&cluster, &kubeconfig, &service, options, level).await;
        Some(Self {
            cluster,
            service,
            kubeconfig,
            gateway,
        })
    }

    pub(crate) fn depth_map(&self) -> Value {
        json!({"image_service_base_url": self.service.base(), "segmentation_name": "seg"})
    }

    pub(crate) fn alignment(&self) -> Value {
        json!({
            "image_service_base_url": self.service.base(),
            "image_name": "image", "depth_map_name": "seg-equivolumetric-depth",
            "transformation_matrix": [[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]],
            "landmark_pairs": [{"source_point": [1, 2, 3], "target_point": [4, 5, 6],
                "active": true, "name": "a", "colour": "#ff0000"}],
        })
    }

    /// Has a computation made; gives its identifier.
    pub(crate) async fn accepted(&self, path: &str, body: &Value) -> String {
        let answer = self.gateway.post(path, body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let url = answer.json()["status_polling_url"]
            .as_str()
            .unwrap()
            .to_owned();
        let id = url.strip_prefix(path).unwrap_or_else(|| panic!("{url}"));
        id.to_owned()
    }
}
