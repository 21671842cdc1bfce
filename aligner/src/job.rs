//! From a request, or a command line, to what the pipelines run: every path resolved.

use std::{
    collections::BTreeMap,
    num::NonZero,
    path::{Path, PathBuf},
    sync::Arc,
};

use alignment_api::{
    AlignmentSpec, Depth, DepthMapSpec, Interpolation, Labels, Landmark, OutputArtifact,
    OutputGrid, Placement, RegistrationParameters, RequestDocument, Space, Violation,
};

use crate::{error::Error, net::Network, transfers::Transfers};

/// What messages call a segmentation.
const SEGMENTATION: &str = "segmentation";

/// An image to transform.
#[derive(Clone, Debug)]
pub struct ImageJob {
    /// Becomes part of the output's file name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// How values between voxels are found.
    pub interpolation: Interpolation,
}

/// Where the patch's depth comes from.
#[derive(Clone, Debug)]
pub enum DepthJob {
    /// Computed from a segmentation.
    Segmentation {
        /// The file.
        path: PathBuf,
        /// Which values mean what.
        labels: Labels,
    },
    /// Read from a map.
    Map {
        /// The file.
        path: PathBuf,
    },
}

/// Everything that an alignment needs to know.
#[derive(Clone, Debug)]
pub struct Job {
    /// Name of the request.
    pub name: Option<String>,
    /// Name of the template.
    pub template_name: String,
    /// The template's depth map.
    pub template: PathBuf,
    /// SHA-256 that its file must have, lower-case hexadecimal, if that was told.
    pub template_sha256: Option<String>,
    /// Images to transform.
    pub images: Vec<ImageJob>,
    /// The patch's depth.
    pub depth: DepthJob,
    /// Linear placement.
    pub placement: Placement,
    /// Landmark pairs.
    pub landmarks: Vec<Landmark>,
    /// What the landmarks mean by a position in the patch.
    pub landmark_space: Space,
    /// Registration parameters.
    pub registration: RegistrationParameters,
    /// Folder for the outputs.
    pub folder: PathBuf,
    /// Grids onto which images are resampled.
    pub grids: Vec<OutputGrid>,
    /// What to write.
    pub artifacts: Vec<OutputArtifact>,
    /// Number of layers, if they are to be written.
    pub layer_count: NonZero<u8>,
    /// What is fetched before and stored after.
    pub transfers: Transfers,
    /// The command that gives the results again.
    pub command: String,
}

/// Everything that a depth map alone needs to know.
#[derive(Clone, Debug)]
pub struct DepthMapJob {
    /// Name of the request.
    pub name: Option<String>,
    /// The segmentation.
    pub segmentation: PathBuf,
    /// Which of its values mean what.
    pub labels: Labels,
    /// Folder for the outputs.
    pub folder: PathBuf,
    /// What to write.
    pub artifacts: Vec<OutputArtifact>,
    /// Number of layers, if they are to be written.
    pub layer_count: NonZero<u8>,
    /// What is fetched before and stored after.
    pub transfers: Transfers,
    /// The command that gives the results again.
    pub command: String,
}

impl DepthMapJob {
    /// Resolves the places that a spec names.
    ///
    /// # Errors
    /// [`Error::Usage`] for a claim without a folder; [`Error::Network`] for a place that is not
    /// allowed.
    pub fn resolve(
        name: Option<String>,
        spec: &DepthMapSpec,
        mut transfers: Transfers,
        mounts: &Mounts,
    ) -> Result<Self, Error> {
        let (segmentation, output) = (&spec.segmentation, &spec.output);
        let artifacts = output.artifacts.iter();
        Ok(Self {
            name,
            segmentation: transfers.source(SEGMENTATION, &segmentation.source, mounts)?,
            labels: segmentation.labels.clone(),
            folder: transfers.destination(&output.destination, mounts)?,
            artifacts: artifacts.map(|artifact| (*artifact).into()).collect(),
            layer_count: output.layer_count,
            transfers,
            command: String::new(),
        })
    }
}

/// What the command line maps names to.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    /// Claim name → folder.
    pub claims: BTreeMap<String, PathBuf>,
    /// Template name → file, in the order given; the first is the default.
    pub templates: Vec<(String, PathBuf)>,
    /// Template name → SHA-256 of its file, lower-case hexadecimal.
    pub template_sha256: BTreeMap<String, String>,
    /// How places beyond the file system are reached.
    pub network: Arc<Network>,
}

impl Job {
    /// Resolves the places that a spec names.
    ///
    /// # Errors
    /// [`Error::Request`] for a template that is not offered; [`Error::Usage`] for a claim without a
    /// folder; [`Error::Network`] for a place that is not allowed.
    pub fn resolve(
        name: Option<String>,
        spec: &AlignmentSpec,
        mut transfers: Transfers,
        mounts: &Mounts,
    ) -> Result<Self, Error> {
        let (template_name, template) = template(spec.template.as_deref(), mounts)?;
        let images = spec
            .patch
            .images
            .iter()
            .map(|image| {
                Ok(ImageJob {
                    name: image.name.clone(),
                    path: transfers.source(
                        format!("image `{}`", image.name),
                        &image.source,
                        mounts,
                    )?,
                    interpolation: image.interpolation,
                })
            })
            .collect::<Result<_, Error>>()?;
        let depth = match &spec.patch.depth {
            Depth::Segmentation(segmentation) => DepthJob::Segmentation {
                path: transfers.source(SEGMENTATION, &segmentation.source, mounts)?,
                labels: segmentation.labels.clone(),
            },
            Depth::Map { source } => DepthJob::Map {
                path: transfers.source("depth map", source, mounts)?,
            },
        };
        Ok(Self {
            name,
            template_sha256: mounts.template_sha256.get(&template_name).cloned(),
            template_name,
            template,
            images,
            depth,
            placement: spec.placement.clone(),
            landmarks: spec.landmarks.clone(),
            landmark_space: spec.placement.space,
            registration: spec.registration.clone(),
            folder: transfers.destination(&spec.output.destination, mounts)?,
            grids: spec.output.grids.clone(),
            artifacts: spec.output.artifacts.clone(),
            layer_count: spec.output.layer_count,
            transfers,
            command: String::new(),
        })
    }
}

impl Job {
    /// What is wrong with placement, landmarks and parameters of a job made from a command line.
    pub fn violations(&self) -> Vec<Violation> {
        alignment_api::validate_alignment(&self.placement, &self.landmarks, &self.registration)
    }
}

fn template(name: Option<&str>, mounts: &Mounts) -> Result<(String, PathBuf), Error> {
    let offered = &mounts.templates;
    let found = match name {
        Some(name) => offered.iter().find(|(offered, _)| offered == name),
        None => offered.first(),
    };
    found.cloned().ok_or_else(|| {
        let names: Vec<&str> = offered.iter().map(|(name, _)| name.as_str()).collect();
        let names = if names.is_empty() {
            "none; --template NAME=FILE offers one".to_owned()
        } else {
            names.join(", ")
        };
        let message = match name {
            Some(name) => format!("`{name}` is not offered here (offered: {names})"),
            None => format!("is missing, and there is no default (offered: {names})"),
        };
        Error::Request(vec![Violation {
            field: "spec.template".to_owned(),
            message,
        }])
    })
}

impl Mounts {
    fn claim(&self, name: &str) -> Result<&Path, Error> {
        self.claims.get(name).map(PathBuf::as_path).ok_or_else(|| {
            Error::Usage(format!(
                "claim `{name}` is mapped to no folder: add --claim {name}=DIR"
            ))
        })
    }

    /// A path below a claim's folder, which cannot leave it, also not through a link.
    ///
    /// # Errors
    /// [`Error::Usage`] for a claim without a folder and for a path that leaves it.
    pub fn below(&self, claim_name: &str, path: &str) -> Result<PathBuf, Error> {
        let root = self.claim(claim_name)?;
        let target = root.join(path);
        let existing = target.ancestors().find(|ancestor| ancestor.exists());
        if let (Ok(root), Some(Ok(real))) = (root.canonicalize(), existing.map(Path::canonicalize))
            && !real.starts_with(&root)
        {
            return Err(Error::Usage(format!(
                "`{path}` is a link that leaves the claim `{claim_name}`"
            )));
        }
        Ok(target)
    }
}

/// Reads and parses a request file, YAML or JSON.
///
/// # Errors
/// [`Error::Document`] naming the field that does not fit.
pub fn read_request(path: &Path) -> Result<RequestDocument, Error> {
    let document = |problem: String| Error::Document {
        path: path.to_owned(),
        problem,
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| document(format!("cannot be read: {error}")))?;
    parse_request(&text).map_err(document)
}

/// Parses a request, YAML or JSON.
///
/// # Errors
/// What is wrong, with the field that does not fit.
pub fn parse_request(text: &str) -> Result<RequestDocument, String> {
    if nesting(text) > MOST_NESTING {
        return Err(format!("is nested more than {MOST_NESTING} levels deep"));
    }
    // Through values, so that variants are written as plain maps; YAML's own, because they refuse
    // a key that stands twice.
    let value: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(text).map_err(|error| format!("is not YAML: {error}"))?;
    let value =
        serde_json::to_value(value).map_err(|error| format!("is not a request: {error}"))?;
    RequestDocument::read(&value).map_err(|violation| violation.to_string())
}

/// A request is nested about ten levels deep; parsers get slow with far more.
const MOST_NESTING: usize = 64;

/// Largest number of open brackets and braces.
fn nesting(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}
