//! The linear system of one Gauss-Newton step, solved by preconditioned conjugate gradients.
//!
//! Unknown is the change d of the velocity: (A + λR)·d = b − λR·v. A is a 3 × 3 matrix in every
//! lattice cell and thus cheap in space, R (the smoothness energy) is a factor per frequency and
//! thus cheap in the cosine domain. Vectors live in the cosine domain; each step goes to space and
//! back once. Preconditioner: (mean of A + λR)⁻¹ (Hestenes, Stiefel 1952 for the method).
//!
//! R grows with the sixth power of the frequency, so that a velocity has next to nothing at those at
//! which λR exceeds A by orders of magnitude. They are left out: the velocity is the best one in the
//! band of the frequencies below, which the transforms need not leave.

use rayon::prelude::*;

use super::{
    band::{Band, Cosines, Work},
    lattice::LatticeField,
    normal::NormalEquations,
    sum::{BLOCK, dot_block, sum},
};
use crate::wide::wide;

/// Conjugate gradients end once rᵀP⁻¹r has fallen by this factor.
const REDUCTION: f64 = 1e-3;
/// They also end once a step gains less than this share of what all steps gained: a test that one
/// step more or less hardly matters to. (Nash, Sofer 1990 multiply by the number of steps, which
/// stays level for long where gains fall slowly; rounding decided then where it ended.)
const LEAST_GAIN: f64 = 0.01;
/// The band ends where λR exceeds the mean of A by this factor.
const BAND_LIMIT: f64 = 30.0;

/// Solver for the lattice of one level.
pub(super) struct Solver {
    cosines: Cosines,
    shape: [usize; 3],
    cell: [f64; 3],
    length: f64,
    steps: u32,
    vectors: Vectors,
}

/// Vectors of one solution, kept for the next: taking them from the system anew, page by page, costs more
/// than the sums on them. A band uses the first part of each.
struct Vectors {
    smoothness: Vec<f32>,
    before: Vec<f32>,
    iterate: [Vec<f32>; 5],
    work: Work,
}

impl Solver {
    /// `cell` and `length` (of smoothness) in the same unit; at most `steps` steps per solution.
    pub(super) fn new(shape: [usize; 3], cell: [f64; 3], length: f64, steps: u32) -> Self {
        let cosines = Cosines::new(shape);
        // Not clones of one: these stay untouched until they are written, in parallel.
        let vector = || vec![0.0; 3 * shape.iter().product::<usize>()];
        Self {
            vectors: Vectors {
                smoothness: vector(),
                before: vector(),
                iterate: std::array::from_fn(|_| vector()),
                work: cosines.work(),
            },
            cosines,
            shape,
            cell,
            length,
            steps,
        }
    }

    /// How many frequencies R stays below `limit` at, along each axis.
    fn kept(&self, limit: f64) -> [usize; 3] {
        let highest = (6.0 * (limit.cbrt() - 1.0).max(0.0)).sqrt() / self.length;
        std::array::from_fn(|axis| {
            let length = self.shape[axis] as f64 * self.cell[axis];
            (highest * length / std::f64::consts::PI) as usize + 1
        })
    }

    /// Sets `change` to the change d of `velocity`; `weight` is λ.
    pub(super) fn solve(
        &mut self,
        equations: &NormalEquations,
        weight: f64,
        velocity: &LatticeField,
        change: &mut LatticeField,
    ) {
        let mean = equations.mean_diagonal();
        let band = self.cosines.band(self.kept(BAND_LIMIT * mean / weight));
        let Vectors {
            smoothness,
            before,
            iterate,
            work,
        } = &mut self.vectors;
        let smoothness = &mut smoothness[..band.len()];
        band.squared_frequency(self.cell, smoothness);
        stiffen(smoothness, self.length, weight);
        let before = &mut before[..band.len()];
        band.forward(velocity.slabs(), work, before);
        let mut iterate = Iterate::start(iterate, band.len());
        band.forward(equations.right_side(), work, iterate.residual);
        zip3(iterate.residual, before, smoothness, |r, v, s| *r -= s * v);
        let multiply = |iterate: &mut Iterate, share| {
            iterate.turn_and_multiply(share, &band, equations, smoothness, work)
        };
        iterate.run(multiply, smoothness, mean as f32, self.steps);
        zip2(iterate.solution, before, |a, b| *a += b);
        band.back(iterate.solution, work, change);
        zip2(&mut change.values, &velocity.values, |c, v| *c -= v);
    }
}

/// Replaces squared frequencies by λR, R = (1 − ℓ²/6·Δ)³: close to the Gaussian energy exp(ℓ²k²/2),
/// but bounded in growth. `length` is ℓ, `weight` λ.
fn stiffen(squared_frequencies: &mut [f32], length: f64, weight: f64) {
    let (scale, weight) = ((length * length / 6.0) as f32, weight as f32);
    squared_frequencies.par_iter_mut().for_each(|value| {
        let base = 1.0 + scale * *value;
        *value = weight * (base * base * base);
    });
}

/// Vectors of the conjugate gradients.
struct Iterate<'a> {
    solution: &'a mut [f32],
    residual: &'a mut [f32],
    /// P⁻¹ times the residual.
    conditioned: &'a mut [f32],
    direction: &'a mut [f32],
    /// (A + λR) times the direction.
    image: &'a mut [f32],
}

impl<'a> Iterate<'a> {
    /// From the solution 0; the residual is yet to be set.
    fn start(vectors: &'a mut [Vec<f32>; 5], len: usize) -> Self {
        let [solution, residual, conditioned, direction, image] =
            vectors.each_mut().map(|vector| &mut vector[..len]);
        for vector in [&mut *solution, direction, image] {
            vector.par_chunks_mut(BLOCK).for_each(|part| part.fill(0.0));
        }
        Self {
            solution,
            residual,
            conditioned,
            direction,
            image,
        }
    }

    /// Solves (A + `smoothness`)·d = residual; `multiply` is [`Iterate::turn_and_multiply`], `mean` the mean
    /// of A's diagonal.
    fn run(
        &mut self,
        mut multiply: impl FnMut(&mut Self, f32) -> f64,
        smoothness: &[f32],
        mean: f32,
        steps: u32,
    ) {
        let mut product = self.advance(0.0, smoothness, mean);
        let first = product;
        let (mut share, mut gained) = (0.0, 0.0);
        for _ in 0..steps {
            let curvature = multiply(self, share);
            // Zero right side: nothing to do. The negation also catches a NaN.
            if !(product > 0.0 && curvature > 0.0) {
                break;
            }
            let next = self.advance((product / curvature) as f32, smoothness, mean);
            let gain = product * product / curvature;
            gained += gain;
            if next < REDUCTION * first || gain < LEAST_GAIN * gained {
                break;
            }
            share = (next / product) as f32;
            product = next;
        }
    }

    /// Turns to the next direction, the conditioned residual and a share of the last direction, and sets the
    /// image to A + λR times it; returns their scalar product.
    ///
    /// Three passes: what is done element by element is done where a transform has the elements in its cache.
    fn turn_and_multiply(
        &mut self,
        share: f32,
        band: &Band,
        equations: &NormalEquations,
        smoothness: &[f32],
        work: &mut Work,
    ) -> f64 {
        let piece = band.piece();
        let directions = self.direction.par_chunks_mut(piece);
        let turned = directions.zip(self.conditioned.par_chunks(piece)).map(
            |(direction, conditioned): (&mut [f32], _)| {
                zip2_block(direction, conditioned, |d, c| *d = c + share * *d);
                &*direction
            },
        );
        band.back_z(turned, work);
        band.conjugate(|z, slab| equations.multiply(z, slab), work);
        let read = self.direction.par_chunks(piece);
        let read = read.zip(smoothness.par_chunks(piece));
        band.forward_z(
            work,
            self.image.par_chunks_mut(piece).zip(read),
            |image, (direction, smoothness)| {
                wide(
                    #[inline(always)]
                    || {
                        for (i, (d, s)) in image.iter_mut().zip(direction.iter().zip(smoothness)) {
                            *i += s * d;
                        }
                        dot_block(direction, image)
                    },
                )
            },
        )
    }

    /// Goes `length` along the direction; returns the product of the residual and the conditioned one.
    fn advance(&mut self, length: f32, smoothness: &[f32], mean: f32) -> f64 {
        let read = self
            .direction
            .par_chunks(BLOCK)
            .zip(self.image.par_chunks(BLOCK))
            .zip(smoothness.par_chunks(BLOCK));
        sum(
            self.solution
                .par_chunks_mut(BLOCK)
                .zip(self.residual.par_chunks_mut(BLOCK))
                .zip(self.conditioned.par_chunks_mut(BLOCK))
                .zip(read),
            #[inline(always)]
            |(((solution, residual), conditioned), ((direction, image), smoothness))| {
                for (x, d) in solution.iter_mut().zip(direction) {
                    *x += length * d;
                }
                for (r, i) in residual.iter_mut().zip(image) {
                    *r -= length * i;
                }
                for (c, (r, s)) in conditioned.iter_mut().zip(residual.iter().zip(smoothness)) {
                    *c = r / (mean + s);
                }
                dot_block(residual, conditioned)
            },
        )
    }
}

/// Applies an operation to corresponding elements of two vectors.
fn zip2(target: &mut [f32], a: &[f32], operation: impl Fn(&mut f32, f32) + Sync) {
    target
        .par_chunks_mut(BLOCK)
        .zip(a.par_chunks(BLOCK))
        .for_each(|(target, a)| zip2_block(target, a, &operation));
}

fn zip2_block(target: &mut [f32], a: &[f32], operation: impl Fn(&mut f32, f32)) {
    wide(
        #[inline(always)]
        || {
            for (target, a) in target.iter_mut().zip(a) {
                operation(target, *a);
            }
        },
    );
}

fn zip3(target: &mut [f32], a: &[f32], b: &[f32], operation: impl Fn(&mut f32, f32, f32) + Sync) {
    target
        .par_chunks_mut(BLOCK)
        .zip(a.par_chunks(BLOCK).zip(b.par_chunks(BLOCK)))
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
    use crate::registration::sum::dot;

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
        let mut solver = Solver::new(shape, [1.0, 1.2, 0.9], 2.0, steps);
        let mut before = LatticeField::zero(shape);
        for (i, value) in before.values.iter_mut().enumerate() {
            *value = ((i * 7) % 11) as f32 / 110.0;
        }
        let mut change = LatticeField::zero(shape);
        solver.solve(&equations, weight, &before, &mut change);

        // (A + λR)·d − (b − λR·v), term by term in space.
        let mut left = change.clone();
        let slab = 3 * left.plane();
        for (z, slab) in left.values.chunks_exact_mut(slab).enumerate() {
            equations.multiply(z, slab);
        }
        let band = solver.cosines.band(shape);
        let mut work = solver.cosines.work();
        let [mut total, mut after, mut smoothness, mut right] =
            [(); 4].map(|()| vec![0.0; band.len()]);
        band.forward(left.slabs(), &mut work, &mut total);
        zip2(&mut before.values, &change.values, |a, b| *a += b);
        band.forward(before.slabs(), &mut work, &mut after);
        band.squared_frequency(solver.cell, &mut smoothness);
        stiffen(&mut smoothness, solver.length, weight);
        zip3(&mut total, &after, &smoothness, |t, a, s| *t += s * a);
        band.forward(equations.right_side(), &mut work, &mut right);
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
        let mut solver = Solver::new(shape, [1.0; 3], 2.0, 12);
        let rest = LatticeField::zero(shape);
        let mut change = rest.clone();
        change.values.fill(1.0);
        solver.solve(&NormalEquations::zero(shape), 0.1, &rest, &mut change);
        assert!(change.values.iter().all(|value| *value == 0.0));
    }
}
