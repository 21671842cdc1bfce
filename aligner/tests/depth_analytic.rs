//! Depth of sheets whose equivolumetric depth is known in closed form.
//!
//! Bounds are mean and 95th percentile of the absolute error. Labels are samples at voxel centres,
//! so that the staircase of the labels is part of every error.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests may fail as loudly as tests"
)]

mod depth_shapes;

use std::num::NonZero;

use aligner::affine::Affine;
use aligner::depth::{DepthError, DepthMap, Tissue, compute, layers, tissues_from_labels};
use aligner::grid::Grid;
use aligner::observer::{Cancel, Observer, Silent, Step};
use aligner::volume::Volume;
use alignment_api::Labels;
use depth_shapes::{Sample, Shape, Where};

const CUBES: [f64; 3] = [1.0; 3];

fn solve(sample: &Sample) -> DepthMap {
    compute(&sample.labels, &Silent).unwrap()
}

#[track_caller]
fn assert_errors(sample: &Sample, map: &DepthMap, which: Where, bounds: (f64, f64)) {
    let errors = sample.errors(map, which);
    assert!(
        errors.mean <= bounds.0 && errors.p95 <= bounds.1,
        "{errors:?} instead of at most {bounds:?}"
    );
}

#[test]
fn closed_shells_are_accurate() {
    for (per_thickness, bounds) in [(8, (0.014, 0.037)), (16, (0.006, 0.019))] {
        for shape in [Shape::Convex, Shape::Concave] {
            let sample = shape.sample(per_thickness, CUBES);
            let map = solve(&sample);
            assert_errors(&sample, &map, Where::All, bounds);
            assert!((map.median_thickness_mm - depth_shapes::THICKNESS).abs() < 0.02);
            assert!(
                map.validity
                    .values()
                    .iter()
                    .all(|&validity| validity == 1.0)
            );
            assert_eq!(map.warnings, Vec::<String>::new());
        }
    }
}

#[test]
fn a_torus_is_accurate() {
    for (shape, per_thickness, bounds) in [
        // The labels have wide terraces where the ring is flat.
        (Shape::Torus, 8, (0.016, 0.050)),
        (Shape::Torus, 16, (0.006, 0.019)),
        (Shape::ObliqueTorus, 8, (0.014, 0.037)),
    ] {
        let sample = shape.sample(per_thickness, CUBES);
        assert_errors(&sample, &solve(&sample), Where::All, bounds);
    }
}

#[test]
fn noisy_labels_cost_less_than_twice_the_error() {
    for (shape, per_thickness) in [(Shape::Convex, 8), (Shape::Convex, 16), (Shape::Fold, 16)] {
        let clean = shape.sample(per_thickness, CUBES);
        let clean = clean.errors(&solve(&clean), Where::All);
        let noisy = shape.noisy(per_thickness, 7);
        let bounds = (2.0 * clean.mean, 2.0 * clean.p95);
        assert_errors(&noisy, &solve(&noisy), Where::All, bounds);
    }
}

#[test]
fn noise_is_told_and_no_label_changes() {
    let noisy = Shape::Convex.noisy(16, 7);
    let map = solve(&noisy);
    let is_noise = |warning: &String| warning.contains("the segmentation is noisy");
    assert!(map.warnings.iter().any(is_noise), "{:?}", map.warnings);
    let mut on_the_surface = 0;
    let values = map.depth.values().iter().zip(map.validity.values());
    let thickness = map.thickness_mm();
    let layers = layers(&noisy.labels, &map, NonZero::new(3).unwrap());
    let values = values.zip(thickness.values()).zip(layers.values());
    for ((((&depth, &validity), &thickness), &layer), &tissue) in values.zip(noisy.labels.values())
    {
        match tissue {
            Tissue::Csf => assert_eq!((depth, validity, thickness), (0.0, 1.0, 0.0)),
            Tissue::White => assert_eq!((depth, validity, thickness), (1.0, 1.0, 0.0)),
            // Grey voxels beyond a surface are cortex for those who look at labels.
            Tissue::Grey if depth == 0.0 || depth == 1.0 => {
                assert_eq!(layer, if depth == 0.0 { 1 } else { 3 });
                assert!(
                    validity > 0.9 && (2.0..3.0).contains(&thickness),
                    "{thickness} mm"
                );
                on_the_surface += 1;
            }
            Tissue::Grey => {}
        }
    }
    assert!(on_the_surface > 1000);
    let clean = solve(&Shape::Convex.sample(16, CUBES));
    assert!(!clean.warnings.iter().any(is_noise));
}

#[test]
fn long_voxels_are_accurate() {
    let sample = Shape::Convex.sample(16, [1.0, 1.0, 3.0]);
    assert_errors(&sample, &solve(&sample), Where::All, (0.013, 0.040));
    let sample = Shape::Convex.sample(16, [0.5, 1.0, 2.0]);
    assert_errors(&sample, &solve(&sample), Where::All, (0.008, 0.025));
}

#[test]
fn cut_sheets_are_accurate_up_to_the_faces_of_the_image() {
    for (shape, all, core) in [
        (Shape::Slab, (0.013, 0.040), (0.003, 0.007)),
        (Shape::Cylinder, (0.022, 0.075), (0.006, 0.019)),
        // Cut through its centre, the shell is symmetric about the faces, nearly. Its core is small, and
        // within reach of three faces.
        (Shape::Octant, (0.026, 0.090), (0.014, 0.026)),
        (Shape::Fold, (0.015, 0.045), (0.007, 0.020)),
    ] {
        let sample = shape.sample(16, CUBES);
        let map = solve(&sample);
        assert_errors(&sample, &map, Where::All, all);
        assert_errors(&sample, &map, Where::Core, core);
        // Validity finds the voxels whose depth the image does not determine.
        let half = (all.0 / 2.0, all.1 / 2.0);
        assert_errors(&sample, &map, Where::Valid(0.9), half);
        let grey = |least: f32| {
            let voxels = sample.labels.values().iter().zip(map.validity.values());
            voxels
                .filter(|&(&tissue, &validity)| tissue == Tissue::Grey && validity >= least)
                .count()
        };
        // An octant lies nearly everywhere within one thickness of three faces; the others keep more
        // than a third.
        let least_share = if shape == Shape::Octant { 0.1 } else { 0.33 };
        let share = grey(0.9) as f64 / grey(0.0) as f64;
        assert!(share > least_share, "{shape:?} is valid in only {share}");
    }
}

#[test]
fn errors_fall_with_resolution() {
    for shape in [Shape::Convex, Shape::Cylinder, Shape::Fold, Shape::Torus] {
        let means = [4, 8, 16].map(|per_thickness| {
            let sample = shape.sample(per_thickness, CUBES);
            sample.errors(&solve(&sample), Where::Valid(0.9)).mean
        });
        assert!(means[1] < 0.7 * means[0], "{shape:?}: {means:?}");
        assert!(means[2] < 0.7 * means[1], "{shape:?}: {means:?}");
    }
}

#[test]
fn tissues_have_exact_depths_and_nothing_is_nan() {
    let sample = Shape::Fold.sample(8, [1.0, 1.3, 0.8]);
    let map = solve(&sample);
    for ((&tissue, &depth), &validity) in sample
        .labels
        .values()
        .iter()
        .zip(map.depth.values())
        .zip(map.validity.values())
    {
        match tissue {
            Tissue::Csf => assert_eq!((depth, validity), (0.0, 1.0)),
            Tissue::White => assert_eq!((depth, validity), (1.0, 1.0)),
            Tissue::Grey => {
                assert!((0.0..=1.0).contains(&depth) && (0.0..=1.0).contains(&validity));
            }
        }
    }
}

#[test]
fn thickness_is_that_of_the_sheet_and_zero_elsewhere() {
    let sample = Shape::Slab.sample(16, CUBES);
    let map = solve(&sample);
    let thickness = map.thickness_mm();
    let voxels = thickness.values().iter().zip(map.validity.values());
    for ((&thickness, &validity), &tissue) in voxels.zip(sample.labels.values()) {
        if tissue != Tissue::Grey {
            assert_eq!(thickness, 0.0);
        } else if validity >= 0.9 {
            let error = f64::from(thickness) - depth_shapes::THICKNESS;
            // Half a voxel.
            assert!(error.abs() < 0.08, "{thickness} mm");
        }
    }
}

#[test]
fn layers_hold_equal_shares_of_the_cortex() {
    let sample = Shape::Convex.sample(16, CUBES);
    let map = solve(&sample);
    let layers = layers(&sample.labels, &map, NonZero::new(5).unwrap());
    let mut counts = [0_usize; 6];
    for ((&layer, &tissue), &depth) in layers
        .values()
        .iter()
        .zip(sample.labels.values())
        .zip(map.depth.values())
    {
        counts[usize::from(layer)] += 1;
        assert_eq!(layer > 0, tissue == Tissue::Grey);
        if layer > 0 {
            assert!((f32::from(layer) - 0.5 - 5.0 * depth).abs() <= 0.5);
        }
    }
    let grey: usize = counts[1..].iter().sum();
    for &count in &counts[1..] {
        let share = count as f64 / grey as f64;
        // The outermost ones are cut by the staircase of the labels.
        assert!((share - 0.2).abs() < 0.01, "{counts:?}");
    }
}

#[track_caller]
fn assert_same(found: &Volume<f32>, expected: impl Fn([usize; 3]) -> f32) {
    let mut worst = 0.0_f32;
    for (at, &value) in found.array().indexed_iter() {
        worst = worst.max((value - expected([at.0, at.1, at.2])).abs());
    }
    assert!(worst <= 1e-5, "differs by {worst}");
}

#[test]
fn swapping_csf_and_white_mirrors_depth() {
    let (convex, concave) = (
        solve(&Shape::Convex.sample(16, CUBES)),
        solve(&Shape::Concave.sample(16, CUBES)),
    );
    assert_same(&concave.depth, |[x, y, z]| {
        1.0 - convex.depth.array()[[x, y, z]]
    });
}

/// The same sheet with its axes in another order and reversed.
fn turned(labels: &Volume<Tissue>, axes: [usize; 3], flip: [bool; 3]) -> Volume<Tissue> {
    let spacing = labels.grid.spacing();
    let grid = Grid {
        shape: axes.map(|axis| labels.grid.shape[axis]),
        voxel_to_world: Affine::scaling(axes.map(|axis| spacing[axis])),
    };
    Volume::from_fn(grid, |(x, y, z)| {
        labels.array()[back([x, y, z], axes, flip, grid.shape)]
    })
}

/// Where a voxel of the turned sheet comes from.
fn back(at: [usize; 3], axes: [usize; 3], flip: [bool; 3], shape: [usize; 3]) -> [usize; 3] {
    let mut original = [0; 3];
    for new in 0..3 {
        original[axes[new]] = if flip[new] {
            shape[new] - 1 - at[new]
        } else {
            at[new]
        };
    }
    original
}

#[test]
fn depth_does_not_depend_on_the_order_and_direction_of_axes() {
    for (shape, ratio) in [
        (Shape::Convex, CUBES),
        (Shape::Fold, CUBES),
        (Shape::Cylinder, [1.0, 1.0, 2.0]),
    ] {
        // An odd number of voxels, so that a flip also swaps the colours of the chessboard.
        let sample = shape.sample(10, ratio);
        let expected = solve(&sample);
        for (axes, flip) in [
            ([0, 1, 2], [true, false, false]),
            ([1, 2, 0], [false, false, false]),
            ([2, 1, 0], [false, true, true]),
        ] {
            let labels = turned(&sample.labels, axes, flip);
            let found = compute(&labels, &Silent).unwrap();
            let size = labels.grid.shape;
            assert_same(&found.depth, |at| {
                expected.depth.array()[back(at, axes, flip, size)]
            });
        }
    }
}

#[test]
fn one_thread_gives_the_same_bytes_as_three() {
    let sample = Shape::Fold.sample(12, CUBES);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| solve(&sample))
    };
    let (one, three) = (run(1), run(3));
    let bits = |volume: &Volume<f32>| -> Vec<u32> {
        volume
            .values()
            .iter()
            .map(|value| value.to_bits())
            .collect()
    };
    assert_eq!(bits(&one.depth), bits(&three.depth));
    assert_eq!(bits(&one.validity), bits(&three.validity));
    assert_eq!(one, three);
}

#[test]
fn a_single_slice_has_a_depth_and_a_warning() {
    let radius = |x: usize, y: usize| {
        let (x, y) = (x as f64 - 24.3, y as f64 - 23.8);
        (x * x + y * y).sqrt() * 0.25
    };
    let share = |r: f64| (25.0 - r * r) / (25.0 - 6.25);
    let grid = Grid {
        shape: [49, 49, 1],
        voxel_to_world: Affine::scaling([0.25, 0.25, 4.0]),
    };
    let truth = Volume::from_fn(grid, |(x, y, _)| share(radius(x, y)));
    let labels = truth.map(|depth| match depth {
        depth if depth < 0.0 => Tissue::Csf,
        depth if depth > 1.0 => Tissue::White,
        _ => Tissue::Grey,
    });
    let sample = Sample { truth, labels };
    let map = solve(&sample);
    assert_errors(&sample, &map, Where::All, (0.018, 0.045));
    assert_eq!(map.warnings.len(), 1);
    assert!(map.warnings[0].contains("one voxel along 1 of 3 axes"));
    assert!(
        map.validity
            .values()
            .iter()
            .all(|&validity| validity == 1.0)
    );
}

#[test]
fn an_island_is_invalid_and_reported_and_changes_nothing_else() {
    let sample = Shape::Convex.sample(8, CUBES);
    let mut labels = sample.labels.clone();
    let corner = [(0, 0), (1, 0), (0, 1)].map(|(x, y)| x + labels.grid.shape[0] * y);
    for flat in corner {
        labels.values_mut()[flat] = Tissue::Grey;
    }
    let (whole, map) = (solve(&sample), compute(&labels, &Silent).unwrap());
    for flat in corner {
        assert_eq!(
            (map.depth.values()[flat], map.validity.values()[flat]),
            (0.5, 0.0)
        );
    }
    assert_eq!(map.warnings.len(), 1);
    assert!(map.warnings[0].starts_with("3 grey voxels lie in pieces"));
    let differing = whole.depth.values().iter().zip(map.depth.values());
    assert_eq!(differing.filter(|(a, b)| a != b).count(), 3);
}

#[test]
fn doubtful_input_is_named_in_warnings() {
    let thin = Shape::Slab.sample(3, CUBES);
    let map = solve(&thin);
    assert!(
        map.warnings
            .iter()
            .any(|text| text.contains("voxels thick"))
    );
    assert!(
        map.warnings
            .iter()
            .any(|text| text.contains("face of the image"))
    );
    let mut labels = Shape::Convex.labels(8, [1.0, 1.0, 6.0]);
    labels.grid.voxel_to_world = labels
        .grid
        .voxel_to_world
        .after(&Affine::scaling([10.0; 3]));
    let map = compute(&labels, &Silent).unwrap();
    assert!(
        map.warnings
            .iter()
            .any(|text| text.contains("6.0 times longer"))
    );
    assert!(
        map.warnings
            .iter()
            .any(|text| text.contains("outside of 0.2 to 10 mm"))
    );
}

#[test]
fn banks_that_touch_are_named_in_a_warning() {
    // Two flat banks with a sulcus between them that is closed over most of its length.
    let grid = Grid {
        shape: [60, 40, 12],
        voxel_to_world: Affine::scaling([0.3; 3]),
    };
    let labels = |closed: bool| {
        Volume::from_fn(grid, |(x, y, _)| match y {
            0..8 | 32.. => Tissue::White,
            19..21 if x < 20 || !closed => Tissue::Csf,
            _ => Tissue::Grey,
        })
    };
    for (closed, expected) in [(false, 0), (true, 1)] {
        let map = compute(&labels(closed), &Silent).unwrap();
        assert!(map.depth.values().iter().all(|depth| depth.is_finite()));
        for words in [
            "facing banks of a sulcus may touch",
            "the Laplace function rises by less than 0.3",
        ] {
            let naming = map.warnings.iter().filter(|text| text.contains(words));
            assert_eq!(naming.count(), expected, "{words}: {:?}", map.warnings);
        }
    }
}

#[test]
fn white_matter_without_a_cortex_is_counted() {
    let mut labels = Shape::Convex.labels(8, CUBES);
    let [nx, ny, _] = labels.grid.shape;
    // A spike of white matter in the corner, where all else is CSF.
    labels.values_mut()[1 + nx * (1 + ny)] = Tissue::White;
    let map = compute(&labels, &Silent).unwrap();
    assert_eq!(
        map.warnings,
        ["CSF touches white matter at 6 voxel faces: depth steps from 0 to 1 there"]
    );
}

#[test]
fn two_slices_have_a_depth() {
    let grid = Grid {
        shape: [30, 20, 2],
        voxel_to_world: Affine::scaling([0.25, 0.25, 0.5]),
    };
    let labels = Volume::from_fn(grid, |(x, _, _)| match x {
        0..7 => Tissue::Csf,
        7..21 => Tissue::Grey,
        _ => Tissue::White,
    });
    let map = compute(&labels, &Silent).unwrap();
    for ((x, _, _), &depth) in map.depth.array().indexed_iter() {
        let expected = ((x as f32 - 6.5) / 14.0).clamp(0.0, 1.0);
        assert!((depth - expected).abs() < 1e-3);
    }
}

#[test]
fn a_missing_tissue_is_an_error() {
    let labels = Shape::Convex.labels(4, CUBES);
    let without = |missing: Tissue, instead: Tissue| {
        let labels = labels.map(|tissue| if tissue == missing { instead } else { tissue });
        compute(&labels, &Silent).unwrap_err()
    };
    let no_white = without(Tissue::White, Tissue::Csf);
    assert!(matches!(no_white, DepthError::NoWhite { .. }), "{no_white}");
    let no_csf = without(Tissue::Csf, Tissue::White);
    assert!(matches!(no_csf, DepthError::NoCsf { .. }), "{no_csf}");
    let no_grey = without(Tissue::Grey, Tissue::White);
    assert!(matches!(no_grey, DepthError::NoGrey { .. }), "{no_grey}");
}

#[test]
fn a_grid_without_voxel_size_is_an_error() {
    let mut labels = Shape::Convex.labels(4, CUBES);
    labels.grid.voxel_to_world = Affine::scaling([1.0, 0.0, 1.0]);
    let error = compute(&labels, &Silent).unwrap_err();
    assert_eq!(
        error,
        DepthError::Spacing {
            axis: 1,
            spacing_mm: 0.0
        }
    );
}

#[test]
fn mostly_one_sided_grey_matter_is_an_error() {
    let grid = Grid {
        shape: [12, 1, 1],
        voxel_to_world: Affine::IDENTITY,
    };
    let labels = Volume::from_fn(grid, |(x, _, _)| match x {
        0 | 5 => Tissue::Csf,
        1..5 | 6 => Tissue::Grey,
        _ => Tissue::White,
    });
    assert_eq!(
        compute(&labels, &Silent).unwrap_err(),
        DepthError::MostlyOneSided {
            one_sided: 4,
            grey: 5
        }
    );
}

#[test]
fn labels_without_a_tissue_are_listed_with_counts() {
    let grid = Grid {
        shape: [3, 2, 1],
        voxel_to_world: Affine::IDENTITY,
    };
    let labels = Volume::from_vec(grid, vec![0, 50, 100, 50, 7, 200]).unwrap();
    let error = tissues_from_labels(&labels, &Labels::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "labels without a tissue in the segmentation: 7 (1 voxels), 50 (2 voxels); the mapping \
         knows [0, 100, 200]"
    );
    let mapping = Labels {
        csf: vec![0, 7],
        grey: vec![100, 50],
        white: vec![200],
    };
    let tissues = tissues_from_labels(&labels, &mapping).unwrap();
    assert_eq!(tissues.values()[3], Tissue::Grey);
    assert_eq!(tissues.values()[4], Tissue::Csf);
}

#[test]
fn a_missing_tissue_is_named_with_its_labels_and_what_was_found() {
    let grid = Grid {
        shape: [3, 1, 1],
        voxel_to_world: Affine::IDENTITY,
    };
    let mapping = Labels {
        white: vec![200, 201],
        ..Labels::default()
    };
    for (values, expected) in [
        (
            [0, 100, 0],
            "no white matter (label 200, 201) in the segmentation: found 0 (2 voxels), 100 (1 voxels)",
        ),
        (
            [201, 100, 200],
            "no CSF (label 0) in the segmentation: found 100 (1 voxels), 200 (1 voxels), 201 (1 voxels)",
        ),
        (
            [0, 0, 0],
            "no grey matter (label 100) in the segmentation: found 0 (3 voxels)",
        ),
    ] {
        let labels = Volume::from_vec(grid, values.to_vec()).unwrap();
        let error = tissues_from_labels(&labels, &mapping).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_request_to_stop_is_obeyed() {
    struct Impatient;
    impl Observer for Impatient {
        fn step(&self, _: &Step) {}
    }
    impl Cancel for Impatient {
        fn cancelled(&self) -> bool {
            true
        }
    }
    let labels = Shape::Convex.labels(4, CUBES);
    let error = compute(&labels, &Impatient).unwrap_err();
    assert!(matches!(error, DepthError::Interrupted(_)));
}

#[test]
fn progress_never_goes_back() {
    #[derive(Default)]
    struct Fractions(std::sync::Mutex<Vec<f64>>);
    impl Cancel for Fractions {}
    impl Observer for Fractions {
        fn step(&self, step: &Step) {
            self.0.lock().unwrap().push(step.fraction);
        }
    }
    let seen = Fractions::default();
    compute(&Shape::Slab.labels(8, CUBES), &seen).unwrap();
    let fractions = seen.0.into_inner().unwrap();
    assert!(fractions.is_sorted(), "{fractions:?}");
    assert_eq!(fractions.last(), Some(&1.0));
}
