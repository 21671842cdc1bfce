//! What is refused, and what it would take.

use std::{fs, path::PathBuf, process::Output};

use aligner::{
    depth_map::{self, Files},
    maps::MapFiles,
};
use alignment_api::{ExitCode, Labels};

use super::{STEM, changed, command, example, names, run};
use crate::{assert_exit, call, data, error_text, root};

/// A folder with the segmentation under another name, which results would replace.
fn as_own_result(name: &str) -> (tempfile::TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("out").join(name);
    fs::create_dir(folder.path().join("out")).unwrap();
    fs::copy(data("patch_segmentation.nii.gz"), &input).unwrap();
    let request = changed(
        "{claimName: patches, path: patch_segmentation.nii.gz}",
        &format!("{{claimName: results, path: {name}}}"),
    );
    (folder, input, request.replace(", path: depth-map}", "}"))
}

#[test]
fn the_segmentation_survives() {
    for name in ["report.json", "report.html"] {
        let (folder, input, request) = as_own_result(name);
        let before = fs::read(&input).unwrap();
        let output = run(folder.path(), &request, &["--quiet"]);
        assert_exit(&output, ExitCode::InvalidRequest);
        assert!(error_text(&output).contains(name), "{output:?}");
        assert!(fs::read(&input).unwrap() == before, "{name} was replaced");
        assert_eq!(names(&folder.path().join("out")), [name]);
        // What is not written replaces nothing.
        let request = request.replace("layers, report]", "layers]");
        assert_exit(
            &run(folder.path(), &request, &["--quiet"]),
            ExitCode::Success,
        );
        assert!(fs::read(&input).unwrap() == before, "{name} was replaced");
    }
}

#[test]
fn what_cannot_be_done_ends_with_its_code_and_leaves_nothing() {
    for (request, expected, named) in [
        (
            changed(STEM, "patch_grey_only"),
            ExitCode::InvalidImage,
            "no white matter",
        ),
        (
            changed(STEM, "no_such_file"),
            ExitCode::ImageNotFound,
            "no_such_file.nii.gz",
        ),
        (
            changed("csf: [0]", "csf: [1]"),
            ExitCode::InvalidImage,
            "segmentation",
        ),
        (
            changed("claimName: patches", "claimName: elsewhere"),
            ExitCode::InvalidRequest,
            "--claim elsewhere=DIR",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = run(folder.path(), &request, &["--quiet"]);
        assert_exit(&output, expected);
        assert!(error_text(&output).contains(named), "{output:?}");
        assert!(!folder.path().join("out").exists(), "{named} left files");
    }
    // A file where the folder should be.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("out"), "").unwrap();
    let output = run(folder.path(), &example(), &["--progress", "json"]);
    assert_exit(&output, ExitCode::IoError);
    let progress = String::from_utf8(output.stdout).unwrap();
    assert!(!progress.contains("\"depth\""), "found out too late");
}

#[test]
fn mistakes_are_refused_with_their_field() {
    for (request, named) in [
        (
            changed("kind: DepthMapRequest", "kind: DepthMapReqest"),
            "kind: is `DepthMapReqest`, expected `AlignmentRequest` or `DepthMapRequest`",
        ),
        (
            changed("kind: DepthMapRequest\n", ""),
            "kind: is missing, expected `AlignmentRequest` or `DepthMapRequest`",
        ),
        (
            changed("kind: DepthMapRequest", "kind: [1]"),
            "kind: is [1], expected",
        ),
        (
            changed("kind: DepthMapRequest", "kind: AlignmentRequest"),
            "spec.segmentation: unknown field `segmentation`",
        ),
        (
            changed("  output:\n", "  placement: {}\n  output:\n"),
            "spec.placement: unknown field `placement`",
        ),
        (
            changed("[depth, thickness", "[images, thickness"),
            "spec.output.artifacts[0]: unknown variant `images`",
        ),
        (
            changed("[depth, thickness", "[thickness, thickness"),
            "spec.output.artifacts",
        ),
        (changed("layerCount: 6", "layerCount: 0"), "spec.output"),
        (
            changed("grey: [100]", "grey: [200]"),
            "spec.segmentation.labels",
        ),
        (
            changed("path: patch_segmentation", "path: ../patch_segmentation"),
            "spec.segmentation.source",
        ),
    ] {
        for name in ["run", "validate"] {
            let folder = tempfile::tempdir().unwrap();
            let output = command(name, folder.path(), &request, &["--quiet"]);
            assert_exit(&output, ExitCode::InvalidRequest);
            let text = error_text(&output);
            assert!(text.contains(named), "{name}: {text}, expected {named}");
            assert!(!folder.path().join("out").exists());
        }
    }
}

/// Bytes that `validate` tells, if it does.
fn told(output: &Output) -> Option<u64> {
    assert_exit(output, ExitCode::Success);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(": valid"), "{text}");
    let bytes = text.split_once('(')?.1.split_once(" bytes)")?.0;
    Some(bytes.parse().unwrap())
}

#[test]
fn validation_tells_the_memory_once_it_knows_the_folders() {
    let folder = tempfile::tempdir().unwrap();
    let validate = |text: &str| told(&command("validate", folder.path(), text, &[]));
    let all = validate(&example()).unwrap();
    // Five bytes for each voxel while it is read, and far less than for an alignment.
    let voxels = 76 * 72 * 68;
    assert!((5 * voxels..100 * voxels).contains(&all), "{all}");
    let alone = root().join("examples/depth-map.yaml");
    let alone = call(&["validate", alone.to_str().unwrap()]);
    assert_eq!(told(&alone), None);
    // What lies at a server is not looked at.
    let remote = changed(
        "volume: {claimName: patches, path: patch_segmentation.nii.gz}",
        &format!(
            "http: {{url: \"https://data.example.org/s.nii\", sha256: {}}}",
            "0".repeat(64)
        ),
    );
    assert_eq!(validate(&remote), None);
}

#[test]
fn too_little_memory_is_refused_with_what_another_attempt_needs() {
    let (segmentation, labels) = (data("patch_segmentation.nii.gz"), Labels::default());
    let files = Files {
        maps: MapFiles {
            depth: Some("d.nii.gz".into()),
            ..MapFiles::default()
        },
        page: None,
    };
    let needed = |limit| {
        let error = depth_map::load(&segmentation, &labels, &files, Some(limit));
        let error = error.err()?;
        assert_eq!(error.exit_code(), ExitCode::InsufficientMemory);
        error.required_memory_bytes()
    };
    // Before anything is read, and once the grey matter has been counted: one figure, which is enough.
    let first = needed(1).unwrap();
    let later = needed(first - (3 << 20)).unwrap();
    assert!(first.abs_diff(later) < 4 << 20, "{first} and {later}");
    assert_eq!(needed(first.max(later) + (16 << 20)), None);
}
