//! Creates an AlignmentRequest, follows it, prints the result; exit code 1 if it fails.
use std::io::Write as _;

use anyhow::{Context as _, bail};
use futures::TryStreamExt as _;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::core::GroupVersionKind;
use kube::runtime::{WatchStreamExt as _, watcher};

const USAGE: &str = "usage: align REQUEST.yaml NAMESPACE NAME";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().context(USAGE)?;
    let namespace = arguments.next().context(USAGE)?;
    let name = arguments.next().context(USAGE)?;

    let kind = GroupVersionKind::gvk("voluba.ebrains.eu", "v1alpha1", "AlignmentRequest");
    let resource = ApiResource::from_gvk_with_plural(&kind, "alignmentrequests");
    // A kubeconfig, or the service account of a pod.
    let client = kube::Client::try_default().await?;
    let requests: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &resource);

    let mut request: DynamicObject = serde_yaml_ng::from_reader(std::fs::File::open(file)?)?;
    request.metadata.name = Some(name.clone());
    // Unknown fields are an error, not dropped.
    let strictly = PatchParams {
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply("my-client")
    };
    requests
        .patch(&name, &strictly, &Patch::Apply(&request))
        .await?;

    // Begins again by itself when the API server ends a watch.
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let states = watcher(requests, only).default_backoff().applied_objects();
    let mut states = std::pin::pin!(states);
    let mut output = std::io::stdout();
    while let Some(state) = states.try_next().await? {
        let status = &state.data["status"];
        let progress = &status["progress"];
        writeln!(
            output,
            "{name} {} {} {}",
            status["phase"], progress["stage"], progress["percent"]
        )?;
        match status["phase"].as_str() {
            Some("Succeeded") => {
                writeln!(output, "{:#}", status["result"]["location"])?;
                writeln!(output, "{:#}", status["result"]["quality"])?;
                return Ok(());
            }
            Some("Cancelled") => bail!("cancelled"),
            Some("Failed") => bail!(
                "{}: {}",
                status["failure"]["reason"],
                status["failure"]["message"]
            ),
            _ => {}
        }
    }
    bail!("the watch ended")
}
