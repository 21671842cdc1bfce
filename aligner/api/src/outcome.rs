//! How an aligner process ends: exit codes, their reasons, and which of them a retry can heal.

use serde::{Deserialize, Serialize};

/// Exit code of the aligner. The numbers follow `sysexits.h` where a meaning exists there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ExitCode {
    /// 0: the alignment was computed and everything was written.
    Success,
    /// 64: the request or the command line is wrong.
    InvalidRequest,
    /// 65: a file was read, but its content cannot be used.
    InvalidImage,
    /// 66: an input file does not exist.
    ImageNotFound,
    /// 67: the image service refused the credentials.
    Unauthorized,
    /// 68: the template's depth map is missing or damaged.
    TemplateUnavailable,
    /// 69: the image service did not answer.
    ImageServiceUnavailable,
    /// 70: a defect of the aligner itself.
    InternalError,
    /// 71: the memory limit is too small; the message carries the bytes needed.
    InsufficientMemory,
    /// 73: the destination refused the result.
    UploadRefused,
    /// 74: reading or writing failed, for example a full disk.
    IoError,
    /// 75: stopped by SIGTERM before the end.
    Interrupted,
    /// 76: the images could not be aligned, for example because they do not overlap.
    AlignmentFailed,
    /// 77: the request names a place that this installation does not allow.
    DestinationForbidden,
}

/// What the operator does after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryClass {
    /// The same input gives the same failure: no retry.
    Never,
    /// The cause may be gone next time: counts towards the back-off limit.
    Retry,
    /// One new attempt with the memory that the message asks for.
    RightSizeOnce,
    /// The installation lacks something: tried again until the deadline, and not counted.
    UntilDeadline,
}

impl ExitCode {
    /// Every code, in ascending order.
    pub const ALL: [Self; 14] = [
        Self::Success,
        Self::InvalidRequest,
        Self::InvalidImage,
        Self::ImageNotFound,
        Self::Unauthorized,
        Self::TemplateUnavailable,
        Self::ImageServiceUnavailable,
        Self::InternalError,
        Self::InsufficientMemory,
        Self::UploadRefused,
        Self::IoError,
        Self::Interrupted,
        Self::AlignmentFailed,
        Self::DestinationForbidden,
    ];

    /// The number the process exits with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::InvalidRequest => 64,
            Self::InvalidImage => 65,
            Self::ImageNotFound => 66,
            Self::Unauthorized => 67,
            Self::TemplateUnavailable => 68,
            Self::ImageServiceUnavailable => 69,
            Self::InternalError => 70,
            Self::InsufficientMemory => 71,
            Self::UploadRefused => 73,
            Self::IoError => 74,
            Self::Interrupted => 75,
            Self::AlignmentFailed => 76,
            Self::DestinationForbidden => 77,
        }
    }

    /// The code of a number, if the aligner uses it.
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|exit| i32::from(exit.code()) == code)
    }

    /// CamelCase reason, as it stands in conditions and reports.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::InvalidRequest => "InvalidRequest",
            Self::InvalidImage => "InvalidImage",
            Self::ImageNotFound => "ImageNotFound",
            Self::Unauthorized => "Unauthorized",
            Self::TemplateUnavailable => "TemplateUnavailable",
            Self::ImageServiceUnavailable => "ImageServiceUnavailable",
            Self::InternalError => "InternalError",
            Self::InsufficientMemory => "InsufficientMemory",
            Self::UploadRefused => "UploadRefused",
            Self::IoError => "IoError",
            Self::Interrupted => "Interrupted",
            Self::AlignmentFailed => "AlignmentFailed",
            Self::DestinationForbidden => "DestinationForbidden",
        }
    }

    /// Whether a new attempt can end differently.
    pub const fn retry_class(self) -> RetryClass {
        match self {
            Self::ImageServiceUnavailable
            | Self::InternalError
            | Self::IoError
            | Self::Interrupted => RetryClass::Retry,
            Self::InsufficientMemory => RetryClass::RightSizeOnce,
            Self::TemplateUnavailable => RetryClass::UntilDeadline,
            _ => RetryClass::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_codes_map_both_ways() {
        for exit in ExitCode::ALL {
            assert_eq!(ExitCode::from_code(i32::from(exit.code())), Some(exit));
            assert_eq!(format!("{exit:?}"), exit.reason());
        }
        assert_eq!(ExitCode::from_code(137), None);
    }

    #[test]
    fn wrong_input_is_never_retried() {
        for exit in [
            ExitCode::InvalidRequest,
            ExitCode::InvalidImage,
            ExitCode::ImageNotFound,
            ExitCode::AlignmentFailed,
        ] {
            assert_eq!(exit.retry_class(), RetryClass::Never, "{exit:?}");
        }
    }
}
