//! Gaussian smoothing.

use rayon::prelude::*;

use crate::wide::wide;

/// The kernel ends this many standard deviations from its centre.
const TRUNCATE: f64 = 4.0;

/// The volume smoothed with a Gaussian of the given standard deviation in voxels along each axis.
///
/// `values` are x fastest. Beyond the border, the value of the nearest voxel counts.
pub(super) fn gaussian(values: &[f32], shape: [usize; 3], sigma_vox: [f64; 3]) -> Vec<f32> {
    let [nx, ny, nz] = shape;
    let plane = nx * ny;
    let kernels = sigma_vox.map(kernel);
    let mut smooth = vec![0.0; values.len()];
    smooth.par_chunks_mut(plane).enumerate().for_each_init(
        Vec::new,
        |scratch: &mut Vec<f32>, (z, out)| {
            scratch.clear();
            scratch.resize(2 * plane, 0.0);
            let (first, second) = scratch.split_at_mut(plane);
            for (weight, source) in neighbours(&kernels[2], z, nz) {
                add_scaled(first, &values[source * plane..(source + 1) * plane], weight);
            }
            for y in 0..ny {
                let row = &mut second[y * nx..(y + 1) * nx];
                for (weight, source) in neighbours(&kernels[1], y, ny) {
                    add_scaled(row, &first[source * nx..(source + 1) * nx], weight);
                }
            }
            for (row, out) in second.chunks_exact(nx).zip(out.chunks_exact_mut(nx)) {
                smooth_row(row, out, &kernels[0]);
            }
        },
    );
    smooth
}

/// Normalised weights at offsets −r..=r.
fn kernel(sigma: f64) -> Vec<f32> {
    let radius = (TRUNCATE * sigma + 0.5) as i64;
    let raw: Vec<f64> = (-radius..=radius)
        .map(|offset| {
            if radius == 0 {
                1.0
            } else {
                libm::exp(-0.5 * (offset as f64 / sigma).powi(2))
            }
        })
        .collect();
    let total: f64 = raw.iter().sum();
    raw.into_iter()
        .map(|value| (value / total) as f32)
        .collect()
}

/// Each weight with the voxel it belongs to, for the voxel `centre` of `n`.
fn neighbours(kernel: &[f32], centre: usize, n: usize) -> impl Iterator<Item = (f32, usize)> {
    let radius = kernel.len() / 2;
    kernel.iter().enumerate().map(move |(offset, weight)| {
        let source = (centre + offset).saturating_sub(radius).min(n - 1);
        (*weight, source)
    })
}

fn add_scaled(target: &mut [f32], source: &[f32], weight: f32) {
    wide(
        #[inline(always)]
        || {
            for (target, source) in target.iter_mut().zip(source) {
                *target += weight * source;
            }
        },
    );
}

fn smooth_row(row: &[f32], out: &mut [f32], kernel: &[f32]) {
    let radius = kernel.len() / 2;
    let n = row.len();
    out.fill(0.0);
    for (offset, weight) in kernel.iter().enumerate() {
        // Where every source voxel exists, the loop is a plain shifted addition.
        let first = radius.saturating_sub(offset).min(n);
        let last = (n + radius).saturating_sub(offset).clamp(first, n);
        for value in &mut out[..first] {
            *value += weight * row[0];
        }
        if first < last {
            let start = first + offset - radius;
            add_scaled(&mut out[first..last], &row[start..], *weight);
        }
        for value in &mut out[last..] {
            *value += weight * row[n - 1];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_stays_and_no_sigma_changes_nothing() {
        let shape = [5, 6, 7];
        let values: Vec<f32> = (0..210).map(|i| (i * 37 % 101) as f32).collect();
        assert_eq!(gaussian(&values, shape, [0.0; 3]), values);
        let smooth = gaussian(&[3.0; 210], shape, [1.0, 5.0, 0.4]);
        assert!(smooth.iter().all(|value| (value - 3.0).abs() < 1e-5));
    }

    #[test]
    fn each_axis_agrees_with_the_direct_sum() {
        let n = 9_usize;
        let values: Vec<f32> = (0..n).map(|i| ((i * i * 7) % 13) as f32).collect();
        let sigma = 1.3;
        let direct = |x: usize| -> f64 {
            let reach = (TRUNCATE * sigma + 0.5) as i64;
            let weight = |o: i64| (-0.5 * (o as f64 / sigma).powi(2)).exp();
            let total: f64 = (-reach..=reach).map(weight).sum();
            (-reach..=reach)
                .map(|o| {
                    let source = (x as i64 + o).clamp(0, n as i64 - 1) as usize;
                    weight(o) / total * values[source] as f64
                })
                .sum()
        };
        for axis in 0..3 {
            let mut shape = [1; 3];
            shape[axis] = n;
            let mut sigmas = [0.0; 3];
            sigmas[axis] = sigma;
            let smooth = gaussian(&values, shape, sigmas);
            for x in 0..n {
                assert!(
                    (smooth[x] as f64 - direct(x)).abs() < 1e-5,
                    "axis {axis}, {x}"
                );
            }
        }
    }
}
