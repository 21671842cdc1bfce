//! The program itself, as a process of its own.

use std::process::{Child, Command, Stdio};

use crate::cluster::{Cluster, KUBECONFIG, eventually};

/// The program; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    port: u16,
}

impl Process {
    /// Starts one that reaches the API server by the administrator's kubeconfig.
    pub(crate) fn start(cluster: &Cluster) -> Self {
        Self::with(cluster, &Self::kubeconfig(), &[], "off")
    }

    /// Starts one of several replicas.
    pub(crate) fn replica(cluster: &Cluster, name: &str) -> Self {
        let place = ["--pod-namespace", &cluster.namespace, "--pod-name", name];
        let options = [&["--leader-elect"][..], &place].concat();
        Self::with(cluster, &Self::kubeconfig(), &options, "off")
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig() -> String {
        std::env::var(KUBECONFIG).unwrap()
    }

    /// Starts one with a kubeconfig, more options and a level of the log, unless `RUST_LOG` has one.
    pub(crate) fn with(cluster: &Cluster, kubeconfig: &str, options: &[&str], level: &str) -> Self {
        // Free a moment ago; nobody else is likely to take it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let child = Command::new(env!("CARGO_BIN_EXE_operator"))
            .args(["run", "--namespace", &cluster.namespace])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--aligner-image", "aligner:test"])
            .args(options)
            .env("KUBECONFIG", kubeconfig)
            .env(
                "RUST_LOG",
                std::env::var("RUST_LOG").as_deref().unwrap_or(level),
            )
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self { child, port }
    }

    /// As the kubelet does when it wants it to stop.
    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(status.unwrap().success());
    }

    /// At once and without a word.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) async fn until_it_leads(&self) {
        eventually("the operator", async || {
            (self.metric("voluba_align_leader").await? > 0.0).then_some(())
        })
        .await;
    }

    pub(crate) fn resident_mebibytes(&self) -> f64 {
        resident_mebibytes(self.child.id())
    }

    /// Processor time of the process so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        // In hundredths of a second: Linux fixes the unit of this file.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, after_name) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks: u64 = fields[11..13]
            .iter()
            .map(|field| field.parse::<u64>().unwrap())
            .sum();
        ticks as f64 / 100.0
    }

    /// A value out of `/metrics`, 0 if it is not listed; none, if the port is not open yet.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").await?;
        let value = |line: &str| {
            line.strip_prefix(name)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        };
        Some(text.lines().find_map(value).unwrap_or(0.0))
    }

    /// Sum of a counter over all its labels but those with this text.
    pub(crate) async fn sum(&self, name: &str, without: &str) -> f64 {
        let text = self.get("/metrics").await.unwrap();
        let lines = text
            .lines()
            .filter(|line| line.starts_with(name) && !line.contains(without));
        lines
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// Requests to the API server so far, by verb and resource.
    pub(crate) async fn calls(&self) -> String {
        let text = self.get("/metrics").await.unwrap();
        let calls = text
            .lines()
            .filter_map(|line| line.strip_prefix("voluba_align_api_requests_total"));
        calls.collect::<Vec<_>>().join(" ")
    }

    async fn get(&self, path: &str) -> Option<String> {
        let address = ("127.0.0.1", self.port);
        let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes())
            .await
            .ok()?;
        let mut text = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text)
            .await
            .ok()?;
        Some(text)
    }
}

/// Memory of a process that is in use now.
pub(crate) fn resident_mebibytes(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let kibibytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kibibytes.parse::<f64>().unwrap() / 1024.0
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
