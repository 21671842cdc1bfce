//! How long requests stay in their phases. Pure; from what the cluster remembers, so that a restart
//! of the operator loses nothing.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::conditions::ConditionType;
use crate::crd::Phase;
use crate::observe::PodView;
use crate::request::Request;

/// When the phase that a request is in began. None, if nothing tells it.
pub fn began(request: &Request, pods: &[Arc<PodView>]) -> Option<Timestamp> {
    let status = request.status.as_ref();
    let conditions = status.iter().flat_map(|status| &status.conditions);
    let suspended = conditions
        .filter(|condition| condition.type_ == ConditionType::Suspended.name())
        .map(|condition| condition.last_transition_time.0)
        .next();
    match request.phase() {
        Some(Phase::Running) => pods.iter().filter_map(|pod| pod.started).min(),
        // Held back and let go again: it waits anew.
        None | Some(Phase::Pending | Phase::Suspended) => suspended.or_else(|| created(request)),
        Some(Phase::Succeeded | Phase::Failed | Phase::Cancelled) => {
            status?.completion_time.as_ref().map(|time| time.0)
        }
    }
}

/// When the request was made.
pub fn created(request: &Request) -> Option<Timestamp> {
    request.creation_timestamp().map(|time| time.0)
}

/// Seconds from one moment to another; clocks of two machines may differ.
pub fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validate::tests::with;

    fn at(text: &str) -> Timestamp {
        format!("2026-01-01T{text}Z").parse().unwrap()
    }

    fn request(status: serde_json::Value) -> Request {
        with(&[
            ("/metadata/creationTimestamp", json!("2026-01-01T10:00:00Z")),
            ("/status", status),
        ])
    }

    #[test]
    fn every_phase_has_its_beginning() {
        let held = json!({"type": "Suspended", "status": "True", "reason": "Queued", "message": "",
            "lastTransitionTime": "2026-01-01T10:05:00Z"});
        let pods: Vec<_> = ["10:09:00", "10:07:00"]
            .map(|text| PodView {
                started: Some(at(text)),
                ..PodView::default()
            })
            .map(Arc::new)
            .into();
        for (status, expected) in [
            (json!({}), "10:00:00"),
            (json!({"phase": "Pending"}), "10:00:00"),
            (
                json!({"phase": "Suspended", "conditions": [held]}),
                "10:05:00",
            ),
            (
                json!({"phase": "Pending", "conditions": [held]}),
                "10:05:00",
            ),
            (
                json!({"phase": "Running", "conditions": [held]}),
                "10:07:00",
            ),
            (
                json!({"phase": "Failed", "completionTime": "2026-01-01T10:30:00Z"}),
                "10:30:00",
            ),
        ] {
            assert_eq!(
                began(&request(status.clone()), &pods),
                Some(at(expected)),
                "{status}"
            );
        }
        assert_eq!(began(&request(json!({"phase": "Running"})), &[]), None);
    }

    #[test]
    fn time_never_runs_backwards() {
        let (early, late) = (at("10:00:00"), at("10:00:02"));
        assert_eq!(seconds(early, late), 2.0);
        assert_eq!(seconds(late, early), 0.0);
    }
}
