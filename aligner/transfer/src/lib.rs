//! Files beyond the file system: web servers and an image service. The aligner fetches its inputs
//! and stores its results with this, the operator loads the static data.
//!
//! | Question | Where |
//! |---|---|
//! | which URLs, which addresses | [`policy`], `address`: pure |
//! | how names become addresses that were judged | `connect` |
//! | one request and its answer, watched | `exchange`, on a [`worker`] |
//! | when to try again | `retry`: pure but for its loop |
//! | a whole file or none | `download` |
//! | a large file, over several runs of a program | `resume` |
//! | the image service | [`image_service`] |
//! | the token | [`token`] |
//! | how it learns that it should stop | [`stop`] |
//!
//! An answer is read for its status and its data; no word of it reaches a message.

pub mod address;
pub mod connect;
mod document;
mod download;
pub mod error;
mod exchange;
pub mod image_service;
pub mod limits;
mod multipart;
pub mod policy;
mod resume;
mod retry;
pub mod stop;
pub mod token;
pub mod worker;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use alignment_api::WebUrl;
pub use ureq::tls::RootCerts;
use ureq::tls::{Certificate, PemItem, parse_pem};

use crate::stop::Cancel;
use connect::{Lookup, SystemLookup, Tcp, Wire};
use download::Download;
pub use download::file_digest;
use error::NetError;
use image_service::{ImageService, Volume};
use limits::{Clock, Limits, SystemClock};
use policy::Policy;
pub use resume::Load;
use token::TokenSource;
use worker::{Threads, Workers};

/// What transfers need to know.
#[derive(Debug)]
pub struct Network {
    /// Which origins.
    pub policy: Policy,
    /// How long and how much.
    pub limits: Limits,
    /// Where the token comes from.
    pub token: Option<TokenSource>,
    /// In which time.
    pub clock: Arc<dyn Clock>,
    /// Who knows names.
    pub lookup: Arc<dyn Lookup>,
    /// By which way.
    pub wire: Arc<dyn Wire>,
    /// Where exchanges run.
    pub workers: Arc<dyn Workers>,
    /// Which certificate authorities are trusted.
    pub roots: RootCerts,
    /// Bytes that downloads have taken so far.
    pub downloaded: AtomicU64,
}

impl Default for Network {
    /// No origin is allowed.
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            limits: Limits::default(),
            token: None,
            clock: Arc::new(SystemClock::default()),
            lookup: Arc::new(SystemLookup),
            wire: Arc::new(Tcp),
            workers: Arc::new(Threads),
            roots: RootCerts::WebPki,
            downloaded: AtomicU64::new(0),
        }
    }
}

/// Reads certificate authorities, to be trusted in place of the built-in ones.
///
/// # Errors
/// What is wrong with the file.
pub fn read_authorities(path: &Path) -> Result<RootCerts, String> {
    let fail = |problem: String| format!("`{}`: {problem}", path.display());
    let text = std::fs::read(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
    let mut found: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&text) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(fail(format!("is not PEM: {error}"))),
        }
    }
    if found.is_empty() {
        return Err(fail("holds no certificate".to_owned()));
    }
    Ok(RootCerts::new_with_certs(&found))
}

/// Where an input comes from.
pub trait Source: std::fmt::Debug + Send + Sync {
    /// Makes it a file, whole.
    ///
    /// # Errors
    /// [`NetError`].
    fn fetch(&self, to: &Path, network: &Network, stop: &dyn Cancel) -> Result<(), NetError>;
}

/// Where results go.
pub trait Sink: std::fmt::Debug + Send + Sync {
    /// Finds out, before hours of computing, whether it is there and takes the credentials.
    ///
    /// # Errors
    /// [`NetError`].
    fn check(&self, network: &Network, stop: &dyn Cancel) -> Result<(), NetError>;

    /// Stores a volume under a name; gives the name that it has there. Stored twice, it is there
    /// once.
    ///
    /// # Errors
    /// [`NetError`].
    fn store(
        &self,
        volume: &Volume<'_>,
        network: &Network,
        stop: &dyn Cancel,
    ) -> Result<String, NetError>;

    /// Where viewers find stored volumes, in the order of their names; none where they do not, or
    /// where it cannot be found out: the volumes are stored all the same.
    fn layers(&self, names: &[&str], network: &Network, stop: &dyn Cancel) -> Vec<Option<WebUrl>>;
}

/// A file on a web server.
#[derive(Clone, Debug)]
pub struct HttpSource {
    /// Where.
    pub url: WebUrl,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

impl Source for HttpSource {
    fn fetch(&self, to: &Path, network: &Network, stop: &dyn Cancel) -> Result<(), NetError> {
        let download = Download {
            url: &self.url,
            token_below: None,
            sha256: Some(&self.sha256),
            to,
        };
        network.download(download, stop)
    }
}

/// An image of an image service.
#[derive(Clone, Debug)]
pub struct ServiceSource {
    /// The service.
    pub service: ImageService,
    /// Name of the image.
    pub name: String,
}

impl Source for ServiceSource {
    fn fetch(&self, to: &Path, network: &Network, stop: &dyn Cancel) -> Result<(), NetError> {
        self.service.fetch(&self.name, to, network, stop)
    }
}

impl Sink for ImageService {
    fn check(&self, network: &Network, stop: &dyn Cancel) -> Result<(), NetError> {
        Self::check(self, network, stop)
    }

    fn store(
        &self,
        volume: &Volume<'_>,
        network: &Network,
        stop: &dyn Cancel,
    ) -> Result<String, NetError> {
        Self::store(self, volume, network, stop)
    }

    fn layers(&self, names: &[&str], network: &Network, stop: &dyn Cancel) -> Vec<Option<WebUrl>> {
        Self::layers(self, names, network, stop)
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
