//! `operator static-data` as a program, against a real web server: killed, cheated, raced.
//!
//! `VOLUBA_STATIC_DATA_BYTES` is the size of the file that is killed at random points; `make soak
//! SUITE=delivery` sets it to that of a whole-brain template.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a broken expectation fails the test"
)]

mod kills;
mod places;
mod scene;
mod server;
mod servers;
