//! Reports how far a registration has come, and stops it on request.

use super::pyramid::level_shape;
use crate::observer::{Interrupted, Observer, Step, check};

/// Share of the first attempt in the whole; the rest is left to repetitions and to the inversion.
const FIRST_ATTEMPT: f64 = 0.95;

/// Progress over levels and attempts, weighted by their numbers of voxels. Never goes back.
pub(super) struct Progress<'a> {
    observer: &'a dyn Observer,
    costs: Vec<f64>,
    level: usize,
    attempt: i32,
}

impl<'a> Progress<'a> {
    /// For levels with these shrink factors and numbers of iterations.
    pub(super) fn new(
        observer: &'a dyn Observer,
        shape: [usize; 3],
        levels: impl Iterator<Item = (usize, u32)>,
    ) -> Self {
        let costs = levels
            .map(|(shrink, iterations)| {
                level_shape(shape, shrink).iter().product::<usize>() as f64 * iterations as f64
            })
            .collect();
        Self {
            observer,
            costs,
            level: 0,
            attempt: 0,
        }
    }

    pub(super) fn start_level(&mut self, level: usize) -> Result<(), Interrupted> {
        self.level = level;
        check(self.observer)
    }

    /// `Err` once the process was asked to stop: for work between iterations.
    pub(super) fn check(&self) -> Result<(), Interrupted> {
        check(self.observer)
    }

    pub(super) fn start_attempt(&mut self, attempt: u32) {
        self.attempt = attempt as i32;
    }

    /// One iteration of `most` is done, with this residual before it.
    pub(super) fn iteration(&self, done: u32, most: u32, residual: f64) -> Result<(), Interrupted> {
        let before: f64 = self.costs[..self.level].iter().sum();
        let here = self.costs[self.level] * done as f64 / most.max(1) as f64;
        let share = (before + here) / self.costs.iter().sum::<f64>();
        let left = (1.0 - FIRST_ATTEMPT).powi(self.attempt);
        self.observer.step(&Step {
            fraction: 1.0 - (1.0 - FIRST_ATTEMPT * share) * left,
            level: Some(self.level as u32),
            iteration: Some(done),
            metric: Some(residual),
        });
        check(self.observer)
    }
}
