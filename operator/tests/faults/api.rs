//! What an API server answers: paths, verbs and patches that the operator uses, and no other.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::store::{Kind, NAMESPACE, Refusal, Store, name, uid};

/// What a request asks for, once its path and query are understood.
pub(crate) struct Call {
    pub(crate) verb: &'static str,
    pub(crate) kind: Kind,
    resource: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Call {
    pub(crate) fn of(method: &str, uri: &http::Uri, body: &[u8], depth_maps: bool) -> Self {
        let query: Vec<_> = uri.query().into_iter().flat_map(|q| q.split('&')).collect();
        let query: Vec<_> = query
            .into_iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let path = uri.path();
        let (group, rest) = path
            .split_once(&format!("/namespaces/{NAMESPACE}/"))
            .unwrap_or_else(|| panic!("outside of the namespace: {path}"));
        let parts: Vec<&str> = rest.split('/').collect();
        let stored = Kind::STORED.into_iter().find(|kind| {
            let (version, _, resource) = kind.names();
            parts[0] == resource && group.ends_with(version)
        });
        let selector = query.iter().find(|(key, _)| key == "labelSelector");
        let for_depth_maps = match (parts[0], selector) {
            ("alignmentrequests", _) => Some(false),
            ("depthmaprequests", _) => Some(true),
            // The pods of one request are read by its name.
            (_, Some((_, selector))) if selector.contains("request%3D") => None,
            (_, Some((_, selector))) if parts.len() == 1 => {
                let one = selector.contains("kind%3DDepthMapRequest");
                let other = selector.contains("kind+notin+%28DepthMapRequest%29");
                assert!(one || other, "{selector}");
                Some(one)
            }
            _ => None,
        };
        let kind = match (for_depth_maps, stored) {
            (Some(other), _) if other != depth_maps => Kind::Others,
            (_, Some(kind)) => kind,
            (Some(true), None) => Kind::Requests,
            _ => panic!("no such resource: {path}"),
        };
        let watch = query
            .iter()
            .any(|(key, value)| key == "watch" && value == "true");
        let verb = match (method, parts.len()) {
            ("GET", 1) if watch => "watch",
            ("GET", 1) => "list",
            ("GET", _) => "get",
            ("POST", 1) => "create",
            ("PUT", 2) => "update",
            ("PATCH", 2 | 3) => "patch",
            ("DELETE", 2) => "delete",
            _ => panic!("not supported: {method} {path}"),
        };
        Self {
            verb,
            kind,
            resource: parts[0].to_owned(),
            name: parts.get(1).map(ToString::to_string),
            subresource: parts.get(2).map(ToString::to_string),
            query,
            body: serde_json::from_slice(body).unwrap_or_default(),
        }
    }

    /// Verb and resource, as a role names them.
    pub(crate) fn label(&self) -> String {
        let resource = &self.resource;
        match &self.subresource {
            Some(subresource) => format!("{} {resource}/{subresource}", self.verb),
            None => format!("{} {resource}", self.verb),
        }
    }

    pub(crate) fn parameter(&self, key: &str) -> Option<u64> {
        let value = &self.query.iter().find(|(other, _)| other == key)?.1;
        value.parse().ok()
    }

    /// Does everything but watches and logs.
    pub(crate) fn answer(&self, store: &Store, stale: Option<u64>) -> (u16, Value) {
        match self.perform(store, stale) {
            Ok(value) => (200, value),
            Err((code, reason, message)) => (code, failure(code, reason, &message)),
        }
    }

    fn perform(&self, store: &Store, stale: Option<u64>) -> Result<Value, Refusal> {
        let name = self.name.as_deref().unwrap_or_default();
        let copy = |object: Arc<Value>| (*object).clone();
        match (self.verb, self.subresource.as_deref()) {
            ("list", None) => Ok(self.list(store, stale)),
            ("get", None) => store
                .get(self.kind, name)
                .map(copy)
                .ok_or_else(|| (404, "NotFound", format!("{name} not found"))),
            ("create", None) => store.create(self.kind, self.body.clone()).map(copy),
            ("update", None) => self.replace(store, name).map(copy),
            ("patch", None) => {
                let merged = store.update(self.kind, name, |object| {
                    merge(object, &self.body);
                    Ok(())
                });
                merged.map(copy)
            }
            ("delete", None) => self.remove(store, name),
            ("patch", Some("status")) => self.apply_status(store, name).map(copy),
            _ => panic!("not supported: {}", self.label()),
        }
    }

    fn list(&self, store: &Store, stale: Option<u64>) -> Value {
        let (version, items) = store.list(self.kind, stale);
        let (group, kind, _) = self.kind.names();
        let items: Vec<&Value> = items.iter().map(|item| &**item).collect();
        json!({
            "apiVersion": group, "kind": format!("{kind}List"),
            "metadata": {"resourceVersion": version.to_string()}, "items": items,
        })
    }

    fn replace(&self, store: &Store, name: &str) -> Result<Arc<Value>, Refusal> {
        store.update(self.kind, name, |object| {
            let version = |of: &Value| of["metadata"]["resourceVersion"].clone();
            if version(object) != version(&self.body) {
                return Err((409, "Conflict", "the object has been modified".to_owned()));
            }
            *object = self.body.clone();
            Ok(())
        })
    }

    /// Dependents are collected afterwards.
    fn remove(&self, store: &Store, name: &str) -> Result<Value, Refusal> {
        let asked = &self.body;
        assert_eq!(asked["propagationPolicy"], "Background", "{asked}");
        store.remove(self.kind, name, |object| {
            for field in ["uid", "resourceVersion"] {
                let wanted = &asked["preconditions"][field];
                if !wanted.is_null() && *wanted != object["metadata"][field] {
                    return Err((409, "Conflict", format!("precondition failed: {field}")));
                }
            }
            Ok(())
        })?;
        Ok(json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}}))
    }

    /// Server-side apply by the only manager of the status: what it leaves out is removed.
    fn apply_status(&self, store: &Store, name: &str) -> Result<Arc<Value>, Refusal> {
        store.update(self.kind, name, |object| {
            if uid(object) != uid(&self.body) {
                return Err((409, "Conflict", "another object has this name".to_owned()));
            }
            let wanted = &self.body["metadata"]["resourceVersion"];
            if !wanted.is_null() && *wanted != object["metadata"]["resourceVersion"] {
                return Err((409, "Conflict", "the object has been modified".to_owned()));
            }
            object["status"] = self.body["status"].clone();
            Ok(())
        })
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in changes {
        if value.is_null() {
            if let Some(object) = target.as_object_mut() {
                object.remove(key);
            }
        } else {
            merge(&mut target[key], value);
        }
    }
}

/// An answer that is no success.
pub(crate) fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
        "reason": reason, "message": message, "code": code})
}

/// Whether the container of a pod runs now.
pub(crate) fn runs(store: &Store, pod: &str) -> bool {
    is_in_phase(store, pod, "Running")
}

/// Whether a pod is there and its container has ended well.
pub(crate) fn succeeded(store: &Store, pod: &str) -> bool {
    is_in_phase(store, pod, "Succeeded")
}

fn is_in_phase(store: &Store, pod: &str, phase: &str) -> bool {
    let pod = store.get(Kind::Pods, pod);
    pod.is_some_and(|pod| !name(&pod).is_empty() && pod["status"]["phase"] == phase)
}
