//! What must hold at every moment and at the end, whatever fails.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::store::{Entry, Kind, name, uid};

/// Looks at every change as it is made.
#[derive(Default)]
pub(crate) struct Oracle {
    statuses: HashMap<String, Value>,
    /// Names of Jobs, and whether the operator knows of them: it was told, or the status counts
    /// them.
    made: HashMap<String, bool>,
    /// Names of Jobs that were asked for last, and whether the operator knew of them then.
    asked: HashMap<String, bool>,
    /// A Job got a name for the second time, and nobody could know of the first.
    pub(crate) renamed: bool,
    pub(crate) jobs: u32,
    pub(crate) violations: Vec<String>,
}

impl Oracle {
    /// The work is all Jobs and pods.
    pub(crate) fn look(
        &mut self,
        entry: &Entry,
        others: &[Arc<Value>],
        requests: &[Arc<Value>],
        work: &[Arc<Value>],
    ) {
        match (entry.kind, entry.change) {
            (Kind::Requests, "MODIFIED") => self.look_at_status(&entry.object, work),
            // What is made for a request that is gone is collected, and no attempt.
            (Kind::Jobs, "ADDED") if !requests.iter().any(|r| uid(r) == owner(&entry.object)) => {}
            (Kind::Jobs, "ADDED") => self.look_at_new_job(&entry.object, others),
            _ => {}
        }
    }

    /// The operator dies. Jobs that no status counts are known to nobody, once they are deleted.
    pub(crate) fn death(&mut self) {
        let statuses: Vec<_> = self.statuses.values().collect();
        for (job, known) in &mut self.made {
            *known = statuses.iter().any(|status| counts(status, job));
        }
    }

    /// The operator asks for a Job: what it is told while the call is on its way comes too late.
    pub(crate) fn asked_for(&mut self, job: &str) {
        let known = self.made.get(job).copied().unwrap_or(false);
        self.asked.insert(job.to_owned(), known);
    }

    /// The operator is told of a Job.
    pub(crate) fn told(&mut self, job: &str) {
        if let Some(known) = self.made.get_mut(job) {
            *known = true;
        }
    }

    fn violated(&mut self, text: String) {
        self.violations.push(text);
    }

    fn look_at_status(&mut self, request: &Value, work: &[Arc<Value>]) {
        let request_name = name(request).to_owned();
        for (job, known) in &mut self.made {
            *known |= counts(&request["status"], job);
        }
        let new = &request["status"];
        let old = self
            .statuses
            .insert(request_name, new.clone())
            .unwrap_or_default();
        let (before, after) = (phase(&old), phase(new));
        if ["Succeeded", "Failed", "Cancelled"].contains(&before) && old != *new {
            self.violated(format!("a final status changed: {old} became {new}"));
        }
        if after == "Cancelled" {
            for left in work.iter().filter(|object| may_compute(object)) {
                self.violated(format!("told as Cancelled while {} is left", name(left)));
            }
        }
        if (before, after) == ("Running", "Pending") {
            self.violated("the phase went back from Running to Pending".to_owned());
        }
        if old["attempts"].as_i64() > new["attempts"].as_i64() {
            self.violated(format!("attempts went back: {old} became {new}"));
        }
    }

    fn look_at_new_job(&mut self, job: &Value, others: &[Arc<Value>]) {
        self.jobs += 1;
        let job_name = name(job).to_owned();
        let knew = self.asked.get(&job_name).copied().unwrap_or(false);
        match self.made.insert(job_name.clone(), false).map(|_| knew) {
            Some(true) => self.violated(format!("Job {job_name} was made twice")),
            Some(false) => self.renamed = true,
            None => {}
        }
        let owner = owner(job);
        let rival = others
            .iter()
            .find(|other| self::owner(other) == owner && !has_ended(other));
        if let Some(rival) = rival {
            let text = format!("Job {job_name} was made while {} runs", name(rival));
            self.violated(text);
        }
    }
}

fn counts(status: &Value, job: &str) -> bool {
    let attempt = job
        .rsplit_once('-')
        .and_then(|(_, attempt)| attempt.parse().ok());
    status["attempts"].as_i64() >= attempt
}

pub(crate) fn phase(status: &Value) -> &str {
    status["phase"].as_str().unwrap_or_default()
}

pub(crate) fn owner(object: &Value) -> &str {
    object["metadata"]["ownerReferences"][0]["uid"]
        .as_str()
        .unwrap_or_default()
}

pub(crate) fn has_ended(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|c| c["status"] == "True" && (c["type"] == "Complete" || c["type"] == "Failed"))
}

/// Whether a Job can still make pods, or a pod write a result.
fn may_compute(object: &Value) -> bool {
    if object["kind"] == "Job" {
        return !has_ended(object);
    }
    !["Succeeded", "Failed"].contains(&phase(&object["status"]))
}

/// The part of a final status that must not depend on what failed on the way: all but times, and
/// how far a run without a result was seen to come.
pub(crate) fn essence(status: &Value) -> Value {
    let mut status = status.clone();
    for key in ["startTime", "completionTime"] {
        if !status[key].is_null() {
            status[key] = json!("some time");
        }
    }
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        condition["lastTransitionTime"] = json!("some time");
    }
    if ["Failed", "Cancelled"].contains(&phase(&status)) {
        status["progress"] = Value::Null;
    }
    status
}

/// What differs between two values, by path.
pub(crate) fn differences(path: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                differences(&format!("{path}/{key}"), &one[key], &other[key], found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}/{index}"), a, b, found);
            }
        }
        _ if one != other => found.push(format!("{path}: {one} became {other}")),
        _ => {}
    }
}
