//! The writes: at most one to a Job, one status, and the pictures of a result. Whatever they do is
//! decided elsewhere.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};

use crate::build::metadata::MANAGER;
use crate::conditions::{Reason, shorten};
use crate::crd::RequestStatus;
use crate::error::{Error, call};
use crate::observe::JobView;
use crate::request::Request;
use crate::status;

/// Longest sentence of an API server that is taken over.
const LONGEST_MESSAGE: usize = 1000;

/// The API server did not take the Job, and will not until somebody changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Word for programs.
    pub reason: Reason,
    /// The API server's sentence.
    pub message: String,
}

/// What became of making a Job.
#[derive(Clone, Debug, PartialEq)]
pub enum Created {
    /// It is there, made now or by an earlier try.
    Job {
        /// The Job.
        job: Box<Job>,
        /// Whether this call made it.
        new: bool,
    },
    /// It was refused.
    Refused(Refusal),
    /// The namespace is going away: nothing more is to be done.
    NamespaceGone,
}

/// Makes a Job. One that exists already under this name and belongs to the request is as good.
///
/// # Errors
/// If the API server does not answer, or with an error that can pass.
pub async fn create_job(client: &Client, request: &Request, job: &Job) -> Result<Created, Error> {
    let api = jobs(client, request);
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    match call("create job", api.create(&params, job)).await {
        Ok(made) => Ok(Created::Job {
            job: Box::new(made),
            new: true,
        }),
        Err(Error::Api { source, call }) => match *source {
            kube::Error::Api(status) if status.is_already_exists() => {
                adopt(&api, request, &job.name_any()).await
            }
            kube::Error::Api(status) if is_namespace_gone(&status) => Ok(Created::NamespaceGone),
            kube::Error::Api(status) if status.is_forbidden() || status.is_invalid() => {
                Ok(Created::Refused(refusal(&status)))
            }
            source => Err(Error::Api {
                call,
                source: Box::new(source),
            }),
        },
        Err(error) => Err(error),
    }
}

async fn adopt(api: &Api<Job>, request: &Request, name: &str) -> Result<Created, Error> {
    let job = call("get job", api.get(name)).await?;
    if JobView::of(&job, request).is_some() {
        return Ok(Created::Job {
            job: Box::new(job),
            new: false,
        });
    }
    Ok(Created::Refused(Refusal {
        reason: Reason::PodsNotCreated,
        message: format!("a Job named {name} exists and belongs to something else"),
    }))
}

fn refusal(status: &Status) -> Refusal {
    let quota = status.message.contains("exceeded quota");
    Refusal {
        reason: if quota {
            Reason::QuotaExceeded
        } else {
            Reason::PodsNotCreated
        },
        message: shorten(&status.message, LONGEST_MESSAGE),
    }
}

fn is_namespace_gone(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.is_not_found()
        || causes
            .into_iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
}

/// Holds a Job back, or lets it run.
///
/// # Errors
/// What the API server answers.
pub async fn set_suspend(
    client: &Client,
    request: &Request,
    job: &str,
    suspend: bool,
) -> Result<Job, Error> {
    patch_job(client, request, job, json!({"suspend": suspend})).await
}

/// Has a finished Job removed after so many seconds, or not at all.
///
/// # Errors
/// What the API server answers.
pub async fn set_ttl(
    client: &Client,
    request: &Request,
    job: &str,
    seconds: Option<i32>,
) -> Result<Job, Error> {
    let spec = json!({"ttlSecondsAfterFinished": seconds});
    patch_job(client, request, job, spec).await
}

/// Removes a Job, if it still is as it was seen: one that has ended meanwhile is not removed. Its
/// pods are removed after it. One that is gone already is as good.
///
/// # Errors
/// What the API server answers; a conflict, if the Job has changed.
pub async fn delete_job(client: &Client, request: &Request, job: &JobView) -> Result<(), Error> {
    let params = DeleteParams::background().preconditions(Preconditions {
        uid: Some(job.uid.clone()),
        resource_version: Some(job.version.to_string()),
    });
    let jobs = jobs(client, request);
    match call("delete job", jobs.delete(&job.name, &params)).await {
        Err(error) if error.is_missing() => Ok(()),
        answer => answer.map(drop),
    }
}

async fn patch_job(
    client: &Client,
    request: &Request,
    job: &str,
    spec: Value,
) -> Result<Job, Error> {
    let patch = Patch::Merge(json!({"spec": spec}));
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    call(
        "patch job",
        jobs(client, request).patch(job, &params, &patch),
    )
    .await
}

/// Makes the ConfigMap with the pictures of a result, unless it is there.
///
/// # Errors
/// What the API server answers.
pub async fn create_pictures(client: &Client, pictures: &ConfigMap) -> Result<(), Error> {
    let namespace = pictures.namespace().unwrap_or_default();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    match call("create pictures", api.create(&params, pictures)).await {
        Err(error) if error.is_already_there() => Ok(()),
        answer => answer.map(drop),
    }
}

fn jobs(client: &Client, request: &Request) -> Api<Job> {
    Api::namespaced(client.clone(), &request.namespace().unwrap_or_default())
}

/// Writes a status. If it breaks a bound of the resource, its essential part is written.
///
/// # Errors
/// What the API server answers.
pub async fn write_status(
    client: &Client,
    request: &Request,
    status: &RequestStatus,
) -> Result<Request, Error> {
    match patch_status(client, request, status).await {
        Err(Error::Api { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.is_invalid() || status.code == 413) =>
        {
            tracing::error!(error = %source, "status refused; writing its essential part");
            patch_status(client, request, &status::essential(status)).await
        }
        answer => answer,
    }
}

async fn patch_status(
    client: &Client,
    request: &Request,
    status: &RequestStatus,
) -> Result<Request, Error> {
    let (kind, namespace) = (request.kind(), request.namespace().unwrap_or_default());
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &namespace, &kind.resource());
    let patch = json!({
        "apiVersion": Request::api_version(&kind),
        "kind": kind.name(),
        // With the uid, a late write cannot reach a new request of the same name. With the version,
        // one that rests on an old state of the request is refused.
        "metadata": {"uid": request.uid(), "resourceVersion": request.resource_version()},
        "status": status,
    });
    let params = PatchParams::apply(MANAGER).force();
    let name = request.name_any();
    let patch = Patch::Apply(&patch);
    let written = call("patch status", api.patch_status(&name, &params, &patch)).await?;
    Request::read(written, kind).map_err(|error| Error::Api {
        call: "patch status",
        source: Box::new(kube::Error::SerdeError(error)),
    })
}
