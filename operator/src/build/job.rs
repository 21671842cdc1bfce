//! The Job: how often it is tried, when it gives up, who starts it.

use alignment_api::{ExitCode, RetryClass};
use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};

use super::{Attempt, metadata, pod};
use crate::request::Request;
use crate::settings::Settings;
use crate::validate::ValidatedRequest;

/// Pods that may fail for reasons that can pass, before the Job fails.
const BACKOFF_LIMIT: i32 = 3;
/// The kernel ended the process, as a rule for want of memory: the same limit gives the same end.
/// A pod that a node removes is killed like this, too, but the rule for disruptions comes first.
pub const KILLED: i32 = 137;

/// The Job of one attempt.
pub fn job(
    request: &Request,
    valid: &ValidatedRequest,
    attempt: Attempt,
    settings: &Settings,
) -> Job {
    let memory = attempt.right_sized.unwrap_or(valid.memory);
    let queued = metadata::queue(request).is_some();
    Job {
        metadata: metadata::job_metadata(request, attempt, memory),
        spec: Some(JobSpec {
            active_deadline_seconds: Some(request.spec.active_deadline_seconds()),
            backoff_limit: Some(BACKOFF_LIMIT),
            completions: Some(1),
            parallelism: Some(1),
            pod_failure_policy: Some(pod_failure_policy()),
            // Never two pods at once: they would write to the same destination.
            pod_replacement_policy: Some("Failed".to_owned()),
            suspend: Some(queued || request.spec.suspend()),
            template: pod::template(request, valid, memory, settings),
            // No TTL: the Job may vanish only after its end stands in the request's status.
            ttl_seconds_after_finished: None,
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn pod_failure_policy() -> PodFailurePolicy {
    let disruption = PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_exit_codes: None,
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            status: "True".to_owned(),
            type_: "DisruptionTarget".to_owned(),
        }]),
    };
    let on_exit = |action: &str, values| PodFailurePolicyRule {
        action: action.to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(pod::CONTAINER.to_owned()),
            operator: "In".to_owned(),
            values,
        }),
        on_pod_conditions: None,
    };
    PodFailurePolicy {
        rules: vec![
            disruption,
            // The next pod comes later than the last one did, at most ten minutes after it.
            on_exit("Ignore", codes(&[RetryClass::UntilDeadline])),
            on_exit("FailJob", hopeless_codes()),
        ],
    }
}

/// Exit codes of these classes, ascending.
fn codes(classes: &[RetryClass]) -> Vec<i32> {
    ExitCode::ALL
        .into_iter()
        .filter(|exit| *exit != ExitCode::Success && classes.contains(&exit.retry_class()))
        .map(|exit| i32::from(exit.code()))
        .collect()
}

/// Exit codes after which the same pod would only fail again, ascending.
pub fn hopeless_codes() -> Vec<i32> {
    let mut codes = codes(&[RetryClass::Never, RetryClass::RightSizeOnce]);
    codes.push(KILLED);
    codes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validate::{tests::with, validate};

    fn suspended(changes: &[(&str, serde_json::Value)]) -> bool {
        let settings = Settings::with_image("i");
        let request = with(changes);
        let valid = validate(&request, &settings).unwrap();
        let job = job(&request, &valid, Attempt::FIRST, &settings);
        job.spec.unwrap().suspend.unwrap()
    }

    #[test]
    fn a_queue_or_the_request_holds_the_job_back() {
        assert!(!suspended(&[]));
        assert!(suspended(&[("/spec/suspend", json!(true))]));
        let queue = json!({metadata::QUEUE: "team"});
        assert!(suspended(&[("/metadata/labels", queue)]));
    }

    #[test]
    fn only_what_can_pass_is_tried_again() {
        assert_eq!(hopeless_codes(), [64, 65, 66, 67, 71, 73, 76, 77, KILLED]);
        assert_eq!(codes(&[RetryClass::UntilDeadline]), [68]);
    }
}
