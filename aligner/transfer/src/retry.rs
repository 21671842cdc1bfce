//! When to try again, and when to give up.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use super::{
    Network,
    error::{Fault, NetError},
    limits::Limits,
};
use crate::stop::Cancel;

/// How an operation has gone so far.
#[derive(Clone, Copy, Debug, Default)]
struct Course {
    /// Tries so far, all of them in vain.
    tries: u32,
    /// Time that waiting and fruitless tries took.
    spent: Duration,
}

/// The pause before the next try; `None` if there shall be none. `chance` is uniform in 0 to 1.
///
/// Half of the pause is fixed and half is left to chance, so that many pods that lost one server do
/// not come back at the same moment.
fn next_pause(
    limits: &Limits,
    course: Course,
    asked: Option<Duration>,
    chance: f64,
) -> Option<Duration> {
    if course.tries >= limits.tries {
        return None;
    }
    let doublings = course.tries.saturating_sub(1).min(16);
    let full = limits
        .first_pause
        .saturating_mul(1 << doublings)
        .min(limits.longest_pause);
    let own = full.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0));
    let pause = own.max(asked.unwrap_or_default());
    (course.spent.saturating_add(pause) < limits.patience).then_some(pause)
}

/// Uniform in 0 to 1; only pauses depend on it.
fn chance() -> f64 {
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Tries an operation until it succeeds, fails for good, or was tried enough.
pub(super) fn until_done<T>(
    network: &Network,
    url: &str,
    stop: &dyn Cancel,
    mut operation: impl FnMut() -> Result<T, Fault>,
) -> Result<T, NetError> {
    let mut course = Course::default();
    loop {
        let began = network.clock.now();
        let (problem, wait, progress) = match operation() {
            Ok(value) => return Ok(value),
            Err(Fault::Final(NetError::Unavailable { url, problem, .. })) => {
                return Err(NetError::Unavailable {
                    url,
                    problem,
                    tries: course.tries + 1,
                });
            }
            Err(Fault::Final(error) | Fault::Elsewhere { refusal: error, .. }) => {
                return Err(error);
            }
            Err(Fault::Passing {
                problem,
                wait,
                progress,
            }) => (problem, wait, progress),
        };
        course.tries += 1;
        if !progress {
            course.spent += network.clock.now().saturating_sub(began);
        }
        let Some(pause) = next_pause(&network.limits, course, wait, chance()) else {
            return Err(NetError::Unavailable {
                url: url.to_owned(),
                problem,
                tries: course.tries,
            });
        };
        network.clock.pause(pause, stop)?;
        course.spent += pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(limits: &Limits, asked: Option<Duration>, chance: f64) -> (u32, Duration) {
        let mut course = Course::default();
        loop {
            course.tries += 1;
            match next_pause(limits, course, asked, chance) {
                Some(pause) => course.spent += pause,
                None => return (course.tries, course.spent),
            }
        }
    }

    #[test]
    fn there_are_at_most_eight_tries_within_five_minutes() {
        let limits = Limits::default();
        for step in 0..=100_u32 {
            for asked in [
                None,
                Some(0),
                Some(1),
                Some(30),
                Some(59),
                Some(100),
                Some(1 << 40),
            ] {
                let asked = asked.map(Duration::from_secs);
                let (tries, spent) = total(&limits, asked, f64::from(step) / 100.0);
                assert!((1..=8).contains(&tries));
                assert!(spent < Duration::from_secs(300), "{spent:?}");
            }
        }
        assert_eq!(total(&limits, None, 1.0).0, 8);
    }

    #[test]
    fn a_server_is_given_the_time_that_it_asks_for_or_none() {
        let limits = Limits::default();
        let first = Course {
            tries: 1,
            spent: Duration::ZERO,
        };
        let asked = |seconds| next_pause(&limits, first, Some(Duration::from_secs(seconds)), 0.5);
        assert_eq!(asked(120), Some(Duration::from_secs(120)));
        assert_eq!(asked(301), None);
        assert_eq!(asked(0), Some(Duration::from_millis(375)));
    }

    #[test]
    fn pauses_differ() {
        let all: std::collections::BTreeSet<u64> =
            (0..32).map(|_| (chance() * 1e15) as u64).collect();
        assert!(all.len() > 30);
    }
}
