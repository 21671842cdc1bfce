//! The linear system of one Gauss-Newton step, solved by preconditioned conjugate gradients.
//!
//! Unknown is the change d of the velocity: (A + λR)·d = b − λR·v. A is a 3 × 3 matrix in every
//! lattice cell and thus cheap in space, R (the smoothness energy) is a factor per frequency and
//! thus cheap in the cosine domain. Vectors live in the cosine domain; each step goes to space and
//! back once. Preconditioner: (mean of A + λR)⁻¹ (Hestenes, Stiefel 1952 for the method).

use rayon::prelude::*;

use super::{cosine::Cosines, lattice::LatticeField, normal::NormalEquations, sum::dot};
use crate::wide::wide;

/// Conjugate gradients end once rᵀP⁻¹r has fallen by this factor.
const REDUCTION: f64 = 1e-3;
/// They also end once a step, times the number of steps, gains less than this share of what all
/// steps gained (Nash, Sofer 1990).
const LEAST_GAIN: f64 = 0.1;
/// Smallest piece of an element-wise operation that is worth a task of its own.
const GRAIN: usize = 4096;

/// A velocity, or a change of it, in space and in the cosine domain.
pub(super) struct Velocity {
    pub(super) field: LatticeField,
    spectrum: Vec<f32>,
}

impl Velocity {
    pub(super) fn add(&mut self, change: &Self) {
        zip2(&mut self.spectrum, &change.spectrum, |a, b| *a += b);
        zip2(&mut self.field.values, &change.field.values, |a, b| *a += b);
    }

    pub(super) fn scale(&mut self, factor: f32) {
        self.field.scale(factor);
        for value in &mut self.spectrum {
            *value *= factor;
        }
    }
}

/// Solver for the lattice of one level.
pub(super) struct Solver {
    cosines: Cosines,
    /// R per element of the spectrum.
    stiffness: Vec<f32>,
    steps: u32,
}

impl Solver {
    /// `cell` and `length` (of smoothness) in the same unit; at most `steps` steps per solution.
    pub(super) fn new(shape: [usize; 3], cell: [f64; 3], length: f64, steps: u32) -> Self {
        let cosines = Cosines::new(shape);
        // R = (1 − ℓ²/6·Δ)³, close to the Gaussian energy exp(ℓ²k²/2) but bounded in growth.
        let stiffness = cosines
            .squared_frequency(cell)
            .into_iter()
            .map(|square| (1.0 + square * length * length / 6.0).powi(3) as f32)
            .collect();
        Self {
            cosines,
            stiffness,
            steps,
        }
    }

    /// A field together with its spectrum.
    pub(super) fn both(&self, field: LatticeField) -> Velocity {
        Velocity {
            spectrum: self.cosines.forward(&field),
            field,
        }
    }

    /// The change d of `velocity`; `weight` is λ.
    pub(super) fn solve(
        &self,
        equations: &NormalEquations,
        weight: f64,
        velocity: &Velocity,
    ) -> Velocity {
        let weight_f32 = weight as f32;
        let mean = equations.mean_diagonal() as f32;
        let mut residual = self.cosines.forward(&equations.right_side());
        zip3(
            &mut residual,
            &velocity.spectrum,
            &self.stiffness,
            |r, v, s| {
                *r -= weight_f32 * s * v;
            },
        );
        let precondition = |target: &mut Vec<f32>, residual: &[f32]| {
            zip3(target, residual, &self.stiffness, |t, r, s| {
                *t = r / (mean + weight_f32 * s);
            });
        };
        let mut solution = vec![0.0; residual.len()];
        let mut conditioned = solution.clone();
        precondition(&mut conditioned, &residual);
        let mut direction = conditioned.clone();
        let (mut image, mut work) = (solution.clone(), solution.clone());
        let mut product = dot(&residual, &conditioned);
        let first = product;
        let mut gained = 0.0;
        for step in 1..=self.steps {
            self.cosines.conjugate(
                &direction,
                |z, slab| equations.multiply(z, slab),
                [&mut work, &mut image],
            );
            zip3(&mut image, &direction, &self.stiffness, |i, d, s| {
                *i += weight_f32 * s * d;
            });
            let curvature = dot(&direction, &image);
            // Zero right side: nothing to do. The negation also catches a NaN.
            if !(product > 0.0 && curvature > 0.0) {
                break;
            }
            let length = (product / curvature) as f32;
            zip2(&mut solution, &direction, |x, d| *x += length * d);
            zip2(&mut residual, &image, |r, i| *r -= length * i);
            precondition(&mut conditioned, &residual);
            let next = dot(&residual, &conditioned);
            let gain = product * product / curvature;
            gained += gain;
            if next < REDUCTION * first || step as f64 * gain < LEAST_GAIN * gained {
                break;
            }
            let share = (next / product) as f32;
            zip2(&mut direction, &conditioned, |d, c| *d = c + share * *d);
            product = next;
        }
        Velocity {
            field: self.cosines.back(&solution),
            spectrum: solution,
        }
    }
}

/// Applies an operation to corresponding elements of two vectors.
fn zip2(target: &mut [f32], a: &[f32], operation: impl Fn(&mut f32, f32) + Sync) {
    target
        .par_chunks_mut(GRAIN)
        .zip(a.par_chunks(GRAIN))
        .for_each(|(target, a)| {
            wide(
                #[inline(always)]
                || {
                    for (target, a) in target.iter_mut().zip(a) {
                        operation(target, *a);
                    }
                },
            );
        });
}

fn zip3(target: &mut [f32], a: &[f32], b: &[f32], operation: impl Fn(&mut f32, f32, f32) + Sync) {
    target
        .par_chunks_mut(GRAIN)
        .zip(a.par_chunks(GRAIN).zip(b.par_chunks(GRAIN)))
        .for_each(|(target, (a, b))| {
            wide(
                #[inline(always)]
                || {
                    for (target, (a, b)) in target.iter_mut().zip(a.iter().zip(b)) {
                        operation(target, *a, *b);
                    }
                },
            );
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_solution_satisfies_the_equations() {
        let shape = [9, 8, 7];
        let mut equations = NormalEquations::zero(shape);
        for i in 0..9 * 8 * 7 {
            let cell = [i % 9, i / 9 % 8, i / 72];
            let weight = 0.2 + ((i * 31) % 17) as f32 / 17.0;
            equations.add_point(cell, weight, [(i % 5) as f32 - 2.0, 0.3, (i % 3) as f32]);
        }
        let (weight, steps) = (0.05, 100);
        let solver = Solver::new(shape, [1.0, 1.2, 0.9], 2.0, steps);
        let mut before = LatticeField::zero(shape);
        for (i, value) in before.values.iter_mut().enumerate() {
            *value = ((i * 7) % 11) as f32 / 110.0;
        }
        let velocity = solver.both(before);
        let change = solver.solve(&equations, weight, &velocity);

        // (A + λR)·d − (b − λR·v), term by term in space.
        let mut left = change.field.clone();
        let slab = 3 * left.plane();
        for (z, slab) in left.values.chunks_exact_mut(slab).enumerate() {
            equations.multiply(z, slab);
        }
        let mut total = solver.cosines.forward(&left);
        for (i, total) in total.iter_mut().enumerate() {
            let all = change.spectrum[i] + velocity.spectrum[i];
            *total += weight as f32 * solver.stiffness[i] * all;
        }
        let right = solver.cosines.forward(&equations.right_side());
        let size = |values: &[f32]| dot(values, values).sqrt();
        let error: Vec<f32> = total.iter().zip(&right).map(|(a, b)| a - b).collect();
        // Conjugate gradients end when the preconditioned square has fallen to a thousandth.
        assert!(
            size(&error) < 0.1 * size(&right),
            "{} of {}",
            size(&error),
            size(&right)
        );
    }

    #[test]
    fn no_force_gives_no_change() {
        let shape = [4, 4, 4];
        let solver = Solver::new(shape, [1.0; 3], 2.0, 12);
        let velocity = solver.both(LatticeField::zero(shape));
        let change = solver.solve(&NormalEquations::zero(shape), 0.1, &velocity);
        assert!(change.field.values.iter().all(|value| *value == 0.0));
    }
}
