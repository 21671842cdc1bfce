//! Depth and validity of each grey voxel, from the column that runs through it.

use rayon::prelude::*;

use super::deep::DeepVoxels;
use super::laplace::{Harmonic, gradient};
use super::sheet::Sheet;
use super::transport::{Flow, Side, flow_from};

/// Exposure of a voxel that is determined by the faces of the image alone.
pub(super) const EXPOSED: f32 = 32768.0;

/// The result at one grey voxel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// 0 (pial) to 1 (white).
    pub(super) depth: f32,
    /// 0 to 1; 0 where depth is a stand-in.
    pub(super) validity: f32,
    /// Length of the column in mm, or 0 where it is not followed to both surfaces.
    pub(super) thickness_mm: f32,
}

/// The columns through all grey voxels.
pub(super) struct Columns {
    pub(super) points: Vec<Point>,
    /// Grey voxels that are not reached from both surfaces.
    pub(super) unreached: usize,
    /// Grey voxels where L hardly rises, although streamlines from both surfaces arrive.
    pub(super) level: usize,
}

/// Rise of L over the thickness of the sheet, below which it counts as level. On a flat sheet it is 1.
pub(super) const LEVEL: f64 = 0.3;

/// Least validity of a voxel that counts.
pub(super) const TRUSTED: f32 = 0.5;

impl Columns {
    /// Follows the columns to both surfaces.
    ///
    /// `harmonic` is the harmonic function, `exposure` the harmonic measure of the faces of the
    /// image in units of 1 / [`EXPOSED`], at each grey voxel.
    pub(super) fn integrate(sheet: &Sheet, harmonic: Vec<Harmonic>, exposure: Vec<u16>) -> Self {
        let deep = DeepVoxels::of(sheet);
        let (pial, white) = rayon::join(
            || flow_from(Side::Pial, sheet, &deep, &harmonic),
            || flow_from(Side::White, sheet, &deep, &harmonic),
        );
        drop(deep);
        drop(harmonic);
        let sides = pial.par_iter().zip(&white).take(sheet.len());
        let unreached = sides.filter(|&(&pial, &white)| ratio(pial, white).is_none());
        let unreached = unreached.count();
        let flattest = LEVEL / sheet.mean_thickness_mm();
        let known = pial.par_iter().zip(&white).zip(&exposure).enumerate();
        let level = known.filter(|&(number, ((pial_flow, white_flow), &exposure))| {
            let slopes = || {
                gradient(
                    sheet,
                    |at| pial[at].level.value(),
                    number,
                    &sheet.links(number),
                )
            };
            validity(pial_flow, white_flow, exposure) >= TRUSTED
                && slopes().iter().map(|slope| slope * slope).sum::<f64>() < flattest * flattest
        });
        let level = level.count();
        // One after the other, so that the points take the place of the flows in memory.
        let columns = pial.into_iter().zip(white).zip(exposure);
        let points = columns.map(|((pial, white), exposure)| join(pial, white, exposure));
        let mut points: Vec<Point> = points.collect();
        points.shrink_to_fit();
        Self {
            points,
            unreached,
            level,
        }
    }

    /// Length of the column in mm at each voxel whose validity is at least [`TRUSTED`].
    pub(super) fn thickness_mm(&self) -> Vec<f32> {
        let trusted = |point: &&Point| point.validity >= TRUSTED;
        // Grown step by step, it would take up to three times its size.
        let mut lengths = Vec::with_capacity(self.points.iter().filter(trusted).count());
        let points = self.points.iter().filter(trusted);
        lengths.extend(points.map(|point| point.thickness_mm));
        lengths
    }
}

/// What both parts of a column say. The harmonic function stands in for the depth if one of them is unknown.
fn join(pial: Flow, white: Flow, exposure: u16) -> Point {
    let Some(depth) = ratio(pial, white) else {
        return Point {
            depth: pial.level.value() as f32,
            validity: 0.0,
            thickness_mm: 0.0,
        };
    };
    Point {
        depth,
        validity: validity(&pial, &white, exposure),
        thickness_mm: (pial.length + white.length).max(0.0),
    }
}

/// How much of the depth is known where both parts of a column are.
fn validity(pial: &Flow, white: &Flow, exposure: u16) -> f32 {
    let streamlines = pial.known.min(white.known);
    (streamlines * (1.0 - f32::from(exposure) / EXPOSED)).clamp(0.0, 1.0)
}

/// Share of the volume on the pial side; `None` if one side is unknown.
fn ratio(pial: Flow, white: Flow) -> Option<f32> {
    let whole = pial.volume + white.volume;
    (pial.arrived() && white.arrived() && whole > 0.0 && whole.is_finite())
        .then(|| (pial.volume / whole).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(volume: f32, known: f32) -> Flow {
        Flow {
            level: Harmonic::new(0.75),
            volume,
            length: 1.5,
            known,
        }
    }

    #[test]
    fn depth_is_a_share_of_volume_and_validity_that_of_the_worse_side() {
        let expected = Point {
            depth: 0.25,
            validity: 0.25,
            thickness_mm: 3.0,
        };
        assert_eq!(join(flow(1.0, 0.5), flow(3.0, 1.0), 16384), expected);
    }

    #[test]
    fn without_a_streamline_depth_is_the_harmonic_value_and_invalid() {
        let expected = Point {
            depth: 0.75,
            validity: 0.0,
            thickness_mm: 0.0,
        };
        assert_eq!(join(flow(f32::NAN, 0.0), flow(3.0, 1.0), 0), expected);
    }
}
