//! Mutated inputs, in this process, from a seed: nothing may panic, hang, or take more memory than its
//! input allows. A new target is a row of `TARGETS`.
//!
//! `VOLUBA_FUZZ_SECONDS` (2 for each target) or `VOLUBA_FUZZ_INPUTS` say how much, `VOLUBA_FUZZ_TARGET`
//! which, `VOLUBA_FUZZ_SEED` from where. An input that panics is named by the seed of its round.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a broken expectation fails the test, and figures are printed"
)]

mod document;
mod mutate;
#[path = "../support/nifti_file.rs"]
mod nifti_file;
mod replies;
mod url;
mod volume;
mod wire;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use peak_alloc::PeakAlloc;

#[global_allocator]
pub(crate) static MEMORY: PeakAlloc = PeakAlloc;

/// How far an input got.
pub(crate) enum Reached {
    /// Refused at the door: not the format at all.
    Nothing,
    /// The outer form was right, something inside was not.
    Inside,
    /// Accepted.
    End,
}

/// One thing that reads what others wrote.
struct Target {
    name: &'static str,
    /// Makes an input, reads it, and checks what must hold.
    round: fn(&mut Rng) -> Reached,
}

const TARGETS: &[Target] = &[
    Target {
        name: "header",
        round: volume::header,
    },
    Target {
        name: "volume",
        round: volume::plain,
    },
    Target {
        name: "gz-stream",
        round: volume::compressed,
    },
    Target {
        name: "request-document",
        round: document::request,
    },
    Target {
        name: "service-replies",
        round: replies::service,
    },
    Target {
        name: "url-policy",
        round: url::policy,
    },
];

/// Inputs of each target that are once recorded.
const ENOUGH: u64 = 10_000_000;
/// Time of each target in `make soak`.
const LONG: Duration = Duration::from_secs(60);
/// Inputs so far beyond the first of their round: one call asks a service several times, and each answer
/// is one.
pub(crate) static FURTHER: AtomicU64 = AtomicU64::new(0);
/// Panics so far, those of other threads included: whoever waits for them may not notice.
static PANICS: AtomicU64 = AtomicU64::new(0);

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            print(panic);
        }));
    });
}

/// No single input may take longer.
const LONGEST: Duration = Duration::from_secs(5);

#[test]
fn no_input_makes_a_reader_panic_hang_or_take_memory() {
    let setting = |name: &str| std::env::var(name).ok();
    let number = |name: &str| setting(name).map(|text| text.parse::<u64>().unwrap());
    let seconds = Duration::from_secs(number("VOLUBA_FUZZ_SECONDS").unwrap_or(2));
    let inputs = number("VOLUBA_FUZZ_INPUTS");
    let seed = number("VOLUBA_FUZZ_SEED").unwrap_or(1);
    let chosen = setting("VOLUBA_FUZZ_TARGET");
    let mut ran = 0;
    count_panics();
    for target in TARGETS {
        if chosen.as_ref().is_none_or(|name| name == target.name) {
            fuzz(target, seed, seconds, inputs);
            ran += 1;
        }
    }
    assert!(ran > 0, "no target of that name");
}

/// Runs one round. A busy machine may hold the process for seconds: what is slow twice is slow.
fn timed(target: &Target, round: u64, seed: u64, slowest: &mut Duration) -> Reached {
    for _ in 0..2 {
        let from = Instant::now();
        let reached = catch_unwind(AssertUnwindSafe(|| {
            (target.round)(&mut Rng::with_seed(round))
        }));
        // The message of the panic itself has been printed by then.
        let (Ok(reached), 0) = (reached, PANICS.load(Ordering::SeqCst)) else {
            panic!("{}: round {round} of seed {seed} panicked", target.name);
        };
        let time = from.elapsed();
        if time < LONGEST {
            *slowest = time.max(*slowest);
            return reached;
        }
    }
    panic!(
        "{}: round {round} of seed {seed} took twice more than {LONGEST:?}",
        target.name
    );
}

fn fuzz(target: &Target, seed: u64, seconds: Duration, inputs: Option<u64>) {
    let start = Instant::now();
    let (mut rounds, mut inside, mut accepted) = (0_u64, 0_u64, 0_u64);
    let further = FURTHER.load(Ordering::Relaxed);
    let count = |rounds: u64| rounds + FURTHER.load(Ordering::Relaxed) - further;
    let mut slowest = Duration::ZERO;
    let more = |rounds: u64| match inputs {
        Some(inputs) => count(rounds) < inputs,
        None => start.elapsed() < seconds,
    };
    while more(rounds) {
        let round = seed.wrapping_mul(1 << 40).wrapping_add(rounds);
        let reached = timed(target, round, seed, &mut slowest);
        inside += u64::from(!matches!(reached, Reached::Nothing));
        accepted += u64::from(matches!(reached, Reached::End));
        rounds += 1;
    }
    let count = count(rounds);
    let percent = |part: u64| 100.0 * part as f64 / rounds.max(1) as f64;
    println!(
        "fuzz {}: {count} inputs in {rounds} rounds in {:.0} s, {:.1} % past the header, {:.1} % accepted, slowest {:.3} s",
        target.name,
        start.elapsed().as_secs_f64(),
        percent(inside),
        percent(accepted),
        slowest.as_secs_f64()
    );
    println!("figure fuzz-{}-panics 0 of {count} bar 0 ok", target.name);
    let verdict = |met: bool| if met { "ok" } else { "short" };
    match inputs {
        Some(_) => println!(
            "figure fuzz-{}-inputs {count} inputs bar {ENOUGH} {}",
            target.name,
            verdict(count >= ENOUGH)
        ),
        None => println!(
            "figure fuzz-{}-time {} s bar {} {}",
            target.name,
            seconds.as_secs(),
            LONG.as_secs(),
            verdict(seconds >= LONG)
        ),
    }
    assert!(
        percent(inside) > 20.0,
        "{}: too few inputs get inside",
        target.name
    );
    assert!(accepted > 0 && percent(accepted) < 95.0, "{}", target.name);
}
