//! Sampling grids: shape, and where each voxel lies in the world.

use crate::affine::Affine;

/// A regular grid of voxels.
///
/// Voxel indices are 0-based, and an integer index is the voxel's *centre*. World positions are in
/// mm, RAS+ (x to the right, y to the front, z up).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Voxels along x, y, z.
    pub shape: [usize; 3],
    /// Voxel index → world (mm, RAS+).
    pub voxel_to_world: Affine,
}

impl Grid {
    /// Number of voxels.
    pub fn voxels(&self) -> usize {
        self.shape.iter().product()
    }

    /// Distance of neighbouring voxel centres along each voxel axis, in mm.
    pub fn spacing(&self) -> [f64; 3] {
        let linear = self.voxel_to_world.linear();
        std::array::from_fn(|axis| {
            let square: f64 = (0..3)
                .map(|row| linear[row][axis] * linear[row][axis])
                .sum();
            square.sqrt()
        })
    }

    /// Mean of the three spacings in mm.
    pub fn mean_spacing(&self) -> f64 {
        self.spacing().iter().sum::<f64>() / 3.0
    }

    /// The eight corners of the box of voxel centres, in voxel indices.
    pub fn corners(&self) -> [[f64; 3]; 8] {
        std::array::from_fn(|corner| {
            std::array::from_fn(|axis| {
                if corner >> axis & 1 == 1 {
                    self.shape[axis].saturating_sub(1) as f64
                } else {
                    0.0
                }
            })
        })
    }

    /// The part of the grid from voxel `start` on, `shape` voxels large.
    #[must_use]
    pub fn cropped(&self, start: [usize; 3], shape: [usize; 3]) -> Self {
        let shift = Affine::translation(start.map(|index| index as f64));
        Self {
            shape,
            voxel_to_world: self.voxel_to_world.after(&shift),
        }
    }

    /// Largest distance in voxels between where the two grids put the same corner index; infinite
    /// if the shapes differ.
    pub fn difference_vox(&self, other: &Self) -> f64 {
        if self.shape != other.shape {
            return f64::INFINITY;
        }
        let Some(back) = self.voxel_to_world.inverse() else {
            return f64::INFINITY;
        };
        let to_voxel = back.after(&other.voxel_to_world);
        self.corners()
            .into_iter()
            .map(|corner| {
                let image = to_voxel.apply(corner);
                let square: f64 = (0..3).map(|a| (image[a] - corner[a]).powi(2)).sum();
                square.sqrt()
            })
            .fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oblique() -> Grid {
        let (c, s) = (0.8, 0.6);
        Grid {
            shape: [4, 5, 6],
            voxel_to_world: Affine::from_parts(
                [
                    [c * 0.1, -s * 0.2, 0.0],
                    [s * 0.1, c * 0.2, 0.0],
                    [0.0, 0.0, 0.5],
                ],
                [1.0, 2.0, 3.0],
            ),
        }
    }

    #[test]
    fn spacing_is_free_of_rotation() {
        for (found, expected) in oblique().spacing().into_iter().zip([0.1, 0.2, 0.5]) {
            assert!((found - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn a_crop_keeps_world_positions() {
        let crop = oblique().cropped([1, 2, 3], [2, 2, 2]);
        let whole = oblique().voxel_to_world.apply([1.0, 3.0, 4.0]);
        let part = crop.voxel_to_world.apply([0.0, 1.0, 1.0]);
        for axis in 0..3 {
            assert!((whole[axis] - part[axis]).abs() < 1e-12);
        }
    }

    #[test]
    fn a_shift_by_half_a_voxel_is_seen() {
        let mut moved = oblique();
        moved.voxel_to_world = moved
            .voxel_to_world
            .after(&Affine::translation([0.5, 0.0, 0.0]));
        assert!((oblique().difference_vox(&moved) - 0.5).abs() < 1e-9);
        assert!(oblique().difference_vox(&oblique()) < 1e-12);
    }
}
