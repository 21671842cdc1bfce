//! What a life costs the API server, and which rights it needs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::campaign::clean;
use crate::fault::Fault;
use crate::leaders;
use crate::lifecycle::ALL;
use crate::net::Net;
use crate::oracle::Oracle;
use crate::plan::{Plan, WatchFault};
use crate::run::{run, virtually, worker};
use crate::store::{Kind, Store};

fn is_write(call: &str) -> bool {
    ["create", "patch", "update"]
        .iter()
        .any(|verb| call.starts_with(verb))
}

#[test]
fn a_life_costs_six_writes_and_no_read() {
    let calls = clean(&ALL[0]).calls;
    let count = |wanted: &dyn Fn(&&String) -> bool| calls.iter().filter(wanted).count();
    // The aligner tells its progress once in this life: that is one status more.
    let writes = count(&|call| is_write(call)) - 1;
    let lists = count(&|call| call.starts_with("list"));
    let reads = count(&|call| call.starts_with("get") && !call.ends_with("/log"));
    println!(
        "figure writes-per-request {writes} calls bar 6 {}",
        if writes <= 6 { "ok" } else { "short" }
    );
    println!(
        "figure reads-per-request {reads} calls bar 0 {}",
        if reads == 0 { "ok" } else { "short" }
    );
    assert!(writes <= 6, "{calls:?}");
    // Three caches are filled once.
    assert_eq!((reads, lists), (0, 3), "{calls:?}");
}

#[test]
fn a_thousand_requests_that_wait_cost_nothing() {
    virtually(async {
        let store = Arc::new(Store::new(Oracle::default()));
        for number in 0..1000 {
            let mut request = ALL[0].request();
            request["metadata"]["name"] = json!(format!("r{number}"));
            store.create(Kind::Requests, request).unwrap();
        }
        let net = Arc::new(Net::new(store.clone(), Plan::default()));
        tokio::spawn(worker(&net).work(CancellationToken::new()));
        sleep(Duration::from_secs(60)).await;
        assert_eq!(store.all(Kind::Jobs).len(), 1000);
        let before = net.lock().calls.len();
        sleep(Duration::from_secs(60)).await;
        let calls = net.lock().calls[before..].to_vec();
        let writes = calls.iter().filter(|call| is_write(call)).count();
        println!(
            "figure writes-of-1000-idle-requests {writes} calls bar 0 {}",
            if writes == 0 { "ok" } else { "short" }
        );
        // Watches are renewed, and that is all.
        assert!(
            calls.iter().all(|call| call.starts_with("watch")),
            "{calls:?}"
        );
    });
}

/// Verbs and resources that the chart grants.
fn granted() -> BTreeSet<String> {
    let chart = include_str!("../../../charts/voluba-align/templates/_helpers.tpl");
    let mut granted = BTreeSet::new();
    for name in ["rules", "leaseRule"] {
        let start = format!("{{{{- define \"voluba-align.{name}\" -}}}}");
        let (_, rest) = chart.split_once(&start).unwrap();
        let (yaml, _) = rest.split_once("{{- end }}").unwrap();
        let rules: Vec<Value> = serde_yaml_ng::from_str(yaml).unwrap();
        for rule in rules {
            for resource in rule["resources"].as_array().unwrap() {
                for verb in rule["verbs"].as_array().unwrap() {
                    let (verb, resource) = (verb.as_str().unwrap(), resource.as_str().unwrap());
                    granted.insert(format!("{verb} {resource}"));
                }
            }
        }
    }
    granted
}

#[test]
fn the_role_grants_what_is_used_and_no_more() {
    let mut used = BTreeSet::new();
    for lifecycle in &ALL {
        used.extend(clean(lifecycle).calls);
    }
    // What only happens when something goes wrong: a Job that is there already, a lost report.
    let killed = run(&ALL[0], Plan::calls(&[(6, Fault::TimeoutCommitted)]));
    used.extend(killed.calls);
    for event in 0..12 {
        used.extend(run(&ALL[0], Plan::event(event, WatchFault::Drop)).calls);
    }
    used.extend(leaders::handover(false, 1000).calls);
    assert_eq!(used, granted());
    println!("rights: {} used, 0 denied, 0 unused", used.len());
}
