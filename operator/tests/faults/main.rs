//! The whole operator against an API server in memory, in virtual time, while everything that can
//! fail fails: calls, watches, the operator itself.
//!
//! `VOLUBA_FAULT_SCHEDULES`, `VOLUBA_FAULT_PAIRS` and `VOLUBA_FAULT_RACES` are the numbers of schedules
//! from seeds, of pairs of faults and of races between two leaders; `VOLUBA_FAULT_SEED` is the first
//! seed. One seed alone, with `VOLUBA_FAULT_TRACE=1`, shows every call, event and change.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod api;
mod campaign;
mod economy;
#[path = "../common/fault.rs"]
mod fault;
mod leaders;
mod lifecycle;
mod net;
mod oracle;
mod pictures;
mod plan;
#[path = "../common/random.rs"]
mod random;
mod run;
mod store;
mod stream;
mod world;

use std::time::Duration;

use campaign::{Trial, clean, describe, run_all};
use fault::Fault;
use lifecycle::ALL;
use plan::{Plan, WatchFault};
use random::Random;
use run::Outcome;

/// Nothing waits longer than this for a reply that does not come.
const STUCK: Duration = Duration::from_secs(15);

fn cleans() -> Vec<Outcome> {
    ALL.iter().map(clean).collect()
}

fn number(variable: &str, default: usize) -> usize {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().expect(variable))
}

#[test]
fn every_fault_at_every_call_leads_to_the_same_end() {
    let cleans = cleans();
    let mut trials = Vec::new();
    for (lifecycle, clean) in ALL.iter().zip(&cleans) {
        for call in 0..clean.calls.len() {
            for fault in Fault::ALL {
                trials.push(Trial {
                    name: describe(lifecycle, clean, &[(call, fault)]),
                    lifecycle,
                    plan: Plan::calls(&[(call, fault)]),
                    patience: Some(STUCK),
                });
            }
        }
    }
    run_all("single faults", &trials, &cleans);
}

#[test]
fn every_fault_of_a_watch_leads_to_the_same_end() {
    let cleans = cleans();
    let mut trials = Vec::new();
    for (lifecycle, clean) in ALL.iter().zip(&cleans) {
        for event in 0..clean.events {
            for fault in WatchFault::ALL {
                trials.push(Trial {
                    name: format!("{}: {fault:?} at event {event}", lifecycle.name),
                    lifecycle,
                    plan: Plan::event(event, fault),
                    patience: None,
                });
            }
        }
    }
    run_all("watch faults", &trials, &cleans);
}

#[test]
fn pairs_of_faults_lead_to_the_same_end() {
    let cleans = cleans();
    let mut trials = Vec::new();
    for (lifecycle, clean) in ALL.iter().zip(&cleans) {
        for first in 0..clean.calls.len() {
            for second in first + 1..clean.calls.len() + 3 {
                for pair in 0..Fault::ALL.len().pow(2) {
                    let (one, other) = (pair / Fault::ALL.len(), pair % Fault::ALL.len());
                    trials.push((
                        lifecycle,
                        [(first, Fault::ALL[one]), (second, Fault::ALL[other])],
                    ));
                }
            }
        }
    }
    let all = trials.len();
    let wanted = number("VOLUBA_FAULT_PAIRS", 3000).min(all);
    let mut random = Random(1);
    let trials: Vec<_> = (0..wanted)
        .map(|index| {
            // All of them, or a sample that is the same every time.
            let at = if wanted == all {
                index
            } else {
                random.below(all as u64) as usize
            };
            let (lifecycle, faults) = trials[at];
            Trial {
                name: format!("{}: {faults:?}", lifecycle.name),
                lifecycle,
                plan: Plan::calls(&faults),
                patience: None,
            }
        })
        .collect();
    run_all(&format!("pairs of faults, of {all}"), &trials, &cleans);
}

#[test]
fn schedules_from_seeds_lead_to_the_same_end() {
    let cleans = cleans();
    let first = number("VOLUBA_FAULT_SEED", 1);
    let count = number("VOLUBA_FAULT_SCHEDULES", 7000);
    let trials: Vec<_> = (first..first + count)
        .map(|seed| {
            let lifecycle = &ALL[seed % ALL.len()];
            Trial {
                name: format!("{}: VOLUBA_FAULT_SEED={seed}", lifecycle.name),
                lifecycle,
                plan: Plan::random(seed as u64),
                patience: None,
            }
        })
        .collect();
    run_all("schedules from seeds", &trials, &cleans);
}
