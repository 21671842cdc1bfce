//! What is known about a request: its Job, its pods.
//!
//! Everything comes from caches that watches fill. Three cases need a read, because a cache may be
//! behind and only the API server knows: a Job that should be there and is not, a pod that should
//! have left a report and has not, and what is left of a request that is being cancelled.

pub mod job;
pub mod pods;
pub mod ready;

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{
    Api, Client, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};

pub use job::{JobEnd, JobView};
pub use pods::{Needed, PodIndex, PodPhase, PodView, Problem, Terminated};
pub use ready::Ready;

use crate::build::metadata::{REQUEST, job_name, selector};
use crate::error::{Error, call};
use crate::request::Request;

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
    /// Jobs made so far.
    pub attempts: i32,
    /// The pods of that Job; of a request that is being cancelled and has no Job, all of its pods.
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
    /// For the reads.
    pub client: &'a Client,
    /// Jobs of all requests.
    pub jobs: &'a Store<Job>,
    /// Pods of all Jobs.
    pub pods: &'a PodIndex,
    /// The Job that the operator itself wrote last and the watch may not have shown yet.
    pub written: Option<Arc<Job>>,
    /// Whether the pods' last words have been waited for long enough.
    pub report_overdue: bool,
    /// The newest attempt that a watch has shown: its Job may be gone before the status counts it.
    pub seen_attempt: i32,
}

impl Observer<'_> {
    /// Collects what is known about a request.
    ///
    /// # Errors
    /// If a Job is missing from the cache and the API server cannot be asked.
    pub async fn observe(&self, request: &Request) -> Result<Observed, Error> {
        let attempts = attempts(request).max(self.seen_attempt);
        let job = self.job(request, attempts).await?;
        let pods = match &job {
            // The watch of pods may be behind. Before their report is given up, or their Job removed,
            // they are read.
            JobState::Present(job)
                if self.report_overdue && job.end.is_some() || is_being_cancelled(request) =>
            {
                let mut pods = self.read_pods(request).await?;
                pods.retain(|pod| pod.job_uid == job.uid);
                pods
            }
            JobState::Present(job) => self.pods.of_job(&job.uid),
            // A pod outlives its Job.
            JobState::Never | JobState::Gone if is_being_cancelled(request) => {
                self.read_pods(request).await?
            }
            JobState::Never | JobState::Gone => Vec::new(),
        };
        Ok(Observed {
            job,
            attempts,
            pods,
        })
    }

    async fn job(&self, request: &Request, attempts: i32) -> Result<JobState, Error> {
        if is_being_cancelled(request) {
            return self.read_job(request, attempts).await;
        }
        let known = [self.cached(request, attempts), self.written.clone()]
            .into_iter()
            .flatten()
            .filter_map(|job| JobView::of(&job, request));
        if let Some(newest) = known.max_by_key(|job| (job.attempt, job.version)) {
            return Ok(JobState::Present(newest));
        }
        if attempts == 0 {
            return Ok(JobState::Never);
        }
        if request.is_finished() {
            return Ok(JobState::Gone);
        }
        self.confirm(request, attempts).await
    }

    /// The cached Job of the newest attempt. One more than is known: the operator may have been
    /// stopped between making the Job and writing the status.
    fn cached(&self, request: &Request, attempts: i32) -> Option<Arc<Job>> {
        let namespace = request.namespace().unwrap_or_default();
        (1..=attempts + 1).rev().find_map(|attempt| {
            let name = job_name(request, attempt);
            self.jobs
                .get(&ObjectRef::<Job>::new(&name).within(&namespace))
        })
    }

    async fn read_pods(&self, request: &Request) -> Result<Vec<Arc<PodView>>, Error> {
        let namespace = request.namespace().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let pods = call("list pods", api.list(&of_request(request))).await?;
        let views = pods.items.iter().filter_map(PodView::of);
        Ok(views.map(Arc::new).collect())
    }

    async fn read_job(&self, request: &Request, attempts: i32) -> Result<JobState, Error> {
        let namespace = request.namespace().unwrap_or_default();
        let api: Api<Job> = Api::namespaced(self.client.clone(), &namespace);
        let jobs = call("list jobs", api.list(&of_request(request))).await?;
        let views = jobs
            .items
            .iter()
            .filter_map(|job| JobView::of(job, request));
        // The Job of an earlier attempt says nothing about the newest.
        let newest = views
            .filter(|job| job.attempt >= attempts)
            .max_by_key(|job| job.attempt);
        Ok(match newest {
            Some(job) => JobState::Present(job),
            None if attempts == 0 => JobState::Never,
            None => JobState::Gone,
        })
    }

    async fn confirm(&self, request: &Request, attempt: i32) -> Result<JobState, Error> {
        let namespace = request.namespace().unwrap_or_default();
        let api: Api<Job> = Api::namespaced(self.client.clone(), &namespace);
        let name = job_name(request, attempt);
        let job = call("get job", api.get_opt(&name)).await?;
        Ok(job
            .and_then(|job| JobView::of(&job, request))
            .map_or(JobState::Gone, JobState::Present))
    }
}

/// Whether the request is to end as cancelled and has not ended yet.
fn is_being_cancelled(request: &Request) -> bool {
    request.spec.cancel() && !request.is_finished()
}

/// Selects the Jobs and pods of a request.
fn of_request(request: &Request) -> ListParams {
    let kind = selector(request.kind());
    ListParams::default().labels(&format!("{kind},{REQUEST}={}", request.name_any()))
}

/// Jobs made so far, according to the status.
fn attempts(request: &Request) -> i32 {
    let status = request.status.as_ref();
    status
        .and_then(|status| status.attempts)
        .unwrap_or(0)
        .clamp(0, 100)
}
