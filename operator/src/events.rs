//! Kubernetes Events: which changes publish one, and the task that does.
//!
//! Events are for people and best effort: they are queued, never waited for, and dropped when the
//! queue is full. A program reads the conditions.

use futures::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};
use tokio::sync::mpsc;

use crate::conditions::shorten;
use crate::crd::{Phase, RequestStatus};
use crate::request::Request;

/// Events that wait at most; a burst beyond that is not worth telling.
const QUEUE: usize = 1024;
/// Events published at the same time.
const CONCURRENT: usize = 4;
/// Kubernetes takes notes of fewer than 1,024 bytes; a character may have four.
const LONGEST_NOTE: usize = 250;

/// One event about one request.
pub struct Note {
    reference: ObjectReference,
    event: Event,
}

/// Where events are handed in.
#[derive(Clone)]
pub struct Events(mpsc::Sender<Note>);

/// The queue, and the other end for [`publish`].
pub fn queue() -> (Events, mpsc::Receiver<Note>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Events(sender), receiver)
}

/// Publishes events until the queue is closed.
pub async fn publish(recorder: Recorder, receiver: mpsc::Receiver<Note>) {
    let notes = futures::stream::unfold(receiver, |mut receiver| async move {
        let note = receiver.recv().await?;
        Some((note, receiver))
    });
    notes
        .for_each_concurrent(CONCURRENT, |note| {
            let recorder = recorder.clone();
            async move {
                if let Err(error) = recorder.publish(&note.event, &note.reference).await {
                    tracing::warn!(%error, "event not published");
                }
            }
        })
        .await;
}

impl Events {
    fn send(&self, request: &Request, reason: &str, text: &str, normal: bool) {
        let type_ = if normal {
            EventType::Normal
        } else {
            EventType::Warning
        };
        let note = Note {
            reference: request.object_ref(&request.kind()),
            event: Event {
                type_,
                reason: reason.to_owned(),
                note: Some(shorten(text, LONGEST_NOTE)),
                action: "Reconcile".to_owned(),
                secondary: None,
            },
        };
        if self.0.try_send(note).is_err() {
            tracing::debug!(reason, "event dropped");
        }
    }

    /// A Job was made.
    pub fn job_created(&self, request: &Request, job: &str) {
        self.send(request, "JobCreated", &format!("created Job {job}"), true);
    }

    /// A status was written; tells what changed.
    pub fn status_written(&self, request: &Request, status: &RequestStatus) {
        let before = request.phase();
        if before == status.phase {
            return;
        }
        let failure = status.failure.as_ref();
        let text = failure.map_or("", |failure| failure.message.as_str());
        match status.phase {
            Some(Phase::Succeeded) => {
                self.send(request, "Succeeded", "the result is written", true);
            }
            Some(Phase::Suspended) => {
                self.send(request, "Suspended", "no pod runs", true);
            }
            Some(Phase::Cancelled) => {
                self.send(request, "Cancelled", "spec.cancel ended the request", true);
            }
            Some(Phase::Failed) => match failure.map(|failure| failure.reason.as_str()) {
                Some("InvalidRequest") if status.job_name.is_none() => {
                    self.send(request, "InvalidRequest", text, false);
                }
                reason => {
                    let text = format!("{}: {text}", reason.unwrap_or("Failed"));
                    self.send(request, "Failed", &text, false);
                }
            },
            // The Job has events of its own for these; one less is one write less.
            Some(Phase::Pending | Phase::Running) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::Failure;
    use crate::validate::tests::request;

    fn reasons(phase: Phase, failure: Option<&str>) -> Vec<String> {
        let (events, mut receiver) = queue();
        let status = RequestStatus {
            phase: Some(phase),
            failure: failure.map(|reason| Failure {
                reason: reason.into(),
                message: "m".into(),
                exit_code: None,
                retryable: false,
            }),
            ..RequestStatus::default()
        };
        let mut request = request();
        events.status_written(&request, &status);
        request.status = Some(status.clone());
        events.status_written(&request, &status);
        std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|note| note.event.reason)
            .collect()
    }

    #[test]
    fn a_change_of_phase_is_told_once() {
        assert_eq!(reasons(Phase::Pending, None), Vec::<String>::new());
        assert_eq!(reasons(Phase::Running, None), Vec::<String>::new());
        assert_eq!(reasons(Phase::Succeeded, None), ["Succeeded"]);
        assert_eq!(reasons(Phase::Suspended, None), ["Suspended"]);
        assert_eq!(reasons(Phase::Cancelled, None), ["Cancelled"]);
        assert_eq!(reasons(Phase::Failed, Some("InvalidImage")), ["Failed"]);
        assert_eq!(
            reasons(Phase::Failed, Some("InvalidRequest")),
            ["InvalidRequest"]
        );
    }
}
