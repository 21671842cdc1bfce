//! The order of the stages: load → depth → register → resample → quality → write.

use alignment_api::{
    Artifact, ArtifactKind, EffectiveRegistration, LandmarkResidual, OutputArtifact, OutputGrid,
    REPORT_SCHEMA, Report, Stage,
};

use crate::{
    affine::Affine,
    earlier,
    error::Error,
    io::atomic,
    job::Job,
    landmarks::{self, Landmarks},
    load::{self, Loaded, PatchDepth},
    maps::Maps,
    observer,
    outputs::{self, PatchDepthMap, Results},
    page, pictures,
    progress::Reporter,
    quality::{self, Measured, Subject},
    registration::{self, Registration, RegistrationError, RegistrationInput},
    report_files::{self, PAGE},
    summary,
    viewer::{self, Layer},
};

/// Share of the cortex that the map leaves empty from which on a person should know.
const MANY_EMPTIED: f64 = 0.02;

/// Runs a job and returns its report; the report itself is written last.
///
/// # Errors
/// [`Error`]; outputs that were written before it stay, each of them whole.
pub fn run(job: &Job, reporter: &Reporter) -> Result<Report, Error> {
    let enter = |stage| {
        reporter.enter(stage, Stage::percent_range);
        observer::check(reporter)
    };
    enter(Stage::Load)?;
    load::look_for_template(job)?;
    job.transfers.fetch(reporter)?;
    let footprint = outputs::footprint(job);
    footprint.check_inputs_survive()?;
    let (source, mut loaded) = load::load(job)?;
    let mut warnings = std::mem::take(&mut loaded.warnings);
    atomic::check_writable(&job.folder)?;
    enter(Stage::Depth)?;
    let depth = patch_depth(job, source, reporter, &mut warnings)?;
    enter(Stage::Register)?;
    let landmarks = Landmarks::place(job, &depth.depth().grid, &mut warnings)?;
    let registration = register(job, &loaded, &depth, &landmarks, reporter)
        // There will be no report to say them, and one of them may be the reason.
        .inspect_err(|_| warnings.iter().for_each(|warning| summary::warn(warning)))?;
    warnings.extend(registration.warnings.iter().cloned());
    warnings.extend(landmarks.warnings(&registration));
    enter(Stage::Resample)?;
    let images = outputs::resample_images(job, &loaded, &registration, reporter)?;
    enter(Stage::Quality)?;
    let (measured, residuals) = measure(&loaded, &depth, &landmarks, &registration);
    warnings.extend(plausibility(&measured));
    enter(Stage::Write)?;
    let results = Results {
        loaded: &loaded,
        depth: &depth,
        registration: &registration,
        images,
    };
    earlier::make_room(&footprint)?;
    let artifacts = outputs::write(job, &results, reporter)?;
    let frames = frames(job, &artifacts, &results);
    let mut report = Report {
        schema: REPORT_SCHEMA.to_owned(),
        aligner_version: env!("CARGO_PKG_VERSION").to_owned(),
        request: job.name.clone(),
        command: job.command.clone(),
        template: job.template_name.clone(),
        inputs: loaded.inputs.clone(),
        placement: job.placement.clone(),
        patch_to_template: loaded.patch_to_template.rows(),
        depth: depth.report(),
        registration: EffectiveRegistration {
            landmark_uncertainty_mm: registration.landmark_uncertainty_mm,
            ..job.registration.effective()
        },
        levels: registration.levels.clone(),
        quality: measured.quality,
        landmarks: residuals,
        artifacts,
        warnings,
        viewer_url: None,
    };
    let shown = page::Subject {
        depth: depth.depth(),
        template: &loaded.template,
        patch_to_template: loaded.patch_to_template,
        forward: &registration.forward,
        image: loaded.images.first(),
    };
    if job.artifacts.contains(&OutputArtifact::Report) {
        write_report(job, &mut report, &shown)?;
    }
    let (artifacts, labels) = (&mut report.artifacts, outputs::label_images(job));
    let transfers = &job.transfers;
    transfers.deliver(&job.folder, artifacts, &labels, reporter)?;
    report.viewer_url = view(&report.artifacts, &frames, &loaded, &depth);
    reporter.end();
    if transfers.stores_elsewhere() {
        pictures::tell(reporter, &report.levels, || page::small_pictures(&shown));
    }
    Ok(report)
}

/// Writes the page, its preview, and last the report itself.
fn write_report(job: &Job, report: &mut Report, shown: &page::Subject) -> Result<(), Error> {
    let page = page::render(report, shown);
    let folder = &job.folder;
    let html = report_files::write_page(&folder.join(PAGE), &page.html)?;
    let preview = report_files::write_preview(folder, &page.preview)?;
    report.artifacts.extend([html, preview]);
    let artifact = report_files::write_report(folder, report)?;
    report.artifacts.push(artifact);
    Ok(())
}

/// How viewers show a volume: its viewer space → template physical space, and whether it holds labels.
type Frame = Option<(Affine, bool)>;

/// Of each artifact; they begin with the images, in their order.
fn frames(job: &Job, artifacts: &[Artifact], results: &Results) -> Vec<Frame> {
    let patch_to_template = results.loaded.patch_to_template;
    let label_images = outputs::label_images(job);
    let frame = |(index, artifact): (usize, &Artifact)| match artifact.kind {
        ArtifactKind::Image => {
            let image = results.images.get(index)?;
            let map = match image.space {
                OutputGrid::Patch => patch_to_template,
                OutputGrid::Template => Affine::IDENTITY,
            };
            let labels = label_images.contains(&image.file);
            Some((viewer::to_template(&image.grid, &map)?, labels))
        }
        ArtifactKind::Depth => {
            let grid = &results.depth.depth().grid;
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
    let patch = &depth.depth().grid;
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
        fixed: depth.depth(),
        validity: depth.validity(),
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
) -> (Measured, Vec<LandmarkResidual>) {
    let mut measured = quality::measure(&Subject {
        depth: depth.depth(),
        validity: depth.validity(),
        template: &loaded.template,
        patch_to_template: loaded.patch_to_template,
        forward: &registration.forward,
        inverse: &registration.inverse,
    });
    let residuals = landmarks.residuals(&loaded.patch_to_template, registration);
    if let Some((before, after)) = landmarks::mean_residuals(&residuals) {
        measured.quality.landmark_mean_before_mm = Some(before);
        measured.quality.landmark_mean_after_mm = Some(after);
    }
    (measured, residuals)
}

/// Takes the source: a segmentation is not needed once its depth is known.
fn patch_depth(
    job: &Job,
    source: PatchDepth,
    reporter: &Reporter,
    warnings: &mut Vec<String>,
) -> Result<PatchDepthMap, Error> {
    match source {
        PatchDepth::Map(depth) => Ok(PatchDepthMap::Given(Box::new(depth))),
        PatchDepth::Tissues(tissues) => {
            let needs = outputs::map_files(job).needs();
            let maps = Maps::compute(&tissues, needs, reporter, warnings)?;
            Ok(PatchDepthMap::Computed(Box::new(maps)))
        }
    }
}

fn plausibility(measured: &Measured) -> Vec<String> {
    let quality = &measured.quality;
    let mut warnings = Vec::new();
    if measured.emptied_share >= MANY_EMPTIED {
        warnings.push(format!(
            "{} voxels in the template's cortex ({:.1} % of the patch's) would come from beyond the faces of the patch's image: nothing is carried there",
            measured.emptied, 100.0 * measured.emptied_share
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
