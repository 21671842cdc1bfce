//! Voxels of the sheet that lie two voxels deep.
//!
//! Their first and second neighbours in each direction are grey: an upwind difference of second order
//! needs no look at what they are.

use rayon::prelude::*;

use super::sheet::{Block, End, Sheet, Stretch};

/// The longest part of a stretch that lies two deep, with second neighbours of consecutive numbers.
#[derive(Clone, Copy)]
struct Part {
    /// Places in the stretch.
    from: u32,
    to: u32,
    /// Number of the second neighbour in each direction as it would be for the stretch's first voxel.
    second: [u32; 6],
}

impl Part {
    const EMPTY: Self = Self {
        from: 0,
        to: 0,
        second: [0; 6],
    };

    fn length(&self) -> u32 {
        self.to - self.from
    }
}

/// Which voxels of a sheet lie two deep.
pub(super) struct DeepVoxels<'a> {
    sheet: &'a Sheet,
    /// Of each stretch of each block, for red and for black voxels.
    parts: [Vec<Vec<Part>>; 2],
}

/// A voxel that lies two deep.
pub(super) struct Deep<'a> {
    stretch: &'a Stretch,
    part: &'a Part,
    along: u32,
}

impl<'a> DeepVoxels<'a> {
    pub(super) fn of(sheet: &'a Sheet) -> Self {
        let find = |blocks: &[Block]| -> Vec<Vec<Part>> {
            let parts = blocks.par_iter().map(|block| {
                let stretches = block.stretches.iter();
                stretches.map(|stretch| part(sheet, stretch)).collect()
            });
            parts.collect()
        };
        Self {
            sheet,
            parts: [find(&sheet.reds), find(&sheet.blacks)],
        }
    }

    /// The voxel with this number, if it is known to lie two deep.
    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<Deep<'_>> {
        let within = self.sheet.within(number)?;
        let parts = &self.parts[usize::from(number >= self.sheet.red)];
        let part = &parts[within.block][within.position];
        let along = within.along;
        (along >= part.from && along < part.to).then_some(Deep {
            stretch: within.stretch,
            part,
            along,
        })
    }
}

impl Deep<'_> {
    /// Number of the neighbour in this direction.
    #[inline]
    pub(super) fn first(&self, direction: usize) -> u32 {
        self.stretch.neighbour[direction] + self.along
    }

    /// Number of the voxel behind it.
    #[inline]
    pub(super) fn second(&self, direction: usize) -> u32 {
        self.part.second[direction].wrapping_add(self.along)
    }
}

fn part(sheet: &Sheet, stretch: &Stretch) -> Part {
    let length = u32::from(stretch.length);
    let (mut longest, mut part) = (Part::EMPTY, Part::EMPTY);
    let mut place = 0;
    while place < length {
        // So many have second neighbours with consecutive numbers.
        let mut run = length - place;
        let mut second = [0; 6];
        let mut deep = true;
        for (direction, second) in second.iter_mut().enumerate() {
            let near = (stretch.neighbour[direction] + place) as usize;
            run = run.min(match sheet.within(near) {
                Some(within) => u32::from(within.stretch.length) - within.along,
                None => 1,
            });
            match sheet.link(near, direction).end() {
                End::Grey(number) => *second = (number as u32).wrapping_sub(place),
                End::Surface { .. } | End::Outside => deep = false,
            }
        }
        if deep {
            if part.to != place || part.second != second {
                part = Part {
                    from: place,
                    to: place,
                    second,
                };
            }
            part.to = place + run;
            if part.length() > longest.length() {
                longest = part;
            }
        }
        place += run;
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::super::components::{CSF, GREY, WHITE};
    use super::super::sheet::{Link, Links};
    use super::*;

    /// A bent sheet with a hole, so that stretches end in many ways.
    fn sheet() -> Sheet {
        let shape = [23, 17, 14];
        let state: Vec<u8> = (0..shape.iter().product())
            .map(|flat| {
                let at = [flat % 23, flat / 23 % 17, flat / (23 * 17)];
                let height = at[1] + at[0] * at[0] / 60;
                match height {
                    0..3 => CSF,
                    _ if at == [9, 9, 7] => CSF,
                    3..14 => GREY,
                    _ => WHITE,
                }
            })
            .collect();
        Sheet::of(&state, shape, [1.0; 3])
    }

    #[test]
    fn first_and_second_neighbours_are_those_that_links_say() {
        let sheet = sheet();
        let voxels = DeepVoxels::of(&sheet);
        let grey = |links: Links| links.map(|link| matches!(link.end(), End::Grey(_)));
        let (mut found, mut missed) = (0, 0);
        for number in 0..sheet.len() {
            let links = sheet.links(number);
            let second = |direction: usize| match links[direction].end() {
                End::Grey(first) => Some(sheet.link(first, direction)),
                _ => None,
            };
            let is_deep = grey(links) == [true; 6]
                && (0..6).all(|d| second(d).is_some_and(|link| matches!(link.end(), End::Grey(_))));
            let Some(deep) = voxels.get(number) else {
                missed += usize::from(is_deep);
                continue;
            };
            assert!(is_deep, "{number}");
            found += 1;
            for (direction, link) in links.iter().enumerate() {
                assert_eq!(link.end(), End::Grey(deep.first(direction) as usize));
                let behind = End::Grey(deep.second(direction) as usize);
                assert_eq!(second(direction).map(Link::end), Some(behind));
            }
        }
        assert!(found > 500 && missed < found / 10, "{found} {missed}");
    }
}
