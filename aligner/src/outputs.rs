//! Stages 4 and 6: resampling the images, and writing everything under fixed names.

use std::path::{Path, PathBuf};

use alignment_api::{Artifact, ArtifactKind, Interpolation, OutputArtifact, OutputGrid, Report};

use crate::{
    chain::{Chain, Link},
    error::Error,
    grid::Grid,
    io::{
        atomic::{self, Written},
        itk,
        nifti::{self, Voxels},
    },
    job::{DepthJob, ImageJob, Job},
    load::{self, Loaded},
    observer::{self, Observer, Step},
    page::Page,
    registration::Registration,
    resample,
    volume::Volume,
};

/// The patch's depth as used.
pub struct PatchDepthMap {
    /// Depth, 0 to 1.
    pub depth: Volume<f32>,
    /// Validity, if the depth was computed.
    pub validity: Option<Volume<f32>>,
    /// Median thickness of the cortex, if the depth was computed.
    pub median_thickness_mm: Option<f64>,
    /// Local thickness of the cortex in mm, if it is to be written.
    pub thickness_mm: Option<Volume<f32>>,
    /// Layers of equal volume, if they are to be written.
    pub layers: Option<Volume<u8>>,
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

/// Whether a file of [`write`] holds labels.
pub fn is_label_image(job: &Job, file: &str) -> bool {
    let mut labels = (job.images.iter())
        .filter(|image| image.interpolation == Interpolation::Label)
        .flat_map(|image| job.grids.iter().map(|grid| image_file(job, image, *grid)));
    labels.any(|name| name == file)
}

/// Refuses a job whose results would replace one of its inputs.
///
/// # Errors
/// [`Error::Usage`] naming the file.
pub fn check_inputs_survive(job: &Job) -> Result<(), Error> {
    let inputs = input_files(job);
    for name in planned_files(job) {
        if let Ok(path) = job.folder.join(&name).canonicalize()
            && inputs.contains(&path)
        {
            return Err(Error::Usage(format!(
                "the result `{name}` would replace an input of the same name: choose another destination"
            )));
        }
    }
    Ok(())
}

/// The files that a job reads, links resolved.
pub fn input_files(job: &Job) -> Vec<PathBuf> {
    let mut inputs = vec![&job.template];
    inputs.extend(job.images.iter().map(|image| &image.path));
    match &job.depth {
        DepthJob::Segmentation { path, .. } | DepthJob::Map { path } => inputs.push(path),
    }
    inputs
        .into_iter()
        .filter_map(|path| path.canonicalize().ok())
        .collect()
}

/// Names of all files that a job writes.
pub fn planned_files(job: &Job) -> Vec<String> {
    let mut names = Vec::new();
    for artifact in &job.artifacts {
        match (artifact, &job.depth) {
            (OutputArtifact::Images, _) => {
                for image in &job.images {
                    names.extend(job.grids.iter().map(|grid| image_file(job, image, *grid)));
                }
            }
            (OutputArtifact::Warp, _) => names.extend([WARP, AFFINE].map(str::to_owned)),
            (OutputArtifact::InverseWarp, _) => names.push(INVERSE_WARP.to_owned()),
            (OutputArtifact::Report, _) => {
                names.extend([PAGE, PREVIEW, REPORT].map(str::to_owned));
            }
            (artifact, DepthJob::Segmentation { path, .. }) => {
                let [depth, validity, thickness, layers] = depth_files(path);
                match artifact {
                    OutputArtifact::Thickness => names.push(thickness),
                    OutputArtifact::Layers => names.push(layers),
                    _ => names.extend([depth, validity]),
                }
            }
            (_, DepthJob::Map { .. }) => {}
        }
    }
    names
}

const WARP: &str = "warp.nii.gz";
const AFFINE: &str = "affine.txt";
const INVERSE_WARP: &str = "inverse_warp.nii.gz";
const PAGE: &str = "report.html";
const PREVIEW: &str = "preview.png";
pub(crate) const REPORT: &str = "report.json";

/// Files of what is computed from a segmentation: depth, validity, thickness, layers.
fn depth_files(segmentation: &Path) -> [String; 4] {
    let stem = stem(segmentation);
    [
        "equivolumetric-depth",
        "equivolumetric-depth-validity",
        "thickness",
        "equivolumetric-layers",
    ]
    .map(|what| format!("{stem}-{what}.nii.gz"))
}

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

/// Writes all outputs but the report.
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
        artifacts.push(artifact(name, kind, written));
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
    if let DepthJob::Segmentation { path: source, .. } = &job.depth {
        artifacts.extend(write_maps(job, source, results.depth, observer)?);
    }
    Ok(artifacts)
}

/// Writes what was computed from the segmentation.
fn write_maps(
    job: &Job,
    segmentation: &Path,
    maps: &PatchDepthMap,
    observer: &dyn Observer,
) -> Result<Vec<Artifact>, Error> {
    let [depth_name, validity_name, thickness_name, layers_name] = depth_files(segmentation);
    let path = |name: &str| job.folder.join(name);
    let mut artifacts = Vec::new();
    if let (Some(validity), true) = (
        &maps.validity,
        job.artifacts.contains(&OutputArtifact::Depth),
    ) {
        observer::check(observer)?;
        let written = write_depth(&path(&depth_name), &maps.depth)?;
        artifacts.push(artifact(depth_name, ArtifactKind::Depth, written));
        let written = write_validity(&path(&validity_name), validity)?;
        artifacts.push(artifact(validity_name, ArtifactKind::Validity, written));
    }
    if let Some(thickness_mm) = &maps.thickness_mm {
        observer::check(observer)?;
        let written = write_thickness(&path(&thickness_name), thickness_mm)?;
        artifacts.push(artifact(thickness_name, ArtifactKind::Thickness, written));
    }
    if let Some(layers) = &maps.layers {
        observer::check(observer)?;
        let written = write_layers(&path(&layers_name), layers, job.layer_count.get())?;
        artifacts.push(artifact(layers_name, ArtifactKind::Layers, written));
    }
    Ok(artifacts)
}

fn artifact(name: String, kind: ArtifactKind, written: Written) -> Artifact {
    Artifact {
        name,
        kind,
        sha256: written.sha256,
        bytes: written.bytes,
        neuroglancer_url: None,
    }
}

/// Writes a depth map with the header that consumers of highres-cortex know.
///
/// # Errors
/// [`Error::Write`] naming the file.
pub fn write_depth(path: &Path, depth: &Volume<f32>) -> Result<Written, Error> {
    let header = nifti::scalar_header(
        "Equivolumetric cortical depth, 0 pial to 1 white",
        "Equivol. depth",
    );
    Ok(nifti::write_scalar(
        path,
        &depth.grid,
        depth.values(),
        header,
    )?)
}

/// Writes a validity map.
///
/// # Errors
/// [`Error::Write`] naming the file.
pub fn write_validity(path: &Path, validity: &Volume<f32>) -> Result<Written, Error> {
    let header = nifti::scalar_header(
        "Validity of the cortical depth, 0 unknown to 1 known",
        "Depth validity",
    );
    Ok(nifti::write_scalar(
        path,
        &validity.grid,
        validity.values(),
        header,
    )?)
}

/// Writes `report.html` and `preview.png`.
///
/// # Errors
/// [`Error::Write`] naming the file.
pub fn write_page(job: &Job, page: &Page) -> Result<[Artifact; 2], Error> {
    let write = |name: &str, kind, bytes: &[u8]| -> Result<Artifact, Error> {
        let written = atomic::write(&job.folder.join(name), |out| out.write_all(bytes))?;
        Ok(artifact(name.to_owned(), kind, written))
    };
    Ok([
        write(PAGE, ArtifactKind::Page, page.html.as_bytes())?,
        write(PREVIEW, ArtifactKind::Preview, &page.preview)?,
    ])
}

/// Writes a map of the thickness of the cortex in mm.
///
/// # Errors
/// [`Error::Write`] naming the file.
pub fn write_thickness(path: &Path, thickness_mm: &Volume<f32>) -> Result<Written, Error> {
    let most = thickness_mm.values().iter().copied().fold(0.0, f32::max);
    let header = nifti::length_header("Cortical thickness in mm", "Thickness", most);
    let (grid, values) = (&thickness_mm.grid, thickness_mm.values());
    Ok(nifti::write_scalar(path, grid, values, header)?)
}

/// Writes `count` layers of equal volume.
///
/// # Errors
/// [`Error::Write`] naming the file.
pub fn write_layers(path: &Path, layers: &Volume<u8>, count: u8) -> Result<Written, Error> {
    let header = nifti::label_header(
        "Equivolumetric layers, 1 at the pial surface",
        "Equivol. layers",
        count,
    );
    let (grid, values) = (&layers.grid, layers.values());
    Ok(nifti::write_labels(path, grid, values, header)?)
}

/// Writes `report.json`.
///
/// # Errors
/// [`Error::Write`] naming the file.
pub fn write_report(job: &Job, report: &Report) -> Result<Artifact, Error> {
    let name = REPORT;
    let written = atomic::write(&job.folder.join(name), |out| {
        serde_json::to_writer_pretty(&mut *out, report)?;
        out.write_all(b"\n")
    })?;
    Ok(artifact(name.to_owned(), ArtifactKind::Report, written))
}

/// File name without folder and without `.nii` or `.nii.gz`.
fn stem(path: &Path) -> String {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.strip_suffix(".nii").unwrap_or(name).to_owned()
}
