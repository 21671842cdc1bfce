//! How long and how much: the limits of transfers, and the time they are measured in.

use std::{
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

use crate::stop::{self, Cancel, Interrupted};

/// Limits of a transfer. The defaults are those that the documentation states.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Tries of one operation.
    pub tries: u32,
    /// Time for waiting and for tries that bring nothing, of one operation.
    pub patience: Duration,
    /// Pause after the first failure; doubled after each further one.
    pub first_pause: Duration,
    /// Longest pause, unless the server asks for a longer one.
    pub longest_pause: Duration,
    /// Time to connect, encryption included.
    pub connect: Duration,
    /// Span over which the rate is judged.
    pub window: Duration,
    /// Bytes that must move within each such span, in either direction.
    pub window_bytes: u64,
    /// Time of one transfer.
    pub deadline: Duration,
    /// Bytes that all downloads of a run may have together.
    pub download_bytes: u64,
    /// Bytes of an image service's list.
    pub list_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tries: 8,
            patience: Duration::from_secs(300),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            // 10 kB/s.
            window: Duration::from_secs(60),
            window_bytes: 600_000,
            deadline: Duration::from_secs(2 * 3600),
            download_bytes: 16 << 30,
            list_bytes: 64 << 20,
        }
    }
}

/// How pauses pass; replaced in tests.
pub trait Clock: Debug + Send + Sync {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;

    /// Waits, but no longer than the process may run.
    ///
    /// # Errors
    /// [`Interrupted`] as soon as `stop` says so.
    fn pause(&self, time: Duration, stop: &dyn Cancel) -> Result<(), Interrupted>;
}

/// Time as it is.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

/// How often a wait looks for a signal.
pub(super) const TICK: Duration = Duration::from_millis(20);

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn pause(&self, time: Duration, stop: &dyn Cancel) -> Result<(), Interrupted> {
        let end = Instant::now() + time;
        loop {
            stop::check(stop)?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(TICK));
        }
    }
}
