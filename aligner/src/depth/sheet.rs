//! The cortical sheet as compact arrays over its grey voxels.
//!
//! Grey voxels are numbered by colour of the chessboard, all red ones (x + y + z even) first: the
//! neighbours of a red voxel are black and the reverse, so that one colour can be updated in
//! parallel while the other is only read.

use rayon::prelude::*;

use super::boundary;
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

/// The cortical sheet.
pub(super) struct Sheet {
    /// Voxels of the image along each axis.
    pub(super) shape: [usize; 3],
    /// Distance of voxel centres along each axis, in mm.
    pub(super) spacing: [f64; 3],
    /// Number of red voxels; they come first.
    pub(super) red: usize,
    /// Flat image index of each grey voxel.
    pub(super) voxel: Vec<u32>,
    /// Neighbours of each grey voxel.
    pub(super) links: Vec<Links>,
}

impl Sheet {
    /// Numbers the grey voxels of `state` and finds the surfaces between voxel centres.
    pub(super) fn build(state: &[u8], shape: [usize; 3], spacing: [f64; 3]) -> Self {
        let (voxel, red) = number_by_colour(state, shape);
        let mut number = vec![u32::MAX; state.len()];
        for (index, &flat) in voxel.iter().enumerate() {
            number[flat as usize] = index as u32;
        }
        let mut links: Vec<Links> = voxel
            .par_iter()
            .map(|&flat| link_voxel(state, &number, shape, flat as usize))
            .collect();
        for crossing in boundary::crossings(state, shape, spacing) {
            let owner = number[crossing.voxel as usize] as usize;
            links[owner][usize::from(crossing.direction)] =
                Link::surface(crossing.white, crossing.distance);
        }
        Self {
            shape,
            spacing,
            red,
            voxel,
            links,
        }
    }

    /// Number of grey voxels.
    pub(super) fn len(&self) -> usize {
        self.voxel.len()
    }

    /// Mean thickness in mm: twice the volume over the area of both surfaces.
    ///
    /// Depends only on counts, and so not on the orientation of the axes.
    pub(super) fn mean_thickness_mm(&self) -> f64 {
        let mut faces = [0_usize; 3];
        for links in &self.links {
            for (direction, link) in links.iter().enumerate() {
                faces[direction / 2] += usize::from(matches!(link.end(), End::Surface { .. }));
            }
        }
        let used = self.shape.iter().filter(|&&size| size > 1).count();
        // Area per voxel volume, seen along each axis.
        let seen: [f64; 3] = std::array::from_fn(|axis| faces[axis] as f64 / self.spacing[axis]);
        // Mean of |n_x| + |n_y| + |n_z| over all directions of a normal: a staircase is that much
        // larger than the surface it follows. A flat surface is better served by the norm.
        let excess = [1.0, 1.0, 4.0 / std::f64::consts::PI, 1.5][used];
        let curved = seen.iter().sum::<f64>() / excess;
        let flat = seen.iter().map(|area| area * area).sum::<f64>().sqrt();
        2.0 * self.len() as f64 / curved.max(flat)
    }

    /// Only the flat image index of each grey voxel.
    pub(super) fn into_voxels(self) -> Vec<u32> {
        self.voxel
    }

    /// Voxel index of a grey voxel.
    pub(super) fn position(&self, number: usize) -> [usize; 3] {
        position(self.shape, self.voxel[number] as usize)
    }
}

/// Voxel index of a flat index.
pub(super) fn position(shape: [usize; 3], flat: usize) -> [usize; 3] {
    [
        flat % shape[0],
        flat / shape[0] % shape[1],
        flat / (shape[0] * shape[1]),
    ]
}

/// Flat index of the neighbour in one of the six directions, if it lies in the image.
pub(super) fn neighbour(shape: [usize; 3], flat: usize, direction: usize) -> Option<usize> {
    let axis = direction / 2;
    let stride = [1, shape[0], shape[0] * shape[1]][axis];
    let at = position(shape, flat)[axis];
    if direction.is_multiple_of(2) {
        (at > 0).then(|| flat - stride)
    } else {
        (at + 1 < shape[axis]).then_some(flat + stride)
    }
}

fn number_by_colour(state: &[u8], shape: [usize; 3]) -> (Vec<u32>, usize) {
    let mut colours = [Vec::new(), Vec::new()];
    for (row, values) in state.chunks_exact(shape[0]).enumerate() {
        let parity = row % shape[1] + row / shape[1];
        for (x, &value) in values.iter().enumerate() {
            if value == GREY {
                colours[(parity + x) % 2].push((row * shape[0] + x) as u32);
            }
        }
    }
    let [mut red, black] = colours;
    let count = red.len();
    red.extend_from_slice(&black);
    (red, count)
}

fn link_voxel(state: &[u8], number: &[u32], shape: [usize; 3], flat: usize) -> Links {
    std::array::from_fn(|direction| match neighbour(shape, flat, direction) {
        None => Link::OUTSIDE,
        Some(other) => match state[other] {
            CSF => Link::surface(false, 0.5),
            WHITE => Link::surface(true, 0.5),
            _ => Link::grey(number[other]),
        },
    })
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
        let sheet = Sheet::build(&[GREY; 60], shape, [1.0; 3]);
        for (number, links) in sheet.links.iter().enumerate() {
            for (direction, link) in links.iter().enumerate() {
                if let End::Grey(other) = link.end() {
                    assert_ne!(number < sheet.red, other < sheet.red);
                    assert_eq!(sheet.links[other][direction ^ 1].end(), End::Grey(number));
                }
            }
        }
    }
}
