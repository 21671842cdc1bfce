//! Gauss-Newton on one level of the pyramid.
//!
//! Minimises ½∫ρ(r)·w dx + λ/2·∫|Lv|² dx over the velocity v, with L*L = (1 − ℓ²/6·Δ)³ and ρ, w as
//! in [`super::normal`]. λ follows the residual: where the two depths agree it vanishes, where
//! they keep disagreeing the smooth solution wins.

use alignment_api::{EffectiveRegistration, LandmarkMode, LevelParameters, LevelReport};

use super::{
    RegistrationError,
    columns::Columns,
    exponential::{exponential, set_exponential},
    landmarks::Landmarks,
    lattice::{LatticeField, Upsampler},
    normal::{NormalEquations, WeightScales},
    problem::Problem,
    progress::Progress,
    pyramid::Level,
    solver::Solver,
    stencil::Frame,
    warped::{Parts, Warped},
};

/// Smallest robust scale, in units of depth: what noise and interpolation leave at best.
const SMALLEST_SCALE: f64 = 0.02;
/// The smoothness weight is the one of the parameters where the residual has this size.
const REFERENCE_RESIDUAL: f64 = 0.05;
/// Mean square residual that soft landmarks reckon with at least: about that at which the smoothness no
/// longer falls.
const LEAST_SQUARE: f64 = 5e-5;
/// Above the upper residual both images are warped alike, below the lower one only the moving one.
const SYMMETRY_RESIDUALS: [f64; 2] = [0.01, 0.03];
/// Above the upper residual, columns that the image cuts do not count; below the lower one they count in
/// full.
const DOUBT_RESIDUALS: [f64; 2] = [0.01, 0.02];
/// A residual that grew by this factor takes half of the last step back.
const RISE: f64 = 1.2;

/// What stays the same on all levels of one attempt.
pub(super) struct Setting<'a> {
    pub(super) problem: &'a Problem<'a>,
    pub(super) parameters: &'a EffectiveRegistration,
    /// Smallest smoothness weight in units of the mean square slope.
    pub(super) floor: f64,
}

impl Setting<'_> {
    /// λ, per unit of length squared.
    fn smoothness(&self, residual: f64, mean_square_velocity: f64) -> f64 {
        let slope_square = self.problem.slope_square;
        let reach = self.parameters.amplitude_factor * self.problem.smoothness_length;
        let amplitude = (mean_square_velocity / (reach * reach)).max(1.0);
        let capped = residual.min(self.parameters.residual_ceiling);
        let weight = self.parameters.smoothness_weight * capped.powi(3) / REFERENCE_RESIDUAL;
        slope_square * (weight / amplitude).max(self.floor)
    }

    /// r²·V/σ² of the landmarks; soft ones weigh r/0.05 of it where the depths agree better than that.
    ///
    /// There, the smoothness falls with r³. Soft landmarks keep their weight against it: how far a pair's pull
    /// reaches, and how much of its error goes into the result, does not depend on how well depths agree.
    fn landmark_strength(&self, residual: f64) -> f64 {
        let thickness = 1.0 / self.problem.slope_square.sqrt();
        let volume = self.parameters.landmark_volume_factor * thickness.powi(3);
        let uncertainty = self.problem.landmark_uncertainty;
        let square = residual * residual;
        let square = match self.parameters.landmark_mode {
            LandmarkMode::Soft => {
                (square * (residual / REFERENCE_RESIDUAL).min(1.0)).max(LEAST_SQUARE)
            }
            LandmarkMode::Hard => square,
        };
        square * volume / (uncertainty * uncertainty)
    }
}

/// State of one level.
pub(super) struct LevelSolver<'a> {
    setting: &'a Setting<'a>,
    level: Level<'a>,
    parameters: &'a LevelParameters,
    /// Voxels of the level per lattice cell.
    block: usize,
    cell: [f64; 3],
    upsampler: Upsampler,
    /// Fields that each iteration sets again.
    flows: Flows,
    warped: Warped,
    equations: NormalEquations,
    solver: Solver,
    /// Of the velocity, by the last step.
    change: LatticeField,
    /// Share of the flow that warps the fixed image; the moving one gets the rest.
    fixed_share: f32,
    /// Whether columns that the image cuts may lose weight.
    judges: bool,
    /// Those that lose some, and how much of it, once the first residual has told.
    doubted: Option<(Columns, f32)>,
}

/// Displacements of the two parts of the flow.
struct Flows {
    forward: LatticeField,
    backward: LatticeField,
    spare: LatticeField,
}

impl<'a> LevelSolver<'a> {
    /// `refines`: a coarser level came before, so that the depths agree already as far as they will.
    pub(super) fn new(
        setting: &'a Setting<'a>,
        parameters: &'a LevelParameters,
        refines: bool,
    ) -> Self {
        let level = Level::build(setting.problem, parameters.shrink_factor.max(1) as usize);
        let block = setting.parameters.lattice_spacing.max(1) as usize;
        let lattice = lattice_shape(level.shape, block);
        let cell = level.spacing.map(|size| size * block as f64);
        Self {
            setting,
            block,
            cell,
            upsampler: Upsampler::new(lattice, level.shape, [1.0 / block as f64; 3]),
            flows: Flows {
                forward: LatticeField::zero(lattice),
                backward: LatticeField::zero(lattice),
                spare: LatticeField::zero(lattice),
            },
            warped: Warped::new(level.shape),
            equations: NormalEquations::zero(lattice),
            solver: Solver::new(
                lattice,
                cell,
                setting.problem.smoothness_length,
                setting.parameters.conjugate_gradient_steps,
            ),
            change: LatticeField::zero(lattice),
            fixed_share: fixed_share(f64::INFINITY),
            judges: refines && parameters.shrink_factor <= 1 && setting.problem.validity.is_none(),
            doubted: None,
            level,
            parameters,
        }
    }

    /// Improves the velocity until steps are short or the iterations are used up.
    pub(super) fn optimise(
        &mut self,
        mut velocity: LatticeField,
        landmarks: &mut Landmarks,
        progress: &mut Progress,
    ) -> Result<(LatticeField, LevelReport), RegistrationError> {
        let mut report = LevelReport {
            shrink_factor: self.parameters.shrink_factor,
            residuals: Vec::new(),
            steps_mm: Vec::new(),
        };
        let voxel = self.level.spacing.iter().sum::<f64>() / 3.0;
        let mut last: Option<f64> = None;
        for iteration in 1..=self.parameters.iterations {
            let residual = self.linearise(&velocity, landmarks);
            // Landmarks may have to raise the residual of the depths.
            if let Some(before) = last
                && residual > RISE * before
                && !landmarks.any()
            {
                self.change.scale(-0.5);
                velocity.add(&self.change);
                // Once: it may have risen only because the fixed image is blurred less.
                last = None;
                progress.iteration(iteration, self.parameters.iterations, residual)?;
                continue;
            }
            self.fixed_share = fixed_share(residual);
            let step = self.step(residual, &velocity);
            if !residual.is_finite() || !step.is_finite() {
                return Err(RegistrationError::Diverged {
                    shrink_factor: self.parameters.shrink_factor,
                    iteration,
                });
            }
            velocity.add(&self.change);
            report.residuals.push(residual);
            report.steps_mm.push(step * self.setting.problem.unit_mm);
            progress.iteration(iteration, self.parameters.iterations, residual)?;
            if step < self.setting.parameters.step_tolerance * voxel {
                break;
            }
            last = Some(residual);
        }
        Ok((velocity, report))
    }

    /// Three volumes of the level, for other use.
    pub(super) fn into_volumes(self) -> [Vec<f32>; 3] {
        self.warped.into_volumes()
    }

    /// Warps the images and sets up the equations; returns the root mean square residual.
    fn linearise(&mut self, velocity: &LatticeField, landmarks: &mut Landmarks) -> f64 {
        self.flow(velocity);
        let residual = self.warp();
        let scale = (self.parameters.robust_scale * residual).max(SMALLEST_SCALE);
        let scales = WeightScales {
            residual: (scale * scale) as f32,
            slope: self.level.cortex.mean_square_slope as f32,
        };
        self.equations
            .accumulate(&self.warped, self.level.spacing, self.block, scales);
        if landmarks.any() {
            let cell = self.cell.map(|size| size as f32);
            let whole = exponential(velocity, 1.0, cell);
            let strength = self.setting.landmark_strength(residual);
            let frame = self.frame();
            landmarks.add(&mut self.equations, &whole, &frame, strength);
        }
        residual
    }

    /// Warps the images; returns the root mean square residual. The first one, with which all columns still
    /// count, tells how far those are doubted from then on that the image cuts.
    fn warp(&mut self) -> f64 {
        let residual = self.warp_once();
        if self.judges {
            self.judges = false;
            self.doubted = self.doubted(doubt(residual));
        } else if residual.is_nan() && self.doubted.is_some() {
            // The template holds no whole column: the cut ones are all there is.
            self.doubted = None;
            return self.warp_once();
        }
        residual
    }

    fn warp_once(&mut self) -> f64 {
        let parts = Parts {
            forward: &self.flows.forward,
            backward: (self.fixed_share > 0.0).then_some(&self.flows.backward),
        };
        let doubted = self.doubted.as_ref();
        self.warped
            .update(&self.level, &self.upsampler, parts, doubted)
    }

    fn doubted(&self, doubt: f32) -> Option<(Columns, f32)> {
        if doubt <= 0.0 {
            return None;
        }
        let Level { shape, spacing, .. } = self.level;
        let thickness = 1.0 / self.setting.problem.slope_square.sqrt();
        let columns = Columns::find(&self.level.fixed, shape, spacing, thickness)?;
        Some((columns, doubt))
    }

    fn frame(&self) -> Frame {
        Frame {
            patch: self.setting.problem.shape,
            spacing: self.setting.problem.spacing,
            lattice: lattice_shape(self.level.shape, self.block),
            block: (self.block * self.parameters.shrink_factor.max(1) as usize) as f64,
        }
    }

    /// The flow's two parts, as spline coefficients in voxels of the level.
    fn flow(&mut self, velocity: &LatticeField) {
        let cell = self.cell.map(|size| size as f32);
        let share = self.fixed_share;
        let Flows {
            forward,
            backward,
            spare,
        } = &mut self.flows;
        let mut set = |part: &mut LatticeField, factor| {
            set_exponential(part, velocity, factor, cell, spare);
            part.scale(self.block as f32);
            part.become_coefficients();
        };
        if share > 0.0 {
            set(backward, -share);
        }
        set(forward, 1.0 - share);
    }

    /// The next change of the velocity, at most a voxel long; returns its root mean square.
    fn step(&mut self, residual: f64, velocity: &LatticeField) -> f64 {
        let weight = self.setting.smoothness(residual, velocity.mean_square());
        let change = &mut self.change;
        self.solver.solve(&self.equations, weight, velocity, change);
        let longest = change.max_square([1.0; 3]).sqrt();
        let voxel = self.level.spacing.into_iter().fold(f64::INFINITY, f64::min) as f32;
        if longest > voxel {
            change.scale(voxel / longest);
        }
        change.mean_square().sqrt()
    }
}

/// How much of the flow warps the fixed image.
///
/// Half of it treats both images alike, which serves best where they disagree. Warping an image
/// blurs it a little, which is all that is left to see where they agree: there, the fixed image
/// is taken as it is.
fn fixed_share(residual: f64) -> f32 {
    let [low, high] = SYMMETRY_RESIDUALS;
    (0.5 * ((residual - low) / (high - low)).clamp(0.0, 1.0)) as f32
}

/// How much of their weight columns lose that the image cuts.
///
/// Their depth is a guess, which shows in that the depths of patch and template do not come to agree. Where
/// they do, there is nothing to doubt: the map was cropped after it was computed, for one.
fn doubt(residual: f64) -> f32 {
    let [low, high] = DOUBT_RESIDUALS;
    ((residual - low) / (high - low)).clamp(0.0, 1.0) as f32
}

/// Cells of a lattice over a grid; the last cell of an axis may reach beyond the border.
pub(super) fn lattice_shape(grid: [usize; 3], block: usize) -> [usize; 3] {
    grid.map(|n| n.div_ceil(block))
}

#[cfg(test)]
mod tests {
    use rayon::iter::ParallelIterator;

    use super::*;
    use crate::registration::sum::dot;
    use crate::{affine::Affine, grid::Grid, registration::RegistrationInput, volume::Volume};

    const SHAPE: [usize; 3] = [48, 45, 51];

    /// Two wavy depths that differ by a fraction of a voxel and a little in contrast.
    fn volumes() -> (Volume<f32>, Volume<f32>) {
        let wave = |p: [f64; 3], shift: f64, contrast: f64| {
            let across = p[2] + 0.5 * p[0] - 0.4 * p[1]
                + shift
                + 1.5 * (0.3 * p[0]).sin() * (0.25 * p[1]).cos();
            (0.5 + contrast * (0.35 * across).sin()) as f32
        };
        let volume = |shape, start: f64, shift, contrast| {
            let grid = Grid {
                shape,
                voxel_to_world: Affine::translation([start; 3]),
            };
            let value = |(x, y, z): (usize, usize, usize)| {
                let p = grid.voxel_to_world.apply([x as f64, y as f64, z as f64]);
                wave(p, shift, contrast)
            };
            Volume::from_fn(grid, value)
        };
        (
            volume(SHAPE, 0.0, 0.4, 0.45),
            volume(SHAPE.map(|n| n + 8), -4.0, 0.0, 0.4),
        )
    }

    /// A smooth velocity on the level's lattice that is small at the border.
    fn direction(lattice: [usize; 3], axis: usize) -> LatticeField {
        let mut field = LatticeField::zero(lattice);
        let plane = field.plane();
        for i in 0..plane * lattice[2] {
            let cell = [i % lattice[0], i / lattice[0] % lattice[1], i / plane];
            let bump: f64 = (0..3)
                .map(|a| (std::f64::consts::PI * (cell[a] as f64 + 0.5) / lattice[a] as f64).sin())
                .product();
            field.values[(3 * cell[2] + axis) * plane + i % plane] = bump.powi(2) as f32;
        }
        field
    }

    /// ½·Σ trust·ρ(r) over the voxels, ρ = s²r²/(s² + r²) of Geman and McClure.
    fn energy(warped: &Warped, trust: &[f64], square: f64) -> f64 {
        let residuals = warped.residual.iter().map(|r| (*r as f64).powi(2));
        let terms = residuals.map(|r| square * r / (square + r));
        0.5 * terms
            .zip(trust)
            .map(|(term, trust)| term * trust)
            .sum::<f64>()
    }

    /// g²/(g² + g₀²) inside, 0 on the border voxels.
    fn slope_trust(warped: &Warped, mean_square: f64) -> Vec<f64> {
        let [nx, ny, nz] = warped.shape;
        let strides = [1, nx, nx * ny];
        (0..nx * ny * nz)
            .map(|i| {
                let at = [i % nx, i / nx % ny, i / (nx * ny)];
                if (0..3).any(|a| at[a] == 0 || at[a] + 1 == warped.shape[a]) {
                    return 0.0;
                }
                let slope = |a: usize| {
                    0.25 * (warped.sum[i + strides[a]] - warped.sum[i - strides[a]]) as f64
                };
                let g: f64 = (0..3).map(|a| slope(a).powi(2)).sum();
                g / (g + mean_square)
            })
            .collect()
    }

    #[test]
    fn depths_that_agree_are_not_doubted() {
        assert_eq!(
            [0.003, 0.01, 0.015, 0.02, 0.4].map(doubt),
            [0.0, 0.0, 0.5, 1.0, 1.0]
        );
    }

    #[test]
    fn the_right_side_is_the_descent_of_the_energy() {
        let (fixed, moving) = volumes();
        let input = RegistrationInput {
            fixed: &fixed,
            validity: None,
            moving: &moving,
            fixed_to_moving: Affine::IDENTITY,
            landmarks: &[],
        };
        let parameters = alignment_api::RegistrationParameters::default().effective();
        let problem = Problem::prepare(&input, &parameters).unwrap();
        let setting = Setting {
            problem: &problem,
            parameters: &parameters,
            floor: parameters.smoothness_floor,
        };
        let mut solver = LevelSolver::new(&setting, &parameters.levels[2], false);
        let lattice = lattice_shape(SHAPE, 3);
        let mut none = Landmarks::new(&problem, parameters.landmark_mode);
        let residual = solver.linearise(&LatticeField::zero(lattice), &mut none);
        let force: Vec<f32> = solver.equations.right_side().flatten().copied().collect();
        let slope = solver.level.cortex.mean_square_slope;
        let trust = slope_trust(&solver.warped, slope);
        let square = (parameters.levels[2].robust_scale * residual).powi(2);
        for axis in 0..3 {
            let towards = direction(lattice, axis);
            let mut energy_at = |step: f32| {
                let mut velocity = towards.clone();
                velocity.scale(step);
                solver.linearise(&velocity, &mut none);
                energy(&solver.warped, &trust, square)
            };
            let step = 0.02;
            let numeric = (energy_at(step) - energy_at(-step)) / (2.0 * step as f64);
            // Cells hold means over 27 voxels each.
            let predicted = -27.0 * dot(&force, &towards.values);
            // What remains: one vector for all voxels of a cell, and linear interpolation.
            assert!(
                (numeric - predicted).abs() < 0.002 * predicted.abs(),
                "axis {axis}: {numeric} by differences, {predicted} predicted"
            );
        }
    }
}
