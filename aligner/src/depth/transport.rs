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

/// Least difference of L between two voxels for one to lie upstream. Above the error of the solver:
/// the order of voxels on one level set would be left to chance.
const MARGIN: f64 = 1e-6;

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
    let mut waiting = Vec::new();
    for number in 0..sheet.len() {
        waiting.push(number);
        // Depth first: upstream voxels lie near, and near voxels are still in the cache.
        while let Some(&next) = waiting.last() {
            if !flows[next].pending() {
                waiting.pop();
                continue;
            }
            let slopes = gradient(sheet, harmonic, next);
            let before = waiting.len();
            let missing = transport.upstream(next, slopes).into_iter().flatten();
            waiting.extend(missing.filter(|&at| flows[at].pending()));
            if waiting.len() == before {
                flows[next] = transport.flow(next, slopes, &flows);
                waiting.pop();
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

/// Where the flow along one axis comes from.
struct Inflow {
    /// Spacing of the axis in mm.
    spacing: f64,
    /// Speed along the axis over its spacing, in 1/mm².
    rate: f64,
    direction: usize,
    end: End,
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
        self.level(upstream) + MARGIN < self.level(number)
    }

    /// True for the surface from which the tubes start.
    fn starts_at(&self, value: f64) -> bool {
        (value < 0.5) == (self.side == Side::Pial)
    }

    fn inflow(&self, number: usize, axis: usize, slope: f64) -> Option<Inflow> {
        let along = match self.side {
            Side::Pial => slope,
            Side::White => -slope,
        };
        if along == 0.0 {
            return None;
        }
        let direction = 2 * axis + usize::from(along < 0.0);
        let spacing = self.sheet.spacing[axis];
        Some(Inflow {
            spacing,
            rate: along.abs() / spacing,
            direction,
            end: self.sheet.links[number][direction].end(),
        })
    }

    fn inflows(&self, number: usize, slopes: [f64; 3]) -> impl Iterator<Item = Inflow> {
        (0..3).filter_map(move |axis| self.inflow(number, axis, slopes[axis]))
    }

    /// The voxels that [`Self::flow`] reads: at most two along each axis.
    fn upstream(&self, number: usize, slopes: [f64; 3]) -> [Option<usize>; 6] {
        let mut found = [None; 6];
        for (axis, slope) in slopes.into_iter().enumerate() {
            let Some(inflow) = self.inflow(number, axis, slope) else {
                continue;
            };
            let End::Grey(first) = inflow.end else {
                continue;
            };
            if !self.below(first, number) {
                continue;
            }
            found[2 * axis] = Some(first);
            if let End::Grey(second) = self.sheet.links[first][inflow.direction].end()
                && self.below(second, first)
            {
                found[2 * axis + 1] = Some(second);
            }
        }
        found
    }

    fn flow(&self, number: usize, slopes: [f64; 3], flows: &[Flow]) -> Flow {
        let best = self.flow_of_order(number, slopes, flows, Order::Second);
        if best.volume < 0.0 {
            // Extrapolation past a strong change, e.g. where two banks meet.
            return self.flow_of_order(number, slopes, flows, Order::First);
        }
        best
    }

    fn flow_of_order(&self, number: usize, slopes: [f64; 3], flows: &[Flow], order: Order) -> Flow {
        let square: f64 = slopes.iter().map(|slope| slope * slope).sum();
        let steepness = square.sqrt();
        let (mut volume, mut length, mut weight) = (1.0, steepness, 0.0);
        let (mut known, mut inflow_weight) = (0.0, 0.0);
        for inflow in self.inflows(number, slopes) {
            let rate = inflow.rate;
            match inflow.end {
                End::Outside => {
                    inflow_weight += rate;
                    // A flat sheet continues beyond the face: W = L/|∇L|², S = L/|∇L|.
                    let step = rate * inflow.spacing * inflow.spacing;
                    let level = (self.level(number) - step).max(0.0);
                    weight += rate;
                    volume += rate * level / square;
                    length += rate * level / steepness;
                }
                End::Surface { value, distance } if self.starts_at(value) => {
                    weight += rate / distance;
                    known += rate / distance;
                    inflow_weight += rate / distance;
                }
                End::Grey(first) if self.below(first, number) => {
                    inflow_weight += rate;
                    if !flows[first].arrived() {
                        continue;
                    }
                    let (difference, second) = self.difference(first, &inflow, flows, order);
                    let upstream = flows[first];
                    weight += rate * difference.here;
                    let sum = |one: f32, two: f32| {
                        rate * (difference.first * f64::from(one)
                            + difference.second * f64::from(two))
                    };
                    volume += sum(upstream.volume, second.volume);
                    length += sum(upstream.length, second.length);
                    known += rate * f64::from(upstream.known);
                }
                // L does not rise from there: nothing flows in, known or unknown.
                End::Surface { .. } | End::Grey(_) => {}
            }
        }
        if weight > 0.0 {
            Flow {
                volume: (volume / weight) as f32,
                length: (length / weight) as f32,
                known: (known / inflow_weight) as f32,
            }
        } else {
            Flow::NOTHING
        }
    }

    /// The upwind difference over one or two upstream points, and the flow at the second.
    fn difference(
        &self,
        first: usize,
        inflow: &Inflow,
        flows: &[Flow],
        order: Order,
    ) -> (Difference, Flow) {
        const ZERO: Flow = Flow {
            volume: 0.0,
            length: 0.0,
            known: 0.0,
        };
        let two_points = |step: f64| Difference {
            here: (2.0 + step) / (1.0 + step),
            first: (1.0 + step) / step,
            second: -1.0 / (step * (1.0 + step)),
        };
        if order == Order::Second {
            match self.sheet.links[first][inflow.direction].end() {
                // Very short steps would amplify errors of the first point.
                End::Surface { value, distance } if self.starts_at(value) && distance > 0.2 => {
                    return (two_points(distance), ZERO);
                }
                End::Grey(second) if self.below(second, first) && flows[second].arrived() => {
                    return (two_points(1.0), flows[second]);
                }
                _ => {}
            }
        }
        let one_point = Difference {
            here: 1.0,
            first: 1.0,
            second: 0.0,
        };
        (one_point, ZERO)
    }
}
