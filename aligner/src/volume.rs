//! Volumes: an array of values on a grid.

use ndarray::{Array3, ShapeBuilder};

use crate::grid::Grid;

/// Values on a grid.
///
/// The array is indexed `[x, y, z]` and lies in memory with x fastest (Fortran order), as NIfTI
/// stores it. Hot loops use the flat slice: voxel (x, y, z) is at `x + nx·(y + ny·z)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume<T> {
    data: Array3<T>,
    /// Where the voxels lie.
    pub grid: Grid,
}

impl<T: Copy> Volume<T> {
    /// From values in x-fastest order; `None` if their number is not that of the grid's voxels.
    pub fn from_vec(grid: Grid, values: Vec<T>) -> Option<Self> {
        let data = Array3::from_shape_vec(grid.shape.f(), values).ok()?;
        Some(Self { data, grid })
    }

    /// The same value everywhere.
    pub fn filled(grid: Grid, value: T) -> Self {
        Self {
            data: Array3::from_elem(grid.shape.f(), value),
            grid,
        }
    }

    /// The value at each voxel index.
    pub fn from_fn(grid: Grid, value: impl FnMut((usize, usize, usize)) -> T) -> Self {
        Self {
            data: Array3::from_shape_fn(grid.shape.f(), value),
            grid,
        }
    }

    /// All values, x fastest.
    pub fn values(&self) -> &[T] {
        // The constructors make arrays without gaps, so that a flat view always exists.
        self.data.as_slice_memory_order().unwrap_or(&[])
    }

    /// All values, x fastest.
    pub fn values_mut(&mut self) -> &mut [T] {
        self.data.as_slice_memory_order_mut().unwrap_or(&mut [])
    }

    /// The array, indexed `[x, y, z]`.
    pub fn array(&self) -> &Array3<T> {
        &self.data
    }

    /// A volume on the same grid, each value computed from the one here.
    pub fn map<U: Copy>(&self, value: impl FnMut(T) -> U) -> Volume<U> {
        Volume {
            data: self.data.mapv(value),
            grid: self.grid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::affine::Affine;

    #[test]
    fn x_is_fastest() {
        let grid = Grid {
            shape: [2, 3, 4],
            voxel_to_world: Affine::IDENTITY,
        };
        let volume = Volume::from_fn(grid, |(x, y, z)| x + 2 * (y + 3 * z));
        assert!(volume.values().iter().copied().eq(0..24));
        assert_eq!(volume.array()[[1, 2, 3]], 23);
        let mapped = volume.map(|value| value as f32);
        assert_eq!(mapped.values()[5], 5.0);
        assert!(Volume::from_vec(grid, vec![0_u8; 23]).is_none());
    }
}
