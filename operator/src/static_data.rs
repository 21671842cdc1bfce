//! `operator static-data`: the templates' files on a volume, checked, and never half of them.
//!
//! ```text
//! ROOT/current -> v/<version>            renamed over, once everything is there
//! ROOT/v/<version>/<path>                files; a version is never changed
//! ROOT/v/<version>/MANIFEST.json         path, SHA-256 and size of each
//! ROOT/.loading/                         what is under way, and the lock
//! ```
//!
//! | Question | Where |
//! |---|---|
//! | what a manifest may say, what its version is | [`manifest`]: pure |
//! | folders, the lock, the switch, what is pruned | [`store`] |
//! | where a file comes from | [`load`] |
//! | what is wrong | [`verify`] |
//!
//! The version is the SHA-256 of what `sha256sum` prints for the files, sorted by path: who has the
//! same files has the same version, wherever they came from.

pub mod error;
pub mod load;
pub mod manifest;
pub mod store;
pub mod verify;

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use tokio::signal::unix::{SignalKind, signal};
use transfer::policy::Policy;
use transfer::stop::{AtSignal, INTERRUPTED};
use transfer::{Network, read_authorities};

use crate::cli::{LoadArguments, StaticData, VerifyArguments};
use error::Error;
use manifest::Manifest;
use store::Store;

/// Runs the command; says on standard error what went wrong.
pub fn run(command: &StaticData) -> ExitCode {
    let result = watch_signals().and_then(|()| match command {
        StaticData::Load(arguments) => load(arguments),
        StaticData::Verify(arguments) => verify(arguments),
    });
    match result {
        Ok(text) => {
            // Whoever reads may have gone: the files are there all the same.
            let _ = writeln!(stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(stderr(), "error: {error}");
            ExitCode::from(error.exit_code().code())
        }
    }
}

fn load(arguments: &LoadArguments) -> Result<String, Error> {
    let manifest = Manifest::read(&arguments.manifest)?;
    let mut origins = manifest.origins();
    origins.extend(arguments.allow_origin.iter().cloned());
    let mut network = Network {
        policy: Policy::new(&origins, &arguments.allow_private_origin),
        ..Network::default()
    };
    if let Some(path) = &arguments.ca_file {
        network.roots = read_authorities(path).map_err(|problem| Error::Manifest {
            path: path.clone(),
            problem,
        })?;
    }
    let store = Store::new(&arguments.root);
    let loaded = load::load(&store, &manifest, &network, &AtSignal)?;
    let pruned = match arguments.keep_old {
        Some(keep) => store.prune(keep)?,
        None => 0,
    };
    Ok(format!(
        "static data {}: {}, {pruned} older versions removed",
        manifest.version(),
        loaded
    ))
}

fn verify(arguments: &VerifyArguments) -> Result<String, Error> {
    let manifest = match &arguments.manifest {
        Some(path) => Some(Manifest::read(path)?),
        None => None,
    };
    let store = Store::new(&arguments.root);
    match manifest {
        Some(manifest) if arguments.in_place => verify::in_place(&store, &manifest, &AtSignal),
        manifest => verify::loaded(&store, manifest.as_ref(), &AtSignal),
    }
}

/// The first process of a container has to say that it listens to signals. What is under way ends at
/// the next look; what lies on the disk is good for the next run at any time.
fn watch_signals() -> Result<(), Error> {
    let io = |source| Error::io("cannot listen to signals", source);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io)?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        let listen = |kind| signal(kind).map_err(io);
        (
            listen(SignalKind::terminate())?,
            listen(SignalKind::interrupt())?,
        )
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}
