//! Faults, and the calls that they befall.

use std::time::Duration;

use crate::{BASE_PATH, Record};

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `GET list`.
    List,
    /// `POST preflight`.
    Preflight,
    /// `POST upload`.
    Upload,
    /// `GET download/…` or `GET /files/…`.
    Download,
    /// Every call.
    Any,
}

impl Call {
    pub(crate) fn is(self, record: &Record) -> bool {
        let below = record.path.strip_prefix(BASE_PATH);
        match self {
            Self::Any => true,
            Self::List => below == Some("/list"),
            Self::Preflight => below == Some("/preflight"),
            Self::Upload => below == Some("/upload"),
            Self::Download => {
                record.path.starts_with("/files/")
                    || below.is_some_and(|path| path.starts_with("/download/"))
            }
        }
    }
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, these headers, this body.
    Answer(u16, Vec<(String, String)>, String),
    /// The answer as it should be, but only so many bytes of its body; then the connection ends.
    Cut(usize),
    /// The same in chunks.
    CutChunks(usize),
    /// The whole answer in chunks.
    Chunks,
    /// The whole answer without a length, ended by the end of the connection.
    NoLength,
    /// Only so many bytes without a length.
    CutNoLength(usize),
    /// A `Content-Length` of so many bytes, and the whole body.
    Claim(u64),
    /// Compressed once more for the transfer.
    Encoded,
    /// Called encoded, but not changed: what some web servers do with every `.gz` file.
    CalledEncoded,
    /// Nothing for so long; then the answer as it should be.
    Late(Duration),
    /// A byte, a pause, a byte, a pause.
    Trickle(Duration),
    /// Headers without end.
    EndlessHead,
    /// A body without end that begins like gzip.
    EndlessBody,
    /// The connection ends before the call has any effect.
    Vanish,
    /// The call has its effect; the connection ends without an answer.
    VanishAfter,
    /// The call has its effect, and is answered with this status.
    StatusAfter(u16),
}

impl Fault {
    /// An answer of a status without anything.
    pub fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), String::new())
    }

    /// A redirect.
    pub fn redirect(status: u16, location: &str) -> Self {
        let header = ("Location".to_owned(), location.to_owned());
        Self::Answer(status, vec![header], String::new())
    }
}
