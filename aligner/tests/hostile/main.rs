//! A corpus of hostile and awkward files: every one is handled as stated, within 64 MiB and five
//! seconds, by the library and by the program.
//!
//! One test alone, because it measures the memory of the whole process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a broken expectation fails the test, and figures are printed"
)]
#![allow(
    clippy::too_many_lines,
    reason = "lists of files, each with what becomes of it"
)]

mod corpus;
#[path = "../support/nifti_file.rs"]
mod nifti_file;
mod places;

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use aligner::{
    io::nifti::{self, ReadError, Voxel},
    with_voxels,
};
use alignment_api::ExitCode;
use corpus::{Case, Expect};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Most memory and time that a file may take.
const MOST_BYTES: usize = 64 << 20;
const MOST_TIME: Duration = Duration::from_secs(5);

/// What it took to handle the corpus.
#[derive(Default)]
struct Cost {
    bytes: usize,
    time: Duration,
}

#[test]
fn every_hostile_and_awkward_file_is_handled_as_stated() {
    let folder = tempfile::tempdir().unwrap();
    let cases = corpus::all();
    let mut failures = Vec::new();
    let mut most = Cost::default();
    for (index, case) in cases.iter().enumerate() {
        // The ending says the opposite of the content in every other file: the content decides.
        let ending = if index % 2 == 0 { "nii" } else { "nii.gz" };
        let path = folder.path().join(format!("{index}.{ending}"));
        fs::write(&path, &case.bytes).unwrap();
        if let Err(problem) = handled(&path, case, &mut most) {
            failures.push(format!("{} ({}): {problem}", case.kind, case.variant));
        }
    }
    let places = places::check(folder.path(), &mut failures) + 1;
    if let Err(problem) = honest_bomb(folder.path(), &mut most) {
        failures.push(format!("256 MiB in 260 kB: {problem}"));
    }
    let files = cases.len() + places;
    let kinds: std::collections::BTreeSet<_> = cases.iter().map(|case| case.kind).collect();
    let handled = files - failures.len();
    println!(
        "{files} files of {} kinds; at most {} KiB and {:.2} s for one",
        kinds.len() + places,
        most.bytes >> 10,
        most.time.as_secs_f64()
    );
    let verdict = if failures.is_empty() { "ok" } else { "short" };
    println!("figure hostile-corpus {handled} of {files} bar {files} {verdict}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(
        kinds.len() + places >= 108 && files >= 400,
        "the corpus shrank"
    );
}

/// A legal volume of 256 MiB of zeros: read plane by plane, it takes no more memory than others.
fn honest_bomb(folder: &Path, most: &mut Cost) -> Result<(), String> {
    let path = folder.join("zeros.nii.gz");
    fs::write(&path, corpus::zeros([1024, 512, 512])).unwrap();
    MEMORY.reset_peak_usage();
    let (before, start) = (MEMORY.current_usage(), Instant::now());
    let mut count = 0_usize;
    nifti::scan(&path, |value| count += usize::from(value == 0.0)).map_err(|e| e.to_string())?;
    most.time = most.time.max(start.elapsed());
    most.bytes = most.bytes.max(MEMORY.peak_usage() - before);
    if count != 256 << 20 || most.bytes > MOST_BYTES || most.time > MOST_TIME {
        return Err(format!(
            "{count} zeros, {} bytes, {:?}",
            most.bytes, most.time
        ));
    }
    Ok(())
}

/// Reads the file in this process and with the program.
fn handled(path: &Path, case: &Case, most: &mut Cost) -> Result<(), String> {
    MEMORY.reset_peak_usage();
    let (before, start) = (MEMORY.current_usage(), Instant::now());
    let read = nifti::read_stored(path);
    let scanned = scan(path);
    most.time = most.time.max(start.elapsed());
    let bytes = MEMORY.peak_usage() - before;
    most.bytes = most.bytes.max(bytes);
    if bytes > MOST_BYTES {
        return Err(format!("took {bytes} bytes"));
    }
    let warnings = read
        .as_ref()
        .map_or(Vec::new(), |read| read.header.warnings.clone());
    let values = read.map(|read| {
        let (slope, inter) = (read.header.slope, read.header.inter);
        with_voxels!(read.voxels, values => values.iter().map(|v| slope * v.to_f64() + inter).collect::<Vec<_>>())
    });
    if values
        .as_ref()
        .map(|v| bits(v))
        .map_err(ToString::to_string)
        != scanned
            .as_ref()
            .map(|v| bits(v))
            .map_err(ToString::to_string)
    {
        return Err(format!(
            "two ways to read disagree: {values:?} and {scanned:?}"
        ));
    }
    let expected_code = judge(path, case, &values, &warnings)?;
    let start = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_aligner"))
        .arg("inspect")
        .arg(path)
        .output()
        .unwrap();
    most.time = most.time.max(start.elapsed());
    if most.time > MOST_TIME {
        return Err(format!("took {:?}", most.time));
    }
    if output.status.code() != Some(i32::from(expected_code.code())) {
        return Err(format!("the program ended with {:?}", output.status));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    match values {
        Err(error) if !said.contains(&error.to_string()) => {
            Err(format!("the program said {said}, expected {error}"))
        }
        _ => Ok(()),
    }
}

fn scan(path: &Path) -> Result<Vec<f64>, ReadError> {
    let mut values = Vec::new();
    // Only small volumes of the corpus are legal.
    nifti::scan(path, |value| {
        if values.len() < 1000 {
            values.push(value);
        }
    })
    .map(|_| values)
}

/// Compares as NaN equals NaN, and 0 is not -0 as stored.
fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| (value + 0.0).to_bits()).collect()
}

/// Whether the outcome is the stated one; gives the exit code that goes with it.
fn judge(
    path: &Path,
    case: &Case,
    values: &Result<Vec<f64>, ReadError>,
    warnings: &[String],
) -> Result<ExitCode, String> {
    match (&case.expect, values) {
        (Expect::Values(expected), Ok(values)) if bits(values) == bits(expected) => {
            Ok(ExitCode::Success)
        }
        (Expect::Warned(text), Ok(values)) if bits(values) == bits(&corpus::counting()) => warnings
            .iter()
            .any(|warning| warning.contains(text))
            .then_some(ExitCode::Success)
            .ok_or_else(|| format!("warned {warnings:?}, expected `{text}`")),
        (Expect::Refused(parts), Err(error)) => {
            let message = error.to_string();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match parts
                .iter()
                .chain([&name])
                .find(|part| !message.contains(*part))
            {
                Some(part) => Err(format!("refused with `{message}`, expected `{part}` in it")),
                None => Ok(ExitCode::InvalidImage),
            }
        }
        (_, values) => Err(format!("gave {values:?}")),
    }
}
