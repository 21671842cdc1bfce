//! What the registration costs on a folded sheet with a known warp: time, memory, growth with size,
//! gain from threads, and the share of the memory bandwidth that it reaches.
//!
//! Its accuracy beside other programs, on real cortex, is `dev/bench-registration.sh`'s.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and may fail loudly"
)]

mod support;

use std::f64::consts::TAU;

use aligner::affine::Affine;
use aligner::allocator;
use aligner::grid::Grid;
use aligner::observer::Silent;
use aligner::registration::{RegistrationInput, register};
use aligner::volume::Volume;
use alignment_api::RegistrationParameters;
use rayon::prelude::*;
use support::{Cost, Report};

/// Extent of the patch, mm.
const EXTENT: f64 = 24.0;
/// Runs of which the median counts.
const RUNS: usize = 5;
/// The same, of the largest.
const BIG_RUNS: usize = 3;
/// Asks for all iterations, however short the steps.
const WHOLE: &str = "whole";

fn main() {
    if let Some(name) = support::asked() {
        let mut words = name.split(',');
        let [voxels, threads] = [(); 2].map(|()| words.next().unwrap().parse().unwrap());
        support::answer(cost(voxels, threads, words.next() == Some(WHOLE)));
        return;
    }
    // As the program does: the children inherit it.
    allocator::settle();
    let mut report = Report::default();
    let [one, two] = medians(["128,1", "128,2"], RUNS);
    let big = support::cost_of("256,2");
    report.figure("registration_128_core", one.cpu, "core-s", 1.2);
    // The finer the grid, the more iterations until steps are a hundredth of a voxel; work is
    // compared where both do all of them.
    let [whole, big_whole] = [128, 256].map(|voxels| format!("{voxels},1,{WHOLE}"));
    let [whole, big_whole] = medians([&whole, &big_whole], BIG_RUNS);
    println!(
        "stopped when steps are short: 256 to 128 {:.2}; all iterations: {:.2} core-s at 128",
        big.cpu / two.cpu,
        whole.cpu
    );
    let growth = big_whole.cpu / whole.cpu;
    report.figure("registration_256_to_128", growth, "ratio", 8.5);
    report.figure(
        "registration_two_threads_to_one",
        two.wall / one.wall,
        "ratio",
        1.0 / 1.8,
    );
    println!(
        "two runs of one thread each, side by side, take {:.3} of one after the other: the machine's own bound",
        side_by_side("128,1") / (2.0 * one.wall)
    );
    report.figure(
        "registration_128_peak",
        bytes_per_voxel(two, 128),
        "byte/voxel",
        64.0,
    );
    report.figure(
        "registration_256_peak",
        bytes_per_voxel(big, 256),
        "byte/voxel",
        64.0,
    );
    bandwidth(&mut report, whole);
    report.end();
}

/// Median costs of two computations, run in turn so that a busy moment hits both.
fn medians(names: [&str; 2], runs: usize) -> [Cost; 2] {
    let pairs: Vec<[Cost; 2]> = (0..runs).map(|_| names.map(support::cost_of)).collect();
    [0, 1].map(|which| {
        let median = |value: fn(&Cost) -> f64| {
            let mut values: Vec<f64> = pairs.iter().map(|pair| value(&pair[which])).collect();
            values.sort_by(f64::total_cmp);
            values[runs / 2]
        };
        Cost {
            wall: median(|cost| cost.wall),
            cpu: median(|cost| cost.cpu),
            peak: median(|cost| cost.peak),
        }
    })
}

/// Seconds of the slower of two runs that begin together and share nothing but the machine; their median.
fn side_by_side(name: &str) -> f64 {
    let both = || {
        std::thread::scope(|scope| {
            let runs = [(); 2].map(|()| scope.spawn(|| support::cost_of(name)));
            let costs = runs.map(|run| run.join().unwrap());
            costs.iter().map(|cost| cost.wall).fold(0.0, f64::max)
        })
    };
    let mut walls: Vec<f64> = (0..RUNS).map(|_| both()).collect();
    walls.sort_by(f64::total_cmp);
    walls[RUNS / 2]
}

/// Above the empty process: the two images, 4 bytes per voxel each, were there before.
fn bytes_per_voxel(cost: Cost, voxels: usize) -> f64 {
    cost.peak * 1e6 / voxels.pow(3) as f64 + 8.0
}

/// Time that the registration's passes over the voxels would take at the speed at which one thread
/// adds two large arrays into a third, against the time that the registration took.
fn bandwidth(report: &mut Report, whole: Cost) {
    let n = 32 << 20;
    let (a, b) = (vec![1.0_f32; n], vec![2.0_f32; n]);
    let mut out = vec![0.0_f32; n];
    let fastest = (0..7)
        .map(|round| {
            let scale = round as f32;
            let sum = || {
                for ((out, a), b) in out.iter_mut().zip(&a).zip(&b) {
                    *out = a + scale * b;
                }
            };
            support::measure(sum).wall
        })
        .fold(f64::INFINITY, f64::min);
    // Each written element is read first.
    let bytes_per_second = 4.0 * 4.0 * n as f64 / fastest;
    println!("one thread moves {:.1} GB/s", bytes_per_second / 1e9);
    let floor = bytes_moved(128) / bytes_per_second;
    println!(
        "floor of the passes {floor:.3} s, taken {:.3} s",
        whole.wall
    );
    report.figure(
        "registration_times_bandwidth_floor",
        whole.wall / floor,
        "ratio",
        4.0,
    );
}

/// Bytes that the passes of 8 iterations on levels 4, 2, 1 move at least, each array once per pass.
fn bytes_moved(voxels: usize) -> f64 {
    let finest = voxels.pow(3) as f64;
    // An iteration reads fixed, moving and mask; writes sum, residual, weight, and reads them again. (The
    // depths come to agree here: no column is doubted.)
    let warp = 4.0 + 4.0 + 1.0 + 3.0 * 8.0;
    let gather = 3.0 * 4.0;
    // Some ten steps on a lattice of 3-voxel cells: three components through eight vectors.
    let solve = 10.0 * 3.0 * 8.0 * 4.0 / 27.0;
    let levels = 1.0 + 1.0 / 8.0 + 1.0 / 64.0;
    // Pyramid: both images smoothed twice; cortex of the patch; two fields, written and checked,
    // the inverse also refined against the forward one.
    let once = 2.0 * 2.0 * 12.0 + 12.0 + 2.0 * 3.0 * (8.0 + 4.0) + 3.0 * 16.0;
    finest * (8.0 * levels * (warp + gather + solve) + once)
}

fn cost(voxels: usize, threads: usize, whole: bool) -> Cost {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    // In the pool: its threads have found their processors before anything is measured.
    let (fixed, moving) = pool.install(|| images(voxels));
    let input = RegistrationInput {
        fixed: &fixed,
        validity: None,
        moving: &moving,
        fixed_to_moving: Affine::IDENTITY,
        landmarks: &[],
    };
    let mut parameters = RegistrationParameters::default().effective();
    if whole {
        parameters.step_tolerance = 0.0;
    }
    let run = || pool.install(|| register(&input, &parameters, &Silent).unwrap());
    support::measure(run)
}

/// The sheet seen through a smooth warp, and as it is.
fn images(voxels: usize) -> (Volume<f32>, Volume<f32>) {
    let size = EXTENT / voxels as f64;
    let grid = Grid {
        shape: [voxels; 3],
        voxel_to_world: Affine::from_parts(
            [[size, 0.0, 0.0], [0.0, size, 0.0], [0.0, 0.0, size]],
            [0.5 * size; 3],
        ),
    };
    let volume = |depth: fn([f64; 3]) -> f32| {
        let place = |index: usize| {
            let voxel = [
                index % voxels,
                index / voxels % voxels,
                index / voxels.pow(2),
            ];
            grid.voxel_to_world.apply(voxel.map(|i| i as f64))
        };
        let values = (0..voxels.pow(3))
            .into_par_iter()
            .map(|index| depth(place(index)));
        Volume::from_vec(grid, values.collect()).unwrap()
    };
    (volume(|p| sheet(warped(p))), volume(sheet))
}

/// Depth of a folded sheet about 3 mm thick.
fn sheet(p: [f64; 3]) -> f32 {
    let fold = 3.0 * (TAU * p[0] / 13.0).sin() * (TAU * p[1] / 15.0 + 0.4).cos();
    let across = p[2] + fold + 0.15 * p[0];
    (0.5 + 0.75 * (TAU * across / 13.0).sin()).clamp(0.0, 1.0) as f32
}

/// A displacement of up to about 1.5 mm that vanishes at the border.
fn warped(p: [f64; 3]) -> [f64; 3] {
    let window: f64 = p
        .iter()
        .map(|x| (std::f64::consts::PI * x / EXTENT).sin())
        .product();
    let wave = |a: f64, b: f64, c: f64| (TAU * (p[0] * a + p[1] * b + p[2] * c)).sin();
    [
        p[0] + 1.2 * window * wave(0.02, 0.05, 0.03),
        p[1] - 1.2 * window * wave(0.05, -0.02, 0.02),
        p[2] + 1.6 * window * wave(0.04, 0.03, -0.03),
    ]
}
