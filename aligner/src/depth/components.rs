//! Which pieces of grey matter have both a pial and a white side.
//!
//! Pieces are 6-connected. A piece that touches only one tissue has no depth: it is taken out of
//! the computation here, and its voxels are marked.

use std::ops::Range;

/// State of a voxel during the computation. The first three equal [`super::Tissue`].
pub(super) const CSF: u8 = 0;
/// Grey matter with two sides.
pub(super) const GREY: u8 = 1;
/// White matter.
pub(super) const WHITE: u8 = 2;
/// Grey matter in a piece that lacks a side.
pub(super) const ONE_SIDED: u8 = 3;

/// A stretch of grey voxels along x.
struct Run {
    row: usize,
    x: Range<usize>,
    /// Bit per tissue that the run touches: 1 CSF, 2 white.
    touches: u8,
}

/// Marks grey voxels of pieces without two sides as [`ONE_SIDED`]; returns their number.
///
/// `state` holds [`CSF`], [`GREY`] or [`WHITE`] for each voxel, x fastest.
pub(super) fn mark_one_sided(state: &mut [u8], shape: [usize; 3]) -> usize {
    let (runs, first_of_row) = find_runs(state, shape);
    let mut parent: Vec<u32> = (0..runs.len() as u32).collect();
    for row in 0..shape[1] * shape[2] {
        let (y, z) = (row % shape[1], row / shape[1]);
        let own = first_of_row[row]..first_of_row[row + 1];
        if y > 0 {
            let before = first_of_row[row - 1]..first_of_row[row];
            join_overlaps(&runs, own.clone(), before, &mut parent);
        }
        if z > 0 {
            let other = row - shape[1];
            let below = first_of_row[other]..first_of_row[other + 1];
            join_overlaps(&runs, own, below, &mut parent);
        }
    }
    let mut touches = vec![0_u8; runs.len()];
    for (index, run) in runs.iter().enumerate() {
        touches[root(&mut parent, index as u32) as usize] |= run.touches;
    }
    let mut marked = 0;
    for (index, run) in runs.iter().enumerate() {
        if touches[root(&mut parent, index as u32) as usize] != 3 {
            let start = run.row * shape[0];
            state[start + run.x.start..start + run.x.end].fill(ONE_SIDED);
            marked += run.x.len();
        }
    }
    marked
}

fn find_runs(state: &[u8], shape: [usize; 3]) -> (Vec<Run>, Vec<usize>) {
    let [nx, ny, nz] = shape;
    let mut runs = Vec::new();
    let mut first_of_row = Vec::with_capacity(ny * nz + 1);
    for row in 0..ny * nz {
        first_of_row.push(runs.len());
        let values = &state[row * nx..(row + 1) * nx];
        let mut x = 0;
        while x < nx {
            if values[x] != GREY {
                x += 1;
                continue;
            }
            let start = x;
            while x < nx && values[x] == GREY {
                x += 1;
            }
            let touches = touched(state, shape, row, &(start..x));
            runs.push(Run {
                row,
                x: start..x,
                touches,
            });
        }
    }
    first_of_row.push(runs.len());
    (runs, first_of_row)
}

fn touched(state: &[u8], shape: [usize; 3], row: usize, x: &Range<usize>) -> u8 {
    let [nx, ny, nz] = shape;
    let (y, z) = (row % ny, row / ny);
    let bit = |value: u8| match value {
        CSF => 1,
        WHITE => 2,
        _ => 0,
    };
    let mut touches = 0;
    if x.start > 0 {
        touches |= bit(state[row * nx + x.start - 1]);
    }
    if x.end < nx {
        touches |= bit(state[row * nx + x.end]);
    }
    let neighbours = [
        (y > 0).then(|| row - 1),
        (y + 1 < ny).then_some(row + 1),
        (z > 0).then(|| row - ny),
        (z + 1 < nz).then_some(row + ny),
    ];
    for other in neighbours.into_iter().flatten() {
        for &value in &state[other * nx + x.start..other * nx + x.end] {
            touches |= bit(value);
        }
    }
    touches
}

/// Joins the runs of two neighbouring rows wherever they overlap in x.
fn join_overlaps(runs: &[Run], own: Range<usize>, other: Range<usize>, parent: &mut [u32]) {
    let (mut a, mut b) = (own.start, other.start);
    while a < own.end && b < other.end {
        let (first, second) = (&runs[a].x, &runs[b].x);
        if first.start < second.end && second.start < first.end {
            let (p, q) = (root(parent, a as u32), root(parent, b as u32));
            let (low, high) = (p.min(q), p.max(q));
            parent[high as usize] = low;
        }
        if first.end < second.end {
            a += 1;
        } else {
            b += 1;
        }
    }
}

fn root(parent: &mut [u32], mut index: u32) -> u32 {
    while parent[index as usize] != index {
        parent[index as usize] = parent[parent[index as usize] as usize];
        index = parent[index as usize];
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture, one row per string, as a 2-D volume.
    fn read(rows: &[&str]) -> (Vec<u8>, [usize; 3]) {
        let state = rows
            .iter()
            .flat_map(|row| row.bytes().map(|letter| letter - b'0'))
            .collect();
        (state, [rows[0].len(), rows.len(), 1])
    }

    #[test]
    fn a_sheet_keeps_its_state_and_an_island_is_marked() {
        let (mut state, shape) = read(&["0000000", "0110001", "0110111", "0000122"]);
        assert_eq!(mark_one_sided(&mut state, shape), 4);
        let (expected, _) = read(&["0000000", "0330001", "0330111", "0000122"]);
        assert_eq!(state, expected);
    }

    #[test]
    fn branches_that_meet_later_are_one_piece() {
        let (mut state, shape) = read(&["1010101", "1010101", "1111111", "2222222", "0000000"]);
        assert_eq!(mark_one_sided(&mut state, shape), 0);
    }

    #[test]
    fn a_diagonal_contact_does_not_connect() {
        let (mut state, shape) = read(&["0122", "1022", "0022"]);
        assert_eq!(mark_one_sided(&mut state, shape), 1);
        assert_eq!(state[4], ONE_SIDED);
    }
}
