//! A folded sheet of cortex, given as a formula, and a smooth warp of it.

use std::f64::consts::TAU;

use aligner::{
    affine::Affine,
    field::DisplacementField,
    grid::Grid,
    observer::Silent,
    registration::{LandmarkPair, Registration, RegistrationInput, register},
    volume::Volume,
};
use alignment_api::RegistrationParameters;

/// Size of the patch in mm, before `unit`.
const EXTENT: [f64; 3] = [24.0, 18.0, 21.6];
const VOXELS: [usize; 3] = [48, 36, 48];

/// Depth at a position of the unwarped patch, mm: sulci and gyri along z, about 3 mm thick.
fn sheet(p: [f64; 3]) -> f64 {
    let fold = 3.0 * (TAU * p[0] / 13.0).sin() * (TAU * p[1] / 15.0 + 0.4).cos();
    let across = p[2] + fold + 0.15 * p[0];
    (0.5 + 0.75 * (TAU * across / 13.0).sin()).clamp(0.0, 1.0)
}

/// The true displacement in mm: up to about 1.5 mm, vanishing at the border.
pub(crate) fn true_displacement(p: [f64; 3]) -> [f64; 3] {
    let window: f64 = (0..3)
        .map(|a| (std::f64::consts::PI * p[a] / EXTENT[a]).sin())
        .product();
    let wave = |a: f64, b: f64, c: f64| (TAU * (p[0] * a + p[1] * b + p[2] * c)).sin();
    [
        1.2 * window * wave(0.02, 0.05, 0.03),
        -1.2 * window * wave(0.05, -0.02, 0.02),
        1.6 * window * wave(0.04, 0.03, -0.03),
    ]
}

/// A registration problem whose answer is known. Lengths of the phantom are multiplied by `unit`.
pub(crate) struct Phantom {
    pub(crate) unit: f64,
    pub(crate) fixed: Volume<f32>,
    pub(crate) moving: Volume<f32>,
    pub(crate) fixed_to_moving: Affine,
    pub(crate) landmarks: Vec<LandmarkPair>,
}

/// How the patch's voxel axes lie in its world.
#[derive(Clone, Copy)]
pub(crate) struct Axes {
    /// World axis along which each voxel axis runs.
    pub(crate) order: [usize; 3],
    /// Whether it runs downwards.
    pub(crate) flipped: [bool; 3],
}

pub(crate) const PLAIN: Axes = Axes {
    order: [0, 1, 2],
    flipped: [false; 3],
};

fn patch_grid(axes: Axes, unit: f64) -> Grid {
    let mut linear = [[0.0; 3]; 3];
    let mut origin = [0.0; 3];
    for (axis, &world) in axes.order.iter().enumerate() {
        let size = unit * EXTENT[world] / VOXELS[world] as f64;
        let sign = if axes.flipped[axis] { -1.0 } else { 1.0 };
        linear[world][axis] = sign * size;
        origin[world] = if axes.flipped[axis] {
            unit * EXTENT[world] - 0.5 * size
        } else {
            0.5 * size
        };
    }
    Grid {
        shape: axes.order.map(|world| VOXELS[world]),
        voxel_to_world: Affine::from_parts(linear, origin),
    }
}

fn sampled(grid: Grid, depth: impl Fn([f64; 3]) -> f64) -> Volume<f32> {
    Volume::from_fn(grid, |(x, y, z)| {
        depth(grid.voxel_to_world.apply([x as f64, y as f64, z as f64])) as f32
    })
}

impl Phantom {
    pub(crate) fn new(axes: Axes, unit: f64) -> Self {
        Self::on(patch_grid(axes, unit), unit)
    }

    /// The patch with a depth that is wrong within four voxels of the faces of the image.
    pub(crate) fn guessed_beside_faces() -> Self {
        let mut phantom = Self::new(PLAIN, 1.0);
        let right = phantom.fixed;
        let [nx, ny, nz] = right.grid.shape;
        phantom.fixed = Volume::from_fn(right.grid, |(x, y, z)| {
            let from_face = [(x, nx), (y, ny), (z, nz)].map(|(at, n)| at.min(n - 1 - at));
            let nearest = from_face.into_iter().fold(usize::MAX, usize::min);
            // The sheet from up to four voxels further up, the more the nearer to a face: plausible, but wrong.
            let up = (z + 4_usize.saturating_sub(nearest)).min(nz - 1);
            right.values()[x + nx * (y + ny * up)]
        });
        phantom
    }

    /// The patch on an oblique grid of anisotropic voxels, over most of the same extent.
    pub(crate) fn oblique() -> Self {
        let (shape, spacing) = ([46, 30, 26], [0.5, 0.6, 0.8]);
        let (cos, sin) = (0.3_f64.cos(), 0.3_f64.sin());
        let linear = [
            [cos * spacing[0], sin * spacing[1], 0.0],
            [-sin * spacing[0], cos * spacing[1], 0.0],
            [0.0, 0.0, -spacing[2]],
        ];
        let centred = Affine::from_parts(linear, [0.0; 3])
            .apply(shape.map(|n: usize| (n as f64 - 1.0) / 2.0));
        let origin = std::array::from_fn(|a| EXTENT[a] / 2.0 - centred[a]);
        let grid = Grid {
            shape,
            voxel_to_world: Affine::from_parts(linear, origin),
        };
        Self::on(grid, 1.0)
    }

    fn on(grid: Grid, unit: f64) -> Self {
        let tilted = Affine::from_parts(
            [[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.05]],
            [5.0 * unit, -8.0 * unit, 3.0 * unit],
        );
        let back = tilted.inverse().unwrap();
        let size = 0.5 * unit;
        let template = Grid {
            shape: [70, 66, 60],
            voxel_to_world: Affine::from_parts(
                [[-size, 0.0, 0.0], [0.0, size, 0.0], [0.0, 0.0, size]],
                [30.0 * unit, -10.0 * unit, 0.0],
            ),
        };
        let scaled = |p: [f64; 3]| p.map(|value| value / unit);
        let warped = |p: [f64; 3]| {
            let u = true_displacement(p);
            [p[0] + u[0], p[1] + u[1], p[2] + u[2]]
        };
        Self {
            unit,
            fixed: sampled(grid, |p| sheet(warped(scaled(p)))),
            moving: sampled(template, |p| sheet(scaled(back.apply(p)))),
            fixed_to_moving: tilted,
            landmarks: Vec::new(),
        }
    }

    pub(crate) fn input(&self) -> RegistrationInput<'_> {
        RegistrationInput {
            fixed: &self.fixed,
            validity: None,
            moving: &self.moving,
            fixed_to_moving: self.fixed_to_moving,
            landmarks: &self.landmarks,
        }
    }

    pub(crate) fn register(&self, parameters: &RegistrationParameters) -> Registration {
        register(&self.input(), &parameters.effective(), &Silent).unwrap()
    }

    /// Exact landmark pairs at seeded positions within the patch.
    pub(crate) fn exact_landmarks(&self, count: usize) -> Vec<LandmarkPair> {
        let mut state = 12345_u64;
        let mut random = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f64 / (1_u64 << 24) as f64
        };
        (0..count)
            .map(|_| {
                let p: [f64; 3] = std::array::from_fn(|a| EXTENT[a] * (0.2 + 0.6 * random()));
                let u = true_displacement(p);
                LandmarkPair {
                    fixed_mm: p.map(|value| value * self.unit),
                    moving_mm: self
                        .fixed_to_moving
                        .apply(std::array::from_fn(|a| (p[a] + u[a]) * self.unit)),
                    weight: 1.0,
                }
            })
            .collect()
    }

    /// Mean errors over the cortex: (length of the whole error, part along the gradient of depth),
    /// in units of the phantom.
    pub(crate) fn errors(&self, forward: &DisplacementField) -> (f64, f64) {
        let (mut whole, mut normal, mut count) = (0.0, 0.0, 0.0);
        self.for_cortex(|p, index| {
            let u = true_displacement(p);
            let error: [f64; 3] =
                std::array::from_fn(|c| forward.components[c][index] as f64 / self.unit - u[c]);
            let place: [f64; 3] = std::array::from_fn(|a| p[a] + u[a]);
            let slope: [f64; 3] = std::array::from_fn(|a| {
                let mut ends = [place; 2];
                ends[0][a] -= 0.01;
                ends[1][a] += 0.01;
                sheet(ends[1]) - sheet(ends[0])
            });
            let dot = |a: [f64; 3], b: [f64; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
            whole += dot(error, error).sqrt();
            normal += dot(error, slope).abs() / dot(slope, slope).sqrt().max(1e-9);
            count += 1.0;
        });
        (whole / count, normal / count)
    }

    /// Calls with the position (phantom units) and the index of every voxel of the cortex.
    pub(crate) fn for_cortex(&self, mut call: impl FnMut([f64; 3], usize)) {
        let [nx, ny, _] = self.fixed.grid.shape;
        for (index, depth) in self.fixed.values().iter().enumerate() {
            if *depth > 0.02 && *depth < 0.98 {
                let voxel = [index % nx, index / nx % ny, index / (nx * ny)].map(|i| i as f64);
                let world = self.fixed.grid.voxel_to_world.apply(voxel);
                call(world.map(|value| value / self.unit), index);
            }
        }
    }
}
