//! Hard landmarks: the smallest change of the velocity that meets them.
//!
//! Among all changes d of the velocity that move the pairs by what they lack, the one of least
//! smoothness energy ∫|Ld|² is a sum of Green's functions of L*L at the pairs (splines of
//! Joshi and Miller 2000, "Landmark matching via large deformation diffeomorphisms"). For
//! L*L = (1 − ℓ²/6·Δ)³ in three dimensions that is (1 + s)·exp(−s), s = √6·r/ℓ. How far a change
//! moves a pair is linear only for short ways, and the lattice carries the function only roughly:
//! the correction is repeated.

use rayon::prelude::*;

use super::{
    RegistrationError,
    exponential::exponential,
    lattice::LatticeField,
    problem::VoxelPair,
    progress::Progress,
    stencil::{Frame, displacements},
};

/// Pairs this close, in patch voxels, need no further correction: half of what is promised.
const CLOSE_ENOUGH: f64 = 0.05;
/// The kernel is at least this many cells wide: the lattice carries nothing finer.
const LEAST_WIDTH: f64 = 0.6;
/// The kernel is cut off at this many widths, where it has fallen to 0.0005.
const REACH: f64 = 10.0;
/// Added to the diagonal of the pairs' equations, whose diagonal is about 1. Repetition removes its
/// effect, except between pairs that lie too close together to be told apart.
const RIDGE: f64 = 0.01;
/// Corrections until the pairs count as impossible to meet.
const MOST: u32 = 60;
/// Corrections without progress until then, and what counts as progress.
const PATIENCE: u32 = 8;
const IMPROVED: f64 = 0.98;
/// Pairs between two looks at whether the process should stop.
const AT_ONCE: usize = 64;
/// Longest correction, in cells.
const LONGEST: f64 = 1.0;
/// Moments at which the way of a pair is looked at.
const MOMENTS: [f64; 3] = [1.0 / 6.0, 0.5, 5.0 / 6.0];

/// Corrects velocities. Lengths are in the registration's unit.
pub(super) struct Enforcer {
    /// ℓ/√6.
    width: f64,
}

/// The way of one pair, at [`MOMENTS`].
type Way = [[f64; 3]; MOMENTS.len()];

impl Enforcer {
    pub(super) fn new(smoothness_length: f64) -> Self {
        Self {
            width: smoothness_length / 6.0_f64.sqrt(),
        }
    }

    /// The velocity that meets the pairs or, of all that were seen, the one whose worst pair is the
    /// best.
    pub(super) fn correct(
        &self,
        velocity: LatticeField,
        pairs: &[VoxelPair],
        frame: &Frame,
        progress: &Progress,
    ) -> Result<LatticeField, RegistrationError> {
        let cell = frame.cell();
        let widest = cell.into_iter().fold(0.0, f64::max);
        let width = self.width.max(LEAST_WIDTH * widest);
        let mut best = (f64::INFINITY, velocity.clone());
        let mut current = velocity;
        let mut stalled = 0;
        for _ in 0..=MOST {
            progress.check()?;
            let steps = steps(&current, pairs, frame);
            let missing: Vec<[f64; 3]> = pairs
                .iter()
                .zip(&steps)
                .map(|(pair, step)| {
                    std::array::from_fn(|a| pair.target[a] - pair.start[a] - step[a])
                })
                .collect();
            let lengths = missing.iter().map(|missing| length(*missing));
            // A NaN is no good: it must not count as the best.
            let worst = lengths.fold(0.0, |a: f64, b| if b > a || b.is_nan() { b } else { a });
            stalled = if worst < IMPROVED * best.0 {
                0
            } else {
                stalled + 1
            };
            if worst < best.0 {
                best = (worst, current.clone());
            }
            if worst <= CLOSE_ENOUGH || worst.is_nan() || stalled > PATIENCE {
                break;
            }
            let ways: Vec<Way> = pairs
                .iter()
                .zip(&steps)
                .map(|(pair, step)| way(pair.start, *step, frame.spacing))
                .collect();
            let mut wanted: Vec<[f64; 3]> = missing
                .iter()
                .map(|missing| std::array::from_fn(|a| missing[a] * frame.spacing[a]))
                .collect();
            shorten(&mut wanted, cell);
            let Some(factors) = solve(&ways, width, wanted) else {
                break;
            };
            for (ways, factors) in ways.chunks(AT_ONCE).zip(factors.chunks(AT_ONCE)) {
                progress.check()?;
                add(&mut current, ways, factors, frame, width);
            }
        }
        Ok(best.1)
    }
}

/// Displacements of the pairs' starts, in patch voxels, by the field that `velocity` ends in.
fn steps(velocity: &LatticeField, pairs: &[VoxelPair], frame: &Frame) -> Vec<[f64; 3]> {
    let cell = frame.cell().map(|size| size as f32);
    displacements(exponential(velocity, 1.0, cell), pairs, frame)
}

/// Positions along a straight way, with the first voxel's centre at 0.
fn way(start: [f64; 3], step: [f64; 3], spacing: [f64; 3]) -> Way {
    MOMENTS.map(|moment| std::array::from_fn(|a| (start[a] + moment * step[a]) * spacing[a]))
}

/// Scales all vectors so that none is longer than [`LONGEST`] cells.
fn shorten(vectors: &mut [[f64; 3]], cell: [f64; 3]) {
    let in_cells = |v: &[f64; 3]| length(std::array::from_fn(|a| v[a] / cell[a]));
    let longest = vectors.iter().map(in_cells).fold(0.0, f64::max);
    let scale = (LONGEST / longest).min(1.0);
    for value in vectors.iter_mut().flatten() {
        *value *= scale;
    }
}

/// (1 + s)·exp(−s) with s = distance/width.
fn kernel(a: [f64; 3], b: [f64; 3], width: f64) -> f64 {
    let s = length(std::array::from_fn(|i| a[i] - b[i])) / width;
    (1.0 + s) * libm::exp(-s)
}

/// Mean of the kernel between all moments of two ways.
fn coupling(a: &Way, b: &Way, width: f64) -> f64 {
    let sum: f64 = a
        .iter()
        .flat_map(|a| b.iter().map(move |b| kernel(*a, *b, width)))
        .sum();
    sum / (MOMENTS.len() * MOMENTS.len()) as f64
}

/// Factors of the kernels whose sum moves the pairs by `wanted`; `None` if rounding or a NaN makes
/// the equations insoluble. Cholesky decomposition.
fn solve(ways: &[Way], width: f64, wanted: Vec<[f64; 3]>) -> Option<Vec<[f64; 3]>> {
    let n = ways.len();
    let mut rows: Vec<Vec<f64>> = (0..n)
        .into_par_iter()
        .map(|i| {
            let coupled = |j: usize| coupling(&ways[i], &ways[j], width);
            (0..=i).map(coupled).collect()
        })
        .collect();
    for i in 0..n {
        let (done, rest) = rows.split_at_mut(i);
        let row = &mut rest[0];
        for j in 0..i {
            let known: f64 = (0..j).map(|k| row[k] * done[j][k]).sum();
            row[j] = (row[j] - known) / done[j][j];
        }
        let known: f64 = row[..i].iter().map(|value| value * value).sum();
        let pivot = row[i] + RIDGE - known;
        if pivot <= 0.0 || pivot.is_nan() {
            return None;
        }
        row[i] = pivot.sqrt();
    }
    let mut x = wanted;
    for axis in 0..3 {
        for i in 0..n {
            let known: f64 = (0..i).map(|k| rows[i][k] * x[k][axis]).sum();
            x[i][axis] = (x[i][axis] - known) / rows[i][i];
        }
        for i in (0..n).rev() {
            let known: f64 = (i + 1..n).map(|k| rows[k][i] * x[k][axis]).sum();
            x[i][axis] = (x[i][axis] - known) / rows[i][i];
        }
    }
    Some(x)
}

/// Adds the kernels of all pairs, averaged over their ways, to the velocity.
fn add(velocity: &mut LatticeField, ways: &[Way], factors: &[[f64; 3]], frame: &Frame, width: f64) {
    let shape = velocity.shape;
    let plane = velocity.plane();
    let cell = frame.cell();
    let reach = REACH * width;
    // A cell begins where its first voxel begins, half a voxel before that voxel's centre.
    let centre =
        |index: usize, axis: usize| (index as f64 + 0.5) * cell[axis] - 0.5 * frame.spacing[axis];
    let near = |position: f64, axis: usize| {
        let cells = |at: f64| ((at + 0.5 * frame.spacing[axis]) / cell[axis]).max(0.0) as usize;
        cells(position - reach).min(shape[axis])..(cells(position + reach) + 1).min(shape[axis])
    };
    let share = 1.0 / MOMENTS.len() as f64;
    let slabs = velocity.values.par_chunks_mut(3 * plane).enumerate();
    slabs.for_each(|(z, slab)| {
        for (way, factor) in ways.iter().zip(factors) {
            for position in way.iter().filter(|p| near(p[2], 2).contains(&z)) {
                for y in near(position[1], 1) {
                    for x in near(position[0], 0) {
                        let here = [centre(x, 0), centre(y, 1), centre(z, 2)];
                        let value = share * kernel(here, *position, width);
                        for axis in 0..3 {
                            let index = axis * plane + y * shape[0] + x;
                            slab[index] += (value * factor[axis]) as f32;
                        }
                    }
                }
            }
        }
    });
}

fn length(v: [f64; 3]) -> f64 {
    v.iter().map(|value| value * value).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::{Cancel, Interrupted, Observer, Silent, Step};

    const FRAME: Frame = Frame {
        patch: [36, 33, 30],
        spacing: [0.9, 1.0, 1.1],
        lattice: [12, 11, 10],
        block: 3.0,
    };

    fn pairs() -> Vec<VoxelPair> {
        let pair = |start: [f64; 3], step: [f64; 3]| VoxelPair {
            start,
            target: std::array::from_fn(|a| start[a] + step[a]),
            weight: 1.0,
        };
        vec![
            pair([10.2, 12.7, 14.1], [3.0, -2.0, 1.0]),
            pair([18.4, 14.0, 15.5], [1.0, -1.0, 2.5]),
            pair([26.0, 20.3, 11.0], [-2.0, 0.5, 0.0]),
        ]
    }

    fn correct(pairs: &[VoxelPair], observer: &dyn Observer) -> Result<f64, RegistrationError> {
        let progress = Progress::new(observer, FRAME.patch, std::iter::empty());
        let still = LatticeField::zero(FRAME.lattice);
        let velocity = Enforcer::new(9.0).correct(still, pairs, &FRAME, &progress)?;
        let left = steps(&velocity, pairs, &FRAME)
            .into_iter()
            .zip(pairs)
            .map(|(step, pair)| {
                length(std::array::from_fn(|a| {
                    pair.target[a] - pair.start[a] - step[a]
                }))
            });
        Ok(left.fold(0.0, f64::max))
    }

    #[test]
    fn pairs_that_move_by_voxels_are_met() {
        let left = correct(&pairs(), &Silent).unwrap();
        assert!(left <= CLOSE_ENOUGH, "{left}");
    }

    #[test]
    fn one_place_that_shall_go_two_ways_gets_the_middle() {
        let mut pairs = pairs();
        let mut torn = pairs[0];
        torn.target[0] += 4.0;
        pairs.push(torn);
        let left = correct(&pairs, &Silent).unwrap();
        // Two voxels each way, less what the best of the tries made of it.
        assert!((1.9..2.2).contains(&left), "{left}");
    }

    #[test]
    fn the_factors_solve_the_equations_of_the_pairs() {
        let ways: Vec<Way> = pairs()
            .iter()
            .map(|pair| way(pair.start, [0.5, 0.0, 1.0], FRAME.spacing))
            .collect();
        let wanted = vec![[1.0, -2.0, 0.5], [0.0, 3.0, 1.0], [2.0, 1.0, -1.0]];
        let found = solve(&ways, 4.0, wanted.clone()).unwrap();
        for i in 0..3 {
            for axis in 0..3 {
                let sum: f64 = (0..3)
                    .map(|j| {
                        let ridge = if i == j { RIDGE } else { 0.0 };
                        (coupling(&ways[i], &ways[j], 4.0) + ridge) * found[j][axis]
                    })
                    .sum();
                assert!((sum - wanted[i][axis]).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_request_to_stop_is_followed() {
        struct Stopped;
        impl Observer for Stopped {
            fn step(&self, _: &Step) {}
        }
        impl Cancel for Stopped {
            fn cancelled(&self) -> bool {
                true
            }
        }
        let stopped = RegistrationError::Interrupted(Interrupted);
        assert_eq!(correct(&pairs(), &Stopped), Err(stopped));
    }
}
