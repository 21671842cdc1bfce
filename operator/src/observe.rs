//! What is known about a request: its Job, its pods.
//!
//! Everything comes from caches that watches fill. One case needs a read: a Job that should be
//! there and is not in the cache may be deleted, or the cache may be behind; only the API server
//! knows.

pub mod job;
pub mod pods;
pub mod ready;

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, Client, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};

pub use job::{JobEnd, JobView};
pub use pods::{PodIndex, PodPhase, PodView, Problem, Terminated};
pub use ready::Ready;

use crate::build::metadata::job_name;
use crate::crd::AlignmentRequest;
use crate::error::{Error, call};

/// The Job of the newest attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum JobState {
    /// No Job was made yet.
    Never,
    /// A Job was made and is gone.
    Gone,
    /// It is there.
    Present(JobView),
}

/// What is known about a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// The Job of the newest attempt.
    pub job: JobState,
    /// The pods of that Job.
    pub pods: Vec<Arc<PodView>>,
}

impl Observed {
    /// The Job, if it is there.
    pub fn job(&self) -> Option<&JobView> {
        match &self.job {
            JobState::Present(job) => Some(job),
            JobState::Never | JobState::Gone => None,
        }
    }
}

/// Where to look.
pub struct Observer<'a> {
    /// For the one read.
    pub client: &'a Client,
    /// Jobs of all requests.
    pub jobs: &'a Store<Job>,
    /// Pods of all Jobs.
    pub pods: &'a PodIndex,
    /// The Job that the operator itself wrote last and the watch may not have shown yet.
    pub written: Option<Arc<Job>>,
}

impl Observer<'_> {
    /// Collects what is known about a request.
    ///
    /// # Errors
    /// If a Job is missing from the cache and the API server cannot be asked.
    pub async fn observe(&self, request: &AlignmentRequest) -> Result<Observed, Error> {
        let job = self.job(request).await?;
        let pods = match &job {
            JobState::Present(job) => self.pods.of_job(&job.uid),
            JobState::Never | JobState::Gone => Vec::new(),
        };
        Ok(Observed { job, pods })
    }

    async fn job(&self, request: &AlignmentRequest) -> Result<JobState, Error> {
        let known = [self.cached(request), self.written.clone()]
            .into_iter()
            .flatten()
            .filter_map(|job| JobView::of(&job, request));
        if let Some(newest) = known.max_by_key(|job| (job.attempt, job.version)) {
            return Ok(JobState::Present(newest));
        }
        let attempts = attempts(request);
        if attempts == 0 {
            return Ok(JobState::Never);
        }
        if request.is_finished() {
            return Ok(JobState::Gone);
        }
        self.confirm(request, attempts).await
    }

    /// The cached Job of the newest attempt. One more than the status counts: the operator may
    /// have been stopped between making the Job and writing the status.
    fn cached(&self, request: &AlignmentRequest) -> Option<Arc<Job>> {
        let namespace = request.namespace().unwrap_or_default();
        (1..=attempts(request) + 1).rev().find_map(|attempt| {
            let name = job_name(request, attempt);
            self.jobs
                .get(&ObjectRef::<Job>::new(&name).within(&namespace))
        })
    }

    async fn confirm(&self, request: &AlignmentRequest, attempt: i32) -> Result<JobState, Error> {
        let namespace = request.namespace().unwrap_or_default();
        let api: Api<Job> = Api::namespaced(self.client.clone(), &namespace);
        let name = job_name(request, attempt);
        let job = call("get job", api.get_opt(&name)).await?;
        Ok(job
            .and_then(|job| JobView::of(&job, request))
            .map_or(JobState::Gone, JobState::Present))
    }
}

/// Jobs made so far, according to the status.
pub fn attempts(request: &AlignmentRequest) -> i32 {
    let status = request.status.as_ref();
    status
        .and_then(|status| status.attempts)
        .unwrap_or(0)
        .clamp(0, 100)
}
