//! Brings the files of a manifest to the volume: those that are not there yet.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use alignment_api::WebUrl;
use transfer::error::NetError;
use transfer::stop::{self, Cancel};
use transfer::{Load, Network};

use super::error::Error;
use super::manifest::{Entry, Manifest, Source, Wanted};
use super::store::{Store, flush, make_folder, say, share};
use super::verify;

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(10);

/// How the files came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Were there already, with the right digest.
    pub there: usize,
    /// Were taken from an older version.
    pub shared: usize,
    /// Were downloaded or copied.
    pub fetched: usize,
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            there,
            shared,
            fetched,
        } = self;
        write!(
            f,
            "{fetched} files fetched, {shared} taken from an older version, {there} were there"
        )
    }
}

/// Loads a version and switches to it. Run again, it checks every file, and fetches what is damaged.
///
/// # Errors
/// [`Error`]; what was visible before is then as it was.
pub fn load(
    store: &Store,
    manifest: &Manifest,
    network: &Network,
    stop: &dyn Cancel,
) -> Result<Loaded, Error> {
    let _lock = store.lock(stop)?;
    let version = manifest.version();
    say(&format!(
        "static data {version}: {} files",
        manifest.files().len()
    ));
    let complete = store.complete(&version);
    let folder = if complete.is_dir() {
        complete
    } else {
        store.staging(&version)
    };
    make_folder(&folder)?;
    let mut loaded = Loaded::default();
    let mut missing = Vec::new();
    for file in manifest.files() {
        let target = folder.join(&file.entry.path);
        if verify::problem(&target, &file.entry, stop)?.is_none() {
            loaded.there += 1;
        } else if share_older(store, &file.entry, &target, stop)? {
            loaded.shared += 1;
        } else {
            missing.push(file);
        }
    }
    check_space(store, &missing)?;
    for file in missing {
        let partial = store.partial(&file.entry.sha256);
        match &file.source {
            Source::Url(url) => download(file, url, &partial, network, stop)?,
            Source::File(path) => copy(file, path, &partial, stop)?,
        }
        settle(&partial, &folder.join(&file.entry.path))?;
        say(&format!("{}: complete", file.entry.path));
        loaded.fetched += 1;
    }
    store.publish(&manifest.entries())?;
    store.clean()?;
    Ok(loaded)
}

/// Links a file of an older version, so that it needs neither time nor space.
fn share_older(
    store: &Store,
    entry: &Entry,
    target: &Path,
    stop: &dyn Cancel,
) -> Result<bool, Error> {
    for older in store.candidates(entry) {
        if older == target || verify::problem(&older, entry, stop)?.is_some() {
            continue;
        }
        let link = store.partial(&entry.sha256).with_extension("link");
        let _ = fs::remove_file(&link);
        // Not every volume has links; then the file is fetched.
        if fs::hard_link(&older, &link).is_ok() {
            settle(&link, target)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Better to say it before an hour of downloading than after.
fn check_space(store: &Store, missing: &[&Wanted]) -> Result<(), Error> {
    let needed: u64 = missing
        .iter()
        .map(|file| {
            let partial = store.partial(&file.entry.sha256);
            let there = fs::metadata(partial).map_or(0, |metadata| metadata.len());
            file.entry.bytes.saturating_sub(there)
        })
        .sum();
    let free = store.free()?;
    if needed <= free {
        return Ok(());
    }
    Err(Error::NoSpace {
        root: store.root().to_owned(),
        needed,
        free,
    })
}

fn download(
    file: &Wanted,
    url: &WebUrl,
    partial: &Path,
    network: &Network,
    stop: &dyn Cancel,
) -> Result<(), Error> {
    let what = Load {
        url,
        sha256: &file.entry.sha256,
        bytes: file.entry.bytes,
        to: partial,
    };
    let (done, waiting) = mpsc::channel::<()>();
    let result = thread::scope(|scope| {
        scope.spawn(move || tell_progress(file, partial, &waiting));
        let result = network.load(what, stop);
        drop(done);
        result
    });
    result.map_err(|source| match source {
        NetError::Interrupted(interrupted) => interrupted.into(),
        source => Error::Transfer {
            file: file.entry.path.clone(),
            source,
        },
    })
}

fn tell_progress(file: &Wanted, partial: &Path, waiting: &mpsc::Receiver<()>) {
    loop {
        let bytes = fs::metadata(partial).map_or(0, |metadata| metadata.len());
        let (path, all) = (&file.entry.path, file.entry.bytes);
        say(&format!("{path}: {} of {} MiB", bytes >> 20, all >> 20));
        if waiting.recv_timeout(PROGRESS) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn copy(file: &Wanted, source: &Path, partial: &Path, stop: &dyn Cancel) -> Result<(), Error> {
    let missing = |problem: String| Error::Missing {
        file: file.entry.path.clone(),
        origin: source.to_owned(),
        problem,
    };
    let metadata = fs::metadata(source).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => missing("does not exist".to_owned()),
        _ => Error::at(source)(error),
    })?;
    if !metadata.is_file() {
        return Err(missing("is not a regular file".to_owned()));
    }
    let different = |problem: String| Error::Different {
        file: file.entry.path.clone(),
        origin: source.to_owned(),
        problem,
    };
    if metadata.len() != file.entry.bytes {
        return Err(different(format!(
            "has {} bytes, expected {}",
            metadata.len(),
            file.entry.bytes
        )));
    }
    say(&format!(
        "{}: copied from {}",
        file.entry.path,
        source.display()
    ));
    let mut from = File::open(source).map_err(Error::at(source))?;
    let mut to = File::create(partial).map_err(Error::at(partial))?;
    share(&to);
    let mut buffer = vec![0; 1 << 20];
    loop {
        stop::check(stop)?;
        match from.read(&mut buffer).map_err(Error::at(source))? {
            0 => break,
            count => to.write_all(&buffer[..count]).map_err(Error::at(partial))?,
        }
    }
    drop(to);
    match verify::problem(partial, &file.entry, stop)? {
        None => Ok(()),
        Some(problem) => {
            fs::remove_file(partial).map_err(Error::at(partial))?;
            Err(different(problem))
        }
    }
}

/// Flushes a file whose digest is right, and gives it its place.
fn settle(from: &Path, to: &Path) -> Result<(), Error> {
    let synced = File::open(from).and_then(|file| file.sync_all());
    synced.map_err(Error::at(from))?;
    if let Some(folder) = to.parent() {
        make_folder(folder)?;
        fs::rename(from, to).map_err(Error::at(to))?;
        flush(folder)?;
    }
    Ok(())
}
