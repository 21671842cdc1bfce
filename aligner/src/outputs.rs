//! Stages 4 and 6: resampling the images, and writing everything under fixed names.

use alignment_api::{
    Artifact, ArtifactKind, DepthReport, Interpolation, OutputArtifact, OutputGrid, REPORT_SCHEMA,
};

use crate::{
    chain::{Chain, Link},
    error::Error,
    footprint::{self, Footprint},
    grid::Grid,
    io::{
        atomic::Written,
        itk,
        nifti::{self, Voxels},
    },
    job::{DepthJob, ImageJob, Job},
    load::{self, Loaded},
    maps::{self, MapFiles, Maps},
    observer::{self, Observer, Step},
    registration::Registration,
    report_files::{PAGE, PREVIEW, REPORT},
    resample,
    volume::Volume,
};

/// The patch's depth as used.
pub enum PatchDepthMap {
    /// As it was given, 0 to 1.
    Given(Box<Volume<f32>>),
    /// Computed from a segmentation.
    Computed(Box<Maps>),
}

impl PatchDepthMap {
    /// Depth, 0 to 1.
    pub fn depth(&self) -> &Volume<f32> {
        match self {
            Self::Given(depth) => depth,
            Self::Computed(maps) => &maps.depth,
        }
    }

    /// Validity, if the depth was computed.
    pub fn validity(&self) -> Option<&Volume<f32>> {
        match self {
            Self::Given(_) => None,
            Self::Computed(maps) => Some(&maps.validity),
        }
    }

    /// How it was obtained.
    pub fn report(&self) -> DepthReport {
        match self {
            Self::Given(depth) => maps::report_of_given(depth),
            Self::Computed(maps) => maps.report(),
        }
    }
}

/// An image on an output grid.
pub struct ResampledImage {
    /// File name.
    pub file: String,
    /// Stored values.
    pub voxels: Voxels,
    /// Where they lie: in the patch's physical space, or in the template's.
    pub grid: Grid,
    /// Which of the two.
    pub space: OutputGrid,
    /// Position of the image in the job.
    pub index: usize,
}

/// What there is to write.
pub struct Results<'a> {
    /// Inputs.
    pub loaded: &'a Loaded,
    /// The patch's depth.
    pub depth: &'a PatchDepthMap,
    /// The transform.
    pub registration: &'a Registration,
    /// Resampled images.
    pub images: Vec<ResampledImage>,
}

/// File of an image on a grid.
fn image_file(job: &Job, image: &ImageJob, grid: OutputGrid) -> String {
    match grid {
        OutputGrid::Patch => format!("{}-transformed.nii.gz", image.name),
        OutputGrid::Template => format!("{}-in-{}.nii.gz", image.name, job.template_name),
    }
}

/// Names of the files of [`write`] that hold labels.
pub fn label_images(job: &Job) -> Vec<String> {
    (job.images.iter())
        .filter(|image| image.interpolation == Interpolation::Label)
        .flat_map(|image| job.grids.iter().map(|grid| image_file(job, image, *grid)))
        .collect()
}

/// What a job reads and writes.
pub fn footprint(job: &Job) -> Footprint<'_> {
    let depth = match &job.depth {
        DepthJob::Segmentation { path, .. } | DepthJob::Map { path } => path,
    };
    let images = job.images.iter().map(|image| &image.path);
    Footprint {
        schema: REPORT_SCHEMA,
        request: job.name.as_deref(),
        folder: &job.folder,
        planned: planned_files(job),
        inputs: footprint::resolved(images.chain([&job.template, depth])),
    }
}

/// Names of all files that a job writes.
fn planned_files(job: &Job) -> Vec<String> {
    let mut names = map_files(job).names();
    for artifact in &job.artifacts {
        match artifact {
            OutputArtifact::Images => {
                for image in &job.images {
                    names.extend(job.grids.iter().map(|grid| image_file(job, image, *grid)));
                }
            }
            OutputArtifact::Warp => names.extend([WARP, AFFINE].map(str::to_owned)),
            OutputArtifact::InverseWarp => names.push(INVERSE_WARP.to_owned()),
            OutputArtifact::Report => names.extend([PAGE, PREVIEW, REPORT].map(str::to_owned)),
            OutputArtifact::Depth | OutputArtifact::Thickness | OutputArtifact::Layers => {}
        }
    }
    names
}

/// Files of what is computed from the segmentation; none for a map.
pub fn map_files(job: &Job) -> MapFiles {
    match &job.depth {
        DepthJob::Segmentation { path, .. } => {
            MapFiles::of_request(&job.folder, path, &job.artifacts, job.layer_count)
        }
        DepthJob::Map { .. } => MapFiles::default(),
    }
}

const WARP: &str = "warp.nii.gz";
const AFFINE: &str = "affine.txt";
const INVERSE_WARP: &str = "inverse_warp.nii.gz";

/// Carries every image through the transform onto every grid asked for.
///
/// On the patch's grid only the non-linear part is applied: the result is shown in the template
/// with the placement, unchanged. On the template's grid, both parts are.
///
/// # Errors
/// [`Error::Geometry`] if an image lies outside the template, [`Error::Interrupted`].
pub fn resample_images(
    job: &Job,
    loaded: &Loaded,
    registration: &Registration,
    observer: &dyn Observer,
) -> Result<Vec<ResampledImage>, Error> {
    if !job.artifacts.contains(&OutputArtifact::Images) {
        return Ok(Vec::new());
    }
    let total = (job.images.len() * job.grids.len()) as f64;
    let mut results: Vec<ResampledImage> = Vec::new();
    for (index, (image, stored)) in job.images.iter().zip(&loaded.images).enumerate() {
        for grid in &job.grids {
            observer::check(observer)?;
            let (target, chain) = match grid {
                OutputGrid::Patch => (stored.header.grid, Chain::default()),
                OutputGrid::Template => onto_template(image, &stored.header.grid, loaded)?,
            };
            let chain = chain.then(Link::Field(&registration.inverse));
            let voxels = resample::resample(
                &stored.voxels,
                &stored.header,
                &target,
                &chain,
                image.interpolation,
                observer,
            )?;
            results.push(ResampledImage {
                file: image_file(job, image, *grid),
                voxels,
                grid: target,
                space: *grid,
                index,
            });
            let fraction = results.len() as f64 / total;
            observer.step(&Step {
                fraction,
                ..Step::default()
            });
        }
    }
    Ok(results)
}

/// The template's voxels that an image covers, and the map from them to the patch.
fn onto_template<'a>(
    image: &ImageJob,
    source: &Grid,
    loaded: &Loaded,
) -> Result<(Grid, Chain<'a>), Error> {
    let template = loaded.template_grid;
    let crop = load::covered(source, &loaded.patch_to_template, &template);
    match (crop, loaded.patch_to_template.inverse()) {
        (Some(crop), Some(back)) => Ok((
            template.cropped(crop.start, crop.shape),
            Chain::default().then(Link::Affine(back)),
        )),
        _ => Err(Error::Geometry(format!(
            "image `{}` lies outside the template: leave `template` out of the grids",
            image.name
        ))),
    }
}

/// Writes all outputs but the report and its page.
///
/// # Errors
/// [`Error::Write`] naming the file; [`Error::Interrupted`] between files.
pub fn write(
    job: &Job,
    results: &Results,
    observer: &dyn Observer,
) -> Result<Vec<Artifact>, Error> {
    let mut artifacts = Vec::new();
    let registration = results.registration;
    let wanted = |artifact| job.artifacts.contains(&artifact);
    let mut done = |name: String, kind, written: Written| {
        artifacts.push(written.into_artifact(name, kind));
    };
    let path = |name: &str| job.folder.join(name);
    for image in &results.images {
        observer::check(observer)?;
        let header = &results.loaded.images[image.index].header;
        let written = nifti::write_stored(&path(&image.file), &image.grid, &image.voxels, header)?;
        done(image.file.clone(), ArtifactKind::Image, written);
    }
    observer.step(&Step {
        fraction: 0.4,
        ..Step::default()
    });
    if wanted(OutputArtifact::Warp) {
        observer::check(observer)?;
        let header = nifti::vector_header("patch to template, non-linear part");
        done(
            WARP.into(),
            ArtifactKind::Warp,
            nifti::write_vectors(&path(WARP), &registration.forward, header)?,
        );
        let written = itk::write_affine(&path(AFFINE), &results.loaded.patch_to_template)?;
        done(AFFINE.into(), ArtifactKind::Affine, written);
    }
    observer.step(&Step {
        fraction: 0.65,
        ..Step::default()
    });
    if wanted(OutputArtifact::InverseWarp) {
        observer::check(observer)?;
        let header = nifti::vector_header("inverse of warp.nii.gz");
        let written = nifti::write_vectors(&path(INVERSE_WARP), &registration.inverse, header)?;
        done(INVERSE_WARP.into(), ArtifactKind::InverseWarp, written);
    }
    observer.step(&Step {
        fraction: 0.9,
        ..Step::default()
    });
    if let PatchDepthMap::Computed(maps) = results.depth {
        let written = map_files(job).write(maps, 0.9..0.95, observer)?;
        artifacts.extend(written);
    }
    Ok(artifacts)
}
