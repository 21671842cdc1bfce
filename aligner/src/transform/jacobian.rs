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

/// Displacements of one plane of voxels in voxels, by component.
type Plane = [Vec<f32>; 3];

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
    let mut low = vec![0.0; nx - 1];
    let mut high = vec![0.0; nx - 1];
    for y in 0..ny - 1 {
        low.fill(f32::INFINITY);
        high.fill(f32::NEG_INFINITY);
        for corner in 0..8 {
            let corner = [corner & 1, corner >> 1 & 1, corner >> 2];
            corner_extremes(&planes, nx, y, corner, [&mut low, &mut high]);
        }
        for (low, high) in low.iter().zip(&high) {
            result.min = result.min.min(*low as f64);
            result.max = result.max.max(*high as f64);
            result.folded_cells += u64::from(*low <= 0.0);
        }
    }
    result
}

fn plane_in_voxels(field: &DisplacementField, to_voxel: &Affine, z: usize) -> Plane {
    let plane = field.grid.shape[0] * field.grid.shape[1];
    let m = to_voxel.linear().map(|row| row.map(|value| value as f32));
    let parts = field
        .components
        .each_ref()
        .map(|component| &component[z * plane..(z + 1) * plane]);
    m.map(|row| {
        let [u, v, w] = parts;
        let vectors = u.iter().zip(v).zip(w);
        vectors
            .map(|((u, v), w)| row[0] * u + row[1] * v + row[2] * w)
            .collect()
    })
}

/// Lowers `low` and raises `high` to the determinants at one corner of each cell of a row.
fn corner_extremes(
    planes: &[Plane; 2],
    nx: usize,
    y: usize,
    [i, j, k]: [usize; 3],
    [low, high]: [&mut [f32]; 2],
) {
    let n = nx - 1;
    // The four corners of a cell that end the three edges at this corner: along x, the edge lies in
    // row j of plane k; along y, in column i of plane k; along z, in column i and row j.
    let line = |k: usize, j: usize, i: usize, component: usize| {
        let start = (y + j) * nx + i;
        &planes[k][component][start..start + n]
    };
    let ends: [[[&[f32]; 2]; 3]; 3] = std::array::from_fn(|component| {
        [
            [line(k, j, 0, component), line(k, j, 1, component)],
            [line(k, 0, i, component), line(k, 1, i, component)],
            [line(0, j, i, component), line(1, j, i, component)],
        ]
    });
    let [[ax, bx, cx], [ay, by, cy], [az, bz, cz]] = ends;
    let (low, high) = (&mut low[..n], &mut high[..n]);
    // Spelled out, so that the loop runs on several cells at once.
    for x in 0..n {
        let a = [
            ax[1][x] - ax[0][x] + 1.0,
            ay[1][x] - ay[0][x],
            az[1][x] - az[0][x],
        ];
        let b = [
            bx[1][x] - bx[0][x],
            by[1][x] - by[0][x] + 1.0,
            bz[1][x] - bz[0][x],
        ];
        let c = [
            cx[1][x] - cx[0][x],
            cy[1][x] - cy[0][x],
            cz[1][x] - cz[0][x] + 1.0,
        ];
        let determinant = a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
            + a[2] * (b[0] * c[1] - b[1] * c[0]);
        low[x] = if determinant < low[x] {
            determinant
        } else {
            low[x]
        };
        high[x] = if determinant > high[x] {
            determinant
        } else {
            high[x]
        };
    }
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
