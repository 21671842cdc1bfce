//! The program as a user runs it: every command, on the bundled real data, with right and wrong
//! input.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken expectation fails the test"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use aligner::io::nifti::{self, Datatype};
use alignment_api::{ExitCode, Progress, Report, TerminationMessage};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn data(name: &str) -> PathBuf {
    root().join("examples/data").join(name)
}

fn aligner() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aligner"));
    command.current_dir(root());
    command
}

fn call(args: &[&str]) -> Output {
    aligner().args(args).output().unwrap()
}

fn error_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn assert_exit(output: &Output, expected: ExitCode) {
    assert_eq!(
        output.status.code(),
        Some(i32::from(expected.code())),
        "{}",
        error_text(output)
    );
}

/// Runs a request of examples/ into a folder.
fn run(request: &Path, results: &Path, more: &[&str]) -> Output {
    let mut command = aligner();
    command.arg("run").arg(request);
    command
        .arg("--claim")
        .arg(format!("patches={}", data("").display()));
    command
        .arg("--claim")
        .arg(format!("results={}", results.display()));
    command.arg("--template").arg(format!(
        "example={}",
        data("template_depth.nii.gz").display()
    ));
    command.args(more).output().unwrap()
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                fs::read(&path).unwrap(),
            )
        })
        .collect()
}

fn column(path: &Path, names: [&str; 3]) -> Vec<[f64; 3]> {
    aligner::io::table::Table::read(path)
        .unwrap()
        .points(names)
        .unwrap()
}

fn mean_distance(a: &[[f64; 3]], b: &[[f64; 3]]) -> f64 {
    let distance = |(a, b): (&[f64; 3], &[f64; 3])| {
        (0..3)
            .map(|axis| (a[axis] - b[axis]).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    a.iter().zip(b).map(distance).sum::<f64>() / a.len() as f64
}

#[test]
fn the_example_improves_on_its_placement_also_where_nobody_told_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(
        &root().join("examples/request.yaml"),
        folder.path(),
        &["--progress", "none"],
    );
    assert_exit(&output, ExitCode::Success);
    let results = folder.path().join("example");
    let report: Report =
        serde_json::from_slice(&fs::read(results.join("report.json")).unwrap()).unwrap();
    let quality = &report.quality;
    assert!(
        quality.depth_residual_after < 0.3 * quality.depth_residual_before,
        "{quality:?}"
    );
    assert_eq!((quality.folded_cells, quality.inverse_folded_cells), (0, 0));
    assert!(quality.overlap > 0.99);
    // Half a hundredth of a voxel.
    assert!(quality.inverse_consistency_max_mm < 0.005, "{quality:?}");

    // Twelve true pairs that the request does not hold: the error is that of the whole transform,
    // tangential to the cortex as well, which depth alone cannot see.
    let held_out = data("held_out_landmarks.csv");
    let mapped = folder.path().join("mapped.csv");
    let transforms = [results.join("warp.nii.gz"), results.join("affine.txt")];
    let apply = |name: &Path, transforms: &[&Path]| {
        let mut command = aligner();
        command
            .arg("apply")
            .arg("--points")
            .arg(&held_out)
            .arg("-o")
            .arg(name);
        for transform in transforms {
            command.arg("-t").arg(transform);
        }
        assert!(command.status().unwrap().success());
        column(name, ["x", "y", "z"])
    };
    let truth = column(&held_out, ["template_x", "template_y", "template_z"]);
    let before = mean_distance(&apply(&mapped, &[&transforms[1]]), &truth);
    let after = mean_distance(&apply(&mapped, &[&transforms[0], &transforms[1]]), &truth);
    assert!(after < 0.5 * before, "{before} -> {after} mm");
}

#[test]
fn every_file_is_the_same_for_any_number_of_threads_and_listed_with_its_digest() {
    let (one, three) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let request = root().join("examples/request.yaml");
    assert_exit(
        &run(&request, one.path(), &["--threads", "1", "--quiet"]),
        ExitCode::Success,
    );
    assert_exit(
        &run(&request, three.path(), &["--threads", "3", "--quiet"]),
        ExitCode::Success,
    );
    let (one, three) = (
        files(&one.path().join("example")),
        files(&three.path().join("example")),
    );
    assert_eq!(
        one.keys().collect::<Vec<_>>(),
        three.keys().collect::<Vec<_>>()
    );
    for (name, bytes) in &one {
        assert!(three[name] == *bytes, "{name} differs");
    }
    let report: Report = serde_json::from_slice(&one["report.json"]).unwrap();
    let mut listed: Vec<&str> = report
        .artifacts
        .iter()
        .map(|artifact| artifact.name.as_str())
        .collect();
    listed.push("report.json");
    listed.sort_unstable();
    assert_eq!(listed, one.keys().collect::<Vec<_>>());
    for artifact in &report.artifacts {
        assert_eq!(artifact.bytes, one[&artifact.name].len() as u64);
        assert_eq!(artifact.sha256, sha256(&one[&artifact.name]));
    }
    assert!(
        !String::from_utf8_lossy(&one["report.json"]).contains("/examples/"),
        "the report holds a path"
    );
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    aligner::io::atomic::hex(&sha2::Sha256::digest(bytes))
}

#[test]
fn a_resampled_image_keeps_type_scaling_and_grid() {
    let folder = tempfile::tempdir().unwrap();
    run(
        &root().join("examples/request.yaml"),
        folder.path(),
        &["--quiet"],
    );
    let before = nifti::read_stored(&data("patch_image.nii.gz")).unwrap();
    let after =
        nifti::read_stored(&folder.path().join("example/patch-transformed.nii.gz")).unwrap();
    assert_eq!(after.header.datatype, Datatype::U16);
    assert_eq!(
        (after.header.slope, after.header.inter),
        (before.header.slope, before.header.inter)
    );
    assert_eq!(after.header.description(), "synthetic autoradiograph");
    assert!(after.header.grid.difference_vox(&before.header.grid) < 1e-3);
    let template = nifti::read_header(&data("template_depth.nii.gz"))
        .unwrap()
        .grid;
    let on_template = nifti::read_header(&folder.path().join("example/patch-in-example.nii.gz"))
        .unwrap()
        .grid;
    let offset = template
        .voxel_to_world
        .inverse()
        .unwrap()
        .apply(on_template.voxel_to_world.apply([0.0; 3]));
    for axis in 0..3 {
        assert!(
            (offset[axis] - offset[axis].round()).abs() < 1e-3,
            "not on the template's voxels: {offset:?}"
        );
        assert!((on_template.spacing()[axis] - template.spacing()[axis]).abs() < 1e-6);
    }
}

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
fn progress_lines_are_the_contract_and_never_go_back() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(
        &root().join("examples/request.yaml"),
        folder.path(),
        &["--progress", "json"],
    );
    let lines: Vec<Progress> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.len() > 20, "{} lines", lines.len());
    assert!(
        lines
            .windows(2)
            .all(|pair| pair[0].percent <= pair[1].percent && pair[0].stage <= pair[1].stage)
    );
    assert!(
        lines
            .iter()
            .any(|line| line.level == Some(2) && line.iteration.is_some() && line.metric.is_some())
    );
    assert!(
        lines
            .iter()
            .all(|line| line.schema == alignment_api::PROGRESS_SCHEMA)
    );
}

#[test]
fn depth_then_register_agrees_with_the_whole_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    run(
        &root().join("examples/request.yaml"),
        folder.path(),
        &["--quiet"],
    );
    let depth = text(path("depth.nii.gz"));
    let output = call(&[
        "depth",
        &text(data("patch_segmentation.nii.gz")),
        "-o",
        &depth,
        "--validity",
        &text(path("validity.nii.gz")),
        "--quiet",
    ]);
    assert_exit(&output, ExitCode::Success);
    let whole = path("example/patch_segmentation-equivolumetric-depth.nii.gz");
    assert_eq!(fs::read(&depth).unwrap(), fs::read(whole).unwrap());

    let report: Report =
        serde_json::from_slice(&fs::read(path("example/report.json")).unwrap()).unwrap();
    fs::write(
        path("placement.json"),
        serde_json::to_vec(&report.placement.matrix).unwrap(),
    )
    .unwrap();
    let output = call(&[
        "register",
        "--fixed",
        &depth,
        "--moving",
        &text(data("template_depth.nii.gz")),
        "--placement",
        &text(path("placement.json")),
        "-o",
        &text(path("reg")),
        "--quiet",
    ]);
    assert_exit(&output, ExitCode::Success);
    let register: Report =
        serde_json::from_slice(&fs::read(path("reg/report.json")).unwrap()).unwrap();
    assert_eq!(register.patch_to_template, report.patch_to_template);
    assert!(register.quality.depth_residual_after < 0.5 * register.quality.depth_residual_before);
    assert_eq!(
        files(&path("reg")).keys().collect::<Vec<_>>(),
        [
            "affine.txt",
            "inverse_warp.nii.gz",
            "report.json",
            "warp.nii.gz"
        ]
    );
}

#[test]
fn the_three_spaces_place_the_same_voxel_half_a_voxel_apart() {
    let folder = tempfile::tempdir().unwrap();
    let request = fs::read_to_string(root().join("examples/request.yaml")).unwrap();
    let affine = |space: &str| {
        let path = folder.path().join(format!("{space}.yaml"));
        let short = request
            .replace("space: viewer", &format!("space: {space}"))
            .replace("path: example", &format!("path: {space}"));
        fs::write(
            &path,
            short.replace("  output:", "  registration: {preset: fast}\n  output:"),
        )
        .unwrap();
        let output = run(&path, folder.path(), &["--quiet"]);
        assert_exit(&output, ExitCode::Success);
        aligner::io::itk::read_affine(&folder.path().join(space).join("affine.txt")).unwrap()
    };
    let (viewer, scaled) = (affine("viewer"), affine("scaledVoxel"));
    let grid = nifti::read_header(&data("patch_segmentation.nii.gz"))
        .unwrap()
        .grid;
    let point = grid.voxel_to_world.apply([10.0, 20.0, 30.0]);
    let (a, b) = (viewer.apply(point), scaled.apply(point));
    // The two differ by the image of half a voxel (0.32 × 0.36 × 0.40 mm) under the matrix.
    let distance = mean_distance(&[a], &[b]);
    assert!((distance - 0.312).abs() < 0.02, "{distance}");
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
    let asked = Instant::now();
    assert!(
        Command::new("kill")
            .arg(child.id().to_string())
            .status()
            .unwrap()
            .success()
    );
    let status = child.wait().unwrap();
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(status.code(), Some(i32::from(ExitCode::Interrupted.code())));
    assert!(!folder.path().join("example").exists());
}

#[test]
fn inspect_shows_good_files_and_names_bad_ones() {
    let output = call(&[
        "inspect",
        "examples/data/patch_image.nii.gz",
        "examples/data/patch_image_cut.nii.gz",
    ]);
    assert_exit(&output, ExitCode::InvalidImage);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("uint16") && text.contains("[76, 72, 68]") && text.contains("× 0.001"),
        "{text}"
    );
    assert!(text.contains("patch_image_cut.nii.gz"));
}

#[test]
fn a_label_image_never_gets_a_value_it_did_not_have() {
    let folder = tempfile::tempdir().unwrap();
    run(
        &root().join("examples/request.yaml"),
        folder.path(),
        &["--quiet"],
    );
    let out = folder.path().join("labels.nii.gz");
    let output = call(&[
        "apply",
        "-i",
        "examples/data/patch_segmentation.nii.gz",
        "-o",
        out.to_str().unwrap(),
        "-t",
        &format!("[{},1]", folder.path().join("example/affine.txt").display()),
        "-t",
        folder
            .path()
            .join("example/inverse_warp.nii.gz")
            .to_str()
            .unwrap(),
        "--reference",
        "examples/data/template_depth.nii.gz",
        "--interpolation",
        "label",
    ]);
    assert_exit(&output, ExitCode::Success);
    let labels = nifti::read_labels(&out).unwrap();
    let mut values = labels.volume.values().to_vec();
    values.sort_unstable();
    values.dedup();
    assert_eq!(values, [0, 100, 200]);
}

/// The example's request with a change, run into a folder.
fn run_changed(folder: &Path, change: impl Fn(&str) -> String) -> (Output, PathBuf) {
    let request = folder.join("changed.yaml");
    let text = fs::read_to_string(root().join("examples/request.yaml")).unwrap();
    let changed = change(&text);
    assert!(changed != text, "nothing was changed");
    fs::write(&request, changed).unwrap();
    let results = folder.join("results");
    (run(&request, &results, &["--quiet"]), results)
}

fn report(folder: &Path) -> Report {
    serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap()
}

#[test]
fn a_pair_outside_the_patch_is_named_left_out_and_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (output, results) = run_changed(folder.path(), |text| {
        text.replace(
            "  landmarks:\n",
            "  landmarks:\n  - {name: off, active: false, template: [0, 0, 0], patch: [1, 1, 1]}\n  - {name: stray, template: [0, 0, 0], patch: [500, 1, 1]}\n",
        )
    });
    assert_exit(&output, ExitCode::Success);
    let report = report(&results.join("example"));
    assert!(
        report
            .warnings
            .iter()
            .any(|text| text.contains("`stray` was ignored")),
        "{:?}",
        report.warnings
    );
    let used: Vec<&str> = report
        .landmarks
        .iter()
        .filter(|pair| pair.active)
        .map(|pair| pair.name.as_str())
        .collect();
    assert_eq!(
        used,
        ["pair-1", "pair-2", "pair-3", "pair-4", "pair-5", "pair-6"]
    );
    assert!(report.quality.landmark_mean_before_mm.unwrap() < 2.0);
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

/// An exported matrix maps physical space, the landmarks beside it are those of the viewer.
#[test]
fn voluba_s_exported_matrix_and_landmarks_go_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    run(
        &root().join("examples/request.yaml"),
        folder.path(),
        &["--quiet"],
    );
    let whole = report(&path("example"));
    let mut in_nm = whole.patch_to_template;
    for row in in_nm.iter_mut().take(3) {
        row[3] *= 1e6;
    }
    let matrix = serde_json::json!({"version": 1.01, "transformMatrixInNm": in_nm});
    fs::write(path("transformMatrix.json"), matrix.to_string()).unwrap();
    let request: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(&fs::read_to_string(root().join("examples/request.yaml")).unwrap())
            .unwrap();
    let landmarks = serde_json::to_value(&request["spec"]["landmarks"]).unwrap();
    let points = |side: &str| -> Vec<serde_json::Value> {
        landmarks
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
            .map(|(id, pair)| serde_json::json!({"id": id.to_string(), "coord": pair[side]}))
            .collect()
    };
    let pairs: Vec<_> = (0..6)
        .map(|id| serde_json::json!({"refId": id.to_string(), "incId": id.to_string()}))
        .collect();
    let file = serde_json::json!({
        "reference_landmarks": points("template"), "incoming_landmarks": points("patch"), "landmark_pairs": pairs,
    });
    fs::write(path("landmark-pairs.json"), file.to_string()).unwrap();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let output = call(&[
        "register",
        "--quiet",
        "--preset",
        "fast",
        "--fixed",
        &text(path(
            "example/patch_segmentation-equivolumetric-depth.nii.gz",
        )),
        "--moving",
        &text(data("template_depth.nii.gz")),
        "--placement",
        &text(path("transformMatrix.json")),
        "--landmarks",
        &text(path("landmark-pairs.json")),
        "-o",
        &text(path("reg")),
    ]);
    assert_exit(&output, ExitCode::Success);
    let before = report(&path("reg"))
        .quality
        .landmark_mean_before_mm
        .unwrap();
    assert!(
        (before - whole.quality.landmark_mean_before_mm.unwrap()).abs() < 1e-6,
        "{before}"
    );
}
