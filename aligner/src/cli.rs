//! The command line.

use std::{num::NonZero, path::PathBuf};

use alignment_api::{Interpolation, LandmarkMode, Origin, Preset, Space};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::progress::ProgressMode;

/// Non-linear, depth-informed alignment of a cortical patch to a template brain.
#[derive(Debug, Parser)]
#[command(name = "aligner", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Number of threads. Omitted: what the machine or the container's CPU limit allows.
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// How progress is shown.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub progress: ProgressMode,
    /// Print nothing but errors.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// File for a compact JSON report of at most 4,096 bytes, as Kubernetes reads it.
    #[arg(long, global = true, value_name = "FILE")]
    pub termination_message: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole request: an alignment, or a depth map alone.
    Run(RunArgs),
    /// Check a request without running it; prints every violation, or the memory that a run takes.
    Validate(ValidateArgs),
    /// Compute the equivolumetric cortical depth from a segmentation.
    Depth(DepthArgs),
    /// Register a patch's depth map to a template's.
    Register(RegisterArgs),
    /// Carry an image, or points, through transforms.
    Apply(ApplyArgs),
    /// Write a placement, or landmarks, in another format or for another patch space.
    Convert(ConvertArgs),
    /// Show what a volume's header says, and how tools will read it.
    Inspect(InspectArgs),
    /// Run the bundled example.
    Demo(DemoArgs),
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The request, YAML or JSON: the file that `kubectl apply` takes.
    pub request: PathBuf,
    /// Where the names in the request lie.
    #[command(flatten)]
    pub places: PlaceArgs,
    /// What may be reached beyond the file system.
    #[command(flatten)]
    pub network: NetworkArgs,
}

/// Where the names in a request lie.
#[derive(Debug, Default, Args)]
pub struct PlaceArgs {
    /// Folder that stands for a persistent volume claim of the request.
    #[arg(long, value_name = "NAME=DIR", value_parser = named_path)]
    pub claim: Vec<(String, PathBuf)>,
    /// Depth map of a template; the first one is the default.
    #[arg(long, value_name = "NAME=FILE", value_parser = named_path)]
    pub template: Vec<(String, PathBuf)>,
    /// SHA-256 that the file of a template must have; compared with what is read.
    #[arg(long, value_name = "NAME=SHA256", value_parser = named_digest)]
    pub template_sha256: Vec<(String, String)>,
}

/// What may be reached beyond the file system.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// Origin on the public internet that the request may name; may be repeated.
    #[arg(long, value_name = "https://HOST", value_parser = Origin::parse)]
    pub allow_origin: Vec<Origin>,
    /// Origin that may have private addresses, for example of this machine or of a cluster; may be
    /// repeated.
    #[arg(long, value_name = "https://HOST", value_parser = Origin::parse)]
    pub allow_private_origin: Vec<Origin>,
    /// File with the token for the image service; read anew for each call.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificate authorities (PEM) to trust in place of the built-in ones.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Most bytes that all downloads may have together. Omitted: 16 GiB.
    #[arg(long, value_name = "BYTES")]
    pub download_limit: Option<u64>,
}

/// Options of `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The request, YAML or JSON.
    pub request: PathBuf,
    /// With a template, or for a depth map alone its claims, the files are looked at, too, and the memory
    /// that a run takes is told.
    #[command(flatten)]
    pub places: PlaceArgs,
}

/// Options of `depth`.
#[derive(Debug, Args)]
pub struct DepthArgs {
    /// The segmentation.
    pub segmentation: PathBuf,
    /// The depth map to write: 0 at the pial surface, 1 at the white matter.
    #[arg(long, short)]
    pub output: PathBuf,
    /// The validity map to write.
    #[arg(long)]
    pub validity: Option<PathBuf>,
    /// The map of the cortex's thickness in mm to write; 0 outside, and where it is unknown.
    #[arg(long, value_name = "FILE")]
    pub thickness: Option<PathBuf>,
    /// The layers of equal volume to write: 1 at the pial surface, 0 outside, and where depth is
    /// unknown.
    #[arg(long, value_name = "FILE", requires = "layer_count")]
    pub layers: Option<PathBuf>,
    /// A page for a person to write (HTML, one file): pictures, validity, thickness, warnings.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Number of layers, 1 to 255.
    #[arg(long, value_name = "N", requires = "layers")]
    pub layer_count: Option<NonZero<u8>>,
    /// Values that mean outside of the brain.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, default_values_t = [0])]
    pub csf: Vec<i32>,
    /// Values that mean cortical grey matter.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, default_values_t = [100])]
    pub grey: Vec<i32>,
    /// Values that mean white matter.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, default_values_t = [200])]
    pub white: Vec<i32>,
}

/// Options of `register`.
#[derive(Debug, Args)]
pub struct RegisterArgs {
    /// Depth map of the patch.
    #[arg(long)]
    pub fixed: PathBuf,
    /// Depth map of the template.
    #[arg(long)]
    pub moving: PathBuf,
    /// 4×4 matrix patch → template in mm: text, JSON, a v0 request body, or transformMatrix.json.
    #[arg(long)]
    pub placement: PathBuf,
    /// Patch space of the matrix. Omitted: what the file's format implies, else viewer.
    #[arg(long, value_enum)]
    pub space: Option<SpaceArg>,
    /// Landmark pairs: a v0 request body, landmark-pairs.json, or CSV with the columns template_x
    /// to patch_z and optionally name, active, weight.
    #[arg(long)]
    pub landmarks: Option<PathBuf>,
    /// Patch space of the landmarks. Omitted: what their file's format implies (viewer for both
    /// JSON forms), else that of the matrix.
    #[arg(long, value_enum)]
    pub landmark_space: Option<SpaceArg>,
    /// How landmarks act: they pull, or every pair is met to 0.1 voxel.
    #[arg(long, value_enum, default_value = "soft")]
    pub landmark_mode: LandmarkModeArg,
    /// Standard deviation of the landmarks' positions in mm. Omitted: the larger of a voxel and a
    /// twentieth of the thickness of the cortex. Hard landmarks have none.
    #[arg(long, value_name = "MM")]
    pub landmark_uncertainty: Option<f64>,
    /// Set of parameters.
    #[arg(long, value_enum, default_value = "standard")]
    pub preset: PresetArg,
    /// Folder for warp.nii.gz, inverse_warp.nii.gz, affine.txt, report.json, report.html and preview.png.
    #[arg(long, short)]
    pub output: PathBuf,
}

/// Options of `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The image to resample.
    #[arg(
        long,
        short,
        required_unless_present = "points",
        conflicts_with = "points"
    )]
    pub input: Option<PathBuf>,
    /// CSV file with columns x, y, z (RAS mm), mapped instead of an image.
    #[arg(long)]
    pub points: Option<PathBuf>,
    /// The file to write.
    #[arg(long, short)]
    pub output: PathBuf,
    /// Affine text file or displacement field. As with antsApplyTransforms, a position of the
    /// output grid passes the first one given first; [FILE,1] inverts an affine.
    #[arg(long, short, required = true, value_name = "FILE")]
    pub transform: Vec<String>,
    /// Invert the whole chain.
    #[arg(long)]
    pub invert: bool,
    /// Volume whose grid the output gets. Omitted: the input's.
    #[arg(long, short, conflicts_with = "points")]
    pub reference: Option<PathBuf>,
    /// How values between voxels are found.
    #[arg(long, value_enum, default_value = "linear")]
    pub interpolation: InterpolationArg,
}

/// Options of `convert`.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// A placement in any form that `register` reads.
    #[arg(
        long,
        required_unless_present = "landmarks",
        conflicts_with = "landmarks"
    )]
    pub placement: Option<PathBuf>,
    /// Landmarks in any form that `register` reads.
    #[arg(long)]
    pub landmarks: Option<PathBuf>,
    /// Patch space of what is read. Omitted: what its format implies, else viewer.
    #[arg(long, value_enum)]
    pub space: Option<SpaceArg>,
    /// Patch space of what is written. Omitted: physical for a placement as .json or .tfm, viewer
    /// for landmarks as .json, else that of what is read.
    #[arg(long, value_enum)]
    pub to_space: Option<SpaceArg>,
    /// A volume of the patch: its header tells how its spaces lie. Needed if the space changes.
    #[arg(long)]
    pub patch: Option<PathBuf>,
    /// The file to write. A placement: .json (VoluBA's transformMatrix.json), .tfm (ITK), else
    /// text; landmarks: .json (VoluBA's landmark-pairs.json), else CSV.
    #[arg(long, short)]
    pub output: PathBuf,
}

/// Options of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// NIfTI volumes.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder with the bundled example.
    #[arg(long, default_value = "examples")]
    pub examples: PathBuf,
    /// Folder for the results.
    #[arg(long, short, default_value = "dist/run")]
    pub output: PathBuf,
}

/// `--space`.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "camelCase")]
#[allow(missing_docs, reason = "documented at alignment_api::Space")]
pub enum SpaceArg {
    Viewer,
    ScaledVoxel,
    Physical,
}

impl From<SpaceArg> for Space {
    fn from(space: SpaceArg) -> Self {
        match space {
            SpaceArg::Viewer => Self::Viewer,
            SpaceArg::ScaledVoxel => Self::ScaledVoxel,
            SpaceArg::Physical => Self::Physical,
        }
    }
}

/// `--landmark-mode`.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs, reason = "documented at alignment_api::LandmarkMode")]
pub enum LandmarkModeArg {
    Soft,
    Hard,
}

impl From<LandmarkModeArg> for LandmarkMode {
    fn from(mode: LandmarkModeArg) -> Self {
        match mode {
            LandmarkModeArg::Soft => Self::Soft,
            LandmarkModeArg::Hard => Self::Hard,
        }
    }
}

/// `--preset`.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs, reason = "documented at alignment_api::Preset")]
pub enum PresetArg {
    Fast,
    Standard,
    Fine,
}

impl From<PresetArg> for Preset {
    fn from(preset: PresetArg) -> Self {
        match preset {
            PresetArg::Fast => Self::Fast,
            PresetArg::Standard => Self::Standard,
            PresetArg::Fine => Self::Fine,
        }
    }
}

/// `--interpolation`.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs, reason = "documented at alignment_api::Interpolation")]
pub enum InterpolationArg {
    Linear,
    Nearest,
    Label,
}

impl From<InterpolationArg> for Interpolation {
    fn from(interpolation: InterpolationArg) -> Self {
        match interpolation {
            InterpolationArg::Linear => Self::Linear,
            InterpolationArg::Nearest => Self::Nearest,
            InterpolationArg::Label => Self::Label,
        }
    }
}

/// `NAME=PATH`.
fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.into()))
        }
        _ => Err(format!("`{text}` is not NAME=PATH")),
    }
}

/// `NAME=SHA256`.
fn named_digest(text: &str) -> Result<(String, String), String> {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    match text.split_once('=') {
        Some((name, digest))
            if !name.is_empty() && digest.len() == 64 && digest.chars().all(hex) =>
        {
            Ok((name.to_owned(), digest.to_owned()))
        }
        _ => Err(format!(
            "`{text}` is not NAME=SHA256 with 64 lower-case hexadecimal digits"
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn names_and_paths_are_split_at_the_first_equals_sign() {
        assert_eq!(named_path("a=b=c").unwrap(), ("a".to_owned(), "b=c".into()));
        assert!(named_path("a").is_err());
    }
}
