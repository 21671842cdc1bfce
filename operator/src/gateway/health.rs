//! Whether requests are worked on: an operator holds the Lease and renews it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::leader::LEASE;

/// Longest time until there is an answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// An answer is good for so long, for everybody.
const GOOD_FOR: Duration = Duration::from_secs(5);
/// A Lease that was renewed within this time is held. Renewals come every two seconds; clocks of
/// machines differ.
const FRESH_SECONDS: i64 = 60;

type Answer = Result<(), String>;

/// Looks at the operator's Lease, seldom.
#[derive(Clone)]
pub struct WorkerHealth {
    api: Api<Lease>,
    last: Arc<Mutex<Option<(Instant, Answer)>>>,
}

impl WorkerHealth {
    /// Looks at the Lease of a namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            last: Arc::default(),
        }
    }

    /// Whether an operator works; within five seconds, whatever happens.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn look(&self) -> Answer {
        let asked = async {
            let mut last = self.last.lock().await;
            if let Some((at, answer)) = &*last
                && at.elapsed() < GOOD_FOR
            {
                return answer.clone();
            }
            let answer = match self.api.get_opt(LEASE).await {
                Ok(lease) => judge(lease.as_ref(), Timestamp::now()),
                Err(error) => {
                    tracing::warn!(%error, "Lease not read");
                    Err("the cluster does not answer".to_owned())
                }
            };
            *last = Some((Instant::now(), answer.clone()));
            answer
        };
        let late = || Err("the cluster does not answer in time".to_owned());
        tokio::time::timeout(PATIENCE, asked)
            .await
            .unwrap_or_else(|_| late())
    }
}

fn judge(lease: Option<&Lease>, now: Timestamp) -> Answer {
    let spec = lease.and_then(|lease| lease.spec.as_ref());
    let held = spec
        .and_then(|spec| spec.holder_identity.as_deref())
        .is_some_and(|holder| !holder.is_empty());
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref());
    let age = renewed.map(|renewed| now.as_second() - renewed.0.as_second());
    match (held, age) {
        (true, Some(age)) if age <= FRESH_SECONDS => Ok(()),
        (true, _) => Err("the operator has not been heard of for more than a minute".to_owned()),
        (false, _) => Err("no operator works on requests".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lease_that_is_held_and_renewed_means_that_work_goes_on() {
        let now: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
        let lease = |holder: &str, renewed: &str| -> Lease {
            serde_json::from_value(json!({"metadata": {},
                "spec": {"holderIdentity": holder, "renewTime": renewed}}))
            .unwrap()
        };
        let fresh = "2026-01-01T09:59:30.000000Z";
        assert_eq!(judge(Some(&lease("a", fresh)), now), Ok(()));
        for (lease, expected) in [
            (
                Some(lease("a", "2026-01-01T09:50:00.000000Z")),
                "more than a minute",
            ),
            (Some(lease("", fresh)), "no operator"),
            (None, "no operator"),
        ] {
            let found = judge(lease.as_ref(), now).unwrap_err();
            assert!(found.contains(expected), "{found}");
        }
    }
}
