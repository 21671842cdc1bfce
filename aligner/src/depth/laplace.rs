//! The harmonic function between the two surfaces: 0 on the pial, 1 on the white one.
//!
//! Finite differences with the true distance to a surface on each grid edge (Shortley & Weller
//! 1938). All distances are in mm.

use super::coarsen::{Arm, Arms};
use super::faces::{Shares, is_on_face};
use super::relax::{Equation, NONE};
use super::sheet::{End, Link, Links, Sheet, all_grey};

/// A value of the harmonic function, 0..1, in half the memory of an `f64` and as precise near 1 as
/// near 0: depth must not depend on which side is which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Harmonic(u32);

impl Harmonic {
    pub(super) const ONE: f64 = 2_147_483_648.0;

    pub(super) fn new(value: f64) -> Self {
        Self((value * Self::ONE) as u32)
    }

    /// Its distance from 1.
    pub(super) fn complement(self) -> Self {
        Self(Self::ONE as u32 - self.0)
    }

    /// Difference of two values in units of the last place: 1 / [`Self::ONE`].
    #[inline]
    pub(super) fn minus(self, other: Self) -> i64 {
        i64::from(self.0) - i64::from(other.0)
    }

    #[inline]
    pub(super) fn value(self) -> f64 {
        f64::from(self.0) / Self::ONE
    }
}

/// Least rise of L from a voxel to one downstream, in units of the last place of [`Harmonic`]: about
/// 1e-6. Above the error of the solver: the order of voxels on one level set would be left to chance.
const MARGIN: i64 = 2147;

/// Whether a voxel lies upstream of another one if L rises by this much between them, in units of the
/// last place of [`Harmonic`].
#[inline]
pub(super) fn is_upstream(rise: i64) -> bool {
    rise > MARGIN
}

/// The equation at each grey voxel.
pub(super) struct Laplacian<'a> {
    sheet: &'a Sheet,
    boundary: Boundary,
    /// 1 / spacing²: weight of a grey neighbour along each axis where all six are grey.
    pub(super) weight: [f64; 3],
}

/// What holds on the surfaces and on the faces of the image.
enum Boundary {
    /// 0 on the pial and 1 on the white surface. On a face nothing is known.
    Depth(Shares),
    /// 0 on both surfaces, 1 one voxel beyond a face.
    Exposure,
}

impl<'a> Laplacian<'a> {
    /// The equation for the harmonic function from 0 (pial) to 1 (white), with `shares` at the faces of
    /// the image.
    pub(super) fn of_depth(sheet: &'a Sheet, shares: Shares) -> Self {
        Self::new(sheet, Boundary::Depth(shares))
    }

    /// Takes a rough solution to judge how the sheet meets the faces of the image; tells whether the
    /// equation has changed.
    pub(super) fn judge_faces(&mut self, rough: &[f64]) -> bool {
        match &mut self.boundary {
            Boundary::Depth(shares) => shares.judge(self.sheet, rough),
            Boundary::Exposure => false,
        }
    }

    /// The equation for the harmonic measure of the faces of the image: the share of random walks
    /// from a voxel that leave through a face before they meet a surface. It bounds how much of the
    /// harmonic function depends on what lies beyond, and falls off like exp(−π·distance/thickness)
    /// from a face.
    pub(super) fn of_exposure(sheet: &'a Sheet) -> Self {
        Self::new(sheet, Boundary::Exposure)
    }

    fn new(sheet: &'a Sheet, boundary: Boundary) -> Self {
        Self {
            sheet,
            boundary,
            weight: sheet.spacing.map(|spacing| 1.0 / (spacing * spacing)),
        }
    }

    /// The equation of a voxel without six grey neighbours.
    pub(super) fn equation(&self, number: usize, links: &Links) -> Equation {
        let (ties, volume) = self.ties(number, links);
        let mut equation = Equation {
            link: [NONE; 6],
            weight: [0.0; 6],
            fixed: 0.0,
            sum: 0.0,
            volume,
        };
        for (direction, tie) in ties.into_iter().enumerate() {
            let Some(Tie { weight, value, .. }) = tie else {
                continue;
            };
            if let End::Grey(number) = links[direction].end() {
                equation.link[direction] = number as u32;
                equation.weight[direction] = weight as f32;
                equation.sum += f64::from(weight as f32);
            } else {
                equation.fixed += weight * value;
                equation.sum += weight;
            }
        }
        equation
    }

    /// The ties of a grey voxel, as coarser grids want them.
    pub(super) fn arms(&self, cell: usize) -> Arms {
        let links = &self.sheet.links(cell);
        if all_grey(links) {
            let arm = |direction: usize| {
                let number = links[direction].number() as u32;
                Arm::Cell(number, self.weight[direction / 2] as f32)
            };
            return (std::array::from_fn(arm), 0.0);
        }
        let (ties, volume) = self.ties(cell, links);
        let mut arms = [Arm::Outside(0.0); 6];
        for (direction, tie) in ties.into_iter().enumerate() {
            let Some(tie) = tie else {
                continue;
            };
            let weight = (volume * tie.weight) as f32;
            arms[direction] = match links[direction].end() {
                End::Grey(number) => Arm::Cell(number as u32, weight),
                End::Outside => Arm::Outside(weight),
                End::Surface { .. } => Arm::Fixed(weight, tie.distance as f32),
            };
        }
        (arms, 0.0)
    }

    /// What a grey voxel is tied to in each direction, and the share of a voxel for which its
    /// equation speaks: with it, weights are the same both ways.
    fn ties(&self, number: usize, links: &Links) -> ([Option<Tie>; 6], f64) {
        let mut ties = [None; 6];
        let (mut even, mut uneven) = (0.0, 0.0);
        let shares = self.boundary.shares(number, links);
        for axis in 0..3 {
            let pair = [links[2 * axis], links[2 * axis + 1]];
            let (ends, share) = self.boundary.apply(pair, shares[axis]);
            let span: f64 = ends.iter().map(|end| end.map_or(1.0, |(_, d)| d)).sum();
            let half = if ends[0].is_some() && ends[1].is_some() {
                0.5 * span
            } else {
                1.0
            };
            for (side, end) in ends.into_iter().enumerate() {
                ties[2 * axis + side] = end.map(|(value, distance)| {
                    let weight = 2.0 * self.weight[axis] * share / (span * distance);
                    even += half * weight;
                    uneven += weight;
                    Tie {
                        weight,
                        value,
                        distance,
                    }
                });
            }
        }
        (ties, if uneven > 0.0 { even / uneven } else { 1.0 })
    }
}

/// What holds a grey voxel in one direction.
#[derive(Clone, Copy)]
struct Tie {
    weight: f64,
    /// Where it is fixed; 0 for a grey voxel.
    value: f64,
    /// In spacings.
    distance: f64,
}

impl Boundary {
    /// The share of the weight of each axis where the image ends on it.
    fn shares(&self, number: usize, links: &Links) -> [f64; 3] {
        match self {
            Self::Depth(shares) if is_on_face(links) => shares.at(number),
            Self::Depth(_) | Self::Exposure => [1.0; 3],
        }
    }

    /// Value and distance in spacings at both ends of an axis, and the share of its weight: `at_face` if
    /// it ends at a face. A grey voxel counts with the value 0.
    fn apply(&self, pair: [Link; 2], at_face: f64) -> ([Option<(f64, f64)>; 2], f64) {
        let ends = pair.map(|link| look(link, |_| 0.0));
        match self {
            Self::Depth(_) if ends[0].is_some() && ends[1].is_some() => (ends, 1.0),
            Self::Depth(_) => (ends, at_face),
            // Along an axis with one voxel nothing can leave.
            Self::Exposure if pair == [Link::OUTSIDE; 2] => ([None; 2], 1.0),
            Self::Exposure => {
                let exposed = |link: Link| match link.end() {
                    End::Grey(_) => (0.0, 1.0),
                    End::Surface { distance, .. } => (0.0, distance),
                    End::Outside => (1.0, 1.0),
                };
                (pair.map(|link| Some(exposed(link))), 1.0)
            }
        }
    }
}

/// Value at the end of a link and its distance in spacings; `None` outside of the image.
#[inline]
fn look(link: Link, read: impl Fn(usize) -> f64) -> Option<(f64, f64)> {
    match link.end() {
        End::Grey(number) => Some((read(number), 1.0)),
        End::Surface { value, distance } => Some((value, distance)),
        End::Outside => None,
    }
}

/// Gradient at a grey voxel with these neighbours, in 1/mm along the voxel axes, of the values that `read`
/// gives: three-point differences on uneven distances, one-sided at faces of the image, zero along an axis with one voxel.
#[inline]
pub(super) fn gradient(
    sheet: &Sheet,
    read: impl Fn(usize) -> f64,
    number: usize,
    links: &Links,
) -> [f64; 3] {
    if all_grey(links) {
        return std::array::from_fn(|axis| {
            let [low, high] = [links[2 * axis], links[2 * axis + 1]];
            (read(high.number()) - read(low.number())) / (2.0 * sheet.spacing[axis])
        });
    }
    let here = read(number);
    std::array::from_fn(|axis| {
        let [low, high] = [links[2 * axis], links[2 * axis + 1]].map(|link| look(link, &read));
        let slope = match (low, high) {
            (None, None) => 0.0,
            (None, Some((value, distance))) => (value - here) / distance,
            (Some((value, distance)), None) => (here - value) / distance,
            (Some((below, to_low)), Some((above, to_high))) => {
                let (left, right) = ((here - below) / to_low, (above - here) / to_high);
                (right * to_low + left * to_high) / (to_low + to_high)
            }
        };
        slope / sheet.spacing[axis]
    })
}
