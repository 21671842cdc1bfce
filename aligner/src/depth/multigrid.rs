//! Coarser grids that carry the smooth part of a correction.
//!
//! `coarsen` makes their equations. Residuals are summed into the coarse cells, since they are
//! fluxes; corrections are linear between the cells' centres on the way back. Only the speed depends
//! on how good the coarse equations are.

use rayon::prelude::*;

use super::coarsen::{Arms, Cells, Nest, Place, Row, for_each_block};
use super::sheet::BLOCK;

/// Grids with fewer cells are not coarsened.
const FEWEST: usize = 64;

/// Sweeps on the coarsest grid.
const COARSEST_SWEEPS: usize = 12;

/// Cycles on the next coarser grid in one cycle: corrections that fall short are made up there,
/// where it costs little.
const CYCLES: usize = 2;

/// The coarser grids below a fine one, finest first; the same for every equation on it.
pub(super) struct Hierarchy {
    nests: Vec<Nest>,
}

impl Hierarchy {
    /// Coarser grids for the cells of a fine one.
    pub(super) fn build(fine: &Cells<'_>) -> Self {
        let mut nests = Vec::new();
        let mut next = Nest::around(fine);
        while let Some(nest) = next {
            next = if nest.at.len() < FEWEST {
                None
            } else {
                Nest::around(&nest.cells())
            };
            nests.push(nest);
        }
        Self { nests }
    }
}

/// A coarse grid: one equation for the correction per cell.
struct Level<'a> {
    nest: &'a Nest,
    rows: Vec<Row>,
    flux: Vec<f32>,
    correction: Vec<f32>,
}

/// The correction of a cell, and how it changes towards each side of it.
type Slopes = [f32; 7];

/// The equations for the correction on all coarser grids.
pub(super) struct Multigrid<'a> {
    levels: Vec<Level<'a>>,
    /// Of the finest of them.
    slopes: Vec<Slopes>,
}

impl<'a> Multigrid<'a> {
    /// For an equation with the arms `arms` on the fine grid of `hierarchy`.
    pub(super) fn new(hierarchy: &'a Hierarchy, arms: impl Fn(usize) -> Arms + Sync) -> Self {
        let mut levels: Vec<Level<'a>> = Vec::new();
        for nest in &hierarchy.nests {
            let rows = match levels.last() {
                None => nest.rows(&arms),
                Some(finer) => nest.rows(|cell| finer.rows[cell].arms()),
            };
            levels.push(Level {
                nest,
                flux: vec![0.0; rows.len()],
                correction: vec![0.0; rows.len()],
                rows,
            });
        }
        let finest = levels.first().map_or(0, |level| level.rows.len());
        Self {
            levels,
            slopes: vec![[0.0; 7]; finest],
        }
    }

    /// Takes over another equation, which differs only where the image ends, with the arms `arms` on
    /// the fine grid.
    pub(super) fn change_ends(&mut self, arms: impl Fn(usize) -> Arms + Sync) {
        let mut finer: Option<&mut Level<'a>> = None;
        for level in &mut self.levels {
            match finer {
                None => level.nest.change_ends(&mut level.rows, &arms),
                Some(finer) => {
                    let arms = |cell: usize| finer.rows[cell].arms();
                    level.nest.change_ends(&mut level.rows, arms);
                }
            }
            finer = Some(level);
        }
    }

    /// Finds the correction for the residual at each red cell of the fine grid; that of the black
    /// ones is taken as zero. More rounds find more of it.
    pub(super) fn solve(&mut self, residual: &[f64], rounds: usize) {
        let Some(level) = self.levels.first_mut() else {
            return;
        };
        level.gather(|cell| residual[cell] as f32);
        for round in 0..rounds {
            cycle(&mut self.levels, round == 0);
        }
    }

    /// Adds the correction to the black cells of the fine grid, and to `moved`.
    pub(super) fn correct(&mut self, blacks: &mut [f64], moved: &mut [f32]) {
        let Some(level) = self.levels.first() else {
            return;
        };
        for_each_block(&mut self.slopes, 0, |cell, slopes| {
            *slopes = level.slopes(cell);
        });
        let slopes = &self.slopes;
        let red = level.nest.finer() - blacks.len();
        blacks
            .par_chunks_mut(BLOCK)
            .zip(moved.par_chunks_mut(BLOCK))
            .enumerate()
            .for_each(|(block, (blacks, moved))| {
                let start = red + block * BLOCK;
                for (place, (value, moved)) in blacks.iter_mut().zip(moved).enumerate() {
                    let place = level.nest.place(start + place);
                    let slopes = &slopes[place.parent];
                    let correction =
                        slopes[6] + place.sides.map(|side| slopes[side]).iter().sum::<f32>();
                    *value += f64::from(correction);
                    *moved += correction;
                }
            });
    }
}

/// One multigrid cycle for the first of the levels. `gathered`: nothing has happened to it since.
fn cycle(levels: &mut [Level<'_>], gathered: bool) {
    let Some((level, coarser)) = levels.split_first_mut() else {
        return;
    };
    if !gathered {
        level.sweep_reds();
    }
    level.sweep_blacks();
    let Some(next) = coarser.first_mut() else {
        for _ in 1..COARSEST_SWEEPS {
            level.sweep_reds();
            level.sweep_blacks();
        }
        return;
    };
    next.gather(|cell| level.residual(cell));
    for cycles in 0..CYCLES {
        cycle(coarser, cycles == 0);
    }
    let Some(next) = coarser.first() else {
        return;
    };
    let red = level.nest.red;
    for_each_block(&mut level.correction[red..], red, |cell, value| {
        *value += next.at(cell);
    });
    level.sweep_reds();
    level.sweep_blacks();
}

impl Level<'_> {
    /// Sums residuals of the red cells of the finer grid into the cells, and starts from what the red ones
    /// ask for if there is no correction elsewhere.
    fn gather(&mut self, residual: impl Fn(usize) -> f32 + Sync) {
        let nest = self.nest;
        for_each_block(&mut self.flux, 0, |cell, flux| {
            let children = nest.red_children_of(cell).iter();
            *flux = children.map(|&child| residual(child as usize)).sum();
        });
        let (reds, blacks) = self.correction.split_at_mut(nest.red);
        for (value, (row, flux)) in reds.iter_mut().zip(self.rows.iter().zip(&self.flux)) {
            *value = row.inverse * flux;
        }
        blacks.fill(0.0);
    }

    fn slopes(&self, cell: usize) -> Slopes {
        let (row, here) = (&self.rows[cell], self.correction[cell]);
        let mut slopes = [0.0; 7];
        slopes[6] = here;
        for (axis, pair) in slopes[..6].as_chunks_mut::<2>().0.iter_mut().enumerate() {
            if self.is_sloped(row, axis) {
                *pair = [2 * axis, 2 * axis + 1].map(|direction| self.slope(row, here, direction));
            }
        }
        slopes
    }

    /// Whether the correction changes along an axis within a cell.
    fn is_sloped(&self, row: &Row, axis: usize) -> bool {
        self.nest.merged[axis] && !row.ends_along(axis)
    }

    /// How the correction changes from the centre of a cell, where it is `here`, to that of its half in
    /// one direction.
    fn slope(&self, row: &Row, here: f32, direction: usize) -> f32 {
        let there = self.correction.get(row.link[direction] as usize);
        let slope = there.map_or(0.0, |there| 0.25 * (there - here));
        if row.weight[direction] > 0.0 {
            slope
        } else {
            0.0
        }
    }

    /// The correction at a cell of the finer grid.
    fn at(&self, finer: usize) -> f32 {
        let Place { parent, sides } = self.nest.place(finer);
        let (row, here) = (&self.rows[parent], self.correction[parent]);
        let slopes = sides.map(|direction| {
            if self.is_sloped(row, direction / 2) {
                self.slope(row, here, direction)
            } else {
                0.0
            }
        });
        here + slopes.iter().sum::<f32>()
    }

    fn residual(&self, cell: usize) -> f32 {
        let row = &self.rows[cell];
        if row.inverse == 0.0 {
            return 0.0;
        }
        row.pull(self.flux[cell], &self.correction, 0) - self.correction[cell] / row.inverse
    }

    /// The first half of a Gauss-Seidel sweep.
    fn sweep_reds(&mut self) {
        let (rows, flux, red) = (&self.rows, &self.flux, self.nest.red);
        let (reds, blacks) = self.correction.split_at_mut(red);
        for_each_block(reds, 0, |cell, value| {
            let row = &rows[cell];
            *value = row.inverse * row.pull(flux[cell], blacks, red as u32);
        });
    }

    /// The second half.
    fn sweep_blacks(&mut self) {
        let (rows, flux, red) = (&self.rows, &self.flux, self.nest.red);
        let (reds, blacks) = self.correction.split_at_mut(red);
        for_each_block(blacks, red, |cell, value| {
            let row = &rows[cell];
            *value = row.inverse * row.pull(flux[cell], reds, 0);
        });
    }
}
