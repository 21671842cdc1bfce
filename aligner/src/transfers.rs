//! What of a job lies beyond the file system: fetched before it runs, stored after it.
//!
//! In between, everything is files in a work folder, which vanishes with the job. Their names are
//! made from those in the request, of harmless characters only, because they stand in reports.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use alignment_api::{
    Artifact, ArtifactKind, Destination, HttpFile, RequestDocument, ServiceImage, Source, WebUrl,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{
    error::Error,
    io::atomic::hex,
    job::Mounts,
    net::{
        self, HttpSource, Network, ServiceSource, Sink,
        error::NetError,
        image_service::{ImageService, Volume},
    },
    observer::Observer,
    summary,
};

/// Transfers of one job; none, if all its places are claims.
#[derive(Clone, Debug, Default)]
pub struct Transfers {
    network: Arc<Network>,
    work: Option<Arc<TempDir>>,
    inputs: Vec<Input>,
    sink: Option<Arc<dyn Sink>>,
    /// Makes the names of results unique to the request, and the same for each attempt.
    mark: String,
}

#[derive(Clone, Debug)]
struct Input {
    role: String,
    source: Arc<dyn net::Source>,
    path: PathBuf,
}

impl Transfers {
    /// Prepares the transfers of a request; nothing is connected to.
    ///
    /// # Errors
    /// [`Error::Usage`] if the request names credentials and there is no token file.
    pub fn new(document: &RequestDocument, network: &Arc<Network>) -> Result<Self, Error> {
        if document.spec.credentials().is_some() && network.token.is_none() {
            return Err(Error::Usage(
                "the request names credentials: add --token-file FILE with the token of the image \
                 service"
                    .to_owned(),
            ));
        }
        Ok(Self {
            network: network.clone(),
            mark: mark(document),
            ..Self::default()
        })
    }

    /// The file of an input, which may have to be fetched first.
    ///
    /// # Errors
    /// If its place is not mapped or not allowed.
    pub fn source(
        &mut self,
        role: impl Into<String>,
        source: &Source,
        mounts: &Mounts,
    ) -> Result<PathBuf, Error> {
        let role = role.into();
        let (source, name): (Arc<dyn net::Source>, String) = match source {
            Source::Volume(file) => return mounts.below(&file.claim_name, &file.path),
            Source::Http(HttpFile { url, sha256 }) => {
                let url = self.allowed(&role, url)?;
                let (name, sha256) = (url.file_name(), sha256.clone());
                (Arc::new(HttpSource { url, sha256 }), name)
            }
            Source::ImageService(ServiceImage { base_url, name }) => {
                let service = ImageService::new(self.allowed(&role, base_url)?);
                let name = name.clone();
                let source = ServiceSource {
                    service,
                    name: name.clone(),
                };
                (Arc::new(source), name)
            }
        };
        let number = self.inputs.len().to_string();
        let folder = self.work_folder()?.join(number);
        fs::create_dir(&folder).map_err(|error| work_error(&folder, error))?;
        let path = folder.join(file_name(&name));
        self.inputs.push(Input {
            role,
            source,
            path: path.clone(),
        });
        Ok(path)
    }

    /// The folder that results are written to first.
    ///
    /// # Errors
    /// As [`Transfers::source`].
    pub fn destination(
        &mut self,
        destination: &Destination,
        mounts: &Mounts,
    ) -> Result<PathBuf, Error> {
        match destination {
            Destination::Volume(folder) => mounts.below(&folder.claim_name, &folder.path),
            Destination::ImageService(service) => {
                let base = self.allowed("destination", &service.base_url)?;
                self.sink = Some(Arc::new(ImageService::new(base)));
                Ok(self.work_folder()?.join("results"))
            }
        }
    }

    /// Whether results go to a place that is no folder.
    pub fn stores_elsewhere(&self) -> bool {
        self.sink.is_some()
    }

    /// Fetches every input, once the destination was found to answer.
    ///
    /// # Errors
    /// [`Error::Network`] naming the place.
    pub fn fetch(&self, observer: &dyn Observer) -> Result<(), Error> {
        let used = !self.inputs.is_empty() || self.sink.is_some();
        if let (Some(token), true) = (&self.network.token, used)
            && let Some(warning) = token
                .read()
                .map_err(|error| Error::network("credentials", error))?
                .warning(SystemTime::now())
        {
            summary::warn(&warning);
        }
        if let Some(sink) = &self.sink {
            sink.check(&self.network, observer)
                .map_err(|error| Error::network("destination", error))?;
        }
        for input in &self.inputs {
            input
                .source
                .fetch(&input.path, &self.network, observer)
                .map_err(|error| Error::network(&input.role, error))?;
        }
        Ok(())
    }

    /// Stores the results of a folder where they shall go, and gives them the names that they have
    /// there. `labels`: names of the files that hold labels.
    ///
    /// # Errors
    /// [`Error::Network`] naming the place.
    pub fn deliver(
        &self,
        folder: &Path,
        artifacts: &mut [Artifact],
        labels: &[String],
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        let Some(sink) = &self.sink else {
            return Ok(());
        };
        for artifact in &mut *artifacts {
            let volume = Volume {
                file: &folder.join(&artifact.name),
                name: &stored_name(artifact, &self.mark),
                labels: labels.contains(&artifact.name),
            };
            artifact.name = sink
                .store(&volume, &self.network, observer)
                .map_err(|error| Error::network("destination", error))?;
        }
        let names: Vec<&str> = artifacts.iter().map(|artifact| &*artifact.name).collect();
        let layers = sink.layers(&names, &self.network, observer);
        for (artifact, layer) in artifacts.iter_mut().zip(layers) {
            let source = layer.map(|url| format!("precomputed://{}", url.request_text()));
            artifact.neuroglancer_url = source;
        }
        Ok(())
    }

    fn allowed(&self, role: &str, text: &str) -> Result<WebUrl, Error> {
        let invalid = |problem| Error::Usage(format!("{role}: the URL {problem}"));
        let url = WebUrl::parse(text).map_err(invalid)?;
        match self.network.policy.check(&url) {
            Ok(_) => Ok(url),
            Err(problem) => Err(Error::network(
                role,
                NetError::Forbidden {
                    url: url.shown(),
                    problem,
                },
            )),
        }
    }

    fn work_folder(&mut self) -> Result<&Path, Error> {
        if self.work.is_none() {
            let folder = tempfile::Builder::new().prefix("voluba-align.").tempdir();
            let folder = folder.map_err(|error| work_error(&std::env::temp_dir(), error))?;
            self.work = Some(Arc::new(folder));
        }
        Ok(self.work.as_ref().map_or(Path::new(""), |work| work.path()))
    }
}

fn work_error(path: &Path, source: io::Error) -> Error {
    Error::network(
        "work folder",
        NetError::File {
            path: path.to_owned(),
            source,
        },
    )
}

/// The request's uid, cut; without a cluster, a digest of what is asked for.
fn mark(document: &RequestDocument) -> String {
    let of_uid: String = document
        .metadata
        .uid
        .iter()
        .flat_map(|uid| uid.chars())
        .filter(char::is_ascii_hexdigit)
        .take(8)
        .collect();
    if of_uid.len() == 8 {
        return of_uid;
    }
    let text = serde_json::to_vec(&document.spec).unwrap_or_default();
    hex(&Sha256::digest(text))[..8].to_owned()
}

/// `NAME-transformed.nii.gz` becomes `NAME-transformed-<mark>`.
fn stored_name(artifact: &Artifact, mark: &str) -> String {
    let stem = artifact.name.trim_end_matches(".nii.gz");
    let stem = match artifact.kind {
        // VoluBA takes every image for a depth map that has this in its name.
        ArtifactKind::Validity => stem.replace("-equivolumetric-depth-", "-depth-"),
        _ => stem.to_owned(),
    };
    format!("{stem}-{mark}")
}

/// Longest name of a work file in bytes; more is added to it for results.
const LONGEST_FILE_NAME: usize = 100;

/// A harmless name: ASCII letters, digits, `-`, `_` and `.`, the first of them no dot.
fn file_name(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = text
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    let name = name.trim_start_matches('.');
    let cut = name.len().saturating_sub(LONGEST_FILE_NAME);
    // The end tells more than the beginning: the ending, and what series are numbered by.
    let name = name[cut..].trim_start_matches('.');
    if name.is_empty() { "volume" } else { name }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_files_have_harmless_names() {
        for (text, expected) in [
            ("patch.nii.gz", "patch.nii.gz"),
            ("Größe 1:2", "Gr__e_1_2"),
            ("片", "_"),
            ("../../etc/passwd", "_.._etc_passwd"),
            ("..", "volume"),
            ("", "volume"),
            (".hidden", "hidden"),
            ("-rf", "-rf"),
        ] {
            assert_eq!(file_name(text), expected);
        }
        let long = file_name(&format!("{}.nii.gz", "x".repeat(300)));
        assert!(long.len() == 100 && long.ends_with("x.nii.gz"));
    }

    #[test]
    fn names_in_a_service_are_those_of_the_files_and_of_the_request() {
        let stored = |name: &str, kind| {
            let artifact = Artifact {
                name: name.to_owned(),
                kind,
                sha256: String::new(),
                bytes: 0,
                neuroglancer_url: None,
            };
            stored_name(&artifact, "0a1b2c3d")
        };
        assert_eq!(
            stored("nmda-transformed.nii.gz", ArtifactKind::Image),
            "nmda-transformed-0a1b2c3d"
        );
        assert_eq!(
            stored("s-equivolumetric-depth.nii.gz", ArtifactKind::Depth),
            "s-equivolumetric-depth-0a1b2c3d"
        );
        assert_eq!(
            stored(
                "s-equivolumetric-depth-validity.nii.gz",
                ArtifactKind::Validity
            ),
            "s-depth-validity-0a1b2c3d"
        );
    }
}
