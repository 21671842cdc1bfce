//! The few facts about a Job that decisions depend on.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::build::metadata::{MEMORY, QUEUE, RIGHT_SIZED};
use crate::quantity::Memory;
use crate::request::Request;

/// A Job of a request.
#[allow(
    clippy::struct_excessive_bools,
    reason = "four facts that do not depend on each other"
)]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobView {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resource version, as a number.
    pub version: u64,
    /// Which attempt it is.
    pub attempt: i32,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether a queue decides when it runs.
    pub queued: bool,
    /// Whether its pods are held back.
    pub suspended: bool,
    /// Whether its memory follows from an earlier attempt.
    pub right_sized: bool,
    /// Memory limit of its pods.
    pub memory: Option<Memory>,
    /// Seconds after which it is removed, once finished.
    pub ttl: Option<i32>,
    /// Pods that are pending or running.
    pub active: i32,
    /// When it first started.
    pub start_time: Option<Time>,
    /// How it ended.
    pub end: Option<JobEnd>,
}

/// How a Job ended.
#[derive(Clone, Debug, PartialEq)]
pub enum JobEnd {
    /// A pod succeeded.
    Complete {
        /// When.
        at: Option<Time>,
    },
    /// It gave up.
    Failed {
        /// When.
        at: Option<Time>,
        /// Kubernetes' word for it.
        reason: String,
        /// Kubernetes' sentence for it.
        message: String,
    },
}

impl JobView {
    /// The facts about a Job, if it belongs to the request.
    pub fn of(job: &Job, request: &Request) -> Option<Self> {
        let uid = request.uid()?;
        let ours = job.owner_references().iter().any(|owner| owner.uid == uid);
        ours.then(|| Self::read(job))
    }

    fn read(job: &Job) -> Self {
        let name = job.name_any();
        let spec = job.spec.as_ref();
        let status = job.status.as_ref();
        let annotation = |key: &str| job.annotations().get(key);
        Self {
            attempt: attempt(job),
            uid: job.uid().unwrap_or_default(),
            version: version(job),
            deleting: job.metadata.deletion_timestamp.is_some(),
            queued: job.labels().contains_key(QUEUE),
            suspended: spec.and_then(|spec| spec.suspend).unwrap_or(false),
            right_sized: annotation(RIGHT_SIZED).is_some(),
            memory: annotation(MEMORY)
                .and_then(|bytes| bytes.parse().ok())
                .map(Memory::from_bytes),
            ttl: spec.and_then(|spec| spec.ttl_seconds_after_finished),
            active: status.and_then(|status| status.active).unwrap_or(0),
            start_time: status.and_then(|status| status.start_time.clone()),
            end: end(job),
            name,
        }
    }
}

/// Which attempt a Job is: its name says so.
pub fn attempt(job: &Job) -> i32 {
    let name = job.name_any();
    let attempt = name.rsplit_once('-');
    attempt
        .and_then(|(_, attempt)| attempt.parse().ok())
        .unwrap_or(1)
}

fn end(job: &Job) -> Option<JobEnd> {
    let status = job.status.as_ref()?;
    let condition = |type_: &str| {
        let mut all = status.conditions.iter().flatten();
        all.find(|c| c.type_ == type_ && c.status == "True")
    };
    if let Some(complete) = condition("Complete") {
        let at = status.completion_time.clone();
        return Some(JobEnd::Complete {
            at: at.or_else(|| complete.last_transition_time.clone()),
        });
    }
    condition("Failed").map(|failed| JobEnd::Failed {
        at: failed.last_transition_time.clone(),
        reason: failed.reason.clone().unwrap_or_default(),
        message: failed.message.clone().unwrap_or_default(),
    })
}

/// The resource version as a number, to tell older from newer.
pub fn version(object: &impl ResourceExt) -> u64 {
    object
        .resource_version()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}
