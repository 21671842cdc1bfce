//! The image service: its list, its downloads, its uploads.
//!
//! An upload may succeed without its answer arriving. So nothing is sent again before the list was
//! asked, and what is already there under the wanted name is compared, not replaced: two pods that
//! race leave one image.

use std::{path::Path, time::Duration};

use alignment_api::WebUrl;
use serde::Deserialize;

use super::{
    Network,
    download::{Download, content_digest, file_digest},
    error::{Fault, NetError},
    exchange::{Ask, Reply, status_fault},
    multipart::Multipart,
    retry,
};
use crate::observer::Observer;

/// An image service at its base URL.
#[derive(Clone, Debug)]
pub struct ImageService {
    base: WebUrl,
}

/// A volume to store.
#[derive(Clone, Copy, Debug)]
pub struct Volume<'a> {
    /// A gzip-compressed NIfTI file.
    pub file: &'a Path,
    /// The name that the service shall list it by.
    pub name: &'a str,
    /// Whether its values are labels.
    pub labels: bool,
}

/// An entry of the list; the rest of it does not matter here.
#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
}

/// What an upload answers.
#[derive(Debug, Deserialize)]
struct Stored {
    #[serde(rename = "fileName")]
    file_name: Option<String>,
}

/// How much of a file the service wants to see beforehand.
const PREFLIGHT_BYTES: u64 = 2048;
/// Pauses before the list is asked again, in seconds: a new image may show late.
const LIST_PAUSES: [u64; 4] = [0, 1, 2, 4];

/// What became of an upload.
enum Sent {
    /// It is stored under this name.
    Stored(String),
    /// There is an image already, by this name.
    Taken(String),
}

impl ImageService {
    /// A service at a base URL, with or without a slash at the end.
    pub fn new(base: WebUrl) -> Self {
        Self { base }
    }

    /// Whether the service answers, and takes the token. Asked before hours of computing.
    ///
    /// # Errors
    /// [`NetError`].
    pub fn check(&self, network: &Network, observer: &dyn Observer) -> Result<(), NetError> {
        self.names(network, observer).map(|_| ())
    }

    /// Fetches an image into a file.
    ///
    /// # Errors
    /// [`NetError`]; [`NetError::NotFound`] if there is none in any of the three forms.
    pub fn fetch(
        &self,
        name: &str,
        to: &Path,
        network: &Network,
        observer: &dyn Observer,
    ) -> Result<(), NetError> {
        let mut last = None;
        // Images that were uploaded uncompressed are not given out compressed.
        for ending in [".nii.gz", ".nii", ""] {
            let url = self.base.child(&["download", &format!("{name}{ending}")]);
            let download = Download {
                url: &url,
                with_token: true,
                sha256: None,
                to,
            };
            match network.download(download, observer) {
                Err(error @ NetError::NotFound { .. }) => last = last.or(Some(error)),
                other => return other,
            }
        }
        last.map_or(Ok(()), Err)
    }

    /// Stores a volume, unless it is stored already; gives the name that it has there.
    ///
    /// # Errors
    /// [`NetError`]; [`NetError::Refused`] if another image has the name.
    pub fn store(
        &self,
        volume: &Volume<'_>,
        network: &Network,
        observer: &dyn Observer,
    ) -> Result<String, NetError> {
        let shown = self.base.child(&["upload"]).shown();
        let boundary = file_digest(volume.file).map_err(|source| NetError::File {
            path: volume.file.to_owned(),
            source,
        })?;
        // A look at the list, and after an upload that may have succeeded, more than one.
        let mut looks = 1;
        let sent = retry::until_done(network, &shown, observer, || {
            if let Some(name) = self.find(volume.name, looks, network, observer)? {
                return Ok(Sent::Taken(name));
            }
            let preflight = self.post("preflight", volume, &boundary, network, observer)?;
            if let Sent::Taken(_) = preflight {
                return Ok(preflight);
            }
            looks = LIST_PAUSES.len();
            self.post("upload", volume, &boundary, network, observer)
        })?;
        match sent {
            Sent::Stored(name) => Ok(name),
            Sent::Taken(name) => self.compare(volume, name, network, observer),
        }
    }

    /// Names of all images that the token may see.
    fn names(&self, network: &Network, observer: &dyn Observer) -> Result<Vec<String>, NetError> {
        let url = self.base.child(&["list"]);
        retry::until_done(network, &url.shown(), observer, || {
            ask_names(&url, network, observer)
        })
    }

    /// The name by which a volume is listed; a service that renames appends something.
    fn find(
        &self,
        wanted: &str,
        looks: usize,
        network: &Network,
        observer: &dyn Observer,
    ) -> Result<Option<String>, Fault> {
        let url = self.base.child(&["list"]);
        for seconds in LIST_PAUSES.into_iter().take(looks) {
            let pause = Duration::from_secs(seconds);
            network.clock.pause(pause, observer)?;
            let names = ask_names(&url, network, observer)?;
            let exact = names.iter().find(|name| *name == wanted);
            let renamed = || names.iter().find(|name| name.starts_with(wanted));
            if let Some(name) = exact.or_else(renamed) {
                return Ok(Some(name.clone()));
            }
        }
        Ok(None)
    }

    fn post(
        &self,
        to: &'static str,
        volume: &Volume<'_>,
        boundary: &str,
        network: &Network,
        observer: &dyn Observer,
    ) -> Result<Sent, Fault> {
        let file_error = |source| NetError::File {
            path: volume.file.to_owned(),
            source,
        };
        let whole = to == "upload";
        let most = if whole { u64::MAX } else { PREFLIGHT_BYTES };
        let file_name = format!("{}.nii.gz", volume.name);
        let form = Multipart::new(volume.file, &file_name, boundary, most).map_err(file_error)?;
        let bytes = std::fs::metadata(volume.file).map_err(file_error)?.len();
        let mut headers = vec![("X-CHUNMA-FILESIZE", bytes.to_string())];
        if volume.labels {
            headers.push(("X-CHUNMA-SEGMENTATION", "true".to_owned()));
        }
        let ask = Ask {
            url: self.base.child(&[to]),
            headers,
            with_token: true,
            upload: Some(form),
        };
        let most = network.limits.list_bytes;
        let sent = network.exchange(ask, observer, move |reply| read_upload_answer(reply, most))?;
        Ok(match sent {
            None => Sent::Taken(volume.name.to_owned()),
            Some(file_name) => Sent::Stored(file_name),
        })
    }

    /// An image of the wanted name is there: ours, of an earlier attempt, or another one.
    fn compare(
        &self,
        volume: &Volume<'_>,
        name: String,
        network: &Network,
        observer: &dyn Observer,
    ) -> Result<String, NetError> {
        let stored = volume.file.with_extension("stored");
        let taken = || NetError::Refused {
            url: self.base.shown(),
            problem: format!("another image has the name `{name}` that the result shall have"),
        };
        self.fetch(&name, &stored, network, observer)
            .map_err(|error| match error {
                // Somebody else's, which the token may not see.
                NetError::NotFound { .. } => taken(),
                error => error,
            })?;
        let digest = |path: &Path| {
            content_digest(path).map_err(|source| NetError::File {
                path: path.to_owned(),
                source,
            })
        };
        // What cannot be unpacked is not what was sent.
        let same = content_digest(&stored).ok() == Some(digest(volume.file)?);
        let _ = std::fs::remove_file(&stored);
        if same { Ok(name) } else { Err(taken()) }
    }
}

/// Names of the list, asked once.
fn ask_names(
    url: &WebUrl,
    network: &Network,
    observer: &dyn Observer,
) -> Result<Vec<String>, Fault> {
    let most = network.limits.list_bytes;
    let ask = Ask::get(url.clone(), true);
    network.exchange(ask, observer, move |reply| {
        status_fault(&reply)?;
        let entries: Vec<Entry> = json(reply, most)?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    })
}

/// The stored name without its ending; none if the name is taken.
fn read_upload_answer(reply: Reply, most: u64) -> Result<Option<String>, Fault> {
    match reply.status {
        409 => return Ok(None),
        401 | 403 | 408 | 425 | 429 | 500..=599 | 200..=299 => status_fault(&reply)?,
        status => {
            return Err(NetError::Refused {
                url: reply.shown,
                problem: format!("answers {status}: the service does not take the image"),
            }
            .into());
        }
    }
    let shown = reply.shown.clone();
    let stored: Stored = json(reply, most)?;
    let name = stored.file_name.as_deref().and_then(|name| {
        let stem = name.strip_suffix(".gz").unwrap_or(name);
        stem.strip_suffix(".nii")
    });
    name.map(|name| Some(name.to_owned())).ok_or_else(|| {
        Fault::Final(NetError::Content {
            url: shown,
            problem: "does not say under which name the image is stored".to_owned(),
        })
    })
}

fn json<T: serde::de::DeserializeOwned>(reply: Reply, most: u64) -> Result<T, Fault> {
    use std::io::Read;
    let Reply {
        body,
        shown,
        status,
        ..
    } = reply;
    let mut text = Vec::new();
    body.take(most.saturating_add(1))
        .read_to_end(&mut text)
        .map_err(|error| Fault::passing(super::exchange::connection_problem(&error)))?;
    let content = |problem: String| {
        Fault::Final(NetError::Content {
            url: shown.clone(),
            problem,
        })
    };
    if text.len() as u64 > most {
        return Err(content(format!("answers with more than {most} bytes")));
    }
    serde_json::from_slice(&text).map_err(|_| {
        content(format!(
            "answers {status} with what is not the JSON of an image service"
        ))
    })
}
