//! The equations of a coarser grid.
//!
//! Each coarse cell is the grey part of up to 2×2×2 finer ones, so that its equation has the same
//! seven points. Its weights are those of the finer links that cross its faces, divided by the
//! longer distance between cell centres; a surface keeps its pull however thin the gap behind it
//! is.

use rayon::prelude::*;

use super::sheet::position;

/// Marks a side without a neighbour.
const NONE: u32 = u32::MAX;

/// Cells that are updated in one piece: on coarse grids there are few.
const SHARE: usize = 2048;

/// Bits of a parent that say in which half of it, along each axis, a cell lies.
const HALF: u32 = 29;

/// Weight of a tie between two cells in the coarse equation, by whether the cell has a sibling behind
/// it. The distance of the coarse centres asks for 0.5 and 0.67; with that, corrections overshoot
/// where a surface cuts the cells.
const CLOSER: [f32; 2] = [0.75, 0.55];

/// How far a sibling moves the centre of the parent away from a surface, in spacings.
const BACK: f32 = 0.4;

/// What a cell is tied to, in one of the six directions.
#[derive(Clone, Copy)]
pub(super) enum Arm {
    /// Another cell of the same grid, and the weight of the tie.
    Cell(u32, f32),
    /// A fixed value, the weight of the tie, and the distance in spacings.
    Fixed(f32, f32),
    /// Outside of the image, and the weight of a fixed value there.
    Outside(f32),
    /// Nothing.
    Free,
}

/// The arms of a cell, and the weight of fixed values that lie in no one direction.
pub(super) type Arms = ([Arm; 6], f32);

/// The cells of a grid in the image.
pub(super) struct Cells<'a> {
    pub(super) shape: [usize; 3],
    pub(super) spacing: [f64; 3],
    /// Flat index of each cell.
    pub(super) at: &'a [u32],
    /// Number of cells of the first colour.
    pub(super) red: usize,
}

/// A coarser grid, and how the cells of a finer one lie in it.
pub(super) struct Nest {
    shape: [usize; 3],
    spacing: [f64; 3],
    /// Flat index of each coarse cell.
    pub(super) at: Vec<u32>,
    /// Number of coarse cells of the first colour.
    pub(super) red: usize,
    /// Coarse cell of each fine one, and in which half of it along each axis.
    parent: Vec<u32>,
    /// The fine cells in each coarse one, the red and the black ones.
    children: [Children; 2],
    /// Axes along which two cells are merged.
    pub(super) merged: [bool; 3],
}

/// The fine cells of one colour in each coarse cell.
struct Children {
    /// In the order of their parents, and ascending for each.
    cells: Vec<u32>,
    /// Where those of each parent begin.
    first: Vec<u32>,
}

/// Where a fine cell lies.
pub(super) struct Place {
    /// Its coarse cell.
    pub(super) parent: usize,
    /// Towards which sides of the parent's centre, along each axis.
    pub(super) sides: [usize; 3],
}

/// The equation of a coarse cell.
pub(super) struct Row {
    /// The neighbour in each direction. Where there is none, that in another one: a branch would often
    /// be mispredicted.
    pub(super) link: [u32; 6],
    /// 0 where there is no neighbour.
    pub(super) weight: [f32; 6],
    /// Whether the image ends, a bit for each direction.
    ends: u8,
    /// Weight of the fixed values.
    pub(super) fixed: f32,
    /// 1 / sum of all weights; 0 if there are none.
    pub(super) inverse: f32,
}

/// Calls `update` with the number of each value, from `start`.
pub(super) fn for_each_block<T: Send>(
    values: &mut [T],
    start: usize,
    update: impl Fn(usize, &mut T) + Sync,
) {
    values
        .par_chunks_mut(SHARE)
        .enumerate()
        .for_each(|(block, values)| {
            for (index, value) in values.iter_mut().enumerate() {
                update(start + block * SHARE + index, value);
            }
        });
}

impl Row {
    const EMPTY: Self = Self {
        link: [NONE; 6],
        weight: [0.0; 6],
        ends: 0,
        fixed: 0.0,
        inverse: 0.0,
    };

    /// The flux plus what the neighbours give; `values` begins with cell `start`.
    #[inline]
    pub(super) fn pull(&self, flux: f32, values: &[f32], start: u32) -> f32 {
        let mut sum = flux;
        for direction in 0..6 {
            let place = self.link[direction].wrapping_sub(start) as usize;
            sum += self.weight[direction] * values.get(place).copied().unwrap_or(0.0);
        }
        sum
    }

    /// True if the image ends on either side of the axis.
    pub(super) fn ends_along(&self, axis: usize) -> bool {
        self.ends >> (2 * axis) & 3 != 0
    }

    pub(super) fn arms(&self) -> Arms {
        let arms = std::array::from_fn(|direction| {
            if self.weight[direction] > 0.0 {
                Arm::Cell(self.link[direction], self.weight[direction])
            } else if self.ends >> direction & 1 != 0 {
                Arm::Outside(0.0)
            } else {
                Arm::Free
            }
        });
        (arms, self.fixed)
    }
}

/// The finer axes, so that coarse cells become cubes.
fn merged_axes(shape: [usize; 3], spacing: [f64; 3]) -> [bool; 3] {
    let finest = (0..3)
        .filter(|&axis| shape[axis] > 3)
        .map(|axis| spacing[axis])
        .fold(f64::INFINITY, f64::min);
    std::array::from_fn(|axis| shape[axis] > 3 && spacing[axis] < 1.5 * finest)
}

/// Index along a merged axis of the coarse cell. The outermost layers stay by themselves: what holds
/// at a face of the image ties them but weakly to the next ones.
fn coarse_index(index: usize, size: usize) -> usize {
    if index + 1 == size {
        size / 2 + size % 2
    } else {
        index.div_ceil(2)
    }
}

/// The coarse cell of each fine one; flat index of each coarse cell, and how many are red.
fn number_parents(
    fine: &Cells<'_>,
    shape: [usize; 3],
    merged: [bool; 3],
) -> (Vec<u32>, Vec<u32>, usize) {
    let mut parent = vec![0; fine.at.len()];
    for_each_block(&mut parent, 0, |cell, parent| {
        let place = position(fine.shape, fine.at[cell] as usize);
        let [x, y, z] = std::array::from_fn(|axis| {
            if merged[axis] {
                coarse_index(place[axis], fine.shape[axis])
            } else {
                place[axis]
            }
        });
        *parent = (x + shape[0] * (y + shape[1] * z)) as u32;
    });
    let mut number = vec![NONE; shape.iter().product()];
    for &flat in &parent {
        number[flat as usize] = 0;
    }
    let mut colours = [Vec::new(), Vec::new()];
    for (row, values) in number.chunks_exact(shape[0]).enumerate() {
        let parity = row % shape[1] + row / shape[1];
        for (x, _) in values.iter().enumerate().filter(|(_, value)| **value == 0) {
            colours[(parity + x) % 2].push((row * shape[0] + x) as u32);
        }
    }
    let [mut at, black] = colours;
    let red = at.len();
    at.extend_from_slice(&black);
    for (index, &flat) in at.iter().enumerate() {
        number[flat as usize] = index as u32;
    }
    for_each_block(&mut parent, 0, |_, parent| {
        *parent = number[*parent as usize];
    });
    (parent, at, red)
}

impl Children {
    /// `parent` is that of each fine cell, of which the first has the number `start`.
    fn of(parent: &[u32], start: usize, parents: usize) -> Self {
        let mut first = vec![0_u32; parents + 1];
        for &cell in parent {
            first[cell as usize + 1] += 1;
        }
        for cell in 0..parents {
            first[cell + 1] += first[cell];
        }
        let mut next = first.clone();
        let mut cells = vec![0; parent.len()];
        for (child, &cell) in parent.iter().enumerate() {
            let place = &mut next[cell as usize];
            cells[*place as usize] = (start + child) as u32;
            *place += 1;
        }
        Self { cells, first }
    }

    fn of_cell(&self, cell: usize) -> &[u32] {
        &self.cells[self.first[cell] as usize..self.first[cell + 1] as usize]
    }
}

impl Nest {
    /// The next coarser grid; `None` if nothing can be merged.
    pub(super) fn around(fine: &Cells<'_>) -> Option<Self> {
        let merged = merged_axes(fine.shape, fine.spacing);
        if merged == [false; 3] || fine.at.len() >= 1 << HALF {
            return None;
        }
        let shape = std::array::from_fn(|axis| {
            let size = fine.shape[axis];
            if merged[axis] {
                coarse_index(size - 1, size) + 1
            } else {
                size
            }
        });
        let (mut parent, at, red) = number_parents(fine, shape, merged);
        let (reds, blacks) = parent.split_at(fine.red);
        let (reds, blacks) = rayon::join(
            || Children::of(reds, 0, at.len()),
            || Children::of(blacks, fine.red, at.len()),
        );
        for_each_block(&mut parent, 0, |cell, code| {
            let place = position(fine.shape, fine.at[cell] as usize);
            for axis in 0..3 {
                *code |= (((place[axis] + 1) % 2) as u32) << (HALF + axis as u32);
            }
        });
        let spacing =
            std::array::from_fn(|axis| fine.spacing[axis] * if merged[axis] { 2.0 } else { 1.0 });
        Some(Self {
            shape,
            spacing,
            at,
            red,
            parent,
            children: [reds, blacks],
            merged,
        })
    }

    /// The coarse cells, to be merged in turn.
    pub(super) fn cells(&self) -> Cells<'_> {
        Cells {
            shape: self.shape,
            spacing: self.spacing,
            at: &self.at,
            red: self.red,
        }
    }

    /// Number of fine cells.
    pub(super) fn finer(&self) -> usize {
        self.parent.len()
    }

    /// Where a fine cell lies.
    pub(super) fn place(&self, finer: usize) -> Place {
        let code = self.parent[finer];
        let side = |axis: u32| (2 * axis + (code >> (HALF + axis) & 1)) as usize;
        Place {
            parent: (code & ((1 << HALF) - 1)) as usize,
            sides: [side(0), side(1), side(2)],
        }
    }

    /// The red ones of the fine cells in a coarse one.
    pub(super) fn red_children_of(&self, cell: usize) -> &[u32] {
        self.children[0].of_cell(cell)
    }

    /// The equations of the coarse cells from those of the fine ones.
    pub(super) fn rows(&self, arms: impl Fn(usize) -> Arms + Sync) -> Vec<Row> {
        let cells = (0..self.at.len()).into_par_iter();
        cells.map(|cell| self.row(cell, &arms)).collect()
    }

    /// Makes anew the equations of coarse cells where the image ends.
    pub(super) fn change_ends(&self, rows: &mut [Row], arms: impl Fn(usize) -> Arms + Sync) {
        for_each_block(rows, 0, |cell, row| {
            if (0..3).any(|axis| row.ends_along(axis)) {
                *row = self.row(cell, &arms);
            }
        });
    }

    fn parent(&self, cell: u32) -> u32 {
        self.parent[cell as usize] & ((1 << HALF) - 1)
    }

    /// The equation of a coarse cell.
    fn row(&self, cell: usize, arms: impl Fn(usize) -> Arms) -> Row {
        let mut row = Row::EMPTY;
        let children = self.children.iter();
        for &child in children.flat_map(|children| children.of_cell(cell)) {
            let (arms, fixed) = arms(child as usize);
            row.fixed += fixed;
            for (direction, arm) in arms.into_iter().enumerate() {
                let merged = self.merged[direction / 2];
                // The centre of the parent lies further back if the child has a sibling there.
                let back = match arms[direction ^ 1] {
                    Arm::Cell(other, _) if merged => self.parent(other) as usize == cell,
                    _ => false,
                };
                match arm {
                    Arm::Cell(other, weight) => {
                        let parent = self.parent(other);
                        if parent as usize != cell {
                            let closer = if merged {
                                CLOSER[usize::from(back)]
                            } else {
                                1.0
                            };
                            row.link[direction] = parent;
                            row.weight[direction] += closer * weight;
                        }
                    }
                    Arm::Fixed(weight, distance) => {
                        let shift = if back { BACK } else { 0.0 };
                        row.fixed += weight * distance / (distance + shift);
                    }
                    Arm::Outside(weight) => {
                        row.ends |= 1 << direction;
                        row.fixed += weight;
                    }
                    Arm::Free => {}
                }
            }
        }
        // A cell that goes on does not end there, although some of its children do.
        for (direction, &weight) in row.weight.iter().enumerate() {
            row.ends &= !(u8::from(weight > 0.0) << direction);
        }
        if let Some(any) = row.link.into_iter().find(|&link| link != NONE) {
            row.link = row.link.map(|link| if link == NONE { any } else { link });
        }
        let sum = row.fixed + row.weight.iter().sum::<f32>();
        if sum > 0.0 {
            row.inverse = 1.0 / sum;
        }
        row
    }
}
