//! What an earlier run of the same request left in the folder: files that the present run does not
//! write would be taken for its results.
//!
//! Only what the earlier report names, with the digest that it names, is removed. Another request's
//! files are left alone.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use alignment_api::Artifact;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    error::Error,
    footprint::Footprint,
    io::atomic::{WriteError, hex},
    observer,
    report_files::REPORT,
};

/// Largest report that is read; real ones have some ten thousand bytes.
const LARGEST_REPORT: u64 = 16 << 20;

/// What the reports of all kinds have in common.
#[derive(Deserialize)]
struct Earlier {
    schema: String,
    request: Option<String>,
    artifacts: Vec<Artifact>,
}

impl Earlier {
    /// Whether it tells of the same request: requests of two kinds may share a name.
    fn is_of(&self, footprint: &Footprint) -> bool {
        self.schema == footprint.schema && self.request.as_deref() == footprint.request
    }
}

/// Makes room for a run's results: removes what an earlier run of the same request left and this one
/// does not write, and the earlier report, which would describe files that are about to change.
///
/// # Errors
/// [`Error::Write`] naming the file that could not be removed; [`Error::Interrupted`].
pub fn make_room(footprint: &Footprint) -> Result<(), Error> {
    let path = footprint.folder.join(REPORT);
    let Some(earlier) = read_report(&path).filter(|earlier| earlier.is_of(footprint)) else {
        return Ok(());
    };
    let remove = |path: PathBuf| {
        fs::remove_file(&path).map_err(|source| WriteError {
            path,
            source,
            written: 0,
            at_most: None,
        })
    };
    for artifact in left_over(&earlier, &footprint.planned) {
        let path = footprint.folder.join(&artifact.name);
        if !footprint.replaces_input(&artifact.name) && is_as_written(&path, artifact)? {
            remove(path)?;
        }
    }
    remove(path)?;
    Ok(())
}

/// The report in a folder, if there is one and it can be read.
fn read_report(path: &Path) -> Option<Earlier> {
    let metadata = fs::symlink_metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > LARGEST_REPORT {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Files of an earlier run that the present one does not write. A name with a folder in it is not
/// one of ours.
fn left_over<'a>(earlier: &'a Earlier, planned: &[String]) -> Vec<&'a Artifact> {
    let planned: BTreeSet<&str> = planned.iter().map(String::as_str).collect();
    earlier
        .artifacts
        .iter()
        .filter(|artifact| {
            Path::new(&artifact.name).file_name() == Some(artifact.name.as_ref())
                && !planned.contains(artifact.name.as_str())
        })
        .collect()
}

/// Whether a file is the one that the earlier run wrote. What somebody changed since is theirs.
fn is_as_written(path: &Path, artifact: &Artifact) -> Result<bool, Error> {
    let is_candidate = fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() == artifact.bytes);
    if !is_candidate {
        return Ok(false);
    }
    match digest(path) {
        Ok(digest) => Ok(digest == artifact.sha256),
        Err(error) if observer::is_interrupted(&error) => Err(observer::Interrupted.into()),
        // What cannot be read is not known to be ours.
        Err(_) => Ok(false),
    }
}

fn digest(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        observer::check_io()?;
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
