//! Why a Job failed: the newest failed pod speaks, and where there is none, the Job itself. Pure.

use std::sync::Arc;

use alignment_api::{ExitCode, RetryClass};

use crate::build::job::KILLED;
use crate::conditions::{Reason, shorten};
use crate::observe::{JobEnd, JobView, PodPhase, PodView, Terminated};
use crate::quantity::{MEBIBYTE, Memory};
use crate::report;

/// Longest sentence about a failure, in characters.
const LONGEST_MESSAGE: usize = 2000;

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Word for programs.
    pub reason: Reason,
    /// Sentence for people.
    pub message: String,
    /// Exit code of the aligner, if it ran.
    pub exit_code: Option<i32>,
    /// Whether the same request may succeed at another time.
    pub retryable: bool,
}

/// How the newest pod that failed by itself ended.
pub fn newest_failure(pods: &[Arc<PodView>]) -> Option<&Terminated> {
    pods.iter()
        .filter(|pod| pod.phase == PodPhase::Failed)
        .filter_map(|pod| pod.terminated.as_ref().map(|end| (pod, end)))
        // What the cluster ended says nothing about the request, unless there is nothing else.
        .max_by_key(|(pod, _)| (!pod.disrupted, pod.created))
        .map(|(_, end)| end)
}

/// Memory for one more attempt, if the last one had too little and more is allowed.
pub fn next_memory(
    job: &JobView,
    pods: &[Arc<PodView>],
    allowed: Option<Memory>,
) -> Option<Memory> {
    if job.right_sized {
        return None;
    }
    let had = job.memory?;
    let wanted = wanted_memory(newest_failure(pods)?, had)?;
    (wanted > had && allowed.is_none_or(|allowed| wanted <= allowed)).then_some(wanted)
}

/// A tenth more than the aligner asks for, in whole steps of 64 MiB. If the kernel ended it
/// before it could ask: twice what it had.
fn wanted_memory(end: &Terminated, had: Memory) -> Option<Memory> {
    const STEP: u64 = 64 * MEBIBYTE;
    let needed = required_memory(end).map(|bytes| bytes.saturating_add(bytes / 10));
    let bytes = match needed {
        Some(bytes) => bytes,
        None if end.out_of_memory => had.bytes().saturating_mul(2),
        None => return None,
    };
    Some(Memory::from_bytes(bytes.div_ceil(STEP).checked_mul(STEP)?))
}

fn required_memory(end: &Terminated) -> Option<u64> {
    let asked = ExitCode::from_code(end.exit_code) == Some(ExitCode::InsufficientMemory);
    if !asked && !end.out_of_memory {
        return None;
    }
    report::termination(end.message.as_bytes())?.required_memory_bytes
}

/// Why a failed Job failed.
pub fn cause(job: &JobView, pods: &[Arc<PodView>], allowed: Option<Memory>) -> Cause {
    if let Some(JobEnd::Failed {
        reason, message, ..
    }) = &job.end
    {
        if reason == "DeadlineExceeded" {
            return overdue(pods);
        }
        return match newest_failure(pods) {
            Some(end) => cause_of_exit(end, job, allowed),
            None => Cause {
                reason: Reason::JobFailed,
                message: shorten(message, LONGEST_MESSAGE),
                exit_code: None,
                retryable: true,
            },
        };
    }
    Cause {
        reason: Reason::JobFailed,
        message: "the Job has not failed".to_owned(),
        exit_code: None,
        retryable: true,
    }
}

/// A pod that waited for the template says so: then it is not the alignment that took too long.
fn overdue(pods: &[Arc<PodView>]) -> Cause {
    let late = "the alignment took longer than activeDeadlineSeconds";
    let said = missing_template(pods);
    let message = match &said {
        Some(said) => shorten(&format!("{late}: {said}"), LONGEST_MESSAGE),
        None => late.to_owned(),
    };
    Cause {
        reason: Reason::DeadlineExceeded,
        message,
        exit_code: None,
        retryable: said.is_some(),
    }
}

/// What the newest pod that failed said of the template, if that is why it failed.
pub fn missing_template(pods: &[Arc<PodView>]) -> Option<String> {
    let end = newest_failure(pods)?;
    let exit = ExitCode::from_code(end.exit_code);
    (exit == Some(ExitCode::TemplateUnavailable))
        .then(|| report::explanation(end.message.as_bytes()))
}

fn cause_of_exit(end: &Terminated, job: &JobView, allowed: Option<Memory>) -> Cause {
    let exit = ExitCode::from_code(end.exit_code).filter(|exit| *exit != ExitCode::Success);
    let said = report::explanation(end.message.as_bytes());
    let (reason, message) = match exit {
        Some(ExitCode::InsufficientMemory) => (
            Reason::Exit(ExitCode::InsufficientMemory),
            join(&said, &memory_note(end, job, allowed)),
        ),
        Some(exit) => (Reason::Exit(exit), join(&said, "")),
        None if end.out_of_memory => (
            Reason::Exit(ExitCode::InsufficientMemory),
            join(
                "the kernel ended the aligner for want of memory",
                &memory_note(end, job, allowed),
            ),
        ),
        None => (
            Reason::ProcessFailed,
            join(&format!("exit code {}", end.exit_code), &said),
        ),
    };
    let passing = exit.is_some_and(|exit| {
        matches!(
            exit.retry_class(),
            RetryClass::Retry | RetryClass::UntilDeadline
        )
    });
    Cause {
        reason,
        message,
        exit_code: Some(end.exit_code),
        retryable: passing || (exit.is_none() && !end.out_of_memory && end.exit_code != KILLED),
    }
}

fn memory_note(end: &Terminated, job: &JobView, allowed: Option<Memory>) -> String {
    let mut notes = Vec::new();
    if let Some(bytes) = required_memory(end) {
        notes.push(format!("needs {bytes} bytes"));
    }
    if let Some(had) = job.memory {
        notes.push(format!("had {had}"));
    }
    if let Some(allowed) = allowed {
        notes.push(format!("this installation allows {allowed}"));
    }
    notes.join(", ")
}

fn join(first: &str, second: &str) -> String {
    let parts: Vec<_> = [first, second]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    if parts.is_empty() {
        return "the aligner left no message".to_owned();
    }
    shorten(&parts.join(": "), LONGEST_MESSAGE)
}

#[cfg(test)]
pub(crate) mod tests {
    use alignment_api::TERMINATION_SCHEMA;
    use serde_json::json;

    use super::*;

    /// A pod that ended like this.
    pub(crate) fn failed_pod(exit_code: i32, message: &str) -> Arc<PodView> {
        Arc::new(PodView {
            phase: PodPhase::Failed,
            terminated: Some(Terminated {
                exit_code,
                out_of_memory: false,
                message: message.to_owned(),
            }),
            ..PodView::default()
        })
    }

    /// What the aligner writes when it has too little memory.
    pub(crate) fn needs(bytes: u64) -> String {
        json!({"schema": TERMINATION_SCHEMA, "outcome": "InsufficientMemory",
            "message": "too large", "requiredMemoryBytes": bytes})
        .to_string()
    }

    /// A Job that failed with 4 GiB.
    pub(crate) fn failed_job(reason: &str) -> JobView {
        JobView {
            name: "hoc1-0a1b2c3d-1".into(),
            uid: "job".into(),
            attempt: 1,
            memory: Some(Memory::from_bytes(4 << 30)),
            end: Some(JobEnd::Failed {
                at: None,
                reason: reason.into(),
                message: "Job has reached the specified backoff limit".into(),
            }),
            ..JobView::default()
        }
    }

    fn gib(number: u64) -> Memory {
        Memory::from_bytes(number << 30)
    }

    #[test]
    fn the_next_attempt_gets_a_tenth_more_than_was_asked_for_in_whole_steps() {
        let pods = [failed_pod(71, &needs(5 << 30))];
        let memory = next_memory(&failed_job("PodFailurePolicy"), &pods, None).unwrap();
        assert_eq!(memory.to_string(), "5632Mi");
    }

    #[test]
    fn there_is_one_larger_attempt_and_it_stays_within_the_limit() {
        let job = failed_job("PodFailurePolicy");
        let pods = [failed_pod(71, &needs(5 << 30))];
        assert_eq!(next_memory(&job, &pods, Some(gib(5))), None);
        assert!(next_memory(&job, &pods, Some(gib(6))).is_some());
        let second = JobView {
            right_sized: true,
            ..job
        };
        assert_eq!(next_memory(&second, &pods, None), None);
    }

    #[test]
    fn asking_for_less_or_for_nonsense_gives_no_attempt() {
        let job = failed_job("PodFailurePolicy");
        for message in [needs(1), needs(u64::MAX), String::new(), "{".to_owned()] {
            let pods = [failed_pod(71, &message)];
            assert_eq!(next_memory(&job, &pods, None), None, "{message}");
        }
        assert_eq!(
            next_memory(&job, &[failed_pod(65, &needs(5 << 30))], None),
            None
        );
    }

    #[test]
    fn an_aligner_that_the_kernel_ended_gets_twice_the_memory() {
        let mut pod = (*failed_pod(137, "")).clone();
        pod.terminated.as_mut().unwrap().out_of_memory = true;
        let job = failed_job("PodFailurePolicy");
        let pods = [Arc::new(pod)];
        assert_eq!(next_memory(&job, &pods, None), Some(gib(8)));
        let cause = cause(&job, &pods, Some(gib(4)));
        assert_eq!(cause.reason.name(), "InsufficientMemory");
        assert!(
            cause
                .message
                .ends_with("had 4Gi, this installation allows 4Gi"),
            "{cause:?}"
        );
    }

    #[test]
    fn the_exit_code_gives_the_reason_and_the_aligner_the_sentence() {
        let message = json!({"schema": TERMINATION_SCHEMA, "outcome": "InvalidImage",
            "message": "s.nii.gz: no NIfTI file"});
        let pods = [failed_pod(65, &message.to_string())];
        let cause = cause(&failed_job("PodFailurePolicy"), &pods, None);
        assert_eq!(cause.reason.name(), "InvalidImage");
        assert_eq!(cause.message, "s.nii.gz: no NIfTI file");
        assert_eq!((cause.exit_code, cause.retryable), (Some(65), false));
    }

    #[test]
    fn every_end_has_a_reason() {
        for (job_reason, pods, reason, retryable) in [
            (
                "DeadlineExceeded",
                vec![failed_pod(75, "")],
                "DeadlineExceeded",
                false,
            ),
            (
                "BackoffLimitExceeded",
                vec![failed_pod(69, "")],
                "ImageServiceUnavailable",
                true,
            ),
            (
                "BackoffLimitExceeded",
                vec![failed_pod(1, "oh")],
                "ProcessFailed",
                true,
            ),
            (
                "PodFailurePolicy",
                vec![failed_pod(137, "")],
                "ProcessFailed",
                false,
            ),
            (
                "BackoffLimitExceeded",
                vec![failed_pod(0, "")],
                "ProcessFailed",
                true,
            ),
            (
                "DeadlineExceeded",
                vec![failed_pod(68, "no template")],
                "DeadlineExceeded",
                true,
            ),
            ("BackoffLimitExceeded", vec![], "JobFailed", true),
        ] {
            let cause = cause(&failed_job(job_reason), &pods, None);
            assert_eq!((cause.reason.name(), cause.retryable), (reason, retryable));
            assert!(!cause.message.is_empty());
        }
    }

    #[test]
    fn a_pod_that_the_cluster_ended_does_not_speak_for_the_request() {
        let mut evicted = (*failed_pod(75, "")).clone();
        evicted.disrupted = true;
        evicted.created = Some("2026-01-02T00:00:00Z".parse().unwrap());
        let pods = [failed_pod(65, ""), Arc::new(evicted)];
        assert_eq!(newest_failure(&pods).unwrap().exit_code, 65);
    }
}
