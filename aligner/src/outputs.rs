//! Stages 4 and 6: resampling the images, and writing everything under fixed names.

use std::path::Path;

use alignment_api::{Artifact, ArtifactKind, OutputArtifact, OutputGrid, Report};

use crate::{
    chain::{Chain, Link},
    error::Error,
    grid::Grid,
    io::{
        atomic::{self, Written},
        itk,
        nifti::{self, Voxels},
    },
    job::{DepthJob, Job},
    load::{self, Loaded},
    observer::{self, Observer, Step},
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
}

/// An image on an output grid.
pub struct ResampledImage {
    /// File name.
    pub file: String,
    /// Stored values.
    pub voxels: Voxels,
    /// Where they lie.
    pub grid: Grid,
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

/// Carries every image through the transform onto every grid asked for.
///
/// On the patch's grid only the non-linear part is applied: the result is shown in the template
/// with the placement, unchanged. On the template's grid, both parts are.
pub fn resample_images(
    job: &Job,
    loaded: &Loaded,
    registration: &Registration,
) -> Vec<ResampledImage> {
    if !job.artifacts.contains(&OutputArtifact::Images) {
        return Vec::new();
    }
    let mut results = Vec::new();
    for (index, (image, stored)) in job.images.iter().zip(&loaded.images).enumerate() {
        let source = stored.header.grid;
        for grid in [OutputGrid::Patch, OutputGrid::Template] {
            if !job.grids.contains(&grid) {
                continue;
            }
            let to_patch = Chain::default();
            let (file, target, chain) = match grid {
                OutputGrid::Patch => (
                    format!("{}-transformed.nii.gz", image.name),
                    source,
                    to_patch,
                ),
                OutputGrid::Template => {
                    let template = loaded.template_grid;
                    let crop = load::box_in(&source, &loaded.patch_to_template, &template)
                        .and_then(|(low, high)| load::crop_between(low, high, template.shape));
                    // The template was cropped to a larger box around the patch, so these exist.
                    let (Some(crop), Some(back)) = (crop, loaded.patch_to_template.inverse())
                    else {
                        continue;
                    };
                    let file = format!("{}-in-{}.nii.gz", image.name, job.template_name);
                    (
                        file,
                        template.cropped(crop.start, crop.shape),
                        to_patch.then(Link::Affine(back)),
                    )
                }
            };
            let chain = chain.then(Link::Field(&registration.inverse));
            let voxels = resample::resample(
                &stored.voxels,
                &stored.header,
                &target,
                &chain,
                image.interpolation,
            );
            results.push(ResampledImage {
                file,
                voxels,
                grid: target,
                index,
            });
        }
    }
    results
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
        artifacts.push(Artifact {
            name,
            kind,
            sha256: written.sha256,
            bytes: written.bytes,
        });
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
            "warp.nii.gz".into(),
            ArtifactKind::Warp,
            nifti::write_vectors(&path("warp.nii.gz"), &registration.forward, header)?,
        );
        let written = itk::write_affine(&path("affine.txt"), &results.loaded.patch_to_template)?;
        done("affine.txt".into(), ArtifactKind::Affine, written);
    }
    observer.step(&Step {
        fraction: 0.65,
        ..Step::default()
    });
    if wanted(OutputArtifact::InverseWarp) {
        observer::check(observer)?;
        let header = nifti::vector_header("inverse of warp.nii.gz");
        let written =
            nifti::write_vectors(&path("inverse_warp.nii.gz"), &registration.inverse, header)?;
        done(
            "inverse_warp.nii.gz".into(),
            ArtifactKind::InverseWarp,
            written,
        );
    }
    observer.step(&Step {
        fraction: 0.9,
        ..Step::default()
    });
    if let (DepthJob::Segmentation { path: source, .. }, Some(validity), true) = (
        &job.depth,
        &results.depth.validity,
        wanted(OutputArtifact::Depth),
    ) {
        observer::check(observer)?;
        let stem = format!("{}-equivolumetric-depth", stem(source));
        let name = format!("{stem}.nii.gz");
        done(
            name.clone(),
            ArtifactKind::Depth,
            write_depth(&path(&name), &results.depth.depth)?,
        );
        let name = format!("{stem}-validity.nii.gz");
        done(
            name.clone(),
            ArtifactKind::Validity,
            write_validity(&path(&name), validity)?,
        );
    }
    Ok(artifacts)
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

/// Writes `report.json`.
///
/// # Errors
/// [`Error::Write`] naming the file.
pub fn write_report(job: &Job, report: &Report) -> Result<Artifact, Error> {
    let name = "report.json";
    let written = atomic::write(&job.folder.join(name), |out| {
        serde_json::to_writer_pretty(&mut *out, report)?;
        out.write_all(b"\n")
    })?;
    Ok(Artifact {
        name: name.to_owned(),
        kind: ArtifactKind::Report,
        sha256: written.sha256,
        bytes: written.bytes,
    })
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
