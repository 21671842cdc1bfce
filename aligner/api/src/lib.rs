//! The contract between whoever asks for an alignment or a depth map, the operator and the aligner.
//!
//! | Document | Type | Written by | Read by |
//! |---|---|---|---|
//! | request | [`RequestDocument`] | a scientist, the VoluBA backend | aligner; its `spec` is the CRD's |
//! | progress | [`Progress`] | aligner, one JSON line on stdout each | operator, terminal |
//! | pictures | [`PictureLine`] | aligner, on stdout at the end, if an image service has the result | operator |
//! | report | [`Report`] | aligner, `report.json` | people, programs |
//! | termination message | [`TerminationMessage`] | aligner, at most 4,096 bytes | operator |
//! | exit code | [`ExitCode`] | aligner | Kubernetes, operator, scripts |
//!
//! This crate holds types, defaults and validation. It does no input or output and knows neither
//! Kubernetes nor arrays, so that both programs can depend on it. Unknown fields are refused in a
//! request (a caller's mistake) and tolerated in progress and report (an older reader). Within a
//! version, changes are additive.

mod depth_map;
mod document;
mod outcome;
mod pictures;
mod progress;
mod registration;
mod report;
mod request;
mod url;
mod validate;

pub use depth_map::{DepthMapArtifact, DepthMapOutput, DepthMapSpec};
pub use document::{
    API_GROUP, API_VERSION, DEPTH_MAP_KIND, KIND, Metadata, RequestDocument, RequestSpec,
};
pub use outcome::{ExitCode, RetryClass};
pub use pictures::{
    CurvePoint, MOST_CURVE_POINTS, MOST_PICTURE_BYTES, MOST_PICTURE_SIDE, PICTURES_SCHEMA,
    PictureContent, PictureLine,
};
pub use progress::{LONGEST_LINE, PROGRESS_SCHEMA, Progress, Stage};
pub use registration::{
    EffectiveRegistration, LandmarkMode, LevelParameters, Preset, RegistrationParameters,
};
pub use report::{
    Artifact, ArtifactKind, DEPTH_MAP_REPORT_SCHEMA, DepthMapReport, DepthReport, DepthSource,
    InputFile, LandmarkResidual, LevelReport, Quality, REPORT_SCHEMA, Report, ResultSummary,
    TERMINATION_MESSAGE_LIMIT, TERMINATION_SCHEMA, TerminationMessage,
};
pub use request::{
    AlignmentSpec, Credentials, Depth, Destination, HttpFile, ImageService, Interpolation, Labels,
    Landmark, Output, OutputArtifact, OutputGrid, Patch, PatchImage, Placement, Resources,
    SegmentationSource, ServiceImage, Source, Space, TOKEN_KEY, VolumeFile, VolumeFolder,
};
pub use url::{LONGEST_URL, Origin, Scheme, WebUrl};
pub use validate::{Violation, determinant3, validate, validate_alignment, validate_labels};
