//! Connections: how many, how long, and which goes when there are too many.
//!
//! Whoever opens connections and says nothing takes no place from those who speak: the oldest silent
//! connection is closed for a new one.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// Connections at the same time.
const MOST: usize = 2048;
/// Time for the head of a request, and between two requests.
const HEAD: Duration = Duration::from_secs(10);
/// Largest head, and the size of a connection's buffer.
const BUFFER: usize = 16 << 10;
/// Answers under way have this time when the program ends.
const LAST: Duration = Duration::from_secs(10);

/// A connection, as the table of all of them knows it.
struct Connection {
    /// Requests that are being answered, to the last byte of the answer: who follows a request hears
    /// nothing for long, and yet is no silent connection.
    busy: AtomicUsize,
    close: CancellationToken,
}

/// One request of a connection, until it is dropped.
struct Busy(Arc<Connection>);

impl Busy {
    fn new(connection: &Arc<Connection>) -> Self {
        connection.busy.fetch_add(1, Ordering::Relaxed);
        Self(connection.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer; while it is sent, its connection is busy.
struct Counted {
    body: Body,
    _busy: Busy,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// All connections, the oldest first.
#[derive(Default)]
struct Table(Mutex<VecDeque<Arc<Connection>>>);

impl Table {
    /// Adds one, and closes another if there are too many.
    fn add(&self) -> Arc<Connection> {
        let connection = Arc::new(Connection {
            busy: AtomicUsize::new(0),
            close: CancellationToken::new(),
        });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            let silent = |one: &Arc<Connection>| one.busy.load(Ordering::Relaxed) == 0;
            let oldest = all.iter().position(silent).unwrap_or(0);
            if let Some(closed) = all.remove(oldest) {
                closed.close.cancel();
            }
        }
        all.push_back(connection.clone());
        connection
    }

    fn remove(&self, connection: &Arc<Connection>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| !Arc::ptr_eq(one, connection));
    }
}

/// Opens the port, then serves until the token is cancelled and what was under way is answered.
///
/// # Errors
/// If the port cannot be opened.
pub async fn serve(
    address: SocketAddr,
    router: Router,
    stop: CancellationToken,
) -> std::io::Result<impl Future<Output = ()>> {
    let listener = TcpListener::bind(address).await?;
    Ok(accept(listener, router, stop))
}

async fn accept(listener: TcpListener, router: Router, stop: CancellationToken) {
    let table = Arc::new(Table::default());
    let tasks = TaskTracker::new();
    loop {
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            () = stop.cancelled() => break,
        };
        match stream {
            Ok((stream, _)) => {
                let (table, router) = (table.clone(), router.clone());
                tasks.spawn(serve_one(stream, router, table, stop.clone()));
            }
            // As a rule no file descriptor is left; some will be.
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    let _ = tokio::time::timeout(LAST, tasks.wait()).await;
}

async fn serve_one(stream: TcpStream, router: Router, table: Arc<Table>, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let connection = table.add();
    let counted = connection.clone();
    let service = tower::service_fn(move |request: http::Request<Incoming>| {
        let (router, counted) = (router.clone(), counted.clone());
        async move {
            let busy = Busy::new(&counted);
            let answer = router.oneshot(request).await;
            answer.map(|answer| answer.map(|body| Counted { body, _busy: busy }))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(served);
    let ended = tokio::select! {
        _ = &mut served => true,
        () = connection.close.cancelled() => true,
        () = stop.cancelled() => false,
    };
    if !ended {
        served.as_mut().graceful_shutdown();
        tokio::select! {
            _ = &mut served => {}
            () = connection.close.cancelled() => {}
        }
    }
    table.remove(&connection);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_a_new_connection_the_oldest_silent_one_goes() {
        let table = Table::default();
        let all: Vec<_> = (0..MOST).map(|_| table.add()).collect();
        let _answer = Busy::new(&all[0]);
        drop(Busy::new(&all[1]));
        let new = table.add();
        let closed: Vec<_> = (0..MOST).filter(|i| all[*i].close.is_cancelled()).collect();
        assert_eq!(closed, [1]);
        assert!(!new.close.is_cancelled());
        table.remove(&new);
        assert_eq!(table.0.lock().unwrap().len(), MOST - 1);
    }
}
