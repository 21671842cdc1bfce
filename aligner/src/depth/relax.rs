//! Relaxation of a seven-point equation over the grey voxels.
//!
//! Stretches of voxels with six grey neighbours are updated as rows of numbers, without a look at
//! links. The others, the rim, have weights of their own.

use rayon::prelude::*;

use super::sheet::{BLOCK, Block, Links, Sheet, Stretch};
use crate::wide::wide;

/// Marks a direction without a grey neighbour.
pub(super) const NONE: u32 = u32::MAX;

/// The equation of a voxel that a surface or the end of the image ties.
pub(super) struct Equation {
    /// Number of the grey neighbour in each direction, or [`NONE`].
    pub(super) link: [u32; 6],
    /// Weight of the grey neighbours; 0 where there are none.
    pub(super) weight: [f32; 6],
    /// Sum of weight · value over all fixed values.
    pub(super) fixed: f64,
    /// Sum of all weights.
    pub(super) sum: f64,
    /// Share of a voxel for which the equation speaks.
    pub(super) volume: f64,
}

/// An [`Equation`] as it is used.
struct Tied {
    /// Place in the block.
    cell: u16,
    /// Places of the neighbours in the other colour. Where there is none, that of another one: a
    /// branch would often be mispredicted.
    link: [u32; 6],
    weight: [f32; 6],
    fixed: f64,
    /// 1 / sum of all weights.
    inverse: f64,
    /// What turns a wanted change into a residual.
    scale: f32,
}

/// The equations of one colour.
struct Colour<'a> {
    blocks: &'a [Block],
    /// The tied voxels of each block.
    rim: Vec<Vec<Tied>>,
    /// Number of the first voxel of this colour.
    first: u32,
    /// Number of the first voxel of the other colour.
    other: u32,
}

/// The equations of all grey voxels, to be relaxed colour by colour.
///
/// Between two sweeps only the values of black voxels matter: those of red ones are computed from
/// them first.
pub(super) struct Relaxation<'a> {
    red: usize,
    /// Weight of each neighbour along an axis in the mean of a voxel with six of them.
    share: [f64; 3],
    /// Sum of the weights of such a voxel.
    inside: f64,
    reds: Colour<'a>,
    blacks: Colour<'a>,
}

impl<'a> Relaxation<'a> {
    /// `weight` is that of a grey neighbour along each axis where all six are grey; `equation`, of the
    /// voxel's number and links, holds elsewhere.
    pub(super) fn new(
        sheet: &'a Sheet,
        weight: [f64; 3],
        equation: impl Fn(usize, &Links) -> Equation + Sync,
    ) -> Self {
        let inside = 2.0 * weight.iter().sum::<f64>();
        let red = sheet.red;
        Self {
            red,
            share: weight.map(|weight| weight / inside),
            inside,
            reds: Colour::new(&sheet.reds, [0, red], &equation),
            blacks: Colour::new(&sheet.blacks, [red, 0], &equation),
        }
    }

    /// Takes over the equations of voxels for which there is a new one; in the others, fixed values are
    /// multiplied by `factor`.
    pub(super) fn change(
        &mut self,
        renewed: impl Fn(usize, &Links) -> Option<Equation> + Sync,
        factor: f64,
    ) {
        self.reds.change(&renewed, factor);
        self.blacks.change(&renewed, factor);
    }

    /// True if values of 0 solve all equations.
    pub(super) fn is_solved_by_zero(&self) -> bool {
        let mut rims = self.reds.rim.iter().chain(&self.blacks.rim).flatten();
        rims.all(|tied| tied.fixed == 0.0)
    }

    /// Moves every voxel towards what its neighbours ask for, by `omega` of the way; adds what the
    /// black ones moved to `moved`.
    pub(super) fn sweep(&self, values: &mut [f64], omega: f64, moved: &mut [f32]) {
        let (reds, blacks) = values.split_at_mut(self.red);
        self.relax_reds(reds, blacks, omega);
        let (colour, share) = (&self.blacks, self.share);
        blacks
            .par_chunks_mut(BLOCK)
            .zip(moved.par_chunks_mut(BLOCK))
            .zip(colour.parts())
            .for_each(|((values, moved), part)| {
                wide(
                    #[inline(always)]
                    || part.relax::<true>(values, reds, (share, omega), moved),
                );
            });
    }

    /// The first half of a sweep.
    pub(super) fn relax_reds(&self, reds: &mut [f64], blacks: &[f64], omega: f64) {
        let (colour, share) = (&self.reds, self.share);
        reds.par_chunks_mut(BLOCK)
            .zip(colour.parts())
            .for_each(|(values, part)| {
                wide(
                    #[inline(always)]
                    || part.relax::<false>(values, blacks, (share, omega), &mut []),
                );
            });
    }

    /// Replaces the value of each red voxel by what is missing in its equation.
    pub(super) fn residual(&self, values: &mut [f64]) {
        let (share, inside) = (self.share, self.inside);
        let (reds, blacks) = values.split_at_mut(self.red);
        reds.par_chunks_mut(BLOCK)
            .zip(self.reds.parts())
            .for_each(|(values, part)| {
                wide(
                    #[inline(always)]
                    || part.residual(values, blacks, share, inside),
                );
            });
    }
}

impl<'a> Colour<'a> {
    /// `starts` are the numbers of the first voxel of this colour and of the other.
    fn new(
        blocks: &'a [Block],
        starts: [usize; 2],
        equation: impl Fn(usize, &Links) -> Equation + Sync,
    ) -> Self {
        let [first, other] = starts.map(|start| start as u32);
        let rim = blocks.par_iter().enumerate().map(|(place, block)| {
            let start = starts[0] + place * BLOCK;
            let tied = block.rim.iter().map(|rim| {
                let number = start + usize::from(rim.cell);
                Tied::new(rim.cell, &equation(number, &rim.links), other)
            });
            tied.collect()
        });
        Self {
            blocks,
            rim: rim.collect(),
            first,
            other,
        }
    }

    fn change(&mut self, renewed: impl Fn(usize, &Links) -> Option<Equation> + Sync, factor: f64) {
        let Self {
            blocks,
            first,
            other,
            ..
        } = *self;
        let pairs = self.rim.par_iter_mut().zip(blocks).enumerate();
        pairs.for_each(|(place, (tied, block))| {
            let start = first as usize + place * BLOCK;
            for (tied, rim) in tied.iter_mut().zip(&block.rim) {
                match renewed(start + usize::from(rim.cell), &rim.links) {
                    Some(equation) => *tied = Tied::new(rim.cell, &equation, other),
                    None => tied.fixed *= factor,
                }
            }
        });
    }

    fn parts(&self) -> impl IndexedParallelIterator<Item = Part<'_>> {
        self.blocks
            .par_iter()
            .zip(&self.rim)
            .map(|(block, rim)| Part {
                stretches: &block.stretches,
                rim,
                other: self.other,
            })
    }
}

/// The equations of a block.
#[derive(Clone, Copy)]
struct Part<'a> {
    stretches: &'a [Stretch],
    rim: &'a [Tied],
    other: u32,
}

impl Part<'_> {
    /// With `NOTE`, adds what each voxel moved to `moved`.
    #[inline(always)]
    fn relax<const NOTE: bool>(
        self,
        values: &mut [f64],
        other: &[f64],
        (share, omega): ([f64; 3], f64),
        moved: &mut [f32],
    ) {
        for stretch in self.stretches {
            let range = range(stretch);
            let near = self.near(stretch, other);
            let values = &mut values[range.clone()];
            let moved = if NOTE { &mut moved[range] } else { &mut [] };
            for place in 0..values.len() {
                let change = omega * (mean(&near, share, place) - values[place]);
                values[place] += change;
                if NOTE {
                    moved[place] += change as f32;
                }
            }
        }
        for tied in self.rim {
            let cell = usize::from(tied.cell);
            let change = omega * (tied.mean(other) - values[cell]);
            values[cell] += change;
            if NOTE {
                moved[cell] += change as f32;
            }
        }
    }

    #[inline(always)]
    fn residual(self, values: &mut [f64], other: &[f64], share: [f64; 3], inside: f64) {
        for stretch in self.stretches {
            let near = self.near(stretch, other);
            let values = &mut values[range(stretch)];
            for place in 0..values.len() {
                values[place] = inside * (mean(&near, share, place) - values[place]);
            }
        }
        for tied in self.rim {
            let value = &mut values[usize::from(tied.cell)];
            *value = f64::from(tied.scale) * (tied.mean(other) - *value);
        }
    }

    /// The values of the neighbours of a stretch in each direction.
    #[inline(always)]
    fn near<'b>(self, stretch: &Stretch, other: &'b [f64]) -> [&'b [f64]; 6] {
        let length = usize::from(stretch.length);
        stretch
            .neighbour
            .map(|at| &other[(at - self.other) as usize..][..length])
    }
}

#[inline(always)]
fn range(stretch: &Stretch) -> std::ops::Range<usize> {
    let first = usize::from(stretch.first);
    first..first + usize::from(stretch.length)
}

#[inline(always)]
fn mean(near: &[&[f64]; 6], share: [f64; 3], place: usize) -> f64 {
    share[0] * (near[0][place] + near[1][place])
        + share[1] * (near[2][place] + near[3][place])
        + share[2] * (near[4][place] + near[5][place])
}

impl Tied {
    /// `other` is the number of the first voxel of the other colour.
    fn new(cell: u16, equation: &Equation, other: u32) -> Self {
        // Each voxel of a piece with two sides is next to another one or to a surface.
        debug_assert!(equation.sum > 0.0, "nothing ties a voxel");
        let any = equation.link.into_iter().find(|&at| at != NONE);
        let any = any.unwrap_or(other);
        let place = |at: u32| if at == NONE { any - other } else { at - other };
        Self {
            cell,
            link: equation.link.map(place),
            weight: equation.weight,
            fixed: equation.fixed,
            inverse: 1.0 / equation.sum,
            scale: (equation.volume * equation.sum) as f32,
        }
    }

    #[inline(always)]
    fn mean(&self, other: &[f64]) -> f64 {
        let mut sum = self.fixed;
        for direction in 0..6 {
            let value = other.get(self.link[direction] as usize).copied();
            sum += f64::from(self.weight[direction]) * value.unwrap_or(0.0);
        }
        sum * self.inverse
    }
}
