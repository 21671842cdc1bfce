//! Where an exchange runs.

use std::{fmt::Debug, io, thread};

/// What a worker does.
pub type Work = Box<dyn FnOnce() + Send>;

/// Runs what may wait for ever; replaced in tests.
pub trait Workers: Debug + Send + Sync {
    /// Begins the work, and need not wait for its end.
    ///
    /// # Errors
    /// Whatever the system says; the work has not begun then.
    fn begin(&self, work: Work) -> io::Result<()>;
}

/// A thread for each.
#[derive(Debug)]
pub struct Threads;

impl Workers for Threads {
    fn begin(&self, work: Work) -> io::Result<()> {
        thread::Builder::new().spawn(work).map(drop)
    }
}
