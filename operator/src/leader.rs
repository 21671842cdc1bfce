//! Leader election on a Lease: of several replicas, one works.
//!
//! Whether another's Lease has expired is judged by how long it has been seen unchanged, never by
//! comparing clocks of two machines. A write with an old resource version loses.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio::time::Instant;

use crate::error::{Error, call};

/// Name of the Lease.
pub const LEASE: &str = "voluba-align-operator";
/// A Lease that was not renewed for so long is free.
const DURATION: Duration = Duration::from_secs(15);
/// Time within which a holder must succeed to renew; shorter, so that two never work at once.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// A holder renews so often.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// Others look so often whether it is free: what they add to the time of a takeover.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time for one try to renew: an answer that is lost must leave time for another.
const ONE_TRY: Duration = Duration::from_secs(3);

/// One candidate.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    me: String,
    /// The Lease as it was last seen or written, and since when it has been like that.
    seen: Option<(Lease, Instant)>,
}

impl Elector {
    /// A candidate of this name for a Lease in a namespace.
    pub fn new(client: Client, namespace: &str, name: &str, me: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            me: me.to_owned(),
            seen: None,
        }
    }

    /// Returns once the Lease is held.
    pub async fn acquire(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "Lease not acquired"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Renews the Lease; returns once it is lost, and the work must stop.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < RENEW_WITHIN {
            tokio::time::sleep(RENEW_EVERY).await;
            let rest = RENEW_WITHIN.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(rest.min(ONE_TRY), self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "Lease not renewed"),
                Err(_) => tracing::warn!("Lease not renewed in time"),
            }
        }
    }

    /// Gives the Lease up, so that the next replica need not wait.
    ///
    /// # Errors
    /// What the API server answers.
    pub async fn release(&mut self) -> Result<(), Error> {
        let Some((lease, _)) = self.seen.take() else {
            return Ok(());
        };
        match self.give_up(lease).await {
            // The last renewal was still under way when it was cut off.
            Err(error) if error.is_outdated() => {
                let now = call("get lease", self.api.get_opt(&self.name)).await?;
                match now {
                    Some(lease) => self.give_up(lease).await,
                    None => Ok(()),
                }
            }
            answer => answer,
        }
    }

    async fn give_up(&self, mut lease: Lease) -> Result<(), Error> {
        if !self.is_mine(&lease) {
            return Ok(());
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
        }
        let params = PostParams::default();
        let replaced = self.api.replace(&self.name, &params, &lease);
        call("release lease", replaced).await.map(drop)
    }

    /// One try to get or keep the Lease; tells whether it is held now.
    ///
    /// # Errors
    /// If the API server does not answer, or with anything but a conflict.
    pub async fn attempt(&mut self) -> Result<bool, Error> {
        let held = self
            .seen
            .as_ref()
            .is_some_and(|(lease, _)| self.is_mine(lease));
        // Whoever holds it need not look first. If the Lease has changed nevertheless, it may be by
        // an own write whose answer was lost.
        if held
            && let Some((lease, _)) = self.seen.clone()
            && self.replace(lease).await?
        {
            return Ok(true);
        }
        match call("get lease", self.api.get_opt(&self.name)).await? {
            None => return self.create().await,
            Some(lease) => self.look_at(lease),
        }
        let Some((lease, since)) = self.seen.clone() else {
            return Ok(false);
        };
        if !self.is_mine(&lease) && !is_free(&lease, since) {
            return Ok(false);
        }
        self.replace(lease).await
    }

    fn is_mine(&self, lease: &Lease) -> bool {
        holder(lease) == self.me
    }

    fn look_at(&mut self, lease: Lease) {
        let unchanged = self
            .seen
            .as_ref()
            .is_some_and(|(seen, _)| seen.resource_version() == lease.resource_version());
        if !unchanged {
            self.seen = Some((lease, Instant::now()));
        }
    }

    async fn create(&mut self) -> Result<bool, Error> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(self.spec(None)),
        };
        let params = PostParams::default();
        let created = self.api.create(&params, &lease);
        self.written(call("create lease", created).await)
    }

    async fn replace(&mut self, mut lease: Lease) -> Result<bool, Error> {
        lease.spec = Some(self.spec(lease.spec.as_ref()));
        let params = PostParams::default();
        let replaced = self.api.replace(&self.name, &params, &lease);
        let answer = call("renew lease", replaced).await;
        self.written(answer)
    }

    fn written(&mut self, answer: Result<Lease, Error>) -> Result<bool, Error> {
        match answer {
            Ok(lease) => {
                self.seen = Some((lease, Instant::now()));
                Ok(true)
            }
            // Somebody was faster; the next try looks again.
            Err(error) if error.is_outdated() || is_taken(&error) => {
                self.seen = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn spec(&self, old: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let kept = old.filter(|old| old.holder_identity.as_deref() == Some(&self.me));
        let transitions = old.and_then(|old| old.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: Some(DURATION.as_secs() as i32),
            acquire_time: kept
                .and_then(|old| old.acquire_time.clone())
                .or_else(|| now.clone()),
            renew_time: now,
            lease_transitions: Some(transitions + i32::from(old.is_some() && kept.is_none())),
            ..LeaseSpec::default()
        }
    }
}

fn holder(lease: &Lease) -> &str {
    let spec = lease.spec.as_ref();
    spec.and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or("")
}

fn is_free(lease: &Lease, since: Instant) -> bool {
    let spec = lease.spec.as_ref();
    let seconds = spec
        .and_then(|spec| spec.lease_duration_seconds)
        .unwrap_or(0);
    let duration = Duration::from_secs(seconds.clamp(0, 3600) as u64);
    holder(lease).is_empty() || since.elapsed() > duration
}

fn is_taken(error: &Error) -> bool {
    matches!(error, Error::Api { source, .. }
        if matches!(&**source, kube::Error::Api(status) if status.is_already_exists()))
}
