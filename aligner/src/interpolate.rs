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

    /// Sets `mask` to 0 where a position of the row, one coordinate per slice, lies outside the box of
    /// voxel centres; the border belongs to the box.
    pub fn clear_outside(&self, positions: &[Vec<f32>; 3], mask: &mut [f32]) {
        for (positions, last) in positions.iter().zip(self.last) {
            wide(
                #[inline(always)]
                || {
                    for (mask, position) in mask.iter_mut().zip(positions) {
                        let inside = position.max(0.0).min(last) == *position;
                        *mask = if inside { *mask } else { 0.0 };
                    }
                },
            );
        }
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

/// Positions that are looked up together, so that the arithmetic between look-ups runs on vectors.
const LANES: usize = 16;

/// The cells around [`LANES`] positions.
struct Cells {
    start: [u32; LANES],
    fractions: [[f32; LANES]; 3],
}

impl Locator {
    /// Interpolated values of arrays of this layout at a row of positions, one coordinate per slice:
    /// the same values as [`Cell::value`] of each. Arrays of up to 2³² elements.
    pub fn values<const N: usize>(
        &self,
        positions: [&[f32]; 3],
        arrays: [&[f32]; N],
        mut out: [&mut [f32]; N],
    ) {
        let n = positions[0].len();
        wide(
            #[inline(always)]
            || {
                for first in (0..n).step_by(LANES) {
                    let part = first..(first + LANES).min(n);
                    let cells = self.cells(positions.map(|row| lanes(&row[part.clone()])));
                    for (array, out) in arrays.iter().zip(&mut out) {
                        let values = self.interpolate(&cells, array);
                        match out[first..].first_chunk_mut() {
                            Some(out) => *out = values,
                            None => out[part.clone()].copy_from_slice(&values[..part.len()]),
                        }
                    }
                }
            },
        );
    }

    /// [`Self::cell`] for each of the positions.
    #[inline(always)]
    fn cells(&self, positions: [[f32; LANES]; 3]) -> Cells {
        let mut start = [0; LANES];
        let mut fractions = positions;
        for axis in 0..3 {
            let (last, last_cell) = (self.last[axis], self.last_cell[axis] as f32);
            let stride = self.strides[axis] as u32;
            for (start, position) in start.iter_mut().zip(&mut fractions[axis]) {
                let clamped = position.max(0.0).min(last);
                let below = clamped.floor().min(last_cell);
                *position = clamped - below;
                *start += whole(below) * stride;
            }
        }
        Cells { start, fractions }
    }

    #[inline(always)]
    fn interpolate(&self, cells: &Cells, values: &[f32]) -> [f32; LANES] {
        let [_, step_y, step_z] = self.steps.map(|step| step as u32);
        let steps = [0, step_y, step_z, step_z + step_y];
        let mut corners = [[[0.0; LANES]; 2]; 4];
        for (step, [low, high]) in steps.into_iter().zip(&mut corners) {
            for (i, start) in cells.start.iter().enumerate() {
                let at = (start + step) as usize;
                // A pair instead of two indices: one bounds check for both neighbours.
                [low[i], high[i]] = match values.get(at..at + 2) {
                    Some(pair) => [pair[0], pair[1]],
                    None => last(values, at),
                };
            }
        }
        let [fx, fy, fz] = &cells.fractions;
        std::array::from_fn(|i| {
            let [a, b, c, d] = corners
                .each_ref()
                .map(|[low, high]| low[i] + (high[i] - low[i]) * fx[i]);
            let low = a + (b - a) * fy[i];
            let high = c + (d - c) * fy[i];
            low + (high - low) * fz[i]
        })
    }
}

/// The pair at the end of an array with one voxel along x.
#[cold]
fn last(values: &[f32], at: usize) -> [f32; 2] {
    [values.get(at).copied().unwrap_or(0.0); 2]
}

/// A whole number from 0 to 2²³ − 1 as an integer: its bits lie at the end of the sum's mantissa.
/// Unlike a cast it has no cases to tell apart.
#[inline(always)]
fn whole(value: f32) -> u32 {
    const SHIFT: f32 = (1 << 23) as f32;
    (value + SHIFT).to_bits() & ((1 << 23) - 1)
}

/// The values, followed by zeros.
#[inline(always)]
fn lanes(values: &[f32]) -> [f32; LANES] {
    let mut all = [0.0; LANES];
    match values.first_chunk() {
        Some(values) => all = *values,
        None => all[..values.len()].copy_from_slice(values),
    }
    all
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
            let negative: Vec<f32> = values.iter().map(|value| -value).collect();
            let (mut out, mut opposite) = (vec![0.0; 37], vec![0.0; 37]);
            locator.values(
                positions.each_ref().map(Vec::as_slice),
                [&values, &negative],
                [&mut out, &mut opposite],
            );
            for (i, found) in out.iter().enumerate() {
                let position = positions.each_ref().map(|row| row[i]);
                assert_eq!(
                    *found,
                    locator.cell(position).value(&values),
                    "{shape:?}, {i}"
                );
                assert_eq!(*found, -opposite[i]);
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
