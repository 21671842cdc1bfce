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

use super::laplace::{Harmonic, gradient};
use super::sheet::{End, Links, Sheet};

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
    /// W in mm²; NaN where nothing arrives.
    pub(super) volume: f32,
    /// S in mm; NaN where nothing arrives.
    pub(super) length: f32,
    /// F, 0..1.
    pub(super) known: f32,
}

impl Flow {
    const PENDING: Self = Self {
        volume: -1.0,
        length: 0.0,
        known: 0.0,
    };
    const ZERO: Self = Self {
        volume: 0.0,
        length: 0.0,
        known: 0.0,
    };
    const NOTHING: Self = Self {
        volume: f32::NAN,
        length: f32::NAN,
        known: 0.0,
    };

    fn pending(self) -> bool {
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
/// `harmonic` is L at each grey voxel.
pub(super) fn flow_from(side: Side, sheet: &Sheet, harmonic: &[Harmonic]) -> Vec<Flow> {
    let transport = Transport {
        side,
        sheet,
        harmonic,
    };
    let mut flows = vec![Flow::PENDING; sheet.len()];
    let mut waiting: Vec<(usize, Stencil)> = Vec::new();
    for number in 0..sheet.len() {
        if !flows[number].pending() {
            continue;
        }
        let mut next = Some((number, transport.stencil(number)));
        // Depth first: upstream voxels lie near, and near voxels are still in the cache.
        while let Some((number, stencil)) = next {
            if let Some(missing) = stencil.missing(&flows) {
                waiting.push((number, stencil));
                next = Some((missing, transport.stencil(missing)));
            } else {
                flows[number] = stencil.flow(&flows);
                next = waiting.pop();
            }
        }
    }
    flows
}

struct Transport<'a> {
    side: Side,
    sheet: &'a Sheet,
    harmonic: &'a [Harmonic],
}

/// What flows into a voxel along one axis.
#[derive(Clone, Copy)]
struct Inflow {
    /// Speed along the axis over its spacing, in 1/mm².
    rate: f64,
    from: Source,
}

/// Where it comes from.
#[derive(Clone, Copy)]
enum Source {
    /// L does not rise from there: nothing flows in, known or unknown.
    Nowhere,
    /// The surface from which the tubes start, at this distance in spacings.
    Surface(f64),
    /// Beyond a face of the image, one spacing away, where L is this.
    Outside(f64),
    /// A grey voxel, and what lies behind it.
    Grey(u32, Behind),
}

/// The second point of an upwind difference.
#[derive(Clone, Copy)]
enum Behind {
    Nothing,
    /// The surface from which the tubes start, at this distance from the first point in spacings.
    Surface(f64),
    Grey(u32),
}

/// All that the flow at a voxel depends on, apart from other flows.
struct Stencil {
    /// |∇L|² in 1/mm².
    square: f64,
    inflows: [Inflow; 3],
}

/// Coefficients of an upwind difference: `here·W − first·W₁ − second·W₂`.
struct Difference {
    here: f64,
    first: f64,
    second: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    First,
    Second,
}

impl Transport<'_> {
    /// L, or 1 − L from the white side: grows along the flow.
    fn level(&self, number: usize) -> f64 {
        match self.side {
            Side::Pial => self.harmonic[number].value(),
            Side::White => 1.0 - self.harmonic[number].value(),
        }
    }

    fn below(&self, upstream: usize, number: usize) -> bool {
        let rise = self.harmonic[number].minus(self.harmonic[upstream]);
        match self.side {
            Side::Pial => rise > MARGIN,
            Side::White => rise < -MARGIN,
        }
    }

    /// True for the surface from which the tubes start.
    fn starts_at(&self, value: f64) -> bool {
        (value < 0.5) == (self.side == Side::Pial)
    }

    fn stencil(&self, number: usize) -> Stencil {
        let links = self.sheet.links(number);
        let slopes = gradient(self.sheet, |at| self.harmonic[at].value(), number, &links);
        Stencil {
            square: slopes.iter().map(|slope| slope * slope).sum(),
            inflows: std::array::from_fn(|axis| self.inflow(number, axis, slopes[axis], &links)),
        }
    }

    fn inflow(&self, number: usize, axis: usize, slope: f64, links: &Links) -> Inflow {
        let along = match self.side {
            Side::Pial => slope,
            Side::White => -slope,
        };
        let direction = 2 * axis + usize::from(along < 0.0);
        let spacing = self.sheet.spacing[axis];
        let from = match links[direction].end() {
            _ if along == 0.0 => Source::Nowhere,
            End::Outside => Source::Outside((self.level(number) - along.abs() * spacing).max(0.0)),
            End::Surface { value, distance } if self.starts_at(value) => Source::Surface(distance),
            End::Grey(first) if self.below(first, number) => {
                Source::Grey(first as u32, self.behind(first, direction))
            }
            End::Surface { .. } | End::Grey(_) => Source::Nowhere,
        };
        Inflow {
            rate: along.abs() / spacing,
            from,
        }
    }

    fn behind(&self, first: usize, direction: usize) -> Behind {
        match self.sheet.link(first, direction).end() {
            // Very short steps would amplify errors of the first point.
            End::Surface { value, distance } if self.starts_at(value) && distance > 0.2 => {
                Behind::Surface(distance)
            }
            End::Grey(second) if self.below(second, first) => Behind::Grey(second as u32),
            _ => Behind::Nothing,
        }
    }
}

impl Stencil {
    /// A voxel upstream whose flow is still to be found.
    fn missing(&self, flows: &[Flow]) -> Option<usize> {
        let pending = |number: u32| flows[number as usize].pending().then_some(number as usize);
        self.inflows.iter().find_map(|inflow| match inflow.from {
            // What lies behind the first voxel is found on the way to it, mostly.
            Source::Grey(first, Behind::Grey(second)) => pending(first).or_else(|| pending(second)),
            Source::Grey(first, _) => pending(first),
            _ => None,
        })
    }

    fn flow(&self, flows: &[Flow]) -> Flow {
        let best = self.flow_of_order(flows, Order::Second);
        if best.volume < 0.0 {
            // Extrapolation past a strong change, e.g. where two banks meet.
            return self.flow_of_order(flows, Order::First);
        }
        best
    }

    fn flow_of_order(&self, flows: &[Flow], order: Order) -> Flow {
        let steepness = self.square.sqrt();
        let (mut volume, mut length, mut weight) = (1.0, steepness, 0.0);
        let (mut known, mut inflow_weight) = (0.0, 0.0);
        for Inflow { rate, from } in self.inflows {
            match from {
                Source::Nowhere => {}
                Source::Outside(level) => {
                    // A flat sheet continues beyond the face: W = L/|∇L|², S = L/|∇L|.
                    weight += rate;
                    inflow_weight += rate;
                    volume += rate * level / self.square;
                    length += rate * level / steepness;
                }
                Source::Surface(distance) => {
                    weight += rate / distance;
                    known += rate / distance;
                    inflow_weight += rate / distance;
                }
                Source::Grey(first, behind) => {
                    inflow_weight += rate;
                    let upstream = flows[first as usize];
                    if !upstream.arrived() {
                        continue;
                    }
                    let (difference, second) = Difference::over(behind, flows, order);
                    weight += rate * difference.here;
                    let sum = |one: f32, two: f32| {
                        rate * (difference.first * f64::from(one)
                            + difference.second * f64::from(two))
                    };
                    volume += sum(upstream.volume, second.volume);
                    length += sum(upstream.length, second.length);
                    known += rate * f64::from(upstream.known);
                }
            }
        }
        if weight > 0.0 {
            let share = 1.0 / weight;
            Flow {
                volume: (volume * share) as f32,
                length: (length * share) as f32,
                known: (known / inflow_weight) as f32,
            }
        } else {
            Flow::NOTHING
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

    /// The difference over one or two upstream points, and the flow at the second.
    fn over(behind: Behind, flows: &[Flow], order: Order) -> (Self, Flow) {
        if order == Order::First {
            return (Self::ONE_POINT, Flow::ZERO);
        }
        match behind {
            Behind::Surface(step) => {
                let share = 1.0 / (step * (1.0 + step));
                let difference = Self {
                    here: (2.0 + step) * step * share,
                    first: (1.0 + step) * (1.0 + step) * share,
                    second: -share,
                };
                (difference, Flow::ZERO)
            }
            Behind::Grey(second) if flows[second as usize].arrived() => {
                (Self::EVEN, flows[second as usize])
            }
            Behind::Grey(_) | Behind::Nothing => (Self::ONE_POINT, Flow::ZERO),
        }
    }
}
