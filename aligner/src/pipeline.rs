//! The order of the stages: load → depth → register → resample → quality → write.

use alignment_api::{
    Artifact, DepthReport, DepthSource, LandmarkResidual, OutputArtifact, Quality, REPORT_SCHEMA,
    Report, Stage,
};

use crate::{
    affine::Affine,
    depth,
    error::Error,
    io::atomic,
    job::Job,
    load::{self, Loaded, PatchDepth},
    observer,
    outputs::{self, PatchDepthMap, Results},
    placement,
    progress::Reporter,
    quality::{self, Subject},
    registration::{self, LandmarkPair, Registration, RegistrationInput},
    volume::Volume,
};

/// Runs a job and returns its report; the report itself is written last.
///
/// # Errors
/// [`Error`]; outputs that were written before it stay, each of them whole.
pub fn run(job: &Job, reporter: &Reporter) -> Result<Report, Error> {
    let enter = |stage| {
        reporter.stage(stage);
        observer::check(reporter)
    };
    enter(Stage::Load)?;
    let mut loaded = load::load(job)?;
    let mut warnings = std::mem::take(&mut loaded.warnings);
    atomic::check_writable(&job.folder)?;
    enter(Stage::Depth)?;
    let depth = patch_depth(&loaded.depth, reporter, &mut warnings)?;
    enter(Stage::Register)?;
    let space_to_patch = placement::physical_to_space(&depth.depth.grid, job.placement.space)
        .and_then(|to_space| to_space.inverse())
        .ok_or_else(|| Error::Geometry("the patch's affine is singular".to_owned()))?;
    let registration = register(job, &loaded, &depth, &space_to_patch, reporter)?;
    warnings.extend(registration.warnings.iter().cloned());
    enter(Stage::Resample)?;
    let images = outputs::resample_images(job, &loaded, &registration);
    enter(Stage::Quality)?;
    let (quality, landmarks) = measure(job, &loaded, &depth, &space_to_patch, &registration);
    warnings.extend(plausibility(&quality));
    enter(Stage::Write)?;
    let results = Results {
        loaded: &loaded,
        depth: &depth,
        registration: &registration,
        images,
    };
    let artifacts = outputs::write(job, &results, reporter)?;
    let mut report = Report {
        schema: REPORT_SCHEMA.to_owned(),
        aligner_version: env!("CARGO_PKG_VERSION").to_owned(),
        request: job.name.clone(),
        template: job.template_name.clone(),
        inputs: loaded.inputs.clone(),
        placement: job.placement.clone(),
        patch_to_template: loaded.patch_to_template.rows(),
        depth: depth_report(&loaded, &depth),
        registration: job.registration.effective(),
        levels: registration.levels.clone(),
        quality,
        landmarks,
        artifacts,
        warnings,
    };
    if job.artifacts.contains(&OutputArtifact::Report) {
        let artifact: Artifact = outputs::write_report(job, &report)?;
        report.artifacts.push(artifact);
    }
    Ok(report)
}

fn register(
    job: &Job,
    loaded: &Loaded,
    depth: &PatchDepthMap,
    space_to_patch: &Affine,
    reporter: &Reporter,
) -> Result<Registration, Error> {
    let landmarks: Vec<LandmarkPair> = job
        .landmarks
        .iter()
        .filter(|landmark| landmark.active)
        .map(|landmark| LandmarkPair {
            fixed_mm: space_to_patch.apply(landmark.patch),
            moving_mm: landmark.template,
            weight: landmark.weight,
        })
        .collect();
    let input = RegistrationInput {
        fixed: &depth.depth,
        validity: depth.validity.as_ref(),
        moving: &loaded.template,
        fixed_to_moving: loaded.patch_to_template,
        landmarks: &landmarks,
    };
    Ok(registration::register(
        &input,
        &job.registration.effective(),
        reporter,
    )?)
}

fn measure(
    job: &Job,
    loaded: &Loaded,
    depth: &PatchDepthMap,
    space_to_patch: &Affine,
    registration: &Registration,
) -> (Quality, Vec<LandmarkResidual>) {
    let mut quality = quality::measure(&Subject {
        depth: &depth.depth,
        validity: depth.validity.as_ref(),
        template: &loaded.template,
        patch_to_template: loaded.patch_to_template,
        forward: &registration.forward,
        inverse: &registration.inverse,
    });
    let residuals = quality::landmark_residuals(
        &job.landmarks,
        space_to_patch,
        &loaded.patch_to_template,
        &registration.forward,
    );
    if let Some((before, after)) = quality::mean_residuals(&residuals) {
        quality.landmark_mean_before_mm = Some(before);
        quality.landmark_mean_after_mm = Some(after);
    }
    (quality, residuals)
}

fn patch_depth(
    source: &PatchDepth,
    reporter: &Reporter,
    warnings: &mut Vec<String>,
) -> Result<PatchDepthMap, Error> {
    match source {
        PatchDepth::Map(map) => Ok(PatchDepthMap {
            depth: map.clone(),
            validity: None,
            median_thickness_mm: None,
        }),
        PatchDepth::Tissues(tissues) => {
            let map = depth::compute(tissues, reporter)?;
            warnings.extend(map.warnings);
            Ok(PatchDepthMap {
                depth: map.depth,
                validity: Some(map.validity),
                median_thickness_mm: Some(map.median_thickness_mm),
            })
        }
    }
}

fn depth_report(loaded: &Loaded, depth: &PatchDepthMap) -> DepthReport {
    let cortex: Vec<usize> = depth
        .depth
        .values()
        .iter()
        .enumerate()
        .filter(|(_, depth)| **depth > 0.0 && **depth < 1.0)
        .map(|(index, _)| index)
        .collect();
    let validity = |map: &Volume<f32>| {
        cortex
            .iter()
            .map(|index| f64::from(map.values()[*index]))
            .sum::<f64>()
            / cortex.len().max(1) as f64
    };
    DepthReport {
        source: match loaded.depth {
            PatchDepth::Tissues(_) => DepthSource::Segmentation,
            PatchDepth::Map(_) => DepthSource::Map,
        },
        cortex_voxels: cortex.len(),
        mean_validity: depth.validity.as_ref().map_or(1.0, validity),
        median_thickness_mm: depth.median_thickness_mm,
    }
}

/// Overlap below which the placement is doubtful.
const LOW_OVERLAP: f64 = 0.5;

fn plausibility(quality: &Quality) -> Vec<String> {
    let mut warnings = Vec::new();
    if quality.overlap < LOW_OVERLAP {
        warnings.push(format!(
            "only {:.0} % of the patch's cortex lies inside the template: check the placement",
            100.0 * quality.overlap
        ));
    }
    if quality.depth_residual_after >= quality.depth_residual_before {
        warnings.push(format!(
            "the depth maps do not match better after the registration ({:.3}) than before ({:.3}): check placement and segmentation",
            quality.depth_residual_after, quality.depth_residual_before
        ));
    }
    if let (Some(before), Some(after)) = (
        quality.landmark_mean_before_mm,
        quality.landmark_mean_after_mm,
    ) && after > before
    {
        warnings.push(format!(
            "the landmarks are farther apart after the registration ({after:.2} mm) than before ({before:.2} mm): check them"
        ));
    }
    warnings
}
