//! Pictures of a result: told by the pod at its end, kept as a ConfigMap, and worth no failure.

use alignment_api::PICTURES_SCHEMA;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::campaign::clean;
use crate::fault::Fault;
use crate::lifecycle::{ALL, Lifecycle, REQUEST};
use crate::plan::Plan;
use crate::run::{Outcome, run};

/// What a PNG file of 3 × 2 pixels begins with.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x03\0\0\0\x02\x08\x02\0\0\0";

/// The last lines of a log.
pub(crate) fn log() -> Bytes {
    let curve = json!([{"level": 0, "iteration": 1, "metric": 0.5}]);
    let picture = json!({"name": "after-0.png", "base64": STANDARD.encode(PNG)});
    let line = |number: i32| json!({"schema": PICTURES_SCHEMA, "line": number, "lines": 2});
    let (mut first, mut last) = (line(0), line(1));
    first["curve"] = curve;
    last["picture"] = picture;
    Bytes::from(format!("{first}\n{last}\n"))
}

fn life() -> &'static Lifecycle {
    ALL.iter().find(|life| life.pictures).unwrap()
}

#[track_caller]
fn assert_kept(outcome: &Outcome, after: &str) {
    let kept: Vec<&Value> = outcome.pictures.iter().map(|map| &**map).collect();
    let [map] = kept.as_slice() else {
        panic!("{after}: {kept:?}, {:?}", outcome.calls);
    };
    assert_eq!(
        map["metadata"]["name"],
        format!("voluba-pictures-{REQUEST}")
    );
    assert_eq!(map["binaryData"]["after-0.png"], STANDARD.encode(PNG));
    assert_eq!(
        map["data"]["curve.json"],
        r#"[{"level":0,"iteration":1,"metric":0.5}]"#
    );
}

#[test]
fn pictures_are_kept_and_cost_one_write() {
    let outcome = clean(life());
    assert_kept(&outcome, "no fault");
    let count = |label: &str| outcome.calls.iter().filter(|call| *call == label).count();
    assert_eq!(count("create configmaps"), 1);
    // What the follower read to its end is not read again.
    assert_eq!(count("get pods/log"), 1, "{:?}", outcome.calls);
    for other in ALL.iter().filter(|other| !other.pictures) {
        assert!(clean(other).pictures.is_empty(), "{}", other.name);
    }
}

#[test]
fn pictures_outlive_the_death_of_an_operator() {
    let calls = clean(life()).calls;
    for (number, call) in calls.iter().enumerate() {
        for fault in [Fault::KillBefore, Fault::KillAfter] {
            let outcome = run(life(), Plan::calls(&[(number, fault)]));
            // Once the end stands in the status, nobody looks at the pod any more.
            if number
                < calls
                    .iter()
                    .rposition(|call| call.starts_with("patch"))
                    .unwrap()
            {
                assert_kept(&outcome, &format!("{fault:?} at {number}, {call}"));
            }
        }
    }
}
