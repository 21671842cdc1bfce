//! Command line of the aligner: arguments, signals, exit codes.

use std::{
    io::Write,
    panic::{self, AssertUnwindSafe},
    path::Path,
    process::ExitCode as ProcessExit,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use aligner::{
    allocator,
    cli::{Cli, Global},
    commands,
    error::Error,
    observer, summary,
    work::Done,
};
use alignment_api::{ExitCode, TERMINATION_SCHEMA, TerminationMessage};
use clap::Parser;

/// Time after the first signal within which the work is expected to stop by itself.
const GRACE: Duration = Duration::from_millis(1500);
/// Set by whoever ends the process first: the end of the work, or a signal that it did not heed.
static ENDING: AtomicBool = AtomicBool::new(false);

fn main() -> ProcessExit {
    allocator::settle();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let help = !error.use_stderr();
            let _ = error.print();
            return if help {
                ProcessExit::SUCCESS
            } else {
                exit(ExitCode::InvalidRequest)
            };
        }
    };
    if let Err(error) = prepare(&cli.global) {
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
        return exit(ExitCode::InternalError);
    }
    let run = || commands::execute(&cli, &mut std::io::stdout());
    // A panic is a defect, but it must end with a code and a message like every other failure.
    match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => finish(&cli.global, &result),
        Err(_) => crashed(&cli.global),
    }
}

/// Signals and threads.
fn prepare(global: &Global) -> anyhow::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new(signal_hook::consts::TERM_SIGNALS)?;
    let message = global.termination_message.clone();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            // The first signal asks politely. A second one does not wait for an answer.
            if observer::INTERRUPTED.swap(true, Ordering::Relaxed) {
                std::process::exit(ExitCode::Interrupted.code().into());
            }
            let message = message.clone();
            std::thread::spawn(move || end_unheeded(message.as_deref()));
        }
    });
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = global.threads {
        pool = pool.num_threads(threads.into());
    }
    pool.build_global()?;
    Ok(())
}

/// Ends the process if the work goes on: a step without a look at the flag, or a slow disk.
/// Whatever is being written then keeps its temporary name.
fn end_unheeded(message: Option<&Path>) {
    std::thread::sleep(GRACE);
    if ends() {
        let result = Err(Error::Interrupted(observer::Interrupted));
        leave_message(message, &summary::termination_message(&result));
        std::process::exit(ExitCode::Interrupted.code().into());
    }
}

/// True for the first caller: only one may write the message and choose the exit code.
fn ends() -> bool {
    !ENDING.swap(true, Ordering::Relaxed)
}

fn finish(global: &Global, result: &Result<Option<Done>, Error>) -> ProcessExit {
    if let Err(error) = result {
        let _ = writeln!(std::io::stderr(), "error: {error}");
    }
    if ends() {
        let message = global.termination_message.as_deref();
        leave_message(message, &summary::termination_message(result));
    }
    exit(
        result
            .as_ref()
            .map_or_else(Error::exit_code, |_| ExitCode::Success),
    )
}

fn crashed(global: &Global) -> ProcessExit {
    let message = TerminationMessage {
        schema: TERMINATION_SCHEMA.to_owned(),
        outcome: ExitCode::InternalError,
        message: "the aligner crashed: this is a defect, please report it with the log".to_owned(),
        required_memory_bytes: None,
        result: None,
    };
    if ends() {
        let path = global.termination_message.as_deref();
        leave_message(path, &serde_json::to_string(&message).unwrap_or_default());
    }
    exit(ExitCode::InternalError)
}

/// Kubernetes mounts the file: it is written in place, not renamed over.
fn leave_message(path: Option<&Path>, message: &str) {
    if let Some(path) = path
        && let Err(error) = std::fs::write(path, message)
    {
        let _ = writeln!(
            std::io::stderr(),
            "warning: cannot write `{}`: {error}",
            path.display()
        );
    }
}

fn exit(code: ExitCode) -> ProcessExit {
    ProcessExit::from(code.code())
}
