//! The files of a report: `report.json` for programs, `report.html` and `preview.png` for a person.

use std::path::Path;

use alignment_api::{Artifact, ArtifactKind};
use serde::Serialize;

use crate::{
    error::Error,
    io::atomic::{self, file_name},
};

/// The report for programs; it is written last.
pub const REPORT: &str = "report.json";
/// The report for a person.
pub const PAGE: &str = "report.html";
/// Its most telling picture.
pub const PREVIEW: &str = "preview.png";

/// Writes a page.
///
/// # Errors
/// [`Error::Write`] naming the file.
pub fn write_page(path: &Path, html: &str) -> Result<Artifact, Error> {
    write(path, ArtifactKind::Page, html.as_bytes())
}

/// Writes `preview.png`.
///
/// # Errors
/// [`Error::Write`] naming the file.
pub fn write_preview(folder: &Path, png: &[u8]) -> Result<Artifact, Error> {
    write(&folder.join(PREVIEW), ArtifactKind::Preview, png)
}

/// Writes `report.json`.
///
/// # Errors
/// [`Error::Write`] naming the file.
pub fn write_report(folder: &Path, report: &impl Serialize) -> Result<Artifact, Error> {
    let written = atomic::write(&folder.join(REPORT), |out| {
        serde_json::to_writer_pretty(&mut *out, report)?;
        out.write_all(b"\n")
    })?;
    Ok(written.into_artifact(REPORT.to_owned(), ArtifactKind::Report))
}

fn write(path: &Path, kind: ArtifactKind, bytes: &[u8]) -> Result<Artifact, Error> {
    let written = atomic::write(path, |out| out.write_all(bytes))?;
    Ok(written.into_artifact(file_name(path), kind))
}
