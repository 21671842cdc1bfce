//! Ranges of the registration's parameters.

use crate::{LevelParameters, RegistrationParameters};

use super::{Violations, check_range};

const FIELD: &str = "spec.registration";

pub(super) fn check_registration(parameters: &RegistrationParameters, found: &mut Violations) {
    if let Some(levels) = &parameters.levels {
        check_levels(levels, found);
    }
    let numbers = [
        (
            "smoothnessLengthMm",
            parameters.smoothness_length_mm,
            1e-6,
            1000.0,
        ),
        (
            "smoothnessWeight",
            parameters.smoothness_weight,
            1e-4,
            1000.0,
        ),
        (
            "landmarkUncertaintyMm",
            parameters.landmark_uncertainty_mm,
            1e-6,
            1000.0,
        ),
        (
            "smoothnessLengthFactor",
            parameters.smoothness_length_factor,
            0.01,
            100.0,
        ),
        ("smoothnessFloor", parameters.smoothness_floor, 1e-9, 1.0),
        ("residualCeiling", parameters.residual_ceiling, 0.001, 1.0),
        ("amplitudeFactor", parameters.amplitude_factor, 0.001, 100.0),
        (
            "landmarkVolumeFactor",
            parameters.landmark_volume_factor,
            1e-4,
            100.0,
        ),
        ("stepTolerance", parameters.step_tolerance, 1e-5, 1.0),
    ];
    for (name, value, low, high) in numbers {
        if let Some(value) = value {
            check_range(found, &format!("{FIELD}.{name}"), value, low, high);
        }
    }
    if let Some(value) = parameters.lattice_spacing {
        check_range(found, &format!("{FIELD}.latticeSpacing"), value, 2, 16);
    }
    if let Some(value) = parameters.conjugate_gradient_steps {
        check_range(
            found,
            &format!("{FIELD}.conjugateGradientSteps"),
            value,
            1,
            200,
        );
    }
}

fn check_levels(levels: &[LevelParameters], found: &mut Violations) {
    if levels.is_empty() || levels.len() > 8 {
        found.add(
            format!("{FIELD}.levels"),
            format!("has {} entries, expected 1 to 8", levels.len()),
        );
    }
    if levels
        .windows(2)
        .any(|pair| pair[0].shrink_factor <= pair[1].shrink_factor)
    {
        found.add(
            format!("{FIELD}.levels"),
            "shrink factors must fall from level to level (coarsest first)",
        );
    }
    for (index, level) in levels.iter().enumerate() {
        let field = format!("{FIELD}.levels[{index}]");
        check_range(
            found,
            &format!("{field}.shrinkFactor"),
            level.shrink_factor,
            1,
            64,
        );
        check_range(
            found,
            &format!("{field}.iterations"),
            level.iterations,
            1,
            1000,
        );
        check_range(
            found,
            &format!("{field}.robustScale"),
            level.robust_scale,
            0.05,
            100.0,
        );
    }
}
