//! What an API server keeps: the objects of one namespace, and the log of every change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::net::trace;
use crate::oracle::Oracle;

pub(crate) const NAMESPACE: &str = "alice";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Of the kind that the life is about.
    Requests,
    Jobs,
    Pods,
    Events,
    Leases,
    ConfigMaps,
    /// What belongs to requests of the other kind: there are none.
    Others,
}

impl Kind {
    pub(crate) const STORED: [Self; 6] = [
        Self::Requests,
        Self::Jobs,
        Self::Pods,
        Self::Events,
        Self::Leases,
        Self::ConfigMaps,
    ];

    /// Group and version, kind and resource on the wire.
    pub(crate) fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Requests => (
                "voluba.ebrains.eu/v1alpha1",
                "AlignmentRequest",
                "alignmentrequests",
            ),
            Self::Jobs => ("batch/v1", "Job", "jobs"),
            Self::Pods => ("v1", "Pod", "pods"),
            Self::Events => ("events.k8s.io/v1", "Event", "events"),
            Self::Leases => ("coordination.k8s.io/v1", "Lease", "leases"),
            Self::ConfigMaps => ("v1", "ConfigMap", "configmaps"),
            Self::Others => ("v1", "Other", "others"),
        }
    }
}

/// One change, as a watch tells it.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) version: u64,
    pub(crate) kind: Kind,
    pub(crate) change: &'static str,
    pub(crate) object: Arc<Value>,
}

/// An answer that is no success: HTTP status, reason, message.
pub(crate) type Refusal = (u16, &'static str, String);

type Objects = BTreeMap<(Kind, String), Arc<Value>>;

pub(crate) struct State {
    pub(crate) version: u64,
    uids: u64,
    objects: Objects,
    pub(crate) log: Vec<Entry>,
    pub(crate) oracle: Oracle,
    pub(crate) changed_at: Instant,
}

pub(crate) struct Store {
    /// Whether the requests are for depth maps.
    pub(crate) depth_maps: bool,
    /// Whether pods tell pictures at their end.
    pub(crate) pictures: bool,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Store {
    pub(crate) fn new(oracle: Oracle) -> Self {
        Self {
            depth_maps: false,
            pictures: false,
            state: Mutex::new(State {
                version: 100,
                uids: 0,
                objects: BTreeMap::new(),
                log: Vec::new(),
                oracle,
                changed_at: Instant::now(),
            }),
            changed: watch::Sender::new(100),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever waits at every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn get(&self, kind: Kind, name: &str) -> Option<Arc<Value>> {
        let state = self.lock();
        state.objects.get(&(kind, name.to_owned())).cloned()
    }

    pub(crate) fn all(&self, kind: Kind) -> Vec<Arc<Value>> {
        of_kind(&self.lock().objects, kind)
    }

    /// A list as it was at a version, or as it is now; with its version.
    pub(crate) fn list(&self, kind: Kind, at: Option<u64>) -> (u64, Vec<Arc<Value>>) {
        let state = self.lock();
        let Some(at) = at else {
            return (state.version, of_kind(&state.objects, kind));
        };
        let mut then = Objects::new();
        let past = state.log.iter().filter(|entry| entry.kind == kind);
        for entry in past.take_while(|entry| entry.version <= at) {
            let key = (kind, name(&entry.object).to_owned());
            if entry.change == "DELETED" {
                then.remove(&key);
            } else {
                then.insert(key, entry.object.clone());
            }
        }
        (at, of_kind(&then, kind))
    }

    /// The first change of a kind after a version.
    pub(crate) fn after(&self, kind: Kind, version: u64) -> Option<Entry> {
        let state = self.lock();
        let from = state.log.partition_point(|entry| entry.version <= version);
        let mut rest = state.log[from..].iter();
        rest.find(|entry| entry.kind == kind).cloned()
    }

    pub(crate) fn create(&self, kind: Kind, mut object: Value) -> Result<Arc<Value>, Refusal> {
        let mut state = self.lock();
        let key = (kind, name(&object).to_owned());
        if state.objects.contains_key(&key) {
            let text = format!("{} already exists", key.1);
            return Err((409, "AlreadyExists", text));
        }
        state.uids += 1;
        let (version, kind_name, _) = kind.names();
        object["apiVersion"] = json!(version);
        object["kind"] = json!(kind_name);
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(format!("{:08x}-0000-4000-8000-000000000000", state.uids));
        metadata["namespace"] = json!(NAMESPACE);
        metadata["generation"] = json!(1);
        metadata["creationTimestamp"] = json!(time(state.uids));
        Ok(self.commit(&mut state, kind, "ADDED", object))
    }

    pub(crate) fn update(
        &self,
        kind: Kind,
        name: &str,
        change: impl FnOnce(&mut Value) -> Result<(), Refusal>,
    ) -> Result<Arc<Value>, Refusal> {
        let mut state = self.lock();
        let key = (kind, name.to_owned());
        let Some(old) = state.objects.get(&key).cloned() else {
            return Err((404, "NotFound", format!("{name} not found")));
        };
        let mut object = (*old).clone();
        change(&mut object)?;
        if object == *old {
            return Ok(old);
        }
        if object["spec"] != old["spec"] {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            object["metadata"]["generation"] = json!(generation + 1);
        }
        Ok(self.commit(&mut state, kind, "MODIFIED", object))
    }

    pub(crate) fn delete(&self, kind: Kind, name: &str) {
        let _ = self.remove(kind, name, |_| Ok(()));
    }

    /// Deletes an object that passes a check.
    pub(crate) fn remove(
        &self,
        kind: Kind,
        name: &str,
        check: impl FnOnce(&Value) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut state = self.lock();
        let Some(old) = state.objects.get(&(kind, name.to_owned())).cloned() else {
            return Err((404, "NotFound", format!("{name} not found")));
        };
        check(&old)?;
        self.commit(&mut state, kind, "DELETED", (*old).clone());
        Ok(())
    }

    fn commit(
        &self,
        state: &mut State,
        kind: Kind,
        change: &'static str,
        mut object: Value,
    ) -> Arc<Value> {
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let object = Arc::new(object);
        let key = (kind, name(&object).to_owned());
        let version = state.version;
        let entry = Entry {
            version,
            kind,
            change,
            object: object.clone(),
        };
        trace(|| {
            format!(
                "  {version} {change} {} {}",
                key.1, object["status"]["phase"]
            )
        });
        let others = of_kind(&state.objects, kind);
        let requests = of_kind(&state.objects, Kind::Requests);
        let work = [Kind::Jobs, Kind::Pods].map(|kind| of_kind(&state.objects, kind));
        state
            .oracle
            .look(&entry, &others, &requests, &work.concat());
        if change == "DELETED" {
            state.objects.remove(&key);
        } else {
            state.objects.insert(key, object.clone());
        }
        if kind <= Kind::Pods {
            state.changed_at = Instant::now();
        }
        state.log.push(entry);
        self.changed.send_replace(state.version);
        object
    }
}

fn of_kind(objects: &Objects, kind: Kind) -> Vec<Arc<Value>> {
    let all = objects.range((kind, String::new())..);
    let own = all.take_while(|((other, _), _)| *other == kind);
    own.map(|(_, object)| object.clone()).collect()
}

pub(crate) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

pub(crate) fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// A time of no importance that grows with the number.
pub(crate) fn time(number: u64) -> String {
    format!(
        "2026-01-01T{:02}:{:02}:{:02}Z",
        number / 3600 % 24,
        number / 60 % 60,
        number % 60
    )
}
