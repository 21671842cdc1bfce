use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::ending::tests::{failed_job, failed_pod, needs};
use crate::observe::{PodView, Terminated};
use crate::settings::Settings;
use crate::validate::{tests::with, validate};

fn job() -> JobView {
    JobView {
        end: None,
        ..failed_job("")
    }
}

fn complete() -> JobView {
    JobView {
        end: Some(JobEnd::Complete { at: None }),
        ..job()
    }
}

fn reported() -> Vec<Arc<PodView>> {
    let message = json!({"schema": alignment_api::TERMINATION_SCHEMA, "outcome": "Success"});
    vec![Arc::new(PodView {
        phase: PodPhase::Succeeded,
        terminated: Some(Terminated {
            message: message.to_string(),
            ..Terminated::default()
        }),
        ..PodView::default()
    })]
}

/// A case with everything at its most usual; each test changes what it is about.
struct Given {
    changes: Vec<(&'static str, Value)>,
    job: JobState,
    attempts: i32,
    pods: Vec<Arc<PodView>>,
    recorded: bool,
    overdue: bool,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            changes: Vec::new(),
            job: JobState::Present(job()),
            attempts: 0,
            pods: Vec::new(),
            recorded: true,
            overdue: false,
        }
    }
}

impl Given {
    fn decide(self) -> Decision {
        let request = with(&self.changes);
        let verdict = validate(&request, &Settings::with_image("i"));
        decide(&Case {
            request: &request,
            verdict: &verdict,
            observed: &Observed {
                job: self.job,
                attempts: self.attempts,
                pods: self.pods,
            },
            max_memory: None,
            end_is_recorded: self.recorded,
            report_overdue: self.overdue,
        })
    }
}

fn status(value: Value) -> (&'static str, Value) {
    ("/status", value)
}

#[test]
fn a_new_request_gets_its_job() {
    let given = Given {
        job: JobState::Never,
        ..Given::default()
    };
    assert_eq!(given.decide(), Decision::create(Attempt::FIRST, None));
}

#[test]
fn an_invalid_request_gets_none() {
    let given = Given {
        job: JobState::Never,
        changes: vec![("/spec/template", json!("mouse"))],
        ..Given::default()
    };
    let decision = given.decide();
    assert_eq!(decision.intent, Intent::Nothing);
    assert!(matches!(decision.story, Story::Invalid(violations) if violations.len() == 1));
}

#[test]
fn settings_that_change_later_do_not_stop_a_job_that_runs() {
    let given = Given {
        changes: vec![("/spec/template", json!("mouse"))],
        ..Given::default()
    };
    assert_eq!(given.decide(), Decision::wait(Story::Underway(None)));
}

#[test]
fn a_deleted_job_is_followed_by_another_three_in_all() {
    for (attempts, expected) in [(1, Some(2)), (2, Some(3)), (3, None), (7, None)] {
        let given = Given {
            job: JobState::Gone,
            attempts,
            changes: vec![status(json!({"phase": "Running"}))],
            ..Given::default()
        };
        match (given.decide(), expected) {
            (decision, Some(number)) => {
                let attempt = Attempt {
                    number,
                    right_sized: None,
                };
                let why = Some(Reason::JobDeleted);
                assert_eq!(decision, Decision::create(attempt, why));
            }
            (decision, None) => assert!(
                matches!(&decision.story, Story::Failed(cause) if cause.reason == Reason::JobDeleted),
                "{decision:?}"
            ),
        }
    }
}

#[test]
fn suspending_reaches_the_job_unless_a_queue_has_charge_of_it() {
    for (asked, suspended, queued, expected) in [
        (true, false, false, Intent::SetSuspend(true)),
        (false, true, false, Intent::SetSuspend(false)),
        (true, true, false, Intent::Nothing),
        (false, false, false, Intent::Nothing),
        (false, true, true, Intent::Nothing),
        (true, false, true, Intent::Nothing),
    ] {
        let given = Given {
            changes: vec![("/spec/suspend", json!(asked))],
            job: JobState::Present(JobView {
                queued,
                suspended,
                ..job()
            }),
            ..Given::default()
        };
        assert_eq!(given.decide().intent, expected);
    }
}

#[test]
fn a_suspended_request_is_not_given_to_a_queue() {
    let labels = json!({"kueue.x-k8s.io/queue-name": "team"});
    let given = Given {
        job: JobState::Never,
        changes: vec![("/spec/suspend", json!(true)), ("/metadata/labels", labels)],
        ..Given::default()
    };
    assert_eq!(given.decide(), Decision::wait(Story::Held));
}

#[test]
fn the_pods_report_is_waited_for_but_not_for_ever() {
    for (pods, overdue, story) in [
        (vec![], false, Story::AwaitingReport),
        (vec![], true, Story::Completed),
        (reported(), false, Story::Completed),
    ] {
        let given = Given {
            job: JobState::Present(complete()),
            pods,
            overdue,
            ..Given::default()
        };
        assert_eq!(given.decide(), Decision::wait(story));
    }
}

#[test]
fn too_little_memory_gives_one_larger_attempt() {
    let failed = failed_job("PodFailurePolicy");
    let pods = vec![failed_pod(71, &needs(5 << 30))];
    let given = Given {
        job: JobState::Present(failed.clone()),
        pods: pods.clone(),
        ..Given::default()
    };
    let Intent::CreateJob(attempt) = given.decide().intent else {
        panic!("no attempt");
    };
    assert_eq!(attempt.number, 2);
    assert_eq!(attempt.right_sized.unwrap().to_string(), "5632Mi");

    let given = Given {
        job: JobState::Present(JobView {
            right_sized: true,
            ..failed
        }),
        pods,
        ..Given::default()
    };
    assert!(matches!(given.decide().story, Story::Failed(_)));
}

#[test]
fn a_failure_without_a_pod_is_waited_for_then_told() {
    for (overdue, waits) in [(false, true), (true, false)] {
        let given = Given {
            job: JobState::Present(failed_job("BackoffLimitExceeded")),
            overdue,
            ..Given::default()
        };
        assert_eq!(given.decide().story == Story::AwaitingReport, waits);
    }
    let deadline = Given {
        job: JobState::Present(failed_job("DeadlineExceeded")),
        ..Given::default()
    };
    assert!(matches!(deadline.decide().story, Story::Failed(_)));
}

fn cancel() -> (&'static str, Value) {
    ("/spec/cancel", json!(true))
}

/// What the status tells before the Job may go.
fn cancelling(attempts: i32, started: bool) -> (&'static str, Value) {
    let condition = json!({"type": "Progressing", "status": "True", "reason": "Cancelling",
        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let mut told = json!({"phase": "Running", "attempts": attempts, "conditions": [condition]});
    if started {
        told["startTime"] = json!("2026-01-01T00:00:00Z");
    }
    status(told)
}

#[test]
fn the_job_of_a_cancelled_request_goes_once_the_status_holds_what_it_knew() {
    let started = Some("2026-01-01T00:00:00Z".parse().map(Time).unwrap());
    for (told, start_time, deleting, expected) in [
        (
            status(json!({"phase": "Running", "attempts": 1})),
            None,
            false,
            Intent::Nothing,
        ),
        (cancelling(0, true), None, false, Intent::Nothing),
        (
            cancelling(1, false),
            started.clone(),
            false,
            Intent::Nothing,
        ),
        (cancelling(1, true), started, false, Intent::DeleteJob),
        (cancelling(1, false), None, false, Intent::DeleteJob),
        (cancelling(1, false), None, true, Intent::Nothing),
    ] {
        let given = Given {
            changes: vec![cancel(), told],
            job: JobState::Present(JobView {
                deleting,
                start_time,
                ..job()
            }),
            ..Given::default()
        };
        let decision = given.decide();
        assert_eq!(decision.intent, expected);
        assert_eq!(decision.story, Story::Cancelling);
    }
}

#[test]
fn cancelling_comes_before_suspending_and_before_a_queue() {
    let given = Given {
        changes: vec![
            cancel(),
            ("/spec/suspend", json!(true)),
            cancelling(1, false),
        ],
        job: JobState::Present(JobView {
            queued: true,
            suspended: true,
            ..job()
        }),
        ..Given::default()
    };
    assert_eq!(given.decide().intent, Intent::DeleteJob);
    let labels = json!({"kueue.x-k8s.io/queue-name": "team"});
    let given = Given {
        changes: vec![
            cancel(),
            ("/spec/suspend", json!(true)),
            ("/metadata/labels", labels),
        ],
        job: JobState::Never,
        ..Given::default()
    };
    assert_eq!(given.decide(), Decision::wait(Story::Cancelled));
}

#[test]
fn cancelled_is_told_only_when_no_pod_is_left_that_computes() {
    for (phase, deleting, story) in [
        (PodPhase::Pending, false, Story::Cancelling),
        (PodPhase::Running, true, Story::Cancelling),
        (PodPhase::Failed, true, Story::Cancelled),
        (PodPhase::Succeeded, false, Story::Cancelled),
    ] {
        for gone in [JobState::Never, JobState::Gone] {
            let given = Given {
                changes: vec![cancel()],
                job: gone,
                attempts: 1,
                pods: vec![Arc::new(PodView {
                    phase,
                    deleting,
                    ..PodView::default()
                })],
                ..Given::default()
            };
            assert_eq!(given.decide(), Decision::wait(story.clone()), "{phase:?}");
        }
    }
}

#[test]
fn an_end_before_the_cancelling_stays_what_it_is() {
    let given = Given {
        changes: vec![cancel(), cancelling(1, false)],
        pods: reported(),
        ..Given::default()
    };
    assert_eq!(given.decide(), Decision::wait(Story::Underway(None)));
    let given = Given {
        changes: vec![cancel(), cancelling(1, false)],
        job: JobState::Present(complete()),
        pods: reported(),
        ..Given::default()
    };
    assert_eq!(given.decide(), Decision::wait(Story::Completed));
    // It would have got a larger attempt, which nobody wants any more.
    let given = Given {
        changes: vec![cancel()],
        job: JobState::Present(failed_job("PodFailurePolicy")),
        pods: vec![failed_pod(71, &needs(5 << 30))],
        ..Given::default()
    };
    let decision = given.decide();
    assert_eq!(decision.intent, Intent::Nothing);
    assert!(
        matches!(&decision.story, Story::Failed(cause) if cause.reason.name() == "InsufficientMemory"),
        "{decision:?}"
    );
}

#[test]
fn an_invalid_request_that_is_cancelled_is_told_that_it_is_invalid() {
    let given = Given {
        changes: vec![cancel(), ("/spec/template", json!("mouse"))],
        job: JobState::Never,
        ..Given::default()
    };
    assert!(matches!(given.decide().story, Story::Invalid(_)));
}

#[test]
fn a_job_that_was_made_for_a_cancelled_request_goes() {
    for (job, expected) in [(job(), Intent::DeleteJob), (complete(), Intent::Nothing)] {
        let given = Given {
            changes: vec![
                cancel(),
                status(json!({"phase": "Cancelled", "attempts": 1})),
            ],
            job: JobState::Present(job),
            ..Given::default()
        };
        let decision = given.decide();
        assert_eq!((decision.intent, decision.story), (expected, Story::Over));
    }
}

#[test]
fn an_end_that_is_recorded_is_final_whatever_becomes_of_the_job() {
    for job in [JobState::Never, JobState::Gone, JobState::Present(job())] {
        for phase in ["Succeeded", "Failed"] {
            // Cancelled after its end: nothing happens any more.
            let given = Given {
                job: job.clone(),
                changes: vec![cancel(), status(json!({"phase": phase, "attempts": 1}))],
                ..Given::default()
            };
            assert_eq!(given.decide(), Decision::wait(Story::Over));
        }
    }
}

#[test]
fn the_job_may_vanish_only_once_its_end_is_recorded() {
    for (recorded, ttl, expected) in [
        (false, Some(60), Intent::Nothing),
        (true, Some(60), Intent::SetTtl(Some(60))),
        (true, None, Intent::Nothing),
    ] {
        let given = Given {
            job: JobState::Present(complete()),
            changes: vec![
                status(json!({"phase": "Succeeded", "attempts": 1})),
                ("/spec/ttlSecondsAfterFinished", json!(ttl)),
            ],
            recorded,
            ..Given::default()
        };
        assert_eq!(given.decide().intent, expected);
    }
}
