//! Both images of a level, pulled to a point on the way between them.
//!
//! The fixed image is seen through exp(−s·v), the moving one through the affine map after
//! exp((1−s)·v). At the mid-point, s = ½, both are treated alike.

use rayon::prelude::*;

use super::{
    lattice::{LatticeField, Plane, Upsampler},
    pyramid::Level,
};
use crate::{
    interpolate::{Locator, Row},
    wide::wide,
};

/// The two warped images on the level's grid, as the next step needs them.
pub(super) struct Warped {
    pub(super) shape: [usize; 3],
    /// Fixed + moving.
    pub(super) sum: Vec<f32>,
    /// Fixed − moving.
    pub(super) residual: Vec<f32>,
    /// Validity of the fixed image, 0 where either position lies outside its image.
    pub(super) weight: Vec<f32>,
}

/// Displacements of the two parts of the flow, as spline coefficients in voxels of the level.
pub(super) struct Parts {
    pub(super) forward: LatticeField,
    pub(super) backward: LatticeField,
}

/// Working memory of one task.
#[derive(Default)]
struct Scratch {
    planes: [Plane; 2],
    /// Displacements of a row, then positions: in the moving and in the fixed image.
    forward: [Vec<f32>; 3],
    backward: [Vec<f32>; 3],
    moving_row: Row,
    fixed_row: Row,
    moving: Vec<f32>,
}

/// Where one row of output goes.
struct RowOut<'a> {
    sum: &'a mut [f32],
    residual: &'a mut [f32],
    weight: &'a mut [f32],
}

impl Warped {
    pub(super) fn new(shape: [usize; 3]) -> Self {
        let values = vec![0.0; shape.iter().product()];
        Self {
            shape,
            sum: values.clone(),
            residual: values.clone(),
            weight: values,
        }
    }

    /// One row along x of one of the volumes here.
    pub(super) fn row<'a>(&self, values: &'a [f32], y: usize, z: usize) -> &'a [f32] {
        let [nx, ny, _] = self.shape;
        let start = nx * (y + ny * z);
        &values[start..start + nx]
    }

    /// Warps both images; returns the root mean square residual over the valid part of the level's
    /// cortex, NaN if no voxel of it is left.
    pub(super) fn update(&mut self, level: &Level, upsampler: &Upsampler, parts: &Parts) -> f64 {
        let [nx, ny, _] = self.shape;
        let plane = nx * ny;
        let sampler = Sampler::new(level);
        let sums: Vec<(f64, f64)> = self
            .sum
            .par_chunks_mut(plane)
            .zip(self.residual.par_chunks_mut(plane))
            .zip(self.weight.par_chunks_mut(plane))
            .enumerate()
            .map_init(
                Scratch::default,
                |scratch, (z, ((sum, residual), weight))| {
                    scratch.start(upsampler, parts, z, nx);
                    let rows = sum
                        .chunks_exact_mut(nx)
                        .zip(residual.chunks_exact_mut(nx))
                        .zip(weight.chunks_exact_mut(nx))
                        .enumerate();
                    for (y, ((sum, residual), weight)) in rows {
                        scratch.start_row(upsampler, y);
                        let mut out = RowOut {
                            sum,
                            residual,
                            weight,
                        };
                        sampler.row(scratch, [y, z], &mut out);
                    }
                    squares(
                        residual,
                        weight,
                        &level.cortex.mask[z * plane..(z + 1) * plane],
                    )
                },
            )
            .collect();
        let (square, weight) = sums
            .into_iter()
            .fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        (square / weight).sqrt()
    }
}

impl Scratch {
    fn start(&mut self, upsampler: &Upsampler, parts: &Parts, z: usize, nx: usize) {
        let [forward, backward] = &mut self.planes;
        upsampler.start_plane(&parts.forward, z, forward);
        upsampler.start_plane(&parts.backward, z, backward);
        let rows = self.forward.iter_mut().chain(&mut self.backward);
        rows.for_each(|row| row.resize(nx, 0.0));
    }

    fn start_row(&mut self, upsampler: &Upsampler, y: usize) {
        for component in 0..3 {
            let out = &mut self.forward[component];
            upsampler.row(&self.planes[0], component, y, out);
            let out = &mut self.backward[component];
            upsampler.row(&self.planes[1], component, y, out);
        }
    }
}

/// Σ w·r² and Σ w over the masked voxels.
fn squares(residual: &[f32], weight: &[f32], mask: &[bool]) -> (f64, f64) {
    let mut square = 0.0_f64;
    let mut total = 0.0_f64;
    for ((residual, weight), inside) in residual.iter().zip(weight).zip(mask) {
        if *inside {
            square += (weight * residual * residual) as f64;
            total += *weight as f64;
        }
    }
    (square, total)
}

/// Samples the images of a level.
struct Sampler<'a> {
    level: &'a Level<'a>,
    fixed: Locator,
    moving: Locator,
    to_moving: [[f32; 4]; 3],
}

impl<'a> Sampler<'a> {
    fn new(level: &'a Level) -> Self {
        let rows = level.to_moving.rows();
        Self {
            level,
            fixed: Locator::new(level.shape),
            moving: Locator::new(level.moving_shape),
            to_moving: std::array::from_fn(|row| rows[row].map(|value| value as f32)),
        }
    }

    fn row(&self, scratch: &mut Scratch, at: [usize; 2], out: &mut RowOut) {
        self.place(scratch, at, out.weight);
        let Scratch {
            forward,
            backward,
            fixed_row,
            moving_row,
            moving,
            ..
        } = scratch;
        moving.resize(out.sum.len(), 0.0);
        moving_row.locate(&self.moving, forward.each_ref().map(Vec::as_slice));
        moving_row.values(&self.level.moving, moving);
        fixed_row.locate(&self.fixed, backward.each_ref().map(Vec::as_slice));
        if let Some(validity) = &self.level.validity {
            // The residual's place serves as a buffer before it is filled.
            fixed_row.values(validity, out.residual);
            for (weight, validity) in out.weight.iter_mut().zip(&*out.residual) {
                *weight *= validity;
            }
        }
        fixed_row.values(&self.level.fixed, out.residual);
        let fixed = out.residual.iter_mut().zip(out.sum.iter_mut());
        for ((residual, sum), moving) in fixed.zip(&*moving) {
            let fixed = *residual;
            *sum = fixed + moving;
            *residual = fixed - moving;
        }
    }

    /// Turns displacements into positions in the moving and in the fixed image; `weight` becomes 1
    /// where both lie inside, 0 elsewhere.
    fn place(&self, scratch: &mut Scratch, [y, z]: [usize; 2], weight: &mut [f32]) {
        let nx = weight.len();
        let m = self.to_moving;
        let (y, z) = (y as f32, z as f32);
        let [fx, fy, fz] = scratch.forward.each_mut().map(|row| &mut row[..nx]);
        let [bx, by, bz] = scratch.backward.each_mut().map(|row| &mut row[..nx]);
        wide(
            #[inline(always)]
            || {
                for i in 0..nx {
                    let x = i as f32;
                    let p = [x + fx[i], y + fy[i], z + fz[i]];
                    let p = m.map(|row| row[0] * p[0] + row[1] * p[1] + row[2] * p[2] + row[3]);
                    let q = [x + bx[i], y + by[i], z + bz[i]];
                    let inside = self.moving.contains(p) & self.fixed.contains(q);
                    weight[i] = if inside { 1.0 } else { 0.0 };
                    (fx[i], fy[i], fz[i]) = (p[0], p[1], p[2]);
                    (bx[i], by[i], bz[i]) = (q[0], q[1], q[2]);
                }
            },
        );
    }
}
