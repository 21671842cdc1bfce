//! The program as a user runs it: the example, with its data at an image service.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use alignment_api::{ExitCode, TerminationMessage};
use fake_image_service::{Call, FakeService, Fault};

use crate::{REPLY, TOKEN, sha256};

/// The example's request, its image service on this machine.
pub(crate) struct Run {
    pub(crate) server: FakeService,
    folder: tempfile::TempDir,
    pub(crate) text: String,
    options: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn data(name: &str) -> PathBuf {
    root().join("examples/data").join(name)
}

impl Run {
    pub(crate) fn new() -> Self {
        let server = FakeService::start().unwrap();
        server.accept(TOKEN);
        for name in ["patch_image.nii.gz", "patch_segmentation.nii.gz"] {
            server.put(Some(TOKEN), name, fs::read(data(name)).unwrap());
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), TOKEN).unwrap();
        let text = fs::read_to_string(root().join("examples/image-service.yaml")).unwrap();
        assert!(text.contains("https://images.example.org/chumni/v1"));
        let text = text
            .replace("https://images.example.org", &server.origin())
            // As the operator adds it.
            .replace(
                "  name: image-service\n",
                "  name: image-service\n  uid: 0a1b2c3d-1111\n",
            );
        let options = [
            format!("--allow-private-origin={}", server.origin()),
            format!("--token-file={}", folder.path().join("token").display()),
        ];
        Self {
            server,
            folder,
            text,
            options: options.to_vec(),
        }
    }

    pub(crate) fn command(&self) -> Command {
        let request = self.folder.path().join("request.yaml");
        fs::write(&request, &self.text).unwrap();
        let work = self.folder.path().join("work");
        fs::create_dir_all(&work).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_aligner"));
        command
            .arg("run")
            .arg(request)
            .args(&self.options)
            .arg(format!("--claim=results={}", self.results().display()))
            .arg(format!("--claim=patches={}", data("").display()))
            .arg(format!(
                "--template=example={}",
                data("template_depth.nii.gz").display()
            ))
            .arg("--termination-message")
            .arg(self.folder.path().join("message"))
            .env("TMPDIR", work);
        command
    }

    fn results(&self) -> PathBuf {
        self.folder.path().join("results")
    }

    pub(crate) fn run(&self) -> Output {
        self.command().output().unwrap()
    }

    fn message(&self) -> TerminationMessage {
        serde_json::from_slice(&fs::read(self.folder.path().join("message")).unwrap()).unwrap()
    }

    /// Ends as expected; no secret is in what it prints or writes, and nothing is left of its work.
    #[track_caller]
    pub(crate) fn assert_ends(&self, output: &Output, expected: ExitCode) {
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(i32::from(expected.code())),
            "{error}"
        );
        assert_eq!(self.message().outcome, expected);
        self.assert_no_canary(output);
        let work = fs::read_dir(self.folder.path().join("work")).unwrap();
        assert_eq!(work.count(), 0, "the work folder is left");
    }

    #[track_caller]
    fn assert_no_canary(&self, output: &Output) {
        let mut places = vec![
            ("stdout".to_owned(), output.stdout.clone()),
            ("stderr".to_owned(), output.stderr.clone()),
        ];
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with("token") {
                    places.push((path.display().to_string(), fs::read(&path).unwrap()));
                }
            }
        }
        for (place, bytes) in places {
            let found = bytes.windows(6).any(|window| window == b"canary");
            assert!(!found, "a secret is in {place}");
        }
        for record in self.server.journal() {
            for (name, value) in &record.headers {
                let sent = value.contains("canary");
                assert!(!sent || name == "authorization", "{name}: {value}");
            }
            let rest = format!("{} {:?}", record.path, record.query);
            assert!(!rest.contains("canary"), "{rest}");
        }
    }
}

/// Viewers find a layer where the result says, without a token.
#[track_caller]
fn assert_shown(server: &FakeService, layer: &str) {
    use std::io::{Read, Write};
    let url = layer.strip_prefix("precomputed://").unwrap();
    let path = url.strip_prefix(&server.origin()).unwrap();
    let address = server.origin().replace("http://", "");
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    let request =
        format!("GET {path}/info HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("neuroglancer_multiscale_volume"),
        "{answer}"
    );
}

/// The view shows the first image, placed as the request says.
#[track_caller]
fn assert_view(link: &str, artifacts: &[alignment_api::Artifact]) {
    let (_, state) = link.split_once("/#!").unwrap();
    let state: serde_json::Value = serde_json::from_str(&decoded(state)).unwrap();
    let layer = &state["layers"][0];
    assert_eq!(layer["name"], artifacts[0].name.as_str());
    let source = &layer["source"];
    assert_eq!(
        source["url"].as_str(),
        artifacts[0].neuroglancer_url.as_deref()
    );
    assert_eq!(state["layers"][1]["type"], "segmentation");
    // The example's placement is in the viewer's space: it stands there as it is, in nm.
    let text = fs::read_to_string(root().join("examples/image-service.yaml")).unwrap();
    let request = aligner::job::parse_request(&text).unwrap();
    let spec = request.spec.alignment().unwrap();
    for (row, expected) in spec.placement.matrix.iter().take(3).enumerate() {
        for (column, expected) in expected.iter().enumerate() {
            let (scale, tolerance) = if column == 3 { (1e6, 2.0) } else { (1.0, 1e-6) };
            let found = source["transform"]["matrix"][row][column].as_f64().unwrap();
            assert!((found - scale * expected).abs() <= tolerance, "{found}");
        }
    }
}

fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(part[2..].bytes());
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_example_comes_from_an_image_service_and_goes_back() {
    let run = Run::new();
    let output = run.run();
    run.assert_ends(&output, ExitCode::Success);
    let uid = "0a1b2c3d";
    let names: Vec<String> = run.server.images()[2..]
        .iter()
        .map(|image| image.name.clone())
        .collect();
    let result = run.message().result.unwrap();
    let artifacts: Vec<&String> = (result.artifacts.iter())
        .map(|artifact| &artifact.name)
        .collect();
    assert_eq!(artifacts, names.iter().collect::<Vec<_>>());
    for artifact in &result.artifacts {
        assert_shown(&run.server, artifact.neuroglancer_url.as_deref().unwrap());
    }
    assert_view(&result.viewer_url.unwrap(), &result.artifacts);
    assert_eq!(
        names,
        [
            format!("patch-transformed-{uid}"),
            format!("tissue-transformed-{uid}"),
            format!("patch_segmentation-equivolumetric-depth-{uid}"),
            format!("patch_segmentation-depth-validity-{uid}"),
        ]
    );
    let labels: Vec<bool> = run.server.images()[2..]
        .iter()
        .map(|image| image.segmentation)
        .collect();
    assert_eq!(labels, [false, true, false, false]);
    // The same bytes as from claims.
    let mut local = Run::new();
    let base = format!("baseUrl: \"{}\"", local.server.base());
    local.text = local
        .text
        .replace(
            &format!("imageService: {{{base}}}"),
            "volume: {claimName: results}",
        )
        .replace(
            &format!("imageService: {{{base}, name: "),
            "volume: {claimName: patches, path: ",
        )
        .replace("patch_image}", "patch_image.nii.gz}")
        .replace("patch_segmentation}", "patch_segmentation.nii.gz}")
        .replace("  credentials: {secretName: my-token}\n", "");
    local.options.clear();
    local.assert_ends(&local.run(), ExitCode::Success);
    let file = local.results().join("patch-transformed.nii.gz");
    assert_eq!(
        sha256(&fs::read(file).unwrap()),
        sha256(&run.server.images()[2].bytes)
    );
    // Again, as a second pod would: nothing is stored twice.
    let uploads = run.server.uploads();
    run.assert_ends(&run.run(), ExitCode::Success);
    assert_eq!(run.server.uploads(), uploads);
}

/// A depth map alone, of the same segmentation.
pub(crate) fn depth_map(source: &str, destination: &str, more: &str) -> String {
    format!(
        "apiVersion: voluba.ebrains.eu/v1alpha1\nkind: DepthMapRequest\nmetadata: {{name: depth, uid: 0a1b2c3d-1111}}\nspec:\n  segmentation: {{source: {source}}}\n  output: {{destination: {destination}{more}}}\n"
    )
}

#[test]
fn a_depth_map_alone_comes_from_an_image_service_and_goes_back() {
    let mut run = Run::new();
    let base = run.server.base();
    let source = format!("{{imageService: {{baseUrl: \"{base}\", name: patch_segmentation}}}}");
    let destination = format!("{{imageService: {{baseUrl: \"{base}\"}}}}");
    let credentials = "  credentials: {secretName: my-token}\n";
    run.text = depth_map(&source, &destination, ", artifacts: [depth]") + credentials;
    run.assert_ends(&run.run(), ExitCode::Success);
    let stored = run.server.images();
    let names: Vec<&str> = stored[2..].iter().map(|image| &*image.name).collect();
    assert_eq!(
        names,
        [
            "patch_segmentation-equivolumetric-depth-0a1b2c3d",
            "patch_segmentation-depth-validity-0a1b2c3d"
        ]
    );
    assert!(stored[2..].iter().all(|image| !image.segmentation));
    let result = run.message().result.unwrap();
    assert!(result.quality.is_none() && result.depth.is_some());
    for (artifact, name) in result.artifacts.iter().zip(names) {
        assert_eq!(artifact.name, name);
        assert_shown(&run.server, artifact.neuroglancer_url.as_deref().unwrap());
    }
    // Again, as a second pod would: nothing is stored twice.
    let uploads = run.server.uploads();
    run.assert_ends(&run.run(), ExitCode::Success);
    assert_eq!(run.server.uploads(), uploads);
    // To a claim, everything; and the same bytes.
    run.text = depth_map(&source, "{volume: {claimName: results}}", "") + credentials;
    run.assert_ends(&run.run(), ExitCode::Success);
    assert_eq!(run.server.uploads(), uploads);
    let depth = "patch_segmentation-equivolumetric-depth.nii.gz";
    let local = fs::read(run.results().join(depth)).unwrap();
    assert_eq!(sha256(&local), sha256(&stored[2].bytes));
    assert!(run.results().join("report.json").exists());
    // Without the token.
    run.server.revoke(TOKEN);
    run.assert_ends(&run.run(), ExitCode::Unauthorized);
}

#[test]
fn inputs_come_from_a_web_server_and_results_go_to_a_claim() {
    let mut run = Run::new();
    let bytes = fs::read(data("patch_segmentation.nii.gz")).unwrap();
    let url = run.server.put_file("seg.nii.gz", bytes.clone());
    let text = fs::read_to_string(root().join("examples/request.yaml")).unwrap();
    let source = "volume: {claimName: patches, path: patch_segmentation.nii.gz}";
    assert!(text.contains(source));
    let http = format!(
        "http: {{url: \"{url}?signature=canary\", sha256: {}}}",
        sha256(&bytes)
    );
    run.text = text.replace(source, &http);
    run.options.truncate(1);
    let output = run.run();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    let report = fs::read_to_string(run.results().join("example/report.json")).unwrap();
    assert!(report.contains("\"seg.nii.gz\"") && !report.contains("canary"));
    assert!(
        run.results()
            .join("example/seg-equivolumetric-depth.nii.gz")
            .exists()
    );
    // Another file than the one that was meant.
    run.server
        .put_file("seg.nii.gz", fs::read(data("patch_image.nii.gz")).unwrap());
    let output = run.run();
    assert_eq!(output.status.code(), Some(65));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("segmentation") && error.contains("SHA-256"),
        "{error}"
    );
    assert!(!error.contains("canary"), "{error}");
}

#[test]
fn what_is_missing_on_the_command_line_is_said_with_the_line_to_add() {
    let mut run = Run::new();
    let allow = run.options.remove(0);
    let output = run.run();
    run.assert_ends(&output, ExitCode::DestinationForbidden);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains(&format!("--allow-origin {}", run.server.origin())),
        "{error}"
    );
    run.options = vec![allow];
    let output = run.run();
    run.assert_ends(&output, ExitCode::InvalidRequest);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--token-file FILE"));
    // Allowed, but not as a private origin.
    let run = Run::new();
    let mut public = run.options.clone();
    public[0] = public[0].replace("private-", "");
    let run = Run {
        options: public,
        ..run
    };
    run.assert_ends(&run.run(), ExitCode::DestinationForbidden);
    assert_eq!(run.server.connections(), 0);
}

#[test]
fn every_fault_ends_with_its_code_and_without_a_secret() {
    let reply = || REPLY.to_owned();
    let mut ended = 0;
    for (call, fault, expected) in [
        (
            Call::List,
            Fault::Answer(401, Vec::new(), reply()),
            ExitCode::Unauthorized,
        ),
        (
            Call::Download,
            Fault::Answer(403, Vec::new(), reply()),
            ExitCode::Unauthorized,
        ),
        (
            Call::Download,
            Fault::Answer(404, Vec::new(), reply()),
            ExitCode::ImageNotFound,
        ),
        (
            Call::Download,
            Fault::Answer(200, Vec::new(), reply()),
            ExitCode::InvalidImage,
        ),
        (
            Call::List,
            Fault::Answer(200, Vec::new(), reply()),
            ExitCode::InvalidImage,
        ),
        (
            Call::List,
            Fault::redirect(302, "http://127.0.0.1:1/canary"),
            ExitCode::DestinationForbidden,
        ),
        (
            Call::Preflight,
            Fault::Answer(400, Vec::new(), reply()),
            ExitCode::UploadRefused,
        ),
        (
            Call::Upload,
            Fault::Answer(413, Vec::new(), reply()),
            ExitCode::UploadRefused,
        ),
        (
            Call::Upload,
            Fault::Answer(401, Vec::new(), reply()),
            ExitCode::Unauthorized,
        ),
        (
            Call::Any,
            Fault::Answer(503, vec![("Retry-After".into(), "9999".into())], reply()),
            ExitCode::ImageServiceUnavailable,
        ),
    ] {
        let run = Run::new();
        run.server.fail(call, 100, fault.clone());
        run.assert_ends(&run.run(), expected);
        assert!(
            run.message().message.contains(&run.server.origin()),
            "{fault:?}"
        );
        assert_eq!(run.server.uploads(), 0);
        ended += 1;
    }
    println!("figure fault-exit-codes {ended} of 10 bar 10 ok");
    assert_eq!(ended, 10);
}

#[test]
fn a9_an_endless_body_is_not_held_in_memory() {
    let peak = |fault: Fault| {
        let mut run = Run::new();
        run.options.push(format!("--download-limit={}", 256 << 20));
        run.server.fail(Call::Download, 1, fault);
        let mut child = run
            .command()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0;
        while child.try_wait().unwrap().is_none() {
            let text = fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            peak = peak.max(kib.unwrap_or(0_u64));
            thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(run.message().outcome, ExitCode::InvalidImage);
        peak
    };
    let (short, endless) = (peak(Fault::status(200)), peak(Fault::EndlessBody));
    let more = endless.saturating_sub(short) >> 10;
    println!("endless body: {more} MiB more memory for 256 MiB of download");
    assert!(short > 0 && more <= 16, "{short} and {endless} KiB");
}

#[test]
fn proxies_of_the_environment_are_not_used() {
    let run = Run::new();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let mut command = run.command();
    for name in [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ] {
        command.env(name, &address);
    }
    run.assert_ends(&command.output().unwrap(), ExitCode::Success);
    proxy.set_nonblocking(true).unwrap();
    assert!(proxy.accept().is_err(), "the proxy was connected to");
}

#[test]
fn a_token_that_soon_ends_is_warned_about() {
    let run = Run::new();
    // {"exp":1}
    let old = "canary.eyJleHAiOjF9.x";
    run.server.accept(old);
    run.server.revoke(TOKEN);
    fs::write(run.folder.path().join("token"), old).unwrap();
    let output = run.run();
    run.assert_ends(&output, ExitCode::ImageNotFound);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("the token says that it has expired"),
        "{error}"
    );
}

#[test]
fn a_signal_ends_a_transfer_within_two_seconds() {
    let slow = Fault::Trickle(Duration::from_millis(20));
    let late = Fault::Late(Duration::from_secs(30));
    for (call, fault) in [
        (Call::List, late.clone()),
        (Call::Download, slow),
        (Call::Download, Fault::status(503)),
        (Call::Upload, late),
    ] {
        let run = Run::new();
        run.server.fail(call, 100, fault.clone());
        let mut child = run
            .command()
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while run.server.count(call) == 0 {
            assert!(began.elapsed() < Duration::from_secs(600));
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(150));
        let asked = Instant::now();
        let kill = Command::new("kill").arg(child.id().to_string()).status();
        assert!(kill.unwrap().success());
        child.wait().unwrap();
        let took = asked.elapsed();
        let output = child.wait_with_output().unwrap();
        assert!(took < Duration::from_secs(2), "{fault:?}: {took:?}");
        run.assert_ends(&output, ExitCode::Interrupted);
    }
}
