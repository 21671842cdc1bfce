//! What a run writes, and how good it is.

use std::{fs, path::Path};

use aligner::io::nifti::{self, Datatype};
use alignment_api::{ExitCode, LandmarkMode, Progress, Report};

use crate::{
    aligner, assert_exit, column, data, files, mean_distance, report, root, run, run_changed,
    sha256,
};

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
fn a_wrong_pair_is_named_and_loses_its_weight() {
    let folder = tempfile::tempdir().unwrap();
    let (output, results) = run_changed(folder.path(), |text| {
        text.replace("8.118457, -69.061381", "16.118457, -69.061381")
    });
    assert_exit(&output, ExitCode::Success);
    let report = report(&results.join("example"));
    let named = |name: &str| {
        let named = report.warnings.iter();
        named.filter(|text| text.contains(name)).count()
    };
    assert_eq!(named("`pair-2` kept only"), 1, "{:?}", report.warnings);
    for pair in &report.landmarks {
        let weight = pair.effective_weight.unwrap();
        assert_eq!(weight < 0.5, pair.name == "pair-2", "{pair:?}");
        assert_eq!(named(&format!("`{}` kept", pair.name)) > 0, weight < 0.5);
    }
}

#[test]
fn hard_landmarks_are_met_and_reported_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let (output, results) = run_changed(folder.path(), |text| {
        text.replace(
            "  landmarks:\n",
            "  registration: {landmarkMode: hard}\n  landmarks:\n",
        )
    });
    assert_exit(&output, ExitCode::Success);
    let report = report(&results.join("example"));
    assert_eq!(report.registration.landmark_mode, LandmarkMode::Hard);
    assert_eq!(report.registration.landmark_uncertainty_mm, None);
    // A tenth of the patch's voxel, stretched by a placement that is nearly rigid.
    let voxel = report.inputs[0].voxel_size_mm[0];
    for pair in &report.landmarks {
        assert!(
            pair.after_mm < 0.11 * voxel && pair.before_mm > voxel,
            "{pair:?}"
        );
    }
}
