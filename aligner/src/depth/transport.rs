//! Volumes of the tubes along which the harmonic function L rises.
//!
//! L is harmonic, so the flux |∇L|·A is constant in a thin tube of streamlines with cross-section
//! A. The volume of the tube from one surface up to a point is therefore, up to that constant,
//! W = ∫ ds/|∇L| = ∫ dL/|∇L|², or ∇L·∇W = 1 with W = 0 on the surface. No curvature is needed.
//! In the same pass, ∇L·∇S = |∇L| gives the length S of the streamline in mm, and ∇L·∇F = 0 the
//! share F of what flows in that comes from a real surface (1) and not from outside of the image
//! (0).
//!
//! Upwind differences of second order. A voxel needs only neighbours with smaller L, so that the
//! result does not depend on the order in which voxels are visited.

use super::deep::{Deep, DeepVoxels};
use super::laplace::{Harmonic, gradient};
use super::sheet::{End, Sheet};

/// The surface from which the tubes start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Side {
    /// Where L is 0.
    Pial,
    /// Where L is 1.
    White,
}

/// What arrived at a grey voxel from one surface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    /// L, or 1 − L from the white side: grows along the flow.
    pub(super) level: Harmonic,
    /// W in mm²; NaN where nothing arrives.
    pub(super) volume: f32,
    /// S in mm; NaN where nothing arrives.
    pub(super) length: f32,
    /// F, 0..1.
    pub(super) known: f32,
}

impl Flow {
    fn pending(level: Harmonic) -> Self {
        Self {
            level,
            volume: -1.0,
            length: 0.0,
            known: 0.0,
        }
    }

    /// What enters where a tube starts.
    fn entering(known: f32) -> Self {
        Self {
            level: Harmonic::new(0.0),
            volume: 0.0,
            length: 0.0,
            known,
        }
    }

    fn is_pending(self) -> bool {
        self.volume < 0.0
    }

    /// True if anything arrived.
    pub(super) fn arrived(self) -> bool {
        !self.volume.is_nan()
    }
}

/// Least difference of L between two voxels for one to lie upstream, in units of [`Harmonic`]: about
/// 1e-6. Above the error of the solver: the order of voxels on one level set would be left to chance.
const MARGIN: i64 = 2147;

/// The tube volume, length and known share at each grey voxel, from one side.
///
/// `harmonic` is L at each grey voxel. Two more flows at the end stand for what enters from a surface and
/// from outside.
pub(super) fn flow_from(
    side: Side,
    sheet: &Sheet,
    deep: &DeepVoxels<'_>,
    harmonic: &[Harmonic],
) -> Vec<Flow> {
    let levels = harmonic.iter().map(|&level| match side {
        Side::Pial => level,
        Side::White => level.complement(),
    });
    let entering = [Flow::entering(1.0), Flow::entering(0.0)];
    let mut flows = Vec::with_capacity(sheet.len() + entering.len());
    flows.extend(levels.map(Flow::pending));
    flows.extend(entering);
    let transport = Transport {
        side,
        sheet,
        deep,
        surface: sheet.len() as u32,
        outside: sheet.len() as u32 + 1,
        slope_per_unit: sheet.spacing.map(|spacing| 0.5 / (Harmonic::ONE * spacing)),
    };
    let mut waiting: Vec<(usize, Stencil)> = Vec::new();
    for number in 0..sheet.len() {
        if !flows[number].is_pending() {
            continue;
        }
        let mut next = Some((number, transport.stencil(&flows, number)));
        // Depth first: upstream voxels lie near, and near voxels are still in the cache.
        while let Some((number, stencil)) = next {
            if let Some(missing) = stencil.missing(&flows) {
                waiting.push((number, stencil));
                next = Some((missing, transport.stencil(&flows, missing)));
            } else {
                flows[number] = stencil.flow(&flows, flows[number].level);
                next = waiting.pop();
            }
        }
    }
    flows
}

struct Transport<'a> {
    side: Side,
    sheet: &'a Sheet,
    deep: &'a DeepVoxels<'a>,
    /// Number of the flow that stands for the surface from which the tubes start.
    surface: u32,
    /// Number of the flow that stands for the outside of the image.
    outside: u32,
    /// Slope along each axis in 1/mm for a difference of one unit of [`Harmonic`] over two spacings.
    slope_per_unit: [f64; 3],
}

/// What flows into a voxel along one axis.
#[derive(Clone, Copy)]
struct Inflow {
    /// Speed along the axis over the distance to where it comes from, in 1/mm²; 0 if nothing flows in.
    rate: f32,
    /// The flow that it comes from.
    first: u32,
    /// The flow behind that one.
    second: u32,
    difference: Difference,
}

/// All that the flow at a voxel depends on, apart from other flows.
struct Stencil {
    /// |∇L|² in 1/mm².
    square: f64,
    inflows: [Inflow; 3],
    /// Rate · L one spacing beyond the faces of the image from which something flows in, summed.
    beyond: f64,
}

/// Coefficients of an upwind difference: `here·W − first·W₁ − second·W₂`.
#[derive(Clone, Copy)]
struct Difference {
    here: f32,
    first: f32,
    second: f32,
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    First,
    Second,
}

impl Inflow {
    /// From where tubes start.
    fn entering(rate: f64, from: u32) -> Self {
        Self {
            rate: rate as f32,
            first: from,
            second: from,
            difference: Difference::ONE_POINT,
        }
    }
}

/// True if a voxel with the former level lies upstream of one with the latter.
fn is_below(upstream: Harmonic, level: Harmonic) -> bool {
    level.minus(upstream) > MARGIN
}

impl Transport<'_> {
    /// True for the surface from which the tubes start.
    fn starts_at(&self, value: f64) -> bool {
        (value < 0.5) == (self.side == Side::Pial)
    }

    fn stencil(&self, flows: &[Flow], number: usize) -> Stencil {
        if let Some(deep) = self.deep.get(number) {
            return self.stencil_of_deep(flows, number, &deep);
        }
        let links = self.sheet.links(number);
        let harmonic = |at: usize| match self.side {
            Side::Pial => flows[at].level.value(),
            Side::White => flows[at].level.complement().value(),
        };
        let slopes = gradient(self.sheet, harmonic, number, &links);
        let mut beyond = 0.0;
        let inflows = std::array::from_fn(|axis| {
            let along = match self.side {
                Side::Pial => slopes[axis],
                Side::White => -slopes[axis],
            };
            let direction = 2 * axis + usize::from(along < 0.0);
            let spacing = self.sheet.spacing[axis];
            let rate = along.abs() / spacing;
            match links[direction].end() {
                _ if along == 0.0 => self.no_inflow(),
                End::Outside => {
                    let level = flows[number].level.value() - along.abs() * spacing;
                    beyond += rate * level.max(0.0);
                    Inflow::entering(rate, self.outside)
                }
                End::Surface { value, distance } if self.starts_at(value) => {
                    Inflow::entering(rate / distance, self.surface)
                }
                End::Grey(first) if is_below(flows[first].level, flows[number].level) => {
                    let (second, difference) = self.behind(flows, first, direction);
                    Inflow {
                        rate: rate as f32,
                        first: first as u32,
                        second,
                        difference,
                    }
                }
                End::Surface { .. } | End::Grey(_) => self.no_inflow(),
            }
        });
        Stencil {
            square: slopes.iter().map(|slope| slope * slope).sum(),
            inflows,
            beyond,
        }
    }

    /// The same without a look at links.
    #[inline(always)]
    fn stencil_of_deep(&self, flows: &[Flow], number: usize, deep: &Deep<'_>) -> Stencil {
        let level = flows[number].level;
        let mut square = 0.0;
        let inflows = std::array::from_fn(|axis| {
            let ends = [deep.first(2 * axis), deep.first(2 * axis + 1)];
            let [low, high] = ends.map(|end| flows[end as usize].level);
            let rise = high.minus(low);
            let slope = rise as f64 * self.slope_per_unit[axis];
            square += slope * slope;
            let high_first = rise < 0;
            let direction = usize::from(high_first);
            let upstream = if high_first { high } else { low };
            let second = deep.second(2 * axis + direction);
            let flows_in = rise != 0 && is_below(upstream, level);
            let two = is_below(flows[second as usize].level, upstream);
            Inflow {
                rate: if flows_in {
                    (slope.abs() / self.sheet.spacing[axis]) as f32
                } else {
                    0.0
                },
                first: if flows_in {
                    ends[direction]
                } else {
                    self.surface
                },
                second: if flows_in && two {
                    second
                } else {
                    self.surface
                },
                difference: if two {
                    Difference::EVEN
                } else {
                    Difference::ONE_POINT
                },
            }
        });
        Stencil {
            square,
            inflows,
            beyond: 0.0,
        }
    }

    fn no_inflow(&self) -> Inflow {
        Inflow::entering(0.0, self.surface)
    }

    /// The second point of an upwind difference, and its coefficients.
    fn behind(&self, flows: &[Flow], first: usize, direction: usize) -> (u32, Difference) {
        match self.sheet.link(first, direction).end() {
            // Very short steps would amplify errors of the first point.
            End::Surface { value, distance } if self.starts_at(value) && distance > 0.2 => {
                (self.surface, Difference::to_surface(distance))
            }
            End::Grey(second) if is_below(flows[second].level, flows[first].level) => {
                (second as u32, Difference::EVEN)
            }
            _ => (self.surface, Difference::ONE_POINT),
        }
    }
}

impl Stencil {
    /// A voxel upstream whose flow is still to be found.
    fn missing(&self, flows: &[Flow]) -> Option<usize> {
        let pending = |number: u32| flows[number as usize].is_pending();
        let either = |inflow: &Inflow| pending(inflow.first) | pending(inflow.second);
        let [x, y, z] = &self.inflows;
        if !(either(x) | either(y) | either(z)) {
            return None;
        }
        // What lies behind the first voxel is found on the way to it, mostly.
        let inflows = self.inflows.iter();
        let numbers = inflows.flat_map(|inflow| [inflow.first, inflow.second]);
        numbers
            .map(|number| number as usize)
            .find(|&number| flows[number].is_pending())
    }

    fn flow(&self, flows: &[Flow], level: Harmonic) -> Flow {
        let best = self.flow_of_order(flows, level, Order::Second);
        if best.volume < 0.0 {
            // Extrapolation past a strong change, e.g. where two banks meet.
            return self.flow_of_order(flows, level, Order::First);
        }
        best
    }

    fn flow_of_order(&self, flows: &[Flow], level: Harmonic, order: Order) -> Flow {
        let steepness = self.square.sqrt();
        // A flat sheet continues beyond a face: W = L/|∇L|², S = L/|∇L|.
        let mut volume = 1.0 + self.beyond / self.square;
        let mut length = steepness + self.beyond / steepness;
        let (mut weight, mut known, mut inflow_weight) = (0.0, 0.0, 0.0);
        for inflow in &self.inflows {
            let rate = f64::from(inflow.rate);
            inflow_weight += rate;
            let upstream = flows[inflow.first as usize];
            if !upstream.arrived() {
                continue;
            }
            let mut second = flows[inflow.second as usize];
            let mut difference = inflow.difference;
            if order == Order::First || !second.arrived() {
                (second, difference) = (upstream, Difference::ONE_POINT);
            }
            weight += rate * f64::from(difference.here);
            let sum = |one: f32, two: f32| {
                let (first, second) = (f64::from(difference.first), f64::from(difference.second));
                rate * (first * f64::from(one) + second * f64::from(two))
            };
            volume += sum(upstream.volume, second.volume);
            length += sum(upstream.length, second.length);
            known += rate * f64::from(upstream.known);
        }
        if weight > 0.0 {
            let share = 1.0 / weight;
            Flow {
                level,
                volume: (volume * share) as f32,
                length: (length * share) as f32,
                known: (known / inflow_weight) as f32,
            }
        } else {
            Flow {
                level,
                volume: f32::NAN,
                length: f32::NAN,
                known: 0.0,
            }
        }
    }
}

impl Difference {
    const ONE_POINT: Self = Self {
        here: 1.0,
        first: 1.0,
        second: 0.0,
    };
    /// Two points one spacing apart.
    const EVEN: Self = Self {
        here: 1.5,
        first: 2.0,
        second: -0.5,
    };

    /// Two points, of which the second lies on the surface `step` spacings behind the first; nothing has
    /// flowed there.
    fn to_surface(step: f64) -> Self {
        let share = 1.0 / (step * (1.0 + step));
        Self {
            here: ((2.0 + step) * step * share) as f32,
            first: ((1.0 + step) * (1.0 + step) * share) as f32,
            second: -share as f32,
        }
    }
}
