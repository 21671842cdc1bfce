//! Whether the program can do its part, and if not, what is missing: what `/readyz` says.
//!
//! A replica that waits is ready: it can take over. One that works is ready once its caches are
//! filled and as long as the API server lets it read.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What a replica does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It has not begun, or is about to end.
    #[default]
    Idle,
    /// It waits for the Lease.
    Waiting,
    /// It works.
    Working,
}

/// A refusal is told for so long: the API server is asked again at least every 30 s, and says nothing
/// when it lets the program read again.
const TOLD: Duration = Duration::from_secs(45);

#[derive(Clone, Debug, Default)]
struct Cache {
    filled: bool,
    /// The API server's last refusal, and when it came.
    refused: Option<(String, Instant)>,
}

impl Cache {
    fn trouble(&self) -> Option<String> {
        let refused = self.refused.as_ref();
        match refused.filter(|(_, at)| at.elapsed() < TOLD) {
            Some((why, _)) => Some(format!("refused: {why}")),
            None if self.filled => None,
            None => Some("not filled yet".to_owned()),
        }
    }
}

#[derive(Default)]
struct Shared {
    role: Role,
    caches: BTreeMap<String, Cache>,
}

/// The state of the program. Clones share it.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<Shared>>);

impl Readiness {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the replica does this.
    pub fn set(&self, role: Role) {
        self.lock().role = role;
    }

    /// Adds a cache, of a resource and in a namespace; none for all namespaces.
    pub fn cache(&self, resource: &str, namespace: Option<&str>) -> CacheReadiness {
        let name = match namespace {
            Some(namespace) => format!("{resource} in {namespace}"),
            None => resource.to_owned(),
        };
        let cache = CacheReadiness {
            readiness: self.clone(),
            name,
        };
        cache.note(|_| {});
        cache
    }

    /// Whether all is well, and a line for each thing that this depends on.
    pub fn report(&self) -> (bool, String) {
        let shared = self.lock();
        let mut text = String::new();
        let mut ready = true;
        let mut line = |good: bool, what: &str| {
            ready &= good;
            let sign = if good { '+' } else { '-' };
            let _ = writeln!(text, "[{sign}] {what}");
        };
        match shared.role {
            Role::Idle => line(false, "replica: neither works nor waits to work"),
            Role::Waiting => line(true, "replica: waits to take over"),
            Role::Working if shared.caches.is_empty() => line(false, "replica: begins"),
            Role::Working => line(true, "replica: works"),
        }
        for (name, cache) in &shared.caches {
            match cache.trouble() {
                None => line(true, &format!("cache of {name}: filled")),
                Some(trouble) => line(false, &format!("cache of {name}: {trouble}")),
            }
        }
        (ready, text)
    }
}

/// The part of one cache.
#[derive(Clone)]
pub struct CacheReadiness {
    readiness: Readiness,
    name: String,
}

impl CacheReadiness {
    fn note(&self, change: impl FnOnce(&mut Cache)) {
        let mut shared = self.readiness.lock();
        change(shared.caches.entry(self.name.clone()).or_default());
    }

    /// The API server has told all there is.
    pub fn filled(&self) {
        self.note(|cache| {
            cache.filled = true;
            cache.refused = None;
        });
    }

    /// The API server does not let the program read.
    pub fn refused(&self, why: &str) {
        self.note(|cache| cache.refused = Some((why.to_owned(), Instant::now())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_waits_is_ready() {
        let readiness = Readiness::default();
        assert!(!readiness.report().0);
        readiness.set(Role::Waiting);
        let expected = (true, "[+] replica: waits to take over\n".to_owned());
        assert_eq!(readiness.report(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_works_is_ready_once_it_knows_everything() {
        let readiness = Readiness::default();
        readiness.set(Role::Working);
        assert!(!readiness.report().0, "it knows nothing yet");
        let jobs = readiness.cache("jobs", Some("alice"));
        let pods = readiness.cache("pods", None);
        jobs.filled();
        let (ready, text) = readiness.report();
        assert!(!ready);
        assert_eq!(
            text,
            "[+] replica: works\n[+] cache of jobs in alice: filled\n\
             [-] cache of pods: not filled yet\n"
        );
        pods.filled();
        assert!(readiness.report().0);
        jobs.refused("jobs is forbidden");
        let (ready, text) = readiness.report();
        assert!(!ready && text.contains("[-] cache of jobs in alice: refused: jobs is forbidden"));
        tokio::time::sleep(TOLD).await;
        assert!(readiness.report().0, "what is not refused again is granted");
    }
}
