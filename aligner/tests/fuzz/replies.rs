//! Answers of an image service and of a web server, through the client: HTTP, JSON, files, errors.
//! Nothing travels, nobody waits; the client is the one that runs.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aligner::{
    io::atomic::hex,
    net::{
        HttpSource, Network, Source,
        connect::Lookup,
        error::NetError,
        image_service::{ImageService, Volume},
        limits::{Clock, Limits},
        policy::Policy,
        token::{TokenFile, TokenSource},
        worker::{Work, Workers},
    },
    observer::{Cancel, Interrupted, Silent},
};
use alignment_api::{Origin, WebUrl};
use fastrand::Rng;
use sha2::{Digest, Sha256};

use crate::{
    FURTHER, MEMORY, Reached, mutate, nifti_file,
    wire::{HOST, Server},
};

/// What must be found nowhere but in the header `Authorization`.
const TOKEN: &str = "canary-token";
/// What answers say, and messages must not.
const WORDS: &str = "canary-words";
/// The name that a result shall have.
const NAME: &str = "patch-transformed-0a1b2c3d";
/// Buffers of one exchange, and of what follows it, whatever is answered.
const BUFFERS: usize = 4 << 20;

/// Time in which pauses pass at once.
#[derive(Debug, Default)]
struct FastClock(AtomicU64);

impl Clock for FastClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn pause(&self, time: Duration, _: &dyn Cancel) -> Result<(), Interrupted> {
        self.0.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
        Ok(())
    }
}

#[derive(Debug)]
struct OneAddress;

impl Lookup for OneAddress {
    fn addresses(&self, _: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::from(([1, 1, 1, 1], port))])
    }
}

/// No threads: a change from one to another takes a thousand times longer than an answer where the
/// machine is busy.
#[derive(Debug)]
struct Here;

impl Workers for Here {
    fn begin(&self, work: Work) -> std::io::Result<()> {
        work();
        Ok(())
    }
}

/// What stays the same from round to round.
struct Scene {
    folder: tempfile::TempDir,
    plain: Vec<u8>,
    packed: Vec<u8>,
    digest: String,
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    // Memory, where there is a file system of it: a disk would be what is measured.
    let memory = Path::new("/dev/shm");
    let builder = tempfile::tempdir_in(if memory.is_dir() {
        memory
    } else {
        Path::new("/tmp")
    });
    let folder = builder.unwrap();
    let plain = nifti_file::File::nifti1(false).bytes();
    let packed = nifti_file::gzip(&plain);
    fs::write(folder.path().join("token"), TOKEN).unwrap();
    fs::write(folder.path().join("result.nii.gz"), &packed).unwrap();
    let digest = hex(&Sha256::digest(&packed));
    Scene {
        folder,
        plain,
        packed,
        digest,
    }
});

pub(crate) fn service(random: &mut Rng) -> Reached {
    let scene = &*SCENE;
    // In half of the rounds answers are odd, but HTTP.
    let damaging = random.bool();
    let sent: Arc<Mutex<Sent>> = Arc::default();
    let known = sent.clone();
    let server = Arc::new(Server {
        answer: Box::new(move |path, random| answer(path, damaging, &known, random)),
        random: Mutex::new(random.fork()),
        connections: AtomicUsize::new(0),
        asked: Arc::default(),
    });
    let network = Network {
        policy: Policy::new(&[Origin::parse(&format!("http://{HOST}")).unwrap()], &[]),
        token: Some(TokenSource::File(TokenFile(
            scene.folder.path().join("token"),
        ))),
        clock: Arc::new(FastClock::default()),
        lookup: Arc::new(OneAddress),
        wire: server.clone(),
        workers: Arc::new(Here),
        limits: Limits {
            tries: 2,
            download_bytes: 64 << 10,
            list_bytes: 16 << 10,
            ..Limits::default()
        },
        ..Network::default()
    };
    let to = scene.folder.path().join("input.nii.gz");
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let outcome = call(random.u8(..4), &network, &to);
    let taken = MEMORY.peak_usage().saturating_sub(before);
    assert!(taken < BUFFERS, "{taken} bytes");
    let connections = server.connections.load(Ordering::Relaxed);
    FURTHER.fetch_add(connections.saturating_sub(1) as u64, Ordering::Relaxed);
    // Three forms, two tries, five redirects; a store asks for four lists, twice, and more.
    assert!(connections <= 150, "{connections} connections");
    check_requests(&server.asked.lock().unwrap());
    match outcome {
        Ok(Done::Checked | Done::Stored) => Reached::End,
        Ok(Done::Fetched { pinned }) => {
            let file = fs::read(&to).unwrap();
            if pinned {
                assert_eq!(file, scene.packed);
            } else if !damaging {
                let sent = sent.lock().unwrap();
                assert!(
                    sent.unknown || sent.files.contains(&file),
                    "part of a file was taken"
                );
            }
            Reached::End
        }
        Err(error) => {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("canary"), "{shown}");
            match error {
                NetError::Unavailable { problem, .. } if problem.contains("not HTTP") => {
                    Reached::Nothing
                }
                _ => Reached::Inside,
            }
        }
    }
}

/// What a client may make a file of, in this round.
#[derive(Default)]
struct Sent {
    files: Vec<Vec<u8>>,
    /// An answer contradicted itself: another end than its own could be read into it.
    unknown: bool,
}

enum Done {
    Checked,
    Fetched { pinned: bool },
    Stored,
}

fn call(which: u8, network: &Network, to: &Path) -> Result<Done, NetError> {
    let scene = &*SCENE;
    let url = |path: &str| WebUrl::parse(&format!("http://{HOST}/{path}")).unwrap();
    let service = ImageService::new(url("base/"));
    match which {
        0 => {
            let entries = service.entries(network, &Silent)?;
            // Whatever else an entry holds, it can be asked.
            let labels = entries.iter().filter(|entry| entry.is_segmentation());
            std::hint::black_box(labels.count());
            Ok(Done::Checked)
        }
        1 => {
            service.fetch("patch", to, network, &Silent)?;
            Ok(Done::Fetched { pinned: false })
        }
        2 => {
            let source = HttpSource {
                url: url("files/patch.nii.gz"),
                sha256: scene.digest.clone(),
            };
            source.fetch(to, network, &Silent)?;
            Ok(Done::Fetched { pinned: true })
        }
        _ => {
            let volume = Volume {
                file: &scene.folder.path().join("result.nii.gz"),
                name: NAME,
                labels: false,
            };
            service.store(&volume, network, &Silent)?;
            Ok(Done::Stored)
        }
    }
}

/// The token stands in a header of requests to the service, and nowhere else.
fn check_requests(asked: &[u8]) {
    let text = String::from_utf8_lossy(asked);
    let mut path = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_suffix(" HTTP/1.1") {
            path = rest.split_once(' ').map_or("", |(_, path)| path);
        }
        if line.contains(TOKEN) {
            let (name, value) = line.split_once(": ").unwrap();
            let header = name.eq_ignore_ascii_case("authorization");
            assert!(header && value == format!("Bearer {TOKEN}"), "{text}");
            assert!(path.starts_with("/base/"), "{text}");
        }
    }
}

/// An answer as a service gives it, then made odd.
fn answer(path: &str, damaging: bool, sent: &Mutex<Sent>, random: &mut Rng) -> Vec<u8> {
    let odd = random.u8(..3) == 0;
    let (body, kind) = body(path, random);
    let status = if odd { status(random) } else { 200 };
    let mut head = format!("HTTP/1.1 {status} {WORDS}\r\nContent-Type: {kind}\r\n");
    let contradicts = odd && odd_headers(&mut head, random);
    let (body, encoding) = match random.u8(..if odd { 4 } else { 16 }) {
        0 => (nifti_file::gzip(&body), "Content-Encoding: gzip\r\n"),
        // What some web servers do with every file that is compressed.
        1 if body.starts_with(&[0x1f, 0x8b]) => (body, "Content-Encoding: gzip\r\n"),
        _ => (body, ""),
    };
    head.push_str(encoding);
    let (mut bytes, cut) = framed(head, &body, odd, random);
    remember(
        &body,
        encoding,
        contradicts || cut,
        &mut sent.lock().unwrap(),
    );
    if damaging {
        for _ in 0..random.u8(..3) {
            mutate::bytes(&mut bytes, random);
        }
    }
    bytes
}

fn remember(body: &[u8], encoding: &str, unknown: bool, sent: &mut Sent) {
    use std::io::Read;
    sent.unknown |= unknown;
    if encoding.is_empty() {
        sent.files.push(body.to_vec());
        return;
    }
    let mut inside = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(body);
    if decoder.read_to_end(&mut inside).is_ok() {
        sent.files.push(inside);
    }
}

fn status(random: &mut Rng) -> u16 {
    const STATUSES: [u16; 24] = [
        200, 200, 200, 201, 204, 206, 301, 302, 303, 307, 400, 401, 403, 404, 404, 404, 409, 409,
        410, 416, 429, 500, 503, 999,
    ];
    STATUSES[random.usize(..STATUSES.len())]
}

/// True if a header says another thing about the body than what follows.
fn odd_headers(head: &mut String, random: &mut Rng) -> bool {
    const HEADERS: [&str; 21] = [
        "ETag: \"1\"",
        "ETag: W/\"1\"",
        "ETag: \"\u{e9}\"",
        "Content-Range: bytes 0-9/10",
        "Content-Range: bytes 18446744073709551615-0/1",
        "Content-Encoding: br",
        "Content-Encoding: identity",
        "Content-Encoding: gzip, gzip",
        "Location: /base/elsewhere",
        "Location: /files/elsewhere",
        "Location: http://evil.example/base/list",
        "Location: //evil.example/",
        "Location: \\\\evil.example",
        "Retry-After: 1",
        "Retry-After: 18446744073709551615",
        "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT",
        "Transfer-Encoding: gzip",
        "Content-Length: 0",
        "Content-Length: -1",
        "Connection: close",
        "X-Long: canary-words",
    ];
    let mut contradicts = false;
    for _ in 0..random.u8(..3) {
        let header = HEADERS[random.usize(..HEADERS.len())];
        contradicts |= header.starts_with("Content-") || header.starts_with("Transfer-");
        head.push_str(header);
        head.push_str("\r\n");
    }
    contradicts
}

/// Ends the head, and says where the body ends: truly, or not, or not at all. True if too early.
fn framed(mut head: String, body: &[u8], odd: bool, random: &mut Rng) -> (Vec<u8>, bool) {
    let choice = random.u8(..if odd { 8 } else { 4 });
    match choice {
        0 => {
            head.push_str("Transfer-Encoding: chunked\r\n\r\n");
            let mut bytes = head.into_bytes();
            for chunk in body.chunks(random.usize(1..200)) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
            (bytes, false)
        }
        6 => ([head.as_bytes(), b"\r\n", body].concat(), false),
        choice => {
            let length = match choice {
                4 => body.len() + random.usize(..100),
                5 => random.usize(..=body.len()),
                7 => 1 << random.u8(..60),
                _ => body.len(),
            };
            let head = format!("{head}Content-Length: {length}\r\n\r\n");
            ([head.as_bytes(), body].concat(), length < body.len())
        }
    }
}

fn body(path: &str, random: &mut Rng) -> (Vec<u8>, &'static str) {
    let scene = &*SCENE;
    if random.u8(..8) == 0 {
        let page = format!("<!doctype html><p>{WORDS}");
        return (page.into_bytes(), "text/html");
    }
    if path.contains("download") || path.contains("files") {
        let file = match path.rsplit_once('.') {
            Some((_, "nii")) => &scene.plain,
            _ => &scene.packed,
        };
        return (file.clone(), "application/octet-stream");
    }
    let mut text = if path.ends_with("list") || path.ends_with("elsewhere") {
        let name = [NAME, "patch-transformed-0a1b2c3d-2", "other", WORDS][random.usize(..4)];
        format!(
            "[{{\"name\": \"patch\", \"links\": {{\"normalized\": \"/nifti/0a/{name}\"}}}}, {}]",
            entry(name)
        )
    } else {
        format!(
            "{{\"fileName\": \"{NAME}.nii.gz\", \"fileSize\": 120, \"warnings\": [\"{WORDS}\"]}}"
        )
    };
    for _ in 0..random.u8(..3) {
        odd_json(&mut text, random);
    }
    (text.into_bytes(), "application/json")
}

fn entry(name: &str) -> String {
    format!(
        "{{\"name\": \"{name}\", \"visibility\": \"private\", \
         \"links\": {{\"normalized\": \"/nifti/0b/{name}\"}}, \
         \"extra\": {{\"neuroglancer\": {{\"type\": \"image\", \"size\": [3, 4, 2], \
         \"resolution\": [5e5, 5e5, 5e5]}}}}}}"
    )
}

fn odd_json(text: &mut String, random: &mut Rng) {
    const PIECES: [&str; 20] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "null",
        "1e999",
        "-0",
        "\\u0000",
        "\\ud800",
        "é",
        "[[[[[[[[[[[[[[[[",
        "{\"name\":",
        "\"links\": 1",
        "\"fileName\": null",
        "\"../../x.nii\"",
        "\u{0}",
        "\u{feff}",
    ];
    let mut at = random.usize(..=text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let piece = PIECES[random.usize(..PIECES.len())];
    match random.u8(..3) {
        0 => text.insert_str(at, piece),
        1 => text.truncate(at),
        _ => {
            let end = text[at..]
                .find([',', ']', '}'])
                .map_or(text.len(), |length| at + length);
            text.replace_range(at..end, piece);
        }
    }
}
