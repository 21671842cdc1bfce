//! An image service for tests: what a real one does, a journal of what it was asked, and faults by
//! script. Also a plain web server, for files below `/files/`.
//!
//! It keeps everything in memory, trusts nobody's safety, and is never part of an image.

mod http;
mod nifti;
mod operations;
mod script;

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

pub use http::Record;
pub use script::{Call, Fault};

/// Path of the service below its origin: never the root.
pub const BASE_PATH: &str = "/chumni/v1";

/// A stored image.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Identifier: the file name without `.nii` or `.nii.gz`.
    pub name: String,
    /// Name as given.
    pub file_name: String,
    /// Bytes as given.
    pub bytes: Vec<u8>,
    /// Token of its owner; none for a public image.
    pub owner: Option<String>,
    /// Whether its values are labels.
    pub segmentation: bool,
    /// 56 hexadecimal digits in the path that viewers use.
    pub secret: String,
    /// Lists that still leave it out.
    pub hidden_for: u32,
}

/// How the service deviates from the plain one, for good.
#[derive(Clone, Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one independent habit, named where it is set"
)]
pub struct Habits {
    /// A taken name is noticed at the upload only.
    pub blind_preflight: bool,
    /// Stored names get this at their end.
    pub rename: Option<String>,
    /// New images are missing from so many lists.
    pub list_delay: u32,
    /// Stored files are compressed anew, so that their bytes differ.
    pub recompress: bool,
    /// Entries have no `extra.neuroglancer`, numbers as strings, and unknown fields.
    pub odd_entries: bool,
    /// Answers carry an `ETag`, and parts of files are given out.
    pub ranges: bool,
}

#[derive(Debug, Default)]
struct State {
    tokens: Vec<String>,
    images: Vec<Stored>,
    files: BTreeMap<String, Vec<u8>>,
    habits: Habits,
    script: Vec<(Call, u32, Fault)>,
    journal: Vec<Record>,
    uploads: u32,
    connections: u32,
}

type Shared = Arc<Mutex<State>>;

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running service; it runs until the process ends.
#[derive(Clone, Debug)]
pub struct FakeService {
    address: SocketAddr,
    state: Shared,
}

impl FakeService {
    /// Starts a service on this machine at any free port.
    ///
    /// # Errors
    /// If no port can be listened to.
    pub fn start() -> io::Result<Self> {
        Self::listen("127.0.0.1:0")
    }

    /// Starts a service at an address.
    ///
    /// # Errors
    /// If it cannot be listened to.
    pub fn listen(address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let service = Self {
            address: listener.local_addr()?,
            state: Shared::default(),
        };
        let state = service.state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = state.clone();
                lock(&state).connections += 1;
                // A client that goes away is the client's business.
                thread::spawn(move || drop(http::serve(&stream, &state)));
            }
        });
        Ok(service)
    }

    /// `http://ADDRESS:PORT`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Base URL of the image service, without a slash at its end.
    pub fn base(&self) -> String {
        format!("{}{BASE_PATH}", self.origin())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts a token from now on.
    pub fn accept(&self, token: &str) {
        lock(&self.state).tokens.push(token.to_owned());
    }

    /// Accepts a token no longer.
    pub fn revoke(&self, token: &str) {
        lock(&self.state).tokens.retain(|known| known != token);
    }

    /// Deviates from now on.
    pub fn behave(&self, habits: Habits) {
        lock(&self.state).habits = habits;
    }

    /// The next `times` calls of a kind end in a fault, after those that were named before.
    pub fn fail(&self, call: Call, times: u32, fault: Fault) {
        lock(&self.state).script.push((call, times, fault));
    }

    /// Stores an image, of a token or public.
    pub fn put(&self, owner: Option<&str>, file_name: &str, bytes: Vec<u8>) {
        let mut state = lock(&self.state);
        let image = operations::stored(file_name, bytes, owner, false, state.images.len());
        state.images.push(image);
    }

    /// Stores a segmentation of a token.
    pub fn put_segmentation(&self, owner: &str, file_name: &str, bytes: Vec<u8>) {
        let mut state = lock(&self.state);
        let number = state.images.len();
        let image = operations::stored(file_name, bytes, Some(owner), true, number);
        state.images.push(image);
    }

    /// Gives out a file below `/files/`, to everybody; returns its URL.
    pub fn put_file(&self, name: &str, bytes: Vec<u8>) -> String {
        lock(&self.state).files.insert(name.to_owned(), bytes);
        format!("{}/files/{name}", self.origin())
    }

    /// All images.
    pub fn images(&self) -> Vec<Stored> {
        lock(&self.state).images.clone()
    }

    /// Every request so far.
    pub fn journal(&self) -> Vec<Record> {
        lock(&self.state).journal.clone()
    }

    /// Requests of a kind so far.
    pub fn count(&self, call: Call) -> usize {
        let state = lock(&self.state);
        let calls = state.journal.iter();
        calls.filter(|record| call.is(record)).count()
    }

    /// Uploads that were stored so far, deleted ones included.
    pub fn uploads(&self) -> u32 {
        lock(&self.state).uploads
    }

    /// Connections so far.
    pub fn connections(&self) -> u32 {
        lock(&self.state).connections
    }
}
