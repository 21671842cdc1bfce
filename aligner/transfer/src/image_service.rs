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
use crate::stop::Cancel;

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
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    /// What the image is called.
    pub name: String,
    /// Whatever is there: what is odd in it is no reason to not see the name.
    #[serde(default)]
    links: serde_json::Value,
    #[serde(default)]
    extra: serde_json::Value,
}

impl Entry {
    /// Whether its values are labels. Where the service does not say, they are not.
    pub fn is_segmentation(&self) -> bool {
        let type_ = self.extra.pointer("/neuroglancer/type");
        type_.and_then(serde_json::Value::as_str) == Some("segmentation")
    }
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
    pub fn check(&self, network: &Network, stop: &dyn Cancel) -> Result<(), NetError> {
        self.entries(network, stop).map(|_| ())
    }

    /// Where viewers find images, in the order of their names.
    pub fn layers(
        &self,
        names: &[&str],
        network: &Network,
        stop: &dyn Cancel,
    ) -> Vec<Option<WebUrl>> {
        let entries = self.entries(network, stop).unwrap_or_default();
        let layer = |name: &&str| {
            let entry = entries.iter().find(|entry| entry.name == **name)?;
            layer_url(&self.base, entry.links.get("normalized")?.as_str()?)
        };
        names.iter().map(layer).collect()
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
        stop: &dyn Cancel,
    ) -> Result<(), NetError> {
        let mut last = None;
        // Images that were uploaded uncompressed are not given out compressed.
        for ending in [".nii.gz", ".nii", ""] {
            let url = self.base.child(&["download", &format!("{name}{ending}")]);
            let download = Download {
                url: &url,
                token_below: Some(&self.base),
                sha256: None,
                to,
            };
            match network.download(download, stop) {
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
        stop: &dyn Cancel,
    ) -> Result<String, NetError> {
        let shown = self.base.child(&["upload"]).shown();
        let boundary = file_digest(volume.file).map_err(|source| NetError::File {
            path: volume.file.to_owned(),
            source,
        })?;
        // A look at the list, and after an upload that may have succeeded, more than one.
        let mut looks = 1;
        let sent = retry::until_done(network, &shown, stop, || {
            if let Some(name) = self.find(volume.name, looks, network, stop)? {
                return Ok(Sent::Taken(name));
            }
            let preflight = self.post("preflight", volume, &boundary, network, stop)?;
            if let Sent::Taken(_) = preflight {
                return Ok(preflight);
            }
            looks = LIST_PAUSES.len();
            self.post("upload", volume, &boundary, network, stop)
        })?;
        match sent {
            Sent::Stored(name) => Ok(name),
            Sent::Taken(name) => self.compare(volume, name, network, stop),
        }
    }

    /// All images that the token may see.
    ///
    /// # Errors
    /// [`NetError`].
    pub fn entries(&self, network: &Network, stop: &dyn Cancel) -> Result<Vec<Entry>, NetError> {
        let url = self.base.child(&["list"]);
        retry::until_done(network, &url.shown(), stop, || self.ask_list(network, stop))
    }

    /// The list, asked for once.
    fn ask_list(&self, network: &Network, stop: &dyn Cancel) -> Result<Vec<Entry>, Fault> {
        let most = network.limits.list_bytes;
        let ask = Ask::get(self.base.child(&["list"]), Some(&self.base));
        network.exchange(ask, stop, move |reply| {
            status_fault(&reply)?;
            json(reply, most)
        })
    }

    /// The name by which a volume is listed; a service that renames appends something.
    fn find(
        &self,
        wanted: &str,
        looks: usize,
        network: &Network,
        stop: &dyn Cancel,
    ) -> Result<Option<String>, Fault> {
        for seconds in LIST_PAUSES.into_iter().take(looks) {
            let pause = Duration::from_secs(seconds);
            network.clock.pause(pause, stop)?;
            let entries = self.ask_list(network, stop)?;
            let exact = entries.iter().find(|entry| entry.name == wanted);
            let renamed = || entries.iter().find(|entry| entry.name.starts_with(wanted));
            if let Some(entry) = exact.or_else(renamed) {
                return Ok(Some(entry.name.clone()));
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
        stop: &dyn Cancel,
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
            token_below: Some(self.base.clone()),
            upload: Some(form),
        };
        let most = network.limits.list_bytes;
        let sent = network.exchange(ask, stop, move |reply| read_upload_answer(reply, most))?;
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
        stop: &dyn Cancel,
    ) -> Result<String, NetError> {
        let stored = volume.file.with_extension("stored");
        let taken = || NetError::Refused {
            url: self.base.shown(),
            problem: format!("another image has the name `{name}` that the result shall have"),
        };
        self.fetch(&name, &stored, network, stop)
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

/// Longest path of a layer in bytes.
const LONGEST_LAYER_PATH: usize = 512;

/// A link of an entry: it begins with a slash, but is meant below the base URL.
fn layer_url(base: &WebUrl, link: &str) -> Option<WebUrl> {
    let link = link.strip_prefix('/').unwrap_or(link);
    let parts: Vec<&str> = link.split('/').collect();
    let odd = |part: &&str| matches!(*part, "" | "." | "..");
    if link.len() > LONGEST_LAYER_PATH || parts.iter().any(odd) {
        return None;
    }
    // As it stands, if that is a URL; a name that is not encoded is encoded.
    let text = base.request_text();
    WebUrl::parse(&format!("{}/{link}", text.trim_end_matches('/')))
        .ok()
        .filter(|url| !url.has_query() && !base.has_query())
        .or_else(|| Some(base.child(&parts)))
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

pub(super) fn json<T: serde::de::DeserializeOwned>(reply: Reply, most: u64) -> Result<T, Fault> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_lie_below_the_base_whatever_their_link_says() {
        let base = WebUrl::parse("https://a.example/chumni/v1/").unwrap();
        let layer = |link: &str| layer_url(&base, link).map(|url| url.request_text());
        assert_eq!(
            layer("/nifti/0a1b/my patch").unwrap(),
            "https://a.example/chumni/v1/nifti/0a1b/my%20patch"
        );
        assert_eq!(
            layer("/nifti/0a1b/my%20patch").unwrap(),
            "https://a.example/chumni/v1/nifti/0a1b/my%20patch"
        );
        assert_eq!(
            layer("nifti/x?y#z").unwrap(),
            "https://a.example/chumni/v1/nifti/x%3Fy%23z"
        );
        for link in [
            "",
            "/",
            "//evil.example/x",
            "/../x",
            "/a/./b",
            &"x".repeat(600),
        ] {
            assert_eq!(layer(link), None, "{link}");
        }
    }
}
