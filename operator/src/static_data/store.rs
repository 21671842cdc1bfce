//! Folders of the static data, the lock, the switch from one version to the next.
//!
//! Everything may be stopped between any two steps. What is visible, below `v` and `current`, comes
//! there by renaming, after it was flushed to the disk.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _, stderr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use transfer::stop::{self, Cancel};

use super::error::Error;
use super::manifest::{Entry, MANIFEST, version};

const SCHEMA: &str = "voluba.ebrains.eu/static-data/v1";
/// How often a lock that another process holds is looked at.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// `MANIFEST.json` of a version.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    schema: String,
    version: String,
    files: Vec<Entry>,
}

/// The folders below a root.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Nothing is made or looked at yet.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn versions(&self) -> PathBuf {
        self.root.join("v")
    }

    fn loading(&self) -> PathBuf {
        self.root.join(".loading")
    }

    /// The folder of a version that is complete.
    pub fn complete(&self, version: &str) -> PathBuf {
        self.versions().join(version)
    }

    /// The folder of a version that is being loaded.
    pub fn staging(&self, version: &str) -> PathBuf {
        self.loading().join(version)
    }

    /// The file that a download grows in: by content, so that another manifest with the same file
    /// goes on with it.
    pub fn partial(&self, sha256: &str) -> PathBuf {
        self.loading().join(format!("{sha256}.part"))
    }

    /// Makes the folders, and waits until no other process loads into them. Held until it is
    /// dropped, at the latest by the end of the process.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Interrupted`].
    pub fn lock(&self, stop: &dyn Cancel) -> Result<File, Error> {
        if !self.root.is_dir() {
            let missing = io::Error::from(io::ErrorKind::NotFound);
            return Err(Error::at(&self.root)(missing));
        }
        make_folder(&self.loading())?;
        make_folder(&self.versions())?;
        let path = self.loading().join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = file.map_err(Error::at(&path))?;
        share(&file);
        let mut told = false;
        loop {
            stop::check(stop)?;
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        say("another process loads into this folder; waiting for its end");
                        told = true;
                    }
                    std::thread::sleep(LOCK_PAUSE);
                }
                // Some network volumes have no locks. Then the digests are all that protects.
                Err(TryLockError::Error(error)) => {
                    say(&format!(
                        "this volume has no locks ({error}): run one loader at a time"
                    ));
                    return Ok(file);
                }
            }
        }
    }

    /// The version that `current` names.
    pub fn current(&self) -> Option<String> {
        let target = fs::read_link(self.root.join("current")).ok()?;
        let version = target.strip_prefix("v").ok()?;
        Some(version.to_str()?.to_owned())
    }

    /// Names of the complete versions, sorted.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let folder = self.versions();
        let mut names = Vec::new();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            Err(error) => return Err(Error::at(&folder)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(Error::at(&folder))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// What a version's own manifest says; `None` if there is none that can be read.
    pub fn manifest_of(&self, name: &str) -> Option<Vec<Entry>> {
        let text = fs::read(self.complete(name).join(MANIFEST)).ok()?;
        let document: Document = serde_json::from_slice(&text).ok()?;
        Some(document.files)
    }

    /// Files of complete versions that should have this content.
    pub fn candidates(&self, wanted: &Entry) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for name in self.names().unwrap_or_default() {
            for entry in self.manifest_of(&name).unwrap_or_default() {
                if entry.sha256 == wanted.sha256 {
                    found.push(self.complete(&name).join(&entry.path));
                }
            }
        }
        found
    }

    /// Bytes that are free for this process.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn free(&self) -> Result<u64, Error> {
        let state = rustix::fs::statvfs(&self.root);
        let state = state.map_err(|error| Error::at(&self.root)(error.into()))?;
        Ok(state.f_bavail.saturating_mul(state.f_frsize))
    }

    /// Makes a version visible, and then the current one. All its files are there, flushed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn publish(&self, entries: &[Entry]) -> Result<(), Error> {
        let name = version(entries);
        let (staging, complete) = (self.staging(&name), self.complete(&name));
        let folder = if complete.is_dir() {
            &complete
        } else {
            &staging
        };
        write_manifest(folder, &name, entries)?;
        if folder == &staging {
            flush_folders(&staging)?;
            fs::rename(&staging, &complete).map_err(Error::at(&complete))?;
            flush(&self.versions())?;
        }
        if self.current().as_deref() != Some(&name) {
            let draft = self.loading().join("current");
            let link = self.root.join("current");
            remove(&draft)?;
            symlink(Path::new("v").join(&name), &draft).map_err(Error::at(&draft))?;
            fs::rename(&draft, &link).map_err(Error::at(&link))?;
            flush(&self.root)?;
        }
        Ok(())
    }

    /// Removes what earlier runs left half done. Only while the lock is held.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn clean(&self) -> Result<(), Error> {
        let loading = self.loading();
        let entries = fs::read_dir(&loading).map_err(Error::at(&loading))?;
        for entry in entries {
            let path = entry.map_err(Error::at(&loading))?.path();
            if path.file_name().is_some_and(|name| name != "lock") {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes all versions but the current one and the newest others; says how many.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn prune(&self, keep: usize) -> Result<usize, Error> {
        let current = self.current();
        let mut others = Vec::new();
        for name in self
            .names()?
            .into_iter()
            .filter(|name| Some(name) != current.as_ref())
        {
            let time = fs::metadata(self.complete(&name).join(MANIFEST)).and_then(|m| m.modified());
            others.push((time.ok(), name));
        }
        others.sort();
        let superfluous = others.len().saturating_sub(keep);
        for (_, name) in &others[..superfluous] {
            // Away at once, whatever happens during the removal.
            let away = self.loading().join(format!("{name}.old"));
            let complete = self.complete(name);
            fs::rename(&complete, &away).map_err(Error::at(&complete))?;
            remove(&away)?;
        }
        Ok(superfluous)
    }
}

fn write_manifest(folder: &Path, version: &str, entries: &[Entry]) -> Result<(), Error> {
    let document = Document {
        schema: SCHEMA.to_owned(),
        version: version.to_owned(),
        files: entries.to_vec(),
    };
    let path = folder.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&document).unwrap_or_default();
    if fs::read(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let draft = folder.join(".manifest");
    let write = || -> io::Result<()> {
        let mut file = File::create(&draft)?;
        file.write_all(&text)?;
        share(&file);
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(Error::at(&path))
}

/// A folder that the group may write to: the next run may be another user of the same group.
///
/// # Errors
/// [`Error::Io`].
pub fn make_folder(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Error::at(path)(error));
        }
        _ => {}
    }
    if let Ok(metadata) = fs::metadata(path) {
        // A set-group-id bit of the volume is kept.
        let mode = metadata.permissions().mode() | 0o775;
        let _ = fs::set_permissions(path, Permissions::from_mode(mode));
    }
    Ok(())
}

/// Lets the group write to a file.
pub fn share(file: &File) {
    // Who did not make the file cannot, and need not.
    let _ = file.set_permissions(Permissions::from_mode(0o664));
}

/// Flushes the names in a folder to the disk.
///
/// # Errors
/// [`Error::Io`].
pub fn flush(folder: &Path) -> Result<(), Error> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(Error::at(folder))
}

fn flush_folders(folder: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(Error::at(folder))? {
        let path = entry.map_err(Error::at(folder))?.path();
        if path.is_dir() {
            flush_folders(&path)?;
        }
    }
    flush(folder)
}

fn remove(path: &Path) -> Result<(), Error> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::at(path)(error)),
        _ => Ok(()),
    }
}

/// A line for the log.
pub fn say(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}
