//! Compares what is on the volume with what should be there, byte by byte.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};
use transfer::stop::{self, Cancel};

use super::error::Error;
use super::manifest::{Entry, MANIFEST, Manifest, version};
use super::store::Store;

/// What is wrong with a file, as the end of a sentence; `None` if nothing is.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Interrupted`].
pub fn problem(path: &Path, entry: &Entry, stop: &dyn Cancel) -> Result<Option<String>, Error> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            use io::ErrorKind::{NotADirectory, NotFound};
            return match error.kind() {
                NotFound | NotADirectory => Ok(Some("does not exist".to_owned())),
                _ => Err(Error::at(path)(error)),
            };
        }
    };
    if !metadata.is_file() {
        return Ok(Some("is not a regular file".to_owned()));
    }
    if metadata.len() != entry.bytes {
        let found = metadata.len();
        return Ok(Some(format!("has {found} bytes, expected {}", entry.bytes)));
    }
    let found = digest(path, stop)?;
    if found != entry.sha256 {
        let expected = &entry.sha256;
        return Ok(Some(format!(
            "has the SHA-256 {found}, expected {expected}"
        )));
    }
    Ok(None)
}

fn digest(path: &Path, stop: &dyn Cancel) -> Result<String, Error> {
    let mut file = File::open(path).map_err(Error::at(path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        stop::check(stop)?;
        match file.read(&mut buffer).map_err(Error::at(path))? {
            0 => return Ok(transfer::hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// Checks every complete version, that `current` names one of them, and, with a manifest, that it is
/// the manifest's.
///
/// # Errors
/// [`Error::Wrong`] with everything that is wrong.
pub fn loaded(
    store: &Store,
    manifest: Option<&Manifest>,
    stop: &dyn Cancel,
) -> Result<String, Error> {
    let mut problems = Vec::new();
    let (current, names) = (store.current(), store.names()?);
    match &current {
        None => problems.push("current: names no version: nothing was loaded yet".to_owned()),
        Some(name) if !names.contains(name) => {
            problems.push(format!(
                "current: names the version {name}, which does not exist"
            ));
        }
        Some(_) => {}
    }
    if let (Some(manifest), Some(current)) = (manifest, &current)
        && manifest.version() != *current
    {
        let expected = manifest.version();
        problems.push(format!(
            "current: names the version {current}, expected {expected}"
        ));
    }
    let (mut files, mut bytes) = (0, 0);
    for name in &names {
        let Some(entries) = store.manifest_of(name) else {
            problems.push(format!("v/{name}/{MANIFEST}: cannot be read"));
            continue;
        };
        if version(&entries) != *name {
            problems.push(format!(
                "v/{name}/{MANIFEST}: is the manifest of another version"
            ));
        }
        files += entries.len();
        bytes += entries.iter().map(|entry| entry.bytes).sum::<u64>();
        check(
            &store.complete(name),
            &format!("v/{name}/"),
            &entries,
            stop,
            &mut problems,
        )?;
        let known = entries.iter().map(|entry| entry.path.as_str());
        let known: BTreeSet<_> = known.chain([MANIFEST]).collect();
        for extra in unknown(&store.complete(name), "", &known)? {
            problems.push(format!("v/{name}/{extra}: is not in the manifest"));
        }
    }
    if !problems.is_empty() {
        return Err(Error::Wrong(problems));
    }
    let current = current.unwrap_or_default();
    let versions = names.len();
    Ok(format!(
        "static data {current}: {files} files of {versions} versions, {bytes} bytes, all as they should be"
    ))
}

/// Checks files that were copied by hand, right below the root.
///
/// # Errors
/// [`Error::Wrong`] with everything that is wrong.
pub fn in_place(store: &Store, manifest: &Manifest, stop: &dyn Cancel) -> Result<String, Error> {
    let (entries, mut problems) = (manifest.entries(), Vec::new());
    check(store.root(), "", &entries, stop, &mut problems)?;
    if !problems.is_empty() {
        return Err(Error::Wrong(problems));
    }
    let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    Ok(format!(
        "static data: {} files, {bytes} bytes, all as they should be",
        entries.len()
    ))
}

fn check(
    folder: &Path,
    shown: &str,
    entries: &[Entry],
    stop: &dyn Cancel,
    problems: &mut Vec<String>,
) -> Result<(), Error> {
    for entry in entries {
        if let Some(problem) = problem(&folder.join(&entry.path), entry, stop)? {
            problems.push(format!("{shown}{}: {problem}", entry.path));
        }
    }
    Ok(())
}

/// Paths of files below a folder that are not known.
fn unknown(folder: &Path, below: &str, known: &BTreeSet<&str>) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::at(folder))? {
        let entry = entry.map_err(Error::at(folder))?;
        let path = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(unknown(&entry.path(), &format!("{path}/"), known)?);
        } else if !known.contains(path.as_str()) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
