//! How registrations go: the metric of each iteration that the status of a request has shown.
//!
//! A status holds the newest progress only. Each replica remembers what it saw pass; one that starts
//! later knows less, until the aligner's own record is there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use alignment_api::{CurvePoint, Stage};
use kube::ResourceExt;
use kube::runtime::watcher::Event;

use crate::request::Request;

/// Most points of one request.
const MOST_POINTS: usize = 300;

/// The curves of all requests that run.
#[derive(Clone, Debug, Default)]
pub struct Curves(Arc<Mutex<HashMap<String, Vec<CurvePoint>>>>);

impl Curves {
    /// Takes in a change.
    pub fn note(&self, event: &Event<Request>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Apply(request) | Event::InitApply(request) => {
                if let Some(point) = newest(request) {
                    add(all.entry(request.name_any()).or_default(), point);
                }
            }
            Event::Delete(request) => {
                all.remove(&request.name_any());
            }
            Event::Init | Event::InitDone => {}
        }
    }

    /// What is known of a request.
    pub fn of(&self, request: &str) -> Vec<CurvePoint> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(request).cloned().unwrap_or_default()
    }
}

fn newest(request: &Request) -> Option<CurvePoint> {
    let progress = request.status.as_ref()?.progress.as_ref()?;
    if progress.stage != Stage::Register {
        return None;
    }
    Some(CurvePoint {
        level: u32::try_from(progress.level?).ok()?,
        iteration: u32::try_from(progress.iteration?).ok()?,
        metric: progress.metric?,
    })
}

fn add(curve: &mut Vec<CurvePoint>, point: CurvePoint) {
    let order = |point: &CurvePoint| (point.level, point.iteration);
    // A new attempt begins anew.
    if curve.last().is_some_and(|last| order(last) > order(&point)) {
        curve.clear();
    }
    if curve.last() != Some(&point) {
        curve.push(point);
    }
    if curve.len() > MOST_POINTS {
        // Every other one says as much.
        let mut keep = false;
        curve.retain(|_| {
            keep = !keep;
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validate::tests::with;

    fn at(level: i32, iteration: i32) -> Event<Request> {
        let progress = json!({"stage": "register", "percent": 30, "level": level,
            "iteration": iteration, "metric": 0.5 / f64::from(1 + level + iteration)});
        Event::Apply(with(&[(
            "/status",
            json!({"phase": "Running", "progress": progress}),
        )]))
    }

    fn name() -> String {
        with(&[]).name_any()
    }

    #[test]
    fn each_iteration_that_was_shown_is_remembered_once() {
        let curves = Curves::default();
        for event in [at(0, 1), at(0, 1), at(0, 5), at(1, 2)] {
            curves.note(&event);
        }
        let found: Vec<_> = curves
            .of(&name())
            .iter()
            .map(|p| (p.level, p.iteration))
            .collect();
        assert_eq!(found, [(0, 1), (0, 5), (1, 2)]);
        curves.note(&Event::Delete(with(&[])));
        assert!(curves.of(&name()).is_empty());
    }

    #[test]
    fn a_new_attempt_has_a_new_curve() {
        let curves = Curves::default();
        for event in [at(0, 9), at(1, 3), at(0, 2)] {
            curves.note(&event);
        }
        let found: Vec<_> = curves
            .of(&name())
            .iter()
            .map(|p| (p.level, p.iteration))
            .collect();
        assert_eq!(found, [(0, 2)]);
    }

    #[test]
    fn a_long_curve_is_thinned_and_keeps_its_ends() {
        let curves = Curves::default();
        for iteration in 1..=5000 {
            curves.note(&at(0, iteration));
        }
        let found = curves.of(&name());
        assert!(found.len() <= MOST_POINTS && found.len() > MOST_POINTS / 3);
        assert_eq!(found[0].iteration, 1);
        assert!(found.last().unwrap().iteration > 4900);
    }
}
