//! Trilinear interpolation at voxel positions, clamped at the border.
//!
//! The registration's inner loops go through this file: float values, float positions. Stored
//! images of any type, points and quality figures, where positions need more digits, go through
//! [`crate::resample::Cell`]. Both agree on where a voxel's centre is (its integer index) and on
//! what lies outside (the value of the nearest border position).

/// Turns positions into [`Cell`]s for arrays of one shape; built once per loop.
#[derive(Clone, Copy, Debug)]
pub struct Locator {
    last: [f32; 3],
    last_cell: [i32; 3],
    strides: [usize; 3],
    steps: [usize; 3],
}

/// The eight neighbours of a position and its place between them.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    base: usize,
    step_y: usize,
    step_z: usize,
    fractions: [f32; 3],
}

impl Locator {
    /// For x-fastest arrays of this shape without gaps.
    pub fn new(shape: [usize; 3]) -> Self {
        Self::with_slab(shape, shape[0] * shape[1])
    }

    /// For arrays whose neighbouring z-planes lie `slab` elements apart (at least one plane).
    pub fn with_slab(shape: [usize; 3], slab: usize) -> Self {
        let strides = [1, shape[0], slab];
        Self {
            last: shape.map(|n| n.saturating_sub(1) as f32),
            last_cell: shape.map(|n| n.saturating_sub(2) as i32),
            strides,
            steps: std::array::from_fn(|axis| if shape[axis] > 1 { strides[axis] } else { 0 }),
        }
    }

    /// The cell around a position in voxels; positions outside move to the nearest border.
    #[inline]
    pub fn cell(&self, position: [f32; 3]) -> Cell {
        let mut base = 0;
        let mut fractions = [0.0; 3];
        for axis in 0..3 {
            let clamped = position[axis].max(0.0).min(self.last[axis]);
            let index = (clamped as i32).min(self.last_cell[axis]);
            fractions[axis] = clamped - index as f32;
            base += index as usize * self.strides[axis];
        }
        Cell {
            base,
            step_y: self.steps[1],
            step_z: self.steps[2],
            fractions,
        }
    }

    /// Whether a position lies within the box of voxel centres, border included.
    #[inline]
    pub fn contains(&self, position: [f32; 3]) -> bool {
        (0..3).all(|axis| position[axis] >= 0.0 && position[axis] <= self.last[axis])
    }
}

impl Cell {
    /// Interpolated value; `values` has the layout for which the [`Locator`] was built.
    #[inline]
    pub fn value(&self, values: &[f32]) -> f32 {
        let [fx, fy, fz] = self.fractions;
        // A pattern instead of two indices: one bounds check for both neighbours along x.
        let along_x = |start: usize| match values.get(start..) {
            Some([low, high, ..]) => low + (high - low) * fx,
            Some([only]) => *only,
            _ => 0.0,
        };
        let low = along_x(self.base);
        let low = low + (along_x(self.base + self.step_y) - low) * fy;
        let upper = self.base + self.step_z;
        let high = along_x(upper);
        let high = high + (along_x(upper + self.step_y) - high) * fy;
        low + (high - low) * fz
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(values: &[f32], shape: [usize; 3], position_vox: [f32; 3]) -> f32 {
        Locator::new(shape).cell(position_vox).value(values)
    }

    fn ramp(shape: [usize; 3]) -> Vec<f32> {
        let mut values = Vec::new();
        for z in 0..shape[2] {
            for y in 0..shape[1] {
                for x in 0..shape[0] {
                    values.push(x as f32 + 10.0 * y as f32 + 100.0 * z as f32);
                }
            }
        }
        values
    }

    #[test]
    fn linear_functions_are_reproduced() {
        let values = ramp([3, 4, 5]);
        let found = linear(&values, [3, 4, 5], [1.25, 2.5, 3.75]);
        assert!((found - (1.25 + 25.0 + 375.0)).abs() < 1e-4);
    }

    #[test]
    fn voxel_centres_give_voxel_values() {
        let shape = [3, 4, 5];
        let values = ramp(shape);
        assert_eq!(linear(&values, shape, [2.0, 3.0, 4.0]), 432.0);
        assert_eq!(linear(&values, shape, [0.0, 0.0, 0.0]), 0.0);
    }

    #[test]
    fn outside_is_the_nearest_border() {
        let shape = [3, 4, 5];
        let values = ramp(shape);
        assert_eq!(linear(&values, shape, [-7.0, 1.0, 99.0]), 410.0);
        assert_eq!(linear(&values, shape, [f32::NAN, 1.0, 0.0]), 10.0);
    }

    #[test]
    fn axes_of_one_voxel_are_constant() {
        for shape in [[1, 4, 5], [3, 1, 5], [3, 4, 1], [1, 1, 1]] {
            let values = ramp(shape);
            let inner = shape.map(|n| 0.5 * (n - 1) as f32);
            let expected = inner[0] + 10.0 * inner[1] + 100.0 * inner[2];
            assert!((linear(&values, shape, inner) - expected).abs() < 1e-4);
        }
        assert_eq!(linear(&[], [0, 0, 0], [1.0; 3]), 0.0);
    }
}
