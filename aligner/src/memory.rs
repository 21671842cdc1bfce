//! How much memory a job needs, from its headers alone, and how much there is.
//!
//! A run that would be killed for its memory is refused before anything is read: the kernel kills
//! without a word, and the operator cannot know by how much the limit was too small.

use std::{fs, path::Path};

use alignment_api::OutputArtifact;

use crate::{
    error::Error,
    io::nifti::{self, Crop, Header},
    job::{DepthJob, Job},
};

/// The program, its threads and buffers.
const BASE_BYTES: u64 = 16 << 20;
/// Per voxel of the patch, at the peak: depth, validity, six displacement components and the
/// registration's working arrays. With a segmentation, the depth solver's arrays peak higher.
/// Measured on runs of 0.26 to 17 million voxels, a quarter of them grey: 0 to 20 % above the peak.
const BYTES_PER_VOXEL_MAP: u64 = 40;
const BYTES_PER_VOXEL_SEGMENTATION: u64 = 44;
/// Per voxel of the template's crop: the depth and its smoothed copy.
const BYTES_PER_TEMPLATE_VOXEL: u64 = 8;

/// Bytes that a job needs at its peak.
///
/// `template` is the part of the template that will be read.
pub fn predict(job: &Job, patch: &Header, images: &[Header], template: &Crop) -> u64 {
    let per_voxel = match job.depth {
        DepthJob::Segmentation { .. } => BYTES_PER_VOXEL_SEGMENTATION,
        DepthJob::Map { .. } => BYTES_PER_VOXEL_MAP,
    };
    // Thickness and layers are kept until they are written.
    let kept = |artifact, bytes| u64::from(job.artifacts.contains(&artifact)) * bytes;
    let maps = kept(OutputArtifact::Thickness, 4) + kept(OutputArtifact::Layers, 1);
    // Each image is held as it was read, and once for each grid until it is written.
    let copies = 1 + job.grids.len() as u64;
    let image_bytes: u64 = images.iter().map(Header::data_bytes).sum();
    let crop: u64 = template.shape.iter().map(|size| *size as u64).product();
    BASE_BYTES
        + patch.grid.voxels() as u64 * (per_voxel + maps)
        + crop * BYTES_PER_TEMPLATE_VOXEL
        + image_bytes.saturating_mul(copies)
}

/// Refuses a job that needs more than the limit.
///
/// # Errors
/// [`Error::Memory`] with both figures.
pub fn check(needed: u64, limit: Option<u64>) -> Result<(), Error> {
    match limit {
        Some(limit) if needed > limit => Err(Error::Memory { needed, limit }),
        _ => Ok(()),
    }
}

/// The memory limit of the control group that the process runs in, if there is one.
pub fn limit() -> Option<u64> {
    // Version 2, then version 1, as a container sees them.
    [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .find_map(|path| parse_limit(&fs::read_to_string(Path::new(path)).ok()?))
}

/// `max`, and numbers near 2⁶³, mean that there is no limit.
fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 60)
}

/// Reads the headers that [`predict`] needs, in the order patch, images.
///
/// # Errors
/// [`Error::Volume`] naming the file.
pub fn headers(job: &Job) -> Result<(Header, Vec<Header>), Error> {
    let (role, path) = match &job.depth {
        DepthJob::Segmentation { path, .. } => ("segmentation", path),
        DepthJob::Map { path } => ("depth map", path),
    };
    let patch = nifti::read_header(path).map_err(|source| Error::volume(role, source))?;
    let images = job
        .images
        .iter()
        .map(|image| {
            nifti::read_header(&image.path)
                .map_err(|source| Error::volume(format!("image `{}`", image.name), source))
        })
        .collect::<Result<_, _>>()?;
    Ok((patch, images))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_group_limits_are_understood() {
        assert_eq!(parse_limit("1073741824\n"), Some(1 << 30));
        assert_eq!(parse_limit("max\n"), None);
        assert_eq!(parse_limit("9223372036854771712\n"), None);
        assert_eq!(parse_limit(""), None);
    }

    #[test]
    fn too_small_a_limit_is_refused_with_both_figures() {
        assert!(check(10, None).is_ok());
        assert!(check(10, Some(10)).is_ok());
        let error = check(200 << 20, Some(100 << 20)).unwrap_err();
        assert_eq!(error.required_memory_bytes(), Some(200 << 20));
        assert_eq!(
            error.exit_code(),
            alignment_api::ExitCode::InsufficientMemory
        );
        assert!(error.to_string().contains("200 MiB") && error.to_string().contains("100 MiB"));
    }
}
