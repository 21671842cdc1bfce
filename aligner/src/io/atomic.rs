//! Writing a file so that its final name never stands for half of it.

use std::{
    fmt,
    fs::{self, File, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use alignment_api::{Artifact, ArtifactKind};
use sha2::{Digest, Sha256};

use crate::observer;

pub use transfer::hex;

/// A file could not be written.
#[derive(Debug)]
pub struct WriteError {
    /// The final name.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
    /// Bytes that had been written by then.
    pub written: u64,
    /// Bytes that the file takes at most, if that is known.
    pub at_most: Option<u64>,
}

impl WriteError {
    /// Adds the size that the file may take.
    #[must_use]
    pub fn of_at_most(self, bytes: u64) -> Self {
        Self {
            at_most: Some(bytes),
            ..self
        }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        write!(f, "cannot write `{}`: {}", self.path.display(), self.source)?;
        if !matches!(
            self.source.kind(),
            FileTooLarge | QuotaExceeded | StorageFull
        ) {
            return Ok(());
        }
        write!(f, " after {} bytes", self.written)?;
        match self.at_most {
            Some(bytes) => write!(f, "; the file needs {bytes} bytes at most"),
            None => write!(f, " of this file"),
        }
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: String,
    /// Size in bytes.
    pub bytes: u64,
}

impl Written {
    /// The file as results list it.
    pub fn into_artifact(self, name: String, kind: ArtifactKind) -> Artifact {
        Artifact {
            name,
            kind,
            sha256: self.sha256,
            bytes: self.bytes,
            neuroglancer_url: None,
        }
    }
}

/// A file's name without its folder.
pub fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Writes a file under a temporary name in the same folder, flushes it to the disk, and renames it.
///
/// Folders that are missing on the way are made. What writers of the same name left behind when
/// they were killed is removed.
///
/// # Errors
/// [`WriteError`]; nothing is then left under the final name that was not there before. A signal
/// stops the writing, see [`observer::is_interrupted`].
pub fn write(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Written, WriteError> {
    let mut written = 0;
    try_write(path, content, &mut written).map_err(|source| WriteError {
        path: path.to_owned(),
        source,
        written,
        at_most: None,
    })
}

fn try_write(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    written: &mut u64,
) -> io::Result<Written> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let prefix = format!(".{}.", name.to_string_lossy());
    remove_abandoned(folder, &prefix);
    let file = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(PARTIAL)
        // Readable by whoever shares the volume: pods run under arbitrary user ids.
        .permissions(Permissions::from_mode(0o664))
        .tempfile_in(folder)?;
    // Tells other writers that this one lives. Some network volumes have no locks: then nothing of
    // theirs is removed, either.
    let _ = file.as_file().try_lock();
    let mut writer = Hashing {
        inner: BufWriter::with_capacity(1 << 18, file.as_file().try_clone()?),
        hash: Sha256::new(),
        bytes: written,
    };
    content(&mut writer)?;
    writer.flush()?;
    let hash = writer.hash;
    observer::check_io()?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()?;
    Ok(Written {
        sha256: hex(&hash.finalize()),
        bytes: *written,
    })
}

/// Ending of a file that is being written.
const PARTIAL: &str = ".partial";

/// Removes partial files whose writer has died: nobody holds their lock. Errors do not matter: a
/// file that stays is in nobody's way.
fn remove_abandoned(folder: &Path, prefix: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix)
            && name.ends_with(PARTIAL)
            && entry.file_type().is_ok_and(|kind| kind.is_file())
            && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok())
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Finds out, before hours of computing, whether files can be made in a folder: tries it in the
/// nearest folder that exists. Leaves nothing behind.
///
/// # Errors
/// [`WriteError`] naming the folder.
pub fn check_writable(folder: &Path) -> Result<(), WriteError> {
    let existing = folder
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("."));
    match tempfile::Builder::new()
        .prefix(".writable.")
        .tempfile_in(existing)
    {
        Ok(_) => Ok(()),
        Err(source) => Err(WriteError {
            path: folder.to_owned(),
            source,
            written: 0,
            at_most: None,
        }),
    }
}

/// Hashes and counts what is written, and stops on request.
struct Hashing<'a, W> {
    inner: W,
    hash: Sha256,
    bytes: &'a mut u64,
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        observer::check_io()?;
        let written = self.inner.write(data)?;
        self.hash.update(&data[..written]);
        *self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write(&path, |out| out.write_all(b"old")).unwrap();
        let failed = write(&path, |out| {
            out.write_all(b"new")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("a.txt"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = folder.path().join(name);
            fs::write(&path, "half").unwrap();
            path
        };
        let abandoned = put(".a.txt.x7Kq2P.partial");
        let living = put(".a.txt.Zz91ab.partial");
        let (other, mine) = (put(".b.txt.x7Kq2P.partial"), put(".a.txt.notes"));
        let lock = File::open(&living).unwrap();
        lock.try_lock().unwrap();
        write(&folder.path().join("a.txt"), |out| out.write_all(b"new")).unwrap();
        assert!(!abandoned.exists());
        assert!(living.exists() && other.exists() && mine.exists());
    }

    #[test]
    fn a_full_disk_is_named_with_what_was_written_and_what_is_needed() {
        let error = WriteError {
            path: "results/warp.nii.gz".into(),
            source: io::ErrorKind::StorageFull.into(),
            written: 5,
            at_most: None,
        };
        let error = error.of_at_most(400).to_string();
        assert!(
            error.contains("warp.nii.gz")
                && error.contains("after 5 bytes")
                && error.contains("400 bytes"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_that_takes_no_files_is_found_out_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        check_writable(&folder.path().join("new/folder")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // Not even root can make a file below a file.
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = check_writable(&file.join("results")).unwrap_err();
        assert!(error.to_string().contains("file/results"), "{error}");
    }

    #[test]
    fn the_digest_is_that_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let written = write(&folder.path().join("deep/er/a"), |out| {
            out.write_all(b"abc")
        })
        .unwrap();
        assert_eq!(written.bytes, 3);
        assert!(written.sha256.starts_with("ba7816bf8f01cfea"));
    }
}
