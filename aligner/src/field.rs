//! Displacement fields.

use crate::{affine::Affine, grid::Grid};

/// A vector for every voxel of a grid.
///
/// Vectors are world displacements in mm, RAS+: the field stands for the transform
/// `x ↦ x + u(x)` of world positions. Between voxels, u is trilinear; outside, it is that of the
/// nearest voxel of the border.
#[derive(Clone, Debug, PartialEq)]
pub struct DisplacementField {
    /// Where the vectors are given.
    pub grid: Grid,
    /// x, y and z components, each in x-fastest voxel order.
    pub components: [Vec<f32>; 3],
}

impl DisplacementField {
    /// The field that moves nothing.
    pub fn zero(grid: Grid) -> Self {
        // Not clones of one: these stay untouched until somebody writes, in parallel perhaps.
        Self {
            grid,
            components: std::array::from_fn(|_| vec![0.0; grid.voxels()]),
        }
    }

    /// Multiplies every vector by a matrix, in place. With the linear part of `voxel_to_world`,
    /// displacements in voxels become displacements in mm; with its inverse, the reverse.
    pub fn transform_vectors(&mut self, linear: &Affine) {
        use rayon::prelude::*;
        let m = linear.linear().map(|row| row.map(|value| value as f32));
        let [x, y, z] = &mut self.components;
        x.par_iter_mut()
            .zip(y.par_iter_mut())
            .zip(z.par_iter_mut())
            .with_min_len(4096)
            .for_each(|((x, y), z)| {
                let v = [*x, *y, *z];
                let row = |r: usize| m[r][0] * v[0] + m[r][1] * v[1] + m[r][2] * v[2];
                (*x, *y, *z) = (row(0), row(1), row(2));
            });
    }
}
