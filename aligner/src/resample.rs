//! Pulling images onto a grid through a chain of transforms.
//!
//! Values are interpolated as stored, so that type and scaling are kept; labels are never computed
//! with.

use alignment_api::Interpolation;
use rayon::prelude::*;

use crate::{
    affine::Affine,
    chain::Chain,
    grid::Grid,
    io::nifti::{Header, Voxel, Voxels},
    map_voxels,
    observer::{self, Interrupted, Observer},
};

/// The eight voxels around a position, with the weights of trilinear interpolation.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    lower: [usize; 3],
    upper: [usize; 3],
    fraction: [f64; 3],
    stride: [usize; 2],
}

impl Cell {
    /// The cell around a position in voxels; positions outside are moved to the border.
    pub fn clamped(position: [f64; 3], shape: [usize; 3]) -> Self {
        let mut cell = Self {
            lower: [0; 3],
            upper: [0; 3],
            fraction: [0.0; 3],
            stride: [shape[0], shape[0] * shape[1]],
        };
        for axis in 0..3 {
            let last = shape[axis] - 1;
            let p = position[axis].clamp(0.0, last as f64);
            cell.lower[axis] = (p as usize).min(last.saturating_sub(1));
            cell.upper[axis] = (cell.lower[axis] + 1).min(last);
            cell.fraction[axis] = p - cell.lower[axis] as f64;
        }
        cell
    }

    /// Trilinear interpolation of values in x-fastest order.
    pub fn linear<T: Voxel>(&self, values: &[T]) -> f64 {
        let at = |x: usize, y: usize, z: usize| {
            values[x + self.stride[0] * y + self.stride[1] * z].to_f64()
        };
        let [fx, fy, fz] = self.fraction;
        let along_x = |y, z| between(at(self.lower[0], y, z), || at(self.upper[0], y, z), fx);
        let along_y = |z| between(along_x(self.lower[1], z), || along_x(self.upper[1], z), fy);
        between(along_y(self.lower[2]), || along_y(self.upper[2]), fz)
    }

    /// The value of the nearest voxel; half-way goes to the upper one.
    pub fn nearest<T: Voxel>(&self, values: &[T]) -> T {
        let pick = |axis: usize| {
            if self.fraction[axis] >= 0.5 {
                self.upper[axis]
            } else {
                self.lower[axis]
            }
        };
        values[pick(0) + self.stride[0] * pick(1) + self.stride[1] * pick(2)]
    }
}

/// Linear interpolation. A neighbour of weight 0 is not looked at: it may be NaN.
fn between(low: f64, high: impl Fn() -> f64, fraction: f64) -> f64 {
    if fraction == 0.0 {
        low
    } else if fraction == 1.0 {
        high()
    } else {
        low + fraction * (high() - low)
    }
}

/// Resamples all frames of an image.
///
/// `target_to_source` maps world positions of the target grid to world positions of the image. A
/// position more than half a voxel outside the image gives the stored value that means 0.
///
/// # Errors
/// [`Interrupted`] within a plane's time after the process was asked to stop.
pub fn resample(
    voxels: &Voxels,
    header: &Header,
    target: &Grid,
    target_to_source: &Chain,
    interpolation: Interpolation,
    observer: &dyn Observer,
) -> Result<Voxels, Interrupted> {
    let source = header.grid;
    let to_voxel = source.voxel_to_world.inverse().unwrap_or(Affine::IDENTITY);
    let outside = (0.0 - header.inter) / header.slope;
    let resampled = map_voxels!(voxels, values => {
        let frames: Vec<&[_]> = values.chunks(source.voxels()).collect();
        let n = target.voxels();
        let mut out = vec![Voxel::from_f64(outside); n * frames.len()];
        let plane = target.shape[0] * target.shape[1];
        // One position serves all frames: planes are split over the frames, then zipped.
        let mut planes: Vec<Vec<&mut [_]>> = (0..target.shape[2]).map(|_| Vec::with_capacity(frames.len())).collect();
        for frame in out.chunks_mut(n) {
            for (z, part) in frame.chunks_mut(plane).enumerate() {
                planes[z].push(part);
            }
        }
        planes.into_par_iter().enumerate().for_each(|(z, mut parts)| {
            if observer.cancelled() {
                return;
            }
            for y in 0..target.shape[1] {
                for x in 0..target.shape[0] {
                    let world = target.voxel_to_world.apply([x as f64, y as f64, z as f64]);
                    let position = to_voxel.apply(target_to_source.apply(world));
                    if !inside(position, source.shape) {
                        continue;
                    }
                    let cell = Cell::clamped(position, source.shape);
                    for (part, frame) in parts.iter_mut().zip(&frames) {
                        part[x + target.shape[0] * y] = match interpolation {
                            Interpolation::Linear => Voxel::from_f64(cell.linear(frame)),
                            Interpolation::Nearest | Interpolation::Label => cell.nearest(frame),
                        };
                    }
                }
            }
        });
        out
    });
    // Planes that were skipped hold nothing.
    observer::check(observer)?;
    Ok(resampled)
}

/// Within half a voxel of the box of voxel centres. False for NaN.
pub fn inside(position: [f64; 3], shape: [usize; 3]) -> bool {
    (0..3).all(|axis| position[axis] >= -0.5 && position[axis] <= shape[axis] as f64 - 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_interpolation_reproduces_a_linear_function() {
        let shape = [3, 4, 5];
        let values: Vec<f32> = (0..60)
            .map(|i| (i % 3) as f32 + 10.0 * ((i / 3) % 4) as f32 + 100.0 * (i / 12) as f32)
            .collect();
        let cell = Cell::clamped([1.25, 2.5, 3.75], shape);
        assert!((cell.linear(&values) - (1.25 + 25.0 + 375.0)).abs() < 1e-4);
        assert_eq!(Cell::clamped([2.0, 3.0, 4.0], shape).linear(&values), 432.0);
        assert_eq!(
            Cell::clamped([-5.0, 9.0, 4.0], shape).linear(&values),
            430.0
        );
    }

    #[test]
    fn a_neighbour_without_weight_does_not_matter() {
        let values = [1.0_f32, f32::NAN, 3.0, f32::INFINITY];
        let at = |x: f64| Cell::clamped([x, 0.0, 0.0], [4, 1, 1]).linear(&values);
        assert_eq!((at(0.0), at(2.0)), (1.0, 3.0));
        assert_eq!(at(3.0), f64::INFINITY);
        assert!(at(0.5).is_nan());
    }

    #[test]
    fn nearest_picks_a_stored_value() {
        let values = [7_u8, 9];
        assert_eq!(
            Cell::clamped([0.49, 0.0, 0.0], [2, 1, 1]).nearest(&values),
            7
        );
        assert_eq!(
            Cell::clamped([0.5, 0.0, 0.0], [2, 1, 1]).nearest(&values),
            9
        );
    }

    #[test]
    fn nan_is_outside() {
        assert!(!inside([f64::NAN, 0.0, 0.0], [2, 2, 2]));
        assert!(inside([-0.5, 1.5, 0.0], [2, 2, 2]));
    }
}
