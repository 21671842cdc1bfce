//! From what happened to the status of the request. Pure.
//!
//! A status that holds the end never changes again, and the phase never goes back: a Job has no
//! active pod for a moment between two pods and before it is concluded, which is not worth telling.

mod standing;

use std::sync::Arc;

use alignment_api::{ExitCode, Stage};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::apply::Refusal;
use crate::conditions::{ConditionType, Reason, Setter, shorten};
use crate::crd::{AlignmentResult, Failure, Phase, ProgressStatus, RequestStatus, ResultLocation};
use crate::decide::Story;
use crate::ending::Cause;
use crate::observe::{JobEnd, JobView, PodPhase, PodView};
use crate::report;
use crate::request::{Kind, Request};
use crate::validate;
use standing::Standing;
pub use standing::waits_for_volumes;

/// Everything that a status is derived from.
pub struct Facts<'a> {
    /// The request, with the newest status that is known.
    pub request: &'a Request,
    /// What happened.
    pub story: &'a Story,
    /// The newest Job, as it is after this reconcile's write.
    pub job: Option<&'a JobView>,
    /// Its pods.
    pub pods: &'a [Arc<PodView>],
    /// Why the API server did not take the Job.
    pub refusal: Option<&'a Refusal>,
    /// Newest progress that may be shown.
    pub progress: Option<&'a ProgressStatus>,
    /// The present.
    pub now: Timestamp,
}

/// The status that the facts call for.
pub fn derive(facts: &Facts<'_>) -> RequestStatus {
    let mut status = facts.request.status.clone().unwrap_or_default();
    status.observed_generation = facts.request.metadata.generation;
    if matches!(facts.story, Story::Over) {
        return status;
    }
    if let Some(job) = facts.job {
        status.job_name = Some(job.name.clone());
        status.attempts = Some(
            job.attempt
                .clamp(status.attempts.unwrap_or(0).min(100), 100),
        );
    }
    match facts.story {
        Story::Over => {}
        Story::Invalid(violations) => {
            let message = validate::describe(violations);
            set(
                &mut status,
                facts,
                ConditionType::Accepted,
                false,
                Reason::InvalidRequest,
                &message,
            );
            end_in_failure(&mut status, facts, &invalid(message));
        }
        Story::Failed(cause) => {
            accept(&mut status, facts);
            end_in_failure(&mut status, facts, cause);
        }
        Story::Completed => {
            accept(&mut status, facts);
            end_in_success(&mut status, facts);
        }
        Story::Cancelling => {
            accept(&mut status, facts);
            tell_cancelling(&mut status, facts);
        }
        Story::Cancelled => {
            accept(&mut status, facts);
            end_as_cancelled(&mut status, facts);
        }
        Story::Held | Story::Underway(_) | Story::AwaitingReport => {
            accept(&mut status, facts);
            show_progress(&mut status, facts);
            let standing = standing::of(facts);
            stand(&mut status, facts, &standing);
        }
    }
    let begun = matches!(
        status.phase,
        Some(Phase::Running | Phase::Succeeded | Phase::Failed)
    );
    if begun && status.phase != facts.request.phase() {
        // Together with a new phase only: alone it is not worth a write.
        let started = facts.job.and_then(|job| job.start_time.clone());
        status.start_time = status.start_time.or(started);
    }
    status
}

/// A status that an API server takes even if the full one breaks a bound: the end is what counts.
pub fn essential(status: &RequestStatus) -> RequestStatus {
    let mut status = status.clone();
    status.progress = None;
    status.result = None;
    for condition in &mut status.conditions {
        condition.message = shorten(&condition.message, 500);
    }
    if let Some(failure) = &mut status.failure {
        failure.message = shorten(&failure.message, 500);
    }
    status
}

fn setter<'a>(status: &'a mut RequestStatus, facts: &Facts<'_>) -> Setter<'a> {
    Setter {
        conditions: &mut status.conditions,
        generation: facts.request.metadata.generation,
        now: facts.now,
    }
}

fn set(
    status: &mut RequestStatus,
    facts: &Facts<'_>,
    type_: ConditionType,
    value: bool,
    reason: Reason,
    message: &str,
) {
    setter(status, facts).set(type_, value, reason, message);
}

fn accept(status: &mut RequestStatus, facts: &Facts<'_>) {
    let message = "the request is valid";
    set(
        status,
        facts,
        ConditionType::Accepted,
        true,
        Reason::Valid,
        message,
    );
}

fn stand(status: &mut RequestStatus, facts: &Facts<'_>, standing: &Standing) {
    let Standing {
        phase,
        progressing,
        reason,
        message,
    } = standing;
    set(
        status,
        facts,
        ConditionType::Progressing,
        *progressing,
        *reason,
        message,
    );
    let mut setter = setter(status, facts);
    if *phase == Phase::Suspended {
        setter.set(ConditionType::Suspended, true, *reason, message);
    } else if setter.has(ConditionType::Suspended) {
        setter.set(ConditionType::Suspended, false, Reason::Resumed, "");
    }
    tell_static_data(status, facts, *reason, message);
    let was_running = status.phase == Some(Phase::Running);
    status.phase = Some(match phase {
        Phase::Pending if was_running => Phase::Running,
        phase => *phase,
    });
}

/// A pod that failed for another reason, or runs, may have read the template by now.
fn tell_static_data(status: &mut RequestStatus, facts: &Facts<'_>, reason: Reason, message: &str) {
    let type_ = ConditionType::StaticDataReady;
    if reason == Reason::Exit(ExitCode::TemplateUnavailable) {
        set(status, facts, type_, false, reason, message);
    } else {
        setter(status, facts).remove(type_);
    }
}

fn show_progress(status: &mut RequestStatus, facts: &Facts<'_>) {
    if let Some(progress) = facts.progress {
        status.progress = Some(progress.clone());
    }
}

fn invalid(message: String) -> Cause {
    Cause {
        reason: Reason::InvalidRequest,
        message,
        exit_code: None,
        retryable: false,
    }
}

fn end_in_failure(status: &mut RequestStatus, facts: &Facts<'_>, cause: &Cause) {
    let at = match facts.job.and_then(|job| job.end.as_ref()) {
        Some(JobEnd::Failed { at, .. }) => at.clone(),
        _ => None,
    };
    end(status, facts, at, Reason::Resumed);
    let Cause {
        reason, message, ..
    } = cause;
    set(
        status,
        facts,
        ConditionType::Progressing,
        false,
        *reason,
        message,
    );
    set(status, facts, ConditionType::Failed, true, *reason, message);
    if cause.exit_code.is_some() {
        tell_static_data(status, facts, *reason, message);
    }
    status.phase = Some(Phase::Failed);
    status.failure = Some(Failure {
        reason: reason.name().to_owned(),
        message: shorten(message, crate::conditions::LONGEST_MESSAGE),
        exit_code: cause.exit_code,
        retryable: cause.retryable,
    });
}

fn end_in_success(status: &mut RequestStatus, facts: &Facts<'_>) {
    let at = match facts.job.and_then(|job| job.end.as_ref()) {
        Some(JobEnd::Complete { at }) => at.clone(),
        _ => None,
    };
    end(status, facts, at, Reason::Resumed);
    let result = result(facts);
    let message = match &result.summary {
        Some(_) => "the result is written",
        None => "the result is written; the pod's report of it was lost",
    };
    set(
        status,
        facts,
        ConditionType::Progressing,
        false,
        Reason::Succeeded,
        message,
    );
    set(
        status,
        facts,
        ConditionType::Complete,
        true,
        Reason::Succeeded,
        message,
    );
    if facts.request.kind() == Kind::Alignment {
        let message = "the aligner has read the template, and compared its digest if the installation names \
                       one";
        let type_ = ConditionType::StaticDataReady;
        set(status, facts, type_, true, Reason::TemplateRead, message);
    }
    status.phase = Some(Phase::Succeeded);
    status.progress = Some(ProgressStatus {
        stage: Stage::Write,
        percent: 100,
        level: None,
        iteration: None,
        metric: None,
        eta_seconds: None,
    });
    status.result = Some(result);
}

/// The phase stays: it is not told that something stops before it has stopped.
fn tell_cancelling(status: &mut RequestStatus, facts: &Facts<'_>) {
    let message = "spec.cancel is true; the Job and its pods are being removed";
    set(
        status,
        facts,
        ConditionType::Progressing,
        true,
        Reason::Cancelling,
        message,
    );
    status.phase = status.phase.or(Some(Phase::Pending));
    let started = facts.job.and_then(|job| job.start_time.clone());
    status.start_time = status.start_time.take().or(started);
}

fn end_as_cancelled(status: &mut RequestStatus, facts: &Facts<'_>) {
    end(status, facts, None, Reason::Cancelled);
    let message = "spec.cancel ended the request; no pod of it is left that computes";
    for (type_, value) in [
        (ConditionType::Progressing, false),
        (ConditionType::Cancelled, true),
    ] {
        set(status, facts, type_, value, Reason::Cancelled, message);
    }
    status.phase = Some(Phase::Cancelled);
}

/// The reason says why the request is no longer held back, if it was.
fn end(status: &mut RequestStatus, facts: &Facts<'_>, at: Option<Time>, released: Reason) {
    status.completion_time = Some(at.unwrap_or(Time(facts.now)));
    let mut setter = setter(status, facts);
    if setter.has(ConditionType::Suspended) {
        setter.set(ConditionType::Suspended, false, released, "");
    }
}

fn result(facts: &Facts<'_>) -> AlignmentResult {
    let spec = &facts.request.spec;
    let succeeded = facts
        .pods
        .iter()
        .filter(|pod| pod.phase == PodPhase::Succeeded);
    let summary = succeeded
        .filter_map(|pod| pod.terminated.as_ref())
        .find_map(|end| report::termination(end.message.as_bytes())?.result);
    AlignmentResult {
        summary,
        location: ResultLocation::from(spec.destination()),
        transformation_matrix: spec.alignment().map(|spec| spec.placement.matrix),
    }
}

#[cfg(test)]
mod tests;
