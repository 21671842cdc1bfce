//! Soft landmarks in the Gauss-Newton equations.
//!
//! A pair pulls with weight r²·V/σ² on q − φ(p): r² is the mean square depth residual, σ the
//! landmark's uncertainty, and V the volume over which the error of depth is correlated, so that
//! r²·V stands against the data term as one independent observation does.

use super::{
    exponential::square, lattice::LatticeField, normal::NormalEquations, problem::Problem,
};
use crate::interpolate::Locator;

/// Adds the pairs of `problem` to the equations.
///
/// `half_flow` is exp(v/2) on the lattice, in cells; a cell has `block` patch voxels along each axis.
/// `strength` is r²·V/σ².
pub(super) fn add_landmarks(
    equations: &mut NormalEquations,
    problem: &Problem,
    half_flow: &LatticeField,
    block: f64,
    strength: f64,
) {
    if problem.landmarks.is_empty() {
        return;
    }
    let mut flow = LatticeField::zero(half_flow.shape);
    square(half_flow, &mut flow);
    let shape = flow.shape;
    let locator = Locator::with_slab(shape, 3 * flow.plane());
    let cell_size = problem.spacing.map(|size| size * block);
    let density = strength / cell_size.iter().product::<f64>();
    for pair in &problem.landmarks {
        let position = pair.start.map(|index| (index + 0.5) / block - 0.5);
        let cell = locator.cell(position.map(|value| value as f32));
        let pull: [f32; 3] = std::array::from_fn(|a| {
            let wanted = (pair.target[a] - pair.start[a]) / block;
            let moved = cell.value(flow.component(a)) as f64;
            ((wanted - moved) * cell_size[a]) as f32
        });
        for corner in 0..8 {
            let mut share = density * pair.weight;
            let index = std::array::from_fn(|a| {
                let low = position[a].floor();
                let upper = (corner >> a) & 1;
                let fraction = position[a] - low;
                share *= if upper == 1 { fraction } else { 1.0 - fraction };
                (low as i64 + upper).clamp(0, shape[a] as i64 - 1) as usize
            });
            equations.add_point(index, share as f32, pull);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        affine::Affine,
        grid::Grid,
        registration::{LandmarkPair, RegistrationInput},
        volume::Volume,
    };

    #[test]
    fn the_pulls_on_the_cells_add_up_to_the_landmarks_pull() {
        let grid = Grid {
            shape: [24, 24, 24],
            voxel_to_world: Affine::scaling([-0.5, 0.5, 0.5]),
        };
        let depth = Volume::from_fn(grid, |(x, _, _)| x as f32 / 23.0);
        let pairs = [LandmarkPair {
            fixed_mm: [-5.0, 6.0, 4.0],
            moving_mm: [-5.5, 6.0, 5.0],
            weight: 2.0,
        }];
        let input = RegistrationInput {
            fixed: &depth,
            validity: None,
            moving: &depth,
            fixed_to_moving: Affine::IDENTITY,
            landmarks: &pairs,
        };
        let parameters = alignment_api::RegistrationParameters::default().effective();
        let problem = Problem::prepare(&input, &parameters).unwrap();
        let shape = [8, 8, 8];
        let mut equations = NormalEquations::zero(shape);
        add_landmarks(
            &mut equations,
            &problem,
            &LatticeField::zero(shape),
            3.0,
            27.0,
        );
        let force = equations.right_side();
        // Strength 27 over cells of 27 voxels, weight 2; one voxel along x (flipped), two along z.
        for (axis, expected) in [2.0, 0.0, 4.0].into_iter().enumerate() {
            let planes = force.values.chunks_exact(64).skip(axis).step_by(3);
            let sum: f32 = planes.flatten().sum();
            assert!((sum - expected).abs() < 1e-4, "axis {axis}: {sum}");
        }
    }
}
