//! The displacement field at one position, as it will be read from the written field.

use super::{
    lattice::{LatticeField, Taps},
    problem::VoxelPair,
};

/// How a lattice lies over the patch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// Voxels of the patch.
    pub(super) patch: [usize; 3],
    /// Voxel size of the patch, in the registration's unit of length.
    pub(super) spacing: [f64; 3],
    /// Cells of the lattice.
    pub(super) lattice: [usize; 3],
    /// Patch voxels per cell along each axis.
    pub(super) block: f64,
}

impl Frame {
    /// A position in voxels of the patch, in cells.
    pub(super) fn cells(&self, position: [f64; 3]) -> [f64; 3] {
        position.map(|index| (index + 0.5) / self.block - 0.5)
    }

    /// Size of a cell, in the registration's unit of length.
    pub(super) fn cell(&self) -> [f64; 3] {
        self.spacing.map(|size| size * self.block)
    }
}

/// Weights of spline coefficients on one axis: four for each of the two voxels around a position.
type Axis = [(usize, f64); 8];

/// The linear functional that takes spline coefficients to the value at one position.
///
/// Voxels take the spline's value; between voxels, and beyond the border, the field is what
/// [`crate::field::DisplacementField`] says: trilinear, and that of the border. Both are separable.
pub(super) struct Stencil([Axis; 3]);

impl Stencil {
    /// At `position` in voxels of the patch.
    pub(super) fn new(position: [f64; 3], frame: &Frame) -> Self {
        Self(std::array::from_fn(|axis| {
            let last = frame.patch[axis].saturating_sub(1);
            let inside = position[axis].clamp(0.0, last as f64);
            let low = (inside as usize).min(last.saturating_sub(1));
            let fraction = inside - low as f64;
            let mut taps = [(0, 0.0); 8];
            for (voxel, share) in [(low, 1.0 - fraction), ((low + 1).min(last), fraction)] {
                let centre = (voxel as f64 + 0.5) / frame.block - 0.5;
                let spline = Taps::at(centre, frame.lattice[axis]);
                for k in 0..4 {
                    taps[4 * usize::from(voxel > low) + k] =
                        (spline.index[k], share * spline.weight[k] as f64);
                }
            }
            taps
        }))
    }

    /// The vector at the position, in the unit of the coefficients.
    pub(super) fn value(&self, coefficients: &LatticeField) -> [f64; 3] {
        let [nx, plane] = [coefficients.shape[0], coefficients.plane()];
        let [along_x, along_y, along_z] = &self.0;
        let mut sums = [0.0; 3];
        for (z, weight_z) in along_z {
            for (y, weight_y) in along_y {
                for (component, sum) in sums.iter_mut().enumerate() {
                    let row = (3 * z + component) * plane + y * nx;
                    let row = &coefficients.values[row..row + nx];
                    let value: f64 = along_x.iter().map(|(x, w)| w * row[*x] as f64).sum();
                    *sum += weight_z * weight_y * value;
                }
            }
        }
        sums
    }
}

/// Displacements in patch voxels of the pairs' starts by `flow`, which is in cells.
pub(super) fn displacements(
    flow: LatticeField,
    pairs: &[VoxelPair],
    frame: &Frame,
) -> Vec<[f64; 3]> {
    let coefficients = flow.into_coefficients();
    let step = |pair: &VoxelPair| {
        let cells = Stencil::new(pair.start, frame).value(&coefficients);
        cells.map(|value| value * frame.block)
    };
    pairs.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::lattice::Upsampler;

    #[test]
    fn it_reads_what_interpolation_in_the_upsampled_field_reads() {
        let frame = Frame {
            patch: [13, 11, 9],
            spacing: [1.0; 3],
            lattice: [5, 4, 3],
            block: 3.0,
        };
        let mut field = LatticeField::zero(frame.lattice);
        for (i, value) in field.values.iter_mut().enumerate() {
            *value = ((i * 7919) % 101) as f32 / 101.0 - 0.5;
        }
        let coefficients = field.into_coefficients();
        let upsampler = Upsampler::new(frame.lattice, frame.patch, [1.0 / 3.0; 3]);
        let [nx, ny, nz] = frame.patch;
        let mut fine = vec![0.0; nx * ny * nz];
        let mut plane = crate::registration::lattice::Plane::default();
        for z in 0..nz {
            upsampler.start_plane(&coefficients, z, &mut plane);
            for y in 0..ny {
                let start = nx * (y + ny * z);
                upsampler.row(&plane, 1, y, &mut fine[start..start + nx]);
            }
        }
        // Inside, on a voxel, on the last voxel, beyond both borders.
        for position in [
            [4.3, 5.8, 2.1],
            [3.0, 2.0, 7.0],
            [12.0, 10.0, 8.0],
            [-0.4, 10.4, 99.0],
        ] {
            let cell = crate::resample::Cell::clamped(position, frame.patch);
            let expected: f64 = cell.linear(&fine);
            let found = Stencil::new(position, &frame).value(&coefficients)[1];
            assert!((found - expected).abs() < 1e-5, "{position:?}: {found}");
        }
    }
}
