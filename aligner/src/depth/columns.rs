//! Depth and validity of each grey voxel, from the column that runs through it.

use super::deep::DeepVoxels;
use super::laplace::Harmonic;
use super::sheet::Sheet;
use super::transport::{Side, flow_from};
use super::upstream::Upstream;
use super::upwind::Flow;

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

impl Point {
    /// What both parts of a column say; `None` if one of them is unknown.
    fn of(pial: Flow, white: Flow, exposure: u16) -> Option<Self> {
        let whole = pial.volume() + white.volume();
        if !(pial.arrived() && white.arrived() && whole > 0.0 && whole.is_finite()) {
            return None;
        }
        Some(Self {
            depth: (pial.volume() / whole).clamp(0.0, 1.0),
            validity: validity(pial, white, exposure),
            thickness_mm: (pial.length() + white.length()).max(0.0),
        })
    }

    /// The harmonic function stands in for the depth.
    fn unreached(harmonic: Harmonic) -> Self {
        Self {
            depth: harmonic.value() as f32,
            validity: 0.0,
            thickness_mm: 0.0,
        }
    }
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
        let upstream = Upstream::of(sheet, &harmonic);
        let flattest = LEVEL / sheet.thickness_mm;
        let from = |side| flow_from(side, sheet, &harmonic, (&deep, &upstream), flattest);
        let (pial, white) = rayon::join(|| from(Side::Pial), || from(Side::White));
        drop((deep, upstream));
        let level = pial.level.iter().map(|&number| number as usize);
        let level =
            level.filter(|&at| validity(pial.flows[at], white.flows[at], exposure[at]) >= TRUSTED);
        let level = level.count();
        let mut unreached = 0;
        // One after the other, so that the points take the place of the flows in memory.
        let flows = pial.flows.into_iter().zip(white.flows);
        let columns = flows.zip(exposure).zip(harmonic);
        let points = columns.map(|(((pial, white), exposure), harmonic)| {
            Point::of(pial, white, exposure).unwrap_or_else(|| {
                unreached += 1;
                Point::unreached(harmonic)
            })
        });
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

/// How much of the depth is known where both parts of a column are.
fn validity(pial: Flow, white: Flow, exposure: u16) -> f32 {
    let streamlines = pial.known().min(white.known());
    (streamlines * (1.0 - f32::from(exposure) / EXPOSED)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_a_share_of_volume_and_validity_that_of_the_worse_side() {
        let expected = Point {
            depth: 0.25,
            validity: 0.25,
            thickness_mm: 3.0,
        };
        let [pial, white] = [Flow::new(1.0, 1.5, 0.5), Flow::new(3.0, 1.5, 1.0)];
        assert_eq!(Point::of(pial, white, 16384), Some(expected));
    }

    #[test]
    fn without_a_streamline_depth_is_the_harmonic_value_and_invalid() {
        assert_eq!(Point::of(Flow::NONE, Flow::new(3.0, 1.5, 1.0), 0), None);
        let expected = Point {
            depth: 0.75,
            validity: 0.0,
            thickness_mm: 0.0,
        };
        assert_eq!(Point::unreached(Harmonic::new(0.75)), expected);
    }
}
