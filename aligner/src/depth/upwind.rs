//! Upwind differences of second order, for what flows into a voxel.

/// What arrived at a grey voxel from one surface.
///
/// Four numbers that are worked on together: W in mm², S in mm, F (0..1), and 1 if anything arrived at
/// all; else they are 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow([f32; 4]);

const KNOWN: usize = 2;
const ARRIVED: usize = 3;

impl Flow {
    pub(super) const NONE: Self = Self([0.0; 4]);

    pub(super) fn new(volume: f32, length: f32, known: f32) -> Self {
        Self([volume, length, known, 1.0])
    }

    /// What enters where a tube starts.
    pub(super) fn entering(known: f32) -> Self {
        Self::new(0.0, 0.0, known)
    }

    /// W in mm².
    pub(super) fn volume(self) -> f32 {
        self.0[0]
    }

    /// S in mm.
    pub(super) fn length(self) -> f32 {
        self.0[1]
    }

    /// F, 0..1.
    pub(super) fn known(self) -> f32 {
        self.0[KNOWN]
    }

    #[inline(always)]
    pub(super) fn arrived(self) -> bool {
        self.0[ARRIVED] > 0.0
    }
}

/// All that the flow at a voxel depends on, apart from other flows.
pub(super) struct Stencil {
    /// |∇L|² in 1/mm².
    pub(super) square: f32,
    pub(super) inflows: [Inflow; 3],
    /// Rate · L one spacing beyond the faces of the image from which something flows in, summed.
    pub(super) beyond: f32,
}

/// What flows into a voxel along one axis.
#[derive(Clone, Copy)]
pub(super) struct Inflow {
    /// Speed along the axis over the distance to where it comes from, in 1/mm²; 0 if nothing flows in.
    rate: f32,
    /// The flows that it comes from, the nearer one first.
    from: [u32; 2],
    /// What each of them weighs: its share of the difference times the rate.
    weight: [f32; 2],
}

/// Weights of the two points upstream in a difference of one spacing. The voxel itself weighs as much as
/// both: where all are the same there is no difference.
#[derive(Clone, Copy)]
pub(super) struct Weights([f32; 2]);

#[derive(Clone, Copy, PartialEq)]
enum Order {
    First,
    Second,
}

impl Weights {
    pub(super) const ONE_POINT: Self = Self([1.0, 0.0]);
    /// Two points one spacing apart.
    pub(super) const EVEN: Self = Self([2.0, -0.5]);

    /// Two points, of which the second lies on the surface `step` spacings behind the first; nothing has
    /// flowed there.
    pub(super) fn to_surface(step: f64) -> Self {
        let share = 1.0 / (step * (1.0 + step));
        Self([((1.0 + step) * (1.0 + step) * share) as f32, -share as f32])
    }
}

impl Inflow {
    #[inline(always)]
    pub(super) fn new(rate: f32, from: [u32; 2], weights: Weights) -> Self {
        Self {
            rate,
            from,
            weight: weights.0.map(|weight| rate * weight),
        }
    }

    /// Nothing; `from` is any flow that arrived.
    #[inline(always)]
    pub(super) fn none(from: u32) -> Self {
        Self::entering(0.0, from)
    }

    /// From where tubes start.
    #[inline(always)]
    pub(super) fn entering(rate: f32, from: u32) -> Self {
        Self::new(rate, [from, from], Weights::ONE_POINT)
    }
}

impl Stencil {
    /// The flow at a voxel, from those upstream.
    #[inline(always)]
    pub(super) fn flow(&self, flows: &[Flow]) -> Flow {
        let best = self.flow_of_order(flows, Order::Second);
        if best.volume() < 0.0 {
            // Extrapolation past a strong change, e.g. where two banks meet.
            return self.flow_of_order(flows, Order::First);
        }
        best
    }

    #[inline(always)]
    fn flow_of_order(&self, flows: &[Flow], order: Order) -> Flow {
        let steepness = self.square.sqrt();
        let mut sums = [1.0, steepness, 0.0, 0.0];
        if self.beyond > 0.0 {
            // A flat sheet continues beyond a face: W = L/|∇L|², S = L/|∇L|.
            sums[0] += self.beyond / self.square;
            sums[1] += self.beyond / steepness;
        }
        let (mut known, mut inflow_weight) = (0.0, 0.0);
        for inflow in &self.inflows {
            let [first, second] = inflow.from.map(|at| flows[at as usize]);
            let [mut one, mut two] = inflow.weight;
            if order == Order::First || !(first.arrived() && second.arrived()) {
                [one, two] = [inflow.rate, 0.0];
            }
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum += one * first.0[lane] + two * second.0[lane];
            }
            // A difference of first order: it stays within 0..1.
            known += inflow.rate * first.known();
            inflow_weight += inflow.rate;
        }
        let weight = sums[ARRIVED];
        if weight > 0.0 {
            let mut flow = sums.map(|sum| sum / weight);
            flow[KNOWN] = known / inflow_weight;
            Flow(flow)
        } else {
            Flow::NONE
        }
    }
}
