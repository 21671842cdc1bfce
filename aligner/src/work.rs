//! What a request asks for, whatever its kind.

use alignment_api::{
    DepthMapReport, Destination, Report, RequestDocument, RequestSpec, Source, validate,
};

use crate::{
    again, depth_map,
    error::Error,
    job::{DepthMapJob, Job, Mounts},
    load, pipeline,
    progress::Reporter,
    transfers::Transfers,
};

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Work {
    /// An alignment.
    Alignment(Box<Job>),
    /// A depth map alone.
    DepthMap(Box<DepthMapJob>),
}

/// What was done.
#[derive(Clone, Debug)]
pub enum Done {
    /// An alignment.
    Alignment(Box<Report>),
    /// A depth map alone.
    DepthMap(Box<DepthMapReport>),
}

impl Work {
    /// Resolves a request.
    ///
    /// # Errors
    /// [`Error::Request`] with every violation, a template that is not offered among them;
    /// [`Error::Usage`] for a claim without a folder; [`Error::Network`] for a place that is not
    /// allowed.
    pub fn from_request(document: &RequestDocument, mounts: &Mounts) -> Result<Self, Error> {
        let violations = validate(document);
        if !violations.is_empty() {
            return Err(Error::Request(violations));
        }
        let name = document.metadata.name.clone();
        let transfers = Transfers::new(document, &mounts.network)?;
        let policy = &mounts.network.policy;
        Ok(match &document.spec {
            RequestSpec::Alignment(spec) => {
                let mut job = Job::resolve(name, spec, transfers, mounts)?;
                job.command = again::request(document, Some(&job.template_name), policy);
                Self::Alignment(Box::new(job))
            }
            RequestSpec::DepthMap(spec) => {
                let mut job = DepthMapJob::resolve(name, spec, transfers, mounts)?;
                job.command = again::request(document, None, policy);
                Self::DepthMap(Box::new(job))
            }
        })
    }

    /// Does it.
    ///
    /// # Errors
    /// As [`pipeline::run`] and [`depth_map::run`].
    pub fn run(&self, reporter: &Reporter) -> Result<Done, Error> {
        Ok(match self {
            Self::Alignment(job) => Done::Alignment(Box::new(pipeline::run(job, reporter)?)),
            Self::DepthMap(job) => Done::DepthMap(Box::new(depth_map::run(job, reporter)?)),
        })
    }

    /// Bytes that it takes at its peak.
    ///
    /// # Errors
    /// As [`load::predict`] and [`depth_map::predict`].
    pub fn predict(&self) -> Result<u64, Error> {
        match self {
            Self::Alignment(job) => load::predict(job),
            Self::DepthMap(job) => depth_map::predict(job),
        }
    }
}

/// Whether everything that a request names lies on claims.
pub fn is_local(spec: &RequestSpec) -> bool {
    let sources = spec.sources();
    let mut sources = sources.iter().map(|(_, source)| source);
    sources.all(|source| matches!(source, Source::Volume(_)))
        && matches!(spec.destination(), Destination::Volume(_))
}
