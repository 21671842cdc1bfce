//! From a validated request to its Job. Pure: the same input gives the same object.
//!
//! Nothing of a request reaches the pod but the document (an annotation), the names of its claims
//! and of its Secret, those of the installation's origins that it speaks to, and the amounts of
//! memory and CPU. There is no way for a request to set an image, a command, an
//! environment, a service account or a place to run.

pub mod job;
pub mod metadata;
pub mod pictures;
pub mod pod;

pub use job::job;

use crate::quantity::Memory;

/// Which attempt a Job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: i32,
    /// Memory instead of the request's, after an attempt that had too little.
    pub right_sized: Option<Memory>,
}

impl Attempt {
    /// The first attempt.
    pub const FIRST: Self = Self {
        number: 1,
        right_sized: None,
    };
}
