//! Writing a file so that its final name never stands for half of it.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{}`", path.display())]
pub struct WriteError {
    /// The final name.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// Writes a file under a temporary name in the same folder, flushes it to the disk, and renames it.
///
/// Folders that are missing on the way are made.
///
/// # Errors
/// [`WriteError`]; nothing is then left under the final name that was not there before.
pub fn write(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Written, WriteError> {
    try_write(path, content).map_err(|source| WriteError {
        path: path.to_owned(),
        source,
    })
}

fn try_write(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Written> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let file = tempfile::Builder::new()
        .prefix(&format!(".{}.", name.to_string_lossy()))
        .suffix(".partial")
        // Readable by whoever shares the volume: pods run under arbitrary user ids.
        .permissions(Permissions::from_mode(0o664))
        .tempfile_in(folder)?;
    let mut writer = Hashing {
        inner: BufWriter::with_capacity(1 << 18, file.as_file().try_clone()?),
        hash: Sha256::new(),
        bytes: 0,
    };
    content(&mut writer)?;
    writer.flush()?;
    let Hashing { hash, bytes, .. } = writer;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()?;
    Ok(Written {
        sha256: hex(&hash.finalize()),
        bytes,
    })
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
        }),
    }
}

struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(data)?;
        self.hash.update(&data[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
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
