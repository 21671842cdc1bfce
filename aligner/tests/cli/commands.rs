//! The commands beside `run`.

use std::{fs, path::PathBuf};

use aligner::io::nifti;
use alignment_api::{ArtifactKind, ExitCode, LandmarkMode, Report};

use crate::{assert_exit, call, data, files, report, root, run, run_changed};

#[test]
fn depth_writes_thickness_and_layers() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_owned();
    let segmentation = data("patch_segmentation.nii.gz");
    let segmentation = segmentation.to_str().unwrap();
    let (depth, thickness, layers) = (
        text("depth.nii.gz"),
        text("thickness.nii.gz"),
        text("layers.nii.gz"),
    );
    let mut args = vec!["depth", segmentation, "-o", &depth, "--quiet"];
    args.extend(["--thickness", &thickness, "--layers", &layers]);
    let output = call(&args);
    assert_exit(&output, ExitCode::InvalidRequest);
    args.extend(["--layer-count", "4"]);
    assert_exit(&call(&args), ExitCode::Success);

    let thickness = nifti::read_scalar(&path("thickness.nii.gz")).unwrap();
    let layers = nifti::read_labels(&path("layers.nii.gz")).unwrap();
    assert_eq!(layers.header.raw.intent_code, 1002);
    assert_eq!(layers.header.raw.cal_max, 4.0);
    let mut counts = [0_usize; 5];
    for (&layer, &mm) in layers.volume.values().iter().zip(thickness.volume.values()) {
        counts[usize::try_from(layer).unwrap()] += 1;
        assert!(layer == 0 || mm > 0.0);
        assert!(mm.is_finite());
    }
    let cortex: usize = counts[1..].iter().sum();
    for &count in &counts[1..] {
        // Columns that the border of the patch cuts count with the part inside.
        assert!(6 * count > cortex && 3 * count < cortex, "{counts:?}");
    }
}

#[test]
fn a_run_writes_the_same_thickness_and_layers_if_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (output, results) = run_changed(folder.path(), |text| {
        text.replace(
            "  output:\n",
            "  output:\n    artifacts: [thickness, layers, report]\n    layerCount: 4\n",
        )
    });
    assert_exit(&output, ExitCode::Success);
    let results = results.join("example");
    let text = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (depth, thickness, layers) = (text("d.nii.gz"), text("t.nii.gz"), text("l.nii.gz"));
    let segmentation = data("patch_segmentation.nii.gz");
    let mut args = vec![
        "depth",
        segmentation.to_str().unwrap(),
        "-o",
        &depth,
        "--quiet",
    ];
    args.extend([
        "--thickness",
        &thickness,
        "--layers",
        &layers,
        "--layer-count",
        "4",
    ]);
    assert_exit(&call(&args), ExitCode::Success);
    let report = report(&results);
    for (name, kind, alone) in [
        ("thickness", ArtifactKind::Thickness, &thickness),
        ("equivolumetric-layers", ArtifactKind::Layers, &layers),
    ] {
        let name = format!("patch_segmentation-{name}.nii.gz");
        let whole = fs::read(results.join(&name)).unwrap();
        assert!(whole == fs::read(alone).unwrap(), "{name} differs");
        let mut listed = report.artifacts.iter();
        assert!(listed.any(|artifact| artifact.name == name && artifact.kind == kind));
    }
    let written = files(&results);
    assert!(
        !written
            .keys()
            .any(|name| name.contains("validity") || name.contains("warp"))
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
    assert!(
        register
            .command
            .starts_with("aligner register --fixed FILE")
    );
    assert!(register.quality.depth_residual_after < 0.5 * register.quality.depth_residual_before);
    assert_eq!(register.warnings, Vec::<String>::new());
    assert_eq!(
        files(&path("reg")).keys().collect::<Vec<_>>(),
        [
            "affine.txt",
            "inverse_warp.nii.gz",
            "preview.png",
            "report.html",
            "report.json",
            "warp.nii.gz"
        ]
    );
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
    let register = |more: &[&str]| {
        let depth = path("example/patch_segmentation-equivolumetric-depth.nii.gz");
        let (depth, template) = (text(depth), text(data("template_depth.nii.gz")));
        let (matrix, pairs) = (
            text(path("transformMatrix.json")),
            text(path("landmark-pairs.json")),
        );
        let out = text(path("reg"));
        let mut args = vec!["register", "--quiet", "--preset", "fast", "-o", &out];
        args.extend(["--fixed", &depth, "--moving", &template]);
        args.extend(["--placement", &matrix, "--landmarks", &pairs]);
        args.extend(more);
        assert_exit(&call(&args), ExitCode::Success);
    };
    register(&["--landmark-mode", "hard"]);
    let hard = report(&path("reg"));
    assert_eq!(hard.registration.landmark_mode, LandmarkMode::Hard);
    assert!(hard.quality.landmark_mean_after_mm.unwrap() < 0.05);
    register(&["--landmark-uncertainty", "0.25"]);
    let soft = report(&path("reg")).registration;
    assert_eq!(soft.landmark_mode, LandmarkMode::Soft);
    assert_eq!(soft.landmark_uncertainty_mm, Some(0.25));
    let before = report(&path("reg"))
        .quality
        .landmark_mean_before_mm
        .unwrap();
    assert!(
        (before - whole.quality.landmark_mean_before_mm.unwrap()).abs() < 1e-6,
        "{before}"
    );
}
