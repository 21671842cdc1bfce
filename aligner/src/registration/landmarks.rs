//! Landmarks in the Gauss-Newton equations, and what became of them.
//!
//! A pair pulls with weight r²·V/σ² on q − φ(p): r² is the mean square depth residual, σ the
//! landmark's uncertainty, and V the volume over which the error of depth is correlated, so that
//! r²·V stands against the data term as one independent observation does. Below a residual of 0.05 soft
//! pairs weigh less, as the smoothness does ([`super::level`]). Soft pairs that stay
//! far off lose their weight ([`super::trust`]). Hard ones pull as if they were certain to a fraction of
//! a voxel, so that depth comes to rest around them; what is then left is mended at the end
//! ([`super::enforce`]).

use alignment_api::LandmarkMode;

use super::{
    LandmarkOutcome, RegistrationError,
    enforce::Enforcer,
    lattice::LatticeField,
    normal::NormalEquations,
    problem::{Problem, VoxelPair},
    progress::Progress,
    stencil::{Frame, displacements},
    trust,
};
use crate::{field::DisplacementField, interpolate::Locator, resample::Cell};

/// At the start, pairs may be off by a whole thickness of the cortex; each iteration leaves this
/// share of that.
const PATIENCE: f64 = 0.8;
/// Standard deviations that a thickness counts for at the start.
const DEVIATIONS_PER_THICKNESS: f64 = 3.0;

/// The landmark pairs of one attempt.
pub(super) struct Landmarks<'a> {
    pairs: &'a [VoxelPair],
    mode: LandmarkMode,
    /// Standard deviation of positions, in the registration's unit of length.
    uncertainty: f64,
    /// What residuals may be beyond the uncertainty, as the start is far off; shrinks.
    patience: f64,
    enforcer: Enforcer,
}

impl<'a> Landmarks<'a> {
    pub(super) fn new(problem: &'a Problem, mode: LandmarkMode) -> Self {
        let thickness = 1.0 / problem.slope_square.sqrt();
        Self {
            pairs: &problem.landmarks,
            mode,
            uncertainty: problem.landmark_uncertainty,
            patience: thickness / DEVIATIONS_PER_THICKNESS,
            enforcer: Enforcer::new(problem.smoothness_length),
        }
    }

    /// Whether any pair takes part.
    pub(super) fn any(&self) -> bool {
        self.pairs.iter().any(|pair| pair.weight > 0.0)
    }

    /// Adds the pairs to the equations. `flow` is exp(v) on the lattice, in cells; `strength` is
    /// that weight.
    pub(super) fn add(
        &mut self,
        equations: &mut NormalEquations,
        flow: &LatticeField,
        frame: &Frame,
        strength: f64,
    ) {
        let steps = self.steps(flow, frame);
        let pulls: Vec<[f64; 3]> = self
            .pairs
            .iter()
            .zip(&steps)
            .map(|(pair, step)| {
                std::array::from_fn(|a| {
                    (pair.target[a] - pair.start[a] - step[a]) * frame.spacing[a]
                })
            })
            .collect();
        let lengths: Vec<f64> = pulls.iter().map(|pull| length(*pull)).collect();
        let deviation = self.deviation(&lengths).max(self.patience);
        self.patience *= PATIENCE;
        let density = strength / frame.cell().iter().product::<f64>();
        for (index, pair) in self.pairs.iter().enumerate() {
            let share = match self.mode {
                LandmarkMode::Soft => pair.weight * trust::share(lengths[index], deviation),
                LandmarkMode::Hard => f64::from(u8::from(pair.weight > 0.0)),
            };
            let halfway = std::array::from_fn(|a| pair.start[a] + 0.5 * steps[index][a]);
            let place = match self.mode {
                LandmarkMode::Soft => pair.start,
                // Where a strong pull is truest to the whole way.
                LandmarkMode::Hard => halfway,
            };
            deposit(equations, frame, place, density * share, pulls[index]);
        }
    }

    /// Displacements of the pairs' starts in patch voxels.
    fn steps(&self, flow: &LatticeField, frame: &Frame) -> Vec<[f64; 3]> {
        let locator = Locator::with_slab(frame.lattice, 3 * flow.plane());
        // Read as it is pulled, linearly between cells: the pull is then the slope of an energy.
        let between = |pair: &VoxelPair| -> [f64; 3] {
            let cell = locator.cell(frame.cells(pair.start).map(|value| value as f32));
            std::array::from_fn(|a| cell.value(flow.component(a)) as f64 * frame.block)
        };
        match self.mode {
            LandmarkMode::Soft => self.pairs.iter().map(between).collect(),
            // Read as the result is read: else depth settles around places that must still move.
            LandmarkMode::Hard => displacements(flow.clone(), self.pairs, frame),
        }
    }

    /// Standard deviation of the residuals of right pairs: the stated one, or a larger spread.
    fn deviation(&self, residuals: &[f64]) -> f64 {
        let used = self.pairs.iter().zip(residuals);
        let used = used.filter(|(pair, _)| pair.weight > 0.0);
        trust::spread(used.map(|(_, residual)| *residual)).max(self.uncertainty)
    }

    /// The velocity that meets the hard pairs, as far as one was found; in soft mode the same.
    pub(super) fn met(
        &self,
        velocity: LatticeField,
        frame: &Frame,
        progress: &Progress,
    ) -> Result<LatticeField, RegistrationError> {
        if self.mode == LandmarkMode::Soft || !self.any() {
            return Ok(velocity);
        }
        let used = self.pairs.iter().filter(|pair| pair.weight > 0.0);
        let pairs: Vec<VoxelPair> = used.copied().collect();
        self.enforcer.correct(velocity, &pairs, frame, progress)
    }

    /// Where the pairs ended in the final field.
    pub(super) fn outcomes(
        &self,
        problem: &Problem,
        forward: &DisplacementField,
    ) -> Vec<LandmarkOutcome> {
        let to_voxel = forward.grid.voxel_to_world.inverse();
        let left = |pair: &VoxelPair| -> [f64; 3] {
            let cell = Cell::clamped(pair.start, forward.grid.shape);
            let mm = std::array::from_fn(|axis| cell.linear(&forward.components[axis]));
            let step = to_voxel.map_or(mm, |map| map.apply_vector(mm));
            std::array::from_fn(|a| pair.target[a] - pair.start[a] - step[a])
        };
        let left: Vec<[f64; 3]> = self.pairs.iter().map(left).collect();
        let lengths: Vec<f64> = left
            .iter()
            .map(|v| length(std::array::from_fn(|a| v[a] * problem.spacing[a])))
            .collect();
        let deviation = self.deviation(&lengths);
        left.iter()
            .zip(&lengths)
            .map(|(left, distance)| LandmarkOutcome {
                residual_mm: distance * problem.unit_mm,
                residual_voxels: length(*left),
                share: match self.mode {
                    LandmarkMode::Soft => trust::share(*distance, deviation),
                    LandmarkMode::Hard => 1.0,
                },
            })
            .collect()
    }
}

fn length(v: [f64; 3]) -> f64 {
    v.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Adds a pull of weight `density` at a position in patch voxels to the eight cells around it.
fn deposit(
    equations: &mut NormalEquations,
    frame: &Frame,
    position: [f64; 3],
    density: f64,
    pull: [f64; 3],
) {
    let pull = pull.map(|value| value as f32);
    let position = frame.cells(position);
    for corner in 0..8 {
        let mut share = density;
        let index = std::array::from_fn(|a| {
            let low = position[a].floor();
            let upper = (corner >> a) & 1;
            let fraction = position[a] - low;
            share *= if upper == 1 { fraction } else { 1.0 - fraction };
            (low as i64)
                .saturating_add(upper)
                .clamp(0, frame.lattice[a] as i64 - 1) as usize
        });
        equations.add_point(index, share as f32, pull);
    }
}

#[cfg(test)]
mod tests {
    use rayon::iter::ParallelIterator;

    use super::*;
    use crate::{
        affine::Affine,
        grid::Grid,
        registration::{LandmarkPair, RegistrationInput},
        volume::Volume,
    };

    /// A patch whose depth rises along x over all of its 24 voxels, as its own template.
    fn slope() -> Volume<f32> {
        let grid = Grid {
            shape: [24, 24, 24],
            voxel_to_world: Affine::scaling([-0.5, 0.5, 0.5]),
        };
        Volume::from_fn(grid, |(x, _, _)| x as f32 / 23.0)
    }

    const FRAME: Frame = Frame {
        patch: [24, 24, 24],
        spacing: [1.0; 3],
        lattice: [8, 8, 8],
        block: 3.0,
    };

    /// Sums of the pulls on all cells, as they are added `times` over, each time anew.
    fn pulls(pairs: &[LandmarkPair], times: u32) -> Vec<[f32; 3]> {
        let depth = slope();
        let input = RegistrationInput {
            fixed: &depth,
            validity: None,
            moving: &depth,
            fixed_to_moving: Affine::IDENTITY,
            landmarks: pairs,
        };
        let parameters = alignment_api::RegistrationParameters::default().effective();
        let problem = Problem::prepare(&input, &parameters).unwrap();
        let mut landmarks = Landmarks::new(&problem, LandmarkMode::Soft);
        let mut add = || {
            let mut equations = NormalEquations::zero(FRAME.lattice);
            let still = LatticeField::zero(FRAME.lattice);
            // As strong as a cell is large: a pull of one voxel adds up to 1.
            landmarks.add(&mut equations, &still, &FRAME, 27.0);
            let force: Vec<f32> = equations.right_side().flatten().copied().collect();
            std::array::from_fn(|axis| {
                let planes = force.chunks_exact(64).skip(axis).step_by(3);
                planes.flatten().sum()
            })
        };
        (0..times).map(|_| add()).collect()
    }

    #[test]
    fn the_pulls_on_the_cells_add_up_to_the_landmarks_pull() {
        let pair = LandmarkPair {
            fixed_mm: [-5.0, 6.0, 4.0],
            moving_mm: [-5.5, 6.0, 5.0],
            weight: 2.0,
        };
        // Weight 2; one voxel along x (flipped), two along z.
        let found = pulls(&[pair], 1)[0];
        for (found, expected) in found.into_iter().zip([2.0, 0.0, 4.0]) {
            assert!((found - expected).abs() < 1e-4, "{found}, not {expected}");
        }
    }

    #[test]
    fn a_far_pair_is_believed_at_the_start_and_let_go_if_it_stays_far() {
        let pair = |place: f64, off: f64| LandmarkPair {
            fixed_mm: [-place, place, 4.0],
            moving_mm: [-place, place + off, 4.0],
            weight: 1.0,
        };
        // 10 voxels of 0.5 mm, against a thickness of 23 voxels and an uncertainty of 1.15.
        let pairs = [4.0, 5.0, 6.0, 7.0, 8.0].map(|place| pair(place, 0.0));
        let pairs = [&pairs[..], &[pair(6.5, 5.0)]].concat();
        let found = pulls(&pairs, 20);
        assert!((found[0][1] - 10.0).abs() < 1e-3, "{found:?}");
        assert!(found[8][1] < found[4][1], "{found:?}");
        assert!(found[19][1] < 0.3, "{found:?}");
    }
}
