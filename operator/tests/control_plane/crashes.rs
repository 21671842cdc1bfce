//! The program as a process against the real API server: it is killed at every call, before and
//! after the call is carried out, and every call meets every error.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use kube::ResourceExt;
use serde_json::Value;

use crate::cluster::{Cluster, cluster, condition};
use crate::fault::Fault;
use crate::kubelet;
use crate::load::size;
use crate::process::Process;
use crate::proxy::{Call, Proxy};

/// Plans at the same time.
const AT_ONCE: usize = 4;
/// A call that hangs is given up after 10 s and repeated.
const PATIENCE: Duration = Duration::from_secs(60);

/// One life of a request; what the API server was asked, and what is left at the end.
struct Life {
    /// Whether the call came that the fault was for.
    met: bool,
    calls: Vec<Call>,
    end: String,
}

async fn live(cluster: &Cluster, fault: Option<(Call, Fault)>) -> Result<Life, String> {
    let proxy = Proxy::start(cluster.operator_client(), fault).await;
    let kubelet = tokio::spawn(kubelet::end_all(cluster.api()));
    cluster
        .create("r", &[])
        .await
        .map_err(|error| error.to_string())?;
    let start = Instant::now();
    let mut since_the_end = None;
    let request = loop {
        if !proxy.is_running() {
            proxy.run(Process::with(cluster, proxy.kubeconfig(), &[], "off"));
        }
        let request = cluster.request("r").await;
        if request["status"]["phase"] == "Succeeded" {
            // Events come after the status, and a wrong second write would come here.
            let since: &Instant = since_the_end.get_or_insert_with(Instant::now);
            if since.elapsed() > Duration::from_secs(1) && proxy.is_running() {
                break request;
            }
        }
        if start.elapsed() > PATIENCE {
            return Err(format!(
                "not done after {PATIENCE:?}: {:#}",
                request["status"]
            ));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    kubelet.abort();
    let met = proxy.has_met_its_fault();
    let calls = proxy.calls();
    drop(proxy);
    Ok(Life {
        met,
        calls: calls
            .into_iter()
            .flat_map(|(kind, count)| (1..=count).map(move |number| (kind.clone(), number)))
            .collect(),
        end: end(cluster, &request).await?,
    })
}

/// What must be the same whatever happened: the status without times and names, one Job, one pod.
async fn end(cluster: &Cluster, request: &Value) -> Result<String, String> {
    let (jobs, pods) = (cluster.jobs().await, cluster.pods().await);
    if (jobs.len(), pods.len()) != (1, 1) {
        return Err(format!("{} Jobs, {} pods", jobs.len(), pods.len()));
    }
    let status = &request["status"];
    if status["jobName"] != jobs[0].name_any().as_str() {
        return Err(format!("the status names another Job: {status:#}"));
    }
    let conditions = ["Accepted", "Progressing", "Complete", "Failed", "Suspended"];
    let conditions = conditions.map(|kind| {
        let condition = condition(status, kind);
        format!("{kind} {} {}", condition["status"], condition["reason"])
    });
    let parts = ["phase", "attempts", "result", "failure"].map(|key| status[key].to_string());
    Ok(format!("{} {}", parts.join(" "), conditions.join(" ")))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_program_survives_every_fault_at_every_call() {
    let Some(first) = cluster().await else {
        return;
    };
    let clean = live(&first, None).await.unwrap();
    first.discard().await;
    let kills = [Fault::KillBefore, Fault::KillAfter];
    let faults: &[Fault] = if size(0, 1) == 1 { &Fault::ALL } else { &kills };
    let plans: Vec<(Call, Fault)> = clean
        .calls
        .iter()
        .flat_map(|call| faults.iter().map(|fault| (call.clone(), *fault)))
        .collect();
    let lives: Vec<(String, Result<Life, String>)> = stream::iter(&plans)
        .map(|plan| async {
            let cluster = cluster().await?;
            let life = live(&cluster, Some(plan.clone())).await;
            cluster.discard().await;
            let ((kind, number), fault) = plan;
            Some((format!("{kind} #{number} {fault:?}"), life))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    let met = |life: &Result<Life, String>| life.as_ref().is_ok_and(|life| life.met);
    let met = lives.iter().filter(|(_, life)| met(life)).count();
    let failures: Vec<String> = lives
        .into_iter()
        .filter_map(|(name, life)| match life {
            Ok(life) if life.end == clean.end => None,
            Ok(life) => Some(format!("{name}: ended as {}", life.end)),
            Err(error) => Some(format!("{name}: {error}")),
        })
        .collect();
    println!(
        "faults of the real program: {} calls {:?}, {} plans, {met} met their call, {} failed",
        clean.calls.len(),
        clean.calls,
        plans.len(),
        failures.len()
    );
    assert!(plans.len() >= 20, "{plans:?}");
    // Whether the scheduler is told of comes down to who is faster: one call more or less.
    assert!(met * 10 >= plans.len() * 8, "{met} of {}", plans.len());
    assert!(
        failures.is_empty(),
        "clean: {}\n{}",
        clean.end,
        failures.join("\n")
    );
}
