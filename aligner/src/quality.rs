//! Stage 5: how good a result is.

use alignment_api::Quality;
use rayon::prelude::*;

use crate::{
    affine::Affine,
    field::DisplacementField,
    resample::{Cell, inside},
    transform,
    volume::Volume,
};

/// Depth range that counts as cortex.
const CORTEX: std::ops::Range<f32> = 0.02..0.98;
/// Validity from which on a voxel's depth is used for the figures.
const KNOWN: f32 = 0.5;

/// What is measured.
pub struct Subject<'a> {
    /// The patch's depth.
    pub depth: &'a Volume<f32>,
    /// Validity of the depth on the same grid.
    pub validity: Option<&'a Volume<f32>>,
    /// The template's depth around the patch.
    pub template: &'a Volume<f32>,
    /// Patch physical space → template physical space.
    pub patch_to_template: Affine,
    /// Forward field.
    pub forward: &'a DisplacementField,
    /// Inverse field.
    pub inverse: &'a DisplacementField,
}

/// Sums over the cortex.
#[derive(Clone, Copy, Default)]
struct Sums {
    cortex: u64,
    inside: u64,
    used: u64,
    before: f64,
    after: f64,
    displacement: f64,
    largest_displacement: f64,
}

impl Sums {
    fn plus(self, other: Self) -> Self {
        Self {
            cortex: self.cortex + other.cortex,
            inside: self.inside + other.inside,
            used: self.used + other.used,
            before: self.before + other.before,
            after: self.after + other.after,
            displacement: self.displacement + other.displacement,
            largest_displacement: self.largest_displacement.max(other.largest_displacement),
        }
    }
}

/// Measures a result. Landmark figures are filled in by [`crate::landmarks`].
pub fn measure(subject: &Subject) -> Quality {
    let [nx, ny, nz] = subject.depth.grid.shape;
    // One block per plane, summed in order: the same sum for any number of threads.
    let to_template = subject.template.grid.voxel_to_world.inverse();
    let to_template = to_template.map(|map| map.after(&subject.patch_to_template));
    let planes: Vec<Sums> = (0..nz)
        .into_par_iter()
        .map(|z| {
            (0..ny)
                .flat_map(|y| (0..nx).map(move |x| [x, y, z]))
                .fold(Sums::default(), |sums, at| {
                    voxel(subject, to_template.as_ref(), at, sums)
                })
        })
        .collect();
    let sums = planes.into_iter().fold(Sums::default(), Sums::plus);
    let mean = |sum: f64, count: u64| if count == 0 { 0.0 } else { sum / count as f64 };
    let forward = transform::corner_jacobian(subject.forward);
    let inverse = transform::corner_jacobian(subject.inverse);
    let (consistency_mean, consistency_max) =
        transform::compose_residual(subject.forward, subject.inverse);
    Quality {
        depth_residual_before: mean(sums.before, sums.used).sqrt(),
        depth_residual_after: mean(sums.after, sums.used).sqrt(),
        overlap: mean(sums.inside as f64, sums.cortex),
        jacobian_min: forward.min,
        jacobian_max: forward.max,
        folded_cells: forward.folded_cells,
        inverse_jacobian_min: inverse.min,
        inverse_folded_cells: inverse.folded_cells,
        inverse_consistency_mean_mm: consistency_mean,
        inverse_consistency_max_mm: consistency_max,
        displacement_mean_mm: mean(sums.displacement, sums.cortex),
        displacement_max_mm: sums.largest_displacement,
        landmark_mean_before_mm: None,
        landmark_mean_after_mm: None,
    }
}

/// Adds a voxel. `to_template`: patch physical space → voxel of the template.
fn voxel(
    subject: &Subject,
    to_template: Option<&Affine>,
    [x, y, z]: [usize; 3],
    mut sums: Sums,
) -> Sums {
    let grid = &subject.depth.grid;
    let index = x + grid.shape[0] * (y + grid.shape[1] * z);
    let u: [f64; 3] =
        std::array::from_fn(|axis| f64::from(subject.forward.components[axis][index]));
    let length = (u[0] * u[0] + u[1] * u[1] + u[2] * u[2]).sqrt();
    sums.largest_displacement = sums.largest_displacement.max(length);
    let depth = subject.depth.values()[index];
    if !CORTEX.contains(&depth) {
        return sums;
    }
    sums.cortex += 1;
    sums.displacement += length;
    let point = grid.voxel_to_world.apply([x as f64, y as f64, z as f64]);
    let moved = std::array::from_fn(|axis| point[axis] + u[axis]);
    let template = subject.template;
    let at = |patch_mm| template_at(template, to_template?.apply(patch_mm));
    let (before, after) = (at(point), at(moved));
    sums.inside += u64::from(before.is_some());
    let known = subject
        .validity
        .is_none_or(|validity| validity.values()[index] >= KNOWN);
    if let (Some(before), Some(after), true) = (before, after, known) {
        sums.used += 1;
        sums.before += (before - f64::from(depth)).powi(2);
        sums.after += (after - f64::from(depth)).powi(2);
    }
    sums
}

/// The template's depth at a position in its voxels; `None` outside.
fn template_at(template: &Volume<f32>, position: [f64; 3]) -> Option<f64> {
    inside(position, template.grid.shape)
        .then(|| Cell::clamped(position, template.grid.shape).linear(template.values()))
}
