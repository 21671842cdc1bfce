//! The cortical sheet as compact arrays over its grey voxels.
//!
//! Grey voxels are numbered by colour of the chessboard, all red ones (x + y + z even) first: the
//! neighbours of a red voxel are black and the reverse, so that one colour can be updated in
//! parallel while the other is only read.

use rayon::prelude::*;

use super::boundary::Crossing;
use super::coarsen::Cells;
use super::components::{CSF, GREY, WHITE};

/// What lies next to a grey voxel, packed into 32 bits.
///
/// A number below 2³¹ is a grey voxel. Otherwise the distance to the surface on this grid edge is
/// kept in the low bits, so that no second array is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link(u32);

/// A [`Link`], read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    /// Another grey voxel, one spacing away.
    Grey(usize),
    /// A surface: the value of the harmonic function there (0 pial, 1 white), and its distance in
    /// spacings (0.02 to 1).
    Surface { value: f64, distance: f64 },
    /// Outside of the image.
    Outside,
}

/// Grey voxels that a [`Link`] can name.
pub(super) const MOST_GREY: usize = 1 << 31;

impl Link {
    pub(super) const OUTSIDE: Self = Self(u32::MAX);
    const SURFACE: u32 = 1 << 31;
    const WHITE: u32 = 1 << 29;
    const ONE: u32 = 1 << 28;

    fn grey(number: u32) -> Self {
        Self(number)
    }

    /// A surface at `distance` spacings (0 to 1).
    pub(super) fn surface(white: bool, distance: f32) -> Self {
        let side = if white { Self::WHITE } else { 0 };
        Self(Self::SURFACE | side | (f64::from(distance) * f64::from(Self::ONE)) as u32)
    }

    /// Number of the grey voxel, meaningful if [`all_grey`] holds.
    pub(super) fn number(self) -> usize {
        self.0 as usize
    }

    #[inline]
    pub(super) fn end(self) -> End {
        if self.0 & Self::SURFACE == 0 {
            End::Grey(self.0 as usize)
        } else if self == Self::OUTSIDE {
            End::Outside
        } else {
            End::Surface {
                value: f64::from(u8::from(self.0 & Self::WHITE != 0)),
                distance: f64::from(self.0 & (2 * Self::ONE - 1)) / f64::from(Self::ONE),
            }
        }
    }
}

/// The six neighbours of a grey voxel: −x, +x, −y, +y, −z, +z.
pub(super) type Links = [Link; 6];

/// True if all six neighbours are grey.
#[inline]
pub(super) fn all_grey(links: &Links) -> bool {
    links.iter().fold(0, |bits, link| bits | link.0) & Link::SURFACE == 0
}

/// Voxels of one colour that are kept, and updated, together; the same for any number of threads.
pub(super) const BLOCK: usize = 8192;

/// Grey voxels with six grey neighbours, whose numbers are consecutive, as those of the neighbours
/// in each direction are.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    /// Place of the first one in the block.
    pub(super) first: u16,
    pub(super) length: u16,
    /// Number of the first one's neighbour in each direction.
    pub(super) neighbour: [u32; 6],
}

/// A voxel that a surface or a face of the image ties.
pub(super) struct Rim {
    /// Place in the block.
    pub(super) cell: u16,
    pub(super) links: Links,
}

/// The neighbours of at most [`BLOCK`] voxels of one colour.
///
/// Most voxels lie in stretches: per voxel that takes a fraction of the memory of six links.
pub(super) struct Block {
    pub(super) stretches: Vec<Stretch>,
    pub(super) rim: Vec<Rim>,
    /// For each voxel the position of its stretch, or with the bit [`Block::RIM`] that in the rim.
    code: Vec<u16>,
}

impl Block {
    const RIM: u16 = 1 << 15;

    fn new(links: impl ExactSizeIterator<Item = Links>) -> Self {
        let mut block = Self {
            stretches: Vec::new(),
            rim: Vec::new(),
            code: Vec::with_capacity(links.len()),
        };
        for (cell, links) in links.enumerate() {
            let code = if all_grey(&links) {
                block.extend(cell as u16, links.map(|link| link.0));
                block.stretches.len() as u16 - 1
            } else {
                let cell = cell as u16;
                block.rim.push(Rim { cell, links });
                (block.rim.len() as u16 - 1) | Self::RIM
            };
            block.code.push(code);
        }
        block.stretches.shrink_to_fit();
        block.rim.shrink_to_fit();
        block
    }

    fn extend(&mut self, cell: u16, neighbour: [u32; 6]) {
        if let Some(last) = self.stretches.last_mut()
            && last.first + last.length == cell
            && last.neighbour.map(|at| at + u32::from(last.length)) == neighbour
        {
            last.length += 1;
        } else {
            self.stretches.push(Stretch {
                first: cell,
                length: 1,
                neighbour,
            });
        }
    }

    #[inline]
    fn at(&self, cell: usize) -> Place<'_> {
        let code = usize::from(self.code[cell] & !Self::RIM);
        if self.code[cell] & Self::RIM == 0 {
            let stretch = &self.stretches[code];
            Place::Stretch(code, stretch, cell as u32 - u32::from(stretch.first))
        } else {
            Place::Rim(&self.rim[code].links)
        }
    }
}

/// Where the neighbours of a voxel are kept.
enum Place<'a> {
    /// In a stretch: its position in the block, and how far along it.
    Stretch(usize, &'a Stretch, u32),
    Rim(&'a Links),
}

/// A voxel in a stretch.
pub(super) struct Within<'a> {
    /// Position of its block among those of its colour.
    pub(super) block: usize,
    /// Position of the stretch in the block.
    pub(super) position: usize,
    pub(super) stretch: &'a Stretch,
    /// Place of the voxel in the stretch.
    pub(super) along: u32,
}

/// The cortical sheet.
pub(super) struct Sheet {
    /// Voxels of the image along each axis.
    pub(super) shape: [usize; 3],
    /// Distance of voxel centres along each axis, in mm.
    pub(super) spacing: [f64; 3],
    /// Mean thickness in mm.
    pub(super) thickness_mm: f64,
    /// Number of red voxels; they come first.
    pub(super) red: usize,
    /// Flat image index of each grey voxel.
    pub(super) voxel: Vec<u32>,
    /// Neighbours of the red voxels.
    pub(super) reds: Vec<Block>,
    /// Neighbours of the black voxels.
    pub(super) blacks: Vec<Block>,
}

impl Sheet {
    /// Numbers the grey voxels of `state`, with the surfaces where `crossings` says; half a voxel away
    /// where it says nothing.
    pub(super) fn build(
        state: &[u8],
        shape: [usize; 3],
        spacing: [f64; 3],
        thickness_mm: f64,
        crossings: &[Crossing],
    ) -> Self {
        let (voxel, red, number) = number_by_colour(state, shape);
        let blocks = |voxels: &[u32]| -> Vec<Block> {
            let link = |&flat: &u32| link_voxel(state, &number, shape, flat as usize);
            let blocks = voxels.par_chunks(BLOCK);
            blocks
                .map(|voxels| Block::new(voxels.iter().map(link)))
                .collect()
        };
        let mut reds = blocks(&voxel[..red]);
        let mut blacks = blocks(&voxel[red..]);
        let number = |crossing: &Crossing| number[crossing.voxel as usize] as usize;
        let in_reds = |crossing: &Crossing| Some(number(crossing)).filter(|&at| at < red);
        let in_blacks = |crossing: &Crossing| number(crossing).checked_sub(red);
        rayon::join(
            || place(crossings, &mut reds, in_reds),
            || place(crossings, &mut blacks, in_blacks),
        );
        Self {
            shape,
            spacing,
            thickness_mm,
            red,
            voxel,
            reds,
            blacks,
        }
    }

    /// The sheet of labels, and where its surfaces are found.
    #[cfg(test)]
    pub(super) fn of(state: &[u8], shape: [usize; 3], spacing: [f64; 3]) -> Self {
        let mut state = state.to_vec();
        let thickness_mm = mean_thickness_mm(&state, shape, spacing);
        let surfaces = super::boundary::find(&mut state, shape, spacing, thickness_mm);
        Self::build(&state, shape, spacing, thickness_mm, &surfaces.crossings)
    }

    /// The six neighbours of a grey voxel.
    #[inline]
    pub(super) fn links(&self, number: usize) -> Links {
        let (block, cell) = self.locate(number);
        match block.at(cell) {
            Place::Stretch(_, stretch, along) => stretch.neighbour.map(|at| Link(at + along)),
            Place::Rim(links) => *links,
        }
    }

    /// The neighbour of a grey voxel in one direction.
    #[inline]
    pub(super) fn link(&self, number: usize, direction: usize) -> Link {
        let (block, cell) = self.locate(number);
        match block.at(cell) {
            Place::Stretch(_, stretch, along) => Link(stretch.neighbour[direction] + along),
            Place::Rim(links) => links[direction],
        }
    }

    /// The stretch that a grey voxel lies in; `None` on the rim.
    #[inline]
    pub(super) fn within(&self, number: usize) -> Option<Within<'_>> {
        let (block, cell) = self.locate(number);
        let Place::Stretch(position, stretch, along) = block.at(cell) else {
            return None;
        };
        let first = if number < self.red { 0 } else { self.red };
        Some(Within {
            block: (number - first) / BLOCK,
            position,
            stretch,
            along,
        })
    }

    #[inline]
    fn locate(&self, number: usize) -> (&Block, usize) {
        let (blocks, place) = if number < self.red {
            (&self.reds, number)
        } else {
            (&self.blacks, number - self.red)
        };
        (&blocks[place / BLOCK], place % BLOCK)
    }

    /// Number and neighbours of the voxels that surfaces or faces of the image tie, by ascending number.
    pub(super) fn rim(&self) -> impl Iterator<Item = (usize, &Links)> {
        let starts = |first: usize| (0..).map(move |block| first + block * BLOCK);
        let reds = starts(0).zip(&self.reds);
        let blacks = starts(self.red).zip(&self.blacks);
        reds.chain(blacks).flat_map(|(start, block)| {
            let rim = block.rim.iter();
            rim.map(move |rim| (start + usize::from(rim.cell), &rim.links))
        })
    }

    /// The grey voxels, to be merged into coarser cells.
    pub(super) fn cells(&self) -> Cells<'_> {
        Cells {
            shape: self.shape,
            spacing: self.spacing,
            at: &self.voxel,
            red: self.red,
        }
    }

    /// Number of grey voxels.
    pub(super) fn len(&self) -> usize {
        self.voxel.len()
    }

    /// Only the flat image index of each grey voxel.
    pub(super) fn into_voxels(self) -> Vec<u32> {
        self.voxel
    }

    /// Number of the grey voxel with this flat image index, if there is one.
    pub(super) fn number(&self, voxel: usize) -> Option<usize> {
        let [x, y, z] = position(self.shape, voxel);
        let (reds, blacks) = self.voxel.split_at(self.red);
        let (first, voxels) = [(0, reds), (self.red, blacks)][(x + y + z) % 2];
        let place = voxels.binary_search(&(voxel as u32)).ok()?;
        Some(first + place)
    }

    /// Voxel index of a grey voxel.
    pub(super) fn position(&self, number: usize) -> [usize; 3] {
        position(self.shape, self.voxel[number] as usize)
    }
}

/// Mean thickness in mm: twice the volume over the area of both surfaces.
///
/// Depends only on counts, and so not on the orientation of the axes.
pub(super) fn mean_thickness_mm(state: &[u8], shape: [usize; 3], spacing: [f64; 3]) -> f64 {
    let [nx, ny, nz] = shape;
    let row = |y: usize, z: usize| &state[nx * (y + ny * z)..][..nx];
    let is_surface = |a: u8, b: u8| (a == GREY) != (b == GREY) && a.max(b) <= WHITE;
    let between = |one: &[u8], other: &[u8]| {
        let pairs = one.iter().zip(other);
        pairs.filter(|&(&a, &b)| is_surface(a, b)).count()
    };
    let in_row = |index: usize| {
        let (y, z) = (index % ny, index / ny);
        let here = row(y, z);
        let grey = here.iter().map(|&value| usize::from(value == GREY)).sum();
        let along = between(&here[1..], here);
        let across = |inside: bool, other: fn(usize, usize) -> (usize, usize)| {
            let (y, z) = other(y, z);
            if inside { between(here, row(y, z)) } else { 0 }
        };
        [
            grey,
            along,
            across(y + 1 < ny, |y, z| (y + 1, z)),
            across(z + 1 < nz, |y, z| (y, z + 1)),
        ]
    };
    let add = |a: [usize; 4], b: [usize; 4]| std::array::from_fn(|at| a[at] + b[at]);
    let rows = (0..ny * nz).into_par_iter();
    let [grey, faces @ ..] = rows.map(in_row).reduce(|| [0; 4], add);
    let used = shape.iter().filter(|&&size| size > 1).count();
    // Area per voxel volume, seen along each axis.
    let seen: [f64; 3] = std::array::from_fn(|axis| faces[axis] as f64 / spacing[axis]);
    // Mean of |n_x| + |n_y| + |n_z| over all directions of a normal: a staircase is that much
    // larger than the surface it follows. A flat surface is better served by the norm.
    let excess = [1.0, 1.0, 4.0 / std::f64::consts::PI, 1.5][used];
    let curved = seen.iter().sum::<f64>() / excess;
    let flat = seen.iter().map(|area| area * area).sum::<f64>().sqrt();
    2.0 * grey as f64 / curved.max(flat)
}

/// Puts surfaces where they were found, into the blocks of one colour; `owner` is the place there of the
/// voxel that a crossing belongs to.
fn place(crossings: &[Crossing], blocks: &mut [Block], owner: impl Fn(&Crossing) -> Option<usize>) {
    for crossing in crossings {
        if let Some(owner) = owner(crossing) {
            let block = &mut blocks[owner / BLOCK];
            let code = block.code[owner % BLOCK] ^ Block::RIM;
            block.rim[usize::from(code)].links[usize::from(crossing.direction)] =
                Link::surface(crossing.white, crossing.distance);
        }
    }
}

/// Voxel index of a flat index.
pub(super) fn position(shape: [usize; 3], flat: usize) -> [usize; 3] {
    let row = flat / shape[0];
    [flat - row * shape[0], row % shape[1], row / shape[1]]
}

/// Flat indices of the six neighbours, −x to +z, of the voxel at this index; `None` on a face of the image.
#[inline]
pub(super) fn all_neighbours(shape: [usize; 3], at: [usize; 3]) -> Option<[usize; 6]> {
    let strides = [1, shape[0], shape[0] * shape[1]];
    let flat = at[0] + strides[1] * at[1] + strides[2] * at[2];
    let inside = (0..3).all(|axis| at[axis] > 0 && at[axis] + 1 < shape[axis]);
    inside.then(|| {
        let [x, y, z] = strides;
        [flat - x, flat + x, flat - y, flat + y, flat - z, flat + z]
    })
}

/// Direction and flat index of each neighbour that lies in the image, of the voxel at this index.
#[inline]
pub(super) fn neighbours(shape: [usize; 3], at: [usize; 3]) -> impl Iterator<Item = (u8, usize)> {
    let strides = [1, shape[0], shape[0] * shape[1]];
    let flat = at[0] + strides[1] * at[1] + strides[2] * at[2];
    (0..3_usize)
        .flat_map(move |axis| {
            let low = (at[axis] > 0).then(|| flat - strides[axis]);
            let high = (at[axis] + 1 < shape[axis]).then(|| flat + strides[axis]);
            let direction = 2 * axis as u8;
            [(direction, low), (direction + 1, high)]
        })
        .filter_map(|(direction, there)| Some((direction, there?)))
}

/// Flat index of the neighbour in a direction, which is there.
pub(super) fn neighbour(shape: [usize; 3], voxel: usize, direction: u8) -> usize {
    let stride = [1, shape[0], shape[0] * shape[1]][usize::from(direction / 2)];
    if direction.is_multiple_of(2) {
        voxel - stride
    } else {
        voxel + stride
    }
}

/// Flat index of each grey voxel, how many are red, and the number of each voxel of the image, `u32::MAX`
/// where it is not grey.
fn number_by_colour(state: &[u8], shape: [usize; 3]) -> (Vec<u32>, usize, Vec<u32>) {
    let slice = shape[0] * shape[1];
    let slices: Vec<[Vec<u32>; 2]> = state
        .par_chunks(slice)
        .enumerate()
        .map(|(z, state)| {
            let mut colours = [Vec::new(), Vec::new()];
            for (y, row) in state.chunks_exact(shape[0]).enumerate() {
                let start = z * slice + y * shape[0];
                for (x, _) in row.iter().enumerate().filter(|(_, value)| **value == GREY) {
                    colours[(x + y + z) % 2].push((start + x) as u32);
                }
            }
            colours
        })
        .collect();
    let all = |colour: usize| slices.iter().flat_map(move |slice| &slice[colour]).copied();
    let counts = [0, 1].map(|colour| slices.iter().map(|slice| slice[colour].len()).sum());
    let [red, black]: [usize; 2] = counts;
    let mut voxel = Vec::with_capacity(red + black);
    voxel.extend(all(0));
    voxel.extend(all(1));
    let mut next = [0, red];
    let firsts: Vec<[usize; 2]> = slices
        .iter()
        .map(|slice| {
            let first = next;
            next = [0, 1].map(|colour| next[colour] + slice[colour].len());
            first
        })
        .collect();
    let mut number = vec![u32::MAX; state.len()];
    number
        .par_chunks_mut(slice)
        .zip(slices)
        .zip(firsts)
        .enumerate()
        .for_each(|(z, ((number, colours), firsts))| {
            for (voxels, first) in colours.into_iter().zip(firsts) {
                for (index, flat) in voxels.into_iter().enumerate() {
                    number[flat as usize - z * slice] = (first + index) as u32;
                }
            }
        });
    (voxel, red, number)
}

fn link_voxel(state: &[u8], number: &[u32], shape: [usize; 3], flat: usize) -> Links {
    let at = position(shape, flat);
    if let Some(near) = all_neighbours(shape, at) {
        let links = near.map(|other| Link::grey(number[other]));
        // The number of what is not grey is that of no voxel.
        if all_grey(&links) {
            return links;
        }
    }
    let mut links = [Link::OUTSIDE; 6];
    for (direction, other) in neighbours(shape, at) {
        links[usize::from(direction)] = match state[other] {
            CSF => Link::surface(false, 0.5),
            WHITE => Link::surface(true, 0.5),
            _ => Link::grey(number[other]),
        };
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_what_it_was_made_of() {
        assert_eq!(Link::grey(12).end(), End::Grey(12));
        assert_eq!(Link::OUTSIDE.end(), End::Outside);
        for (white, distance) in [(false, 0.02), (true, 0.37), (true, 1.0)] {
            let End::Surface { value, distance: d } = Link::surface(white, distance).end() else {
                panic!("not a surface");
            };
            assert_eq!(value, f64::from(u8::from(white)));
            assert!((d - f64::from(distance)).abs() < 1e-8);
        }
    }

    #[test]
    fn neighbours_have_the_other_colour_and_point_back() {
        let shape = [5, 4, 3];
        let sheet = Sheet::of(&[GREY; 60], shape, [1.0; 3]);
        for number in 0..sheet.len() {
            for (direction, link) in sheet.links(number).iter().enumerate() {
                if let End::Grey(other) = link.end() {
                    assert_ne!(number < sheet.red, other < sheet.red);
                    assert_eq!(sheet.links(other)[direction ^ 1].end(), End::Grey(number));
                }
            }
        }
    }
}
