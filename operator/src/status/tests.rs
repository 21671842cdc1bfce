use alignment_api::TERMINATION_SCHEMA;
use serde_json::{Value, json};

use super::*;
use crate::ending::tests::failed_job;
use crate::observe::{Needed, Problem, Terminated};
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
    request: Request,
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
    ) -> RequestStatus {
        let pods: Vec<_> = pod.into_iter().map(Arc::new).collect();
        self.see(story, job, &pods)
    }

    fn see(
        &mut self,
        story: &Story,
        job: Option<&JobView>,
        pods: &[Arc<PodView>],
    ) -> RequestStatus {
        self.second += 1;
        let status = derive(&Facts {
            request: &self.request,
            story,
            job,
            pods,
            refusal: None,
            progress: None,
            now: Timestamp::from_second(1_800_000_000 + self.second).unwrap(),
        });
        self.request.status = Some(status.clone());
        status
    }
}

fn reason(status: &RequestStatus) -> (&str, &str) {
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
fn a_cancelled_request_ends_without_a_failure() {
    let mut life = Life::new();
    let job = JobView {
        start_time: Some("2026-01-01T00:00:00Z".parse().map(Time).unwrap()),
        ..job()
    };
    let held = JobView {
        suspended: true,
        ..job.clone()
    };
    life.step(&UNDERWAY, Some(&held), None);
    // Nothing stops before it has stopped; what the Job alone knows is kept.
    let status = life.step(&Story::Cancelling, Some(&job), None);
    assert_eq!(status.phase, Some(Phase::Suspended));
    assert_eq!(reason(&status), ("True", "Cancelling"));
    assert_eq!(status.start_time, job.start_time);
    assert_eq!(status.completion_time, None);
    let end = life.step(&Story::Cancelled, None, None);
    assert_eq!(end.phase, Some(Phase::Cancelled));
    assert_eq!(reason(&end), ("False", "Cancelled"));
    let conditions: Vec<_> = end
        .conditions
        .iter()
        .map(|c| [&c.type_, &c.status, &c.reason].map(String::as_str))
        .collect();
    assert_eq!(
        conditions,
        [
            ["Accepted", "True", "Valid"],
            ["Progressing", "False", "Cancelled"],
            ["Cancelled", "True", "Cancelled"],
            ["Suspended", "False", "Cancelled"],
        ]
    );
    assert!(end.failure.is_none() && end.result.is_none());
    assert_eq!(end.completion_time.unwrap().0.as_second(), 1_800_000_003);
    assert_eq!((end.attempts, end.job_name), (Some(1), Some(job.name)));
}

#[test]
fn the_end_tells_whether_the_static_data_was_there() {
    let ready = |status: &RequestStatus| {
        let all = status.conditions.iter();
        let mut found = all.filter(|condition| condition.type_ == "StaticDataReady");
        found
            .next()
            .map(|found| [&found.status, &found.reason, &found.message].map(String::clone))
    };
    let mut life = Life::new();
    let status = life.step(&UNDERWAY, Some(&job()), Some(pod(PodPhase::Running)));
    assert_eq!(ready(&status), None);
    let status = life.step(&Story::Completed, Some(&job()), None);
    assert_eq!(ready(&status).unwrap()[..2], ["True", "TemplateRead"]);
    let said = "has the SHA-256 a, expected b";
    for (exit, expected) in [
        (
            ExitCode::TemplateUnavailable,
            Some(["False", "TemplateUnavailable", said].map(str::to_owned)),
        ),
        (ExitCode::AlignmentFailed, None),
    ] {
        let cause = Cause {
            reason: Reason::Exit(exit),
            message: said.to_owned(),
            exit_code: Some(exit.code().into()),
            retryable: false,
        };
        let status = Life::new().step(&Story::Failed(cause), Some(&job()), None);
        assert_eq!(ready(&status), expected);
    }
}

fn failed(exit: ExitCode, message: &str) -> PodView {
    let message =
        json!({"schema": TERMINATION_SCHEMA, "outcome": exit.reason(), "message": message});
    PodView {
        terminated: Some(Terminated {
            exit_code: exit.code().into(),
            message: message.to_string(),
            ..Terminated::default()
        }),
        ..pod(PodPhase::Failed)
    }
}

#[test]
fn a_request_waits_for_the_static_data_and_goes_on_by_itself() {
    let static_data = |status: &RequestStatus| {
        let mut all = status.conditions.iter();
        let found = all.find(|condition| condition.type_ == "StaticDataReady");
        found.map(|found| found.status.clone())
    };
    let absent = failed(ExitCode::TemplateUnavailable, "no such file");
    let mut life = Life::new();
    life.step(&UNDERWAY, Some(&job()), Some(pod(PodPhase::Pending)));
    let status = life.step(&UNDERWAY, Some(&job()), Some(absent.clone()));
    assert_eq!(reason(&status), ("False", "TemplateUnavailable"));
    assert_eq!(static_data(&status).as_deref(), Some("False"));
    assert_eq!(status.phase, Some(Phase::Pending));
    assert_eq!((status.attempts, &status.failure), (Some(1), &None));
    let progressing = &status.conditions[1];
    assert_eq!(
        progressing.message,
        "waits for the static data: no such file"
    );
    // The next pod is there and does not run yet.
    let both = [absent.clone(), pod(PodPhase::Pending)].map(Arc::new);
    let status = life.see(&UNDERWAY, Some(&job()), &both);
    assert_eq!(reason(&status), ("False", "TemplateUnavailable"));
    // While it runs, nobody knows.
    let both = [absent.clone(), pod(PodPhase::Running)].map(Arc::new);
    let status = life.see(&UNDERWAY, Some(&job()), &both);
    assert_eq!(reason(&status), ("True", "Running"));
    assert_eq!(static_data(&status), None);
    let status = life.step(&UNDERWAY, Some(&job()), Some(absent.clone()));
    assert_eq!(static_data(&status).as_deref(), Some("False"));
    let status = life.step(&Story::Completed, Some(&job()), Some(absent));
    assert_eq!(static_data(&status).as_deref(), Some("True"));
}

#[test]
fn another_failure_says_nothing_of_the_static_data() {
    let mut life = Life::new();
    let absent = failed(ExitCode::TemplateUnavailable, "no such file");
    life.step(&UNDERWAY, Some(&job()), Some(absent));
    let cause = |exit_code| Cause {
        reason: Reason::JobFailed,
        message: "m".to_owned(),
        exit_code,
        retryable: false,
    };
    let known = |status: &RequestStatus| {
        let mut all = status.conditions.iter();
        all.any(|condition| condition.type_ == "StaticDataReady")
    };
    let mut other = Life {
        request: life.request.clone(),
        ..life
    };
    // A pod got further, or none has looked since.
    assert!(!known(&life.step(
        &Story::Failed(cause(Some(65))),
        Some(&job()),
        None
    )));
    assert!(known(&other.step(
        &Story::Failed(cause(None)),
        Some(&job()),
        None
    )));
}

#[test]
fn a_pod_that_waits_too_long_for_a_volume_is_told_of() {
    let mut life = Life::new();
    let needed = |kind, name: &str, key: &str| Needed {
        kind,
        name: name.into(),
        key: key.into(),
    };
    let token = needed("Secret", "my-token", "bearer-token");
    let trusted = needed("ConfigMap", "trusted", "ca-bundle.crt");
    let unready = |since: i64, needs: &[&Needed]| PodView {
        waiting: Some(Problem {
            reason: "ContainerCreating".into(),
            message: String::new(),
        }),
        unready_since: Some(Timestamp::from_second(1_800_000_000 - since).unwrap()),
        needs: needs.iter().copied().cloned().collect(),
        ..pod(PodPhase::Pending)
    };
    let status = life.step(&UNDERWAY, Some(&job()), Some(unready(10, &[&token])));
    assert_eq!(reason(&status), ("True", "JobCreated"));
    for (needs, expected) in [
        (vec![&trusted], "VolumeUnavailable"),
        (vec![&token], "CredentialMissing"),
        (vec![&token, &trusted], "CredentialMissing"),
    ] {
        let status = life.step(&UNDERWAY, Some(&job()), Some(unready(60, &needs)));
        assert_eq!(reason(&status), ("False", expected));
        let message = &status.conditions[1].message;
        for Needed { kind, name, key } in needs {
            let named = format!("a {kind} `{name}` with the key `{key}`");
            assert!(message.contains(&named), "{message}");
        }
    }
    // It appears, and the request goes on by itself.
    let status = life.step(&UNDERWAY, Some(&job()), Some(pod(PodPhase::Running)));
    assert_eq!(reason(&status), ("True", "Running"));
    // Other volumes are late for reasons that the pod itself tells.
    let mut life = Life::new();
    let status = life.step(&UNDERWAY, Some(&job()), Some(unready(600, &[])));
    assert_eq!(reason(&status), ("True", "JobCreated"));
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
