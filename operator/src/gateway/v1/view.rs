//! A request as callers see it. Pure.

use alignment_api::{CurvePoint, RequestSpec};
use kube::ResourceExt;
use serde_json::{Map, Value, json};

use super::help::help;
use crate::conditions::ConditionType;
use crate::gateway::proxy::Prefix;
use crate::gateway::requests::SHOWN_NAME;
use crate::request::Request;

/// What a view holds beyond the request.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// How the registration has gone.
    pub curve: Vec<CurvePoint>,
    /// Names of the pictures that there are.
    pub pictures: Option<Vec<String>>,
}

/// What a list shows of a request.
pub fn summary(request: &Request, prefix: &Prefix) -> Value {
    Value::Object(fields(request, prefix))
}

/// All that there is to see.
pub fn whole(request: &Request, extras: &Extras, prefix: &Prefix) -> Value {
    let mut view = fields(request, prefix);
    let result = request.status.as_ref().map(|status| &status.result);
    view.insert("result".to_owned(), json!(result));
    view.insert("curve".to_owned(), json!(extras.curve));
    view.insert("pictures".to_owned(), json!(extras.pictures));
    view.insert("spec".to_owned(), spec(request));
    Value::Object(view)
}

fn fields(request: &Request, prefix: &Prefix) -> Map<String, Value> {
    let id = request.name_any();
    let status = request.status.clone().unwrap_or_default();
    let progressing = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == ConditionType::Progressing.name());
    let failure = status.failure.as_ref().map(|failure| {
        json!({
            "reason": failure.reason,
            "message": failure.message,
            "retryable": failure.retryable,
            "help": help(&failure.reason),
        })
    });
    let base = format!("{prefix}/v1/requests/{id}");
    let view = json!({
        "id": id,
        "kind": request.kind().name(),
        "name": request.annotations().get(SHOWN_NAME),
        "createdAt": request.creation_timestamp(),
        "phase": request.phase().map_or("Pending", |phase| phase.name()),
        "reason": progressing.map(|condition| &condition.reason),
        "message": progressing.map(|condition| &condition.message),
        "progress": status.progress,
        "startedAt": status.start_time,
        "completedAt": status.completion_time,
        "attempts": status.attempts.unwrap_or(0),
        "failure": failure,
        "links": {
            "self": base,
            "events": format!("{base}/events"),
            "page": format!("{prefix}/ui/requests/{id}"),
        },
    });
    match view {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// As given: without the name of the Secret, which its author has not chosen.
fn spec(request: &Request) -> Value {
    let mut spec = request.spec.clone();
    match &mut spec {
        RequestSpec::Alignment(spec) => spec.credentials = None,
        RequestSpec::DepthMap(spec) => spec.credentials = None,
    }
    json!(spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::tests::with;

    #[test]
    fn a_view_tells_where_a_request_stands_and_no_secret() {
        let request = with(&[
            (
                "/metadata/annotations",
                json!({SHOWN_NAME: "left", "other": "hidden"}),
            ),
            (
                "/spec/credentials",
                json!({"secretName": "voluba-gateway-x"}),
            ),
            (
                "/status",
                json!({"phase": "Running", "attempts": 1,
                "progress": {"stage": "register", "percent": 42, "metric": 0.1}}),
            ),
        ]);
        let extras = Extras {
            curve: vec![CurvePoint {
                level: 0,
                iteration: 1,
                metric: 0.5,
            }],
            pictures: None,
        };
        let view = whole(&request, &extras, &Prefix::default());
        assert_eq!(view["phase"], "Running");
        assert_eq!(view["name"], "left");
        assert_eq!(view["progress"]["percent"], 42);
        assert_eq!(view["curve"][0]["metric"], 0.5);
        assert_eq!(view["failure"], Value::Null);
        let text = view.to_string();
        assert!(
            !text.contains("voluba-gateway-") && !text.contains("hidden"),
            "{text}"
        );
        // A list shows less.
        let listed = summary(&request, &Prefix::default());
        assert_eq!(listed["id"], view["id"]);
        assert!(listed.get("spec").is_none() && listed.get("curve").is_none());
    }

    #[test]
    fn a_failure_says_what_helps() {
        let failure =
            json!({"reason": "ImageNotFound", "message": "no such image", "retryable": false});
        let request = with(&[("/status", json!({"phase": "Failed", "failure": failure}))]);
        let view = summary(&request, &Prefix::default());
        assert_eq!(view["failure"]["reason"], "ImageNotFound");
        assert!(view["failure"]["help"].as_str().unwrap().len() > 20);
    }

    #[test]
    fn one_that_nobody_has_looked_at_is_pending() {
        let view = summary(&with(&[]), &Prefix::default());
        assert_eq!(view["phase"], "Pending");
        assert_eq!(view["attempts"], 0);
    }
}
