//! The inverse of a displacement field on its own grid.

use rayon::prelude::*;

use super::LEAF;
use crate::{interpolate::Locator, wide::wide};

/// Most fixed-point steps per voxel.
const MOST_STEPS: usize = 20;
/// A step shorter than this many voxels ends the search.
const CLOSE_ENOUGH: f32 = 1e-4;
/// Voxels that are refined together.
const GROUP: usize = 16;
/// Steps that are compared side by side.
const LANES: usize = 8;

/// Improves `inverse`, in place, until forward(inverse(x)) = x: v(x) ← −u(x + v(x)).
///
/// Both fields are in voxels of the same grid. The fixed point exists where |∇u| < 1 (Chen et al.
/// 2008, "A simple fixed-point approach to invert a deformation field"); starting from the
/// exponential of the negative velocity, only the interpolation error is left to remove.
pub(super) fn refine_inverse(
    forward: &[Vec<f32>; 3],
    inverse: &mut [Vec<f32>; 3],
    shape: [usize; 3],
) {
    let [nx, ny, _] = shape;
    let locator = Locator::new(shape);
    let forward = forward.each_ref().map(Vec::as_slice);
    let [inverse_x, inverse_y, inverse_z] = inverse;
    inverse_x
        .par_chunks_mut(nx)
        .zip(inverse_y.par_chunks_mut(nx))
        .zip(inverse_z.par_chunks_mut(nx))
        .enumerate()
        .with_min_len(16)
        .with_max_len(LEAF * ny)
        .for_each_init(Scratch::default, |scratch, (row, ((x, y), z))| {
            let at = [row % ny, row / ny];
            for first in (0..nx).step_by(GROUP) {
                let part = first..(first + GROUP).min(nx);
                let inverse = [&mut *x, &mut *y, &mut *z].map(|out| &mut out[part.clone()]);
                refine(&locator, forward, inverse, [first, at[0], at[1]], scratch);
            }
        });
}

/// Working memory of one task, for a group of voxels.
#[derive(Default)]
struct Scratch {
    positions: [Vec<f32>; 3],
    found: [Vec<f32>; 3],
}

/// The fixed-point steps for neighbours along x, the first of them at `start`, until the slowest of
/// them is there.
fn refine(
    locator: &Locator,
    forward: [&[f32]; 3],
    mut inverse: [&mut [f32]; 3],
    start: [usize; 3],
    Scratch { positions, found }: &mut Scratch,
) {
    let n = inverse[0].len();
    let rows = positions.iter_mut().chain(&mut *found);
    rows.for_each(|row| row.resize(n, 0.0));
    for _ in 0..MOST_STEPS {
        for (axis, (positions, inverse)) in positions.iter_mut().zip(&inverse).enumerate() {
            for (i, (position, inverse)) in positions.iter_mut().zip(&**inverse).enumerate() {
                let offset = if axis == 0 { i } else { 0 };
                *position = (start[axis] + offset) as f32 + inverse;
            }
        }
        locator.values(
            positions.each_ref().map(Vec::as_slice),
            forward,
            found.each_mut().map(Vec::as_mut_slice),
        );
        let mut longest = 0.0_f32;
        for (inverse, found) in inverse.iter_mut().zip(&*found) {
            let step = wide(
                #[inline(always)]
                || take(inverse, found),
            );
            longest = longest.max(step);
        }
        if longest < CLOSE_ENOUGH {
            break;
        }
    }
}

/// Takes the negative of what was found, and returns the largest change.
#[inline(always)]
fn take(inverse: &mut [f32], found: &[f32]) -> f32 {
    let mut longest = [0.0_f32; LANES];
    let (groups, rest) = inverse.as_chunks_mut::<LANES>();
    let (found_groups, found_rest) = found.as_chunks::<LANES>();
    for (inverse, found) in groups.iter_mut().zip(found_groups) {
        for lane in 0..LANES {
            let step = (inverse[lane] + found[lane]).abs();
            longest[lane] = if step > longest[lane] {
                step
            } else {
                longest[lane]
            };
            inverse[lane] = -found[lane];
        }
    }
    for (inverse, found) in rest.iter_mut().zip(found_rest) {
        longest[0] = longest[0].max((*inverse + found).abs());
        *inverse = -found;
    }
    longest.into_iter().fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shear_is_inverted() {
        let shape = [12, 10, 8];
        let mut forward = [vec![0.0_f32; 960], vec![0.0; 960], vec![0.0; 960]];
        for i in 0..960 {
            forward[0][i] = 0.2 * ((i / 12 % 10) as f32 - 4.5);
            forward[2][i] = 0.1;
        }
        let mut inverse = [vec![0.0_f32; 960], vec![0.0; 960], vec![0.0; 960]];
        refine_inverse(&forward, &mut inverse, shape);
        for i in 0..960 {
            let expected = -0.2 * ((i / 12 % 10) as f32 - 4.5);
            assert!((inverse[0][i] - expected).abs() < 1e-4);
            assert!((inverse[2][i] + 0.1).abs() < 1e-6);
        }
    }
}
