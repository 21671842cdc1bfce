//! What goes wrong, and when: fixed plans, and schedules drawn from a seed.

use std::collections::BTreeMap;

use crate::fault::Fault;
use crate::random::Random;

/// What happens to one event of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchFault {
    /// It never comes on this stream.
    Drop,
    /// It and what follows on its stream come late, after what other streams tell meanwhile.
    Delay,
    Repeat,
    /// The stream ends before it.
    Cut,
    /// 410 instead of it.
    Gone,
    /// 410 instead of it, and the list that follows is so many changes old.
    Stale(u64),
}

impl WatchFault {
    pub(crate) const ALL: [Self; 8] = [
        Self::Drop,
        Self::Delay,
        Self::Repeat,
        Self::Cut,
        Self::Gone,
        Self::Stale(1),
        Self::Stale(4),
        Self::Stale(u64::MAX),
    ];
}

/// Faults and delays drawn as the run goes on. Every lane (the calls of one kind, the events of one
/// watch) has numbers of its own, so that a seed means the same whichever lane is faster.
#[derive(Clone, Debug)]
struct Chaos {
    seed: u64,
    lanes: BTreeMap<String, Random>,
    /// One of so many calls and events fails.
    one_in: u64,
    /// After so many faults nothing fails any more: what is left must end well.
    faults_left: u32,
    /// Longest delay of a call or an event, in milliseconds.
    delay: u64,
}

impl Chaos {
    fn lane(&mut self, name: &str) -> &mut Random {
        let letters = name.bytes().map(u64::from);
        let seed = letters.fold(self.seed, |seed, letter| Random(seed ^ letter).next());
        let lane = self.lanes.entry(name.to_owned());
        lane.or_insert(Random(seed))
    }
}

/// What goes wrong in one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// By the number of the call, from 0.
    pub(crate) calls: BTreeMap<usize, Fault>,
    /// By the number of the event, from 0.
    pub(crate) events: BTreeMap<usize, WatchFault>,
    chaos: Option<Chaos>,
}

impl Plan {
    pub(crate) fn calls(faults: &[(usize, Fault)]) -> Self {
        Self {
            calls: faults.iter().copied().collect(),
            ..Self::default()
        }
    }

    pub(crate) fn event(number: usize, fault: WatchFault) -> Self {
        Self {
            events: BTreeMap::from([(number, fault)]),
            ..Self::default()
        }
    }

    pub(crate) fn random(seed: u64) -> Self {
        let mut random = Random(seed);
        let chaos = Chaos {
            seed,
            lanes: BTreeMap::new(),
            one_in: random.pick(&[2, 4, 8]),
            faults_left: random.pick(&[3, 6, 12]),
            delay: random.pick(&[1, 20, 500, 3000]),
        };
        Self {
            chaos: Some(chaos),
            ..Self::default()
        }
    }

    /// Nothing fails; everything takes its time.
    pub(crate) fn late(seed: u64) -> Self {
        let mut plan = Self::random(seed);
        if let Some(chaos) = &mut plan.chaos {
            chaos.faults_left = 0;
        }
        plan
    }

    pub(crate) fn call(&mut self, lane: &str, number: usize) -> Option<Fault> {
        let planned = self.calls.get(&number).copied();
        planned.or_else(|| self.draw(lane, &Fault::ALL))
    }

    pub(crate) fn watch(&mut self, lane: &str, number: usize) -> Option<WatchFault> {
        let planned = self.events.get(&number).copied();
        planned.or_else(|| self.draw(lane, &WatchFault::ALL))
    }

    fn draw<T: Copy>(&mut self, lane: &str, of: &[T]) -> Option<T> {
        let chaos = self.chaos.as_mut()?;
        let one_in = chaos.one_in;
        let random = chaos.lane(lane);
        let (hit, fault) = (random.below(one_in) == 0, random.pick(of));
        if chaos.faults_left == 0 || !hit {
            return None;
        }
        chaos.faults_left -= 1;
        Some(fault)
    }

    /// How long a call or an event is on its way, in milliseconds.
    pub(crate) fn delay(&mut self, lane: &str) -> u64 {
        let Some(chaos) = self.chaos.as_mut() else {
            return 1;
        };
        let longest = chaos.delay;
        1 + chaos.lane(lane).below(longest)
    }
}
