//! Volumes of the tubes along which the harmonic function L rises.
//!
//! L is harmonic, so the flux |∇L|·A is constant in a thin tube of streamlines with cross-section
//! A. The volume of the tube from one surface up to a point is therefore, up to that constant,
//! W = ∫ ds/|∇L| = ∫ dL/|∇L|², or ∇L·∇W = 1 with W = 0 on the surface. No curvature is needed.
//! In the same pass, ∇L·∇S = |∇L| gives the length S of the streamline in mm, and ∇L·∇F = 0 the
//! share F of what flows in that comes from a real surface (1) and not from outside of the image
//! (0).
//!
//! Upwind differences of second order. A voxel needs only voxels with smaller L, so that the result does
//! not depend on the order in which voxels are visited. Of the two points along an axis, the farther one
//! is known when the nearer one is: it lies upstream of that one, along the same axis.

use super::deep::{Deep, DeepVoxels};
use super::laplace::{Harmonic, gradient, is_upstream};
use super::sheet::{End, Sheet};
use super::upstream::Upstream;
use super::upwind::{Flow, Inflow, Stencil, Weights};

/// The surface from which the tubes start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Side {
    /// Where L is 0.
    Pial,
    /// Where L is 1.
    White,
}

/// What arrived at the grey voxels from one surface.
pub(super) struct Arrivals {
    /// At each voxel; two more at the end stand for what enters from a surface and from outside.
    pub(super) flows: Vec<Flow>,
    /// Numbers of the voxels where L rises by less than was asked for.
    pub(super) level: Vec<u32>,
}

/// The tube volume, length and known share at each grey voxel, from one side.
///
/// `harmonic` is L at each grey voxel. Voxels where it rises by less than `flattest`, in 1/mm, are noted.
pub(super) fn flow_from(
    side: Side,
    sheet: &Sheet,
    harmonic: &[Harmonic],
    ways: (&DeepVoxels<'_>, &Upstream),
    flattest: f64,
) -> Arrivals {
    match side {
        Side::Pial => flow_along::<false>(sheet, harmonic, ways, flattest),
        Side::White => flow_along::<true>(sheet, harmonic, ways, flattest),
    }
}

/// Compiled for each direction: with `FALLING`, L falls along the flow.
fn flow_along<const FALLING: bool>(
    sheet: &Sheet,
    harmonic: &[Harmonic],
    (deep, upstream): (&DeepVoxels<'_>, &Upstream),
    flattest: f64,
) -> Arrivals {
    let mut flows = vec![Flow::NONE; sheet.len() + 2];
    flows[sheet.len()..].copy_from_slice(&[Flow::entering(1.0), Flow::entering(0.0)]);
    let transport = Transport::<FALLING> {
        sheet,
        harmonic,
        deep,
        surface: sheet.len() as u32,
        outside: sheet.len() as u32 + 1,
        slope_per_unit: sheet
            .spacing
            .map(|spacing| (0.5 / (Harmonic::ONE * spacing)) as f32),
        inverse_spacing: sheet.spacing.map(|spacing| (1.0 / spacing) as f32),
    };
    let least_square = (flattest * flattest) as f32;
    let mut level = Vec::new();
    let side = if FALLING { Side::White } else { Side::Pial };
    upstream.visit(side, |number| {
        let stencil = transport.stencil(number);
        flows[number] = stencil.flow(&flows);
        if stencil.square < least_square {
            level.push(number as u32);
        }
    });
    Arrivals { flows, level }
}

struct Transport<'a, const FALLING: bool> {
    sheet: &'a Sheet,
    /// L at each grey voxel.
    harmonic: &'a [Harmonic],
    deep: &'a DeepVoxels<'a>,
    /// Number of the flow that stands for the surface from which the tubes start.
    surface: u32,
    /// Number of the flow that stands for the outside of the image.
    outside: u32,
    /// Slope along each axis in 1/mm for a difference of one unit of [`Harmonic`] over two spacings.
    slope_per_unit: [f32; 3],
    /// 1 / spacing.
    inverse_spacing: [f32; 3],
}

impl<const FALLING: bool> Transport<'_, FALLING> {
    /// True for the surface from which the tubes start.
    fn starts_at(value: f64) -> bool {
        (value > 0.5) == FALLING
    }

    /// L at a voxel as it rises along the flow.
    fn level(&self, number: usize) -> Harmonic {
        let level = self.harmonic[number];
        if FALLING { level.complement() } else { level }
    }

    /// How much L rises along the flow from one voxel to another, in units of [`Harmonic`].
    #[inline(always)]
    fn rise(&self, from: usize, to: usize) -> i64 {
        let rise = self.harmonic[to].minus(self.harmonic[from]);
        if FALLING { -rise } else { rise }
    }

    #[inline(always)]
    fn stencil(&self, number: usize) -> Stencil {
        match self.deep.get(number) {
            Some(deep) => self.stencil_of_deep(number, &deep),
            None => self.stencil_of_any(number),
        }
    }

    #[inline(never)]
    fn stencil_of_any(&self, number: usize) -> Stencil {
        let links = self.sheet.links(number);
        let slopes = gradient(self.sheet, |at| self.harmonic[at].value(), number, &links);
        let mut beyond = 0.0;
        let inflows = std::array::from_fn(|axis| {
            let along = if FALLING { -slopes[axis] } else { slopes[axis] };
            let direction = 2 * axis + usize::from(along < 0.0);
            let spacing = self.sheet.spacing[axis];
            let rate = along.abs() / spacing;
            match links[direction].end() {
                _ if along == 0.0 => Inflow::none(self.surface),
                End::Outside => {
                    let level = self.level(number).value() - along.abs() * spacing;
                    beyond += rate * level.max(0.0);
                    Inflow::entering(rate as f32, self.outside)
                }
                End::Surface { value, distance } if Self::starts_at(value) => {
                    Inflow::entering((rate / distance) as f32, self.surface)
                }
                End::Grey(first) if is_upstream(self.rise(first, number)) => {
                    let (second, weights) = self.behind(first, direction);
                    Inflow::new(rate as f32, [first as u32, second], weights)
                }
                End::Surface { .. } | End::Grey(_) => Inflow::none(self.surface),
            }
        });
        Stencil {
            square: slopes.iter().map(|slope| slope * slope).sum::<f64>() as f32,
            inflows,
            beyond: beyond as f32,
        }
    }

    /// The same without a look at links.
    #[inline(always)]
    fn stencil_of_deep(&self, number: usize, deep: &Deep<'_>) -> Stencil {
        let mut square = 0.0;
        let mut inflows = [Inflow::none(self.surface); 3];
        for (axis, inflow) in inflows.iter_mut().enumerate() {
            let [low, high] = [deep.first(2 * axis), deep.first(2 * axis + 1)];
            let rise = self.rise(low as usize, high as usize);
            let slope = rise as f32 * self.slope_per_unit[axis];
            square += slope * slope;
            let falls = rise < 0;
            let first = if falls { high } else { low };
            let second = deep.second(2 * axis + usize::from(falls));
            if rise == 0 || !is_upstream(self.rise(first as usize, number)) {
                continue;
            }
            let rate = slope.abs() * self.inverse_spacing[axis];
            *inflow = if is_upstream(self.rise(second as usize, first as usize)) {
                Inflow::new(rate, [first, second], Weights::EVEN)
            } else {
                Inflow::new(rate, [first, self.surface], Weights::ONE_POINT)
            };
        }
        Stencil {
            square,
            inflows,
            beyond: 0.0,
        }
    }

    /// The second point of an upwind difference, and the weights of both.
    fn behind(&self, first: usize, direction: usize) -> (u32, Weights) {
        match self.sheet.link(first, direction).end() {
            // Very short steps would amplify errors of the first point.
            End::Surface { value, distance } if Self::starts_at(value) && distance > 0.2 => {
                (self.surface, Weights::to_surface(distance))
            }
            End::Grey(second) if is_upstream(self.rise(second, first)) => {
                (second as u32, Weights::EVEN)
            }
            _ => (self.surface, Weights::ONE_POINT),
        }
    }
}
