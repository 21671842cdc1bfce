//! Trilinear interpolation at voxel positions, clamped at the border.
//!
//! The registration's inner loops go through this file: float values, float positions. Stored
//! images of any type, points and quality figures, where positions need more digits, go through
//! [`crate::resample::Cell`]. Both agree on where a voxel's centre is (its integer index) and on
//! what lies outside (the value of the nearest border position).

use crate::wide::wide;

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
    #[expect(
        clippy::needless_bitwise_bool,
        reason = "without a short cut, a loop over positions needs no branch"
    )]
    pub fn contains(&self, position: [f32; 3]) -> bool {
        let within = |axis: usize| (position[axis] >= 0.0) & (position[axis] <= self.last[axis]);
        within(0) & within(1) & within(2)
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

/// Interpolation along a whole row: the same values as [`Cell::value`], but the arithmetic runs in
/// plain loops, and only the look-up of the neighbours goes position by position.
#[derive(Default)]
pub struct Row {
    start: Vec<u32>,
    fractions: [Vec<f32>; 3],
    corners: [Vec<f32>; 8],
    steps: [usize; 2],
}

impl Row {
    /// Finds the cells around `positions`, one coordinate per slice, all of one length. Arrays of up
    /// to 2³² elements.
    pub fn locate(&mut self, locator: &Locator, positions: [&[f32]; 3]) {
        let n = positions[0].len();
        self.start.clear();
        self.start.resize(n, 0);
        self.steps = [locator.steps[1], locator.steps[2]];
        for axis in 0..3 {
            let fractions = &mut self.fractions[axis];
            fractions.resize(n, 0.0);
            let last_cell = locator.last_cell[axis];
            let (last, stride) = (locator.last[axis], locator.strides[axis] as u32);
            let starts = self.start.iter_mut().zip(fractions).zip(positions[axis]);
            wide(
                #[inline(always)]
                || {
                    for ((start, fraction), position) in starts {
                        let clamped = position.max(0.0).min(last);
                        let index = (clamped as i32).min(last_cell);
                        *fraction = clamped - index as f32;
                        *start += index as u32 * stride;
                    }
                },
            );
        }
    }

    /// Interpolated values of an array that has the layout of the [`Locator`].
    pub fn values(&mut self, values: &[f32], out: &mut [f32]) {
        let n = out.len();
        let [step_y, step_z] = self.steps;
        for (pair, step) in [0, step_y, step_z, step_z + step_y].into_iter().enumerate() {
            let [low, high, ..] = &mut self.corners[2 * pair..] else {
                continue;
            };
            low.resize(n, 0.0);
            high.resize(n, 0.0);
            let starts = self.start.iter().zip(low.iter_mut()).zip(high);
            for ((start, low), high) in starts {
                // A pattern instead of two indices: one bounds check for both neighbours.
                (*low, *high) = match values.get(*start as usize + step..) {
                    Some([low, high, ..]) => (*low, *high),
                    Some([only]) => (*only, *only),
                    _ => (0.0, 0.0),
                };
            }
        }
        let [fx, fy, fz] = self.fractions.each_ref().map(|row| &row[..n]);
        let corners = self.corners.each_ref().map(|row| &row[..n]);
        wide(
            #[inline(always)]
            || {
                for i in 0..n {
                    let along_x = |low: usize| {
                        let (low, high) = (corners[low][i], corners[low + 1][i]);
                        low + (high - low) * fx[i]
                    };
                    let (a, b, c, d) = (along_x(0), along_x(2), along_x(4), along_x(6));
                    let low = a + (b - a) * fy[i];
                    let high = c + (d - c) * fy[i];
                    out[i] = low + (high - low) * fz[i];
                }
            },
        );
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
    fn a_row_has_the_values_of_its_positions() {
        for shape in [[5, 4, 3], [1, 4, 5], [3, 1, 1]] {
            let values = ramp(shape)
                .iter()
                .map(|v| (v * 7.3).sin())
                .collect::<Vec<_>>();
            let locator = Locator::new(shape);
            let at = |axis: usize, i: usize| (i * (axis + 3) % 23) as f32 * 0.37 - 1.0;
            let positions: [Vec<f32>; 3] =
                std::array::from_fn(|axis| (0..37).map(|i| at(axis, i)).collect());
            let mut row = Row::default();
            row.locate(&locator, positions.each_ref().map(Vec::as_slice));
            let mut out = vec![0.0; 37];
            row.values(&values, &mut out);
            for (i, found) in out.iter().enumerate() {
                let position = positions.each_ref().map(|row| row[i]);
                assert_eq!(
                    *found,
                    locator.cell(position).value(&values),
                    "{shape:?}, {i}"
                );
            }
        }
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
