//! A large file, over as many runs of the program as it takes.
//!
//! What has come lies in the file itself, and the server's name for that version of it (`ETag`) in a
//! note beside it. The next run asks for the rest, under the condition that it is still the same
//! version, where the server has a name for it. The digest has the last word in any case: parts that
//! do not fit are thrown away, and the file is fetched once more in one piece.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use alignment_api::WebUrl;

use super::{
    Network,
    download::{Expected, Partial, Taker, file_digest, lock},
    error::{Fault, NetError},
    exchange::{Ask, MOST_REDIRECTS},
    retry,
};
use crate::stop::{self, Cancel};

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// Where from.
    pub url: &'a WebUrl,
    /// Lower-case hexadecimal.
    pub sha256: &'a str,
    /// Size of the file.
    pub bytes: u64,
    /// The file; it may hold what an earlier run left there.
    pub to: &'a Path,
}

impl Network {
    /// Downloads a file of known size and digest, going on where an earlier run ended. Redirects are
    /// followed to every allowed origin. `limits.download_bytes` is not looked at.
    ///
    /// # Errors
    /// [`NetError`]. What has come is kept for the next run, unless its digest is wrong.
    pub fn load(&self, what: Load<'_>, stop: &dyn Cancel) -> Result<(), NetError> {
        let shown = what.url.shown();
        let note = note_of(what.to);
        let file_error = |source| NetError::File {
            path: what.to.to_owned(),
            source,
        };
        let mut kept = kept(&what, &note);
        loop {
            let from_earlier = kept.bytes > 0;
            let partial = Arc::new(Mutex::new(kept));
            self.load_rounds(&what, &note, &partial, stop)?;
            stop::check(stop)?;
            let found = file_digest(what.to).map_err(file_error)?;
            if found == what.sha256 {
                remove(&note).map_err(file_error)?;
                return Ok(());
            }
            remove(what.to).map_err(file_error)?;
            remove(&note).map_err(file_error)?;
            // In one piece, and still wrong.
            if !from_earlier && !lock(&partial).spliced {
                return Err(NetError::Content {
                    url: shown,
                    problem: format!("has the SHA-256 {found}, expected {}", what.sha256),
                });
            }
            kept = Partial::default();
        }
    }

    /// As many rounds of tries as bring the file forward.
    fn load_rounds(
        &self,
        what: &Load<'_>,
        note: &Path,
        partial: &Arc<Mutex<Partial>>,
        stop: &dyn Cancel,
    ) -> Result<(), NetError> {
        loop {
            let before = lock(partial).bytes;
            if before == what.bytes {
                return Ok(());
            }
            let round = retry::until_done(self, &what.url.shown(), stop, || {
                self.load_once(what, note, partial, stop)
            });
            match round {
                Err(NetError::Unavailable { .. }) if lock(partial).bytes > before => {}
                done => return done,
            }
        }
    }

    fn load_once(
        &self,
        what: &Load<'_>,
        note: &Path,
        partial: &Arc<Mutex<Partial>>,
        stop: &dyn Cancel,
    ) -> Result<(), Fault> {
        let mut url = what.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let known = lock(partial).clone();
            let mut ask = Ask::get(url, None);
            if known.bytes > 0 {
                ask.headers
                    .push(("Range", format!("bytes={}-", known.bytes)));
                let version = known.version.into_iter();
                ask.headers
                    .extend(version.map(|version| ("If-Range", version)));
            }
            let taker = Taker {
                to: what.to.to_owned(),
                left: what.bytes,
                expected: Expected::Bytes {
                    exact: what.bytes,
                    note: note.to_owned(),
                },
                partial: partial.clone(),
            };
            match self.exchange(ask, stop, move |reply| taker.take(reply)) {
                Err(Fault::Elsewhere { next, .. }) => url = *next,
                done => return done,
            }
        }
        Err(NetError::Forbidden {
            url: what.url.shown(),
            problem: format!("redirects more than {MOST_REDIRECTS} times"),
        }
        .into())
    }
}

/// The note beside a file.
fn note_of(file: &Path) -> PathBuf {
    file.with_extension("note")
}

/// What an earlier run left; nothing, if it cannot be the beginning of this file.
fn kept(what: &Load<'_>, note: &Path) -> Partial {
    let bytes = fs::metadata(what.to).map_or(0, |metadata| metadata.len());
    if bytes == 0 || bytes > what.bytes {
        return Partial::default();
    }
    let version = fs::read_to_string(note).ok();
    Partial {
        bytes,
        version: version
            .filter(|text| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic())),
        ..Partial::default()
    }
}

/// Notes the version of the file that is being loaded, whole or not at all.
pub(super) fn write_note(note: &Path, version: Option<&str>) -> Result<(), Fault> {
    let write = || -> io::Result<()> {
        let Some(version) = version else {
            return remove(note);
        };
        let draft = note.with_extension("draft");
        fs::write(&draft, version)?;
        share(&File::open(&draft)?);
        fs::rename(&draft, note)
    };
    write().map_err(|source| {
        NetError::File {
            path: note.to_owned(),
            source,
        }
        .into()
    })
}

/// Lets the group write: the next run may be another user of the same group, as on OpenShift.
pub(super) fn share(file: &File) {
    // Who did not make the file cannot, and need not.
    let _ = file.set_permissions(Permissions::from_mode(0o664));
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
