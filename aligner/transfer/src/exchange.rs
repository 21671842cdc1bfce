//! One request and its answer, watched: it ends when the process shall end, when it is too slow, or
//! when its time is up.
//!
//! The exchange runs on a thread of its own and is given up from outside, because a thread that
//! waits for a name, a connection or a byte cannot be asked to stop.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant, SystemTime},
};

use alignment_api::WebUrl;
use ureq::{
    Agent, SendBody,
    http::{HeaderMap, HeaderValue, Method, Request, header},
};

use super::{
    Network,
    connect::{self, OutOfReach},
    error::{Fault, NetError},
    limits::{Limits, TICK},
    multipart::Multipart,
};
use crate::stop::{self, Cancel};

/// Redirects that are followed.
pub(super) const MOST_REDIRECTS: usize = 5;

/// What to ask for.
#[derive(Debug)]
pub(super) struct Ask {
    /// Where.
    pub(super) url: WebUrl,
    /// Further headers.
    pub(super) headers: Vec<(&'static str, String)>,
    /// The base URL of the service that the token is for; without one, the token does not go with it.
    pub(super) token_below: Option<WebUrl>,
    /// What is sent; nothing is sent with a GET.
    pub(super) upload: Option<Multipart>,
}

impl Ask {
    pub(super) fn get(url: WebUrl, token_below: Option<&WebUrl>) -> Self {
        Self {
            url,
            headers: Vec::new(),
            token_below: token_below.cloned(),
            upload: None,
        }
    }
}

/// The head of an answer, and its body to read.
pub(super) struct Reply {
    /// Status.
    pub(super) status: u16,
    /// Headers.
    pub(super) headers: HeaderMap,
    /// Body.
    pub(super) body: Box<dyn Read>,
    /// Where it came from, for messages.
    pub(super) shown: String,
}

impl Network {
    /// Asks, and has the answer read, within the limits.
    pub(super) fn exchange<T: Send + 'static>(
        &self,
        ask: Ask,
        stop: &dyn Cancel,
        read: impl FnOnce(Reply) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        stop::check(stop)?;
        let shown = ask.url.shown();
        let reach = self
            .policy
            .check(&ask.url)
            .map_err(|problem| NetError::Forbidden {
                url: shown.clone(),
                problem,
            })?;
        let token = match (&ask.token_below, &self.token) {
            (Some(_), Some(source)) => source.read()?.header(),
            _ => None,
        };
        let agent = connect::agent(self, ask.url.origin(), reach);
        let moved = Arc::new(AtomicU64::new(0));
        let (send, receive) = mpsc::sync_channel(1);
        let (worker_agent, worker_moved) = (agent.clone(), moved.clone());
        let work = move || {
            let result = talk(&worker_agent, ask, token.as_ref(), &worker_moved).and_then(read);
            // Nobody listens any more if the exchange was given up.
            let _ = send.send(result);
        };
        // A limit of processes may be reached, and be left again.
        self.workers
            .begin(Box::new(work))
            .map_err(|error| Fault::passing(format!("no thread could be started: {error}")))?;
        watch(agent, &moved, &receive, &self.limits, &shown, stop)
    }
}

/// Time in which this process was held, with its machine or for want of CPU, is not the server's.
const LONGEST_TICK: Duration = Duration::from_millis(500);

/// Waits for the end of an exchange, and gives up if it has to.
fn watch<T>(
    agent: Agent,
    moved: &AtomicU64,
    receive: &mpsc::Receiver<Result<T, Fault>>,
    limits: &Limits,
    shown: &str,
    stop: &dyn Cancel,
) -> Result<T, Fault> {
    let (mut last, mut spent) = (Instant::now(), Duration::ZERO);
    let (mut window, mut window_moved) = (Duration::ZERO, 0);
    loop {
        match receive.recv_timeout(TICK) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Fault::passing("the exchange broke down"));
            }
        }
        if let Err(interrupted) = stop::check(stop) {
            agent.shutdown();
            return Err(interrupted.into());
        }
        let now = Instant::now();
        let tick = (now - last).min(LONGEST_TICK);
        spent += tick;
        window += tick;
        last = now;
        let mut problem = None;
        if spent >= limits.deadline {
            problem = Some(format!("took longer than {:?}", limits.deadline));
        } else if window >= limits.window {
            let total = moved.load(Ordering::Relaxed);
            if total - window_moved < limits.window_bytes {
                problem = Some(format!(
                    "moved {} bytes within {:?}, expected at least {}",
                    total - window_moved,
                    limits.window,
                    limits.window_bytes
                ));
            }
            (window, window_moved) = (Duration::ZERO, total);
        }
        if let Some(problem) = problem {
            agent.shutdown();
            // The thread lets go of what it writes to; it cannot while it waits for a name.
            let _ = receive.recv_timeout(Duration::from_secs(1));
            return Err(Fault::Final(NetError::Unavailable {
                url: shown.to_owned(),
                problem,
                tries: 1,
            }));
        }
    }
}

/// Sends the request, and follows redirects within the origin. The token does not leave its service
/// with them: others may share the origin.
fn talk(
    agent: &Agent,
    mut ask: Ask,
    mut token: Option<&HeaderValue>,
    moved: &Arc<AtomicU64>,
) -> Result<Reply, Fault> {
    for _ in 0..=MOST_REDIRECTS {
        let shown = ask.url.shown();
        let response = send(agent, &ask, token, moved).map_err(|error| fault(&shown, error))?;
        let status = response.status().as_u16();
        let (head, body) = response.into_parts();
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Ok(Reply {
                status,
                headers: head.headers,
                body: Box::new(Counted {
                    inner: body.into_reader(),
                    moved: moved.clone(),
                }),
                shown,
            });
        }
        let forbidden = |problem: &str| NetError::Forbidden {
            url: shown.clone(),
            problem: format!("answers {status}, a redirect {problem}"),
        };
        if ask.upload.is_some() {
            return Err(forbidden("of an upload, which is not followed").into());
        }
        let location = head.headers.get(header::LOCATION);
        let next = location
            .and_then(|value| value.to_str().ok())
            .and_then(|text| ask.url.redirected(text).ok())
            .ok_or_else(|| forbidden("to nowhere"))?;
        if next.origin() != ask.url.origin() {
            let refusal = forbidden("to another origin, which is not followed");
            let next = Box::new(next);
            return Err(Fault::Elsewhere { next, refusal });
        }
        let inside = |base: &WebUrl| next.is_below(base);
        if !ask.token_below.as_ref().is_some_and(inside) {
            token = None;
        }
        ask.url = next;
    }
    Err(Fault::Final(NetError::Forbidden {
        url: ask.url.shown(),
        problem: format!("redirects more than {MOST_REDIRECTS} times"),
    }))
}

fn send(
    agent: &Agent,
    ask: &Ask,
    token: Option<&HeaderValue>,
    moved: &Arc<AtomicU64>,
) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
    let method = match ask.upload {
        Some(_) => Method::POST,
        None => Method::GET,
    };
    let mut request = Request::builder()
        .method(method)
        .uri(ask.url.request_text());
    for (name, value) in &ask.headers {
        request = request.header(*name, value);
    }
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, token);
    }
    match &ask.upload {
        None => agent.run(request.body(())?),
        Some(upload) => {
            let request = request
                .header(header::CONTENT_TYPE, upload.content_type())
                .header(header::CONTENT_LENGTH, upload.bytes());
            let body = SendBody::from_owned_reader(Counted {
                inner: upload.open()?,
                moved: moved.clone(),
            });
            agent.run(request.body(body)?)
        }
    }
}

/// Tells apart what may pass and what will not. Words of the other side are not repeated.
fn fault(shown: &str, error: ureq::Error) -> Fault {
    let url = shown.to_owned();
    let hopeless = |problem: String| {
        Fault::Final(NetError::Unavailable {
            url: url.clone(),
            problem,
            tries: 1,
        })
    };
    match error {
        ureq::Error::Other(inner) if inner.is::<OutOfReach>() => NetError::Forbidden {
            url,
            problem: inner.to_string(),
        }
        .into(),
        ureq::Error::Rustls(error) => hopeless(format!("the encrypted connection failed: {error}")),
        // What the encryption says during the handshake.
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            hopeless(format!("the encrypted connection failed: {error}"))
        }
        ureq::Error::LargeResponseHeader(..) | ureq::Error::Protocol(_) => {
            hopeless("the answer is not HTTP, or has too many headers".to_owned())
        }
        ureq::Error::Io(error) => Fault::passing(connection_problem(&error)),
        ureq::Error::HostNotFound => Fault::passing("the host has no address"),
        ureq::Error::Timeout(_) => Fault::passing("the connection was not made in time"),
        _ => Fault::passing("the exchange failed"),
    }
}

/// What the system says about a connection, in a few words.
pub(super) fn connection_problem(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "the connection was refused".to_owned(),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => "the connection broke off".to_owned(),
        io::ErrorKind::TimedOut => "the connection was not made in time".to_owned(),
        _ => format!("the connection failed: {error}"),
    }
}

/// The fault that a status stands for; none for 2xx.
pub(super) fn status_fault(reply: &Reply) -> Result<(), Fault> {
    let (url, status) = (reply.shown.clone(), reply.status);
    Err(match status {
        200..=299 => return Ok(()),
        401 | 403 => NetError::Unauthorized {
            url,
            problem: format!(
                "answers {status}: the token is not accepted, or has expired, or there is none"
            ),
        }
        .into(),
        404 | 410 => NetError::NotFound {
            url,
            problem: format!("answers {status}: there is no such image or file"),
        }
        .into(),
        408 | 425 | 429 | 500..=599 => Fault::Passing {
            problem: format!("answers {status}"),
            wait: retry_after(&reply.headers),
            progress: false,
        },
        _ => NetError::NotFound {
            url,
            problem: format!("answers {status}, expected 200"),
        }
        .into(),
    })
}

/// `Retry-After`: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    date.duration_since(SystemTime::now()).ok()
}

/// Counts what passes, for the rate.
struct Counted<R> {
    inner: R,
    moved: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.moved.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use alignment_api::Origin;

    use super::*;
    use crate::{
        policy::Policy,
        stop::AtSignal,
        worker::{Work, Workers},
    };

    #[derive(Debug)]
    struct NoThread;

    impl Workers for NoThread {
        fn begin(&self, _: Work) -> io::Result<()> {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    #[test]
    fn a_thread_that_cannot_be_had_now_may_be_had_later() {
        let network = Network {
            policy: Policy::new(&[Origin::parse("http://a.example").unwrap()], &[]),
            workers: Arc::new(NoThread),
            ..Network::default()
        };
        let ask = Ask::get(WebUrl::parse("http://a.example/x").unwrap(), None);
        let fault = network.exchange(ask, &AtSignal, |_| Ok(())).unwrap_err();
        assert!(
            matches!(&fault, Fault::Passing { problem, .. } if problem.contains("thread")),
            "{fault:?}"
        );
    }

    #[test]
    fn a_wait_may_be_asked_for_in_seconds_or_until_a_date() {
        let asked = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_str(text).unwrap());
            retry_after(&headers)
        };
        assert_eq!(asked("120"), Some(Duration::from_secs(120)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(90));
        let seconds = asked(&date).unwrap().as_secs();
        assert!((80..=90).contains(&seconds), "{seconds}");
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), None);
        assert_eq!(asked("soon"), None);
    }
}
