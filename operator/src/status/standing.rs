//! Where a request stands that has not ended, and what keeps it from going on. Pure.

use alignment_api::ExitCode;

use super::Facts;
use crate::conditions::{ConditionType, Reason};
use crate::crd::Phase;
use crate::decide::Story;
use crate::ending;
use crate::observe::{JobView, Needed, PodPhase, PodView, Problem};
use crate::report;

/// Where a request stands, before it is written down.
pub(super) struct Standing {
    pub(super) phase: Phase,
    pub(super) progressing: bool,
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Standing {
    fn new(phase: Phase, progressing: bool, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            phase,
            progressing,
            reason,
            message: message.into(),
        }
    }
}

/// Where the request stands, by what happened so far.
pub(super) fn of(facts: &Facts<'_>) -> Standing {
    if let Some(refusal) = facts.refusal {
        return Standing::new(Phase::Pending, false, refusal.reason, &refusal.message);
    }
    let Some(job) = facts.job else {
        return held();
    };
    if *facts.story == Story::AwaitingReport {
        let message = "the Job has ended; waiting for the pod's report";
        return Standing::new(Phase::Running, true, Reason::Finishing, message);
    }
    if let Story::Underway(Some(reason)) = facts.story {
        return new_attempt(job, *reason);
    }
    if job.suspended {
        return suspended(job);
    }
    underway(facts, job)
}

fn held() -> Standing {
    let message = "spec.suspend is true";
    Standing::new(Phase::Suspended, false, Reason::SuspendedByRequest, message)
}

fn suspended(job: &JobView) -> Standing {
    if job.queued {
        let message = "the Job waits in its queue";
        return Standing::new(Phase::Suspended, false, Reason::Queued, message);
    }
    held()
}

fn new_attempt(job: &JobView, reason: Reason) -> Standing {
    let why = match reason {
        Reason::RightSized => "the last attempt had too little memory",
        _ => "the last Job was deleted",
    };
    let memory = job.memory.map(|memory| format!(" with {memory}"));
    let message = format!(
        "{why}; attempt {}{} is on its way",
        job.attempt,
        memory.unwrap_or_default()
    );
    Standing::new(Phase::Pending, true, reason, message)
}

fn underway(facts: &Facts<'_>, job: &JobView) -> Standing {
    let newest = facts
        .pods
        .iter()
        .filter(|pod| !pod.deleting && pod.phase != PodPhase::Failed)
        .max_by_key(|pod| pod.created);
    let wait = |(reason, message)| Standing::new(Phase::Pending, false, reason, message);
    let Some(pod) = newest else {
        return missing_template(facts).map_or_else(|| carry_over(facts, job), wait);
    };
    if pod.phase != PodPhase::Pending {
        let message = format!("pod {} computes", pod.name);
        return Standing::new(Phase::Running, true, Reason::Running, message);
    }
    obstacle(pod)
        .or_else(|| missing_object(facts, pod))
        .or_else(|| missing_template(facts))
        .map_or_else(|| carry_over(facts, job), wait)
}

/// Until a pod runs again that finds the template, the request waits for it.
fn missing_template(facts: &Facts<'_>) -> Option<(Reason, String)> {
    let said = ending::missing_template(facts.pods)?;
    let message = format!("waits for the static data: {said}");
    Some((Reason::Exit(ExitCode::TemplateUnavailable), message))
}

/// The reason of an earlier reconcile stays until there is something to tell.
fn carry_over(facts: &Facts<'_>, job: &JobView) -> Standing {
    let told = facts.request.status.iter().flat_map(|s| &s.conditions);
    let progressing = told
        .into_iter()
        .find(|c| c.type_ == ConditionType::Progressing.name() && c.status == "True");
    let again = [Reason::RightSized, Reason::JobDeleted, Reason::Running];
    let kept = again
        .into_iter()
        .find(|reason| progressing.is_some_and(|c| c.reason == reason.name()));
    match (kept, progressing) {
        (Some(reason), Some(condition)) => {
            Standing::new(Phase::Pending, true, reason, &condition.message)
        }
        _ => Standing::new(
            Phase::Pending,
            true,
            Reason::JobCreated,
            format!("Job {} is made, its pod does not run yet", job.name),
        ),
    }
}

/// What keeps a pod from starting, if something does.
fn obstacle(pod: &PodView) -> Option<(Reason, String)> {
    if let Some(problem) = &pod.unscheduled {
        return Some(unscheduled(problem));
    }
    let waiting = pod.waiting.as_ref()?;
    let reason = match waiting.reason.as_str() {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => Reason::ImagePullFailed,
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "CreatePodSandboxError" => Reason::PodCannotStart,
        _ => return None,
    };
    Some((reason, name_problem(waiting)))
}

/// After so many seconds, a pod that waits for its volumes waits for one that is not there.
const VOLUME_PATIENCE_SECONDS: i64 = 60;

/// Whether a pod waits for volumes that take something from another object: it says nothing when its
/// time is over.
pub fn waits_for_volumes(pod: &PodView) -> bool {
    !pod.needs.is_empty() && pod.phase == PodPhase::Pending && pod.unready_since.is_some()
}

/// A Secret or ConfigMap that is missing shows in events only, which the operator does not read; nor does
/// it read Secrets. That the volumes are late is all there is to see.
fn missing_object(facts: &Facts<'_>, pod: &PodView) -> Option<(Reason, String)> {
    let waited = facts.now.as_second() - pod.unready_since?.as_second();
    if !waits_for_volumes(pod) || waited < VOLUME_PATIENCE_SECONDS {
        return None;
    }
    let named = pod.needs.iter().map(|needed| {
        let Needed { kind, name, key } = needed;
        format!("a {kind} `{name}` with the key `{key}`")
    });
    let message = format!(
        "pod {} has waited for its volumes for more than {VOLUME_PATIENCE_SECONDS} s: expected {} \
         (kubectl describe pod says which volume it is)",
        pod.name,
        named.collect::<Vec<_>>().join(" and ")
    );
    let secret = pod.needs.iter().any(|needed| needed.kind == "Secret");
    let reason = if secret {
        Reason::CredentialMissing
    } else {
        Reason::VolumeUnavailable
    };
    Some((reason, message))
}

fn unscheduled(problem: &Problem) -> (Reason, String) {
    let text = problem.message.to_lowercase();
    let volume = [
        "persistentvolumeclaim",
        "persistent volume",
        "volume node affinity",
    ]
    .iter()
    .any(|word| text.contains(word));
    let reason = if volume {
        Reason::VolumeUnavailable
    } else {
        Reason::PodUnschedulable
    };
    (reason, name_problem(problem))
}

fn name_problem(problem: &Problem) -> String {
    let text = if problem.message.is_empty() {
        problem.reason.clone()
    } else {
        format!("{}: {}", problem.reason, problem.message)
    };
    report::explanation(text.as_bytes())
}
