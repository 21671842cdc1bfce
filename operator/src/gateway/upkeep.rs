//! What the gateway does by itself: a token goes when its request has ended, a request without its
//! token goes, and so does one that ended long ago.
//!
//! Every replica does it, for nobody says who should: what is gone already is no error.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::requests::{Changes, Requests};
use crate::conditions::{ConditionType, Reason};
use crate::error::Error;
use crate::request::Request;

/// Deletions at the same time; as many more wait.
const CONCURRENT: usize = 8;
/// First pause after a deletion that failed; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often old requests are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// What is to be done about a request.
#[derive(Clone, Debug, PartialEq)]
enum Chore {
    /// Its token is of no use any more.
    ForgetToken(String),
    /// It says that it has no token. If that is so, nobody was ever told of it.
    Doubt(Arc<Request>),
}

/// Does its work until the token is cancelled.
pub async fn run(
    requests: Requests,
    changes: Vec<Changes>,
    keep: Duration,
    stop: CancellationToken,
) {
    // The caches are filled whatever becomes of the chores.
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let watch = futures::stream::select_all(changes).for_each(|event| {
        if let Some(chore) = event.ok().and_then(chore) {
            let _ = sender.send(chore);
        }
        futures::future::ready(())
    });
    let work = futures::stream::poll_fn(move |context| receiver.poll_recv(context))
        .for_each_concurrent(CONCURRENT, |chore| {
            let requests = requests.clone();
            async move { until_done(&requests, &chore).await }
        });
    tokio::select! {
        () = watch => {}
        () = work => {}
        () = sweep(&requests, keep) => {}
        () = stop.cancelled() => {}
    }
}

fn chore(event: Event<Request>) -> Option<Chore> {
    match event {
        Event::Apply(request) | Event::InitApply(request) => of(request),
        Event::Delete(request) => Some(Chore::ForgetToken(request.name_any())),
        Event::Init | Event::InitDone => None,
    }
}

fn of(request: Request) -> Option<Chore> {
    if request.is_finished() {
        return Some(Chore::ForgetToken(request.name_any()));
    }
    let conditions = request.status.iter().flat_map(|status| &status.conditions);
    let missing = conditions.into_iter().any(|condition| {
        condition.type_ == ConditionType::Progressing.name()
            && condition.reason == Reason::CredentialMissing.name()
    });
    missing.then(|| Chore::Doubt(Arc::new(request)))
}

async fn until_done(requests: &Requests, chore: &Chore) {
    let mut pause = FIRST_PAUSE;
    while let Err(error) = attempt(requests, chore).await {
        tracing::warn!(%error, "to be tried again");
        tokio::time::sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

async fn attempt(requests: &Requests, chore: &Chore) -> Result<(), Error> {
    match chore {
        Chore::ForgetToken(name) => requests.forget_token(name).await,
        Chore::Doubt(request) => {
            // The operator says so a minute after the pod: by then, the Secret was made, or never.
            let name = request.name_any();
            if !requests.lacks_token(&name).await? {
                return Ok(());
            }
            tracing::warn!(request = name, "request without its Secret is removed");
            requests.delete(request.kind(), &request.metadata).await
        }
    }
}

async fn sweep(requests: &Requests, keep: Duration) {
    requests.until_known().await;
    loop {
        let now = k8s_openapi::jiff::Timestamp::now();
        for request in requests.all() {
            if is_old(&request, now.as_second(), keep)
                && let Err(error) = requests.delete(request.kind(), &request.metadata).await
            {
                tracing::warn!(%error, request = request.name_any(), "old request not removed");
            }
        }
        tokio::time::sleep(SWEEP_EVERY).await;
    }
}

fn is_old(request: &Request, now: i64, keep: Duration) -> bool {
    let ended = request
        .status
        .as_ref()
        .and_then(|status| status.completion_time.as_ref());
    let age = ended.map(|ended| now.saturating_sub(ended.0.as_second()));
    request.is_finished() && age.is_some_and(|age| age > keep.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validate::tests::with;

    #[test]
    fn the_end_of_a_request_is_the_end_of_its_token() {
        let forget = Some(Chore::ForgetToken("hoc1".to_owned()));
        for (phase, expected) in [
            ("Pending", None),
            ("Running", None),
            ("Succeeded", forget.clone()),
            ("Cancelled", forget.clone()),
            ("Failed", forget),
        ] {
            assert_eq!(
                of(with(&[("/status", json!({"phase": phase}))])),
                expected,
                "{phase}"
            );
        }
    }

    #[test]
    fn one_that_says_it_has_no_token_is_looked_into() {
        let condition = json!({"type": "Progressing", "status": "False", "message": "",
            "reason": "CredentialMissing", "lastTransitionTime": "2026-01-01T10:00:00Z"});
        let status = json!({"phase": "Pending", "conditions": [condition]});
        assert!(matches!(
            of(with(&[("/status", status)])),
            Some(Chore::Doubt(_))
        ));
    }

    #[test]
    fn only_what_ended_long_ago_is_old() {
        let day = Duration::from_secs(86_400);
        let status = |phase: &str| {
            let status = json!({"phase": phase, "completionTime": "2026-01-01T00:00:00Z"});
            with(&[("/status", status)])
        };
        let ended = 1_767_225_600;
        assert!(!is_old(&status("Succeeded"), ended + 86_400, day));
        assert!(is_old(&status("Succeeded"), ended + 86_401, day));
        assert!(!is_old(&status("Running"), ended + 86_401, day));
        assert!(!is_old(&with(&[]), ended + 86_401, day));
    }
}
