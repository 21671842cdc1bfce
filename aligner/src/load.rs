//! Stage 1: reading the volumes of a job, and checking that they fit each other.

use alignment_api::{InputFile, Space};

use crate::{
    affine::Affine,
    depth::Tissue,
    error::Error,
    grid::Grid,
    inputs::Inputs,
    io::{
        atomic::file_name,
        nifti::{self, Crop, StoredImage},
    },
    job::{DepthJob, Job},
    memory::{self, Plan},
    placement, segmentation,
    volume::Volume,
};

/// The patch's depth, or what it will be computed from.
pub enum PatchDepth {
    /// Tissue of each voxel.
    Tissues(Volume<Tissue>),
    /// Depth, 0 to 1.
    Map(Volume<f32>),
}

/// Everything that was read, but the patch's depth.
pub struct Loaded {
    /// The images, in the order of the job.
    pub images: Vec<StoredImage>,
    /// The part of the template's depth around the patch.
    pub template: Volume<f32>,
    /// Grid of the whole template.
    pub template_grid: Grid,
    /// Patch physical space → template physical space, RAS mm.
    pub patch_to_template: Affine,
    /// Digests and shapes for the report.
    pub inputs: Vec<InputFile>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Values this far outside 0 to 1 are rounding; beyond, the file is no depth map.
const DEPTH_TOLERANCE: f32 = 0.01;
/// Depth from which on a voxel counts as white matter.
const WHITE: f32 = 0.999;
/// A depth map has less of it only if the patch hardly reaches the white matter.
const FEWEST_WHITE: f64 = 0.001;
/// Reflections are legal, but rarely meant.
const MIRRORED: &str = "the placement mirrors the patch (left becomes right in physical space): fine if the patch's header has the wrong handedness, or the placement was made with a reflection; else the sign of one axis of the matrix is wrong";
/// Distance at which two viewer spaces count as different, in voxels.
const SPACE_TOLERANCE_VOX: f64 = 0.1;

/// What the headers of a job say: where the patch lies, and what a run will hold.
///
/// # Errors
/// [`Error`] naming the file and what is wrong with it; [`Error::NoOverlap`].
pub fn plan(job: &Job) -> Result<Plan, Error> {
    let resident = memory::resident();
    let (patch, images) = memory::headers(job)?;
    let patch_to_template = placement::patch_to_template(&patch.grid, &job.placement)
        .ok_or_else(|| Error::Geometry("the patch's affine is singular".to_owned()))?;
    let (template, crop) = plan_template(job, &patch.grid, &patch_to_template)?;
    Ok(Plan {
        patch,
        images,
        template,
        crop,
        patch_to_template,
        resident,
    })
}

/// Bytes that a run takes at its peak; a segmentation is read for it, but not kept.
///
/// # Errors
/// As [`plan`], and those of reading the segmentation.
pub fn predict(job: &Job) -> Result<u64, Error> {
    let plan = plan(job)?;
    let DepthJob::Segmentation { path, labels } = &job.depth else {
        return Ok(memory::predict(job, &plan, None));
    };
    let grey = segmentation::scan_grey(path, labels)?;
    Ok(memory::predict(job, &plan, Some(grey)))
}

/// Reads all volumes of a job, once their headers say that there is memory for them. The patch's
/// depth or segmentation, whose grid is the fixed grid, comes apart from the rest: a segmentation is
/// not needed for as long.
///
/// # Errors
/// [`Error`] naming the file and what is wrong with it.
pub fn load(job: &Job) -> Result<(PatchDepth, Loaded), Error> {
    let plan = plan(job)?;
    memory::check(memory::predict(job, &plan, None), memory::limit())?;
    let patch = &plan.patch;

    let mut inputs = Inputs::default();
    if plan.patch_to_template.determinant() < 0.0 {
        inputs.warnings.push(MIRRORED.to_owned());
    }
    let depth = load_depth(&job.depth, &mut inputs)?;
    if let PatchDepth::Tissues(tissues) = &depth {
        let grey = segmentation::count_grey(tissues);
        memory::check(memory::predict(job, &plan, Some(grey)), memory::limit())?;
    }
    let mut images = Vec::with_capacity(job.images.len());
    for image in &job.images {
        let role = format!("image `{}`", image.name);
        let stored =
            nifti::read_stored(&image.path).map_err(|source| Error::volume(&role, source))?;
        check_same_space(
            &role,
            &stored.header.grid,
            &patch.grid,
            job.placement.space,
            &mut inputs,
        )?;
        inputs.add(
            &format!("image:{}", image.name),
            &image.path,
            &stored.header,
            &stored.sha256,
        );
        images.push(stored);
    }
    let template = load_template(job, plan.crop, &mut inputs)?;
    let loaded = Loaded {
        images,
        template,
        template_grid: plan.template,
        patch_to_template: plan.patch_to_template,
        inputs: inputs.files,
        warnings: inputs.warnings,
    };
    Ok((depth, loaded))
}

fn load_depth(job: &DepthJob, inputs: &mut Inputs) -> Result<PatchDepth, Error> {
    match job {
        DepthJob::Segmentation { path, labels } => {
            let tissues = segmentation::read(path, labels, inputs)?;
            Ok(PatchDepth::Tissues(tissues))
        }
        DepthJob::Map { path } => {
            let mut read =
                nifti::read_scalar(path).map_err(|source| Error::volume("depth map", source))?;
            inputs.add("depthMap", path, &read.header, &read.sha256);
            clamp_depth(read.volume.values_mut()).map_err(|problem| {
                Error::Geometry(format!("depth map `{}`: {problem}", path.display()))
            })?;
            if let Some(doubt) = doubt_depth(read.volume.values()) {
                let warning = format!("depth map `{}`: {doubt}", file_name(path));
                inputs.warnings.push(warning);
            }
            Ok(PatchDepth::Map(read.volume))
        }
    }
}

/// Clamps rounding errors; says what else is wrong with the values of a depth map.
fn clamp_depth(values: &mut [f32]) -> Result<(), String> {
    let not_finite = values.iter().filter(|value| !value.is_finite()).count();
    if not_finite > 0 {
        return Err(format!("{not_finite} voxels are not finite numbers"));
    }
    let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(low, high), v| {
        (low.min(*v), high.max(*v))
    });
    if low < -DEPTH_TOLERANCE || high > 1.0 + DEPTH_TOLERANCE {
        return Err(format!(
            "has values from {low} to {high}, expected a depth from 0 (pial) to 1 (white)"
        ));
    }
    values
        .iter_mut()
        .for_each(|value| *value = value.clamp(0.0, 1.0));
    Ok(())
}

/// Says what an image that was scaled to 0 to 1 looks like in place of a depth map: its brightest
/// voxel alone is 1.
fn doubt_depth(values: &[f32]) -> Option<String> {
    let white = values.iter().filter(|value| **value >= WHITE).count();
    ((white as f64) < FEWEST_WHITE * values.len() as f64).then(|| {
        format!(
            "only {white} of {} voxels are 1, as all of the white matter is in a depth map: is it one?",
            values.len()
        )
    })
}

/// The same position must mean the same voxel place in every volume of the patch.
fn check_same_space(
    role: &str,
    image: &Grid,
    depth: &Grid,
    space: Space,
    inputs: &mut Inputs,
) -> Result<(), Error> {
    let spaces = (
        placement::physical_to_space(image, space),
        placement::physical_to_space(depth, space),
    );
    let (Some(of_image), Some(of_depth)) = spaces else {
        return Err(Error::Geometry(format!("{role}: its affine is singular")));
    };
    let Some(back) = of_image.inverse() else {
        return Err(Error::Geometry(format!("{role}: its affine is singular")));
    };
    // Where the image's own reading of a position of the depth grid lies, in voxels of the depth.
    let moved = Grid {
        shape: depth.shape,
        voxel_to_world: back.after(&of_depth).after(&depth.voxel_to_world),
    };
    let distance = depth.difference_vox(&moved);
    if distance > SPACE_TOLERANCE_VOX {
        return Err(Error::Geometry(format!(
            "{role} and the depth or segmentation lie differently: the same {space:?} position differs by up to {distance:.1} voxels (shapes {:?} and {:?}, voxel sizes {:.4?} and {:.4?} mm)",
            image.shape,
            depth.shape,
            image.spacing(),
            depth.spacing(),
        )));
    }
    if box_in(image, &Affine::IDENTITY, depth).is_none() {
        return Err(Error::Geometry(format!(
            "{role} lies outside the depth or segmentation: their boxes do not meet in physical space"
        )));
    }
    if image.shape != depth.shape {
        inputs.warnings.push(format!(
            "{role} has shape {:?}, the depth {:?}: the image is resampled on its own grid",
            image.shape, depth.shape
        ));
    }
    Ok(())
}

/// Nothing is downloaded for a template that is not there.
///
/// # Errors
/// [`Error::Template`].
pub fn look_for_template(job: &Job) -> Result<(), Error> {
    template_grid(job).map(drop)
}

fn template_grid(job: &Job) -> Result<Grid, Error> {
    nifti::read_header(&job.template)
        .map(|header| header.grid)
        .map_err(|error| Error::template(&job.template_name, error))
}

/// The template's grid, and the part of it that the patch can reach.
fn plan_template(
    job: &Job,
    patch: &Grid,
    patch_to_template: &Affine,
) -> Result<(Grid, Crop), Error> {
    let grid = template_grid(job)?;
    let Some(crop) = crop_around(patch, patch_to_template, &grid) else {
        // Another template than it should be is not the placement's fault.
        check_file(job)?;
        return Err(Error::NoOverlap(format!(
            "the patch lies outside the template `{}`: its centre is placed at {:.1?} mm; check the placement matrix, its unit (mm) and its space ({:?})",
            job.template_name,
            patch_to_template.apply(centre(patch)),
            job.placement.space,
        )));
    };
    Ok((grid, crop))
}

/// Reads the template's file for its digest alone, if one was told.
fn check_file(job: &Job) -> Result<(), Error> {
    if job.template_sha256.is_none() {
        return Ok(());
    }
    match transfer::file_digest(&job.template) {
        Ok(found) => check_digest(job, &found),
        Err(error) => Err(Error::Template {
            name: job.template_name.clone(),
            problem: format!("cannot read `{}`: {error}", job.template.display()),
        }),
    }
}

/// Compares what was read with what was told.
fn check_digest(job: &Job, found: &str) -> Result<(), Error> {
    match &job.template_sha256 {
        Some(expected) if expected != found => Err(Error::Template {
            name: job.template_name.clone(),
            problem: format!(
                "`{}` has the SHA-256 {found}, expected {expected}",
                job.template.display()
            ),
        }),
        _ => Ok(()),
    }
}

fn load_template(job: &Job, crop: Crop, inputs: &mut Inputs) -> Result<Volume<f32>, Error> {
    let mut read = nifti::read_cropped(&job.template, |_| crop)
        .map_err(|error| Error::template(&job.template_name, error))?;
    check_digest(job, &read.sha256)?;
    clamp_depth(read.volume.values_mut()).map_err(|problem| Error::Template {
        name: job.template_name.clone(),
        problem,
    })?;
    inputs.add("template", &job.template, &read.header, &read.sha256);
    Ok(read.volume)
}

fn centre(grid: &Grid) -> [f64; 3] {
    grid.voxel_to_world
        .apply(grid.shape.map(|size| (size as f64 - 1.0) / 2.0))
}

/// Share of the patch's extent by which the crop is larger on every side: warps are smaller.
const CROP_MARGIN: f64 = 0.15;
/// Voxels added on top, for interpolation and smoothing.
const CROP_MARGIN_VOX: f64 = 8.0;

/// The template's voxels that a patch can reach; `None` if the box of the patch misses the
/// template.
pub fn crop_around(patch: &Grid, patch_to_template: &Affine, template: &Grid) -> Option<Crop> {
    let (low, high) = box_in(patch, patch_to_template, template)?;
    let extent = (0..3)
        .map(|axis| high[axis] - low[axis])
        .fold(0.0, f64::max);
    let margin = CROP_MARGIN * extent + CROP_MARGIN_VOX;
    crop_between(
        low.map(|v| v - margin),
        high.map(|v| v + margin),
        template.shape,
    )
}

/// The template's voxels that an image covers.
pub fn covered(image: &Grid, patch_to_template: &Affine, template: &Grid) -> Option<Crop> {
    let (low, high) = box_in(image, patch_to_template, template)?;
    crop_between(low, high, template.shape)
}

/// The box of the patch in voxels of the template, if the two boxes meet.
pub fn box_in(
    patch: &Grid,
    patch_to_template: &Affine,
    template: &Grid,
) -> Option<([f64; 3], [f64; 3])> {
    let to_voxel = template
        .voxel_to_world
        .inverse()?
        .after(patch_to_template)
        .after(&patch.voxel_to_world);
    let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
    for corner in patch.corners() {
        let position = to_voxel.apply(corner);
        for axis in 0..3 {
            low[axis] = low[axis].min(position[axis]);
            high[axis] = high[axis].max(position[axis]);
        }
    }
    let meet =
        (0..3).all(|axis| high[axis] >= 0.0 && low[axis] <= template.shape[axis] as f64 - 1.0);
    meet.then_some((low, high))
}

/// The voxels between two positions, cut to the grid.
pub fn crop_between(low: [f64; 3], high: [f64; 3], shape: [usize; 3]) -> Option<Crop> {
    let mut crop = Crop {
        start: [0; 3],
        shape: [0; 3],
    };
    for axis in 0..3 {
        let start = low[axis].floor().max(0.0);
        let end = high[axis].ceil().min(shape[axis] as f64 - 1.0);
        if start > end || end.is_nan() {
            return None;
        }
        crop.start[axis] = start as usize;
        crop.shape[axis] = (end - start) as usize + 1;
    }
    Some(crop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_scaled_to_0_to_1_is_doubted_as_a_depth_map() {
        let mut image: Vec<f32> = (0..5000).map(|i| (i % 997) as f32 / 1000.0).collect();
        image[17] = 1.0;
        assert!(doubt_depth(&image).unwrap().starts_with("only 1 of 5000"));
        image[4000..4005].fill(1.0);
        assert_eq!(doubt_depth(&image), None);
    }
}
