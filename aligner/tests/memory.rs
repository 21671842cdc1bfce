//! The prediction of memory beside what runs really take, over a grid of sizes.
//!
//! `VOLUBA_MEMORY_SIZES` (default `64 96x80x72`) says which patches; `make soak SUITE=data` takes
//! larger ones.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a broken expectation fails the test, and figures are printed"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use aligner::{
    affine::Affine,
    grid::Grid,
    io::nifti,
    job::{self, Job, Mounts},
    load, memory,
    volume::Volume,
};

/// Voxel size of the patch, mm.
const SIZE: f64 = 0.2;

/// What is run.
struct Case {
    shape: [usize; 3],
    /// A segmentation with this share of grey matter; otherwise a depth map.
    grey: Option<f64>,
    images: usize,
    /// Voxels of the template against those of the patch, along each axis.
    finer: f64,
    template_grid: bool,
}

/// The folded sheet's place across, 0 to 1 within the cortex; the cortex takes `share` of the height.
fn across(at: [f64; 3], extent: [f64; 3], share: f64) -> f64 {
    let wave = |x: f64, periods: f64| (std::f64::consts::TAU * periods * x).sin();
    let fold = 0.08 * wave(at[0] / extent[0], 2.0) * wave(at[1] / extent[1] + 0.2, 1.7);
    (at[2] / extent[2] - 0.5 * (1.0 - share) + fold) / share
}

fn grid(shape: [usize; 3], size: f64) -> Grid {
    Grid {
        shape,
        voxel_to_world: Affine::scaling([size; 3]),
    }
}

/// Writes the volumes and the request.
fn make(folder: &Path, case: &Case) {
    let patch = grid(case.shape, SIZE);
    let extent = case.shape.map(|size| size as f64 * SIZE);
    let share = case.grey.unwrap_or(0.25);
    let place = |grid: &Grid, (x, y, z): (usize, usize, usize)| {
        let at = grid.voxel_to_world.apply([x as f64, y as f64, z as f64]);
        across(at, extent, share)
    };
    let at = |name: &str| folder.join(name);
    let header = || nifti::scalar_header("", "");
    let depth = |grid: Grid| Volume::from_fn(grid, |v| place(&grid, v).clamp(0.0, 1.0) as f32);
    let template = grid(
        case.shape
            .map(|size| ((size as f64 + 24.0) * case.finer) as usize),
        SIZE / case.finer,
    );
    let template = depth(template);
    nifti::write_scalar(&at("t.nii"), &template.grid, template.values(), header()).unwrap();
    let patch_depth = depth(patch);
    nifti::write_scalar(&at("i.nii"), &patch, patch_depth.values(), header()).unwrap();
    let source = |name: &str| format!("{{volume: {{claimName: c, path: {name}.nii}}}}");
    let depth = if case.grey.is_some() {
        let labels = Volume::from_fn(patch, |v| match place(&patch, v) {
            d if d < 0.0 => 0,
            d if d < 1.0 => 100,
            _ => 200,
        });
        let header = nifti::label_header("", "", 200);
        nifti::write_labels(&at("s.nii"), &patch, labels.values(), header).unwrap();
        format!("{{segmentation: {{source: {}}}}}", source("s"))
    } else {
        format!("{{map: {{source: {}}}}}", source("i"))
    };
    let images: Vec<String> = (0..case.images)
        .map(|index| format!("{{name: i{index}, source: {}}}", source("i")))
        .collect();
    let grids = if case.template_grid {
        "patch, template"
    } else {
        "patch"
    };
    let text = format!(
        "apiVersion: voluba.ebrains.eu/v1alpha1\nkind: AlignmentRequest\nmetadata: {{name: memory}}\nspec:\n  template: t\n  patch:\n    images: [{}]\n    depth: {depth}\n  placement: {{space: physical, matrix: [[1,0,0,0.1],[0,1,0,0.1],[0,0,1,0.1],[0,0,0,1]]}}\n  output: {{destination: {{volume: {{claimName: c, path: o}}}}, grids: [{grids}]}}\n",
        images.join(", ")
    );
    fs::write(at("r.yaml"), text).unwrap();
}

/// Bytes predicted, with the grey matter that the segmentation has.
fn predicted(folder: &Path) -> u64 {
    let document = job::read_request(&folder.join("r.yaml")).unwrap();
    let mounts = Mounts {
        claims: [("c".to_owned(), folder.to_owned())].into(),
        templates: vec![("t".to_owned(), folder.join("t.nii"))],
        ..Mounts::default()
    };
    let job = Job::from_request(&document, &mounts).unwrap();
    let plan = load::plan(&job).unwrap();
    let segmentation = folder.join("s.nii");
    let mut grey = 0;
    if segmentation.exists() {
        nifti::scan(&segmentation, |value| grey += usize::from(value == 100.0)).unwrap();
    }
    memory::predict(&job, &plan, segmentation.exists().then_some(grey))
}

/// Bytes at the peak of a run, as the kernel counts them, and the peak of each stage.
fn taken(folder: &Path) -> (u64, Vec<(String, u64)>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_aligner"))
        .args(["run", "--progress", "json", "--threads", "2"])
        .arg(folder.join("r.yaml"))
        .arg("--claim")
        .arg(format!("c={}", folder.display()))
        .arg("--template")
        .arg(format!("t={}", folder.join("t.nii").display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let high_water = || {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let (mut most, mut stages) = (0, Vec::new());
    // The last line comes when everything is held and about to be written.
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(kilobytes) = high_water() else {
            continue;
        };
        most = most.max(1024 * kilobytes);
        let stage = line.split("\"stage\":\"").nth(1).unwrap_or_default();
        let stage = stage.split('"').next().unwrap_or_default().to_owned();
        match stages.last_mut() {
            Some((last, peak)) if *last == stage => *peak = most,
            _ => stages.push((stage, most)),
        }
    }
    assert!(child.wait().unwrap().success());
    (most, stages)
}

fn sizes() -> Vec<[usize; 3]> {
    let text = std::env::var("VOLUBA_MEMORY_SIZES");
    let text = text.unwrap_or_else(|_| "64 96x80x72".to_owned());
    text.split_whitespace()
        .map(|size| {
            let sides: Vec<usize> = size.split('x').map(|side| side.parse().unwrap()).collect();
            std::array::from_fn(|axis| *sides.get(axis).unwrap_or(&sides[0]))
        })
        .collect()
}

/// The code of the program alone is so many bytes larger without optimisation.
const UNOPTIMISED: f64 = if cfg!(debug_assertions) { 3e6 } else { 0.0 };

#[test]
fn predicted_memory_is_what_runs_take() {
    let mut errors = Vec::new();
    let mut farthest = f64::INFINITY;
    for shape in sizes() {
        for (grey, images, finer, template_grid) in [
            (Some(0.25), 1, 1.0, true),
            (None, 1, 1.0, false),
            (Some(0.6), 2, 1.0, false),
            (None, 1, 2.0, true),
        ] {
            let case = Case {
                shape,
                grey,
                images,
                finer,
                template_grid,
            };
            let folder = tempfile::tempdir().unwrap();
            make(folder.path(), &case);
            let predicted = predicted(folder.path());
            let (taken, stages) = taken(folder.path());
            let error = predicted as f64 / taken as f64 - 1.0;
            let stages: Vec<String> = stages
                .iter()
                .map(|(stage, peak)| format!("{stage} {:.1}", *peak as f64 / 1e6))
                .collect();
            println!(
                "{shape:?} grey {grey:?} images {images} template x{finer}: predicted {:.1} MB, taken {:.1} MB, {:+.1} % ({})",
                predicted as f64 / 1e6,
                taken as f64 / 1e6,
                100.0 * error,
                stages.join(", ")
            );
            errors.push(error);
            farthest = farthest.min((predicted as f64 + UNOPTIMISED) / taken as f64 - 1.0);
        }
    }
    let within = errors.iter().filter(|error| error.abs() <= 0.1).count();
    let lowest = errors.iter().copied().fold(f64::INFINITY, f64::min);
    let share = within as f64 / errors.len() as f64;
    let verdict = |met: bool| if met { "ok" } else { "short" };
    println!(
        "figure memory-within-10-percent {share:.2} share bar 0.95 {}",
        verdict(share >= 0.95)
    );
    println!(
        "figure memory-most-under {:.3} share bar -0.03 {}",
        lowest,
        verdict(lowest >= -0.03)
    );
    // The bars are those of the optimised program. What must never happen is a prediction that is far
    // too low.
    assert!(farthest >= -0.1 && share >= 0.5, "{errors:?}");
}
