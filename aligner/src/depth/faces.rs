//! How the cortical sheet is taken to go on beyond the faces of the image.
//!
//! Nothing is known there. Zero flux through a face (the axis keeps its weight, share 1) lets the sheet
//! meet the face at a right angle: right where it does, since it goes on by reflection then, bent as it
//! is. Linear continuation (the axis is left out, share 0) is right for a flat sheet at any angle; along
//! a face it determines nothing, so that a small share remains. It goes with spacing / thickness, so
//! that the condition in mm does not depend on the resolution.
//!
//! The angle is that of a first, rough solution with the small share alone.

use rayon::prelude::*;

use super::laplace::gradient;
use super::sheet::{Link, Links, Sheet};

/// Share of an axis that is kept everywhere, in units of spacing / thickness. Found on boxes cut out of
/// a real sheet, whose depth in the whole is known; less is better still, but less stable.
const KEPT: f64 = 0.8;

/// Least share.
const LEAST: f64 = 0.05;

/// Sine of the angle between the sheet's normal and the face, above which the sheet does not count as
/// upright at all.
const UPRIGHT: f64 = 0.22;

/// Of the weight of an axis, the share that is kept where the image ends on it.
pub(super) struct Shares {
    everywhere: [f64; 3],
    /// Voxels on a face, by ascending number, where more is kept.
    upright: Vec<(u32, [f32; 3])>,
}

impl Shares {
    /// Before anything is known of the angles; `thickness_mm` is typical for the sheet.
    pub(super) fn of_any_angle(sheet: &Sheet, thickness_mm: f64) -> Self {
        let share = |spacing: f64| (KEPT * spacing / thickness_mm).clamp(LEAST, 1.0);
        Self {
            everywhere: sheet.spacing.map(share),
            upright: Vec::new(),
        }
    }

    /// Judges the angle at each voxel on a face by the harmonic function `values` at each grey voxel;
    /// tells whether any differs from what was taken.
    pub(super) fn judge(&mut self, sheet: &Sheet, values: &[f64]) -> bool {
        let on_face: Vec<(usize, &Links)> =
            sheet.rim().filter(|(_, links)| is_on_face(links)).collect();
        let judged = on_face.into_par_iter().filter_map(|(number, links)| {
            let slopes = gradient(sheet, |at| values[at], number, links);
            let square: f64 = slopes.iter().map(|slope| slope * slope).sum();
            let shares = std::array::from_fn(|axis| {
                let least = self.everywhere[axis];
                let tilt = slopes[axis] * slopes[axis] / (UPRIGHT * UPRIGHT * square);
                // Nowhere does it jump: close angles mean close depths.
                let upright = (1.0 - tilt).max(0.0);
                least + (1.0 - least) * upright * upright
            });
            (square > 0.0 && shares != self.everywhere)
                .then(|| (number as u32, shares.map(|share| share as f32)))
        });
        self.upright = judged.collect();
        !self.upright.is_empty()
    }

    /// The share along each axis at a grey voxel.
    pub(super) fn at(&self, number: usize) -> [f64; 3] {
        let found = self
            .upright
            .binary_search_by_key(&number, |&(number, _)| number as usize);
        found.map_or(self.everywhere, |place| {
            self.upright[place].1.map(f64::from)
        })
    }
}

/// True if the image ends next to the voxel.
pub(super) fn is_on_face(links: &Links) -> bool {
    links.contains(&Link::OUTSIDE)
}
