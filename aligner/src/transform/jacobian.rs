//! Jacobian determinants at the corners of cells: a strict test for folding.

use rayon::prelude::*;

use crate::{affine::Affine, field::DisplacementField, scratch::PerThread, wide::wide};

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
    let scratch: PerThread<Planes> = PerThread::new();
    let slabs: Vec<CornerJacobian> = (0..field.grid.shape[2] - 1)
        .into_par_iter()
        .with_max_len(LEAF)
        .map(|z| {
            scratch.with(|planes| {
                planes.move_to(field, &world_to_voxel, z);
                slab(&planes.values, field.grid.shape)
            })
        })
        .collect();
    slabs.into_iter().fold(whole, |a, b| CornerJacobian {
        min: a.min.min(b.min),
        max: a.max.max(b.max),
        folded_cells: a.folded_cells + b.folded_cells,
    })
}

/// Slabs that a thread takes at most at once: a thread that is done early waits for the other's last.
const LEAF: usize = 8;
/// Cells that are tested together.
const LANES: usize = 8;

/// Displacements of one plane of voxels in voxels, by component.
type Plane = [Vec<f32>; 3];

/// Two planes that lie on each other, in the place of the two before.
#[derive(Default)]
struct Planes {
    values: [Plane; 2],
    /// z of the upper one.
    upper: Option<usize>,
}

impl Planes {
    /// Planes z and z + 1.
    fn move_to(&mut self, field: &DisplacementField, world_to_voxel: &Affine, z: usize) {
        let [lower, upper] = &mut self.values;
        if self.upper == Some(z) {
            std::mem::swap(lower, upper);
        } else {
            plane_in_voxels(field, world_to_voxel, z, lower);
        }
        plane_in_voxels(field, world_to_voxel, z + 1, upper);
        self.upper = Some(z + 1);
    }
}

/// The cells between two planes.
fn slab(planes: &[Plane; 2], [nx, ny, _]: [usize; 3]) -> CornerJacobian {
    let mut result = CornerJacobian {
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        folded_cells: 0,
    };
    wide(
        #[inline(always)]
        || {
            for y in 0..ny - 1 {
                let mut x = 0;
                while x < nx - 1 {
                    x += if x + LANES < nx {
                        cells::<LANES>(planes, nx, [x, y], &mut result)
                    } else {
                        cells::<1>(planes, nx, [x, y], &mut result)
                    };
                }
            }
        },
    );
    result
}

fn plane_in_voxels(field: &DisplacementField, to_voxel: &Affine, z: usize, out: &mut Plane) {
    let plane = field.grid.shape[0] * field.grid.shape[1];
    let m = to_voxel.linear().map(|row| row.map(|value| value as f32));
    let [u, v, w] = field
        .components
        .each_ref()
        .map(|component| &component[z * plane..(z + 1) * plane]);
    for (row, out) in m.iter().zip(out) {
        let vectors = u.iter().zip(v).zip(w);
        out.clear();
        out.extend(vectors.map(|((u, v), w)| row[0] * u + row[1] * v + row[2] * w));
    }
}

/// Adds N cells in a row along x to `result`; returns N.
#[inline(always)]
fn cells<const N: usize>(
    planes: &[Plane; 2],
    nx: usize,
    at: [usize; 2],
    result: &mut CornerJacobian,
) -> usize {
    let (mut low, mut high) = ([f32::INFINITY; N], [f32::NEG_INFINITY; N]);
    for corner in 0..8 {
        let corner = [corner & 1, corner >> 1 & 1, corner >> 2];
        let found = determinants::<N>(planes, nx, at, corner);
        for i in 0..N {
            low[i] = if found[i] < low[i] { found[i] } else { low[i] };
            high[i] = if found[i] > high[i] {
                found[i]
            } else {
                high[i]
            };
        }
    }
    let (mut lowest, mut highest, mut folded) = (f32::INFINITY, f32::NEG_INFINITY, 0);
    for i in 0..N {
        lowest = lowest.min(low[i]);
        highest = highest.max(high[i]);
        folded += u32::from(low[i] <= 0.0);
    }
    result.min = result.min.min(lowest as f64);
    result.max = result.max.max(highest as f64);
    result.folded_cells += folded as u64;
    N
}

/// Determinants at one corner of N cells in a row along x.
#[inline(always)]
fn determinants<const N: usize>(
    planes: &[Plane; 2],
    nx: usize,
    [x, y]: [usize; 2],
    [i, j, k]: [usize; 3],
) -> [f32; N] {
    let values = |k: usize, j: usize, i: usize, component: usize| -> [f32; N] {
        let start = (y + j) * nx + x + i;
        let mut values = [0.0; N];
        values.copy_from_slice(&planes[k][component][start..start + N]);
        values
    };
    // The three edges that meet at this corner: along x, the edge lies in row j of plane k; along y,
    // in column i of plane k; along z, in column i and row j.
    let mut edges = [[[0.0; N]; 3]; 3];
    for (component, [a, b, c]) in edges.iter_mut().enumerate() {
        difference(a, values(k, j, 1, component), values(k, j, 0, component));
        difference(b, values(k, 1, i, component), values(k, 0, i, component));
        difference(c, values(1, j, i, component), values(0, j, i, component));
    }
    let [[ax, bx, cx], [ay, by, cy], [az, bz, cz]] = edges;
    let mut found = [0.0; N];
    for n in 0..N {
        let (ax, by, cz) = (ax[n] + 1.0, by[n] + 1.0, cz[n] + 1.0);
        found[n] = ax * (by * cz - bz[n] * cy[n]) - ay[n] * (bx[n] * cz - bz[n] * cx[n])
            + az[n] * (bx[n] * cy[n] - by * cx[n]);
    }
    found
}

#[inline(always)]
fn difference<const N: usize>(out: &mut [f32; N], high: [f32; N], low: [f32; N]) {
    for n in 0..N {
        out[n] = high[n] - low[n];
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
