//! Coarser grids that carry the smooth part of a correction.
//!
//! `coarsen` makes their equations. Residuals are summed into the coarse cells, since they are
//! fluxes; corrections are linear between the cells' centres on the way back. Only the speed depends
//! on how good the coarse equations are.

use super::coarsen::{Arms, Cells, Family, Grid, HALF, Row, coarsen, for_each_block};

/// Grids with fewer cells are not coarsened.
const FEWEST: usize = 64;

/// Sweeps on the coarsest grid.
const COARSEST_SWEEPS: usize = 12;

/// Cycles on the next coarser grid in one cycle: corrections that fall short are made up there,
/// where it costs little.
const CYCLES: usize = 2;

/// A coarse grid: one equation for the correction per cell.
struct Level {
    red: usize,
    rows: Vec<Row>,
    flux: Vec<f32>,
    correction: Vec<f32>,
    family: Family,
}

/// The coarser grids below a fine one, finest first.
pub(super) struct Multigrid {
    levels: Vec<Level>,
}

/// The next coarser grid; `None` if nothing can be merged.
fn level_below(fine: &Cells<'_>, arms: impl Fn(usize) -> Arms + Sync) -> Option<(Level, Grid)> {
    let (family, rows, grid) = coarsen(fine, arms)?;
    let level = Level {
        red: grid.red,
        flux: vec![0.0; rows.len()],
        correction: vec![0.0; rows.len()],
        rows,
        family,
    };
    Some((level, grid))
}

impl Multigrid {
    /// Coarser grids for cells whose equations have the arms `arms`.
    pub(super) fn build(fine: &Cells<'_>, arms: impl Fn(usize) -> Arms + Sync) -> Self {
        let mut levels = Vec::new();
        let Some((mut level, mut grid)) = level_below(fine, arms) else {
            return Self { levels };
        };
        loop {
            let cells = Cells {
                shape: grid.shape,
                spacing: grid.spacing,
                at: &grid.at,
            };
            let next = if level.rows.len() < FEWEST {
                None
            } else {
                level_below(&cells, |cell| level.rows[cell].arms())
            };
            levels.push(level);
            let Some((coarser, coarser_grid)) = next else {
                return Self { levels };
            };
            (level, grid) = (coarser, coarser_grid);
        }
    }

    /// Finds the correction for the residual at each red cell of the fine grid; that of the black
    /// ones is taken as zero.
    pub(super) fn solve(&mut self, red: usize, residual: impl Fn(usize) -> f32 + Sync) {
        let Some(level) = self.levels.first_mut() else {
            return;
        };
        level.gather(red, residual);
        cycle(&mut self.levels);
    }

    /// The correction at a cell of the fine grid.
    pub(super) fn correction(&self, cell: usize) -> f32 {
        self.levels.first().map_or(0.0, |level| level.at(cell))
    }
}

/// One multigrid cycle for the first of the levels.
fn cycle(levels: &mut [Level]) {
    let Some((level, coarser)) = levels.split_first_mut() else {
        return;
    };
    let Some(next) = coarser.first_mut() else {
        for _ in 0..COARSEST_SWEEPS {
            level.sweep();
        }
        return;
    };
    level.sweep();
    next.gather(level.red, |cell| level.residual(cell));
    for _ in 0..CYCLES {
        cycle(coarser);
    }
    let Some(next) = coarser.first() else {
        return;
    };
    let black = level.correction.split_at_mut(level.red).1;
    for_each_block(black, level.red, |cell, value| *value += next.at(cell));
    level.sweep();
}

impl Level {
    /// Sums residuals of the finer grid into the cells, and starts from no correction.
    fn gather(&mut self, finer_red: usize, residual: impl Fn(usize) -> f32 + Sync) {
        let family = &self.family;
        for_each_block(&mut self.flux, 0, |cell, flux| {
            let range = family.first[cell] as usize..family.first[cell + 1] as usize;
            let children = family.children[range].iter().map(|&child| child as usize);
            *flux = children
                .filter(|&child| child < finer_red)
                .map(&residual)
                .sum();
        });
        self.correction.fill(0.0);
    }

    /// The correction at a cell of the finer grid.
    fn at(&self, finer: usize) -> f32 {
        let code = self.family.parent[finer];
        let parent = (code & ((1 << HALF) - 1)) as usize;
        let here = self.correction[parent];
        let mut sum = here;
        for axis in 0..3 {
            if !self.family.merged[axis] || self.rows[parent].outside >> (2 * axis) & 3 != 0 {
                continue;
            }
            let direction = 2 * axis + (code >> (HALF + axis as u32) & 1) as usize;
            let link = self.rows[parent].link[direction];
            if let Some(there) = self.correction.get(link as usize) {
                sum += 0.25 * (there - here);
            }
        }
        sum
    }

    fn residual(&self, cell: usize) -> f32 {
        let row = &self.rows[cell];
        if row.inverse == 0.0 {
            return 0.0;
        }
        row.pull(self.flux[cell], &self.correction, 0) - self.correction[cell] / row.inverse
    }

    /// One red-black Gauss-Seidel sweep.
    fn sweep(&mut self) {
        let (rows, flux, red) = (&self.rows, &self.flux, self.red);
        let (reds, blacks) = self.correction.split_at_mut(red);
        for_each_block(reds, 0, |cell, value| {
            let row = &rows[cell];
            *value = row.inverse * row.pull(flux[cell], blacks, red as u32);
        });
        for_each_block(blacks, red, |cell, value| {
            let row = &rows[cell];
            *value = row.inverse * row.pull(flux[cell], reds, 0);
        });
    }
}
