//! The rest of the cluster: Job controller, kubelet, garbage collector, and the user.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::lifecycle::{Act, End, Lifecycle, REQUEST, When};
use crate::oracle::{has_ended, owner, phase};
use crate::store::{Kind, Store, name, time, uid};

const FAR: Duration = Duration::from_secs(86_400);

pub(crate) struct World {
    store: Arc<Store>,
    lifecycle: &'static Lifecycle,
    /// When what is waited for is due, by object and step.
    timers: HashMap<String, Instant>,
    acts_done: usize,
}

impl World {
    pub(crate) async fn run(store: Arc<Store>, lifecycle: &'static Lifecycle) {
        let mut changes = store.subscribe();
        let mut world = Self {
            store,
            lifecycle,
            timers: HashMap::new(),
            acts_done: 0,
        };
        loop {
            changes.borrow_and_update();
            let now = Instant::now();
            world.step();
            let next = world.timers.values().filter(|due| **due > now).min();
            let next = next.copied().unwrap_or(now + FAR);
            tokio::select! {
                _ = changes.changed() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Whether so much time has passed since this was first asked.
    fn due(&mut self, object: &str, step: &str, milliseconds: u64) -> bool {
        let key = format!("{object} {step}");
        let then = Instant::now() + Duration::from_millis(milliseconds);
        *self.timers.entry(key).or_insert(then) <= Instant::now()
    }

    fn step(&mut self) {
        self.user();
        let requests = self.store.all(Kind::Requests);
        for job in self.store.all(Kind::Jobs) {
            if requests.iter().any(|request| uid(request) == owner(&job)) {
                self.control_job(&job);
            } else if self.due(uid(&job), "collect", 50) {
                self.store.delete(Kind::Jobs, name(&job));
            }
        }
        let jobs = self.store.all(Kind::Jobs);
        for pod in self.store.all(Kind::Pods) {
            match jobs.iter().find(|job| uid(job) == owner(&pod)) {
                Some(job) => self.run_pod(job, &pod),
                None if self.due(uid(&pod), "collect", 50) => {
                    self.store.delete(Kind::Pods, name(&pod));
                }
                None => {}
            }
        }
    }

    fn user(&mut self) {
        let Some((when, act)) = self.lifecycle.user.get(self.acts_done) else {
            return;
        };
        let request = self.store.get(Kind::Requests, REQUEST);
        let some_pod_is = |wanted: &str| {
            let pods = self.store.all(Kind::Pods);
            pods.iter().any(|pod| pod["status"]["phase"] == wanted)
        };
        let is_time = match when {
            When::PodRuns => some_pod_is("Running"),
            When::PodSucceeded => some_pod_is("Succeeded"),
            When::Phase(wanted) => {
                request.is_some_and(|request| phase(&request["status"]) == *wanted)
            }
        };
        // The Job controller tells of a success a second later.
        let pause = match when {
            When::PodSucceeded => 500,
            When::PodRuns | When::Phase(_) => 1000,
        };
        if !is_time || !self.due("user", &self.acts_done.to_string(), pause) {
            return;
        }
        self.acts_done += 1;
        match act {
            Act::DeleteJob => {
                for job in self.store.all(Kind::Jobs) {
                    self.store.delete(Kind::Jobs, name(&job));
                }
            }
            Act::Suspend(suspend) => {
                let _ = self.store.update(Kind::Requests, REQUEST, |request| {
                    request["spec"]["suspend"] = json!(suspend);
                    Ok(())
                });
            }
            Act::Cancel => {
                let _ = self.store.update(Kind::Requests, REQUEST, |request| {
                    request["spec"]["cancel"] = json!(true);
                    Ok(())
                });
            }
            Act::DeleteRequest => self.store.delete(Kind::Requests, REQUEST),
        }
    }

    fn control_job(&mut self, job: &Value) {
        let pods = self.pods_of(job);
        let of_phase = |wanted: &str| {
            pods.iter()
                .filter(|pod| pod["status"]["phase"] == wanted)
                .count()
        };
        let failed: Vec<_> = pods
            .iter()
            .filter(|pod| pod["status"]["phase"] == "Failed")
            .collect();
        let counted = failed
            .iter()
            .filter(|pod| pod["status"]["conditions"].is_null() && !applies("Ignore", job, pod))
            .count();
        let active = pods.len() - failed.len() - of_phase("Succeeded");
        if has_ended(job) {
            let ttl = job["spec"]["ttlSecondsAfterFinished"].as_u64();
            if ttl.is_some_and(|ttl| self.due(uid(job), "ttl", ttl * 1000)) {
                self.store.delete(Kind::Jobs, name(job));
            }
        } else if job["spec"]["suspend"] == true {
            for pod in pods.iter().filter(|pod| pod["status"]["exit"].is_null()) {
                self.store.delete(Kind::Pods, name(pod));
            }
            self.set_active(job, 0);
        } else if active > 0 {
            self.set_active(job, 1);
        } else if of_phase("Succeeded") > 0 {
            self.conclude(job, "Complete", "CompletionsReached");
        } else if failed.iter().any(|pod| applies("FailJob", job, pod)) {
            self.conclude(job, "Failed", "PodFailurePolicy");
        } else if counted as u64 > job["spec"]["backoffLimit"].as_u64().unwrap_or(6) {
            self.conclude(job, "Failed", "BackoffLimitExceeded");
        } else {
            let evicted = failed
                .iter()
                .filter(|pod| !pod["status"]["conditions"].is_null());
            let pause = match failed.len() - evicted.count() {
                0 => 20,
                failures => 10_000 << (failures - 1),
            };
            if self.due(uid(job), &format!("pod {}", pods.len()), pause) {
                self.make_pod(job, pods.len());
            }
        }
    }

    fn pods_of(&self, job: &Value) -> Vec<Arc<Value>> {
        let all = self.store.all(Kind::Pods).into_iter();
        all.filter(|pod| owner(pod) == uid(job)).collect()
    }

    fn set_active(&self, job: &Value, active: i32) {
        let _ = self.store.update(Kind::Jobs, name(job), |job| {
            job["status"]["active"] = json!(active);
            if active > 0 && job["status"]["startTime"].is_null() {
                job["status"]["startTime"] = json!(time(1));
            }
            Ok(())
        });
    }

    /// The Job controller takes its time: for a second no pod is active and no end is told.
    fn conclude(&mut self, job: &Value, type_: &str, reason: &str) {
        self.set_active(job, 0);
        if !self.due(uid(job), "conclude", 1000) {
            return;
        }
        let condition = |type_: &str| {
            json!({"type": type_, "status": "True", "reason": reason,
                "message": "as the test has it", "lastTransitionTime": time(2)})
        };
        let _ = self.store.update(Kind::Jobs, name(job), |job| {
            if type_ == "Complete" {
                job["status"]["completionTime"] = json!(time(2));
                job["status"]["conditions"] =
                    json!([condition("SuccessCriteriaMet"), condition("Complete")]);
            } else {
                job["status"]["conditions"] =
                    json!([condition("FailureTarget"), condition("Failed")]);
            }
            Ok(())
        });
    }

    fn make_pod(&self, job: &Value, number: usize) {
        let pod = json!({
            "metadata": {
                "name": format!("{}-{number}", name(job)),
                "labels": job["spec"]["template"]["metadata"]["labels"],
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name(job),
                    "uid": uid(job), "controller": true}],
            },
            "status": {"phase": "Pending"},
        });
        let _ = self.store.create(Kind::Pods, pod);
    }

    fn run_pod(&mut self, job: &Value, pod: &Value) {
        let (pod_name, pod_uid) = (name(pod), uid(pod));
        let attempt = number_after_dash(name(job));
        let nth = number_after_dash(pod_name);
        match pod["status"]["phase"].as_str() {
            Some("Pending") if self.due(pod_uid, "start", 100) => {
                self.set_pod(pod_name, &json!({"phase": "Running"}));
            }
            Some("Running") => {
                let end = self.lifecycle.end(attempt - 1, nth);
                if self.due(pod_uid, "end", self.lifecycle.pod_runs) {
                    self.set_pod(pod_name, &ended(end));
                }
            }
            _ => {}
        }
    }

    fn set_pod(&self, pod: &str, status: &Value) {
        let _ = self.store.update(Kind::Pods, pod, |pod| {
            pod["status"] = status.clone();
            Ok(())
        });
    }
}

fn number_after_dash(name: &str) -> usize {
    let number = name
        .rsplit_once('-')
        .and_then(|(_, number)| number.parse().ok());
    number.unwrap_or(0)
}

fn ended(end: &End) -> Value {
    let phase = if end.code == 0 { "Succeeded" } else { "Failed" };
    let reason = if end.out_of_memory {
        "OOMKilled"
    } else {
        "Error"
    };
    let terminated = json!({"exitCode": end.code, "reason": reason, "message": end.message()});
    let mut status = json!({"phase": phase, "containerStatuses": [{"name": "aligner", "image": "i",
        "imageID": "i", "ready": false, "restartCount": 0, "state": {"terminated": terminated}}]});
    if end.evicted {
        status["conditions"] = json!([{"type": "DisruptionTarget", "status": "True"}]);
    }
    status
}

/// Whether the Job's own rules have this done after a pod that failed by itself.
fn applies(action: &str, job: &Value, pod: &Value) -> bool {
    let rules = job["spec"]["podFailurePolicy"]["rules"].as_array();
    let mut rules = rules
        .into_iter()
        .flatten()
        .filter(|rule| rule["action"] == action);
    let codes = rules.find_map(|rule| rule["onExitCodes"]["values"].as_array());
    let state = &pod["status"]["containerStatuses"][0]["state"];
    let code = &state["terminated"]["exitCode"];
    pod["status"]["conditions"].is_null() && codes.is_some_and(|codes| codes.contains(code))
}
