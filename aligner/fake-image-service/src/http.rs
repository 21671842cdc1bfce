//! HTTP/1.1, one request for each connection.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use crate::{Fault, Shared, lock, operations};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Record {
    /// Method.
    pub method: String,
    /// Path, still percent-encoded.
    pub path: String,
    /// What followed the question mark.
    pub query: Option<String>,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body that came.
    pub body_bytes: usize,
}

impl Record {
    /// Value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        all.find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type".to_owned(), kind.to_owned())],
            body: body.into(),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

pub(crate) fn serve(stream: &TcpStream, state: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let (mut record, body) = read_request(&mut reader)?;
    record.body_bytes = body.len();
    let fault = {
        let mut state = lock(state);
        state.journal.push(record.clone());
        let mut script = state.script.iter_mut();
        script
            .find(|(call, times, _)| *times > 0 && call.is(&record))
            .map(|(_, times, fault)| {
                *times -= 1;
                fault.clone()
            })
    };
    let expected = record.header("content-length");
    let whole = expected.is_none_or(|length| length.parse() == Ok(body.len()));
    if matches!(fault, Some(Fault::Vanish)) || !whole {
        return Ok(());
    }
    if let Some(Fault::Answer(status, headers, text)) = &fault {
        let mut answer = Answer::new(*status, "text/plain", text.as_bytes());
        for (name, value) in headers {
            answer.headers.retain(|(other, _)| other != name);
            answer = answer.with(name, value);
        }
        return send_plain(stream, &answer);
    }
    let mut answer = operations::answer(&record, &body, &mut lock(state));
    match fault {
        None => send_plain(stream, &answer),
        Some(Fault::StatusAfter(status)) => {
            answer.status = status;
            send_plain(stream, &answer)
        }
        Some(fault) => send_faulty(stream, answer, &fault),
    }
}

fn read_request(reader: &mut impl BufRead) -> io::Result<(Record, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or("").to_owned();
    let target = words.next().unwrap_or("").to_owned();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (target, None),
    };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let record = Record {
        method,
        path,
        query,
        headers,
        body_bytes: 0,
    };
    let length = record.header("content-length").and_then(|v| v.parse().ok());
    let mut body = Vec::new();
    reader.take(length.unwrap_or(0)).read_to_end(&mut body)?;
    Ok((record, body))
}

fn head(answer: &Answer, framing: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {} Fake\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text.push_str(framing);
    text.push_str("\r\n");
    text.into_bytes()
}

fn with_length(answer: &Answer, bytes: u64) -> Vec<u8> {
    head(answer, &format!("Content-Length: {bytes}\r\n"))
}

fn send_plain(mut stream: &TcpStream, answer: &Answer) -> io::Result<()> {
    stream.write_all(&with_length(answer, answer.body.len() as u64))?;
    stream.write_all(&answer.body)
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

fn chunk(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    write!(stream, "{:x}\r\n", bytes.len())?;
    stream.write_all(bytes)?;
    stream.write_all(b"\r\n")
}

fn send_faulty(mut stream: &TcpStream, mut answer: Answer, fault: &Fault) -> io::Result<()> {
    let length = answer.body.len() as u64;
    let start = |bytes: usize| bytes.min(length as usize);
    match fault {
        Fault::Cut(bytes) => {
            stream.write_all(&with_length(&answer, length))?;
            stream.write_all(&answer.body[..start(*bytes)])
        }
        Fault::Chunks => {
            stream.write_all(&head(&answer, CHUNKED))?;
            for part in answer.body.chunks(1000) {
                chunk(stream, part)?;
            }
            stream.write_all(b"0\r\n\r\n")
        }
        Fault::CutChunks(bytes) => {
            stream.write_all(&head(&answer, CHUNKED))?;
            for part in answer.body[..start(*bytes)].chunks(1000) {
                chunk(stream, part)?;
            }
            Ok(())
        }
        Fault::NoLength => {
            stream.write_all(&head(&answer, ""))?;
            stream.write_all(&answer.body)
        }
        Fault::CutNoLength(bytes) => {
            stream.write_all(&head(&answer, ""))?;
            stream.write_all(&answer.body[..start(*bytes)])
        }
        Fault::Claim(bytes) => {
            stream.write_all(&with_length(&answer, *bytes))?;
            stream.write_all(&answer.body)
        }
        Fault::Encoded => {
            answer.body = crate::nifti::compress(&answer.body);
            send_plain(stream, &answer.with("Content-Encoding", "gzip"))
        }
        Fault::CalledEncoded => send_plain(stream, &answer.with("Content-Encoding", "gzip")),
        Fault::Late(time) => {
            thread::sleep(*time);
            send_plain(stream, &answer)
        }
        Fault::Trickle(pause) => {
            stream.write_all(&with_length(&answer, length))?;
            for byte in &answer.body {
                stream.write_all(&[*byte])?;
                thread::sleep(*pause);
            }
            Ok(())
        }
        Fault::EndlessHead => {
            stream.write_all(b"HTTP/1.1 200 Fake\r\n")?;
            for number in 0_u64.. {
                write!(stream, "X-Endless-{number}: {number}\r\n")?;
                thread::sleep(Duration::from_micros(100));
            }
            Ok(())
        }
        Fault::EndlessBody => {
            stream.write_all(&head(&answer, CHUNKED))?;
            chunk(stream, &[0x1f, 0x8b, 8, 0])?;
            loop {
                chunk(stream, &vec![0; 65536])?;
            }
        }
        // What comes before the effect of a call, or without an answer, is dealt with above.
        Fault::Answer(..) | Fault::Vanish | Fault::VanishAfter | Fault::StatusAfter(_) => Ok(()),
    }
}
