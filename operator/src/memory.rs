//! What the operator remembers about a request between two reconciles.
//!
//! Nothing here has to survive a restart: it is what the watches have not shown yet, and how long
//! something has been waited for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use tokio::time::Instant;

use crate::apply::Refusal;
use crate::observe::job::{attempt, version};
use crate::request::Request;

/// Own writes of Jobs are believed for so long; after that, only what the watch shows counts.
const BELIEF: Duration = Duration::from_secs(30);
/// First pause after a refused Job; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

#[derive(Default)]
struct Entry {
    request: Option<Arc<Request>>,
    job: Option<(Arc<Job>, Instant)>,
    seen_attempt: i32,
    seen_version: u64,
    failures: u32,
    conflicts: u32,
    awaiting_report_since: Option<Instant>,
    refusal: Option<(Refusal, Instant, u32)>,
}

/// Notes on every request, by uid.
#[derive(Default)]
pub struct Memory {
    entries: Mutex<HashMap<String, Entry>>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update<T>(&self, uid: &str, change: impl FnOnce(&mut Entry) -> T) -> T {
        change(self.lock().entry(uid.to_owned()).or_default())
    }

    fn read<T>(&self, uid: &str, look: impl FnOnce(&Entry) -> Option<T>) -> Option<T> {
        self.lock().get(uid).and_then(look)
    }

    /// The newer of what the watch shows and what the operator wrote itself.
    pub fn freshest(&self, seen: &Arc<Request>) -> Arc<Request> {
        let uid = seen.uid().unwrap_or_default();
        self.read(&uid, |entry| entry.request.clone())
            .filter(|written| version(&**written) > version(&**seen))
            .unwrap_or_else(|| seen.clone())
    }

    /// Notes a request as the API server returned it from a write.
    pub fn wrote_request(&self, mut request: Request) {
        request.managed_fields_mut().clear();
        let uid = request.uid().unwrap_or_default();
        self.update(&uid, |entry| entry.request = Some(Arc::new(request)));
    }

    /// Forgets own writes that the watch has shown.
    pub fn saw_request(&self, seen: &Request) {
        let uid = seen.uid().unwrap_or_default();
        self.update(&uid, |entry| {
            let shown = |written: &mut Arc<Request>| version(&**written) <= version(seen);
            entry.request.take_if(shown);
            entry.seen_version = entry.seen_version.max(version(seen));
        });
    }

    /// Whether the watch has shown a newer state of the request before. A server that is behind may
    /// list it as it was, and what was done since must not be done again.
    pub fn is_outdated(&self, request: &Request) -> bool {
        let uid = request.uid().unwrap_or_default();
        self.read(&uid, |entry| Some(entry.seen_version))
            .is_some_and(|seen| version(request) < seen)
    }

    /// Notes a Job as the API server returned it from a write.
    pub fn wrote_job(&self, uid: &str, job: Job) {
        self.update(uid, |entry| {
            entry.job = Some((Arc::new(job), Instant::now()));
        });
    }

    /// The Job that was written last, if that is not long ago.
    pub fn written_job(&self, uid: &str) -> Option<Arc<Job>> {
        self.read(uid, |entry| {
            let (job, at) = entry.job.as_ref()?;
            (at.elapsed() < BELIEF).then(|| job.clone())
        })
    }

    /// Notes which attempt the watch has shown.
    pub fn saw_job(&self, job: &Job) {
        for owner in job.owner_references() {
            self.update(&owner.uid, |entry| {
                entry.seen_attempt = entry.seen_attempt.max(attempt(job));
            });
        }
    }

    /// The newest attempt that the watch has shown; 0 if none.
    pub fn seen_attempt(&self, uid: &str) -> i32 {
        self.read(uid, |entry| Some(entry.seen_attempt))
            .unwrap_or(0)
    }

    /// Notes that the operator has deleted the Job that it wrote last.
    pub fn deleted_job(&self, uid: &str) {
        self.update(uid, |entry| entry.job = None);
    }

    /// Forgets a Job that the watch has shown to be deleted.
    pub fn saw_job_deleted(&self, job: &Job) {
        for owner in job.owner_references() {
            if let Some(entry) = self.lock().get_mut(&owner.uid) {
                entry.job.take_if(|(written, _)| written.uid() == job.uid());
            }
        }
    }

    /// Counts a failed reconcile; gives the number of its kind in a row. Conflicts count by
    /// themselves: they pass as soon as the watch catches up, and say nothing about a real failure.
    pub fn failed(&self, uid: &str, conflict: bool) -> u32 {
        self.update(uid, |entry| {
            let count = if conflict {
                &mut entry.conflicts
            } else {
                &mut entry.failures
            };
            *count = count.saturating_add(1);
            *count
        })
    }

    /// A reconcile reached its end.
    pub fn succeeded(&self, uid: &str) {
        if let Some(entry) = self.lock().get_mut(uid) {
            entry.failures = 0;
            entry.conflicts = 0;
        }
    }

    /// How long the report of a finished pod has been waited for, from the first question on.
    pub fn awaiting_report(&self, uid: &str) -> Duration {
        self.update(uid, |entry| {
            let since = entry.awaiting_report_since;
            entry.awaiting_report_since = Some(since.unwrap_or_else(Instant::now));
            since.map_or(Duration::ZERO, |since| since.elapsed())
        })
    }

    /// The time for which the report has been waited for; zero if it has not been.
    pub fn report_awaited_for(&self, uid: &str) -> Duration {
        self.read(uid, |entry| entry.awaiting_report_since)
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Notes that a Job was refused; gives the pause until the next try.
    pub fn refused(&self, uid: &str, refusal: &Refusal) -> Duration {
        self.update(uid, |entry| {
            let times = entry.refusal.as_ref().map_or(0, |(_, _, times)| *times);
            let pause = LONGEST_PAUSE.min(FIRST_PAUSE * (1 << times.min(5)));
            entry.refusal = Some((refusal.clone(), Instant::now() + pause, times + 1));
            pause
        })
    }

    /// The last refusal and the rest of its pause, while that lasts.
    pub fn pause(&self, uid: &str) -> Option<(Refusal, Duration)> {
        self.read(uid, |entry| {
            let (refusal, until, _) = entry.refusal.as_ref()?;
            let rest = until.checked_duration_since(Instant::now())?;
            Some((refusal.clone(), rest))
        })
    }

    /// Forgets a request.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validate::tests::with;

    fn at_version(version: u64) -> Request {
        with(&[("/metadata/resourceVersion", json!(version.to_string()))])
    }

    #[test]
    fn an_own_write_is_believed_until_the_watch_shows_it() {
        let memory = Memory::default();
        let seen = Arc::new(at_version(10));
        memory.wrote_request(at_version(12));
        assert_eq!(version(&*memory.freshest(&seen)), 12);
        memory.saw_request(&at_version(11));
        assert_eq!(version(&*memory.freshest(&seen)), 12);
        memory.saw_request(&at_version(12));
        assert_eq!(version(&*memory.freshest(&seen)), 10);
    }

    #[test]
    fn a_request_as_it_was_before_is_outdated() {
        let memory = Memory::default();
        assert!(!memory.is_outdated(&at_version(10)));
        for version in [10, 12, 11] {
            memory.saw_request(&at_version(version));
        }
        for (version, outdated) in [(11, true), (12, false), (13, false)] {
            assert_eq!(
                memory.is_outdated(&at_version(version)),
                outdated,
                "{version}"
            );
        }
    }

    #[test]
    fn an_older_write_does_not_hide_what_the_watch_shows() {
        let memory = Memory::default();
        memory.wrote_request(at_version(12));
        let seen = Arc::new(at_version(13));
        assert_eq!(version(&*memory.freshest(&seen)), 13);
    }

    #[test]
    fn refusals_are_answered_with_longer_and_longer_pauses() {
        let memory = Memory::default();
        let refusal = Refusal {
            reason: crate::conditions::Reason::QuotaExceeded,
            message: "no".into(),
        };
        assert_eq!(memory.pause("u"), None);
        let pauses: Vec<_> = (0..8).map(|_| memory.refused("u", &refusal)).collect();
        assert_eq!(pauses[0], FIRST_PAUSE);
        assert_eq!(pauses[7], LONGEST_PAUSE);
        assert_eq!(memory.pause("u").unwrap().0, refusal);
        memory.forget("u");
        assert_eq!(memory.pause("u"), None);
    }
}
