//! What is computed from a segmentation, and its files: depth, validity, thickness, layers.

use std::{
    num::NonZero,
    ops::Range,
    path::{Path, PathBuf},
};

use alignment_api::{Artifact, ArtifactKind, DepthReport, DepthSource, OutputArtifact};

use crate::{
    depth::{self, DepthError, Tissue},
    error::Error,
    io::{
        atomic::{Written, file_name},
        nifti,
    },
    observer::{self, Observer, Step},
    volume::Volume,
};

/// Maps on the grid of the segmentation.
pub struct Maps {
    /// Depth, 0 to 1.
    pub depth: Volume<f32>,
    /// Validity of the depth, 0 to 1.
    pub validity: Volume<f32>,
    /// Median thickness of the cortex.
    pub median_thickness_mm: f64,
    /// Thickness of the cortex in mm at each voxel where it is known, in any order; empty unless needed.
    pub lengths_mm: Vec<f32>,
    /// Local thickness of the cortex in mm, if it is needed.
    pub thickness_mm: Option<Volume<f32>>,
    /// Layers of equal volume, if they are needed.
    pub layers: Option<Volume<u8>>,
}

/// What is needed beside depth and validity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// The thickness, wherever it is.
    pub lengths: bool,
    /// The map of the thickness.
    pub thickness: bool,
    /// So many layers.
    pub layers: Option<NonZero<u8>>,
}

impl Maps {
    /// Computes what is needed, and adds what a person should know.
    ///
    /// # Errors
    /// As [`depth::compute`].
    pub fn compute(
        tissues: &Volume<Tissue>,
        needs: Needs,
        observer: &dyn Observer,
        warnings: &mut Vec<String>,
    ) -> Result<Self, DepthError> {
        let map = depth::compute(tissues, observer)?;
        let lengths_mm = if needs.lengths {
            map.lengths_mm()
        } else {
            Vec::new()
        };
        let thickness_mm = needs.thickness.then(|| map.thickness_mm());
        let layers = needs
            .layers
            .map(|count| depth::layers(tissues, &map, count));
        warnings.extend(map.warnings);
        Ok(Self {
            depth: map.depth,
            validity: map.validity,
            median_thickness_mm: map.median_thickness_mm,
            lengths_mm,
            thickness_mm,
            layers,
        })
    }

    /// What was found of the cortex.
    pub fn report(&self) -> DepthReport {
        let (cortex_voxels, mean_validity) = cortex(&self.depth, |index| {
            f64::from(self.validity.values()[index])
        });
        DepthReport {
            source: DepthSource::Segmentation,
            cortex_voxels,
            mean_validity,
            median_thickness_mm: Some(self.median_thickness_mm),
        }
    }
}

/// What is known of a depth that was given: it comes without a validity.
pub fn report_of_given(depth: &Volume<f32>) -> DepthReport {
    DepthReport {
        source: DepthSource::Map,
        cortex_voxels: cortex(depth, |_| 1.0).0,
        mean_validity: 1.0,
        median_thickness_mm: None,
    }
}

/// Number of voxels with a depth strictly between 0 and 1, and the mean validity over them.
fn cortex(depth: &Volume<f32>, validity: impl Fn(usize) -> f64) -> (usize, f64) {
    let values = depth.values().iter().enumerate();
    let inside = values.filter(|(_, depth)| **depth > 0.0 && **depth < 1.0);
    let (count, sum) = inside.fold((0, 0.0), |(count, sum), (index, _)| {
        (count + 1, sum + validity(index))
    });
    (count, sum / count.max(1) as f64)
}

/// Where maps go; what has no file is not written.
#[derive(Clone, Debug, Default)]
pub struct MapFiles {
    /// The depth.
    pub depth: Option<PathBuf>,
    /// The validity.
    pub validity: Option<PathBuf>,
    /// The thickness.
    pub thickness: Option<PathBuf>,
    /// The layers, and how many of them.
    pub layers: Option<(PathBuf, NonZero<u8>)>,
}

impl MapFiles {
    /// Those of a request, named after its segmentation.
    pub fn of_request(
        folder: &Path,
        segmentation: &Path,
        artifacts: &[OutputArtifact],
        layer_count: NonZero<u8>,
    ) -> Self {
        let stem = stem(segmentation);
        let file = |artifact, what: &str| {
            let wanted = artifacts.contains(&artifact);
            wanted.then(|| folder.join(format!("{stem}-{what}.nii.gz")))
        };
        Self {
            depth: file(OutputArtifact::Depth, "equivolumetric-depth"),
            validity: file(OutputArtifact::Depth, "equivolumetric-depth-validity"),
            thickness: file(OutputArtifact::Thickness, "thickness"),
            layers: file(OutputArtifact::Layers, "equivolumetric-layers")
                .map(|path| (path, layer_count)),
        }
    }

    /// What must be computed for them.
    pub fn needs(&self) -> Needs {
        Needs {
            lengths: false,
            thickness: self.thickness.is_some(),
            layers: self.layers.as_ref().map(|(_, count)| *count),
        }
    }

    /// Their names, without folders.
    pub fn names(&self) -> Vec<String> {
        let layers = self.layers.as_ref().map(|(path, _)| path);
        [&self.depth, &self.validity, &self.thickness]
            .into_iter()
            .filter_map(Option::as_ref)
            .chain(layers)
            .map(|path| file_name(path))
            .collect()
    }

    /// Writes the maps; reports them as this part of the stage.
    ///
    /// # Errors
    /// [`Error::Write`] naming the file; [`Error::Interrupted`] between files.
    pub fn write(
        &self,
        maps: &Maps,
        part: Range<f64>,
        observer: &dyn Observer,
    ) -> Result<Vec<Artifact>, Error> {
        let mut artifacts = Vec::new();
        let total = self.names().len() as f64;
        let mut done = |path: &Path, kind, written: Written| {
            artifacts.push(written.into_artifact(file_name(path), kind));
            let share = artifacts.len() as f64 / total;
            let fraction = part.start + (part.end - part.start) * share;
            observer.step(&Step {
                fraction,
                ..Step::default()
            });
            observer::check(observer)
        };
        if let Some(path) = &self.depth {
            let written = write_depth(path, &maps.depth)?;
            done(path, ArtifactKind::Depth, written)?;
        }
        if let Some(path) = &self.validity {
            let written = write_validity(path, &maps.validity)?;
            done(path, ArtifactKind::Validity, written)?;
        }
        if let (Some(path), Some(thickness_mm)) = (&self.thickness, &maps.thickness_mm) {
            let written = write_thickness(path, thickness_mm)?;
            done(path, ArtifactKind::Thickness, written)?;
        }
        if let (Some((path, count)), Some(layers)) = (&self.layers, &maps.layers) {
            let written = write_layers(path, layers, count.get())?;
            done(path, ArtifactKind::Layers, written)?;
        }
        Ok(artifacts)
    }
}

/// File name without folder and without `.nii` or `.nii.gz`.
fn stem(path: &Path) -> String {
    let name = file_name(path);
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.strip_suffix(".nii").unwrap_or(name).to_owned()
}

/// With the header that consumers of highres-cortex know.
fn write_depth(path: &Path, depth: &Volume<f32>) -> Result<Written, Error> {
    let header = nifti::scalar_header(
        "Equivolumetric cortical depth, 0 pial to 1 white",
        "Equivol. depth",
    );
    let (grid, values) = (&depth.grid, depth.values());
    Ok(nifti::write_scalar(path, grid, values, header)?)
}

fn write_validity(path: &Path, validity: &Volume<f32>) -> Result<Written, Error> {
    let header = nifti::scalar_header(
        "Validity of the cortical depth, 0 unknown to 1 known",
        "Depth validity",
    );
    let (grid, values) = (&validity.grid, validity.values());
    Ok(nifti::write_scalar(path, grid, values, header)?)
}

fn write_thickness(path: &Path, thickness_mm: &Volume<f32>) -> Result<Written, Error> {
    let most = thickness_mm.values().iter().copied().fold(0.0, f32::max);
    let header = nifti::length_header("Cortical thickness in mm", "Thickness", most);
    let (grid, values) = (&thickness_mm.grid, thickness_mm.values());
    Ok(nifti::write_scalar(path, grid, values, header)?)
}

fn write_layers(path: &Path, layers: &Volume<u8>, count: u8) -> Result<Written, Error> {
    let header = nifti::label_header(
        "Equivolumetric layers, 1 at the pial surface",
        "Equivol. layers",
        count,
    );
    let (grid, values) = (&layers.grid, layers.values());
    Ok(nifti::write_labels(path, grid, values, header)?)
}
