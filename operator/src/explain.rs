//! `operator explain`: shows the Job of a request without a cluster.

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use alignment_api::{RequestDocument, Violation};
use anyhow::Context as _;
use kube::api::ObjectMeta;
use serde_json::Value;

use crate::build::{self, Attempt};
use crate::cli::ExplainArguments;
use crate::request::Request;
use crate::validate::validate;

/// The uid that only an API server can give.
const UNKNOWN_UID: &str = "00000000-0000-0000-0000-000000000000";

/// Prints the Job to the first writer, or every violation to the second.
///
/// # Errors
/// If the file cannot be read or nothing can be printed. A file that is no request is a violation.
pub fn explain(
    arguments: ExplainArguments,
    out: &mut impl Write,
    problems: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let text = read(&arguments.request)?;
    let settings = arguments.installation.settings()?;
    let found = match parse(&text) {
        Ok(document) => {
            let request = as_stored(document);
            match validate(&request, &settings) {
                Ok(valid) => {
                    let job = build::job(&request, &valid, Attempt::FIRST, &settings);
                    write!(out, "{}", serde_yaml_ng::to_string(&job)?)?;
                    return Ok(ExitCode::SUCCESS);
                }
                Err(found) => found,
            }
        }
        Err(found) => found,
    };
    for violation in found {
        writeln!(problems, "{violation}")?;
    }
    Ok(ExitCode::from(
        alignment_api::ExitCode::InvalidRequest.code(),
    ))
}

fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// The document, or where and why it is none.
fn parse(text: &str) -> Result<RequestDocument, Vec<Violation>> {
    // By way of JSON: on its own, the YAML reader takes `volume: …` for a field and wants a tag.
    let document: Value = serde_yaml_ng::from_str(text).map_err(|error| {
        let (field, message) = ("file".to_owned(), error.to_string());
        vec![Violation { field, message }]
    })?;
    RequestDocument::read(&document).map_err(|violation| vec![violation])
}

fn as_stored(document: RequestDocument) -> Request {
    Request {
        metadata: ObjectMeta {
            name: document.metadata.name,
            namespace: Some(document.metadata.namespace.unwrap_or("default".to_owned())),
            uid: Some(UNKNOWN_UID.to_owned()),
            ..ObjectMeta::default()
        },
        spec: document.spec,
        status: None,
    }
}
