//! How much memory a job needs, from its headers alone, and how much there is.
//!
//! A run that would be killed for its memory is refused before anything is read: the kernel kills
//! without a word, and the operator cannot know by how much the limit was too small.

use std::{fs, path::Path};

use alignment_api::{OutputArtifact, OutputGrid};

use crate::{
    affine::Affine,
    error::Error,
    grid::Grid,
    io::nifti::{self, Crop, Header},
    job::{DepthJob, Job},
    load,
    maps::Needs,
};

/// Code and buffers that a run comes to need beyond what the process holds before it.
const BASE_BYTES: u64 = 2 << 20;
/// What the many small blocks of the depth solver leave behind.
const BASE_BYTES_DEPTH: u64 = 3 << 19;
/// The depth solver, per voxel: an array of states.
const DEPTH_PER_VOXEL: u64 = 1;
/// The depth solver, per grey voxel in thousandths of a byte: L in double precision, links, the coarser
/// grids, five histories per black voxel, and columns. Measured at 25 and 50 % of grey matter.
const DEPTH_PER_GREY_VOXEL_MILLI: u64 = 56_000;
/// Share of grey matter that is reckoned with until the segmentation has been read: below it, the
/// registration needs more than the depth.
const GREY_SHARE: f64 = 0.4;
/// One displacement field, three components.
const FIELD_PER_VOXEL: u64 = 12;
/// The registration, in thousandths of a byte per voxel: both fields, and while they are made the
/// lattice of the velocity.
const REGISTRATION_PER_VOXEL_MILLI: u64 = 26_200;
/// On coarse levels, per voxel of the patch: its smoothed images, and the warped ones.
const COARSE_PER_VOXEL: u64 = 8;
/// What stands for the validity that a given depth map lacks.
const STAND_IN_PER_VOXEL: u64 = 1;
/// A value of a depth, a validity, or the template.
const VALUE: u64 = 4;
/// A value of a segmentation while it is read.
const LABEL: u64 = 4;
/// What depth and validity are made from, per grey voxel: its point, its place, and its column.
const POINT: u64 = 28;
/// Its column: place and length. Columns are held until thickness and layers have been made.
const COLUMN: u64 = 8;
/// `report.html` of an alignment: its pictures as text, and those planes as pixels that are being drawn;
/// measured with two threads.
const PAGE_BYTES: u64 = 9 << 20;
/// The same of a depth map alone, which is drawn plane by plane; measured.
const DEPTH_PAGE_BYTES: u64 = 3 << 19;

/// What a prediction is made from: headers, and what follows from them.
pub struct Plan {
    /// Header of the segmentation or depth map.
    pub patch: Header,
    /// Headers of the images, in the order of the job.
    pub images: Vec<Header>,
    /// Grid of the whole template.
    pub template: Grid,
    /// The part of the template that is read.
    pub crop: Crop,
    /// Patch physical space → template physical space.
    pub patch_to_template: Affine,
    /// Bytes that the process holds already.
    pub resident: u64,
}

/// Bytes that a job needs at its peak: the largest of its phases. What each phase holds follows from
/// the code; the small rest was measured on runs of 0.26 to 3 million voxels.
///
/// `grey`: number of grey voxels, once the segmentation has been read.
pub fn predict(job: &Job, plan: &Plan, grey: Option<usize>) -> u64 {
    let voxels = plan.patch.grid.voxels() as u64;
    let template = VALUE
        * plan
            .crop
            .shape
            .iter()
            .map(|size| *size as u64)
            .product::<u64>();
    let images: u64 = plan.images.iter().map(Header::data_bytes).sum();
    let (base, depth, maps) = match job.depth {
        DepthJob::Map { .. } => (BASE_BYTES, 0, VALUE * voxels),
        DepthJob::Segmentation { .. } => {
            let tissues = voxels;
            let grey = grey.map_or(GREY_SHARE * voxels as f64, |grey| grey as f64);
            let depth = tissues + depth_solver(voxels, grey as u64);
            // Depth and validity.
            (BASE_BYTES + BASE_BYTES_DEPTH, depth, 2 * VALUE * voxels)
        }
    };
    // Thickness and layers are kept until they are written.
    let kept = |artifact, bytes| u64::from(job.artifacts.contains(&artifact)) * bytes * voxels;
    let maps = maps + kept(OutputArtifact::Thickness, VALUE) + kept(OutputArtifact::Layers, 1);
    // Coarse levels hold a smoothed copy of the template.
    let coarse = template + COARSE_PER_VOXEL * voxels;
    let given = matches!(job.depth, DepthJob::Map { .. });
    let stand_in = u64::from(given) * STAND_IN_PER_VOXEL * voxels;
    let register = maps + stand_in + coarse.max(voxels * REGISTRATION_PER_VOXEL_MILLI / 1000);
    let write = maps + 2 * FIELD_PER_VOXEL * voxels + results(job, plan);
    // Drawn last, beside everything else: the change of volume, and the pictures.
    let page = write + VALUE * voxels + PAGE_BYTES;
    let page = u64::from(job.artifacts.contains(&OutputArtifact::Report)) * page;
    let most = depth.max(register).max(write).max(page);
    plan.resident + base + images + template + most
}

/// What the prediction for a depth map alone is made from.
pub struct DepthMapPlan {
    /// Voxels of the segmentation.
    pub voxels: u64,
    /// What is computed beside depth and validity; lengths are for a page.
    pub needs: Needs,
    /// Bytes that the process holds already.
    pub resident: u64,
}

/// Bytes that a depth map alone needs at its peak, as [`predict`] for an alignment. `grey`: number of
/// grey voxels.
pub fn predict_depth_map(plan: &DepthMapPlan, grey: usize) -> u64 {
    let (voxels, grey) = (plan.voxels, grey as u64);
    let tissues = voxels;
    let read = LABEL * voxels;
    let depth = depth_solver(voxels, grey);
    let mut maps = 2 * VALUE * voxels;
    let made = maps + POINT * grey;
    if plan.needs.thickness {
        maps += VALUE * voxels;
    }
    if plan.needs.layers.is_some() {
        maps += voxels;
    }
    let kept = maps + COLUMN * grey;
    let page = if plan.needs.lengths {
        maps + VALUE * grey + DEPTH_PAGE_BYTES
    } else {
        0
    };
    let most = read.max(depth).max(made).max(kept).max(page);
    plan.resident + BASE_BYTES + BASE_BYTES_DEPTH + tissues + most
}

/// Bytes that the depth solver holds beside the tissues.
fn depth_solver(voxels: u64, grey: u64) -> u64 {
    DEPTH_PER_VOXEL * voxels + grey * DEPTH_PER_GREY_VOXEL_MILLI / 1000
}

/// Bytes of this process that lie in memory, its code included; 0 where the system does not say.
pub fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    1024 * kilobytes.unwrap_or(0_u64)
}

/// Bytes of all resampled images: they are held until they are written.
fn results(job: &Job, plan: &Plan) -> u64 {
    if !job.artifacts.contains(&OutputArtifact::Images) {
        return 0;
    }
    let on_grid = |header: &Header, grid: &OutputGrid| match grid {
        OutputGrid::Patch => header.data_bytes(),
        OutputGrid::Template => {
            let frame = load::covered(&header.grid, &plan.patch_to_template, &plan.template);
            let voxels = frame.map_or(0, |crop| crop.shape.iter().product());
            (voxels * header.frames() * header.datatype.size()) as u64
        }
    };
    plan.images
        .iter()
        .flat_map(|header| job.grids.iter().map(move |grid| on_grid(header, grid)))
        .sum()
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
    fn a_process_holds_something() {
        let held = resident();
        assert!((1 << 19..1 << 36).contains(&held), "{held}");
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
