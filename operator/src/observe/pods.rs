//! The few facts about pods that decisions depend on, indexed by Job.
//!
//! A watch of all aligner pods feeds the index. Only these facts are kept, so that ten thousand
//! pods stay small.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, KeyToPath, Pod, PodStatus};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Event;

use super::Ready;
use crate::build::metadata::{KIND, REQUEST};
use crate::build::pod::CONTAINER;
use crate::request::{Kind, Request};

/// Phase of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodPhase {
    /// Waiting for a node, a volume or an image.
    #[default]
    Pending,
    /// The container runs.
    Running,
    /// The container ended with 0.
    Succeeded,
    /// The container ended with another code, or the node gave the pod up.
    Failed,
}

/// A word for programs and a sentence for people, as Kubernetes gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// CamelCase word.
    pub reason: String,
    /// Sentence.
    pub message: String,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terminated {
    /// Exit code.
    pub exit_code: i32,
    /// Whether the kernel ended it for want of memory.
    pub out_of_memory: bool,
    /// The termination message, unchecked.
    pub message: String,
}

/// A pod of a Job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// Uid of its Job.
    pub job_uid: String,
    /// Name of its request.
    pub request: String,
    /// Kind of its request.
    pub kind: Kind,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When its container began.
    pub started: Option<Timestamp>,
    /// Its phase.
    pub phase: PodPhase,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether the cluster ended it: drain, eviction, preemption.
    pub disrupted: bool,
    /// Why no node takes it.
    pub unscheduled: Option<Problem>,
    /// What its container waits for.
    pub waiting: Option<Problem>,
    /// Since when its volumes, or its network, have not been ready.
    pub unready_since: Option<Timestamp>,
    /// What its volumes take from objects that may not be there.
    pub needs: Vec<Needed>,
    /// How its container ended.
    pub terminated: Option<Terminated>,
}

/// A file that a volume takes from another object of the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// `Secret` or `ConfigMap`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The key of the file.
    pub key: String,
}

impl PodView {
    /// The facts about a pod, if it belongs to a Job of a request.
    pub fn of(pod: &Pod) -> Option<Self> {
        let owner = pod
            .owner_references()
            .iter()
            .find(|owner| owner.controller == Some(true) && owner.kind == "Job")?;
        let request = pod.labels().get(REQUEST)?;
        let status = pod.status.as_ref();
        let state = status.and_then(container).and_then(|c| c.state.as_ref());
        Some(Self {
            name: pod.name_any(),
            namespace: pod.namespace().unwrap_or_default(),
            uid: pod.uid().unwrap_or_default(),
            job_uid: owner.uid.clone(),
            request: request.clone(),
            kind: kind_of(pod),
            created: pod.creation_timestamp().map(|time| time.0),
            started: state.and_then(started),
            phase: phase(status),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            disrupted: condition(status, "DisruptionTarget", "True").is_some(),
            unscheduled: condition(status, "PodScheduled", "False"),
            waiting: state.and_then(waiting),
            unready_since: unready_since(status),
            needs: needs(pod),
            terminated: state.and_then(terminated),
        })
    }

    /// Whether its container runs now, so that its log can be followed.
    pub fn is_running(&self) -> bool {
        self.phase == PodPhase::Running && self.terminated.is_none() && !self.deleting
    }

    /// Whether its container has ended for good, so that it writes nothing more.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }

    /// Its request.
    pub fn trigger(&self) -> ObjectRef<Request> {
        ObjectRef::new_with(&self.request, self.kind).within(&self.namespace)
    }
}

fn kind_of(pod: &Pod) -> Kind {
    match pod.labels().get(KIND) {
        Some(name) if name == Kind::DepthMap.name() => Kind::DepthMap,
        _ => Kind::Alignment,
    }
}

fn container(status: &PodStatus) -> Option<&ContainerStatus> {
    let mut all = status.container_statuses.iter().flatten();
    all.find(|container| container.name == CONTAINER)
}

fn phase(status: Option<&PodStatus>) -> PodPhase {
    match status.and_then(|status| status.phase.as_deref()) {
        Some("Running") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        _ => PodPhase::Pending,
    }
}

fn condition(status: Option<&PodStatus>, type_: &str, value: &str) -> Option<Problem> {
    let mut all = status?.conditions.iter().flatten();
    let found = all.find(|c| c.type_ == type_ && c.status == value)?;
    Some(Problem {
        reason: found.reason.clone().unwrap_or_default(),
        message: found.message.clone().unwrap_or_default(),
    })
}

fn started(state: &ContainerState) -> Option<Timestamp> {
    let running = state
        .running
        .as_ref()
        .and_then(|running| running.started_at.as_ref());
    let ended = state
        .terminated
        .as_ref()
        .and_then(|ended| ended.started_at.as_ref());
    running.or(ended).map(|time| time.0)
}

/// The node says so from the moment it has the pod until it can start containers.
fn unready_since(status: Option<&PodStatus>) -> Option<Timestamp> {
    let mut all = status?.conditions.iter().flatten();
    let found = all.find(|c| c.type_ == "PodReadyToStartContainers" && c.status == "False")?;
    found.last_transition_time.as_ref().map(|time| time.0)
}

fn needs(pod: &Pod) -> Vec<Needed> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let needed = |kind, name: &str, items: &Option<Vec<KeyToPath>>| Needed {
        kind,
        name: name.to_owned(),
        key: items
            .iter()
            .flatten()
            .map(|item| item.key.clone())
            .collect(),
    };
    volumes
        .filter_map(|volume| match (&volume.secret, &volume.config_map) {
            (Some(secret), _) => {
                let name = secret.secret_name.as_deref().unwrap_or_default();
                Some(needed("Secret", name, &secret.items))
            }
            (_, Some(map)) => Some(needed("ConfigMap", &map.name, &map.items)),
            _ => None,
        })
        .collect()
}

fn waiting(state: &ContainerState) -> Option<Problem> {
    let waiting = state.waiting.as_ref()?;
    Some(Problem {
        reason: waiting.reason.clone().unwrap_or_default(),
        message: waiting.message.clone().unwrap_or_default(),
    })
}

fn terminated(state: &ContainerState) -> Option<Terminated> {
    let terminated = state.terminated.as_ref()?;
    Some(Terminated {
        exit_code: terminated.exit_code,
        out_of_memory: terminated.reason.as_deref() == Some("OOMKilled"),
        message: terminated.message.clone().unwrap_or_default(),
    })
}

/// Pods of one Job, by uid.
type Pods = BTreeMap<String, Arc<PodView>>;

#[derive(Default)]
struct Tables {
    by_job: HashMap<String, Pods>,
    /// Filled during a list, then put in place of the other.
    incoming: HashMap<String, Pods>,
}

/// All aligner pods, by Job.
#[derive(Default)]
pub struct PodIndex {
    tables: Mutex<Tables>,
    ready: Ready,
}

impl PodIndex {
    /// The pods of a Job.
    pub fn of_job(&self, job_uid: &str) -> Vec<Arc<PodView>> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let pods = tables.by_job.get(job_uid);
        pods.into_iter()
            .flat_map(|pods| pods.values().cloned())
            .collect()
    }

    /// Waits until the first list is complete.
    pub async fn wait_until_ready(&self) {
        self.ready.wait().await;
    }

    /// Takes in what a watch reports; gives the requests that are concerned.
    pub fn take(&self, event: Event<Pod>) -> Vec<ObjectRef<Request>> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => tables.incoming.clear(),
            Event::InitApply(pod) => {
                if let Some(view) = PodView::of(&pod) {
                    insert(&mut tables.incoming, view);
                }
            }
            Event::InitDone => {
                tables.by_job = std::mem::take(&mut tables.incoming);
                self.ready.set();
                let pods = tables.by_job.values().flat_map(BTreeMap::values);
                return pods.map(|pod| pod.trigger()).collect();
            }
            Event::Apply(pod) => {
                if let Some(view) = PodView::of(&pod) {
                    let trigger = view.trigger();
                    insert(&mut tables.by_job, view);
                    return vec![trigger];
                }
            }
            Event::Delete(pod) => {
                if let Some(view) = PodView::of(&pod) {
                    remove(&mut tables.by_job, &view);
                    return vec![view.trigger()];
                }
            }
        }
        Vec::new()
    }
}

fn insert(table: &mut HashMap<String, Pods>, view: PodView) {
    let pods = table.entry(view.job_uid.clone()).or_default();
    pods.insert(view.uid.clone(), Arc::new(view));
}

fn remove(table: &mut HashMap<String, Pods>, view: &PodView) {
    if let Some(pods) = table.get_mut(&view.job_uid) {
        pods.remove(&view.uid);
        if pods.is_empty() {
            table.remove(&view.job_uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "alice", "uid": name,
                "labels": {REQUEST: "hoc1"},
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j",
                    "uid": "job", "controller": true}],
            },
            "status": {"phase": "Failed", "containerStatuses": [{
                "name": "aligner", "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]},
        }))
        .unwrap()
    }

    fn names(index: &PodIndex) -> Vec<String> {
        index
            .of_job("job")
            .iter()
            .map(|pod| pod.name.clone())
            .collect()
    }

    #[test]
    fn the_end_of_the_container_is_read() {
        let view = PodView::of(&pod("a")).unwrap();
        assert_eq!(view.phase, PodPhase::Failed);
        let end = view.terminated.unwrap();
        assert!(end.out_of_memory);
        assert_eq!(end.exit_code, 137);
    }

    #[test]
    fn what_its_volumes_take_from_elsewhere_is_read() {
        let mut pod = pod("a");
        pod.spec = serde_json::from_value(json!({"containers": [], "volumes": [
            {"name": "scratch", "emptyDir": {}},
            {"name": "credentials", "secret": {"secretName": "s",
                "items": [{"key": "bearer-token", "path": "x"}]}},
            {"name": "authorities", "configMap": {"name": "c",
                "items": [{"key": "ca-bundle.crt", "path": "y"}]}}]}))
        .unwrap();
        let needs = PodView::of(&pod).unwrap().needs;
        let needs: Vec<_> = needs
            .iter()
            .map(|needed| (needed.kind, needed.name.as_str(), needed.key.as_str()))
            .collect();
        let secret = ("Secret", "s", "bearer-token");
        assert_eq!(needs, [secret, ("ConfigMap", "c", "ca-bundle.crt")]);
    }

    #[test]
    fn a_pod_that_only_carries_the_label_is_none_of_ours() {
        let mut stranger = pod("a");
        stranger.metadata.owner_references = None;
        assert_eq!(PodView::of(&stranger), None);
    }

    #[test]
    fn the_index_follows_the_watch_and_forgets_what_a_new_list_leaves_out() {
        let index = PodIndex::default();
        for event in [
            Event::Init,
            Event::InitApply(pod("a")),
            Event::InitApply(pod("b")),
        ] {
            assert!(index.take(event).is_empty());
        }
        assert_eq!(names(&index), Vec::<String>::new());
        assert_eq!(index.take(Event::InitDone).len(), 2);
        assert_eq!(names(&index), ["a", "b"]);
        index.take(Event::Delete(pod("a")));
        assert_eq!(index.take(Event::Apply(pod("c"))).len(), 1);
        assert_eq!(names(&index), ["b", "c"]);
        index.take(Event::Init);
        index.take(Event::InitDone);
        assert_eq!(names(&index), Vec::<String>::new());
    }
}
