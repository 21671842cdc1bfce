//! Exponential of a stationary velocity: the flow at time 1.
//!
//! Scaling and squaring (Arsigny, Commowick, Pennec, Ayache 2006): the velocity is halved until it
//! is short against a cell, taken as a displacement, and composed with itself as often.

use rayon::prelude::*;

use super::{LEAF, lattice::LatticeField};
use crate::interpolate::Locator;

/// The flow starts from displacements of at most this many cells.
const LONGEST_START: f32 = 0.1;
/// Squarings even for short velocities, so that the result depends smoothly on the velocity.
const FEWEST_SQUARINGS: i32 = 3;
/// More squarings than this start below the resolution of f32.
const MOST_SQUARINGS: i32 = 24;
/// A velocity shorter than this many cells is no motion at all.
const NO_MOTION: f32 = 1e-6;

/// Displacement, in cells, of exp(`factor`·v) on the lattice of `velocity`.
///
/// `cell[a]` is the size of a cell along axis a in the velocity's unit of length.
pub(super) fn exponential(velocity: &LatticeField, factor: f32, cell: [f32; 3]) -> LatticeField {
    let [mut displacement, mut spare] = [(); 2].map(|()| LatticeField::zero(velocity.shape));
    set_exponential(&mut displacement, velocity, factor, cell, &mut spare);
    displacement
}

/// [`exponential`] into a field that is there already, with the help of another of that shape.
pub(super) fn set_exponential(
    displacement: &mut LatticeField,
    velocity: &LatticeField,
    factor: f32,
    cell: [f32; 3],
    spare: &mut LatticeField,
) {
    let longest = velocity.max_square(cell).sqrt() * factor.abs();
    let mut squarings = 0;
    if longest > NO_MOTION {
        squarings = FEWEST_SQUARINGS;
        while longest / power_of_two(squarings) > LONGEST_START && squarings < MOST_SQUARINGS {
            squarings += 1;
        }
    }
    let start = cell.map(|size| factor / size / power_of_two(squarings));
    displacement.set_scaled_axes(velocity, start);
    for _ in 0..squarings {
        square(displacement, spare);
        std::mem::swap(displacement, spare);
    }
}

fn power_of_two(exponent: i32) -> f32 {
    2.0_f32.powi(exponent)
}

/// `squared(x) = u(x) + u(x + u(x))`, in cells.
pub(super) fn square(u: &LatticeField, squared: &mut LatticeField) {
    let [nx, ny, _] = u.shape;
    let plane = nx * ny;
    let locator = Locator::with_slab(u.shape, 3 * plane);
    let components: [&[f32]; 3] = std::array::from_fn(|c| u.component(c));
    squared
        .values
        .par_chunks_mut(3 * plane)
        .zip(u.values.par_chunks(3 * plane))
        .enumerate()
        .with_max_len(LEAF)
        .for_each_init(
            || [(); 3].map(|()| vec![0.0; nx]),
            |positions, (z, (out, here))| {
                let (out_x, rest) = out.split_at_mut(plane);
                let (out_y, out_z) = rest.split_at_mut(plane);
                for y in 0..ny {
                    let row = nx * y..nx * (y + 1);
                    let steps: [&[f32]; 3] =
                        std::array::from_fn(|c| &here[c * plane..][row.clone()]);
                    reach(positions, [y, z], steps);
                    let mut out = [&mut *out_x, &mut *out_y, &mut *out_z]
                        .map(|component| &mut component[row.clone()]);
                    locator.values(
                        positions.each_ref().map(Vec::as_slice),
                        components,
                        out.each_mut().map(|row| &mut **row),
                    );
                    for (out, step) in out.into_iter().zip(steps) {
                        add(out, step);
                    }
                }
            },
        );
}

/// Where the steps of row (y, z) lead.
fn reach(positions: &mut [Vec<f32>; 3], [y, z]: [usize; 2], steps: [&[f32]; 3]) {
    let [along_x, along_y, along_z] = positions;
    for (x, (position, step)) in along_x.iter_mut().zip(steps[0]).enumerate() {
        *position = x as f32 + step;
    }
    for (positions, steps, start) in [(along_y, steps[1], y), (along_z, steps[2], z)] {
        for (position, step) in positions.iter_mut().zip(steps) {
            *position = start as f32 + step;
        }
    }
}

fn add(target: &mut [f32], values: &[f32]) {
    for (target, value) in target.iter_mut().zip(values) {
        *target += value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A smooth swirl that vanishes at the border, up to about two cells long.
    fn swirl(shape: [usize; 3]) -> LatticeField {
        let mut field = LatticeField::zero(shape);
        let plane = field.plane();
        for z in 0..shape[2] {
            for y in 0..shape[1] {
                for x in 0..shape[0] {
                    let at = [x, y, z];
                    let s: [f64; 3] =
                        std::array::from_fn(|a| at[a] as f64 / (shape[a] - 1) as f64 - 0.5);
                    let bump: f64 = s
                        .iter()
                        .map(|t| (t * std::f64::consts::PI).cos().powi(2))
                        .product();
                    let v = [-8.0 * s[1], 8.0 * s[0], 2.0 * (s[0] + s[1])];
                    for c in 0..3 {
                        field.values[(3 * z + c) * plane + x + shape[0] * y] = (bump * v[c]) as f32;
                    }
                }
            }
        }
        field
    }

    #[test]
    fn forward_and_backward_flow_cancel() {
        let velocity = swirl([24, 25, 26]);
        let forward = exponential(&velocity, 1.0, [1.0; 3]);
        let backward = exponential(&velocity, -1.0, [1.0; 3]);
        let [nx, ny, nz] = velocity.shape;
        let plane = nx * ny;
        let locator = Locator::with_slab(velocity.shape, 3 * plane);
        let mut worst = 0.0_f32;
        let mut longest = 0.0_f32;
        for (z, y, x) in
            (0..nz).flat_map(|z| (0..ny).flat_map(move |y| (0..nx).map(move |x| (z, y, x))))
        {
            let index = 3 * z * plane + x + nx * y;
            let u: [f32; 3] = std::array::from_fn(|c| forward.values[index + c * plane]);
            let cell = locator.cell([x as f32 + u[0], y as f32 + u[1], z as f32 + u[2]]);
            for c in 0..3 {
                worst = worst.max((u[c] + cell.value(backward.component(c))).abs());
                longest = longest.max(u[c].abs());
            }
        }
        // Trilinear sampling of a flow that bends over ~10 cells leaves some hundredths of a cell.
        assert!(longest > 1.0, "{longest}");
        assert!(worst < 0.03, "{worst}");
    }

    #[test]
    fn a_constant_velocity_is_its_own_flow() {
        let mut velocity = LatticeField::zero([4, 4, 4]);
        velocity.values.fill(0.7);
        let flow = exponential(&velocity, -0.5, [0.7, 1.4, 0.35]);
        let plane = velocity.plane();
        for (c, expected) in [-0.5, -0.25, -1.0].into_iter().enumerate() {
            assert!((flow.values[c * plane + 5] - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn no_velocity_is_no_motion() {
        let flow = exponential(&LatticeField::zero([3, 3, 3]), 1.0, [1.0; 3]);
        assert!(flow.values.iter().all(|value| *value == 0.0));
    }
}
