//! What to do next. Pure: everything it needs is in the [`Case`].
//!
//! At most one write follows from a decision, so that a crash at any point leaves a state that the
//! next reconcile understands. The [`Story`] that comes with it is what the status tells.

use alignment_api::Violation;

use crate::build::{Attempt, metadata};
use crate::conditions::{ConditionType, Reason};
use crate::crd::Phase;
use crate::ending::{self, Cause};
use crate::observe::{JobEnd, JobState, JobView, Observed, PodPhase};
use crate::quantity::Memory;
use crate::report;
use crate::request::Request;
use crate::validate::ValidatedRequest;

/// Jobs that are made for a request when others keep deleting them.
pub const MOST_ATTEMPTS: i32 = 3;

/// All that a decision depends on.
pub struct Case<'a> {
    /// The request, with the newest status that is known.
    pub request: &'a Request,
    /// Its validation.
    pub verdict: &'a Result<ValidatedRequest, Vec<Violation>>,
    /// Its Job and pods.
    pub observed: &'a Observed,
    /// Most memory that a pod may get.
    pub max_memory: Option<Memory>,
    /// Whether the watch has shown the status that holds the end.
    pub end_is_recorded: bool,
    /// Whether the pod's report has been waited for long enough.
    pub report_overdue: bool,
}

/// The one write that follows.
#[derive(Clone, Debug, PartialEq)]
pub enum Intent {
    /// None.
    Nothing,
    /// Make the Job of an attempt.
    CreateJob(Attempt),
    /// Hold the Job back, or let it run.
    SetSuspend(bool),
    /// Have the finished Job removed after so many seconds, or not at all.
    SetTtl(Option<i32>),
    /// Remove the Job, and with it its pods.
    DeleteJob,
}

/// What the status tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Story {
    /// The end stands in the status already.
    Over,
    /// The request has violations.
    Invalid(Vec<Violation>),
    /// The request is suspended and has no Job yet.
    Held,
    /// An attempt is on its way; the reason says why it is not the first.
    Underway(Option<Reason>),
    /// The Job has ended; what its pod says is not known yet.
    AwaitingReport,
    /// The Job is complete.
    Completed,
    /// There will be no result.
    Failed(Cause),
    /// The request is cancelled; its Job or pods are still there.
    Cancelling,
    /// The request is cancelled, and nothing of it computes any more.
    Cancelled,
}

/// A write and what the status tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The write.
    pub intent: Intent,
    /// The story.
    pub story: Story,
}

impl Decision {
    fn wait(story: Story) -> Self {
        Self {
            intent: Intent::Nothing,
            story,
        }
    }

    fn create(attempt: Attempt, why: Option<Reason>) -> Self {
        Self {
            intent: Intent::CreateJob(attempt),
            story: Story::Underway(why),
        }
    }
}

/// Decides.
pub fn decide(case: &Case<'_>) -> Decision {
    if case.request.is_finished() {
        return Decision {
            intent: after_the_end(case),
            story: Story::Over,
        };
    }
    match &case.observed.job {
        JobState::Never | JobState::Gone if case.request.spec.cancel() => end_cancelled(case),
        JobState::Never => start(case),
        JobState::Gone => start_again(case),
        JobState::Present(job) => match &job.end {
            None if case.request.spec.cancel() => cancel(case, job),
            None => keep_running(case, job),
            Some(JobEnd::Complete { .. }) => conclude(case),
            Some(JobEnd::Failed { reason, .. }) => fail_or_enlarge(case, job, reason),
        },
    }
}

/// The Job may vanish only now: a result that nobody has read is not lost.
fn after_the_end(case: &Case<'_>) -> Intent {
    let ttl = case.request.spec.ttl_seconds_after_finished();
    match case.observed.job() {
        // Made by an operator that did not know of the end.
        Some(job)
            if case.request.phase() == Some(Phase::Cancelled)
                && job.end.is_none()
                && !job.deleting =>
        {
            Intent::DeleteJob
        }
        Some(job)
            if case.end_is_recorded && job.end.is_some() && !job.deleting && job.ttl != ttl =>
        {
            Intent::SetTtl(ttl)
        }
        _ => Intent::Nothing,
    }
}

/// Whether a result was written before is the Job's to say; a Job that has ended is not removed.
fn cancel(case: &Case<'_>, job: &JobView) -> Decision {
    let mut pods = case.observed.pods.iter();
    if pods.any(|pod| pod.phase == PodPhase::Succeeded) {
        return Decision::wait(Story::Underway(None));
    }
    let intent = if job.deleting || !is_told(case.request, job) {
        Intent::Nothing
    } else {
        Intent::DeleteJob
    };
    Decision {
        intent,
        story: Story::Cancelling,
    }
}

/// Whether the status holds all that the Job alone knows, so that it may vanish.
fn is_told(request: &Request, job: &JobView) -> bool {
    request.status.as_ref().is_some_and(|status| {
        let cancelling = status.conditions.iter().any(|condition| {
            condition.type_ == ConditionType::Progressing.name()
                && condition.reason == Reason::Cancelling.name()
        });
        let counted = status.attempts >= Some(job.attempt);
        let started = job.start_time.is_none() || status.start_time.is_some();
        cancelling && counted && started
    })
}

fn end_cancelled(case: &Case<'_>) -> Decision {
    if case.observed.pods.iter().any(|pod| !pod.has_ended()) {
        return Decision::wait(Story::Cancelling);
    }
    Decision::wait(match (&case.observed.job, case.verdict) {
        (JobState::Never, Err(violations)) => Story::Invalid(violations.clone()),
        _ => Story::Cancelled,
    })
}

fn start(case: &Case<'_>) -> Decision {
    if let Err(violations) = case.verdict {
        return Decision::wait(Story::Invalid(violations.clone()));
    }
    // A queue starts every Job that it is given; what must wait is not given to it.
    if case.request.spec.suspend() && metadata::queue(case.request).is_some() {
        return Decision::wait(Story::Held);
    }
    Decision::create(Attempt::FIRST, None)
}

fn start_again(case: &Case<'_>) -> Decision {
    let made = case.observed.attempts;
    if made >= MOST_ATTEMPTS {
        return Decision::wait(Story::Failed(Cause {
            reason: Reason::JobDeleted,
            message: format!("{made} Jobs were deleted before they ended"),
            exit_code: None,
            retryable: true,
        }));
    }
    if let Err(violations) = case.verdict {
        return Decision::wait(Story::Invalid(violations.clone()));
    }
    let attempt = Attempt {
        number: made + 1,
        right_sized: None,
    };
    Decision::create(attempt, Some(Reason::JobDeleted))
}

fn keep_running(case: &Case<'_>, job: &JobView) -> Decision {
    let suspend = case.request.spec.suspend();
    // Suspending has one writer: a queue, where there is one.
    let intent = if job.queued || job.deleting || job.suspended == suspend {
        Intent::Nothing
    } else {
        Intent::SetSuspend(suspend)
    };
    Decision {
        intent,
        story: Story::Underway(None),
    }
}

fn conclude(case: &Case<'_>) -> Decision {
    let reported = case.observed.pods.iter().any(|pod| {
        let end = pod.terminated.as_ref();
        pod.phase == PodPhase::Succeeded
            && end.is_some_and(|end| report::termination(end.message.as_bytes()).is_some())
    });
    Decision::wait(if reported || case.report_overdue {
        Story::Completed
    } else {
        Story::AwaitingReport
    })
}

fn fail_or_enlarge(case: &Case<'_>, job: &JobView, reason: &str) -> Decision {
    let pods = &case.observed.pods;
    let explained = reason == "DeadlineExceeded" || ending::newest_failure(pods).is_some();
    if !explained && !case.report_overdue {
        return Decision::wait(Story::AwaitingReport);
    }
    let memory = ending::next_memory(job, pods, case.max_memory);
    match memory {
        Some(memory) if may_go_on(case, job) => Decision::create(
            Attempt {
                number: job.attempt + 1,
                right_sized: Some(memory),
            },
            Some(Reason::RightSized),
        ),
        _ => Decision::wait(Story::Failed(ending::cause(job, pods, case.max_memory))),
    }
}

fn may_go_on(case: &Case<'_>, job: &JobView) -> bool {
    case.verdict.is_ok() && !job.deleting && !case.request.spec.cancel()
}

#[cfg(test)]
mod tests;
