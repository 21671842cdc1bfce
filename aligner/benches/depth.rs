//! Figures of the cortical depth: errors on sheets with a known depth, time and memory.
//!
//! One line per figure: `figure <name> <value> <unit> bar <bar> ok|short`. Lines with `beside` give the
//! mean error of the equidistant depth on the same labels.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and may fail loudly"
)]

mod depth_peers;
#[path = "../tests/depth_shapes/mod.rs"]
mod depth_shapes;
mod support;

use aligner::affine::Affine;
use aligner::depth::{DepthMap, Tissue, compute};
use aligner::grid::Grid;
use aligner::observer::Silent;
use aligner::volume::Volume;
use depth_shapes::{Sample, Shape, Where};
use support::{Cost, Report};

const CUBES: [f64; 3] = [1.0; 3];

/// Mean and 95th percentile of the errors, each beside its bar.
fn errors(
    report: &mut Report,
    name: &str,
    run: (&Sample, &DepthMap),
    which: Where,
    bars: (f64, f64),
) {
    let errors = run.0.errors(run.1, which);
    report.figure(&format!("{name}_mean"), errors.mean, "depth", bars.0);
    report.figure(&format!("{name}_p95"), errors.p95, "depth", bars.1);
}

/// The errors beside that of the equidistant depth, for cubic voxels.
fn compared(
    report: &mut Report,
    name: &str,
    run: (&Sample, &DepthMap),
    which: Where,
    bars: (f64, f64),
) {
    errors(report, name, run, which, bars);
    let simple = depth_peers::equidistant(&run.0.labels);
    let simple = run.0.errors_of(&simple, &run.1.validity, which);
    println!(
        "beside {name} equidistant mean {:.3e} p95 {:.3e}",
        simple.mean, simple.p95
    );
}

fn main() {
    if let Some(name) = support::asked() {
        support::answer(match name.as_str() {
            "patch" => cost(&patch()),
            "convex" => cost(&Shape::Convex.labels(57, CUBES)),
            _ => cost(&Shape::Convex.labels(114, CUBES)),
        });
        return;
    }
    let mut report = Report::default();
    costs(&mut report, "patch", "patch_110x120x100", [0.3, 0.6, 60.0]);
    costs(&mut report, "convex", "convex_257", [4.0, 7.2, 400.0]);
    costs(&mut report, "large", "convex_513", [40.0, 80.0, 2500.0]);
    closed(&mut report);
    cut(&mut report);
    noise(&mut report);
    monotone(&mut report);
    symmetry(&mut report);
    report.end();
}

fn solve(sample: &Sample) -> DepthMap {
    solve_labels(&sample.labels)
}

/// The labels count as part of the peak.
fn cost(labels: &Volume<Tissue>) -> Cost {
    let own = labels.values().len() as f64 / 1e6;
    let cost = support::measure(|| solve_labels(labels));
    Cost {
        peak: cost.peak + own,
        ..cost
    }
}

fn solve_labels(labels: &Volume<Tissue>) -> DepthMap {
    compute(labels, &Silent).unwrap()
}

/// A fold in the size of a typical patch.
fn patch() -> Volume<Tissue> {
    let labels = Shape::Fold.sample(27, CUBES).labels;
    let grid = Grid {
        shape: [110, 120, 100],
        voxel_to_world: Affine::scaling(labels.grid.spacing()),
    };
    Volume::from_fn(grid, |(x, y, z)| labels.array()[[x, y, z]])
}

fn costs(report: &mut Report, what: &str, name: &str, bars: [f64; 3]) {
    let Cost { wall, cpu, peak } = support::cost_of(what);
    report.figure(&format!("{name}_wall"), wall, "s", bars[0]);
    report.figure(&format!("{name}_cpu"), cpu, "s", bars[1]);
    report.figure(&format!("{name}_peak"), peak, "MB", bars[2]);
}

fn closed(report: &mut Report) {
    for (voxels, bars) in [
        (8, (0.014, 0.037)),
        (16, (0.006, 0.019)),
        (32, (0.003, 0.010)),
    ] {
        for (name, shape) in [("convex", Shape::Convex), ("concave", Shape::Concave)] {
            let sample = shape.sample(voxels, CUBES);
            let name = format!("{name}_{voxels}");
            compared(report, &name, (&sample, &solve(&sample)), Where::All, bars);
        }
    }
    for (voxels, bars) in [
        (8, (0.016, 0.050)),
        (16, (0.006, 0.019)),
        (32, (0.003, 0.010)),
    ] {
        for (name, shape) in [
            ("torus", Shape::Torus),
            ("torus_oblique", Shape::ObliqueTorus),
        ] {
            let sample = shape.sample(voxels, CUBES);
            let name = format!("{name}_{voxels}");
            compared(report, &name, (&sample, &solve(&sample)), Where::All, bars);
        }
    }
    let sample = Shape::Convex.sample(16, [1.0, 1.0, 3.0]);
    let map = solve(&sample);
    errors(
        report,
        "convex_1_1_3_16",
        (&sample, &map),
        Where::All,
        (0.013, 0.040),
    );
}

fn cut(report: &mut Report) {
    for (voxels, bars) in [(8, (0.014, 0.042)), (32, (0.004, 0.011))] {
        let sample = Shape::Fold.sample(voxels, CUBES);
        let name = format!("fold_core_{voxels}");
        compared(report, &name, (&sample, &solve(&sample)), Where::Core, bars);
    }
    for (name, shape, all, core) in [
        ("slab", Shape::Slab, (0.013, 0.040), Some((0.003, 0.007))),
        ("cylinder", Shape::Cylinder, (0.022, 0.075), None),
        ("fold", Shape::Fold, (0.015, 0.045), Some((0.007, 0.020))),
        ("octant", Shape::Octant, (0.026, 0.090), None),
    ] {
        let sample = shape.sample(16, CUBES);
        let map = solve(&sample);
        let run = (&sample, &map);
        compared(report, &format!("{name}_all_16"), run, Where::All, all);
        let half = (all.0 / 2.0, all.1 / 2.0);
        errors(
            report,
            &format!("{name}_valid_16"),
            run,
            Where::Valid(0.9),
            half,
        );
        if let Some(core) = core {
            compared(report, &format!("{name}_core_16"), run, Where::Core, core);
        }
    }
}

/// Labels off by up to half a voxel along each axis, against clean ones.
fn noise(report: &mut Report) {
    // With the bars of the clean means: a truer map of clean labels is no loss here.
    for (voxels, convex, fold) in [(8, 0.014, 0.014), (16, 0.006, 0.007), (32, 0.003, 0.004)] {
        for (name, shape, which, bar) in [
            ("convex", Shape::Convex, Where::All, convex),
            ("fold_core", Shape::Fold, Where::Core, fold),
        ] {
            let clean = shape.sample(voxels, CUBES);
            let clean = clean.errors(&solve(&clean), which);
            let noisy = shape.noisy(voxels, 7);
            let map = solve(&noisy);
            let finite = |volume: &Volume<f32>| volume.values().iter().all(|v| v.is_finite());
            assert!(finite(&map.depth) && finite(&map.validity) && finite(&map.thickness_mm()));
            let noisy = noisy.errors(&map, which);
            report.figure(
                &format!("{name}_{voxels}_noisy_mean"),
                noisy.mean,
                "depth",
                2.0 * bar,
            );
            let name = format!("{name}_{voxels}_noisy_over_clean");
            report.figure(
                &format!("{name}_mean"),
                noisy.mean / clean.mean,
                "ratio",
                2.0,
            );
            report.figure(&format!("{name}_p95"), noisy.p95 / clean.p95, "ratio", 2.0);
        }
    }
}

/// The largest ratio of the mean error to that with half as many voxels.
fn monotone(report: &mut Report) {
    for (name, shape, which) in [
        ("convex", Shape::Convex, Where::All),
        ("torus", Shape::Torus, Where::All),
        ("slab_core", Shape::Slab, Where::Core),
        ("cylinder_core", Shape::Cylinder, Where::Core),
        ("fold_core", Shape::Fold, Where::Core),
    ] {
        let means = [4, 8, 16, 32].map(|voxels| {
            let sample = shape.sample(voxels, CUBES);
            sample.errors(&solve(&sample), which).mean
        });
        let ratios = means.windows(2).map(|pair| pair[1] / pair[0]);
        let largest = ratios.fold(0.0, f64::max);
        report.figure(&format!("{name}_4_to_32_falls"), largest, "ratio", 1.0);
    }
}

/// Largest difference of two maps at the voxels that `place` relates.
fn difference(
    one: &Volume<f32>,
    other: &Volume<f32>,
    place: impl Fn([usize; 3]) -> [usize; 3],
    value: impl Fn(f32) -> f32,
) -> f64 {
    let mut largest = 0.0_f32;
    for (at, &here) in one.array().indexed_iter() {
        let there = other.array()[place([at.0, at.1, at.2])];
        largest = largest.max((here - value(there)).abs());
    }
    f64::from(largest)
}

fn symmetry(report: &mut Report) {
    let [convex, concave] =
        [Shape::Convex, Shape::Concave].map(|shape| solve(&shape.sample(16, CUBES)).depth);
    let mirror = difference(&convex, &concave, |at| at, |depth| 1.0 - depth);
    report.figure("concave_is_1_minus_convex", mirror, "depth", 1e-5);

    let sample = Shape::Fold.sample(10, CUBES);
    let straight = solve(&sample).depth;
    let last = sample.labels.grid.shape.map(|size| size - 1);
    // All sides are equal: axes may be exchanged on the same grid.
    let turn = |[x, y, z]: [usize; 3]| [last[0] - y, z, last[2] - x];
    let turned = Volume::from_fn(sample.labels.grid, |(x, y, z)| {
        sample.labels.array()[turn([x, y, z])]
    });
    let turned = compute(&turned, &Silent).unwrap().depth;
    let moved = difference(&turned, &straight, turn, |depth| depth);
    report.figure("permuted_and_flipped", moved, "depth", 1e-5);
}
