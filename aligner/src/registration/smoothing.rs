//! Gaussian smoothing.

use rayon::prelude::*;

use super::LEAF;
use crate::{scratch::PerThread, wide::wide};

/// The kernel ends this many standard deviations from its centre.
const TRUNCATE: f64 = 4.0;
/// Elements that stay in the first-level cache while everything is added to them.
const PIECE: usize = 2048;

/// The volume smoothed with a Gaussian of the given standard deviation in voxels along each axis.
///
/// `values` are x fastest. Beyond the border, the value of the nearest voxel counts.
pub(super) fn gaussian(values: &[f32], shape: [usize; 3], sigma_vox: [f64; 3]) -> Vec<f32> {
    let [nx, ny, nz] = shape;
    let plane = nx * ny;
    let [along_x, along_y, along_z] = sigma_vox.map(kernel);
    let (sources_y, sources_z) = (sources(&along_y, ny), sources(&along_z, nz));
    let scratch = PerThread::new();
    let mut smooth = vec![0.0; values.len()];
    smooth
        .par_chunks_mut(plane)
        .zip(&sources_z)
        .with_max_len(LEAF)
        .for_each(|(out, sources)| {
            scratch.with(|[combined, row]: &mut [Vec<f32>; 2]| {
                combined.resize(plane, 0.0);
                row.resize(nx, 0.0);
                for (piece, out) in combined.chunks_mut(PIECE).enumerate() {
                    let size = out.len();
                    sources.combine(out, |z| &values[z * plane + piece * PIECE..][..size]);
                }
                for (sources, out) in sources_y.iter().zip(out.chunks_exact_mut(nx)) {
                    sources.combine(row, |y| &combined[y * nx..(y + 1) * nx]);
                    smooth_row(row, out, &along_x);
                }
            });
        });
    smooth
}

/// What the voxels along an axis add to one of them, each with its weight. In the kernel's order, also where a
/// voxel counts more than once, so that a constant comes out the same everywhere.
struct Sources(Vec<(usize, f32)>);

/// For each of the `n` voxels along an axis, the kernel around it; beyond the border, the last voxel counts.
fn sources(kernel: &[f32], n: usize) -> Vec<Sources> {
    let radius = kernel.len() / 2;
    let around = |voxel: usize| {
        let source = |offset: usize| (voxel + offset).saturating_sub(radius).min(n - 1);
        let weights = kernel.iter().enumerate();
        Sources(
            weights
                .map(|(offset, weight)| (source(offset), *weight))
                .collect(),
        )
    };
    (0..n).map(around).collect()
}

impl Sources {
    /// The weighted sum of `part(source)`.
    fn combine<'v>(&self, out: &mut [f32], part: impl Fn(usize) -> &'v [f32]) {
        out.fill(0.0);
        let (whole, rest) = self.0.as_chunks();
        for four in whole {
            let parts = four.map(|(source, _)| part(source));
            let weights = four.map(|(_, weight)| weight);
            wide(
                #[inline(always)]
                || add_four(out, parts, weights),
            );
        }
        for (source, weight) in rest {
            add_scaled(out, part(*source), *weight);
        }
    }
}

#[inline(always)]
fn add_four(target: &mut [f32], parts: [&[f32]; 4], weights: [f32; 4]) {
    let n = target.len();
    let [a, b, c, d] = parts.map(|part| &part[..n]);
    for i in 0..n {
        let sum = target[i] + weights[0] * a[i] + weights[1] * b[i];
        target[i] = sum + weights[2] * c[i] + weights[3] * d[i];
    }
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
    fn a_constant_comes_out_the_same_everywhere() {
        let smooth = gaussian(&[0.3; 9 * 8 * 7], [9, 8, 7], [1.0, 0.7, 1.3]);
        assert!(smooth.iter().all(|value| *value == smooth[0]));
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
