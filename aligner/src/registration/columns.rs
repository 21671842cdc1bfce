//! Columns of the cortex that the faces of the image cut.
//!
//! The depth of a voxel is its place along a column from the pial surface to the white matter. Where the
//! image ends before the column does, whoever computed the depth had to guess. A depth map that comes
//! without a validity does not tell where that was so; its slope does: it points along the column, and
//! depth says how far it is to either end.

use rayon::prelude::*;

use super::{
    cortex::{SIGMA_VOX, central_differences, is_cortex},
    smoothing::gaussian,
};

/// A column counts in full if both of its ends lie this far inside the image, in units of the thickness:
/// beside a cut column, depth suffers from the guess, too.
const MARGIN: f64 = 0.5;
/// If less than this share of the cortex counts, it is all there is to go by.
const FEWEST: f64 = 0.1;

/// How far each voxel's column lies inside the image.
pub(super) struct Columns {
    /// 0 if the column is cut, 255 if both ends lie inside by the margin; x fastest.
    inside: Vec<u8>,
}

impl Columns {
    /// Judges a `depth` map whose voxels are `spacing` wide and whose cortex has this `thickness` in the same
    /// unit. `None` if next to no column is inside.
    pub(super) fn find(
        depth: &[f32],
        shape: [usize; 3],
        spacing: [f64; 3],
        thickness: f64,
    ) -> Option<Self> {
        let smooth = gaussian(depth, shape, [SIGMA_VOX; 3]);
        let [nx, ny, _] = shape;
        let mut inside = vec![0; smooth.len()];
        let rows = inside.par_chunks_mut(nx).zip(smooth.par_chunks(nx));
        let sums: Vec<(f64, u64)> = rows
            .enumerate()
            .map(|(row, (inside, depths))| {
                let (mut sum, mut cortex) = (0.0, 0);
                for (x, (inside, depth)) in inside.iter_mut().zip(depths).enumerate() {
                    let at = [x, row % ny, row / ny];
                    let slopes = central_differences(&smooth, shape, spacing, at);
                    let end = nearest_end(shape, spacing, at, (*depth as f64, slopes, thickness));
                    let share = (end / (MARGIN * thickness)).clamp(0.0, 1.0);
                    *inside = (255.0 * share).round() as u8;
                    // (Beyond the cortex, too: depth still has a slope there.)
                    if is_cortex(*depth) {
                        sum += share;
                        cortex += 1;
                    }
                }
                (sum, cortex)
            })
            .collect();
        let (sum, cortex) = sums
            .into_iter()
            .fold((0.0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        (sum >= FEWEST * cortex as f64).then_some(Self { inside })
    }

    /// Takes from the weights of plane `z` what the columns lack, as far as they are doubted: 0 leaves
    /// the weights as they are, at 1 a cut column has none. A voxel is judged where it lies before the warp.
    pub(super) fn weigh(&self, weight: &mut [f32], z: usize, doubt: f32) {
        let inside = &self.inside[z * weight.len()..];
        for (weight, inside) in weight.iter_mut().zip(inside) {
            *weight *= 1.0 - doubt * (1.0 - f32::from(*inside) / 255.0);
        }
    }
}

/// Distance from the faces of the image to the nearer end of the column through a voxel's centre, taken as
/// straight along the `slopes` of depth; negative if that end lies outside. Voxels reach half a voxel
/// beyond their centres.
fn nearest_end(
    shape: [usize; 3],
    spacing: [f64; 3],
    at: [usize; 3],
    (depth, slopes, thickness): (f64, [f64; 3], f64),
) -> f64 {
    let steepness = slopes.iter().map(|slope| slope * slope).sum::<f64>().sqrt();
    let distances = (0..3).map(|axis| {
        let along = slopes[axis] / steepness.max(f64::MIN_POSITIVE) * thickness;
        let (pial, white) = (-depth * along, (1.0 - depth) * along);
        let below = (at[axis] as f64 + 0.5) * spacing[axis];
        let above = (shape[axis] as f64 - 0.5 - at[axis] as f64) * spacing[axis];
        (below + pial.min(white)).min(above - pial.max(white))
    });
    distances.fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [24, 6, 6];

    /// A sheet of 8 voxels across x; its pial surface lies at `start`.
    fn sheet(start: f32) -> Vec<f32> {
        let depth = |i: usize| ((i % 24) as f32 + 0.5 - start) / 8.0;
        (0..24 * 36).map(|i| depth(i).clamp(0.0, 1.0)).collect()
    }

    /// Of the voxels along x in the middle of the image.
    fn judged(start: f32) -> Option<Vec<u8>> {
        let spacing = [0.5, 2.0, 2.0];
        let found = Columns::find(&sheet(start), SHAPE, spacing, 4.0)?;
        Some(found.inside[24 * (3 + 6 * 3)..][..24].to_vec())
    }

    #[test]
    fn whole_columns_count_in_full() {
        assert_eq!(judged(8.0).unwrap()[8..16], [255; 8]);
    }

    #[test]
    fn columns_that_end_within_the_margin_count_in_part() {
        // The margin is half the thickness, four voxels; the pial surface lies two voxels inside, then the
        // white matter. (Smoothing bends the ends of the sheet.)
        for (start, cortex) in [(2.0, 4..8), (14.0, 16..20)] {
            let found = judged(start).unwrap();
            let half = |share: &u8| (124..=131).contains(share);
            assert!(found[cortex].iter().all(half), "{found:?}");
        }
    }

    #[test]
    fn ends_are_sought_along_the_slope_in_units_of_length() {
        // From the middle of a column 4 long that rises along (0, 0.6, −0.8).
        let end = |at| {
            nearest_end(
                [9, 9, 9],
                [1.0, 0.5, 2.0],
                at,
                (0.5, [0.0, 0.15, -0.2], 4.0),
            )
        };
        // Faces are 4.5, 2.25 and 9 away; the ends 1.2 along y and 1.6 along z.
        assert!((end([4, 4, 4]) - (2.25 - 1.2)).abs() < 1e-12);
        // Along y 0.75 below, so that the pial end lies beyond the face.
        assert!((end([4, 1, 4]) - (0.75 - 1.2)).abs() < 1e-12);
        assert!((end([4, 4, 8]) - (1.0 - 1.6)).abs() < 1e-12);
    }

    #[test]
    fn next_to_no_whole_column_leaves_no_doubt() {
        assert!(judged(-3.0).is_none());
    }

    #[test]
    fn cut_columns_lose_their_weight_as_far_as_they_are_doubted() {
        let columns = Columns {
            inside: vec![255, 255, 0, 51],
        };
        let weighed = |doubt| {
            let mut weight = [0.8, 0.5];
            columns.weigh(&mut weight, 1, doubt);
            weight
        };
        assert_eq!(weighed(0.0), [0.8, 0.5]);
        assert_eq!(weighed(0.5), [0.4, 0.3]);
        assert_eq!(weighed(1.0)[0], 0.0);
        assert!((weighed(1.0)[1] - 0.1).abs() < 1e-6);
    }
}
