//! The order of the stages of a depth map alone: load → depth → write.

use std::path::{Path, PathBuf};

use alignment_api::{
    Artifact, DEPTH_MAP_REPORT_SCHEMA, DepthMapReport, Labels, OutputArtifact, Stage,
};

use crate::{
    depth::Tissue,
    earlier,
    error::Error,
    footprint::{self, Footprint},
    inputs::Inputs,
    io::atomic,
    job::DepthMapJob,
    maps::{MapFiles, Maps, Needs},
    memory::{self, DepthMapPlan},
    observer::{self, Observer, Step},
    page::{self, DepthSubject},
    pictures,
    progress::Reporter,
    report_files::{self, PAGE, REPORT},
    segmentation,
    volume::Volume,
};

/// Runs a job and returns its report; the report itself is written last.
///
/// # Errors
/// [`Error`]; outputs that were written before it stay, each of them whole.
pub fn run(job: &DepthMapJob, reporter: &Reporter) -> Result<DepthMapReport, Error> {
    enter(reporter, Stage::Load)?;
    job.transfers.fetch(reporter)?;
    let (files, footprint) = (files(job), footprint(job));
    footprint.check_inputs_survive()?;
    let mut subject = load(&job.segmentation, &job.labels, &files, memory::limit())?;
    atomic::check_writable(&job.folder)?;
    enter(reporter, Stage::Depth)?;
    let maps = compute(&mut subject, &files, reporter)?;
    enter(reporter, Stage::Write)?;
    earlier::make_room(&footprint)?;
    let mut report = DepthMapReport {
        schema: DEPTH_MAP_REPORT_SCHEMA.to_owned(),
        aligner_version: env!("CARGO_PKG_VERSION").to_owned(),
        request: job.name.clone(),
        command: job.command.clone(),
        inputs: subject.inputs.files.clone(),
        labels: job.labels.clone(),
        depth: maps.report(),
        artifacts: write(&files, &subject, &maps, reporter)?,
        warnings: subject.inputs.warnings,
    };
    if wants_report(job) {
        let artifact = report_files::write_report(&job.folder, &report)?;
        report.artifacts.push(artifact);
    }
    // Layers, the only labels, do not go to an image service.
    let transfers = &job.transfers;
    transfers.deliver(&job.folder, &mut report.artifacts, &[], reporter)?;
    reporter.end();
    if transfers.stores_elsewhere() {
        let draw = || page::small_depth_pictures(&subject.tissues, &maps.depth);
        pictures::tell(reporter, &[], draw);
    }
    Ok(report)
}

/// Bytes that a run takes at its peak; the segmentation is read for it, but not kept.
///
/// # Errors
/// [`Error::Volume`] naming the file.
pub fn predict(job: &DepthMapJob) -> Result<u64, Error> {
    let plan = plan(&job.segmentation, &files(job))?;
    let grey = segmentation::scan_grey(&job.segmentation, &job.labels)?;
    Ok(memory::predict_depth_map(&plan, grey))
}

/// What is written beside `report.json`.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The maps.
    pub maps: MapFiles,
    /// The page for a person.
    pub page: Option<PathBuf>,
}

impl Files {
    fn needs(&self) -> Needs {
        Needs {
            lengths: self.page.is_some(),
            ..self.maps.needs()
        }
    }
}

fn files(job: &DepthMapJob) -> Files {
    let (folder, path) = (&job.folder, &job.segmentation);
    Files {
        maps: MapFiles::of_request(folder, path, &job.artifacts, job.layer_count),
        page: wants_report(job).then(|| folder.join(PAGE)),
    }
}

fn wants_report(job: &DepthMapJob) -> bool {
    job.artifacts.contains(&OutputArtifact::Report)
}

fn footprint(job: &DepthMapJob) -> Footprint<'_> {
    let mut planned = files(job).maps.names();
    if wants_report(job) {
        planned.extend([PAGE, REPORT].map(str::to_owned));
    }
    Footprint {
        schema: DEPTH_MAP_REPORT_SCHEMA,
        request: job.name.as_deref(),
        folder: &job.folder,
        planned,
        inputs: footprint::resolved([&job.segmentation]),
    }
}

/// Enters a stage, unless the process was asked to stop.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn enter(reporter: &Reporter, stage: Stage) -> Result<(), Error> {
    reporter.enter(stage, Stage::percent_range_of_depth_map);
    Ok(observer::check(reporter)?)
}

/// A segmentation, and what is known of it.
pub struct Subject {
    tissues: Volume<Tissue>,
    /// Its file, and what a person should know.
    pub inputs: Inputs,
}

/// Reads a segmentation, if what it takes stays below `limit` bytes of memory.
///
/// # Errors
/// [`Error`] naming the file and what is wrong with it; [`Error::Memory`].
pub fn load(
    path: &Path,
    labels: &Labels,
    files: &Files,
    limit: Option<u64>,
) -> Result<Subject, Error> {
    let plan = plan(path, files)?;
    let check = |grey| memory::check(memory::predict_depth_map(&plan, grey), limit);
    if check(0).is_err() {
        // What the message names must be enough for another attempt.
        check(segmentation::scan_grey(path, labels)?)?;
    }
    let mut inputs = Inputs::default();
    let tissues = segmentation::read(path, labels, &mut inputs)?;
    check(segmentation::count_grey(&tissues))?;
    Ok(Subject { tissues, inputs })
}

fn plan(path: &Path, files: &Files) -> Result<DepthMapPlan, Error> {
    let resident = memory::resident();
    Ok(DepthMapPlan {
        voxels: segmentation::header(path)?.grid.voxels() as u64,
        needs: files.needs(),
        resident,
    })
}

/// Computes what the files need.
///
/// # Errors
/// [`Error::Depth`], [`Error::Interrupted`].
pub fn compute(
    subject: &mut Subject,
    files: &Files,
    observer: &dyn Observer,
) -> Result<Maps, Error> {
    let warnings = &mut subject.inputs.warnings;
    let maps = Maps::compute(&subject.tissues, files.needs(), observer, warnings)?;
    Ok(maps)
}

/// Writes the files.
///
/// # Errors
/// [`Error::Write`] naming the file; [`Error::Interrupted`] between files.
pub fn write(
    files: &Files,
    subject: &Subject,
    maps: &Maps,
    observer: &dyn Observer,
) -> Result<Vec<Artifact>, Error> {
    let mut artifacts = files.maps.write(maps, 0.0..0.8, observer)?;
    if let (Some(path), Some(file)) = (&files.page, subject.inputs.files.first()) {
        let html = page::render_depth(&DepthSubject {
            file,
            tissues: &subject.tissues,
            maps,
            warnings: &subject.inputs.warnings,
        });
        artifacts.push(report_files::write_page(path, &html)?);
        observer.step(&Step {
            fraction: 0.9,
            ..Step::default()
        });
    }
    Ok(artifacts)
}
