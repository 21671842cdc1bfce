//! What must not change a result: voxel axes, units of length, number of threads.

use alignment_api::RegistrationParameters;

use crate::phantom::{Axes, PLAIN, Phantom};

/// Largest and mean distance of two forward fields at the same places, in phantom units.
fn distance(a: &Phantom, b: &Phantom) -> (f64, f64) {
    let parameters = RegistrationParameters::default();
    let (found, other) = (
        a.register(&parameters).forward,
        b.register(&parameters).forward,
    );
    let to_voxel = b.fixed.grid.voxel_to_world.inverse().unwrap();
    let [nx, ny, _] = b.fixed.grid.shape;
    let (mut max, mut sum, mut count) = (0.0_f64, 0.0, 0.0);
    a.for_cortex(|p, index| {
        let voxel = to_voxel
            .apply(p.map(|value| value * b.unit))
            .map(f64::round);
        let there = voxel[0] as usize + nx * (voxel[1] as usize + ny * voxel[2] as usize);
        let square: f64 = (0..3)
            .map(|c| {
                let here = found.components[c][index] as f64 / a.unit;
                (here - other.components[c][there] as f64 / b.unit).powi(2)
            })
            .sum();
        max = max.max(square.sqrt());
        sum += square.sqrt();
        count += 1.0;
    });
    (max, sum / count)
}

#[test]
fn voxel_axes_do_not_matter() {
    let plain = Phantom::new(PLAIN, 1.0);
    let turned = [
        Axes {
            order: [0, 1, 2],
            flipped: [true, false, true],
        },
        Axes {
            order: [2, 0, 1],
            flipped: [false, true, false],
        },
    ];
    for axes in turned {
        let (max, mean) = distance(&plain, &Phantom::new(axes, 1.0));
        // Same equations in another order of summation: f32 rounding through 24 iterations.
        assert!(max < 0.01 && mean < 0.001, "{max} {mean}");
    }
}

#[test]
fn units_of_length_do_not_matter() {
    // The same numbers read as µm: all lengths a thousand times larger.
    let (max, mean) = distance(&Phantom::new(PLAIN, 1.0), &Phantom::new(PLAIN, 1e3));
    assert!(max < 0.01 && mean < 0.001, "{max} {mean}");
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    same_for_any_number_of_threads(&Phantom::new(PLAIN, 1.0));
}

#[test]
fn nor_does_it_where_columns_are_doubted() {
    same_for_any_number_of_threads(&Phantom::guessed_beside_faces());
}

fn same_for_any_number_of_threads(phantom: &Phantom) {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| phantom.register(&RegistrationParameters::default()))
    };
    let (one, three) = (run(1), run(3));
    for (a, b) in [
        (&one.forward, &three.forward),
        (&one.inverse, &three.inverse),
    ] {
        let bits = |field: &aligner::field::DisplacementField| -> Vec<u32> {
            field
                .components
                .iter()
                .flatten()
                .map(|value| value.to_bits())
                .collect()
        };
        assert_eq!(bits(a), bits(b));
    }
    assert_eq!(one.levels, three.levels);
}
