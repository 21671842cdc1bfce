//! A connection that is no connection: what a server answers is ready when it is opened.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use aligner::net::connect::Wire;
use fastrand::Rng;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, LazyBuffers, NextTimeout, Transport,
};

/// Makes the answer to a request for a path.
pub(crate) type Answer = dyn Fn(&str, &mut Rng) -> Vec<u8> + Send + Sync;

/// The only host there is.
pub(crate) const HOST: &str = "service.example";

/// A server in this process.
pub(crate) struct Server {
    pub(crate) answer: Box<Answer>,
    pub(crate) random: Mutex<Rng>,
    /// Connections so far.
    pub(crate) connections: AtomicUsize,
    /// What was sent to it.
    pub(crate) asked: Arc<Mutex<Vec<u8>>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Wire for Server {
    fn open(&self, details: &ConnectionDetails) -> Result<Box<dyn Transport>, ureq::Error> {
        assert_eq!(details.uri.host(), Some(HOST));
        self.connections.fetch_add(1, Ordering::Relaxed);
        let mut random = self.random.lock().unwrap();
        let reply = (self.answer)(details.uri.path(), &mut random);
        Ok(Box::new(Line {
            buffers: LazyBuffers::new(16 << 10, 16 << 10),
            reply,
            at: 0,
            piece: [1, 17, 500, usize::MAX][random.usize(..4)],
            asked: self.asked.clone(),
        }))
    }
}

#[derive(Debug)]
struct Line {
    buffers: LazyBuffers,
    reply: Vec<u8>,
    at: usize,
    /// Most bytes that arrive at once.
    piece: usize,
    asked: Arc<Mutex<Vec<u8>>>,
}

impl Transport for Line {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let sent = &self.buffers.output()[..amount];
        self.asked.lock().unwrap().extend_from_slice(sent);
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let left = &self.reply[self.at..];
        let room = self.buffers.input_append_buf();
        let count = left.len().min(room.len()).min(self.piece);
        room[..count].copy_from_slice(&left[..count]);
        self.buffers.input_appended(count);
        self.at += count;
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.at < self.reply.len()
    }
}
