//! The iteration that solves a Laplace equation over the grey voxels.
//!
//! Red-black relaxation (`relax`) with corrections from coarser grids (`multigrid`), accelerated by what
//! the last cycles say (`mixing`). One solver does for all equations of a sheet: what differs is taken
//! over, and the memory stays.

use super::faces::is_on_face;
use super::laplace::Laplacian;
use super::mixing::Mixing;
use super::multigrid::{Hierarchy, Multigrid};
use super::relax::Relaxation;
use super::sheet::{Links, Sheet};
use crate::observer::Interrupted;

/// Called after each cycle with its number (from 1) and about the largest error that it left.
pub(super) type Tick<'a> = dyn FnMut(u32, f64) -> Result<(), Interrupted> + 'a;

/// When to stop.
#[derive(Clone, Copy)]
pub(super) struct Stop {
    /// Largest error that counts as converged.
    pub(super) error: f64,
    /// Cycles at most.
    pub(super) cycles: u32,
    /// Rounds over the coarser grids in the first cycle: from a constant, some find most of the solution.
    pub(super) first: usize,
}

/// Sweeps between two corrections.
const SWEEPS: u32 = 2;

/// Cycles without progress after which corrections are given up. The largest change may rise for a
/// while although the mean one falls.
const PATIENCE: u32 = 6;

/// Relaxation factor where corrections do not help.
const OVER: f64 = 1.8;

/// How fast the largest changes of an iteration fall, and what that says of the changes to come.
struct Pace {
    change: f64,
    /// The last two ratios of a change to the one before.
    ratios: [f64; 2],
}

impl Pace {
    /// Where changes hardly fall, their sum is not known.
    const SLOWEST: f64 = 0.98;

    fn note(&mut self, change: f64) {
        self.ratios = [self.ratios[1], (change / self.change).min(Self::SLOWEST)];
        self.change = change;
    }

    /// The sum of all changes to come, if each shrinks as the slower one of the last two did.
    fn missing(&self) -> f64 {
        let ratio = self.ratios[0].max(self.ratios[1]);
        self.change * ratio / (1.0 - ratio)
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            change: 0.0,
            ratios: [Self::SLOWEST; 2],
        }
    }
}

/// The equation that is being solved, in all the forms that the iteration asks for.
pub(super) struct Solver<'a> {
    red: usize,
    relaxation: Relaxation<'a>,
    coarser: Multigrid<'a>,
    mixing: Mixing,
}

impl<'a> Solver<'a> {
    pub(super) fn new(
        sheet: &'a Sheet,
        hierarchy: &'a Hierarchy,
        equation: &Laplacian<'_>,
    ) -> Self {
        Self {
            red: sheet.red,
            relaxation: Relaxation::new(sheet, equation.weight, |number, links| {
                equation.equation(number, links)
            }),
            coarser: Multigrid::new(hierarchy, |cell| equation.arms(cell)),
            mixing: Mixing::new(sheet.len() - sheet.red),
        }
    }

    /// Takes over another equation, which differs where the image ends; elsewhere the values on the
    /// surfaces are multiplied by `factor`.
    pub(super) fn change(&mut self, equation: &Laplacian<'_>, factor: f64) {
        let renewed = |number: usize, links: &Links| {
            is_on_face(links).then(|| equation.equation(number, links))
        };
        self.relaxation.change(renewed, factor);
        self.coarser.change_ends(|cell| equation.arms(cell));
    }

    /// True if values of 0 solve the equation.
    pub(super) fn is_solved_by_zero(&self) -> bool {
        self.relaxation.is_solved_by_zero()
    }

    /// Solves from `values` until little is missing; they end within 0..1. Returns about the largest
    /// error that is left.
    ///
    /// Each cycle relaxes, and adds a correction from coarser grids. Only black voxels need
    /// the correction, since red ones are then computed from them; and only red voxels have a
    /// residual, since black ones come last. So the black ones are all that a cycle hands to the next.
    pub(super) fn solve(
        &mut self,
        values: &mut [f64],
        stop: Stop,
        tick: &mut Tick<'_>,
    ) -> Result<f64, Interrupted> {
        let Self {
            red,
            relaxation,
            coarser,
            mixing,
        } = self;
        mixing.restart();
        let mut omega = 1.0;
        let mut best = (0, f64::INFINITY);
        let mut pace = Pace::default();
        for cycle in 1..=stop.cycles {
            for _ in 0..SWEEPS {
                relaxation.sweep(values, omega, mixing.moved());
            }
            let change = if omega == 1.0 {
                relaxation.residual(values);
                let (residual, blacks) = values.split_at_mut(*red);
                coarser.solve(residual, if cycle == 1 { stop.first } else { 1 });
                coarser.correct(blacks, mixing.moved());
                mixing.mix(blacks)
            } else {
                mixing.take()
            };
            pace.note(change);
            tick(cycle, pace.missing())?;
            if pace.missing() < stop.error {
                break;
            }
            if change < best.1 {
                best = (cycle, change);
            } else if cycle > best.0 + PATIENCE {
                // Sweeps alone always converge.
                omega = OVER;
            }
        }
        let (reds, blacks) = values.split_at_mut(*red);
        relaxation.relax_reds(reds, blacks, 1.0);
        for value in values {
            *value = value.clamp(0.0, 1.0);
        }
        Ok(pace.missing())
    }
}

#[cfg(test)]
mod tests {
    use super::super::components::{CSF, GREY, WHITE};
    use super::super::faces::Shares;
    use super::super::laplace::gradient;
    use super::*;

    #[test]
    fn what_is_missing_is_the_sum_of_the_changes_to_come() {
        let mut pace = Pace::default();
        pace.note(1.0);
        assert!(pace.missing() > 10.0, "one change says nothing of the pace");
        for change in [0.5, 0.25, 0.125] {
            pace.note(change);
        }
        assert!((pace.missing() - 0.125).abs() < 1e-12);
        // A lucky cycle does not count by itself.
        pace.note(0.001);
        assert!((pace.missing() - 0.001).abs() < 1e-12);
        pace.note(0.0);
        assert_eq!(pace.missing(), 0.0);
    }

    #[test]
    fn between_two_planes_the_solution_is_linear() {
        let shape = [16, 4, 3];
        let state: Vec<u8> = (0..shape.iter().product())
            .map(|flat| match flat % 16 {
                0..3 => CSF,
                3..13 => GREY,
                _ => WHITE,
            })
            .collect();
        let sheet = Sheet::of(&state, shape, [0.5, 1.0, 1.0]);
        let stop = Stop {
            error: 1e-9,
            cycles: 50,
            first: 4,
        };
        let mut last = 0;
        let hierarchy = Hierarchy::build(&sheet.cells());
        let equation = Laplacian::of_depth(&sheet, Shares::of_any_angle(&sheet, 5.0));
        let mut values = vec![0.5; sheet.len()];
        Solver::new(&sheet, &hierarchy, &equation)
            .solve(&mut values, stop, &mut |cycle, _| {
                last = cycle;
                Ok(())
            })
            .unwrap();
        assert!(last < 25, "{last} cycles");
        for (number, &value) in values.iter().enumerate() {
            let expected = (sheet.position(number)[0] as f64 - 2.5) / 10.0;
            assert!((value - expected).abs() < 1e-4);
            let slope = gradient(&sheet, |at| values[at], number, &sheet.links(number));
            assert!((slope[0] - 0.2).abs() < 1e-3 && slope[1].abs() < 1e-6);
        }
    }
}
