//! Landmark pairs: from the request's space into the world, and how far apart they are.

use alignment_api::{Landmark, LandmarkResidual};

use crate::{
    affine::Affine,
    chain::{Chain, Link},
    error::Error,
    field::DisplacementField,
    grid::Grid,
    job::Job,
    placement,
    registration::LandmarkPair,
    resample,
};

/// The pairs of a job, with patch positions in physical space.
pub struct Landmarks {
    pairs: Vec<Placed>,
}

struct Placed {
    name: String,
    /// Takes part: active, and inside the patch.
    used: bool,
    patch_mm: [f64; 3],
    template_mm: [f64; 3],
    weight: f64,
}

impl Landmarks {
    /// Places the pairs of a job on the patch's grid. Active pairs outside the patch take no part,
    /// which is warned of by name.
    ///
    /// # Errors
    /// [`Error::Geometry`] if the grid's affine is singular.
    pub fn place(job: &Job, grid: &Grid, warnings: &mut Vec<String>) -> Result<Self, Error> {
        let singular = || Error::Geometry("the patch's affine is singular".to_owned());
        let to_patch = placement::physical_to_space(grid, job.landmark_space)
            .and_then(|to_space| to_space.inverse())
            .ok_or_else(singular)?;
        let to_voxel = grid.voxel_to_world.inverse().ok_or_else(singular)?;
        let place = |(index, landmark): (usize, &Landmark)| {
            let name = landmark
                .name
                .clone()
                .unwrap_or_else(|| (index + 1).to_string());
            let patch_mm = to_patch.apply(landmark.patch);
            let inside = resample::inside(to_voxel.apply(patch_mm), grid.shape);
            if landmark.active && !inside {
                warnings.push(format!(
                    "landmark pair `{name}` was ignored: its patch position lies outside the patch; check its space ({:?}), its unit (mm) and the order of its two points",
                    job.landmark_space
                ));
            }
            Placed {
                name,
                used: landmark.active && inside,
                patch_mm,
                template_mm: landmark.template,
                weight: landmark.weight,
            }
        };
        let pairs = job.landmarks.iter().enumerate().map(place).collect();
        Ok(Self { pairs })
    }

    /// The pairs that take part.
    pub fn pairs(&self) -> Vec<LandmarkPair> {
        let used = self.pairs.iter().filter(|pair| pair.used);
        used.map(|pair| LandmarkPair {
            fixed_mm: pair.patch_mm,
            moving_mm: pair.template_mm,
            weight: pair.weight,
        })
        .collect()
    }

    /// The used pair that lies farthest apart under the placement, with its distance in mm.
    pub fn farthest(&self, patch_to_template: &Affine) -> Option<(&str, f64)> {
        let used = self.pairs.iter().filter(|pair| pair.used);
        used.map(|pair| {
            let image = patch_to_template.apply(pair.patch_mm);
            (pair.name.as_str(), distance(image, pair.template_mm))
        })
        .max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Distances of each pair in template space, before and after the registration, in mm.
    pub fn residuals(
        &self,
        patch_to_template: &Affine,
        forward: &DisplacementField,
    ) -> Vec<LandmarkResidual> {
        let chain = Chain::default()
            .then(Link::Field(forward))
            .then(Link::Affine(*patch_to_template));
        let residual = |pair: &Placed| LandmarkResidual {
            name: pair.name.clone(),
            active: pair.used,
            before_mm: distance(patch_to_template.apply(pair.patch_mm), pair.template_mm),
            after_mm: distance(chain.apply(pair.patch_mm), pair.template_mm),
        };
        self.pairs.iter().map(residual).collect()
    }
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    (0..3)
        .map(|axis| (a[axis] - b[axis]).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// Mean residuals of the pairs that took part, before and after; `None` without any.
pub fn mean_residuals(residuals: &[LandmarkResidual]) -> Option<(f64, f64)> {
    let used: Vec<_> = residuals.iter().filter(|pair| pair.active).collect();
    let mean = |value: fn(&LandmarkResidual) -> f64| {
        used.iter().map(|pair| value(pair)).sum::<f64>() / used.len() as f64
    };
    (!used.is_empty()).then(|| (mean(|pair| pair.before_mm), mean(|pair| pair.after_mm)))
}
