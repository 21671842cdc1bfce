//! Columns of the cortex that the faces of the image cut.
//!
//! The depth of a voxel is its place along a column from the pial surface to the white matter. Where the
//! image ends before the column does, whoever computed the depth had to guess. A depth map that comes
//! without a validity does not tell where that was so; its slope does: it points along the column, and
//! depth says how far it is to either end.

use rayon::prelude::*;

use super::cortex::{central_differences, is_cortex};

/// A column counts in full if both of its ends lie this far inside the image, in units of the thickness:
/// beside a cut column, depth suffers from the guess, too.
const MARGIN: f64 = 0.5;
/// If the image holds less than this share of the cortex in whole columns, it is all there is to go by.
const FEWEST: f64 = 0.1;

/// How far each voxel's column lies inside the image.
pub(super) struct Columns {
    /// 0 if the column is cut, 255 if both ends lie inside by the margin; x fastest.
    inside: Vec<u8>,
}

impl Columns {
    /// Judges a depth map, [`super::cortex::smoothed`], whose voxels are `spacing` wide and whose cortex has this
    /// `thickness` in the same unit. `None` if next to no column is inside.
    pub(super) fn find(
        smooth: &[f32],
        shape: [usize; 3],
        spacing: [f64; 3],
        thickness: f64,
    ) -> Option<Self> {
        let [nx, ny, _] = shape;
        let mut inside = vec![0; smooth.len()];
        let rows = inside.par_chunks_mut(nx).enumerate();
        let sums: Vec<(f64, u32)> = rows
            .map(|(row, out)| {
                let (mut sum, mut cortex) = (0.0, 0);
                for (x, out) in out.iter_mut().enumerate() {
                    let at = [x, row % ny, row / ny];
                    let depth = smooth[x + nx * row];
                    let slopes = central_differences(smooth, shape, spacing, at);
                    let end = nearest_end(shape, spacing, at, (depth as f64, slopes, thickness));
                    let share = (end / (MARGIN * thickness)).clamp(0.0, 1.0);
                    *out = (255.0 * share).round() as u8;
                    if is_cortex(depth) {
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
        (sum >= FEWEST * f64::from(cortex)).then_some(Self { inside })
    }

    /// Takes from the weights of plane `z` what the columns lack, as far as they are doubted: 0 leaves
    /// the weights as they are, at 1 a cut column has none.
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
        // The margin is half the thickness, four voxels; the pial surface lies two voxels inside.
        let found = judged(2.0).unwrap();
        assert!(
            found[2..10].iter().all(|share| (126..=129).contains(share)),
            "{found:?}"
        );
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
