//! A file from a server, whole or not at all.
//!
//! The end of the body must be told, by its length or by chunks, and reached. A transfer that
//! breaks is resumed where the server says that the file is still the same, else begun anew.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use alignment_api::WebUrl;
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, header};

use super::{
    Network,
    error::{Fault, NetError},
    exchange::{Ask, Reply, connection_problem, status_fault},
    resume, retry,
};
use crate::{hex, stop::Cancel};

/// What to download.
#[derive(Clone, Copy, Debug)]
pub(super) struct Download<'a> {
    pub(super) url: &'a WebUrl,
    /// As in [`Ask`].
    pub(super) token_below: Option<&'a WebUrl>,
    /// Lower-case hexadecimal.
    pub(super) sha256: Option<&'a str>,
    pub(super) to: &'a Path,
}

/// What is known of the file so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Partial {
    /// Bytes that are written.
    pub(super) bytes: u64,
    /// Name of this version of the file, if it has a strong one.
    pub(super) version: Option<String>,
    /// Whether what is written is compressed once more for the transfer.
    pub(super) encoded: bool,
    /// Whether it is made of the answers to several requests.
    pub(super) spliced: bool,
}

/// What the file must be.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    /// Begins like one; whether a digest will tell if it is whole.
    Volume { pinned: bool },
    /// So many bytes, of which a digest tells the rest. What is known of the file is noted here, for
    /// the next run of the program.
    Bytes { exact: u64, note: PathBuf },
}

impl Network {
    /// Downloads a file.
    pub(super) fn download(&self, what: Download<'_>, stop: &dyn Cancel) -> Result<(), NetError> {
        let shown = what.url.shown();
        let partial = Arc::new(Mutex::new(Partial::default()));
        retry::until_done(self, &shown, stop, || {
            let known = lock(&partial).clone();
            let mut ask = Ask::get(what.url.clone(), what.token_below);
            if let (Some(version), true) = (&known.version, known.bytes > 0) {
                ask.headers
                    .push(("Range", format!("bytes={}-", known.bytes)));
                ask.headers.push(("If-Range", version.clone()));
            }
            let taker = Taker {
                to: what.to.to_owned(),
                left: self.left(),
                expected: Expected::Volume {
                    pinned: what.sha256.is_some(),
                },
                partial: partial.clone(),
            };
            self.exchange(ask, stop, move |reply| taker.take(reply))
        })?;
        let known = lock(&partial).clone();
        self.downloaded.fetch_add(known.bytes, Ordering::Relaxed);
        settle(&what, &shown, known.encoded, self.left())
    }

    /// Bytes that may still be downloaded.
    fn left(&self) -> u64 {
        let so_far = self.downloaded.load(Ordering::Relaxed);
        self.limits.download_bytes.saturating_sub(so_far)
    }
}

pub(super) fn lock(partial: &Mutex<Partial>) -> std::sync::MutexGuard<'_, Partial> {
    partial.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes one answer to the file.
pub(super) struct Taker {
    pub(super) to: PathBuf,
    /// Bytes that the file may have.
    pub(super) left: u64,
    pub(super) expected: Expected,
    pub(super) partial: Arc<Mutex<Partial>>,
}

impl Taker {
    pub(super) fn take(self, mut reply: Reply) -> Result<(), Fault> {
        let known = lock(&self.partial).clone();
        let goes_on = reply.status == 206 && continues(&reply.headers, known.bytes);
        if matches!(reply.status, 206 | 416) && !goes_on {
            *lock(&self.partial) = Partial::default();
            return Err(Fault::passing("answers with another part of the file"));
        }
        status_fault(&reply)?;
        let length = number(&reply.headers, header::CONTENT_LENGTH.as_str());
        let chunked = reply.headers.contains_key(header::TRANSFER_ENCODING);
        let unpinned = matches!(self.expected, Expected::Volume { pinned: false });
        if length.is_none() && !chunked && unpinned {
            return Err(Fault::passing(
                "the answer tells neither its length nor its end",
            ));
        }
        let begin = if goes_on { known.bytes } else { 0 };
        let told = length.map(|length| begin.saturating_add(length));
        let encoded = match self.expected {
            Expected::Volume { .. } => {
                if told.is_some_and(|told| told > self.left) {
                    return Err(self.too_large(&reply.shown));
                }
                is_encoded(&reply)?
            }
            // Taken as it is: where a server calls a `.gz` file encoded, it is the file.
            Expected::Bytes { exact, .. } => {
                if let Some(told) = told.filter(|told| *told != exact) {
                    return Err(wrong_size(&reply, &told.to_string(), exact));
                }
                false
            }
        };
        let version = strong_version(&reply.headers);
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(!goes_on)
            .append(goes_on)
            .open(&self.to)
            .map_err(|source| self.file_error(source))?;
        if let Expected::Bytes { note, .. } = &self.expected {
            // After the old bytes are gone, and before new ones come.
            resume::share(&file);
            resume::write_note(note, version.as_deref())?;
        }
        *lock(&self.partial) = Partial {
            bytes: begin,
            version,
            encoded,
            spliced: goes_on,
        };
        self.copy(&mut reply, file, begin, encoded)
    }

    fn copy(
        &self,
        reply: &mut Reply,
        mut file: File,
        begin: u64,
        encoded: bool,
    ) -> Result<(), Fault> {
        let mut buffer = vec![0; 256 << 10];
        let mut bytes = begin;
        let mut start = Vec::with_capacity(4);
        loop {
            let count = match reply.body.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let problem = connection_problem(&error);
                    return Err(Fault::Passing {
                        problem: format!("{problem} after {bytes} bytes"),
                        wait: None,
                        progress: bytes > begin,
                    });
                }
            };
            if count == 0 {
                break;
            }
            bytes += count as u64;
            if bytes > self.left {
                return Err(match self.expected {
                    Expected::Bytes { exact, .. } => wrong_size(reply, "more", exact),
                    Expected::Volume { .. } => self.too_large(&reply.shown),
                });
            }
            let volume = matches!(self.expected, Expected::Volume { .. });
            if volume && begin == 0 && start.len() < 4 {
                start.extend(buffer[..count].iter().take(4 - start.len()));
                if start.len() == 4 && !encoded && !could_be_nifti(&start) {
                    return Err(not_nifti(reply));
                }
            }
            file.write_all(&buffer[..count])
                .map_err(|source| self.file_error(source))?;
            lock(&self.partial).bytes = bytes;
        }
        match self.expected {
            Expected::Volume { .. } if bytes < 4 => Err(not_nifti(reply)),
            Expected::Bytes { exact, .. } if bytes < exact => Err(Fault::Passing {
                problem: format!("the answer ended after {bytes} of {exact} bytes"),
                wait: None,
                progress: bytes > begin,
            }),
            _ => Ok(()),
        }
    }

    fn too_large(&self, shown: &str) -> Fault {
        too_large(shown, self.left).into()
    }

    fn file_error(&self, source: io::Error) -> Fault {
        NetError::File {
            path: self.to.clone(),
            source,
        }
        .into()
    }
}

fn too_large(shown: &str, left: u64) -> NetError {
    NetError::Content {
        url: shown.to_owned(),
        problem: format!(
            "has more than the {left} bytes that are left for downloads (--download-limit)"
        ),
    }
}

fn wrong_size(reply: &Reply, found: &str, exact: u64) -> Fault {
    let encoded = if reply.headers.contains_key(header::CONTENT_ENCODING) {
        ", in an encoding that was not asked for"
    } else {
        ""
    };
    NetError::Content {
        url: reply.shown.clone(),
        problem: format!("has {found} bytes{encoded}, expected {exact}"),
    }
    .into()
}

fn not_nifti(reply: &Reply) -> Fault {
    let html = reply.headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.to_str().unwrap_or("").to_ascii_lowercase();
        kind.starts_with("text/html")
    });
    let what = if html { ", but a web page" } else { "" };
    NetError::Content {
        url: reply.shown.clone(),
        problem: format!(
            "answers {} with what is not a NIfTI file{what}",
            reply.status
        ),
    }
    .into()
}

/// gzip, or the size of a NIfTI-1 or NIfTI-2 header in either byte order.
fn could_be_nifti(start: &[u8]) -> bool {
    start.starts_with(&[0x1f, 0x8b])
        || [348_u32, 540]
            .iter()
            .any(|size| start == size.to_le_bytes() || start == size.to_be_bytes())
}

/// Whether a part begins where the file ends.
fn continues(headers: &HeaderMap, bytes: u64) -> bool {
    headers
        .get(header::CONTENT_RANGE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.strip_prefix("bytes "))
        .and_then(|text| text.split_once('-'))
        .and_then(|(from, _)| from.trim().parse().ok())
        == Some(bytes)
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// An `ETag` that means the same bytes.
fn strong_version(headers: &HeaderMap) -> Option<String> {
    let tag = headers.get(header::ETAG)?.to_str().ok()?;
    (tag.len() >= 2 && tag.starts_with('"') && tag.ends_with('"')).then(|| tag.to_owned())
}

/// Nothing was asked for, but some servers compress all the same.
fn is_encoded(reply: &Reply) -> Result<bool, Fault> {
    let encoding = reply
        .headers
        .get(header::CONTENT_ENCODING)
        .map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
    match encoding.as_deref() {
        None | Some("" | "identity") => Ok(false),
        Some("gzip" | "x-gzip") => Ok(true),
        Some(_) => Err(NetError::Content {
            url: reply.shown.clone(),
            problem: "answers in an encoding that was not asked for, expected none or gzip"
                .to_owned(),
        }
        .into()),
    }
}

/// Takes off the encoding of the transfer, and compares the digest.
///
/// Some servers call every `.gz` file encoded. There the file is what was transferred: its digest
/// tells.
fn settle(what: &Download<'_>, shown: &str, encoded: bool, left: u64) -> Result<(), NetError> {
    let file_error = |source| NetError::File {
        path: what.to.to_owned(),
        source,
    };
    let content = |problem: String| NetError::Content {
        url: shown.to_owned(),
        problem,
    };
    let found = file_digest(what.to).map_err(file_error)?;
    if what.sha256 == Some(found.as_str()) {
        return Ok(());
    }
    let found = if encoded {
        let plain = what.to.with_extension("plain");
        decode(what.to, &plain, left).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => too_large(shown, left),
            io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof => {
                content(format!("claims to be encoded as gzip, but is not: {error}"))
            }
            _ => file_error(error),
        })?;
        fs::rename(&plain, what.to).map_err(file_error)?;
        file_digest(what.to).map_err(file_error)?
    } else {
        found
    };
    match what.sha256 {
        Some(expected) if expected != found => Err(content(format!(
            "has the SHA-256 {found}, expected {expected}"
        ))),
        _ => Ok(()),
    }
}

fn decode(from: &Path, to: &Path, most: u64) -> io::Result<()> {
    let mut decoder = MultiGzDecoder::new(File::open(from)?).take(most.saturating_add(1));
    let bytes = io::copy(&mut decoder, &mut File::create(to)?)?;
    if bytes > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(())
}

/// SHA-256 of a file, lower-case hexadecimal.
///
/// # Errors
/// What the system says.
pub fn file_digest(path: &Path) -> io::Result<String> {
    digest(File::open(path)?)
}

/// SHA-256 of what a file holds, whether it is compressed or not: a service may compress anew.
pub(super) fn content_digest(path: &Path) -> io::Result<String> {
    let mut start = [0; 2];
    File::open(path)?.read_exact(&mut start)?;
    let file = File::open(path)?;
    if start == [0x1f, 0x8b] {
        digest(MultiGzDecoder::new(file))
    } else {
        digest(file)
    }
}

fn digest(mut reader: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
