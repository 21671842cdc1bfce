//! Jacobian determinants at the corners of cells: a strict test for folding.

use rayon::prelude::*;

use crate::{affine::Affine, field::DisplacementField};

/// Extremes of the Jacobian determinant of x ↦ x + u(x) over all cell corners.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CornerJacobian {
    /// Smallest determinant; 1 for the identity, ≤ 0 where the transform folds.
    pub min: f64,
    /// Largest determinant.
    pub max: f64,
    /// Cells with a determinant ≤ 0 at one or more corners.
    pub folded_cells: u64,
}

/// Determinants at the eight corners of every cell between voxels.
///
/// Inside a cell the field is trilinear, so that its derivative at a corner is made of the three
/// edges that meet there; a positive determinant at all eight corners makes the cell locally
/// injective there, which central differences cannot tell (they step over a fold of one voxel).
/// Determinants are relative to the identity and thus do not depend on the orientation or the
/// voxel size of the grid. A grid without cells, or one that cannot be inverted, gives 1, 1, 0.
pub fn corner_jacobian(field: &DisplacementField) -> CornerJacobian {
    let whole = CornerJacobian {
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        folded_cells: 0,
    };
    let identity = CornerJacobian {
        min: 1.0,
        max: 1.0,
        folded_cells: 0,
    };
    let Some(world_to_voxel) = field.grid.voxel_to_world.inverse() else {
        return identity;
    };
    if field.grid.shape.iter().any(|&n| n < 2) {
        return identity;
    }
    let slabs: Vec<CornerJacobian> = (0..field.grid.shape[2] - 1)
        .into_par_iter()
        .map(|z| slab(field, &world_to_voxel, z))
        .collect();
    slabs.into_iter().fold(whole, |a, b| CornerJacobian {
        min: a.min.min(b.min),
        max: a.max.max(b.max),
        folded_cells: a.folded_cells + b.folded_cells,
    })
}

/// The cells between planes z and z + 1.
fn slab(field: &DisplacementField, world_to_voxel: &Affine, z: usize) -> CornerJacobian {
    let [nx, ny, _] = field.grid.shape;
    let planes = [
        plane_in_voxels(field, world_to_voxel, z),
        plane_in_voxels(field, world_to_voxel, z + 1),
    ];
    let mut result = CornerJacobian {
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        folded_cells: 0,
    };
    for y in 0..ny - 1 {
        for x in 0..nx - 1 {
            let i = x + nx * y;
            let cell = planes
                .each_ref()
                .map(|plane| [plane[i], plane[i + 1], plane[i + nx], plane[i + nx + 1]]);
            let (low, high) = extremes(&cell);
            result.min = result.min.min(low as f64);
            result.max = result.max.max(high as f64);
            result.folded_cells += u64::from(low <= 0.0);
        }
    }
    result
}

fn plane_in_voxels(field: &DisplacementField, to_voxel: &Affine, z: usize) -> Vec<[f32; 3]> {
    let plane = field.grid.shape[0] * field.grid.shape[1];
    let m = to_voxel.linear().map(|row| row.map(|value| value as f32));
    let [u, v, w] = field
        .components
        .each_ref()
        .map(|component| &component[z * plane..(z + 1) * plane]);
    u.iter()
        .zip(v)
        .zip(w)
        .map(|((u, v), w)| m.map(|row| row[0] * u + row[1] * v + row[2] * w))
        .collect()
}

/// Smallest and largest determinant over the corners of a cell, given as `[z][y·2 + x]`.
fn extremes(cell: &[[[f32; 3]; 4]; 2]) -> (f32, f32) {
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    let minus = |a: [f32; 3], b: [f32; 3]| [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
    for k in 0..2 {
        for j in 0..2 {
            for i in 0..2 {
                let mut a = minus(cell[k][2 * j + 1], cell[k][2 * j]);
                let mut b = minus(cell[k][2 + i], cell[k][i]);
                let mut c = minus(cell[1][2 * j + i], cell[0][2 * j + i]);
                a[0] += 1.0;
                b[1] += 1.0;
                c[2] += 1.0;
                let determinant = a[0] * (b[1] * c[2] - b[2] * c[1])
                    - a[1] * (b[0] * c[2] - b[2] * c[0])
                    + a[2] * (b[0] * c[1] - b[1] * c[0]);
                low = low.min(determinant);
                high = high.max(determinant);
            }
        }
    }
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Grid;

    fn linear_field(voxel_to_world: Affine, by: [[f64; 3]; 3]) -> DisplacementField {
        let grid = Grid {
            shape: [4, 5, 6],
            voxel_to_world,
        };
        let mut field = DisplacementField::zero(grid);
        let map = Affine::from_parts(by, [0.0; 3]);
        for z in 0..6 {
            for y in 0..5 {
                for x in 0..4 {
                    let world = voxel_to_world.apply([x as f64, y as f64, z as f64]);
                    let u = map.apply(world);
                    for c in 0..3 {
                        field.components[c][x + 4 * (y + 5 * z)] = u[c] as f32;
                    }
                }
            }
        }
        field
    }

    #[test]
    fn a_linear_map_has_its_determinant_on_any_grid() {
        let by = [[0.2, 0.1, 0.0], [0.0, -0.1, 0.3], [0.05, 0.0, 0.4]];
        let expected = 1.2 * (0.9 * 1.4) + 0.1 * (0.3 * 0.05);
        let flipped = Affine::from_parts(
            [[0.0, -0.4, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 2.0]],
            [1.0, 2.0, 3.0],
        );
        for grid in [Affine::IDENTITY, flipped, Affine::scaling([-1.0, 1.0, 1e3])] {
            let found = corner_jacobian(&linear_field(grid, by));
            assert!((found.min - expected).abs() < 1e-3, "{found:?}");
            assert!((found.max - expected).abs() < 1e-3);
            assert_eq!(found.folded_cells, 0);
        }
    }

    #[test]
    fn a_reflection_folds_every_cell() {
        let by = [[-2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]];
        let found = corner_jacobian(&linear_field(Affine::scaling([0.3; 3]), by));
        assert_eq!(found.folded_cells, 3 * 4 * 5);
        assert!((found.min + 1.0).abs() < 1e-3);
    }

    #[test]
    fn one_voxel_that_jumps_over_its_neighbour_folds() {
        let mut field = DisplacementField::zero(Grid {
            shape: [5, 5, 5],
            voxel_to_world: Affine::IDENTITY,
        });
        field.components[0][2 + 5 * (2 + 5 * 2)] = 1.5;
        // The eight cells that share the voxel; only those to its right collapse.
        assert_eq!(corner_jacobian(&field).folded_cells, 4);
    }

    #[test]
    fn a_single_plane_has_no_cells() {
        let field = DisplacementField::zero(Grid {
            shape: [5, 5, 1],
            voxel_to_world: Affine::IDENTITY,
        });
        assert_eq!(corner_jacobian(&field).folded_cells, 0);
        assert_eq!(corner_jacobian(&field).min, 1.0);
    }
}
