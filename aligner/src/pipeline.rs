//! The order of the stages: load → depth → register → resample → quality → write.

use alignment_api::{
    Artifact, ArtifactKind, DepthReport, DepthSource, EffectiveRegistration, LandmarkResidual,
    OutputArtifact, OutputGrid, Quality, REPORT_SCHEMA, Report, Stage,
};

use crate::{
    affine::Affine,
    depth, earlier,
    error::Error,
    io::atomic,
    job::Job,
    landmarks::{self, Landmarks},
    load::{self, Loaded, PatchDepth},
    observer,
    outputs::{self, PatchDepthMap, Results},
    page,
    progress::Reporter,
    quality::{self, Subject},
    registration::{self, Registration, RegistrationError, RegistrationInput},
    summary,
    viewer::{self, Layer},
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
    job.transfers.fetch(reporter)?;
    outputs::check_inputs_survive(job)?;
    let (source, mut loaded) = load::load(job)?;
    let mut warnings = std::mem::take(&mut loaded.warnings);
    atomic::check_writable(&job.folder)?;
    enter(Stage::Depth)?;
    let depth = patch_depth(job, source, reporter, &mut warnings)?;
    enter(Stage::Register)?;
    let landmarks = Landmarks::place(job, &depth.depth.grid, &mut warnings)?;
    let registration = register(job, &loaded, &depth, &landmarks, reporter)
        // There will be no report to say them, and one of them may be the reason.
        .inspect_err(|_| warnings.iter().for_each(|warning| summary::warn(warning)))?;
    warnings.extend(registration.warnings.iter().cloned());
    warnings.extend(landmarks.warnings(&registration));
    enter(Stage::Resample)?;
    let images = outputs::resample_images(job, &loaded, &registration, reporter)?;
    enter(Stage::Quality)?;
    let (quality, residuals) = measure(&loaded, &depth, &landmarks, &registration);
    warnings.extend(plausibility(&quality));
    enter(Stage::Write)?;
    let results = Results {
        loaded: &loaded,
        depth: &depth,
        registration: &registration,
        images,
    };
    earlier::make_room(job)?;
    let artifacts = outputs::write(job, &results, reporter)?;
    let frames = frames(job, &artifacts, &results);
    let mut report = Report {
        schema: REPORT_SCHEMA.to_owned(),
        aligner_version: env!("CARGO_PKG_VERSION").to_owned(),
        request: job.name.clone(),
        template: job.template_name.clone(),
        inputs: loaded.inputs.clone(),
        placement: job.placement.clone(),
        patch_to_template: loaded.patch_to_template.rows(),
        depth: depth_report(&depth),
        registration: EffectiveRegistration {
            landmark_uncertainty_mm: registration.landmark_uncertainty_mm,
            ..job.registration.effective()
        },
        levels: registration.levels.clone(),
        quality,
        landmarks: residuals,
        artifacts,
        warnings,
        viewer_url: None,
    };
    if job.artifacts.contains(&OutputArtifact::Report) {
        let page = page::render(
            &report,
            &page::Subject {
                depth: &depth.depth,
                template: &loaded.template,
                patch_to_template: loaded.patch_to_template,
                forward: &registration.forward,
                image: loaded.images.first(),
            },
        );
        report.artifacts.extend(outputs::write_page(job, &page)?);
        let artifact: Artifact = outputs::write_report(job, &report)?;
        report.artifacts.push(artifact);
    }
    let artifacts = &mut report.artifacts;
    job.transfers.deliver(job, artifacts, reporter)?;
    report.viewer_url = view(&report.artifacts, &frames, &loaded, &depth);
    Ok(report)
}

/// How viewers show a volume: its viewer space → template physical space, and whether it holds labels.
type Frame = Option<(Affine, bool)>;

/// Of each artifact; they begin with the images, in their order.
fn frames(job: &Job, artifacts: &[Artifact], results: &Results) -> Vec<Frame> {
    let patch_to_template = results.loaded.patch_to_template;
    let frame = |(index, artifact): (usize, &Artifact)| match artifact.kind {
        ArtifactKind::Image => {
            let image = results.images.get(index)?;
            let map = match image.space {
                OutputGrid::Patch => patch_to_template,
                OutputGrid::Template => Affine::IDENTITY,
            };
            let labels = outputs::is_label_image(job, &image.file);
            Some((viewer::to_template(&image.grid, &map)?, labels))
        }
        ArtifactKind::Depth => {
            let grid = &results.depth.depth.grid;
            Some((viewer::to_template(grid, &patch_to_template)?, false))
        }
        _ => None,
    };
    artifacts.iter().enumerate().map(frame).collect()
}

/// A view of what an image service shows.
fn view(
    artifacts: &[Artifact],
    frames: &[Frame],
    loaded: &Loaded,
    depth: &PatchDepthMap,
) -> Option<String> {
    let layer = |(artifact, frame): (&Artifact, &Frame)| {
        let (to_template, labels) = (*frame)?;
        Some(Layer {
            name: artifact.name.clone(),
            source: artifact.neuroglancer_url.clone()?,
            labels,
            to_template,
        })
    };
    let layers: Vec<Layer> = artifacts.iter().zip(frames).filter_map(layer).collect();
    let patch = &depth.depth.grid;
    let middle = patch.shape.map(|size| (size as f64 - 1.0) / 2.0);
    let centre = loaded
        .patch_to_template
        .apply(patch.voxel_to_world.apply(middle));
    viewer::link(&layers, centre)
}

fn register(
    job: &Job,
    loaded: &Loaded,
    depth: &PatchDepthMap,
    landmarks: &Landmarks,
    reporter: &Reporter,
) -> Result<Registration, Error> {
    let pairs = landmarks.pairs();
    let parameters = job.registration.effective();
    let input = RegistrationInput {
        fixed: &depth.depth,
        validity: depth.validity.as_ref(),
        moving: &loaded.template,
        fixed_to_moving: loaded.patch_to_template,
        landmarks: &pairs,
    };
    registration::register(&input, &parameters, reporter).map_err(|error| {
        let hint = match &error {
            RegistrationError::LandmarksNotMet { unmet, .. } => landmarks.unmet_hint(unmet),
            // Depth alone hardly ever folds: a wrong pair does.
            RegistrationError::Folds { strained, .. } => {
                let mode = parameters.landmark_mode;
                landmarks.fold_hint(*strained, &loaded.patch_to_template, mode)
            }
            _ => String::new(),
        };
        match error.into() {
            Error::Registration { source, .. } if !hint.is_empty() => {
                Error::Registration { source, hint }
            }
            error => error,
        }
    })
}

fn measure(
    loaded: &Loaded,
    depth: &PatchDepthMap,
    landmarks: &Landmarks,
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
    let residuals = landmarks.residuals(&loaded.patch_to_template, registration);
    if let Some((before, after)) = landmarks::mean_residuals(&residuals) {
        quality.landmark_mean_before_mm = Some(before);
        quality.landmark_mean_after_mm = Some(after);
    }
    (quality, residuals)
}

/// Takes the source: a segmentation is not needed once its depth is known.
fn patch_depth(
    job: &Job,
    source: PatchDepth,
    reporter: &Reporter,
    warnings: &mut Vec<String>,
) -> Result<PatchDepthMap, Error> {
    match source {
        PatchDepth::Map(depth) => Ok(PatchDepthMap {
            depth,
            validity: None,
            median_thickness_mm: None,
            thickness_mm: None,
            layers: None,
        }),
        PatchDepth::Tissues(tissues) => {
            let map = depth::compute(&tissues, reporter)?;
            let wanted = |artifact| job.artifacts.contains(&artifact);
            let thickness_mm = wanted(OutputArtifact::Thickness).then(|| map.thickness_mm());
            let layers = wanted(OutputArtifact::Layers)
                .then(|| depth::layers(&tissues, &map, job.layer_count));
            warnings.extend(map.warnings);
            Ok(PatchDepthMap {
                depth: map.depth,
                validity: Some(map.validity),
                median_thickness_mm: Some(map.median_thickness_mm),
                thickness_mm,
                layers,
            })
        }
    }
}

fn depth_report(depth: &PatchDepthMap) -> DepthReport {
    let is_cortex = |depth: f32| depth > 0.0 && depth < 1.0;
    let values = depth.depth.values();
    let cortex_voxels = values.iter().filter(|depth| is_cortex(**depth)).count();
    let mean = |validity: &Volume<f32>| {
        let pairs = values.iter().zip(validity.values());
        let known = pairs.filter(|(depth, _)| is_cortex(**depth));
        known.map(|(_, validity)| f64::from(*validity)).sum::<f64>() / cortex_voxels.max(1) as f64
    };
    DepthReport {
        // Only a computed depth has a validity.
        source: match depth.validity {
            Some(_) => DepthSource::Segmentation,
            None => DepthSource::Map,
        },
        cortex_voxels,
        mean_validity: depth.validity.as_ref().map_or(1.0, mean),
        median_thickness_mm: depth.median_thickness_mm,
    }
}

fn plausibility(quality: &Quality) -> Vec<String> {
    let mut warnings = Vec::new();
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
