//! Acceleration of a fixed-point iteration (Anderson 1965, doi 10.1145/321296.321305).
//!
//! An iteration x → G(x) that is nearly linear leaves behind pairs of a step Δx and of what it did
//! to the remainder f = G(x) − x. The next x is G(x), less what the last pairs say is still to come.
//! For a linear iteration this is as good as the minimal-residual method over these pairs.

use rayon::prelude::*;

use super::sheet::BLOCK;
use crate::wide::wide;

/// Numbers that are added up side by side.
const LANES: usize = 8;

/// The history of an iteration: two pairs. Differences are small: `f32` holds them well.
pub(super) struct Mixing {
    /// f of this iteration.
    remainder: Vec<f32>,
    /// Δx of each pair.
    step: [Vec<f32>; 2],
    /// Δf of each pair; of the newest one −f of the iteration before, while the next one runs.
    effect: [Vec<f32>; 2],
    iterations: usize,
}

/// What the least-squares problem consists of.
#[derive(Clone, Copy, Default)]
struct Sums {
    /// Largest |f|.
    change: f64,
    /// Δf · f for each pair.
    right: [f64; 2],
    /// Δf · Δf of both pairs, and of one with the other.
    left: [f64; 3],
}

impl Mixing {
    pub(super) fn new(unknowns: usize) -> Self {
        let empty = || [vec![0.0; unknowns], vec![0.0; unknowns]];
        Self {
            remainder: vec![0.0; unknowns],
            step: empty(),
            effect: empty(),
            iterations: 0,
        }
    }

    /// Forgets the history.
    pub(super) fn restart(&mut self) {
        for history in self.step.iter_mut().chain(&mut self.effect) {
            history.fill(0.0);
        }
        self.remainder.fill(0.0);
        self.iterations = 0;
    }

    /// Where the iteration sums up by how much it changes each unknown.
    pub(super) fn moved(&mut self) -> &mut [f32] {
        &mut self.remainder
    }

    /// Goes from G(x), where the iteration ended, to the next x. Returns the largest |G(x) − x|.
    pub(super) fn mix(&mut self, values: &mut [f64]) -> f64 {
        let newest = self.iterations.checked_sub(1).map(|last| last % 2);
        let sums = self.compare(newest);
        let mix = sums.solve(newest.unwrap_or(0));
        self.advance(values, mix.map(|share| share as f32));
        self.iterations += 1;
        sums.change
    }

    /// Stays at G(x), and returns the largest |G(x) − x|.
    pub(super) fn take(&mut self) -> f64 {
        let largest = self
            .remainder
            .iter()
            .fold(0.0_f32, |most, f| most.max(f.abs()));
        self.remainder.fill(0.0);
        f64::from(largest)
    }

    fn compare(&mut self, newest: Option<usize>) -> Sums {
        if let Some(newest) = newest {
            self.effect[newest]
                .par_chunks_mut(BLOCK)
                .zip(self.remainder.par_chunks(BLOCK))
                .for_each(|(effect, remainder)| {
                    for (effect, remainder) in effect.iter_mut().zip(remainder) {
                        *effect += remainder;
                    }
                });
        }
        let blocks: Vec<Sums> = self
            .remainder
            .par_chunks(BLOCK)
            .zip(self.effect[0].par_chunks(BLOCK))
            .zip(self.effect[1].par_chunks(BLOCK))
            .map(|((remainder, one), two)| {
                wide(
                    #[inline(always)]
                    || Sums::of(remainder, one, two),
                )
            })
            .collect();
        // In the order of the blocks: the same for any number of threads.
        blocks.into_iter().fold(Sums::default(), Sums::and)
    }

    /// Takes back `mix` of each pair, and begins the next one.
    fn advance(&mut self, values: &mut [f64], mix: [f32; 2]) {
        let next = self.iterations % 2;
        let (step, effect) = (&mut self.step, &mut self.effect);
        let ([s0, s1], [e0, e1]) = (step, effect);
        let (this, other) = if next == 0 {
            ((s0, e0), (s1, e1))
        } else {
            ((s1, e1), (s0, e0))
        };
        let mix = [mix[next], mix[1 - next]];
        values
            .par_chunks_mut(BLOCK)
            .zip(self.remainder.par_chunks_mut(BLOCK))
            .zip(this.0.par_chunks_mut(BLOCK))
            .zip(this.1.par_chunks_mut(BLOCK))
            .zip(other.0.par_chunks(BLOCK))
            .zip(other.1.par_chunks(BLOCK))
            .for_each(
                |(((((values, remainder), step), effect), step2), effect2)| {
                    wide(
                        #[inline(always)]
                        || take_back(values, remainder, (step, effect), (step2, effect2), mix),
                    );
                },
            );
    }
}

/// Takes back `mix` of two pairs, and makes the first one the next.
#[inline(always)]
fn take_back(
    values: &mut [f64],
    remainder: &mut [f32],
    (step, effect): (&mut [f32], &mut [f32]),
    (step2, effect2): (&[f32], &[f32]),
    mix: [f32; 2],
) {
    let length = values.len();
    let (remainder, step) = (&mut remainder[..length], &mut step[..length]);
    let (effect, step2) = (&mut effect[..length], &step2[..length]);
    let effect2 = &effect2[..length];
    for place in 0..length {
        let pairs = [step[place] + effect[place], step2[place] + effect2[place]];
        let back = mix[0] * pairs[0] + mix[1] * pairs[1];
        values[place] -= f64::from(back);
        step[place] = remainder[place] - back;
        effect[place] = -remainder[place];
        remainder[place] = 0.0;
    }
}

impl Sums {
    #[inline(always)]
    fn of(remainder: &[f32], one: &[f32], two: &[f32]) -> Self {
        let length = remainder.len();
        let (one, two) = (&one[..length], &two[..length]);
        let mut change = [0.0_f32; LANES];
        let mut sums = [[0.0_f64; LANES]; 5];
        let mut add = |lane: usize, place: usize| {
            let f = f64::from(remainder[place]);
            let (p, q) = (f64::from(one[place]), f64::from(two[place]));
            let size = remainder[place].abs();
            change[lane] = if size > change[lane] {
                size
            } else {
                change[lane]
            };
            for (sum, product) in sums.iter_mut().zip([p * f, q * f, p * p, q * q, p * q]) {
                sum[lane] += product;
            }
        };
        let whole = length - length % LANES;
        for start in (0..whole).step_by(LANES) {
            for lane in 0..LANES {
                add(lane, start + lane);
            }
        }
        for place in whole..length {
            add(0, place);
        }
        let [pf, qf, pp, qq, pq] = sums.map(|lanes| lanes.iter().sum());
        Self {
            change: f64::from(change.into_iter().fold(0.0, f32::max)),
            right: [pf, qf],
            left: [pp, qq, pq],
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            change: self.change.max(other.change),
            right: std::array::from_fn(|i| self.right[i] + other.right[i]),
            left: std::array::from_fn(|i| self.left[i] + other.left[i]),
        }
    }

    /// How much of each pair to take back: least squares of f − Σ mix · Δf. With pairs that say
    /// nearly the same, only the newest counts.
    fn solve(self, newest: usize) -> [f64; 2] {
        let ([pf, qf], [pp, qq, pq]) = (self.right, self.left);
        let determinant = pp * qq - pq * pq;
        if determinant > 1e-8 * pp * qq {
            return [
                (qq * pf - pq * qf) / determinant,
                (pp * qf - pq * pf) / determinant,
            ];
        }
        let mut mix = [0.0; 2];
        if self.left[newest] > 0.0 {
            mix[newest] = self.right[newest] / self.left[newest];
        }
        mix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_iteration_ends_long_before_it_would_by_itself() {
        // x → 1 + d x with factors d from 0 to 0.4, as those of a multigrid cycle.
        let factor = |place: usize| 0.4 * ((place as f64) * 0.7).sin().powi(2);
        let mut values = vec![0.0_f64; 1000];
        let mut mixing = Mixing::new(values.len());
        let mut cycles = 0;
        loop {
            for (place, (value, moved)) in values.iter_mut().zip(mixing.moved()).enumerate() {
                let next = 1.0 + factor(place) * *value;
                *moved += (next - *value) as f32;
                *value = next;
            }
            cycles += 1;
            if mixing.mix(&mut values) < 1e-6 || cycles == 15 {
                break;
            }
        }
        for (place, value) in values.iter().enumerate() {
            assert!((value - 1.0 / (1.0 - factor(place))).abs() < 2e-6);
        }
        // By itself, it would take 15 cycles.
        assert!(cycles <= 10, "{cycles} cycles");
    }
}
