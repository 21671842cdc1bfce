//! Conditions of a request: types, the closed list of reasons, and how one is set.

use alignment_api::ExitCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Type of a condition. `Accepted` and `Progressing` are always there; the others once they apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionType {
    /// The request is valid.
    Accepted,
    /// Work goes on; its reason says what happens or what holds it up.
    Progressing,
    /// The result is written.
    Complete,
    /// There will be no result.
    Failed,
    /// Ended by `cancel`.
    Cancelled,
    /// Held back by `suspend` or by a queue.
    Suspended,
    /// The template was there, with the digest that the installation names. The aligner alone knows,
    /// so it is set when a pod has ended, and not there while another one looks.
    StaticDataReady,
}

impl ConditionType {
    /// All of them, as they stand in a status.
    const ORDER: [Self; 7] = [
        Self::Accepted,
        Self::Progressing,
        Self::Complete,
        Self::Failed,
        Self::Cancelled,
        Self::Suspended,
        Self::StaticDataReady,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Progressing => "Progressing",
            Self::Complete => "Complete",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::Suspended => "Suspended",
            Self::StaticDataReady => "StaticDataReady",
        }
    }
}

/// Why a condition has its status. Closed: programs may depend on the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema)]
pub enum Reason {
    /// The request passes validation.
    Valid,
    /// The request has violations, all of them listed in the message.
    InvalidRequest,
    /// The Job exists; its pod does not run yet.
    JobCreated,
    /// The pod computes.
    Running,
    /// A new attempt follows with more memory.
    RightSized,
    /// The Job was deleted by somebody; a new attempt follows.
    JobDeleted,
    /// The pod ended and the Job has not been concluded yet.
    Finishing,
    /// `spec.suspend` is true.
    SuspendedByRequest,
    /// A queue holds the Job back.
    Queued,
    /// `spec.suspend` is false again.
    Resumed,
    /// `spec.cancel` is true; the Job and its pods are being removed.
    Cancelling,
    /// `spec.cancel` ended the request.
    Cancelled,
    /// The image of the aligner cannot be pulled.
    ImagePullFailed,
    /// No node takes the pod.
    PodUnschedulable,
    /// A claim does not exist or is not bound; or the ConfigMap with certificate authorities is missing.
    VolumeUnavailable,
    /// The pod waits for its volumes, among them the Secret with the token.
    CredentialMissing,
    /// The container cannot be started.
    PodCannotStart,
    /// The Job or its pods were refused.
    PodsNotCreated,
    /// A quota of the namespace is used up.
    QuotaExceeded,
    /// The result is written.
    Succeeded,
    /// The aligner has read the template.
    TemplateRead,
    /// `activeDeadlineSeconds` passed.
    DeadlineExceeded,
    /// The aligner ended in a way that it does not know itself.
    ProcessFailed,
    /// The Job failed and left no pod that says why.
    JobFailed,
    /// The aligner ended with this code.
    Exit(ExitCode),
}

impl Reason {
    /// The word on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Valid => "Valid",
            Self::InvalidRequest => "InvalidRequest",
            Self::JobCreated => "JobCreated",
            Self::Running => "Running",
            Self::RightSized => "RightSized",
            Self::JobDeleted => "JobDeleted",
            Self::Finishing => "Finishing",
            Self::SuspendedByRequest => "SuspendedByRequest",
            Self::Queued => "Queued",
            Self::Resumed => "Resumed",
            Self::Cancelling => "Cancelling",
            Self::Cancelled => "Cancelled",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::PodUnschedulable => "PodUnschedulable",
            Self::VolumeUnavailable => "VolumeUnavailable",
            Self::CredentialMissing => "CredentialMissing",
            Self::PodCannotStart => "PodCannotStart",
            Self::PodsNotCreated => "PodsNotCreated",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::Succeeded => "Succeeded",
            Self::TemplateRead => "TemplateRead",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::ProcessFailed => "ProcessFailed",
            Self::JobFailed => "JobFailed",
            Self::Exit(exit) => exit.reason(),
        }
    }
}

/// Longest message of a condition, in characters.
pub const LONGEST_MESSAGE: usize = 3000;

/// Sets conditions of one generation at one moment.
pub struct Setter<'a> {
    /// The list that is changed.
    pub conditions: &'a mut Vec<Condition>,
    /// Generation that the conditions describe.
    pub generation: Option<i64>,
    /// Becomes the transition time of those whose status changes.
    pub now: Timestamp,
}

impl Setter<'_> {
    /// Sets one condition. The transition time moves only if the status changes.
    pub fn set(&mut self, type_: ConditionType, status: bool, reason: Reason, message: &str) {
        let mut new = Condition {
            type_: type_.name().to_owned(),
            status: if status { "True" } else { "False" }.to_owned(),
            reason: reason.name().to_owned(),
            message: shorten(message, LONGEST_MESSAGE),
            observed_generation: self.generation,
            last_transition_time: Time(self.now),
        };
        let old = self.conditions.iter_mut().find(|c| c.type_ == new.type_);
        if let Some(old) = old {
            if old.status == new.status {
                new.last_transition_time = old.last_transition_time.clone();
            }
            *old = new;
        } else {
            self.conditions.push(new);
            // What happened first does not show, so that the same end is the same list.
            self.conditions.sort_by_key(|c| {
                let mut order = ConditionType::ORDER.iter();
                order.position(|t| t.name() == c.type_)
            });
        }
    }

    /// Takes a condition away that is no longer known.
    pub fn remove(&mut self, type_: ConditionType) {
        self.conditions.retain(|c| c.type_ != type_.name());
    }

    /// Whether the condition is there at all.
    pub fn has(&self, type_: ConditionType) -> bool {
        self.conditions.iter().any(|c| c.type_ == type_.name())
    }
}

/// At most so many characters; what was cut is marked.
pub fn shorten(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.to_owned(),
        Some(_) => text
            .chars()
            .take(longest.saturating_sub(1))
            .chain(['…'])
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(conditions: &mut Vec<Condition>, status: bool, message: &str, at: &str) {
        Setter {
            conditions,
            generation: Some(1),
            now: at.parse().unwrap(),
        }
        .set(ConditionType::Progressing, status, Reason::Running, message);
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut conditions = Vec::new();
        set(&mut conditions, true, "a", "2026-01-01T00:00:00Z");
        set(&mut conditions, true, "b", "2026-01-01T00:00:01Z");
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].message, "b");
        let first = conditions[0].last_transition_time.clone();
        assert_eq!(first.0.to_string(), "2026-01-01T00:00:00Z");
        set(&mut conditions, false, "b", "2026-01-01T00:00:02Z");
        assert_ne!(conditions[0].last_transition_time, first);
    }

    #[test]
    fn the_order_does_not_tell_what_came_first() {
        let set = |types: [ConditionType; 2]| {
            let mut conditions = Vec::new();
            for type_ in types {
                let mut setter = Setter {
                    conditions: &mut conditions,
                    generation: Some(1),
                    now: Timestamp::UNIX_EPOCH,
                };
                setter.set(type_, true, Reason::Running, "");
            }
            conditions
        };
        let (first, second) = (ConditionType::StaticDataReady, ConditionType::Complete);
        assert_eq!(set([first, second]), set([second, first]));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shorten("äöü", 3), "äöü");
        assert_eq!(shorten("äöüß", 3), "äö…");
        assert_eq!(shorten("", 3), "");
    }

    #[test]
    fn reasons_are_camel_case_words() {
        for exit in ExitCode::ALL {
            let name = Reason::Exit(exit).name();
            assert!(name.chars().all(char::is_alphanumeric), "{name}");
        }
    }
}
