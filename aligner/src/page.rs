//! `report.html`: the report for a person, with pictures, in one file that needs no network, and
//! `preview.png`, its most telling picture.
//!
//! The page holds what `report.json` holds and nothing that changes from run to run, so that the same
//! request on the same data gives the same bytes.

mod chart;
mod depth;
mod picture;
mod sections;
mod slice;
mod small;

pub use depth::{DepthSubject, render_depth};
pub use small::{NamedPicture, small_depth_pictures, small_pictures};

use alignment_api::Report;
use rayon::prelude::*;

use crate::{
    affine::Affine,
    chain::{Chain, Link},
    field::DisplacementField,
    grid::Grid,
    io::nifti::StoredImage,
    resample::{Cell, inside},
    transform::central_jacobian,
    volume::Volume,
    with_voxels,
};
use picture::{Picture, checkerboard, depth_grey, jacobian_colour};
use slice::Slice;

/// What the pictures show.
pub struct Subject<'a> {
    /// The patch's depth; the pictures lie in its grid.
    pub depth: &'a Volume<f32>,
    /// The template's depth around the patch.
    pub template: &'a Volume<f32>,
    /// Patch physical space → template physical space.
    pub patch_to_template: Affine,
    /// Forward field.
    pub forward: &'a DisplacementField,
    /// Background; the depth itself if there is none.
    pub image: Option<&'a StoredImage>,
}

/// The two files.
pub struct Page {
    /// The page, complete.
    pub html: String,
    /// The three planes after the registration, side by side.
    pub preview: Vec<u8>,
}

/// Pixels along the longest side of the page's pictures.
const SIDE: u32 = 360;
/// Depths at which lines are drawn: both surfaces of the cortex and its middle.
const LEVELS: [f32; 3] = [0.02, 0.5, 0.98];
/// Colour of the patch's lines, and of the template's; told apart by colour-blind people, too.
const PATCH: [u8; 3] = [255, 176, 0];
const TEMPLATE: [u8; 3] = [0, 200, 255];

/// One plane, as text for the page.
struct Plane {
    /// Background with the lines of both depths, before and after, and both depths in tiles.
    depths: String,
    /// The change of volume.
    jacobian: String,
    /// Background with lines after the registration, for the preview.
    after: Picture,
}

/// Draws and writes the page of a report.
pub fn render(report: &Report, subject: &Subject) -> Page {
    let jacobian = central_jacobian(subject.forward);
    let planes: Vec<Plane> = Slice::three(&subject.depth.grid, centre(subject.depth), SIDE)
        .into_par_iter()
        .map(|slice| draw(&slice, subject, &jacobian))
        .collect();
    let after: Vec<&Picture> = planes.iter().map(|plane| &plane.after).collect();
    let preview = Picture::side_by_side(&after).png();
    let histogram = chart::histogram(&jacobian, subject.depth);
    Page {
        html: sections::document(report, &planes, &histogram),
        preview,
    }
}

/// The voxel in the middle of the cortex; of the grid if there is none.
fn centre(depth: &Volume<f32>) -> [usize; 3] {
    let [nx, ny, _] = depth.grid.shape;
    let (mut sums, mut count) = ([0_u64; 3], 0_u64);
    for (i, value) in depth.values().iter().enumerate() {
        if *value > 0.0 && *value < 1.0 {
            let at = [i % nx, i / nx % ny, i / (nx * ny)];
            for axis in 0..3 {
                sums[axis] += at[axis] as u64;
            }
            count += 1;
        }
    }
    std::array::from_fn(|axis| match sums[axis].checked_div(count) {
        Some(mean) => mean as usize,
        None => depth.grid.shape[axis] / 2,
    })
}

fn draw(slice: &Slice, subject: &Subject, jacobian: &Volume<f32>) -> Plane {
    let sampled = Sampled::of(slice, subject);
    let [before, after] = sampled.lined(slice.size());
    let tiles = checkerboard(slice.size(), &sampled.patch, &sampled.after);
    let tiles = Picture::coloured(slice.size(), &tiles, depth_grey);
    let jacobian = slice.sample(interpolator(jacobian));
    let jacobian = Picture::coloured(slice.size(), &jacobian, jacobian_colour);
    Plane {
        depths: sections::depths(slice, &after, &before, &tiles),
        jacobian: sections::jacobian(slice, &jacobian),
        after,
    }
}

/// What is shown of a plane, pixel by pixel: the depth of the patch, that of the template before and
/// after the registration, and the background.
struct Sampled {
    patch: Vec<f32>,
    before: Vec<f32>,
    after: Vec<f32>,
    background: Option<Vec<f32>>,
}

impl Sampled {
    fn of(slice: &Slice, subject: &Subject) -> Self {
        let affine = || Link::Affine(subject.patch_to_template);
        let linear = Chain::default().then(affine());
        let whole = Chain::default()
            .then(Link::Field(subject.forward))
            .then(affine());
        let depth = interpolator(subject.template);
        let template = |chain: &Chain| slice.sample(|p| depth(chain.apply(p)));
        Self {
            patch: slice.sample(interpolator(subject.depth)),
            before: template(&linear),
            after: template(&whole),
            background: subject
                .image
                .map(|image| slice.sample(image_interpolator(image))),
        }
    }

    /// The background with the lines of both depths, before and after.
    fn lined(&self, size: [usize; 2]) -> [Picture; 2] {
        [&self.before, &self.after].map(|template| {
            let background = self.background.as_ref().unwrap_or(&self.patch);
            let mut picture = Picture::grey(size, background);
            picture.lines(&self.patch, &LEVELS, PATCH);
            picture.lines(template, &LEVELS, TEMPLATE);
            picture
        })
    }
}

/// The cell around a world position; `None` outside the grid.
fn cell_finder(grid: &Grid) -> impl Fn([f64; 3]) -> Option<Cell> {
    let (to_voxel, shape) = (grid.voxel_to_world.inverse(), grid.shape);
    move |point| {
        let position = to_voxel?.apply(point);
        inside(position, shape).then(|| Cell::clamped(position, shape))
    }
}

/// Interpolates a volume at world positions; NaN outside.
fn interpolator(volume: &Volume<f32>) -> impl Fn([f64; 3]) -> f32 {
    let (find, values) = (cell_finder(&volume.grid), volume.values());
    move |point| find(point).map_or(f32::NAN, |cell| cell.linear(values) as f32)
}

/// Interpolates the first frame of an image, scaled, at world positions; NaN outside.
fn image_interpolator(image: &StoredImage) -> impl Fn([f64; 3]) -> f32 {
    let find = cell_finder(&image.header.grid);
    let (slope, inter) = (image.header.slope, image.header.inter);
    move |point| {
        let stored = |cell: Cell| with_voxels!(&image.voxels, values => cell.linear(values));
        find(point).map_or(f32::NAN, |cell| (slope * stored(cell) + inter) as f32)
    }
}
