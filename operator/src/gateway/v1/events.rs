//! A request as it changes: server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, stream};
use kube::ResourceExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{self, error::RecvError};

use super::view_of;
use crate::gateway::Gateway;
use crate::gateway::id::Id;
use crate::gateway::proxy::Prefix;
use crate::request::Request;

/// A comment keeps proxies from closing the connection.
const BREATH: Duration = Duration::from_secs(15);
/// A browser that lost the connection tries again after so long.
const RETRY: Duration = Duration::from_secs(2);

struct Follow {
    gateway: Gateway,
    prefix: Prefix,
    id: Id,
    changes: broadcast::Receiver<Arc<str>>,
    /// Version of the request that was sent last.
    sent: Option<String>,
    done: bool,
    _place: OwnedSemaphorePermit,
}

/// Sends the request at once, after each change, and for the last time when it has ended or is gone.
pub fn follow(
    gateway: Gateway,
    prefix: Prefix,
    id: Id,
    place: OwnedSemaphorePermit,
) -> impl IntoResponse {
    let follow = Follow {
        changes: gateway.requests.changes(),
        gateway,
        prefix,
        id,
        sent: None,
        done: false,
        _place: place,
    };
    let events = stream::unfold(follow, async |mut follow| {
        let event = follow.next().await?;
        Some((Ok::<_, Infallible>(event), follow))
    });
    sse(events)
}

fn sse(
    events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static,
) -> impl IntoResponse {
    // A proxy that collects answers would tell everything at the end.
    let unbuffered = [("x-accel-buffering", "no")];
    let keep_alive = KeepAlive::new().interval(BREATH);
    (unbuffered, Sse::new(events).keep_alive(keep_alive))
}

impl Follow {
    async fn next(&mut self) -> Option<Event> {
        if self.done {
            return None;
        }
        let name = self.id.to_string();
        loop {
            let Some(request) = self.gateway.requests.get(&self.id) else {
                self.done = true;
                return Some(Event::default().event("deleted").data("{}"));
            };
            if self.sent != request.resource_version() {
                return Some(self.send(&request).await);
            }
            loop {
                let change = tokio::select! {
                    change = self.changes.recv() => change,
                    () = self.gateway.stop.cancelled() => return None,
                };
                match change {
                    Ok(changed) if *changed != *name => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return None,
                }
            }
        }
    }

    async fn send(&mut self, request: &Request) -> Event {
        self.sent = request.resource_version();
        self.done = request.is_finished();
        let view = view_of(&self.gateway, request, &self.prefix).await;
        let event = Event::default().event("request").retry(RETRY);
        let event = event.id(self.sent.as_deref().unwrap_or_default());
        event.data(view.to_string())
    }
}
