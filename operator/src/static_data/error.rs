//! Every way in which loading and verifying fail, and the exit code of each.

use std::io;
use std::path::{Path, PathBuf};

use alignment_api::ExitCode;
use transfer::error::NetError;
use transfer::stop::Interrupted;

/// A failure, as an administrator sees it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest, or a file of options, cannot be used.
    #[error("`{}`: {problem}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
    /// A file could not be downloaded.
    #[error("`{file}`: {source}{}", full(source))]
    Transfer {
        /// Its path in the manifest.
        file: String,
        /// What went wrong.
        source: NetError,
    },
    /// A local source is not there.
    #[error("`{file}`: its source `{}` {problem}", origin.display())]
    Missing {
        /// Its path in the manifest.
        file: String,
        /// Where it should come from.
        origin: PathBuf,
        /// What is there instead.
        problem: String,
    },
    /// A local source is another file than the manifest says.
    #[error("`{file}`: its source `{}` {problem}", origin.display())]
    Different {
        /// Its path in the manifest.
        file: String,
        /// Where it comes from.
        origin: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
    /// The volume is too small.
    #[error(
        "the files need {needed} bytes more, and `{}` has {free} left; nothing was changed: enlarge the volume, or remove old versions (--keep-old)",
        root.display()
    )]
    NoSpace {
        /// Root folder of the static data.
        root: PathBuf,
        /// Bytes that are still to come.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// What is there is not what should be there.
    #[error("the static data is not what it should be:{}", list(.0))]
    Wrong(Vec<String>),
    /// The system does not do what it should.
    #[error("{what}: {source}{}", full_io(source))]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Stopped by a signal.
    #[error("{0}; the next run goes on from here")]
    Interrupted(#[from] Interrupted),
}

const FULL: &str = "; what has come is kept, and the version in use is untouched: enlarge the volume \
                    and run this again";

fn full_io(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FULL,
        _ => "",
    }
}

fn full(error: &NetError) -> &'static str {
    match error {
        NetError::File { source, .. } => full_io(source),
        _ => "",
    }
}

fn list(problems: &[String]) -> String {
    format!("\n  {}", problems.join("\n  "))
}

impl Error {
    /// What the system said about something that was tried.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }

    /// What the system said about a file or a folder.
    pub fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let what = format!("`{}`", path.display());
        move |source| Self::io(what, source)
    }

    /// The exit code that stands for this failure.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Manifest { .. } => ExitCode::InvalidRequest,
            Self::Transfer { source, .. } => source.exit_code(),
            Self::Missing { .. } => ExitCode::ImageNotFound,
            Self::Different { .. } => ExitCode::InvalidImage,
            Self::NoSpace { .. } | Self::Io { .. } => ExitCode::IoError,
            Self::Wrong(_) => ExitCode::TemplateUnavailable,
            Self::Interrupted(_) => ExitCode::Interrupted,
        }
    }
}
