//! How a transfer, or whatever else takes long, learns that it should stop.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the program's signal handler.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Tells whether to go on.
pub trait Cancel: Sync {
    /// True once the process was asked to stop; the work then returns early.
    fn cancelled(&self) -> bool {
        INTERRUPTED.load(Ordering::Relaxed)
    }
}

/// Stops at a signal, and for nothing else.
#[derive(Clone, Copy, Debug)]
pub struct AtSignal;

impl Cancel for AtSignal {}

/// The work was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped by a signal before the end")]
pub struct Interrupted;

/// `Err` once the work was asked to stop.
///
/// # Errors
/// [`Interrupted`] if `stop` says so.
pub fn check(stop: &dyn Cancel) -> Result<(), Interrupted> {
    if stop.cancelled() {
        Err(Interrupted)
    } else {
        Ok(())
    }
}
