//! How a running computation tells where it is, and learns that it should stop.

use std::sync::atomic::Ordering;

pub use transfer::stop::{Cancel, INTERRUPTED, Interrupted, check};

/// Where a computation within one stage has got to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Step {
    /// Share of the stage that is done, 0 to 1.
    pub fraction: f64,
    /// Pyramid level, 0 = coarsest.
    pub level: Option<u32>,
    /// Iteration within the level, from 1.
    pub iteration: Option<u32>,
    /// Value that the iteration makes smaller.
    pub metric: Option<f64>,
}

/// Receives progress and tells whether to go on. Called between iterations, never in inner loops.
pub trait Observer: Cancel {
    /// Progress within the current stage.
    fn step(&self, step: &Step);
}

/// `Err` once the process was asked to stop; for loops over the bytes of a file.
///
/// # Errors
/// An [`std::io::Error`] that holds [`Interrupted`]. Its kind is not `Interrupted`: the standard
/// library repeats calls that end with that one.
pub fn check_io() -> std::io::Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        Err(std::io::Error::other(Interrupted))
    } else {
        Ok(())
    }
}

/// Whether a call ended because the process was asked to stop.
pub fn is_interrupted(error: &std::io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<Interrupted>)
}

/// Reports nothing.
pub struct Silent;

impl Cancel for Silent {}

impl Observer for Silent {
    fn step(&self, _: &Step) {}
}
