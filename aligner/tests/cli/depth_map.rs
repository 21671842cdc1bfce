//! A request for a depth map alone: what it writes, that it is what the other ways write, and reruns.

mod refused;

use std::{fs, path::Path, process::Output};

use alignment_api::{
    ArtifactKind, DEPTH_MAP_REPORT_SCHEMA, DepthMapReport, ExitCode, Labels, Progress, Stage,
    TerminationMessage,
};

use crate::{aligner, assert_exit, call, data, files, root, run_changed, sha256};

const STEM: &str = "patch_segmentation";

fn example() -> String {
    fs::read_to_string(root().join("examples/depth-map.yaml")).unwrap()
}

/// A command with a request and the claims of a folder; without a template.
fn command(name: &str, folder: &Path, request: &str, more: &[&str]) -> Output {
    let path = folder.join("request.yaml");
    fs::write(&path, request).unwrap();
    let mut command = aligner();
    command.arg(name).arg(path);
    for (claim, folder) in [("patches", data("")), ("results", folder.join("out"))] {
        command.arg(format!("--claim={claim}={}", folder.display()));
    }
    command.args(more).output().unwrap()
}

fn run(folder: &Path, request: &str, more: &[&str]) -> Output {
    command("run", folder, request, more)
}

/// The example's request with a change.
fn changed(from: &str, to: &str) -> String {
    let text = example();
    assert!(text.contains(from), "there is no `{from}`");
    text.replace(from, to)
}

fn report(folder: &Path) -> DepthMapReport {
    let text = fs::read(folder.join("out/depth-map/report.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    files(folder).into_keys().collect()
}

#[test]
fn the_example_writes_its_files_and_tells_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let message = folder.path().join("message");
    let option = ["--termination-message", message.to_str().unwrap()];
    assert_exit(&run(folder.path(), &example(), &option), ExitCode::Success);
    let written = files(&folder.path().join("out/depth-map"));
    let report = report(folder.path());
    assert_eq!(report.schema, DEPTH_MAP_REPORT_SCHEMA);
    assert_eq!(report.request.as_deref(), Some("depth-map"));
    assert_eq!(report.labels, Labels::default());
    assert_eq!(report.inputs.len(), 1);
    assert_eq!(
        report.inputs[0].sha256,
        sha256(&fs::read(data("patch_segmentation.nii.gz")).unwrap())
    );
    let listed: Vec<(&str, ArtifactKind)> = report
        .artifacts
        .iter()
        .map(|artifact| (artifact.name.as_str(), artifact.kind))
        .collect();
    let map = |what: &str| format!("{STEM}-{what}.nii.gz");
    assert_eq!(
        listed,
        [
            (&*map("equivolumetric-depth"), ArtifactKind::Depth),
            (
                &*map("equivolumetric-depth-validity"),
                ArtifactKind::Validity
            ),
            (&*map("thickness"), ArtifactKind::Thickness),
            (&*map("equivolumetric-layers"), ArtifactKind::Layers),
            ("report.html", ArtifactKind::Page),
        ]
    );
    for artifact in &report.artifacts {
        let bytes = &written[&artifact.name];
        assert_eq!(artifact.bytes, bytes.len() as u64);
        assert_eq!(artifact.sha256, sha256(bytes));
    }
    // The report is the one file that does not list itself.
    assert_eq!(written.len(), report.artifacts.len() + 1);
    for warning in &report.warnings {
        assert!(String::from_utf8_lossy(&written["report.html"]).contains(warning));
    }

    let message: TerminationMessage = serde_json::from_slice(&fs::read(message).unwrap()).unwrap();
    let result = message.result.unwrap();
    assert_eq!(result.quality, None);
    assert_eq!(result.viewer_url, None);
    assert_eq!(result.warnings, report.warnings);
    assert_eq!(result.artifacts.len(), written.len());
    let depth = result.depth.unwrap();
    assert_eq!(depth, report.depth);
    assert!(depth.cortex_voxels > 100_000);
    assert!((0.5..1.0).contains(&depth.mean_validity));
    assert!((3.0..6.0).contains(&depth.median_thickness_mm.unwrap()));
}

/// `aligner depth`, an alignment and a depth map alone: one computation.
#[test]
fn all_ways_to_a_depth_map_write_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let threads = ["--threads", "1", "--quiet"];
    assert_exit(&run(folder.path(), &example(), &threads), ExitCode::Success);
    let alone = files(&path("out/depth-map"));

    let whole = path("whole");
    fs::create_dir(&whole).unwrap();
    let (output, results) = run_changed(&whole, |text| {
        text.replace(
            "  output:\n",
            "  output:\n    artifacts: [depth, thickness, layers]\n    layerCount: 6\n",
        )
    });
    assert_exit(&output, ExitCode::Success);
    let whole = files(&results.join("example"));

    let text = |name: &str| path(name).to_str().unwrap().to_owned();
    let segmentation = data("patch_segmentation.nii.gz");
    let output = call(&[
        "depth",
        segmentation.to_str().unwrap(),
        "--output",
        &text("equivolumetric-depth.nii.gz"),
        "--validity",
        &text("equivolumetric-depth-validity.nii.gz"),
        "--thickness",
        &text("thickness.nii.gz"),
        "--layers",
        &text("equivolumetric-layers.nii.gz"),
        "--layer-count=6",
        "--report",
        &text("page"),
        "--quiet",
        "--threads=3",
    ]);
    assert_exit(&output, ExitCode::Success);
    for what in [
        "equivolumetric-depth",
        "equivolumetric-depth-validity",
        "thickness",
        "equivolumetric-layers",
    ] {
        let name = format!("{STEM}-{what}.nii.gz");
        assert!(alone[&name] == whole[&name], "{name} of the alignment");
        let command = fs::read(path(&format!("{what}.nii.gz"))).unwrap();
        assert!(alone[&name] == command, "{name} of the command");
    }
    assert!(alone["report.html"] == fs::read(path("page")).unwrap());
}

#[test]
fn progress_rises_to_the_end_in_small_steps() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &example(), &["--progress", "json"]);
    assert_exit(&output, ExitCode::Success);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Progress> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut stages: Vec<Stage> = lines.iter().map(|line| line.stage).collect();
    stages.dedup();
    assert_eq!(stages, [Stage::Load, Stage::Depth, Stage::Write]);
    assert_eq!((lines[0].percent, lines[lines.len() - 1].percent), (0, 100));
    for pair in lines.windows(2) {
        let [before, after] = [pair[0].percent, pair[1].percent];
        assert!(before <= after && after - before <= 20, "{pair:?}");
    }
}

#[test]
fn a_rerun_removes_what_it_does_not_write_and_nothing_of_another_request() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out/depth-map");
    assert_exit(
        &run(folder.path(), &example(), &["--quiet"]),
        ExitCode::Success,
    );
    let all = names(&out);
    fs::write(out.join("notes.txt"), "mine").unwrap();
    // Of another name.
    let less = changed("[depth, thickness, layers, report]", "[thickness, report]");
    let other = less.replace("name: depth-map\n", "name: other\n");
    assert_exit(&run(folder.path(), &other, &["--quiet"]), ExitCode::Success);
    assert_eq!(names(&out).len(), all.len() + 1);
    // Of another kind: two objects of a cluster may have this name.
    let alignment = fs::read_to_string(root().join("examples/request.yaml")).unwrap();
    let alignment = alignment
        .replace("name: example\n", "name: depth-map\n")
        .replace("path: example}", "path: depth-map}")
        .replace("    grids:", "    artifacts: [warp]\n    grids:");
    let template = format!("example={}", data("template_depth.nii.gz").display());
    assert_exit(
        &run(folder.path(), &example(), &["--quiet"]),
        ExitCode::Success,
    );
    let output = run(
        folder.path(),
        &alignment,
        &["--quiet", "--template", &template],
    );
    assert_exit(&output, ExitCode::Success);
    assert_eq!(names(&out).len(), all.len() + 3);
    // The same request.
    assert_exit(&run(folder.path(), &less, &["--quiet"]), ExitCode::Success);
    assert_eq!(
        names(&out),
        [
            "affine.txt",
            "notes.txt",
            "patch_segmentation-thickness.nii.gz",
            "report.html",
            "report.json",
            "warp.nii.gz"
        ]
    );
}
