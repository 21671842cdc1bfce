//! Depth and validity of each grey voxel, from the column that runs through it.

use super::laplace::Harmonic;
use super::sheet::Sheet;
use super::transport::{Flow, Side, flow_from};

/// Exposure of a voxel that is determined by the faces of the image alone.
pub(super) const EXPOSED: f32 = 32768.0;

/// What is known of the column through each grey voxel.
pub(super) struct Columns {
    harmonic: Vec<Harmonic>,
    /// In units of 1 / [`EXPOSED`].
    exposure: Vec<u16>,
    pial: Vec<Flow>,
    white: Vec<Flow>,
}

/// The result at one grey voxel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// 0 (pial) to 1 (white).
    pub(super) depth: f32,
    /// 0 to 1.
    pub(super) validity: f32,
}

impl Columns {
    /// Follows the columns to both surfaces.
    ///
    /// `harmonic` is the harmonic function, `exposure` the harmonic measure of the faces of the
    /// image in units of 1 / [`EXPOSED`], at each grey voxel.
    pub(super) fn integrate(sheet: &Sheet, harmonic: Vec<Harmonic>, exposure: Vec<u16>) -> Self {
        let (pial, white) = rayon::join(
            || flow_from(Side::Pial, sheet, &harmonic),
            || flow_from(Side::White, sheet, &harmonic),
        );
        Self {
            harmonic,
            exposure,
            pial,
            white,
        }
    }

    /// Grey voxels that are not reached from both surfaces.
    pub(super) fn unreached(&self) -> usize {
        (0..self.pial.len())
            .filter(|&number| self.ratio(number).is_none())
            .count()
    }

    /// Length of the column in mm at each voxel with at least this validity.
    pub(super) fn thickness_mm(&self, least_validity: f32) -> Vec<f32> {
        let trusted = |number: &usize| self.validity(*number) >= least_validity;
        let count = (0..self.pial.len()).filter(trusted).count();
        // Grown step by step, it would take up to three times its size.
        let mut lengths = Vec::with_capacity(count);
        lengths.extend(
            (0..self.pial.len())
                .filter(trusted)
                .map(|number| self.pial[number].length + self.white[number].length),
        );
        lengths
    }

    /// The result at each grey voxel.
    pub(super) fn into_points(self) -> Vec<Point> {
        (0..self.pial.len())
            .map(|number| Point {
                depth: self
                    .ratio(number)
                    .unwrap_or(self.harmonic[number].value() as f32),
                validity: self.validity(number),
            })
            .collect()
    }

    /// Share of the volume on the pial side; `None` if one side is unknown.
    fn ratio(&self, number: usize) -> Option<f32> {
        let (pial, white) = (self.pial[number], self.white[number]);
        let whole = pial.volume + white.volume;
        (pial.arrived() && white.arrived() && whole > 0.0 && whole.is_finite())
            .then(|| (pial.volume / whole).clamp(0.0, 1.0))
    }

    fn validity(&self, number: usize) -> f32 {
        if self.ratio(number).is_none() {
            return 0.0;
        }
        let streamlines = self.pial[number].known.min(self.white[number].known);
        (streamlines * (1.0 - f32::from(self.exposure[number]) / EXPOSED)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(pial: Flow, white: Flow) -> Columns {
        Columns {
            harmonic: vec![Harmonic::new(0.75)],
            exposure: vec![16384],
            pial: vec![pial],
            white: vec![white],
        }
    }

    fn flow(volume: f32, known: f32) -> Flow {
        Flow {
            volume,
            length: 1.5,
            known,
        }
    }

    #[test]
    fn depth_is_a_share_of_volume_and_validity_that_of_the_worse_side() {
        let columns = columns(flow(1.0, 0.5), flow(3.0, 1.0));
        assert_eq!(columns.thickness_mm(0.25), [3.0]);
        assert_eq!(columns.unreached(), 0);
        let expected = Point {
            depth: 0.25,
            validity: 0.25,
        };
        assert_eq!(columns.into_points(), [expected]);
    }

    #[test]
    fn without_a_streamline_depth_is_the_harmonic_value_and_invalid() {
        let columns = columns(flow(f32::NAN, 0.0), flow(3.0, 1.0));
        assert_eq!(columns.unreached(), 1);
        let expected = Point {
            depth: 0.75,
            validity: 0.0,
        };
        assert_eq!(columns.into_points(), [expected]);
    }
}
