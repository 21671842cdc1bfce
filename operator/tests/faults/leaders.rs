//! Several operators at once: one that follows another, and two that both believe that they lead.

use std::sync::Arc;
use std::time::Duration;

use operator::leader::Elector;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::fault::Fault;
use crate::lifecycle::ALL;
use crate::net::Net;
use crate::number;
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::run::{race, virtually, worker};
use crate::store::{Kind, Store};

/// What came of a change of leaders.
pub(crate) struct Handover {
    /// From the end of the first to the first Job of the second.
    pub(crate) took: Duration,
    pub(crate) calls: Vec<String>,
}

/// Two replicas; the first is asked to stop, or dies, after so many milliseconds of its work.
pub(crate) fn handover(dies: bool, after: u64) -> Handover {
    virtually(async move {
        let store = Arc::new(Store::new(Oracle::default()));
        let nets = [(); 2].map(|()| Arc::new(Net::new(store.clone(), Plan::default())));
        let stops = [(); 2].map(|()| CancellationToken::new());
        for (index, net) in nets.iter().enumerate() {
            let elector = Elector::new(net.client(), "alice", "lease", ["a", "b"][index]);
            let stop = stops[index].clone();
            tokio::spawn(worker(net).work_as_leader(elector, stop));
            sleep(Duration::from_secs(5)).await;
        }
        let lease = store.get(Kind::Leases, "lease").unwrap();
        assert_eq!(lease["spec"]["holderIdentity"], "a");
        let request = ALL[0].request();
        store.create(Kind::Requests, request.clone()).unwrap();
        sleep(Duration::from_millis(after)).await;
        assert_eq!(store.all(Kind::Jobs).len(), 1);
        let start = Instant::now();
        if dies {
            nets[0].kill();
        } else {
            stops[0].cancel();
        }
        let mut second = request;
        second["metadata"]["name"] = json!("second");
        store.create(Kind::Requests, second).unwrap();
        let mut changes = store.subscribe();
        while store.all(Kind::Jobs).len() < 2 {
            changes.changed().await.unwrap();
        }
        let took = start.elapsed();
        assert_eq!(store.lock().oracle.violations, [] as [String; 0]);
        let calls = nets.iter().flat_map(|net| net.lock().calls.clone());
        Handover {
            took,
            calls: calls.collect(),
        }
    })
}

/// One replica, for a minute; whether it still leads at its end, and its calls.
fn leads_on(plan: Plan) -> (bool, Vec<String>) {
    virtually(async move {
        let store = Arc::new(Store::new(Oracle::default()));
        let net = Arc::new(Net::new(store, plan));
        let elector = Elector::new(net.client(), "alice", "lease", "a");
        let work = worker(&net).work_as_leader(elector, CancellationToken::new());
        let work = tokio::spawn(work);
        sleep(Duration::from_secs(60)).await;
        let calls = net.lock().calls.clone();
        (!work.is_finished(), calls)
    })
}

#[test]
fn a_renewal_that_fails_once_does_not_cost_the_lease() {
    let (_, calls) = leads_on(Plan::default());
    let renewals = calls
        .iter()
        .enumerate()
        .filter(|(_, call)| *call == "update leases");
    let (fifth, _) = renewals.take(5).last().unwrap();
    let deadly = [Fault::KillBefore, Fault::KillAfter];
    for fault in Fault::ALL.iter().filter(|fault| !deadly.contains(fault)) {
        let (leads, calls) = leads_on(Plan::calls(&[(fifth, *fault)]));
        assert!(leads, "{fault:?}: {calls:?}");
    }
}

/// The longest of several, at different moments between two looks at the Lease.
fn slowest(dies: bool) -> Duration {
    let moments = (1000..3000).step_by(130);
    let all = moments.map(|after| handover(dies, after).took);
    all.max().unwrap()
}

fn figure(name: &str, took: Duration, bar: u64) {
    let seconds = took.as_secs_f64();
    let verdict = if seconds <= bar as f64 { "ok" } else { "short" };
    println!("figure {name} {seconds:.2} virtual-s bar {bar} {verdict}");
}

#[test]
fn another_replica_follows_one_that_stops_at_once_and_one_that_dies_after_its_lease() {
    let stopped = slowest(false);
    figure("takeover-after-SIGTERM", stopped, 2);
    assert!(stopped <= Duration::from_millis(2100), "{stopped:?}");
    let died = slowest(true);
    figure("takeover-after-SIGKILL", died, 17);
    assert!(
        died > Duration::from_secs(11),
        "while the first might still work"
    );
    assert!(died <= Duration::from_millis(17_100), "{died:?}");
}

#[test]
fn two_operators_that_both_lead_make_every_job_once() {
    let count = number("VOLUBA_FAULT_RACES", 200);
    // Where a user deletes Jobs as well, an operator that is behind can find the name of one free.
    let lives: Vec<_> = ALL
        .iter()
        .filter(|life| life.name != "Job deleted")
        .collect();
    for seed in 0..count as u64 {
        let lifecycle = lives[seed as usize % lives.len()];
        let plans = [seed, seed + 1_000_000].map(Plan::late).to_vec();
        let mut violations = race(lifecycle, plans).violations;
        if lifecycle.phase == Some("Cancelled") {
            // One that is behind misses the Job that the other has removed, and makes the next; that
            // nothing of it is left is asked for all the same.
            violations.retain(|violation| violation != "2 Jobs were made, not 1");
        }
        assert_eq!(
            violations,
            [] as [String; 0],
            "{}, seed {seed}",
            lifecycle.name
        );
    }
    println!("faults: two leaders: {count} races, 0 violations");
}
