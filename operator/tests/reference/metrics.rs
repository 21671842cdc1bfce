//! Metrics, from the text that Prometheus reads.

use std::collections::BTreeSet;

use kube::client::Body;
use operator::crd::Phase;
use operator::metrics::Metrics;

use crate::table;

const INTRODUCTION: &str = "# Metrics

What `/metrics` exports, in OpenMetrics format: on port 8080 of the operator, on 8081 of the gateway. What to watch and
when to be alarmed: [operate.md](../operate.md).

";

pub(crate) fn page() -> String {
    let metrics = Metrics::default();
    // Metrics with labels are exported once they have a value.
    metrics.moved(Phase::Pending, Phase::Running, Some(1.0), Some(1.0));
    metrics.count(
        &http::Request::get("/apis/batch/v1/jobs")
            .body(Body::empty())
            .unwrap(),
    );
    metrics.answered(&http::Method::GET, "/health", http::StatusCode::OK);
    let text = metrics.encode();
    let rows = text.lines().filter_map(|line| {
        let (name, help) = line.strip_prefix("# HELP ")?.split_once(' ')?;
        let kind = comment(&text, "TYPE", name).unwrap_or("unknown");
        let suffix = if kind == "counter" { "_total" } else { "" };
        let labels: Vec<String> = labels(&text, name)
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        Some(vec![
            format!("`{name}{suffix}`"),
            kind.to_owned(),
            comment(&text, "UNIT", name).unwrap_or_default().to_owned(),
            labels.join(", "),
            help.to_owned(),
        ])
    });
    INTRODUCTION.to_owned() + &table(&["Metric", "Kind", "Unit", "Labels", "Meaning"], rows)
}

fn comment<'a>(text: &'a str, which: &str, name: &str) -> Option<&'a str> {
    let start = format!("# {which} {name} ");
    text.lines().find_map(|line| line.strip_prefix(&start))
}

/// Names of the labels of a metric; `le` belongs to the format.
fn labels(text: &str, name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with(name)) {
        let Some((_, rest)) = line.split_once('{') else {
            continue;
        };
        let Some((pairs, _)) = rest.rsplit_once('}') else {
            continue;
        };
        let names = pairs.split("\",").filter_map(|pair| pair.split_once('='));
        found.extend(
            names
                .map(|(label, _)| label.to_owned())
                .filter(|label| label != "le"),
        );
    }
    found
}
