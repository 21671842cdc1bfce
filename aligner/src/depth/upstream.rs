//! Which voxels lie upstream of which, as bits along the rows of the image.
//!
//! The flow at a voxel asks for those at neighbours upstream. A few operations on bits tell for 64
//! voxels of a row which of them have those. Rows are looked at again as long as something changes beside
//! them, upwards and downwards in turns. So memory is read as it lies, with a third of the cache
//! misses of a walk upstream from each voxel.

use rayon::prelude::*;

use super::laplace::{Harmonic, gradient, is_upstream};
use super::sheet::{End, Sheet, all_grey};
use super::transport::Side;

/// Voxels in a word.
const WORD: usize = 64;

/// Voxels of a row, one per bit.
#[derive(Clone, Copy, Default)]
struct Word {
    grey: u64,
    /// Number of the first red and of the first black voxel.
    first: [u32; 2],
    /// Along each axis: where L rises.
    rises: [u64; 3],
    /// Where the neighbour on the side to which L falls is grey, and lower.
    lower: [u64; 3],
    /// Where the neighbour on the side to which L rises is grey, and higher.
    higher: [u64; 3],
}

/// Which voxels lie upstream of each voxel, for the flow from either side.
pub(super) struct Upstream {
    shape: [usize; 3],
    /// Words in a row.
    width: usize,
    words: Vec<Word>,
}

/// Rows before and behind a row, along y and z.
type Beside = [[Option<usize>; 2]; 2];

impl Upstream {
    /// `harmonic` is L at each grey voxel.
    pub(super) fn of(sheet: &Sheet, harmonic: &[Harmonic]) -> Self {
        let [nx, ny, nz] = sheet.shape;
        let width = nx.div_ceil(WORD);
        let slice = nx * ny;
        let mut words = vec![Word::default(); width * ny * nz];
        let chunks = words.par_chunks_mut(width * ny).enumerate();
        chunks.for_each(|(z, words)| {
            for (colour, numbers) in [0..sheet.red, sheet.red..sheet.len()]
                .into_iter()
                .enumerate()
            {
                let voxels = &sheet.voxel[numbers.clone()];
                let from = |z: usize| voxels.partition_point(|&flat| (flat as usize) < z * slice);
                for place in from(z)..from(z + 1) {
                    let flat = voxels[place] as usize - z * slice;
                    let (y, x) = (flat / nx, flat % nx);
                    let word = &mut words[y * width + x / WORD];
                    let number = numbers.start + place;
                    if word.grey & of_colour(colour, y + z) == 0 {
                        word.first[colour] = number as u32;
                    }
                    word.add(1 << (x % WORD), sheet, harmonic, number);
                }
            }
        });
        Self {
            shape: sheet.shape,
            width,
            words,
        }
    }

    /// Calls `visit` with the number of each grey voxel, after those upstream of it.
    pub(super) fn visit(&self, side: Side, mut visit: impl FnMut(usize)) {
        let [_, ny, nz] = self.shape;
        let mut done = vec![0; self.words.len()];
        let mut changed = vec![true; ny * nz];
        let mut sweep = 0;
        while changed.contains(&true) {
            for z in in_turns(nz, sweep % 4 > 1) {
                for y in in_turns(ny, sweep % 2 > 0) {
                    let row = y + ny * z;
                    if !std::mem::take(&mut changed[row]) {
                        continue;
                    }
                    let beside = self.beside([y, z]);
                    if self.visit_row(side, [y, z], &beside, &mut done, &mut visit) {
                        for other in beside.into_iter().flatten().flatten() {
                            changed[other] = true;
                        }
                    }
                }
            }
            sweep += 1;
        }
        debug_assert!(self.words.iter().map(|word| word.grey).eq(done));
    }

    fn beside(&self, [y, z]: [usize; 2]) -> Beside {
        let [_, ny, nz] = self.shape;
        let row = y + ny * z;
        let pair = |at: usize, size: usize, stride: usize| {
            [
                (at > 0).then(|| row - stride),
                (at + 1 < size).then_some(row + stride),
            ]
        };
        [pair(y, ny, 1), pair(z, nz, ny)]
    }

    /// Visits the voxels of a row for which all is there; tells whether there were any.
    fn visit_row(
        &self,
        side: Side,
        [y, z]: [usize; 2],
        beside: &Beside,
        done: &mut [u64],
        visit: &mut impl FnMut(usize),
    ) -> bool {
        let start = (y + self.shape[1] * z) * self.width;
        let mut any = false;
        // Along x each voxel needs at most one of its neighbours: those that need the one before come
        // one after the other upwards, those that need the one behind downwards.
        for at in 0..self.width {
            let word = &self.words[start + at];
            let free = self.free(side, at, beside, start, done);
            let [before, behind] = word.needs(side, 0);
            let carried = if at > 0 {
                done[start + at - 1] >> (WORD - 1)
            } else {
                0
            };
            let here = &mut done[start + at];
            let ready = free & !(before | behind);
            let ready = ready | flood_up((*here | ready) << 1 | carried, free & before);
            *here |= ready;
            any |= ready != 0;
            for bit in ascending(ready) {
                visit(word.number(bit, y + z));
            }
        }
        for at in (0..self.width).rev() {
            let word = &self.words[start + at];
            let free = self.free(side, at, beside, start, done);
            let [_, behind] = word.needs(side, 0);
            let carried = if at + 1 < self.width {
                done[start + at + 1] << (WORD - 1)
            } else {
                0
            };
            let here = &mut done[start + at];
            let ready = flood_down(*here >> 1 | carried, free & behind);
            *here |= ready;
            any |= ready != 0;
            for bit in descending(ready) {
                visit(word.number(bit, y + z));
            }
        }
        any
    }

    /// Voxels of a word that are still to be visited and miss nothing along y and z.
    fn free(&self, side: Side, at: usize, beside: &Beside, start: usize, done: &[u64]) -> u64 {
        let word = &self.words[start + at];
        let mut free = word.grey & !done[start + at];
        if free != 0 {
            for (axis, rows) in beside.iter().enumerate() {
                for (needs, row) in word.needs(side, axis + 1).into_iter().zip(rows) {
                    free &= !needs | row.map_or(0, |row| done[row * self.width + at]);
                }
            }
        }
        free
    }
}

impl Word {
    /// Adds a voxel.
    fn add(&mut self, bit: u64, sheet: &Sheet, harmonic: &[Harmonic], number: usize) {
        self.grey |= bit;
        let level = harmonic[number];
        let links = sheet.links(number);
        let inside = all_grey(&links);
        let slopes = if inside {
            [0.0; 3]
        } else {
            gradient(sheet, |at| harmonic[at].value(), number, &links)
        };
        for axis in 0..3 {
            let ends = [links[2 * axis], links[2 * axis + 1]];
            let rise = if inside {
                let [low, high] = ends.map(|end| harmonic[end.number()]);
                high.minus(low) as f64
            } else {
                slopes[axis]
            };
            if rise == 0.0 {
                continue;
            }
            let [lower, higher] = if rise > 0.0 { ends } else { [ends[1], ends[0]] };
            let set = |bits: &mut u64, yes: bool| *bits |= if yes { bit } else { 0 };
            set(&mut self.rises[axis], rise > 0.0);
            if let End::Grey(other) = lower.end() {
                set(
                    &mut self.lower[axis],
                    is_upstream(level.minus(harmonic[other])),
                );
            }
            if let End::Grey(other) = higher.end() {
                set(
                    &mut self.higher[axis],
                    is_upstream(harmonic[other].minus(level)),
                );
            }
        }
    }

    /// Where the flow from this side needs that at the neighbour before along an axis, and at the one
    /// behind.
    #[inline]
    fn needs(&self, side: Side, axis: usize) -> [u64; 2] {
        let rises = self.rises[axis];
        match side {
            Side::Pial => [rises, !rises].map(|bits| bits & self.lower[axis]),
            Side::White => [!rises, rises].map(|bits| bits & self.higher[axis]),
        }
    }

    /// Number of the voxel at a bit; `row` is y + z.
    #[inline]
    fn number(&self, bit: u32, row: usize) -> usize {
        let colour = (bit as usize + row) % 2;
        let before = self.grey & of_colour(colour, row) & ((1 << bit) - 1);
        self.first[colour] as usize + before.count_ones() as usize
    }
}

/// The bits of one colour in a row; `row` is y + z.
#[inline]
fn of_colour(colour: usize, row: usize) -> u64 {
    0x5555_5555_5555_5555 << ((colour + row) % 2)
}

fn in_turns(size: usize, down: bool) -> impl Iterator<Item = usize> {
    (0..size).map(move |at| if down { size - 1 - at } else { at })
}

/// The seeds within `within`, and all that follow on them there without a gap, upwards.
#[inline]
fn flood_up(seeds: u64, within: u64) -> u64 {
    let seeds = seeds & within;
    // The carry of a sum runs from the lowest seed to the end of the ones.
    within & (seeds | within ^ within.wrapping_add(seeds))
}

/// The same downwards.
#[inline]
fn flood_down(seeds: u64, within: u64) -> u64 {
    flood_up(seeds.reverse_bits(), within.reverse_bits()).reverse_bits()
}

fn ascending(mut bits: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        (bits != 0).then(|| {
            let bit = bits.trailing_zeros();
            bits &= bits - 1;
            bit
        })
    })
}

fn descending(bits: u64) -> impl Iterator<Item = u32> {
    ascending(bits.reverse_bits()).map(|bit| u64::BITS - 1 - bit)
}

#[cfg(test)]
mod tests {
    use super::super::components::{CSF, GREY, WHITE};
    use super::*;

    /// A sheet that winds up and down, more than a word wide.
    fn sheet() -> Sheet {
        let shape = [150, 13, 11];
        let state: Vec<u8> = (0..shape.iter().product())
            .map(|flat| {
                let at = [flat % 150, flat / 150 % 13, flat / (150 * 13)];
                let height = 8 * at[1] + 30 + (40.0 * (at[0] as f64 / 9.0).sin()) as usize + at[2];
                match height {
                    0..60 => CSF,
                    60..110 => GREY,
                    _ => WHITE,
                }
            })
            .collect();
        Sheet::of(&state, shape, [1.0; 3])
    }

    /// A function with many level voxels and pits: flows wind through it.
    fn harmonic(sheet: &Sheet) -> Vec<Harmonic> {
        let value = |number: usize| {
            let [x, y, z] = sheet.position(number).map(|at| at as f64);
            let waves = (0.31 * x).sin() * (0.7 * y + 0.2 * z).cos() + (0.11 * x - 0.4 * z).cos();
            Harmonic::new((0.5 + 0.2 * waves).clamp(0.2, 0.8))
        };
        (0..sheet.len()).map(value).collect()
    }

    /// The grey voxels upstream of one, found without bits.
    fn upstream(sheet: &Sheet, harmonic: &[Harmonic], side: Side, number: usize) -> Vec<usize> {
        let links = sheet.links(number);
        let slopes = gradient(sheet, |at| harmonic[at].value(), number, &links);
        (0..3)
            .filter_map(|axis| {
                let along = if side == Side::Pial {
                    slopes[axis]
                } else {
                    -slopes[axis]
                };
                let End::Grey(other) = links[2 * axis + usize::from(along < 0.0)].end() else {
                    return None;
                };
                let rise = harmonic[number].minus(harmonic[other]);
                let rise = if side == Side::Pial { rise } else { -rise };
                (along != 0.0 && is_upstream(rise)).then_some(other)
            })
            .collect()
    }

    #[test]
    fn each_voxel_is_visited_once_and_after_those_upstream() {
        let sheet = sheet();
        let harmonic = harmonic(&sheet);
        for side in [Side::Pial, Side::White] {
            let mut visited = vec![false; sheet.len()];
            let mut needed = 0;
            Upstream::of(&sheet, &harmonic).visit(side, |number| {
                assert!(
                    !std::mem::replace(&mut visited[number], true),
                    "{number} again"
                );
                for other in upstream(&sheet, &harmonic, side, number) {
                    assert!(visited[other], "{number} before {other}");
                    needed += 1;
                }
            });
            assert!(visited.iter().all(|&visited| visited));
            assert!(needed > sheet.len());
        }
    }

    #[test]
    fn seeds_flood_to_the_end_of_the_ones() {
        let within = 0b0111_0111_1101;
        assert_eq!(flood_up(0b0000_0100_1000, within), 0b0000_0111_1000);
        assert_eq!(flood_up(0b1_0000_0000, 0), 0);
        assert_eq!(flood_down(0b0000_0010_0000, within), 0b0000_0011_1100);
        assert_eq!(flood_up(1, u64::MAX), u64::MAX);
        assert_eq!(flood_down(1 << 63, u64::MAX), u64::MAX);
    }
}
