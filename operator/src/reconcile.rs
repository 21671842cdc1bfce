//! The driver: observe, validate, decide, apply, report the status.
//!
//! It knows the order of the steps and nothing else. It can stop anywhere and run again.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use tracing::Instrument;

use crate::apply::{self, Created, Refusal};
use crate::build;
use crate::context::Scope;
use crate::crd::{Phase, RequestStatus};
use crate::decide::{self, Case, Decision, Intent, Story};
use crate::error::Error;
use crate::observe::{JobState, JobView, Observed, Observer, PodPhase};
use crate::phase_time;
use crate::request::Request;
use crate::status::{self, Facts};
use crate::validate::{self, ValidatedRequest};

/// A finished pod's report is waited for at most so long after its Job ended.
const REPORT_PATIENCE: Duration = Duration::from_secs(10);
/// That it is awaited is worth telling only after this time: as a rule it comes with the next event.
const REPORT_GRACE: Duration = Duration::from_secs(1);
/// A watch that has gone back catches up within this time, as a rule.
const CATCH_UP: Duration = Duration::from_secs(1);
/// What is left of a cancelled request is looked for again after this time, if no watch tells.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);
/// A Job whose pods did not come is looked at again after this time.
const POD_PATIENCE: Duration = Duration::from_secs(60);

/// One reconcile. A defect ends in an error of this request alone.
///
/// # Errors
/// What has to be tried again later.
pub async fn reconcile(request: Arc<Request>, scope: Arc<Scope>) -> Result<Action, Error> {
    let started = Instant::now();
    let context = &scope.context;
    context.metrics.reconciles.inc();
    // Every line that the reconcile logs names its request.
    let span = tracing::info_span!(
        "reconcile",
        namespace = request.namespace(),
        request = request.name_any(),
        uid = request.uid(),
    );
    let work = run(&request, &scope).instrument(span);
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    let duration = started.elapsed().as_secs_f64();
    context.metrics.reconcile_duration.observe(duration);
    match outcome {
        Ok(Ok(action)) => {
            context.memory.succeeded(&request.uid().unwrap_or_default());
            Ok(action)
        }
        Ok(Err(error)) => Err(error),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(Error::Panicked(text.unwrap_or("no message").to_owned()))
        }
    }
}

/// When a failed reconcile is tried again.
#[allow(
    clippy::needless_pass_by_value,
    reason = "the form that the controller calls"
)]
pub fn error_policy(request: Arc<Request>, error: &Error, scope: Arc<Scope>) -> Action {
    let context = &scope.context;
    context.metrics.reconcile_errors.inc();
    let uid = request.uid().unwrap_or_default();
    let failures = context.memory.failed(&uid, error.is_outdated());
    let pause = error.retry_after(failures);
    let (namespace, name) = (request.namespace().unwrap_or_default(), request.name_any());
    if error.is_outdated() {
        tracing::debug!(%error, namespace, name, uid, "request changed meanwhile");
    } else {
        let seconds = pause.as_secs_f64();
        tracing::warn!(%error, namespace, name, uid, failures, retry_seconds = seconds, "reconcile failed");
    }
    Action::requeue(pause)
}

async fn run(seen: &Arc<Request>, scope: &Scope) -> Result<Action, Error> {
    let context = &scope.context;
    scope.jobs_ready.wait().await;
    scope.pods.wait_until_ready().await;
    let request = context.memory.freshest(seen);
    let uid = request.uid().unwrap_or_default();
    if context.memory.is_outdated(&request) {
        return Ok(Action::requeue(CATCH_UP));
    }
    if request.metadata.deletion_timestamp.is_some() {
        // The garbage collector removes Job and pods: they have an owner.
        scope.followers.forget(&uid);
        return Ok(Action::await_change());
    }
    let report_overdue = context.memory.report_awaited_for(&uid) >= REPORT_PATIENCE;
    let observer = Observer {
        client: &context.client,
        jobs: &scope.jobs,
        pods: &scope.pods,
        written: context.memory.written_job(&uid),
        report_overdue,
        seen_attempt: context.memory.seen_attempt(&uid),
    };
    let observed = observer.observe(&request).await?;
    let verdict = validate::validate(&request, &context.settings);
    let decision = decide::decide(&Case {
        request: &request,
        verdict: &verdict,
        observed: &observed,
        max_memory: context.settings.max_memory,
        end_is_recorded: seen.is_finished(),
        report_overdue,
    });
    let pass = Pass {
        scope,
        request: &request,
        uid: &uid,
    };
    let Some(applied) = pass
        .apply(&decision, verdict.ok().as_ref(), observed)
        .await?
    else {
        return Ok(Action::await_change());
    };
    pass.follow_log(&decision.story, &applied);
    if decision.story == Story::AwaitingReport {
        let waited = context.memory.awaiting_report(&uid);
        if waited < REPORT_GRACE {
            return Ok(Action::requeue(REPORT_GRACE.saturating_sub(waited)));
        }
    }
    pass.report(&decision.story, &applied).await?;
    Ok(pass.next(&decision.story, &applied))
}

/// What is known after the write.
struct Applied {
    observed: Observed,
    refusal: Option<(Refusal, Duration)>,
}

/// One pass over one request.
struct Pass<'a> {
    scope: &'a Scope,
    request: &'a Request,
    uid: &'a str,
}

impl Pass<'_> {
    /// Makes the write. Nothing, if there is nothing more to do for this request at all.
    async fn apply(
        &self,
        decision: &Decision,
        valid: Option<&ValidatedRequest>,
        observed: Observed,
    ) -> Result<Option<Applied>, Error> {
        let client = &self.scope.context.client;
        let name = observed
            .job()
            .map(|job| job.name.clone())
            .unwrap_or_default();
        let job = match (&decision.intent, valid) {
            (Intent::CreateJob(attempt), Some(valid)) => {
                let settings = &self.scope.context.settings;
                let job = build::job(self.request, valid, *attempt, settings);
                return self.create(&job, observed).await;
            }
            (Intent::SetSuspend(suspend), _) => {
                apply::set_suspend(client, self.request, &name, *suspend).await?
            }
            (Intent::SetTtl(ttl), _) => {
                match apply::set_ttl(client, self.request, &name, *ttl).await {
                    // Somebody was faster: what was to be removed is gone.
                    Err(error) if error.is_outdated() => return Ok(None),
                    answer => answer?,
                }
            }
            (Intent::DeleteJob, _) => return self.delete(observed).await.map(Some),
            (Intent::Nothing | Intent::CreateJob(_), _) => {
                return Ok(Some(Applied {
                    observed,
                    refusal: None,
                }));
            }
        };
        Ok(Some(self.now_with(&job, observed)))
    }

    async fn delete(&self, observed: Observed) -> Result<Applied, Error> {
        let context = &self.scope.context;
        if let Some(job) = observed.job() {
            apply::delete_job(&context.client, self.request, job).await?;
            context.memory.deleted_job(self.uid);
        }
        Ok(Applied {
            observed: Observed {
                job: JobState::Gone,
                ..observed
            },
            refusal: None,
        })
    }

    async fn create(
        &self,
        job: &k8s_openapi::api::batch::v1::Job,
        observed: Observed,
    ) -> Result<Option<Applied>, Error> {
        let context = &self.scope.context;
        if let Some(refusal) = context.memory.pause(self.uid) {
            return Ok(Some(Applied {
                observed,
                refusal: Some(refusal),
            }));
        }
        match apply::create_job(&context.client, self.request, job).await? {
            Created::Job { job, new } => {
                if new {
                    context.events.job_created(self.request, &job.name_any());
                }
                Ok(Some(self.now_with(&job, observed)))
            }
            Created::Refused(refusal) => {
                let pause = context.memory.refused(self.uid, &refusal);
                Ok(Some(Applied {
                    observed,
                    refusal: Some((refusal, pause)),
                }))
            }
            Created::NamespaceGone => Ok(None),
        }
    }

    /// The Job as the API server returned it, remembered until the watch shows it.
    fn now_with(&self, job: &k8s_openapi::api::batch::v1::Job, observed: Observed) -> Applied {
        let context = &self.scope.context;
        context.memory.wrote_job(self.uid, job.clone());
        let state = JobView::of(job, self.request).map_or(observed.job, JobState::Present);
        let same = |uid: &str| matches!(&state, JobState::Present(job) if job.uid == uid);
        let pods = observed.pods.into_iter().filter(|pod| same(&pod.job_uid));
        let pods = pods.collect();
        Applied {
            observed: Observed {
                job: state,
                attempts: observed.attempts,
                pods,
            },
            refusal: None,
        }
    }

    fn follow_log(&self, story: &Story, applied: &Applied) {
        let running = applied.observed.pods.iter().find(|pod| pod.is_running());
        match story {
            Story::Underway(_) | Story::AwaitingReport => {
                self.scope.followers.follow(self.request, running);
            }
            Story::Completed => {
                let mut pods = applied.observed.pods.iter();
                let ended = pods.find(|pod| pod.phase == PodPhase::Succeeded);
                self.scope.followers.conclude(self.request, ended);
            }
            _ => self.scope.followers.forget(self.uid),
        }
    }

    /// Writes the status, if it changed.
    async fn report(&self, story: &Story, applied: &Applied) -> Result<(), Error> {
        let context = &self.scope.context;
        let progress = self.scope.followers.progress(self.uid);
        let status = status::derive(&Facts {
            request: self.request,
            story,
            job: applied.observed.job(),
            pods: &applied.observed.pods,
            refusal: applied.refusal.as_ref().map(|(refusal, _)| refusal),
            progress: progress.as_ref(),
            now: whole_second(Timestamp::now()),
        });
        if self.request.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let written = apply::write_status(&context.client, self.request, &status).await?;
        context.memory.wrote_request(written);
        context.events.status_written(self.request, &status);
        self.note_times(&status, &applied.observed);
        if status.phase.is_some_and(Phase::is_final) {
            let phase = status.phase.map(Phase::name);
            tracing::info!(phase, "request ended");
        }
        Ok(())
    }

    fn note_times(&self, status: &RequestStatus, observed: &Observed) {
        let from = self.request.phase().unwrap_or(Phase::Pending);
        let to = status.phase.unwrap_or(from);
        if from == to {
            return;
        }
        let now = Timestamp::now();
        let since = |start| phase_time::seconds(start, now);
        self.scope.context.metrics.moved(
            from,
            to,
            phase_time::created(self.request).map(since),
            phase_time::began(self.request, &observed.pods).map(since),
        );
    }

    /// When to look again, if nothing changes until then.
    fn next(&self, story: &Story, applied: &Applied) -> Action {
        if let Some((_, pause)) = &applied.refusal {
            return Action::requeue(*pause);
        }
        match story {
            Story::AwaitingReport => {
                let waited = self.scope.context.memory.awaiting_report(self.uid);
                Action::requeue(REPORT_PATIENCE.saturating_sub(waited) + Duration::from_millis(50))
            }
            // The Job is removed next, now that the status holds what it alone knew.
            Story::Cancelling if applied.observed.job().is_some_and(|job| !job.deleting) => {
                Action::requeue(Duration::ZERO)
            }
            Story::Cancelling => Action::requeue(CANCEL_PATIENCE),
            Story::Underway(_) if pods_are_missing(applied) => Action::requeue(POD_PATIENCE),
            Story::Underway(_) if waits_for_volumes(applied) => {
                Action::requeue(POD_PATIENCE + Duration::from_secs(1))
            }
            _ => Action::await_change(),
        }
    }
}

fn waits_for_volumes(applied: &Applied) -> bool {
    let mut pods = applied.observed.pods.iter();
    pods.any(|pod| status::waits_for_volumes(pod))
}

/// Times in a status have no fractions, by convention.
fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn pods_are_missing(applied: &Applied) -> bool {
    let held = applied.observed.job().is_none_or(|job| job.suspended);
    !held && applied.observed.pods.is_empty()
}
