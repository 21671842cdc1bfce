//! Inputs from web servers and an image service, results to one: against a server that does what
//! real ones do, and what they should not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken expectation fails the test"
)]

mod downloads;
mod forbidden;
mod pictures;
mod program;
mod secure;
mod uploads;

use std::{
    fs,
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aligner::{
    net::{
        HttpSource, Network, Source,
        error::NetError,
        image_service::ImageService,
        limits::{Clock, Limits},
        policy::Policy,
        token::{TokenFile, TokenSource},
    },
    observer::{Cancel, Interrupted, Silent},
};
use alignment_api::{ExitCode, Origin, WebUrl};
use fake_image_service::{Call, FakeService};
use flate2::{Compression, write::GzEncoder};

/// What must be found nowhere but in the header `Authorization`.
pub(crate) const TOKEN: &str = "canary-e30.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl";
/// What answers say, and messages must not.
pub(crate) const REPLY: &str = "canary-of-the-reply";

/// Time in which pauses pass at once.
#[derive(Debug)]
pub(crate) struct FastClock {
    began: Instant,
    skipped_ms: AtomicU64,
}

impl FastClock {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            skipped_ms: AtomicU64::new(0),
        })
    }
}

impl Clock for FastClock {
    fn now(&self) -> Duration {
        self.began.elapsed() + Duration::from_millis(self.skipped_ms.load(Ordering::Relaxed))
    }

    fn pause(&self, time: Duration, _: &dyn Cancel) -> Result<(), Interrupted> {
        let ms = time.as_millis() as u64;
        self.skipped_ms.fetch_add(ms, Ordering::Relaxed);
        Ok(())
    }
}

/// A volume of 4 × 4 × 4 voxels of 0.1 mm; its values differ by the seed.
pub(crate) fn plain_volume(seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; 352];
    bytes[..4].copy_from_slice(&348_i32.to_le_bytes());
    for (index, value) in [3_i16, 4, 4, 4, 1, 1, 1, 1].into_iter().enumerate() {
        bytes[40 + 2 * index..42 + 2 * index].copy_from_slice(&value.to_le_bytes());
    }
    bytes[70..72].copy_from_slice(&2_i16.to_le_bytes());
    bytes[72..74].copy_from_slice(&8_i16.to_le_bytes());
    for (index, value) in [1_f32, 0.1, 0.1, 0.1].into_iter().enumerate() {
        bytes[76 + 4 * index..80 + 4 * index].copy_from_slice(&value.to_le_bytes());
    }
    bytes[108..112].copy_from_slice(&352_f32.to_le_bytes());
    bytes[112..116].copy_from_slice(&1_f32.to_le_bytes());
    bytes[123] = 2;
    bytes[344..348].copy_from_slice(b"n+1\0");
    // Nothing that compresses well.
    let mut state = u32::from(seed) + 1;
    for _ in 0..64 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.push((state >> 24) as u8);
    }
    bytes
}

pub(crate) fn volume(seed: u8) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&plain_volume(seed)).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    aligner::io::atomic::hex(&sha2::Sha256::digest(bytes))
}

pub(crate) fn origin(text: &str) -> Origin {
    Origin::parse(text).unwrap()
}

pub(crate) fn url(text: &str) -> WebUrl {
    WebUrl::parse(text).unwrap()
}

/// A server, a token that it accepts, and a network that may reach it.
pub(crate) struct Scene {
    pub(crate) server: FakeService,
    pub(crate) network: Network,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: Arc<FastClock>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let server = FakeService::start().unwrap();
        server.accept(TOKEN);
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        fs::write(&token, format!("{TOKEN}\n")).unwrap();
        let clock = FastClock::new();
        let network = Network {
            policy: Policy::new(&[], &[origin(&server.origin())]),
            token: Some(TokenSource::File(TokenFile(token))),
            clock: clock.clone(),
            limits: Limits {
                window: Duration::from_millis(400),
                window_bytes: 4000,
                download_bytes: 1 << 20,
                ..Limits::default()
            },
            ..Network::default()
        };
        Self {
            server,
            network,
            folder,
            clock,
        }
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.folder.path().join("input")
    }

    pub(crate) fn service(&self) -> ImageService {
        ImageService::new(url(&self.server.base()))
    }

    /// Fetches an image by its name; its bytes.
    pub(crate) fn fetch_image(&self, name: &str) -> Result<Vec<u8>, NetError> {
        self.service()
            .fetch(name, &self.target(), &self.network, &Silent)?;
        Ok(fs::read(self.target()).unwrap())
    }

    /// Fetches a file of which the digest is known; its bytes.
    pub(crate) fn fetch_file(&self, text: &str, sha256: &str) -> Result<Vec<u8>, NetError> {
        let source = HttpSource {
            url: url(text),
            sha256: sha256.to_owned(),
        };
        source.fetch(&self.target(), &self.network, &Silent)?;
        Ok(fs::read(self.target()).unwrap())
    }

    /// A failure ends with its code, within the limits, and tells no secret.
    #[track_caller]
    pub(crate) fn assert_fails<T>(&self, result: Result<T, NetError>, expected: ExitCode) {
        let Err(error) = result else {
            panic!("succeeded, expected {expected:?}");
        };
        assert_eq!(error.exit_code(), expected, "{error}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(self.clock.now() < Duration::from_secs(300));
    }

    /// The token went in one header to one place, and nowhere else.
    pub(crate) fn assert_token_is_kept(&self) {
        for record in self.server.journal() {
            let rest = format!("{} {:?}", record.path, record.query);
            assert!(!rest.contains("canary"), "{rest}");
            for (name, value) in &record.headers {
                assert!(
                    name == "authorization" || !value.contains("canary"),
                    "{name}"
                );
            }
        }
    }

    pub(crate) fn tries(&self, call: Call) -> usize {
        self.server.count(call)
    }

    /// Whether so many calls have come. On a busy machine the server reads some when their client has
    /// left already.
    pub(crate) fn were_tried(&self, call: Call, times: usize) -> bool {
        let end = Instant::now() + Duration::from_secs(5);
        while self.tries(call) < times && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.tries(call) == times
    }
}
