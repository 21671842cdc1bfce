//! Wrong input, and interruptions.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use alignment_api::{ExitCode, TerminationMessage};
use sha2::Digest;

use crate::{aligner, assert_exit, call, data, error_text, root, run, run_changed};

/// The comment lines of examples/wrong say how each request must end.
#[test]
fn wrong_requests_end_with_their_code_and_say_why() {
    let mut count = 0;
    for entry in fs::read_dir(root().join("examples/wrong")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        if text.contains("phase=Succeeded") {
            continue; // wrong in a cluster only
        }
        let reason = text
            .split_once("reason=")
            .unwrap()
            .1
            .split_whitespace()
            .next()
            .unwrap();
        let expected = ExitCode::ALL
            .into_iter()
            .find(|exit| exit.reason() == reason)
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let message = folder.path().join("message");
        let output = run(
            &path,
            &folder.path().join("out"),
            &["--termination-message", message.to_str().unwrap()],
        );
        assert_exit(&output, expected);
        let message: TerminationMessage =
            serde_json::from_slice(&fs::read(&message).unwrap()).unwrap();
        assert_eq!(message.outcome, expected);
        let named = match reason {
            "ImageNotFound" => "no_such_image.nii.gz",
            "InvalidImage" if path.to_string_lossy().contains("cut") => "patch_image_cut.nii.gz",
            "InvalidImage" => "no white matter",
            "AlignmentFailed" => "outside the template",
            "InvalidRequest" if path.to_string_lossy().contains("template") => "no-such-template",
            "InvalidRequest" => "spec.placement.matrix",
            other => panic!("unexpected reason {other}"),
        };
        assert!(message.message.contains(named), "{}", message.message);
        assert!(!folder.path().join("out").exists(), "{path:?} left files");
        count += 1;
    }
    assert!(count >= 6, "only {count} wrong requests were found");
}

/// The installation says which template it is; the file says whether it still is.
#[test]
fn a_template_with_another_digest_is_refused_with_both() {
    let template = fs::read(data("template_depth.nii.gz")).unwrap();
    let found = aligner::io::atomic::hex(&sha2::Sha256::digest(template));
    let request = root().join("examples/request.yaml");
    let outside = root().join("examples/wrong/far-away.yaml");
    let folder = tempfile::tempdir().unwrap();
    let told = |request: &std::path::Path, digest: &str| {
        let option = format!("example={digest}");
        let out = folder.path().join("out");
        run(request, &out, &["--template-sha256", &option])
    };
    let other = "0".repeat(64);
    // Also where the placement would fail first: it may be right, and the template wrong.
    for request in [&request, &outside] {
        let output = told(request, &other);
        assert_exit(&output, ExitCode::TemplateUnavailable);
        let text = error_text(&output);
        assert!(text.contains(&found) && text.contains(&other), "{text}");
        assert!(!folder.path().join("out").exists());
    }
    assert_exit(&told(&outside, &found), ExitCode::AlignmentFailed);
    assert_exit(&told(&request, &found), ExitCode::Success);
    assert_exit(&told(&request, "abc"), ExitCode::InvalidRequest);
}

#[test]
fn validation_lists_every_violation_and_typos_with_their_path() {
    let folder = tempfile::tempdir().unwrap();
    let request = folder.path().join("r.yaml");
    let good = fs::read_to_string(root().join("examples/request.yaml")).unwrap();
    let validate = |text: &str| {
        fs::write(&request, text).unwrap();
        call(&["validate", request.to_str().unwrap()])
    };
    assert_exit(&validate(&good), ExitCode::Success);
    let bad = good
        .replace("template: example", "template: UPPER")
        .replace("activeDeadlineSeconds: 1800", "activeDeadlineSeconds: 0");
    let output = validate(&bad);
    assert_exit(&output, ExitCode::InvalidRequest);
    assert!(
        error_text(&output).contains("spec.template"),
        "{}",
        error_text(&output)
    );
    assert!(error_text(&output).contains("spec.activeDeadlineSeconds"));
    let output = validate(
        &good
            .replace("interpolation", "x")
            .replace("grids:", "gridz:"),
    );
    assert_exit(&output, ExitCode::InvalidRequest);
    assert!(
        error_text(&output).contains("spec.output") && error_text(&output).contains("gridz"),
        "{}",
        error_text(&output)
    );
    assert_exit(&validate("a: [1"), ExitCode::InvalidRequest);
    assert_exit(&call(&["no-such-command"]), ExitCode::InvalidRequest);
}

#[test]
fn a_termination_signal_ends_the_run_within_two_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let request = folder.path().join("long.yaml");
    let text = fs::read_to_string(root().join("examples/request.yaml")).unwrap();
    let levels = "  registration: {levels: [{shrinkFactor: 1, iterations: 1000, robustScale: 1.0}], stepTolerance: 0.00001}\n  output:";
    fs::write(&request, text.replace("  output:", levels)).unwrap();
    let mut command = aligner();
    command
        .arg("run")
        .arg(&request)
        .args(["--progress", "json"]);
    command
        .arg("--claim")
        .arg(format!("patches={}", data("").display()));
    command
        .arg("--claim")
        .arg(format!("results={}", folder.path().display()));
    command.arg("--template").arg(format!(
        "example={}",
        data("template_depth.nii.gz").display()
    ));
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let registering =
        |line: &str| line.contains("\"register\"") && line.contains("\"iteration\":2");
    assert!(
        lines.any(|line| registering(&line.unwrap())),
        "ended before the second iteration"
    );
    assert_stops(child);
    assert!(!folder.path().join("example").exists());
}

#[test]
fn a_placement_into_flat_depth_is_the_placements_fault() {
    let folder = tempfile::tempdir().unwrap();
    // Far enough that the patch lies beside the cortex of the template, but within its box.
    let (output, _) = run_changed(folder.path(), |text| {
        text.replace("-3.052420]", "31.0]")
            .replace("-81.634282]", "-117.0]")
            .replace("16.331325]", "-18.0]")
    });
    assert_exit(&output, ExitCode::AlignmentFailed);
    assert!(
        error_text(&output).contains("placement"),
        "{}",
        error_text(&output)
    );
}

#[test]
fn a_run_never_replaces_its_own_input() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["patch_segmentation.nii.gz", "template_depth.nii.gz"] {
        fs::copy(data(name), folder.path().join(name)).unwrap();
    }
    let input = folder.path().join("patch-transformed.nii.gz");
    fs::copy(data("patch_image.nii.gz"), &input).unwrap();
    let before = fs::read(&input).unwrap();
    let text = fs::read_to_string(root().join("examples/request.yaml")).unwrap();
    let request = folder.path().join("r.yaml");
    fs::write(
        &request,
        text.replace("patch_image.nii.gz", "patch-transformed.nii.gz")
            .replace(", path: example}", "}"),
    )
    .unwrap();
    let claim = |name: &str| format!("{name}={}", folder.path().display());
    let output = aligner()
        .arg("run")
        .arg(&request)
        .args([
            "--claim",
            &claim("patches"),
            "--claim",
            &claim("results"),
            "--quiet",
        ])
        .args([
            "--template",
            &format!("example={}", data("template_depth.nii.gz").display()),
        ])
        .output()
        .unwrap();
    assert_exit(&output, ExitCode::InvalidRequest);
    assert!(
        error_text(&output).contains("patch-transformed.nii.gz"),
        "{}",
        error_text(&output)
    );
    assert!(
        fs::read(&input).unwrap() == before,
        "the input was replaced"
    );
}

#[test]
fn a_key_that_stands_twice_and_absurd_nesting_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (output, _) = run_changed(folder.path(), |text| {
        text.replace("  landmarks:\n", "  landmarks: []\n  landmarks:\n")
    });
    assert_exit(&output, ExitCode::InvalidRequest);
    assert!(
        error_text(&output).contains("landmarks"),
        "{}",
        error_text(&output)
    );
    let (output, _) = run_changed(folder.path(), |_| "{\"a\":".repeat(100_000));
    assert_exit(&output, ExitCode::InvalidRequest);
    assert!(
        error_text(&output).contains("nested"),
        "{}",
        error_text(&output)
    );
}

#[test]
fn a_resampling_that_is_told_to_stop_stops_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.nii");
    // A grid of 343 million voxels: far more work than a signal takes to arrive. Of a reference only
    // the header is read.
    let reference = folder.path().join("large.nii");
    let mut header = fs::read(folder_with_plain_header(folder.path())).unwrap();
    header.truncate(352);
    for axis in 0..3 {
        header[42 + 2 * axis..44 + 2 * axis].copy_from_slice(&700_i16.to_le_bytes());
    }
    fs::write(&reference, &header).unwrap();
    let mut child = aligner()
        .args(["apply", "--interpolation", "nearest", "-i"])
        .arg(data("patch_segmentation.nii.gz"))
        .arg("-o")
        .arg(&output)
        .arg("--reference")
        .arg(&reference)
        .arg("-t")
        .arg(folder.path().join("identity.txt"))
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(
        child.try_wait().unwrap().is_none(),
        "ended before it was told to"
    );
    assert_stops(child);
    assert!(!output.exists());
}

#[test]
fn hard_landmarks_that_cannot_be_met_fail_by_name() {
    let folder = tempfile::tempdir().unwrap();
    // The patch position of pair-1 once more, 3 mm away in the template.
    let (output, results) = run_changed(folder.path(), |text| {
        text.replace(
            "  landmarks:\n",
            "  registration: {landmarkMode: hard}\n  landmarks:\n  - {name: torn, template: [9.889861, -59.880016, 16.925593], patch: [13.28, 18.54, 6.2]}\n",
        )
    });
    assert_exit(&output, ExitCode::AlignmentFailed);
    let text = error_text(&output);
    for expected in ["2 of the hard landmark pairs", "`torn`", "`pair-1`", "soft"] {
        assert!(text.contains(expected), "{text}");
    }
    assert!(!text.contains("pair-2"), "{text}");
    assert!(!results.join("example/report.json").exists());
}

/// Asks a process to end and checks that it does so within two seconds, with the code for it.
fn assert_stops(mut child: Child) {
    let asked = Instant::now();
    let kill = Command::new("kill").arg(child.id().to_string()).status();
    assert!(kill.unwrap().success());
    let status = child.wait().unwrap();
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(status.code(), Some(i32::from(ExitCode::Interrupted.code())));
}

/// An uncompressed copy of the example's segmentation, and an identity transform beside it.
fn folder_with_plain_header(folder: &std::path::Path) -> std::path::PathBuf {
    let identity = folder.join("identity.txt");
    aligner::io::itk::write_affine(&identity, &aligner::affine::Affine::IDENTITY).unwrap();
    let plain = folder.join("plain.nii");
    let output = crate::aligner()
        .arg("apply")
        .arg("-i")
        .arg(data("patch_segmentation.nii.gz"))
        .arg("-o")
        .arg(&plain)
        .arg("-t")
        .arg(&identity)
        .output()
        .unwrap();
    assert_exit(&output, ExitCode::Success);
    plain
}
