//! Every way in which the aligner fails, and the exit code of each.

use std::path::PathBuf;

use alignment_api::{ExitCode, Violation};

use crate::{
    depth::DepthError,
    io::{atomic::WriteError, itk::AffineFileError, nifti::ReadError, table::TableError},
    net::error::NetError,
    observer::{self, Interrupted},
    registration::{RegistrationError, Side},
};

/// A failure, as the user sees it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request violates the contract.
    #[error("the request is invalid:{}", list(.0))]
    Request(Vec<Violation>),
    /// A request or parameter file is not what it should be.
    #[error("`{}`: {problem}", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
    /// Arguments that do not fit each other or the request.
    #[error("{0}")]
    Usage(String),
    /// A volume could not be read.
    #[error("{role}: {source}")]
    Volume {
        /// What the volume is for.
        role: String,
        /// What is wrong.
        source: ReadError,
    },
    /// The template could not be read or used.
    #[error("template `{name}`: {problem}")]
    Template {
        /// Name of the template.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Volumes that do not fit each other.
    #[error("{0}")]
    Geometry(String),
    /// The patch lies outside the template.
    #[error("{0}")]
    NoOverlap(String),
    /// The depth could not be computed.
    #[error("segmentation: {0}")]
    Depth(DepthError),
    /// The registration failed.
    #[error("registration: {source}{hint}")]
    Registration {
        /// What went wrong.
        source: RegistrationError,
        /// What to look at first; empty or a clause that starts with `; `.
        hint: String,
    },
    /// An affine file could not be read.
    #[error(transparent)]
    AffineFile(#[from] AffineFileError),
    /// A table could not be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A result could not be written.
    #[error(transparent)]
    Write(WriteError),
    /// The memory limit is too small.
    #[error("needs about {} MiB of memory, but the limit is {} MiB", needed >> 20, limit >> 20)]
    Memory {
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A transfer failed.
    #[error("{role}: {source}")]
    Network {
        /// What the transfer was for.
        role: String,
        /// What went wrong.
        source: NetError,
    },
    /// Stopped by a signal.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

fn list(violations: &[Violation]) -> String {
    violations
        .iter()
        .fold(String::new(), |mut text, violation| {
            text.push_str("\n  ");
            text.push_str(&violation.to_string());
            text
        })
}

impl Error {
    /// A volume failed to load.
    pub fn volume(role: impl Into<String>, source: ReadError) -> Self {
        match source {
            ReadError::Interrupted(interrupted) => interrupted.into(),
            source => Self::Volume {
                role: role.into(),
                source,
            },
        }
    }

    /// The template failed to load.
    pub fn template(name: &str, source: ReadError) -> Self {
        match source {
            ReadError::Interrupted(interrupted) => interrupted.into(),
            source => Self::Template {
                name: name.to_owned(),
                problem: source.to_string(),
            },
        }
    }

    /// A transfer failed.
    pub fn network(role: impl Into<String>, source: NetError) -> Self {
        match source {
            NetError::Interrupted(interrupted) => Self::Interrupted(interrupted),
            source => Self::Network {
                role: role.into(),
                source,
            },
        }
    }

    /// The exit code that stands for this failure.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Request(_) | Self::Document { .. } | Self::Usage(_) => ExitCode::InvalidRequest,
            Self::Volume { source, .. } => match source {
                ReadError::NotFound(_) => ExitCode::ImageNotFound,
                ReadError::Io { .. } => ExitCode::IoError,
                ReadError::Memory { .. } => ExitCode::InsufficientMemory,
                _ => ExitCode::InvalidImage,
            },
            Self::Template { .. } => ExitCode::TemplateUnavailable,
            Self::Geometry(_) | Self::Depth(_) => ExitCode::InvalidImage,
            Self::AffineFile(error) => match error {
                AffineFileError::Io { source, .. } => io_code(source),
                AffineFileError::Content { .. } => ExitCode::InvalidImage,
            },
            Self::Table(error) => match error {
                TableError::Io { source, .. } => io_code(source),
                TableError::Line { .. } => ExitCode::InvalidRequest,
            },
            Self::Registration { source, .. } => registration_code(source),
            Self::NoOverlap(_) => ExitCode::AlignmentFailed,
            Self::Write(_) => ExitCode::IoError,
            Self::Memory { .. } => ExitCode::InsufficientMemory,
            Self::Network { source, .. } => source.exit_code(),
            Self::Interrupted(_) => ExitCode::Interrupted,
        }
    }

    /// Bytes that a new attempt needs.
    pub fn required_memory_bytes(&self) -> Option<u64> {
        match self {
            Self::Memory { needed, .. }
            | Self::Volume {
                source: ReadError::Memory { needed, .. },
                ..
            } => Some(*needed),
            _ => None,
        }
    }
}

/// A file that is missing, or one that the system cannot read.
fn io_code(error: &std::io::Error) -> ExitCode {
    if error.kind() == std::io::ErrorKind::NotFound {
        ExitCode::ImageNotFound
    } else {
        ExitCode::IoError
    }
}

/// What is wrong with the patch's own images is the images' fault; that the template is flat or too
/// small around the patch is the placement's.
fn registration_code(error: &RegistrationError) -> ExitCode {
    let side = match error {
        RegistrationError::NotFinite { which }
        | RegistrationError::ConstantImage { which }
        | RegistrationError::TooSmall { which, .. } => which,
        RegistrationError::Interrupted(_) => return ExitCode::Interrupted,
        _ => return ExitCode::AlignmentFailed,
    };
    match side {
        Side::Moving | Side::Placement => ExitCode::AlignmentFailed,
        Side::Fixed | Side::Validity | Side::Landmarks => ExitCode::InvalidImage,
    }
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        if observer::is_interrupted(&error.source) {
            Self::Interrupted(Interrupted)
        } else {
            Self::Write(error)
        }
    }
}

impl From<DepthError> for Error {
    fn from(error: DepthError) -> Self {
        match error {
            DepthError::Interrupted(interrupted) => Self::Interrupted(interrupted),
            other => Self::Depth(other),
        }
    }
}

impl From<RegistrationError> for Error {
    fn from(error: RegistrationError) -> Self {
        let hint = match &error {
            RegistrationError::Interrupted(interrupted) => return Self::Interrupted(*interrupted),
            RegistrationError::ConstantImage {
                which: Side::Moving,
            }
            | RegistrationError::TooSmall {
                which: Side::Moving,
                ..
            } => {
                "; check the placement: there is no cortex of the template where the patch is placed"
            }
            _ => "",
        };
        Self::Registration {
            source: error,
            hint: hint.to_owned(),
        }
    }
}
