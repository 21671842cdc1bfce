//! Both images of a level, pulled to a point on the way between them.
//!
//! The fixed image is seen through exp(−s·v), the moving one through the affine map after
//! exp((1−s)·v). At the mid-point, s = ½, both are treated alike.

use rayon::prelude::*;

use super::{
    LEAF,
    columns::Columns,
    lattice::{LatticeField, Plane, Upsampler},
    pyramid::Level,
};
use crate::{interpolate::Locator, scratch::PerThread, wide::wide};

/// The two warped images on the level's grid, as the next step needs them.
pub(super) struct Warped {
    pub(super) shape: [usize; 3],
    /// Fixed + moving.
    pub(super) sum: Vec<f32>,
    /// Fixed − moving.
    pub(super) residual: Vec<f32>,
    /// Validity of the fixed image, or what stands for it; 0 where either position lies outside its image.
    pub(super) weight: Vec<f32>,
    scratch: PerThread<Scratch>,
}

/// Displacements of the two parts of the flow, as spline coefficients in voxels of the level.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) forward: &'a LatticeField,
    /// `None` leaves the fixed image as it is.
    pub(super) backward: Option<&'a LatticeField>,
}

/// Working memory of a thread.
#[derive(Default)]
struct Scratch {
    forward_plane: Plane,
    backward_plane: Plane,
    /// Displacements of a row, then positions: in the moving and in the fixed image.
    forward: [Vec<f32>; 3],
    backward: [Vec<f32>; 3],
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
        // Not clones of one: these stay untouched until they are written, in parallel.
        let [sum, residual, weight] = std::array::from_fn(|_| vec![0.0; shape.iter().product()]);
        Self {
            shape,
            sum,
            residual,
            weight,
            scratch: PerThread::new(),
        }
    }

    pub(super) fn into_volumes(self) -> [Vec<f32>; 3] {
        [self.sum, self.residual, self.weight]
    }

    /// One row along x of one of the volumes here.
    pub(super) fn row<'a>(&self, values: &'a [f32], y: usize, z: usize) -> &'a [f32] {
        let [nx, ny, _] = self.shape;
        let start = nx * (y + ny * z);
        &values[start..start + nx]
    }

    /// Warps both images; returns the root mean square residual over the level's cortex, weighted; NaN if
    /// no voxel of it is left. `doubted`: columns, and how much of their weight cut ones lose.
    pub(super) fn update(
        &mut self,
        level: &Level,
        upsampler: &Upsampler,
        parts: Parts,
        doubted: Option<&(Columns, f32)>,
    ) -> f64 {
        let [nx, ny, _] = self.shape;
        let plane = nx * ny;
        let sampler = Sampler::new(level);
        let scratch = &self.scratch;
        let sums: Vec<(f64, f64)> = self
            .sum
            .par_chunks_mut(plane)
            .zip(self.residual.par_chunks_mut(plane))
            .zip(self.weight.par_chunks_mut(plane))
            .enumerate()
            .with_max_len(LEAF)
            .map(|(z, ((sum, residual), weight))| {
                scratch.with(|scratch| {
                    scratch.start(upsampler, parts, z, nx);
                    let warp_fixed = parts.backward.is_some();
                    let rows = sum
                        .chunks_exact_mut(nx)
                        .zip(residual.chunks_exact_mut(nx))
                        .zip(weight.chunks_exact_mut(nx))
                        .enumerate();
                    for (y, ((sum, residual), weight)) in rows {
                        scratch.start_row(upsampler, y, warp_fixed);
                        let mut out = RowOut {
                            sum,
                            residual,
                            weight,
                        };
                        sampler.row(scratch, [y, z], warp_fixed, &mut out);
                    }
                });
                if let Some((columns, doubt)) = doubted {
                    columns.weigh(weight, z, *doubt);
                }
                squares(
                    residual,
                    weight,
                    &level.cortex.mask[z * plane..(z + 1) * plane],
                )
            })
            .collect();
        let (square, weight) = sums
            .into_iter()
            .fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        (square / weight).sqrt()
    }
}

impl Scratch {
    fn start(&mut self, upsampler: &Upsampler, parts: Parts, z: usize, nx: usize) {
        upsampler.start_plane(parts.forward, z, &mut self.forward_plane);
        if let Some(backward) = parts.backward {
            upsampler.start_plane(backward, z, &mut self.backward_plane);
        }
        let rows = self.forward.iter_mut().chain(&mut self.backward);
        rows.for_each(|row| row.resize(nx, 0.0));
    }

    fn start_row(&mut self, upsampler: &Upsampler, y: usize, warp_fixed: bool) {
        for (component, out) in self.forward.iter_mut().enumerate() {
            upsampler.row(&self.forward_plane, component, y, out);
        }
        if warp_fixed {
            for (component, out) in self.backward.iter_mut().enumerate() {
                upsampler.row(&self.backward_plane, component, y, out);
            }
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

    fn row(&self, scratch: &mut Scratch, [y, z]: [usize; 2], warp_fixed: bool, out: &mut RowOut) {
        let nx = out.sum.len();
        out.weight.fill(1.0);
        let forward = &mut scratch.forward;
        place(forward, [y, z], self.to_moving);
        self.moving.clear_outside(forward, out.weight);
        scratch.moving.resize(nx, 0.0);
        self.moving.values(
            forward.each_ref().map(Vec::as_slice),
            [&*self.level.moving],
            [&mut scratch.moving],
        );
        let (fixed, validity) = (&*self.level.fixed, self.level.validity.as_deref());
        if warp_fixed {
            let backward = &mut scratch.backward;
            place(backward, [y, z], UNMOVED);
            self.fixed.clear_outside(backward, out.weight);
            let positions = backward.each_ref().map(Vec::as_slice);
            if let Some(validity) = validity {
                // The sum's place serves as a buffer before it is filled.
                let outputs = [&mut *out.residual, &mut *out.sum];
                self.fixed.values(positions, [fixed, validity], outputs);
                multiply(out.weight, out.sum);
            } else {
                self.fixed.values(positions, [fixed], [out.residual]);
            }
        } else {
            let start = nx * (y + self.level.shape[1] * z);
            let row = start..start + nx;
            out.residual.copy_from_slice(&fixed[row.clone()]);
            if let Some(validity) = validity {
                multiply(out.weight, &validity[row]);
            }
        }
        let fixed = out.residual.iter_mut().zip(out.sum.iter_mut());
        for ((residual, sum), moving) in fixed.zip(&scratch.moving) {
            let fixed = *residual;
            *sum = fixed + moving;
            *residual = fixed - moving;
        }
    }
}

/// Rows of the affine map that changes nothing.
const UNMOVED: [[f32; 4]; 3] = [
    [1.0, 0.0, 0.0, 0.0],
    [0.0, 1.0, 0.0, 0.0],
    [0.0, 0.0, 1.0, 0.0],
];

/// Turns the displacements of a row into positions, seen through an affine map.
fn place(row: &mut [Vec<f32>; 3], [y, z]: [usize; 2], map: [[f32; 4]; 3]) {
    let (y, z) = (y as f32, z as f32);
    let [along_x, along_y, along_z] = row.each_mut().map(Vec::as_mut_slice);
    wide(
        #[inline(always)]
        || {
            let rest = along_y.iter_mut().zip(along_z);
            for (i, (dx, (dy, dz))) in along_x.iter_mut().zip(rest).enumerate() {
                let p = [i as f32 + *dx, y + *dy, z + *dz];
                [*dx, *dy, *dz] =
                    map.map(|row| row[0] * p[0] + row[1] * p[1] + row[2] * p[2] + row[3]);
            }
        },
    );
}

fn multiply(target: &mut [f32], factors: &[f32]) {
    for (target, factor) in target.iter_mut().zip(factors) {
        *target *= factor;
    }
}
