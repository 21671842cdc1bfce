//! Where the cortex is in a depth map, and how steep depth is there.

use rayon::prelude::*;

use super::smoothing::gaussian;

/// Depths nearer to 0 or 1 than this count as outside the cortex.
const MARGIN: f32 = 0.02;
/// Smoothing before the mask and slopes are taken, in voxels.
pub(super) const SIGMA_VOX: f64 = 1.0;

/// The cortex of a depth map.
pub(super) struct Cortex {
    /// Voxels of the cortex, x fastest.
    pub(super) mask: Vec<bool>,
    /// Mean of |∇depth|² over them, per unit of length squared; NaN if there are none.
    pub(super) mean_square_slope: f64,
}

impl Cortex {
    /// Finds the cortex of a depth map whose voxels are `spacing` wide. With `validity`, the mean is
    /// weighted by it.
    pub(super) fn find(
        depth: &[f32],
        shape: [usize; 3],
        spacing: [f64; 3],
        validity: Option<&[f32]>,
    ) -> Self {
        let smooth = gaussian(depth, shape, [SIGMA_VOX; 3]);
        let plane = shape[0] * shape[1];
        let sums: Vec<(f64, f64)> = (0..shape[2])
            .into_par_iter()
            .map(|z| slope_sums(&smooth, shape, spacing, (validity, z)))
            .collect();
        let (square, weight) = sums
            .into_iter()
            .fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        let mut mask = vec![false; smooth.len()];
        mask.par_chunks_mut(plane)
            .zip(smooth.par_chunks(plane))
            .for_each(|(mask, smooth)| {
                for (mask, depth) in mask.iter_mut().zip(smooth) {
                    *mask = is_cortex(*depth);
                }
            });
        Self {
            mask,
            mean_square_slope: square / weight,
        }
    }
}

pub(super) fn is_cortex(depth: f32) -> bool {
    depth > MARGIN && depth < 1.0 - MARGIN
}

/// Σ w·|∇depth|² and Σ w over the cortex of plane z.
fn slope_sums(
    smooth: &[f32],
    shape: [usize; 3],
    spacing: [f64; 3],
    (validity, z): (Option<&[f32]>, usize),
) -> (f64, f64) {
    let [nx, ny, _] = shape;
    let (mut square, mut total) = (0.0, 0.0);
    for y in 0..ny {
        for x in 0..nx {
            let index = x + nx * (y + ny * z);
            if !is_cortex(smooth[index]) {
                continue;
            }
            let slopes = central_differences(smooth, shape, spacing, [x, y, z]);
            let slope: f64 = slopes.iter().map(|slope| slope * slope).sum();
            let weight = validity.map_or(1.0, |validity| validity[index] as f64);
            square += weight * slope;
            total += weight;
        }
    }
    (square, total)
}

/// ∇depth at a voxel: central differences, one-sided at a face of the image.
#[inline]
pub(super) fn central_differences(
    depth: &[f32],
    shape: [usize; 3],
    spacing: [f64; 3],
    at: [usize; 3],
) -> [f64; 3] {
    let strides = [1, shape[0], shape[0] * shape[1]];
    let index: usize = at.iter().zip(strides).map(|(at, stride)| at * stride).sum();
    std::array::from_fn(|axis| {
        let down = at[axis].min(1);
        let up = (shape[axis] - 1 - at[axis]).min(1);
        let high = depth[index + up * strides[axis]] as f64;
        let low = depth[index - down * strides[axis]] as f64;
        let width = (up + down).max(1) as f64 * spacing[axis];
        (high - low) / width
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_has_its_slope() {
        let shape = [30, 6, 6];
        let spacing = [0.5, 1.0, 2.0];
        let depth: Vec<f32> = (0..30 * 36)
            .map(|i| ((i % 30) as f32 - 5.0) / 20.0)
            .map(|value| value.clamp(0.0, 1.0))
            .collect();
        let cortex = Cortex::find(&depth, shape, spacing, None);
        // One tenth per mm; the smoothed bends at both ends lower the mean a little.
        assert!((cortex.mean_square_slope.sqrt() - 0.1).abs() < 0.01);
        assert!(cortex.mask[15] && !cortex.mask[0] && !cortex.mask[29]);
    }

    #[test]
    fn invalid_voxels_do_not_count() {
        let shape = [24, 5, 5];
        let depth: Vec<f32> = (0..24 * 25)
            .map(|i| {
                if i % 24 < 12 {
                    (i % 24) as f32 / 22.0
                } else {
                    0.5 + (i % 2) as f32 * 0.4
                }
            })
            .collect();
        let validity: Vec<f32> = (0..24 * 25)
            .map(|i| if i % 24 < 8 { 1.0 } else { 0.0 })
            .collect();
        let cortex = Cortex::find(&depth, shape, [1.0; 3], Some(&validity));
        assert!((cortex.mean_square_slope.sqrt() - 1.0 / 22.0).abs() < 0.01);
    }

    #[test]
    fn no_cortex_has_no_slope() {
        let cortex = Cortex::find(&[1.0; 125], [5; 3], [1.0; 3], None);
        assert!(cortex.mean_square_slope.is_nan());
    }
}
