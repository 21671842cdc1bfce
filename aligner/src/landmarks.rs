//! Landmark pairs: from the request's space into the world, and how far apart they are.

use alignment_api::{Landmark, LandmarkMode, LandmarkResidual};

use crate::{
    affine::Affine,
    chain::{Chain, Link},
    error::Error,
    grid::Grid,
    job::Job,
    placement,
    registration::{LandmarkPair, Registration, UnmetLandmark},
    resample,
};

/// Pairs whose points are swapped lie apart by less than this share of what they do as they are.
const SWAPPED: f64 = 0.25;
/// Below this share of its weight, a pair is warned of.
const DOWN_WEIGHTED: f64 = 0.5;
/// Most pairs that an error message names.
const MOST_NAMED: usize = 5;

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
        let to_template = placement::patch_to_template(grid, &job.placement)
            .ok_or_else(singular)?
            .after(&to_patch);
        warnings.extend(swapped(&job.landmarks, &to_template));
        Ok(Self { pairs })
    }

    fn used(&self) -> impl Iterator<Item = &Placed> {
        self.pairs.iter().filter(|pair| pair.used)
    }

    /// The pairs that take part.
    pub fn pairs(&self) -> Vec<LandmarkPair> {
        let pair = |pair: &Placed| LandmarkPair {
            fixed_mm: pair.patch_mm,
            moving_mm: pair.template_mm,
            weight: pair.weight,
        };
        self.used().map(pair).collect()
    }

    /// Names the pairs, made from [`Self::pairs`], that contradict each other or lost most of
    /// their weight, the worst first.
    pub fn warnings(&self, registration: &Registration) -> Vec<String> {
        let used: Vec<&Placed> = self.used().collect();
        let contradictions = registration.contradictions.iter().map(|found| {
            let [a, b] = found.pairs.map(|index| &used[index].name);
            format!(
                "landmark pairs `{a}` and `{b}` contradict each other: {:.2} mm apart in the patch, their template positions would have to be {:.2} mm apart: correct or deactivate one of them",
                found.patch_mm, found.template_mm
            )
        });
        let mut far: Vec<_> = used
            .iter()
            .zip(&registration.landmarks)
            .filter(|(_, outcome)| outcome.share < DOWN_WEIGHTED)
            .collect();
        far.sort_by(|a, b| a.1.share.total_cmp(&b.1.share));
        let far = far.into_iter().map(|(pair, outcome)| {
            format!(
                "landmark pair `{}` kept only {:.0} % of its weight: it ends {:.2} mm from where depth and the other pairs put it; correct or deactivate it",
                pair.name,
                100.0 * outcome.share,
                outcome.residual_mm
            )
        });
        contradictions.chain(far).collect()
    }

    /// Names the worst hard pairs that were not met.
    pub fn unmet_hint(&self, unmet: &[UnmetLandmark]) -> String {
        let used: Vec<&Placed> = self.used().collect();
        let names: Vec<String> = unmet
            .iter()
            .take(MOST_NAMED)
            .map(|pair| format!("`{}` ({:.2} mm)", used[pair.index].name, pair.residual_mm))
            .collect();
        format!("; worst pairs: {}", names.join(", "))
    }

    /// Names the used pairs that ask for the strongest distortion and the one that lies farthest
    /// apart under the placement; empty without any.
    pub fn fold_hint(
        &self,
        strained: Option<[usize; 2]>,
        patch_to_template: &Affine,
        mode: LandmarkMode,
    ) -> String {
        let used: Vec<&Placed> = self.used().collect();
        let apart = |pair: &Placed| {
            let image = patch_to_template.apply(pair.patch_mm);
            distance(image, pair.template_mm)
        };
        let farthest = used.iter().max_by(|a, b| apart(a).total_cmp(&apart(b)));
        let Some(farthest) = farthest else {
            return String::new();
        };
        let strained = strained.map_or(String::new(), |pairs| {
            let [a, b] = pairs.map(|index| &used[index].name);
            format!(", and `{a}` and `{b}` ask for the strongest distortion")
        });
        let remedy = match mode {
            LandmarkMode::Soft => "",
            LandmarkMode::Hard => "; correct them, or use soft landmarks",
        };
        format!(
            "; check the landmarks first: the pair `{}` lies {:.1} mm apart under the placement{strained}{remedy}",
            farthest.name,
            apart(farthest)
        )
    }

    /// Distances of each pair in template space, before and after the registration, in mm, and the
    /// weight it had in the end.
    pub fn residuals(
        &self,
        patch_to_template: &Affine,
        registration: &Registration,
    ) -> Vec<LandmarkResidual> {
        let chain = Chain::default()
            .then(Link::Field(&registration.forward))
            .then(Link::Affine(*patch_to_template));
        let mut outcomes = registration.landmarks.iter();
        let mut residual = |pair: &Placed| LandmarkResidual {
            name: pair.name.clone(),
            active: pair.used,
            before_mm: distance(patch_to_template.apply(pair.patch_mm), pair.template_mm),
            after_mm: distance(chain.apply(pair.patch_mm), pair.template_mm),
            effective_weight: if pair.used {
                outcomes.next().map(|outcome| outcome.share * pair.weight)
            } else {
                None
            },
        };
        self.pairs.iter().map(&mut residual).collect()
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

/// A warning if the active pairs fit the placement with their two points swapped. `to_template`: the
/// landmarks' patch space → template physical space, mm.
fn swapped(landmarks: &[Landmark], to_template: &Affine) -> Option<String> {
    let mean = |points: fn(&Landmark) -> [[f64; 3]; 2]| {
        let active = landmarks.iter().filter(|pair| pair.active).map(points);
        let distances: Vec<f64> = active
            .map(|[patch, template]| distance(to_template.apply(patch), template))
            .collect();
        distances.iter().sum::<f64>() / distances.len().max(1) as f64
    };
    let given = mean(|pair| [pair.patch, pair.template]);
    let turned = mean(|pair| [pair.template, pair.patch]);
    (turned < SWAPPED * given).then(|| {
        format!(
            "the landmarks fit the placement with their two points swapped ({turned:.2} mm apart, as they are {given:.2} mm): `template` is the point in the template, `patch` the one in the patch"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_the_wrong_roles_are_recognised() {
        let to_template = Affine::translation([30.0, -60.0, 10.0]);
        let pair = |patch: [f64; 3]| {
            let mut template = to_template.apply(patch);
            template[0] += 0.7;
            Landmark {
                name: None,
                template,
                patch,
                active: true,
                weight: 1.0,
            }
        };
        let right = [pair([1.0, 2.0, 3.0]), pair([4.0, 1.0, 2.0])];
        assert_eq!(swapped(&right, &to_template), None);
        let wrong = right.map(|pair| Landmark {
            template: pair.patch,
            patch: pair.template,
            ..pair
        });
        let warning = swapped(&wrong, &to_template).unwrap();
        assert!(warning.contains("swapped (0.70 mm apart"), "{warning}");
        assert_eq!(swapped(&[], &to_template), None);
    }
}
