//! Every way in which the aligner fails, and the exit code of each.

use std::path::PathBuf;

use alignment_api::{ExitCode, Violation};

use crate::{
    depth::DepthError,
    io::{atomic::WriteError, itk::AffineFileError, nifti::ReadError, table::TableError},
    observer::Interrupted,
    registration::RegistrationError,
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
    Depth(#[from] DepthError),
    /// The registration failed.
    #[error("registration: {0}")]
    Registration(#[from] RegistrationError),
    /// An affine file could not be read.
    #[error(transparent)]
    AffineFile(#[from] AffineFileError),
    /// A table could not be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A result could not be written.
    #[error("{0}: {source}", source = .0.source)]
    Write(#[from] WriteError),
    /// The memory limit is too small.
    #[error("needs about {} MiB of memory, but the limit is {} MiB", needed >> 20, limit >> 20)]
    Memory {
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
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
        Self::Volume {
            role: role.into(),
            source,
        }
    }

    /// The exit code that stands for this failure.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Request(_) | Self::Document { .. } | Self::Usage(_) | Self::Table(_) => {
                ExitCode::InvalidRequest
            }
            Self::Volume { source, .. } => match source {
                ReadError::NotFound(_) => ExitCode::ImageNotFound,
                ReadError::Io { .. } => ExitCode::IoError,
                _ => ExitCode::InvalidImage,
            },
            Self::Template { .. } => ExitCode::TemplateUnavailable,
            Self::Depth(DepthError::Interrupted(_))
            | Self::Registration(RegistrationError::Interrupted(_))
            | Self::Interrupted(_) => ExitCode::Interrupted,
            Self::Geometry(_)
            | Self::AffineFile(_)
            | Self::Depth(_)
            | Self::Registration(
                RegistrationError::NotFinite { .. }
                | RegistrationError::ConstantImage { .. }
                | RegistrationError::TooSmall { .. },
            ) => ExitCode::InvalidImage,
            Self::Registration(_) | Self::NoOverlap(_) => ExitCode::AlignmentFailed,
            Self::Write(_) => ExitCode::IoError,
            Self::Memory { .. } => ExitCode::InsufficientMemory,
        }
    }

    /// Bytes that a new attempt needs.
    pub fn required_memory_bytes(&self) -> Option<u64> {
        match self {
            Self::Memory { needed, .. } => Some(*needed),
            _ => None,
        }
    }
}
