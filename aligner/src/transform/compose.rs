//! How far two displacement fields are from being inverse to each other.

use rayon::prelude::*;

use crate::{affine::Affine, field::DisplacementField, interpolate::Locator};

/// Voxels along the border that are left out: there, points leave the grid and the field beyond
/// is a guess.
const MARGIN: usize = 2;

/// Mean and maximum of |forward(inverse(x)) − x| in mm over the voxels x of the inverse's grid
/// that lie at least two voxels off the border.
///
/// Both fields are world displacements (mm, RAS+); their grids may differ. The result is (0, 0) if
/// no voxel is left, or if the grid of `forward` cannot be inverted.
pub fn compose_residual(forward: &DisplacementField, inverse: &DisplacementField) -> (f64, f64) {
    let Some(world_to_voxel) = forward.grid.voxel_to_world.inverse() else {
        return (0.0, 0.0);
    };
    let [_, ny, nz] = inverse.grid.shape;
    let rows: Vec<(f64, f64, usize)> = (MARGIN..nz.saturating_sub(MARGIN))
        .into_par_iter()
        .map(|z| {
            let rows = MARGIN..ny.saturating_sub(MARGIN);
            rows.map(|y| row(forward, inverse, &world_to_voxel, [y, z]))
                .fold((0.0, 0.0, 0), add)
        })
        .collect();
    let (sum, max, count) = rows.into_iter().fold((0.0, 0.0, 0), add);
    (sum / count.max(1) as f64, max)
}

fn add(a: (f64, f64, usize), b: (f64, f64, usize)) -> (f64, f64, usize) {
    (a.0 + b.0, a.1.max(b.1), a.2 + b.2)
}

fn row(
    forward: &DisplacementField,
    inverse: &DisplacementField,
    world_to_voxel: &Affine,
    [y, z]: [usize; 2],
) -> (f64, f64, usize) {
    let [nx, ny, _] = inverse.grid.shape;
    let locator = Locator::new(forward.grid.shape);
    let mut total = (0.0, 0.0, 0);
    for x in MARGIN..nx.saturating_sub(MARGIN) {
        let index = x + nx * (y + ny * z);
        let back: [f64; 3] = std::array::from_fn(|c| inverse.components[c][index] as f64);
        let start = inverse
            .grid
            .voxel_to_world
            .apply([x as f64, y as f64, z as f64]);
        let reached = std::array::from_fn(|axis| start[axis] + back[axis]);
        let cell = locator.cell(world_to_voxel.apply(reached).map(|value| value as f32));
        let square: f64 = (0..3)
            .map(|c| back[c] + cell.value(&forward.components[c]) as f64)
            .map(|difference| difference * difference)
            .sum();
        total = add(total, (square.sqrt(), square.sqrt(), 1));
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Grid;

    fn shift(by: [f32; 3]) -> DisplacementField {
        let grid = Grid {
            shape: [8, 9, 10],
            voxel_to_world: Affine::scaling([-0.5, 0.5, 2.0]),
        };
        DisplacementField {
            grid,
            components: by.map(|value| vec![value; grid.voxels()]),
        }
    }

    #[test]
    fn opposite_shifts_are_inverse() {
        let (mean, max) = compose_residual(&shift([0.3, -1.0, 2.0]), &shift([-0.3, 1.0, -2.0]));
        assert!(mean < 1e-6 && max < 1e-6);
    }

    #[test]
    fn the_distance_is_in_mm() {
        let (mean, max) = compose_residual(&shift([0.0, 0.0, 2.0]), &shift([0.0, 0.0, -1.0]));
        assert!((mean - 1.0).abs() < 1e-6 && (max - 1.0).abs() < 1e-6);
    }
}
