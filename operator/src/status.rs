//! From what happened to the status of the request. Pure.
//!
//! A status that holds the end never changes again, and the phase never goes back: a Job has no
//! active pod for a moment between two pods and before it is concluded, which is not worth telling.

use std::sync::Arc;

use alignment_api::{Destination, Stage};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::apply::Refusal;
use crate::conditions::{ConditionType, Reason, Setter, shorten};
use crate::crd::{
    AlignmentRequest, AlignmentRequestStatus, AlignmentResult, Failure, Phase, ProgressStatus,
    ResultLocation,
};
use crate::decide::Story;
use crate::ending::Cause;
use crate::observe::{JobEnd, JobView, PodPhase, PodView, Problem};
use crate::report;
use crate::validate;

/// Everything that a status is derived from.
pub struct Facts<'a> {
    /// The request, with the newest status that is known.
    pub request: &'a AlignmentRequest,
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

/// Where a request stands, before it is written down.
struct Standing {
    phase: Phase,
    progressing: bool,
    reason: Reason,
    message: String,
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

/// The status that the facts call for.
pub fn derive(facts: &Facts<'_>) -> AlignmentRequestStatus {
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
        Story::Held | Story::Underway(_) | Story::AwaitingReport => {
            accept(&mut status, facts);
            show_progress(&mut status, facts);
            let standing = standing(facts);
            stand(&mut status, facts, &standing);
        }
    }
    if matches!(
        status.phase,
        Some(Phase::Running | Phase::Succeeded | Phase::Failed)
    ) {
        // Not before: alone it is not worth a write.
        let started = facts.job.and_then(|job| job.start_time.clone());
        status.start_time = status.start_time.or(started);
    }
    status
}

/// A status that an API server takes even if the full one breaks a bound: the end is what counts.
pub fn essential(status: &AlignmentRequestStatus) -> AlignmentRequestStatus {
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

fn setter<'a>(status: &'a mut AlignmentRequestStatus, facts: &Facts<'_>) -> Setter<'a> {
    Setter {
        conditions: &mut status.conditions,
        generation: facts.request.metadata.generation,
        now: facts.now,
    }
}

fn set(
    status: &mut AlignmentRequestStatus,
    facts: &Facts<'_>,
    type_: ConditionType,
    value: bool,
    reason: Reason,
    message: &str,
) {
    setter(status, facts).set(type_, value, reason, message);
}

fn accept(status: &mut AlignmentRequestStatus, facts: &Facts<'_>) {
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

fn stand(status: &mut AlignmentRequestStatus, facts: &Facts<'_>, standing: &Standing) {
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
    let was_running = status.phase == Some(Phase::Running);
    status.phase = Some(match phase {
        Phase::Pending if was_running => Phase::Running,
        phase => *phase,
    });
}

fn standing(facts: &Facts<'_>) -> Standing {
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
    let Some(pod) = newest else {
        return carry_over(facts, job);
    };
    if pod.phase != PodPhase::Pending {
        let message = format!("pod {} computes", pod.name);
        return Standing::new(Phase::Running, true, Reason::Running, message);
    }
    match obstacle(pod) {
        Some((reason, message)) => Standing::new(Phase::Pending, false, reason, message),
        None => carry_over(facts, job),
    }
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

fn show_progress(status: &mut AlignmentRequestStatus, facts: &Facts<'_>) {
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

fn end_in_failure(status: &mut AlignmentRequestStatus, facts: &Facts<'_>, cause: &Cause) {
    let at = match facts.job.and_then(|job| job.end.as_ref()) {
        Some(JobEnd::Failed { at, .. }) => at.clone(),
        _ => None,
    };
    end(status, facts, at);
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
    status.phase = Some(Phase::Failed);
    status.failure = Some(Failure {
        reason: reason.name().to_owned(),
        message: shorten(message, crate::conditions::LONGEST_MESSAGE),
        exit_code: cause.exit_code,
        retryable: cause.retryable,
    });
}

fn end_in_success(status: &mut AlignmentRequestStatus, facts: &Facts<'_>) {
    let at = match facts.job.and_then(|job| job.end.as_ref()) {
        Some(JobEnd::Complete { at }) => at.clone(),
        _ => None,
    };
    end(status, facts, at);
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

fn end(status: &mut AlignmentRequestStatus, facts: &Facts<'_>, at: Option<Time>) {
    status.completion_time = Some(at.unwrap_or(Time(facts.now)));
    let mut setter = setter(status, facts);
    if setter.has(ConditionType::Suspended) {
        setter.set(ConditionType::Suspended, false, Reason::Resumed, "");
    }
}

fn result(facts: &Facts<'_>) -> AlignmentResult {
    let spec = &facts.request.spec;
    let Destination::Volume(folder) = &spec.output.destination;
    let succeeded = facts
        .pods
        .iter()
        .filter(|pod| pod.phase == PodPhase::Succeeded);
    let summary = succeeded
        .filter_map(|pod| pod.terminated.as_ref())
        .find_map(|end| report::termination(end.message.as_bytes())?.result);
    AlignmentResult {
        summary,
        location: ResultLocation::from(folder),
        transformation_matrix: spec.placement.matrix,
    }
}

#[cfg(test)]
mod tests {
    use alignment_api::TERMINATION_SCHEMA;
    use serde_json::{Value, json};

    use super::*;
    use crate::ending::tests::failed_job;
    use crate::observe::Terminated;
    use crate::validate::tests::request;

    fn job() -> JobView {
        JobView {
            end: None,
            ..failed_job("")
        }
    }

    fn pod(phase: PodPhase) -> PodView {
        PodView {
            name: "hoc1-0a1b2c3d-1-x".into(),
            phase,
            ..PodView::default()
        }
    }

    /// Derives one status after the other for the same request, as reconciles do.
    struct Life {
        request: AlignmentRequest,
        second: i64,
    }

    impl Life {
        fn new() -> Self {
            Self {
                request: request(),
                second: 0,
            }
        }

        fn step(
            &mut self,
            story: &Story,
            job: Option<&JobView>,
            pod: Option<PodView>,
        ) -> AlignmentRequestStatus {
            self.second += 1;
            let pods: Vec<_> = pod.into_iter().map(Arc::new).collect();
            let status = derive(&Facts {
                request: &self.request,
                story,
                job,
                pods: &pods,
                refusal: None,
                progress: None,
                now: Timestamp::from_second(1_800_000_000 + self.second).unwrap(),
            });
            self.request.status = Some(status.clone());
            status
        }
    }

    fn reason(status: &AlignmentRequestStatus) -> (&str, &str) {
        let all = &status.conditions;
        let progressing = all.iter().find(|c| c.type_ == "Progressing").unwrap();
        (&progressing.status, &progressing.reason)
    }

    const UNDERWAY: Story = Story::Underway(None);

    fn quality() -> Value {
        let mut quality = serde_json::to_value(alignment_api::Quality::default()).unwrap();
        quality["depthResidualAfter"] = json!(0.04);
        quality
    }

    #[test]
    fn a_life_without_trouble() {
        let mut life = Life::new();
        let job = job();
        let first = life.step(&UNDERWAY, Some(&job), None);
        assert_eq!(first.phase, Some(Phase::Pending));
        assert_eq!(first.job_name.as_deref(), Some("hoc1-0a1b2c3d-1"));
        assert_eq!(
            (first.attempts, first.observed_generation),
            (Some(1), Some(1))
        );
        let running = life.step(&UNDERWAY, Some(&job), Some(pod(PodPhase::Running)));
        assert_eq!(running.phase, Some(Phase::Running));
        assert_eq!(reason(&running), ("True", "Running"));
        let message = json!({"schema": TERMINATION_SCHEMA, "outcome": "Success",
            "result": {"quality": quality(), "artifacts": [], "warnings": ["low overlap"]}});
        let mut succeeded = pod(PodPhase::Succeeded);
        succeeded.terminated = Some(Terminated {
            message: message.to_string(),
            ..Terminated::default()
        });
        let end = life.step(&Story::Completed, Some(&job), Some(succeeded));
        assert_eq!(end.phase, Some(Phase::Succeeded));
        assert_eq!(end.progress.as_ref().unwrap().percent, 100);
        let result = serde_json::to_value(&end.result).unwrap();
        assert_eq!(result["quality"]["depthResidualAfter"], 0.04);
        assert_eq!(
            result["location"],
            json!({"claimName": "results", "path": "hoc1"})
        );
        assert_eq!(
            result["transformationMatrix"][3],
            json!([0.0, 0.0, 0.0, 1.0])
        );
    }

    #[test]
    fn nothing_new_means_no_write() {
        let mut life = Life::new();
        let job = job();
        for (story, pod) in [
            (UNDERWAY, None),
            (UNDERWAY, Some(pod(PodPhase::Pending))),
            (UNDERWAY, Some(pod(PodPhase::Running))),
            (Story::AwaitingReport, None),
        ] {
            let first = life.step(&story, Some(&job), pod.clone());
            let second = life.step(&story, Some(&job), pod);
            assert_eq!(first, second, "{story:?}");
        }
    }

    #[test]
    fn the_phase_does_not_go_back_when_a_pod_ends() {
        let mut life = Life::new();
        let job = job();
        life.step(&UNDERWAY, Some(&job), Some(pod(PodPhase::Running)));
        for pod in [
            None,
            Some(pod(PodPhase::Failed)),
            Some(pod(PodPhase::Pending)),
        ] {
            let status = life.step(&UNDERWAY, Some(&job), pod);
            assert_eq!(status.phase, Some(Phase::Running));
        }
    }

    #[test]
    fn suspension_is_told_and_so_is_its_end() {
        let mut life = Life::new();
        let held = JobView {
            suspended: true,
            ..job()
        };
        let status = life.step(&UNDERWAY, Some(&held), None);
        assert_eq!(status.phase, Some(Phase::Suspended));
        assert_eq!(reason(&status), ("False", "SuspendedByRequest"));
        let queued = JobView {
            queued: true,
            ..held
        };
        let status = life.step(&UNDERWAY, Some(&queued), None);
        assert_eq!(reason(&status), ("False", "Queued"));
        let status = life.step(&UNDERWAY, Some(&job()), None);
        assert_eq!(status.phase, Some(Phase::Pending));
        let suspended = status.conditions.iter().find(|c| c.type_ == "Suspended");
        assert_eq!(suspended.unwrap().status, "False");
    }

    #[test]
    fn what_keeps_a_pod_from_starting_is_named() {
        let waiting = |reason: &str, message: &str| PodView {
            waiting: Some(Problem {
                reason: reason.into(),
                message: message.into(),
            }),
            ..pod(PodPhase::Pending)
        };
        let unscheduled = |message: &str| PodView {
            unscheduled: Some(Problem {
                reason: "Unschedulable".into(),
                message: message.into(),
            }),
            ..pod(PodPhase::Pending)
        };
        for (pod, expected, text) in [
            (
                waiting("ImagePullBackOff", "no such image"),
                "ImagePullFailed",
                "no such image",
            ),
            (
                waiting("CreateContainerConfigError", "root"),
                "PodCannotStart",
                "root",
            ),
            (
                unscheduled("0/3 nodes are available: 3 Insufficient memory"),
                "PodUnschedulable",
                "memory",
            ),
            (
                unscheduled("persistentvolumeclaim \"patches\" not found"),
                "VolumeUnavailable",
                "patches",
            ),
            (
                unscheduled("pod has unbound immediate PersistentVolumeClaims"),
                "VolumeUnavailable",
                "unbound",
            ),
        ] {
            let mut life = Life::new();
            let status = life.step(&UNDERWAY, Some(&job()), Some(pod));
            assert_eq!(reason(&status), ("False", expected));
            assert_eq!(status.phase, Some(Phase::Pending));
            assert!(status.conditions[1].message.contains(text));
        }
        let mut life = Life::new();
        let status = life.step(
            &UNDERWAY,
            Some(&job()),
            Some(waiting("ContainerCreating", "")),
        );
        assert_eq!(reason(&status), ("True", "JobCreated"));
    }

    #[test]
    fn a_new_attempt_says_why_until_its_pod_runs() {
        let mut life = Life::new();
        let second = JobView {
            attempt: 2,
            ..job()
        };
        let story = Story::Underway(Some(Reason::RightSized));
        let told = life.step(&story, Some(&second), None);
        assert_eq!(reason(&told), ("True", "RightSized"));
        let later = life.step(&UNDERWAY, Some(&second), None);
        assert_eq!(reason(&later), ("True", "RightSized"));
        assert_eq!(later.attempts, Some(2));
    }

    #[test]
    fn an_end_is_final() {
        let mut life = Life::new();
        let cause = Cause {
            reason: Reason::DeadlineExceeded,
            message: "late".into(),
            exit_code: None,
            retryable: false,
        };
        let end = life.step(&Story::Failed(cause), Some(&job()), None);
        let failure = end.failure.clone().unwrap();
        assert_eq!(failure.reason, "DeadlineExceeded");
        assert_eq!(life.step(&Story::Over, None, None), end);
    }

    #[test]
    fn a_result_without_a_report_is_still_a_result() {
        let mut life = Life::new();
        let end = life.step(&Story::Completed, Some(&job()), None);
        let result = serde_json::to_value(&end.result).unwrap();
        assert!(result.get("quality").is_none());
        let read: AlignmentResult = serde_json::from_value(result).unwrap();
        assert_eq!(read.summary, None);
    }
}
