//! The images at one level of the pyramid.

use std::{borrow::Cow, sync::Arc};

use rayon::prelude::*;

use super::{cortex::Cortex, problem::Problem, smoothing::gaussian};
use crate::{affine::Affine, interpolate::Locator};

/// Smoothing of a level, in units of its voxel size.
const SIGMA_PER_VOXEL: f64 = 0.5;
/// A level needs this many voxels along every axis.
pub(super) const FEWEST_VOXELS: usize = 4;

/// One level: the fixed image on a coarser grid, the moving one smoothed alike on its own grid.
///
/// Lengths are in units of the mean patch voxel.
pub(super) struct Level<'a> {
    pub(super) shape: [usize; 3],
    pub(super) spacing: [f64; 3],
    pub(super) fixed: Cow<'a, [f32]>,
    pub(super) validity: Option<Cow<'a, [f32]>>,
    pub(super) moving: Cow<'a, [f32]>,
    pub(super) moving_shape: [usize; 3],
    /// Voxel of the level → voxel of the moving image.
    pub(super) to_moving: Affine,
    pub(super) cortex: Arc<Cortex>,
}

/// Voxels of a level: a level's voxel is a block of `shrink` patch voxels, the last perhaps partial.
pub(super) fn level_shape(shape: [usize; 3], shrink: usize) -> [usize; 3] {
    shape.map(|n| n.div_ceil(shrink.max(1)))
}

impl<'a> Level<'a> {
    /// Smooths and samples the images. At shrink factor 1 they are used as they are.
    pub(super) fn build(problem: &Problem<'a>, shrink: usize) -> Self {
        let (shape, spacing) = (problem.shape, problem.spacing);
        let coarse = level_shape(shape, shrink);
        let coarse_spacing = spacing.map(|size| size * shrink as f64);
        let down = |values: &'a [f32]| -> Cow<'a, [f32]> {
            if shrink == 1 {
                return Cow::Borrowed(values);
            }
            let sigma = SIGMA_PER_VOXEL * shrink as f64;
            let smooth = gaussian(values, shape, spacing.map(|size| sigma / size));
            Cow::Owned(block_centres(&smooth, shape, shrink))
        };
        let fixed = down(problem.fixed);
        let validity = problem.validity.map(down);
        let moving = if shrink == 1 {
            Cow::Borrowed(problem.moving)
        } else {
            let sigma = SIGMA_PER_VOXEL * shrink as f64;
            let sigmas = problem.moving_spacing.map(|size| sigma / size);
            Cow::Owned(gaussian(problem.moving, problem.moving_shape, sigmas))
        };
        let offset = block_offset(shrink);
        let to_fixed = Affine::translation([offset; 3]).after(&Affine::scaling([shrink as f64; 3]));
        let cortex = if shrink == 1 {
            Arc::clone(&problem.cortex)
        } else {
            let found = Cortex::find(&fixed, coarse, coarse_spacing, validity.as_deref());
            Arc::new(found)
        };
        Self {
            shape: coarse,
            spacing: coarse_spacing,
            fixed,
            validity,
            moving,
            moving_shape: problem.moving_shape,
            to_moving: problem.fixed_to_moving.after(&to_fixed),
            cortex,
        }
    }
}

/// Position of the first block's centre in patch voxels.
fn block_offset(shrink: usize) -> f64 {
    (shrink as f64 - 1.0) / 2.0
}

fn block_centres(values: &[f32], shape: [usize; 3], shrink: usize) -> Vec<f32> {
    let [nx, ny, nz] = level_shape(shape, shrink);
    let locator = Locator::new(shape);
    let centre = |index: usize| (index as f64 * shrink as f64 + block_offset(shrink)) as f32;
    let mut coarse = vec![0.0; nx * ny * nz];
    coarse
        .par_chunks_mut(nx)
        .enumerate()
        .for_each(|(row, out)| {
            for (x, out) in out.iter_mut().enumerate() {
                let position = [centre(x), centre(row % ny), centre(row / ny)];
                *out = locator.cell(position).value(values);
            }
        });
    coarse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_sampled_at_their_centres() {
        let shape = [9, 8, 4];
        let values: Vec<f32> = (0..9 * 8 * 4).map(|i| (i % 9) as f32).collect();
        let coarse = block_centres(&values, shape, 2);
        assert_eq!(level_shape(shape, 2), [5, 4, 2]);
        // The last block is half empty: its centre lies beyond the border and takes its value.
        assert_eq!(coarse[..5], [0.5, 2.5, 4.5, 6.5, 8.0]);
    }
}
