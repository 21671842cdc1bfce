//! How often one caller may call.

use std::num::NonZero;
use std::sync::Arc;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::identity::Caller;

/// Callers that are remembered before those are forgotten that have been quiet.
const MOST_REMEMBERED: usize = 10_000;

type Limiter = RateLimiter<Caller, HashMapStateStore<Caller>, DefaultClock>;

/// A limit for each caller, by itself in each replica.
#[derive(Clone)]
pub struct Rate(Arc<Limiter>);

impl Rate {
    /// So many calls a minute, all of which may come at once.
    pub fn per_minute(calls: NonZero<u32>) -> Self {
        Self(Arc::new(RateLimiter::hashmap(Quota::per_minute(calls))))
    }

    /// Counts a call.
    ///
    /// # Errors
    /// The seconds until the next one is allowed.
    pub fn count(&self, caller: &Caller) -> Result<(), u64> {
        if self.0.len() > MOST_REMEMBERED {
            self.0.retain_recent();
        }
        self.0.check_key(caller).map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            wait.as_secs() + 1
        })
    }
}
