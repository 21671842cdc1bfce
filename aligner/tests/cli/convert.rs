//! Placements and landmarks in other formats, and what is said about doubtful ones.

use std::{fmt::Write, fs};

use aligner::io::voluba;
use alignment_api::{ExitCode, Space};

use crate::{assert_exit, call, data, error_text, report, root, run_changed};

/// The example's placement and landmarks as files in a folder.
fn files(folder: &std::path::Path) -> [String; 2] {
    let text = fs::read_to_string(root().join("examples/request.yaml")).unwrap();
    let spec = aligner::job::parse_request(&text).unwrap().spec;
    let spec = spec.alignment().unwrap();
    let [matrix, pairs] = ["matrix.txt", "pairs.csv"].map(|name| folder.join(name));
    voluba::write_placement(&matrix, &spec.placement.matrix, Space::Viewer).unwrap();
    voluba::write_landmarks(&pairs, &spec.landmarks, Space::Viewer).unwrap();
    [matrix, pairs].map(|path| path.to_str().unwrap().to_owned())
}

#[test]
fn a_registration_is_the_same_from_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let text = |name: &str| data(name).to_str().unwrap().to_owned();
    let [matrix, pairs] = files(folder.path());
    let (patch, depth) = (text("patch_segmentation.nii.gz"), path("depth.nii.gz"));
    assert_exit(
        &call(&["depth", &patch, "-o", &depth, "-q"]),
        ExitCode::Success,
    );
    for (option, input, output) in [
        ("--placement", &matrix, "transformMatrix.json"),
        ("--placement", &matrix, "affine.tfm"),
        ("--landmarks", &pairs, "landmark-pairs.json"),
        ("--landmarks", &pairs, "physical.csv"),
    ] {
        let output = path(output);
        let mut args = vec!["convert", option, input, "--patch", &patch, "-o", &output];
        if output.ends_with("csv") {
            args.extend(["--to-space", "physical"]);
        }
        assert_exit(&call(&args), ExitCode::Success);
    }
    let register = |name: &str, more: &[&str]| {
        let template = text("template_depth.nii.gz");
        let output = path(name);
        let mut args = vec!["register", "--fixed", &depth, "--moving", &template, "-q"];
        args.extend(["--preset", "fast", "-o", &output]);
        args.extend(more);
        assert_exit(&call(&args), ExitCode::Success);
        report(&folder.path().join(name))
    };
    let plain = register("a", &["--placement", &matrix, "--landmarks", &pairs]);
    let [json, list] = ["transformMatrix.json", "landmark-pairs.json"].map(path);
    let voluba = register("b", &["--placement", &json, "--landmarks", &list]);
    let (csv, space) = (path("physical.csv"), ["--landmark-space", "physical"]);
    let mixed = [
        "--placement",
        &matrix,
        "--landmarks",
        &csv,
        space[0],
        space[1],
    ];
    let physical = register("c", &mixed);
    assert!(plain.quality.landmark_mean_before_mm.is_some());
    for other in [&voluba, &physical] {
        let after = |report: &alignment_api::Report| report.quality.landmark_mean_after_mm.unwrap();
        assert!((after(&plain) - after(other)).abs() < 1e-6);
        let residual = |report: &alignment_api::Report| report.quality.depth_residual_after;
        assert!((residual(&plain) - residual(other)).abs() < 1e-6);
    }
    // The ITK file is the affine that the run writes.
    let [ours, theirs] = [path("affine.tfm"), path("a/affine.txt")]
        .map(|path| aligner::io::itk::read_affine(path.as_ref()).unwrap());
    for (a, b) in ours
        .rows()
        .iter()
        .flatten()
        .zip(theirs.rows().iter().flatten())
    {
        assert!((a - b).abs() < 1e-9);
    }
}

#[test]
fn a_change_of_space_needs_the_patch() {
    let folder = tempfile::tempdir().unwrap();
    let [matrix, pairs] = files(folder.path());
    let output = folder.path().join("x.json").to_str().unwrap().to_owned();
    let refused = call(&["convert", "--placement", &matrix, "-o", &output]);
    assert_exit(&refused, ExitCode::InvalidRequest);
    assert!(error_text(&refused).contains("--patch"));
    let refused = call(&[
        "convert",
        "--landmarks",
        &pairs,
        "--space",
        "physical",
        "-o",
        &output,
    ]);
    assert_exit(&refused, ExitCode::InvalidRequest);
    assert!(!std::path::Path::new(&output).exists());
}

#[test]
fn swapped_points_and_a_mirrored_patch_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (output, results) = run_changed(folder.path(), |text| {
        text.replace("template: [", "other: [")
            .replace("patch: [", "template: [")
            .replace("other: [", "patch: [")
    });
    assert_exit(&output, ExitCode::Success);
    let warnings = report(&results.join("example")).warnings;
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("points swapped")),
        "{warnings:?}"
    );
    // x counted from the other face of the patch: no map without folds makes a hand of the other.
    let folder = tempfile::tempdir().unwrap();
    let (output, _) = run_changed(folder.path(), mirror_x);
    assert_exit(&output, ExitCode::AlignmentFailed);
    assert!(error_text(&output).contains("warning: the placement mirrors the patch"));
}

/// The example's placement after a reflection of the patch about its middle across x.
fn mirror_x(text: &str) -> String {
    let request = aligner::job::parse_request(text).unwrap();
    let header = aligner::io::nifti::read_header(&data("patch_segmentation.nii.gz")).unwrap();
    let width = header.grid.shape[0] as f64 * header.grid.spacing()[0];
    let mut rows = String::new();
    for [a, b, c, d] in request.spec.alignment().unwrap().placement.matrix {
        write!(rows, "\n    - [{}, {b}, {c}, {}]", -a, d + a * width).unwrap();
    }
    let start = text.find("    matrix:").unwrap();
    let end = start + text[start..].find("\n  landmarks:").unwrap();
    format!("{}    matrix:{rows}{}", &text[..start], &text[end..])
}
