//! How a transfer ends badly.

use std::{io, path::PathBuf, time::Duration};

use alignment_api::{ExitCode, WebUrl};

use crate::stop::Interrupted;

/// A transfer failed. `url` is without its query; nothing of an answer is repeated but its status.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The place is not allowed, or leads to one that is not.
    #[error("{url}: {problem}")]
    Forbidden {
        /// The place.
        url: String,
        /// What is not allowed.
        problem: String,
    },
    /// The token was refused, or there is none.
    #[error("{url}: {problem}")]
    Unauthorized {
        /// The place.
        url: String,
        /// What was found.
        problem: String,
    },
    /// There is no such file.
    #[error("{url}: {problem}")]
    NotFound {
        /// The place.
        url: String,
        /// What was found.
        problem: String,
    },
    /// What came is not what was expected.
    #[error("{url}: {problem}")]
    Content {
        /// The place.
        url: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// No useful answer, after as many tries as are sensible.
    #[error("{url}: {problem}{}", tried(*tries))]
    Unavailable {
        /// The place.
        url: String,
        /// What happened last.
        problem: String,
        /// How often it was tried.
        tries: u32,
    },
    /// The image service does not take the result.
    #[error("{url}: {problem}")]
    Refused {
        /// The place.
        url: String,
        /// What was found.
        problem: String,
    },
    /// A file of this machine could not be read or written.
    #[error("`{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Stopped by a signal.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

fn tried(tries: u32) -> String {
    match tries {
        0 | 1 => String::new(),
        more => format!(" (tried {more} times)"),
    }
}

impl NetError {
    /// The exit code that stands for this failure.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Forbidden { .. } => ExitCode::DestinationForbidden,
            Self::Unauthorized { .. } => ExitCode::Unauthorized,
            Self::NotFound { .. } => ExitCode::ImageNotFound,
            Self::Content { .. } => ExitCode::InvalidImage,
            Self::Unavailable { .. } => ExitCode::ImageServiceUnavailable,
            Self::Refused { .. } => ExitCode::UploadRefused,
            Self::File { .. } => ExitCode::IoError,
            Self::Interrupted(_) => ExitCode::Interrupted,
        }
    }
}

/// How one try ends badly.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another try would end the same.
    Final(NetError),
    /// It may pass.
    Passing {
        /// What happened.
        problem: String,
        /// How long the server asks to wait.
        wait: Option<Duration>,
        /// Whether the try brought the transfer forward.
        progress: bool,
    },
    /// The server redirects to another origin; few callers may follow.
    Elsewhere {
        /// Where to.
        next: Box<WebUrl>,
        /// What it is for everybody else.
        refusal: NetError,
    },
}

impl Fault {
    pub(super) fn passing(problem: impl Into<String>) -> Self {
        Self::Passing {
            problem: problem.into(),
            wait: None,
            progress: false,
        }
    }
}

impl From<NetError> for Fault {
    fn from(error: NetError) -> Self {
        Self::Final(error)
    }
}

impl From<Interrupted> for Fault {
    fn from(interrupted: Interrupted) -> Self {
        Self::Final(interrupted.into())
    }
}
