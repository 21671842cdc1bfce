//! The body of an upload: one part with one file, streamed.

use std::{
    fs::{self, File},
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
};

/// A form with one file, or with the beginning of one.
#[derive(Clone, Debug)]
pub(super) struct Multipart {
    boundary: String,
    head: Vec<u8>,
    tail: Vec<u8>,
    path: PathBuf,
    file_bytes: u64,
}

impl Multipart {
    /// A form whose part `image` holds at most `most` bytes of a gzip file under a name.
    ///
    /// `boundary` must not occur in the file: the digest of the file does not.
    pub(super) fn new(path: &Path, file_name: &str, boundary: &str, most: u64) -> io::Result<Self> {
        // The only characters that could end the quoted name early.
        let quoted = file_name
            .replace('"', "%22")
            .replace('\r', "%0D")
            .replace('\n', "%0A");
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"image\"; \
             filename=\"{quoted}\"\r\nContent-Type: application/gzip\r\n\r\n"
        );
        Ok(Self {
            boundary: boundary.to_owned(),
            head: head.into_bytes(),
            tail: format!("\r\n--{boundary}--\r\n").into_bytes(),
            path: path.to_owned(),
            file_bytes: fs::metadata(path)?.len().min(most),
        })
    }

    /// Value of `Content-Type`.
    pub(super) fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// Value of `Content-Length`.
    pub(super) fn bytes(&self) -> u64 {
        self.head.len() as u64 + self.file_bytes + self.tail.len() as u64
    }

    /// The body from its beginning.
    pub(super) fn open(&self) -> io::Result<impl Read + use<>> {
        let file = File::open(&self.path)?.take(self.file_bytes);
        Ok(Cursor::new(self.head.clone())
            .chain(file)
            .chain(Cursor::new(self.tail.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_that_of_the_body() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), vec![7; 5000]).unwrap();
        for (most, expected) in [(u64::MAX, 5000), (2048, 2048)] {
            let form = Multipart::new(file.path(), "a\"b.nii.gz", "mark", most).unwrap();
            let mut body = Vec::new();
            form.open().unwrap().read_to_end(&mut body).unwrap();
            assert_eq!(body.len() as u64, form.bytes());
            let part = vec![7; expected];
            let at = body.iter().position(|byte| *byte == 7).unwrap();
            assert!(body[at..].starts_with(&part) && body[at + expected] != 7);
            let text = String::from_utf8_lossy(&body);
            assert!(text.contains("name=\"image\"; filename=\"a%22b.nii.gz\""));
            assert!(text.ends_with("\r\n--mark--\r\n"));
        }
    }
}
