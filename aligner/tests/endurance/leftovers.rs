//! What an earlier run of the same request left is removed if this one does not write it.

use std::fs;

use crate::{Small, assert_success, files};

#[test]
fn a_rerun_that_writes_less_removes_what_the_earlier_run_wrote_and_nothing_else() {
    let small = Small::new();
    let results = small.results("less");
    assert_success(&small.command(&results).output().unwrap());
    let folder = results.join("small");
    // Somebody's own file, and a result that somebody changed.
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    fs::write(folder.join("inverse_warp.nii.gz"), "mine").unwrap();
    let request = small.folder.path().join("small.yaml");
    let text = fs::read_to_string(&request).unwrap();
    let less = text.replace("grids: [patch, template]", "artifacts: [images, report]");
    fs::write(&request, &less).unwrap();
    assert_success(&small.command(&results).output().unwrap());
    let names: Vec<String> = files(&folder).into_keys().collect();
    let expected = [
        "inverse_warp.nii.gz",
        "notes.txt",
        "patch-transformed.nii.gz",
        "preview.png",
        "report.html",
        "report.json",
    ];
    assert_eq!(names, expected);

    // Without a report of its own, it must not leave one that describes other files.
    fs::write(&request, less.replace("[images, report]", "[warp]")).unwrap();
    assert_success(&small.command(&results).output().unwrap());
    let names: Vec<String> = files(&folder).into_keys().collect();
    assert_eq!(
        names,
        [
            "affine.txt",
            "inverse_warp.nii.gz",
            "notes.txt",
            "warp.nii.gz"
        ]
    );
}

#[test]
fn another_request_in_the_same_folder_removes_nothing() {
    let small = Small::new();
    let results = small.results("shared");
    assert_success(&small.command(&results).output().unwrap());
    let request = small.folder.path().join("small.yaml");
    let text = fs::read_to_string(&request).unwrap();
    let other = text
        .replace("metadata: {name: small}", "metadata: {name: other}")
        .replace("grids: [patch, template]", "artifacts: [images]");
    fs::write(&request, other).unwrap();
    assert_success(&small.command(&results).output().unwrap());
    assert_eq!(files(&results.join("small")).len(), small.clean.len());
}

#[test]
fn an_earlier_result_that_is_now_an_input_stays() {
    let small = Small::new();
    let results = small.results("input");
    assert_success(&small.command(&results).output().unwrap());
    let request = small.folder.path().join("small.yaml");
    let text = fs::read_to_string(&request).unwrap();
    let depth = "segmentation-equivolumetric-depth.nii.gz";
    let from_map = text.replace(
        "{segmentation: {source: {volume: {claimName: patches, path: segmentation.nii.gz}}}}",
        &format!("{{map: {{source: {{volume: {{claimName: results, path: small/{depth}}}}}}}}}"),
    );
    assert_ne!(from_map, text);
    fs::write(&request, from_map).unwrap();
    assert_success(&small.command(&results).output().unwrap());
    let found = files(&results.join("small"));
    assert_eq!(found[depth], small.clean[depth]);
    assert!(!found.contains_key("segmentation-equivolumetric-depth-validity.nii.gz"));
}
