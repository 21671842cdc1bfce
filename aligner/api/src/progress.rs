//! Progress of a running alignment: one JSON object per line on stdout.

use serde::{Deserialize, Serialize};

/// Value of [`Progress::schema`].
pub const PROGRESS_SCHEMA: &str = "voluba.ebrains.eu/progress/v1";
/// Longest line of standard output that a reader takes in, in bytes without the newline.
pub const LONGEST_LINE: usize = 16 * 1024;

/// Stage of the pipeline, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Reading the request and the volumes.
    Load,
    /// Computing the cortical depth of the patch from its segmentation.
    Depth,
    /// Registering the patch's depth to the template's.
    Register,
    /// Carrying the images through the transform.
    Resample,
    /// Measuring the result.
    Quality,
    /// Writing the outputs.
    Write,
}

impl Stage {
    /// Every stage, in the order in which they run.
    pub const ALL: [Self; 6] = [
        Self::Load,
        Self::Depth,
        Self::Register,
        Self::Resample,
        Self::Quality,
        Self::Write,
    ];

    /// The name used on the wire and on the terminal.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Depth => "depth",
            Self::Register => "register",
            Self::Resample => "resample",
            Self::Quality => "quality",
            Self::Write => "write",
        }
    }

    /// Part of an alignment, in percent, at which the stage starts and ends.
    /// Shares of the CPU time of a 128³ run with a segmentation, rounded.
    pub const fn percent_range(self) -> (u8, u8) {
        match self {
            Self::Load => (0, 5),
            Self::Depth => (5, 25),
            Self::Register => (25, 80),
            Self::Resample => (80, 85),
            Self::Quality => (85, 92),
            Self::Write => (92, 100),
        }
    }

    /// The same for a depth map alone, which has three of the stages; the others take no part of it.
    pub const fn percent_range_of_depth_map(self) -> (u8, u8) {
        match self {
            Self::Load => (0, 5),
            Self::Depth => (5, 80),
            Self::Register | Self::Resample | Self::Quality => (80, 80),
            Self::Write => (80, 100),
        }
    }
}

/// One line of progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Always [`PROGRESS_SCHEMA`]; lines without it are log lines, not progress.
    #[serde(default)]
    pub schema: String,
    /// Stage that is running.
    pub stage: Stage,
    /// Share of the whole run that is done, 0 to 100.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    pub percent: u8,
    /// Pyramid level of the registration, 0 = coarsest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 15)))]
    pub level: Option<u32>,
    /// Iteration within the level, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100_000)))]
    pub iteration: Option<u32>,
    /// Root mean square difference of depth over the cortex, 0 to 1; smaller is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<f64>,
    /// Estimated seconds until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0)))]
    pub eta_seconds: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_cover_the_run_without_gaps() {
        for range in [Stage::percent_range, Stage::percent_range_of_depth_map] {
            let mut end = 0;
            for stage in Stage::ALL {
                let (from, to) = range(stage);
                assert_eq!(from, end, "{stage:?}");
                assert!(to >= from);
                end = to;
            }
            assert_eq!(end, 100);
        }
    }

    #[test]
    fn a_newer_writer_is_understood() {
        let line = r#"{"schema":"x","stage":"register","percent":40,"novelty":1}"#;
        let progress: Progress = serde_json::from_str(line).unwrap();
        assert_eq!(progress.stage, Stage::Register);
    }
}
