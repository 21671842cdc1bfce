//! Whole-crate tests of the registration, on phantoms with a known answer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail by panicking"
)]

mod accuracy;
mod errors;
mod invariance;
mod landmarks;
mod phantom;
