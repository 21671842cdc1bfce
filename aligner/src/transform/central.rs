//! Jacobian determinants at voxel centres, for maps and histograms.

use rayon::prelude::*;

use crate::{field::DisplacementField, volume::Volume};

/// Determinant of the Jacobian of x ↦ x + u(x) at every voxel, by central differences; one-sided at
/// the border, 1 along axes of one voxel. Relative to the identity, on any grid.
///
/// A map to look at: whether a field folds is for [`super::corner_jacobian`] to say.
pub fn central_jacobian(field: &DisplacementField) -> Volume<f32> {
    let grid = field.grid;
    let mut determinants = Volume::filled(grid, 1.0);
    let Some(to_voxel) = grid.voxel_to_world.inverse() else {
        return determinants;
    };
    let m = to_voxel.linear().map(|row| row.map(|value| value as f32));
    let shape = grid.shape;
    let [nx, ny, _] = shape;
    let strides = [1, nx, nx * ny];
    let rows = determinants.values_mut().par_chunks_mut(nx);
    rows.enumerate().for_each(|(row, out)| {
        for (x, out) in out.iter_mut().enumerate() {
            let at = [x, row % ny, row / ny];
            let here = x + nx * row;
            let column = |axis: usize| -> [f32; 3] {
                let low = at[axis].min(1);
                let high = (shape[axis] - 1 - at[axis]).min(1);
                let width = (low + high).max(1) as f32;
                let difference = field.components.each_ref().map(|values| {
                    let (after, before) = (here + high * strides[axis], here - low * strides[axis]);
                    (values[after] - values[before]) / width
                });
                std::array::from_fn(|c| {
                    let [u, v, w] = difference;
                    let identity = if c == axis { 1.0 } else { 0.0 };
                    m[c][0] * u + m[c][1] * v + m[c][2] * w + identity
                })
            };
            let [a, b, c] = [column(0), column(1), column(2)];
            *out = a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
                + a[2] * (b[0] * c[1] - b[1] * c[0]);
        }
    });
    determinants
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{affine::Affine, grid::Grid};

    #[test]
    fn a_linear_map_has_its_determinant_everywhere_also_on_an_oblique_grid() {
        let voxel_to_world = Affine::from_parts(
            [[0.0, -0.5, 0.1], [0.4, 0.0, 0.2], [0.1, 0.0, 2.0]],
            [3.0, -7.0, 11.0],
        );
        let shape = [4, 1, 5];
        let mut field = DisplacementField::zero(Grid {
            shape,
            voxel_to_world,
        });
        // Voxel axes i and k grow by a tenth and shrink by a fifth.
        for (index, (x, z)) in (0..20).map(|i| (i, (i % 4, i / 4))) {
            let u = voxel_to_world.apply_vector([0.1 * f64::from(x), 0.0, -0.2 * f64::from(z)]);
            for (component, u) in field.components.iter_mut().zip(u) {
                component[index as usize] = u as f32;
            }
        }
        for determinant in central_jacobian(&field).values() {
            assert!((determinant - 1.1 * 0.8).abs() < 1e-5, "{determinant}");
        }
    }
}
