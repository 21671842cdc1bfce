//! A web server for one file, which knows ranges, and misbehaves as told.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How the server behaves.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    /// The file that is served.
    pub(crate) file: PathBuf,
    /// Name of its version; none is told if empty.
    pub(crate) etag: String,
    /// Whether parts are served.
    pub(crate) ranges: bool,
    /// Whether a part is served for another version, too.
    pub(crate) heedless: bool,
    /// The connection ends after so many bytes of a body.
    pub(crate) cut: Option<u64>,
    /// Nothing is sent beyond so many bytes of the file; the connection stays open.
    pub(crate) hold: Option<u64>,
    /// Added to the length that is told.
    pub(crate) lie: i64,
    /// No length is told, the connection's end is the body's.
    pub(crate) no_length: bool,
    /// Pause after each piece of 64 KiB.
    pub(crate) pause: Duration,
    /// Where requests are sent to instead.
    pub(crate) redirect: Option<String>,
}

impl Habits {
    /// A good server.
    pub(crate) fn good(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            etag: "\"1\"".to_owned(),
            ranges: true,
            heedless: false,
            cut: None,
            hold: None,
            lie: 0,
            no_length: false,
            pause: Duration::ZERO,
            redirect: None,
        }
    }
}

/// What was asked, and how much went out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    /// `Range` headers; empty where there was none.
    pub(crate) ranges: Vec<String>,
    /// `If-Range` headers; empty where there was none.
    pub(crate) conditions: Vec<String>,
    /// Bytes of bodies.
    pub(crate) sent: u64,
}

/// The server; its threads end with the process.
#[derive(Clone)]
pub(crate) struct Server {
    port: u16,
    habits: Arc<Mutex<Habits>>,
    journal: Arc<Mutex<Journal>>,
}

impl Server {
    pub(crate) fn start(habits: Habits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            habits: Arc::new(Mutex::new(habits)),
            journal: Arc::default(),
        };
        let shared = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.clone();
                // A client that was killed is no defect of the server.
                thread::spawn(move || drop(stream.and_then(|stream| shared.answer(stream))));
            }
        });
        server
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn behave(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut self.habits.lock().unwrap());
    }

    /// What happened since it was asked last.
    pub(crate) fn journal(&self) -> Journal {
        std::mem::take(&mut *self.journal.lock().unwrap())
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let (mut range, mut condition) = (String::new(), String::new());
        while let Some(Ok(line)) = lines.next() {
            if line.is_empty() {
                break;
            }
            match line.split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("range") => range = value.into(),
                Some((name, value)) if name.eq_ignore_ascii_case("if-range") => {
                    condition = value.into();
                }
                _ => {}
            }
        }
        let habits = self.habits.lock().unwrap().clone();
        {
            let mut journal = self.journal.lock().unwrap();
            journal.ranges.push(range.clone());
            journal.conditions.push(condition.clone());
        }
        if let Some(location) = &habits.redirect {
            return write!(
                stream,
                "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        let mut file = File::open(&habits.file)?;
        let size = file.metadata()?.len();
        let same = condition.is_empty() || condition == habits.etag || habits.heedless;
        let from = range
            .strip_prefix("bytes=")
            .and_then(|text| text.strip_suffix('-')?.parse().ok())
            .filter(|from| habits.ranges && same && *from < size);
        let begin = from.unwrap_or(0);
        let status = if from.is_some() {
            "206 Partial Content"
        } else {
            "200 OK"
        };
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n")?;
        if from.is_some() {
            write!(
                stream,
                "Content-Range: bytes {begin}-{}/{size}\r\n",
                size - 1
            )?;
        }
        if !habits.etag.is_empty() {
            write!(stream, "ETag: {}\r\n", habits.etag)?;
        }
        let told = (size - begin) as i64 + habits.lie;
        if !habits.no_length {
            write!(stream, "Content-Length: {told}\r\n")?;
        }
        write!(stream, "\r\n")?;
        file.seek(SeekFrom::Start(begin))?;
        let most = habits.cut.unwrap_or(u64::MAX).min(told.max(0) as u64);
        let held = habits.hold.unwrap_or(u64::MAX).saturating_sub(begin);
        self.send(&mut stream, &mut file.take(most.min(held)), habits.pause)?;
        if held < most {
            // Until the client is gone.
            drop(stream.read_exact(&mut [0]));
        }
        Ok(())
    }

    fn send(
        &self,
        stream: &mut TcpStream,
        body: &mut impl Read,
        pause: Duration,
    ) -> std::io::Result<()> {
        let mut piece = vec![0; 64 << 10];
        loop {
            let count = body.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            stream.write_all(&piece[..count])?;
            self.journal.lock().unwrap().sent += count as u64;
            if !pause.is_zero() {
                thread::sleep(pause);
            }
        }
    }
}
