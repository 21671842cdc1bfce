//! The program as a user runs it, on the bundled real data: what comes out, what is refused, and
//! the other commands.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken expectation fails the test"
)]

mod commands;
mod convert;
mod depth_map;
mod mistakes;
mod page;
mod results;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use alignment_api::{ExitCode, Report};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn data(name: &str) -> PathBuf {
    root().join("examples/data").join(name)
}

pub(crate) fn aligner() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aligner"));
    command.current_dir(root());
    command
}

pub(crate) fn call(args: &[&str]) -> Output {
    aligner().args(args).output().unwrap()
}

pub(crate) fn error_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn assert_exit(output: &Output, expected: ExitCode) {
    assert_eq!(
        output.status.code(),
        Some(i32::from(expected.code())),
        "{}",
        error_text(output)
    );
}

/// Runs a request of examples/ into a folder.
pub(crate) fn run(request: &Path, results: &Path, more: &[&str]) -> Output {
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

pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
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

pub(crate) fn column(path: &Path, names: [&str; 3]) -> Vec<[f64; 3]> {
    aligner::io::table::Table::read(path)
        .unwrap()
        .points(names)
        .unwrap()
}

pub(crate) fn mean_distance(a: &[[f64; 3]], b: &[[f64; 3]]) -> f64 {
    let distance = |(a, b): (&[f64; 3], &[f64; 3])| {
        (0..3)
            .map(|axis| (a[axis] - b[axis]).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    a.iter().zip(b).map(distance).sum::<f64>() / a.len() as f64
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    aligner::io::atomic::hex(&sha2::Sha256::digest(bytes))
}

/// The example's request with a change, run into a folder.
pub(crate) fn run_changed(folder: &Path, change: impl Fn(&str) -> String) -> (Output, PathBuf) {
    let request = folder.join("changed.yaml");
    let text = fs::read_to_string(root().join("examples/request.yaml")).unwrap();
    let changed = change(&text);
    assert!(changed != text, "nothing was changed");
    fs::write(&request, changed).unwrap();
    let results = folder.join("results");
    (run(&request, &results, &["--quiet"]), results)
}

pub(crate) fn report(folder: &Path) -> Report {
    serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap()
}
