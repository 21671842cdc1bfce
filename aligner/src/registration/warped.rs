//! Both images of a level, pulled to the mid-point between them.
//!
//! The fixed image is seen through exp(−v/2), the moving one through the affine map after
//! exp(v/2). Treating both alike makes the result independent of which side is called fixed.

use rayon::prelude::*;

use super::{
    lattice::{LatticeField, Plane, Upsampler},
    pyramid::Level,
};
use crate::interpolate::Locator;

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

/// Displacements of the two halves of the flow, as spline coefficients in voxels of the level.
pub(super) struct Halves {
    pub(super) forward: LatticeField,
    pub(super) backward: LatticeField,
}

/// Working memory of one task.
#[derive(Default)]
struct Scratch {
    planes: [Plane; 2],
    forward: [Vec<f32>; 3],
    backward: [Vec<f32>; 3],
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
    pub(super) fn update(&mut self, level: &Level, upsampler: &Upsampler, halves: &Halves) -> f64 {
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
                    scratch.start(upsampler, halves, z, nx);
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
    fn start(&mut self, upsampler: &Upsampler, halves: &Halves, z: usize, nx: usize) {
        let [forward, backward] = &mut self.planes;
        upsampler.start_plane(&halves.forward, z, forward);
        upsampler.start_plane(&halves.backward, z, backward);
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

    fn row(&self, scratch: &Scratch, [y, z]: [usize; 2], out: &mut RowOut) {
        let nx = out.sum.len();
        let m = self.to_moving;
        let [fx, fy, fz] = scratch.forward.each_ref().map(|row| &row[..nx]);
        let [bx, by, bz] = scratch.backward.each_ref().map(|row| &row[..nx]);
        let (y, z) = (y as f32, z as f32);
        for i in 0..nx {
            let x = i as f32;
            let p = [x + fx[i], y + fy[i], z + fz[i]];
            let p = m.map(|row| row[0] * p[0] + row[1] * p[1] + row[2] * p[2] + row[3]);
            let q = [x + bx[i], y + by[i], z + bz[i]];
            let fixed_cell = self.fixed.cell(q);
            let fixed = fixed_cell.value(&self.level.fixed);
            let moving = self.moving.cell(p).value(&self.level.moving);
            out.sum[i] = fixed + moving;
            out.residual[i] = fixed - moving;
            let inside = self.moving.contains(p) && self.fixed.contains(q);
            out.weight[i] = match (&self.level.validity, inside) {
                (_, false) => 0.0,
                (None, true) => 1.0,
                (Some(validity), true) => fixed_cell.value(validity),
            };
        }
    }
}
