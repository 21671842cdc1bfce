//! Alerts, dashboard and documentation name metrics and labels that the operator really exports.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use operator::crd::Phase;
use operator::metrics::Metrics;

const PREFIX: &str = "voluba_align_";
/// Labels that Prometheus adds to every series of a target, or to every bucket of a histogram.
const ADDED: [&str; 2] = ["namespace", "le"];

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All that the operator can export: a series of each metric, and the values of each of its labels.
fn exported() -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let metrics = Metrics::default();
    for phase in Phase::ALL {
        metrics.moved(phase, Phase::Running, Some(1.0), Some(1.0));
    }
    for (method, path) in [
        ("GET", "/api/v1/namespaces/a/pods?watch=true"),
        ("POST", "/apis/batch/v1/namespaces/a/jobs"),
    ] {
        let request = http::Request::builder().method(method).uri(path);
        metrics.count(&request.body(kube::client::Body::empty()).unwrap());
    }
    let mut found: BTreeMap<_, BTreeMap<_, BTreeSet<_>>> = BTreeMap::new();
    for series in metrics
        .encode()
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let (name, labels) = series_parts(series);
        let entry = found.entry(name).or_default();
        for (label, value) in labels {
            entry.entry(label).or_default().insert(value);
        }
    }
    found
}

/// Name, and pairs of label and value, of a series or of a selector at the start of a text.
fn series_parts(text: &str) -> (String, Vec<(String, String)>) {
    let end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let (name, rest) = text.split_at(text.find(end).unwrap_or(text.len()));
    let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
    let pairs = labels.map_or("", |(labels, _)| labels).split(',');
    let pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    let pairs = pairs.map(|(label, value)| (label.to_owned(), value.trim_matches('"').to_owned()));
    (name.to_owned(), pairs.collect())
}

/// Every mention of a metric in a text.
fn mentions(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    // In JSON, quotes of a selector are escaped.
    let text = text.replace("\\\"", "\"");
    let starts = text.match_indices(PREFIX).map(|(start, _)| start);
    starts.map(|start| series_parts(&text[start..])).collect()
}

fn assert_exported(path: &str, least: usize) -> BTreeSet<String> {
    let exported = exported();
    let mentions = mentions(&file(path));
    assert!(
        mentions.len() >= least,
        "{path}: {} mentions",
        mentions.len()
    );
    for (name, labels) in &mentions {
        let known = exported
            .get(name)
            .unwrap_or_else(|| panic!("{path}: no metric {name}"));
        for (label, value) in labels
            .iter()
            .filter(|(label, _)| !ADDED.contains(&label.as_str()))
        {
            let values = known
                .get(label)
                .unwrap_or_else(|| panic!("{path}: {name} has no label {label}"));
            assert!(values.contains(value), "{path}: {name}{{{label}={value}}}");
        }
    }
    mentions.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn alerts_ask_for_what_is_exported() {
    assert_exported("charts/voluba-align/files/alerts.yaml", 4);
}

#[test]
fn the_dashboard_shows_what_is_exported_and_every_metric() {
    let shown = assert_exported("charts/voluba-align/files/dashboard.json", 12);
    for name in exported().into_keys() {
        // Of a histogram, the buckets are shown.
        let shown_as = match name.strip_suffix("_sum").or(name.strip_suffix("_count")) {
            Some(histogram) => format!("{histogram}_bucket"),
            None => name,
        };
        assert!(
            shown.contains(&shown_as),
            "{shown_as} is not on the dashboard"
        );
    }
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&file("charts/voluba-align/files/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut taken = BTreeSet::new();
    for panel in panels {
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{}: outside", panel["title"]);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(
                    taken.insert((x, y)),
                    "{}: over another panel",
                    panel["title"]
                );
            }
        }
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            assert!(query.contains(r#"namespace="$namespace""#), "{query}");
        }
    }
}

#[test]
fn the_documentation_shows_the_alerts_of_the_chart() {
    let alerts = file("charts/voluba-align/files/alerts.yaml");
    let page = file("docs/operate.md");
    assert!(
        page.contains(&format!("```yaml\n{alerts}```\n")),
        "docs/operate.md does not hold charts/voluba-align/files/alerts.yaml; copy it there"
    );
}
