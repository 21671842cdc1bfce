//! Stage 5: how good a result is.

use alignment_api::Quality;
use rayon::prelude::*;

use crate::{
    affine::Affine,
    field::DisplacementField,
    grid::Grid,
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
    emptied: u64,
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
            emptied: self.emptied + other.emptied,
        }
    }
}

/// What a result is worth.
pub struct Measured {
    /// The figures of the report. Those of landmarks are filled in by [`crate::landmarks`].
    pub quality: Quality,
    /// Voxels of the patch's grid that lie in the template's cortex, but that the map takes from beyond the
    /// patch's image: nothing is carried there.
    pub emptied: u64,
    /// The same as a share of the patch's cortex.
    pub emptied_share: f64,
}

/// Measures a result.
pub fn measure(subject: &Subject) -> Measured {
    let [nx, ny, nz] = subject.depth.grid.shape;
    let to_voxel = |grid: &Grid| grid.voxel_to_world.inverse();
    let maps = VoxelMaps {
        to_patch_voxel: to_voxel(&subject.depth.grid),
        to_template_voxel: to_voxel(&subject.template.grid)
            .map(|map| map.after(&subject.patch_to_template)),
    };
    // One block per plane, summed in order: the same sum for any number of threads.
    let planes: Vec<Sums> = (0..nz)
        .into_par_iter()
        .map(|z| {
            (0..ny)
                .flat_map(|y| (0..nx).map(move |x| [x, y, z]))
                .fold(Sums::default(), |sums, at| voxel(subject, &maps, at, sums))
        })
        .collect();
    let sums = planes.into_iter().fold(Sums::default(), Sums::plus);
    let mean = |sum: f64, count: u64| if count == 0 { 0.0 } else { sum / count as f64 };
    let forward = transform::corner_jacobian(subject.forward);
    let inverse = transform::corner_jacobian(subject.inverse);
    let (consistency_mean, consistency_max) =
        transform::compose_residual(subject.forward, subject.inverse);
    let quality = Quality {
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
    };
    Measured {
        quality,
        emptied: sums.emptied,
        emptied_share: mean(sums.emptied as f64, sums.cortex),
    }
}

/// From patch physical space to voxels; `None` if a grid is singular.
struct VoxelMaps {
    to_patch_voxel: Option<Affine>,
    to_template_voxel: Option<Affine>,
}

/// Adds a voxel.
fn voxel(subject: &Subject, maps: &VoxelMaps, [x, y, z]: [usize; 3], mut sums: Sums) -> Sums {
    let grid = &subject.depth.grid;
    let index = x + grid.shape[0] * (y + grid.shape[1] * z);
    let point = grid.voxel_to_world.apply([x as f64, y as f64, z as f64]);
    let vector = |field: &DisplacementField| -> [f64; 3] {
        std::array::from_fn(|axis| f64::from(field.components[axis][index]))
    };
    let plus = |u: [f64; 3]| std::array::from_fn(|axis| point[axis] + u[axis]);
    let template = subject.template;
    let at = |patch_mm| template_at(template, maps.to_template_voxel.as_ref()?.apply(patch_mm));
    let source = plus(vector(subject.inverse));
    let leaves = |map: &Affine| !inside(map.apply(source), grid.shape);
    if maps.to_patch_voxel.as_ref().is_some_and(leaves)
        && at(point).is_some_and(|depth| CORTEX.contains(&(depth as f32)))
    {
        sums.emptied += 1;
    }
    let u = vector(subject.forward);
    let length = (u[0] * u[0] + u[1] * u[1] + u[2] * u[2]).sqrt();
    sums.largest_displacement = sums.largest_displacement.max(length);
    let depth = subject.depth.values()[index];
    if !CORTEX.contains(&depth) {
        return sums;
    }
    sums.cortex += 1;
    sums.displacement += length;
    let (before, after) = (at(point), at(plus(u)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cortex_that_would_come_from_beyond_the_patch_is_counted() {
        let grid = Grid {
            shape: [10, 6, 5],
            voxel_to_world: Affine::scaling([0.5; 3]),
        };
        // Depth rises along y from 0 to 1: four of the six rows are cortex.
        let depth = Volume::from_fn(grid, |(_, y, _)| y as f32 / 5.0);
        let measured = |shift_mm: f32| {
            let [mut forward, mut inverse] = [(); 2].map(|()| DisplacementField::zero(grid));
            forward.components[0].fill(-shift_mm);
            inverse.components[0].fill(shift_mm);
            measure(&Subject {
                depth: &depth,
                validity: None,
                template: &depth,
                patch_to_template: Affine::IDENTITY,
                forward: &forward,
                inverse: &inverse,
            })
        };
        // By 3.2 voxels: of the last three columns, and by less than half a voxel none of the fourth.
        let some = measured(1.6);
        assert_eq!(some.emptied, 3 * 4 * 5);
        assert_eq!(some.emptied_share, 0.3);
        assert_eq!(measured(0.2).emptied, 0);
    }
}
