//! One watch: changes of one kind as they happen, or not quite.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, stream};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::api::failure;
use crate::net::{BoxError, Net, trace};
use crate::plan::WatchFault;
use crate::store::{Entry, Kind, name};

/// Longer than anything that goes on in the cluster meanwhile.
const LATE: Duration = Duration::from_secs(15);

pub(crate) struct Watch {
    net: Arc<Net>,
    life: u64,
    kind: Kind,
    cursor: u64,
    until: Instant,
    changes: watch::Receiver<u64>,
    dropped: bool,
    ended: bool,
}

impl Watch {
    pub(crate) fn new(net: Arc<Net>, life: u64, kind: Kind, since: u64, until: Instant) -> Self {
        let changes = net.store.subscribe();
        Self {
            net,
            life,
            kind,
            cursor: since,
            until,
            changes,
            dropped: false,
            ended: false,
        }
    }

    pub(crate) fn chunks(self) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
        stream::unfold(self, |mut watch| async move {
            let chunk = watch.next().await?;
            Some((Ok(chunk), watch))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            if self.net.is_dead(self.life) {
                std::future::pending::<()>().await;
            }
            if let Some(entry) = self.net.store.after(self.kind, self.cursor) {
                self.net.travel(self.lane()).await;
                self.cursor = entry.version;
                if let Some(chunk) = self.deliver(entry).await {
                    return Some(chunk);
                }
                continue;
            }
            tokio::select! {
                biased;
                _ = self.changes.changed() => {}
                () = tokio::time::sleep_until(self.until) => {
                    self.ended = true;
                    return self.bookmark();
                }
            }
        }
        None
    }

    fn lane(&self) -> &'static str {
        self.kind.names().2
    }

    fn tell(&self, entry: &Entry) -> Bytes {
        if self.kind == Kind::Jobs {
            self.net.store.lock().oracle.told(name(&entry.object));
        }
        line(entry.change, &entry.object)
    }

    async fn deliver(&mut self, entry: Entry) -> Option<Bytes> {
        let fault = {
            let mut traffic = self.net.lock();
            traffic.events += 1;
            let number = traffic.events - 1;
            traffic.plan.watch(self.lane(), number)
        };
        trace(|| {
            format!(
                "watch {:?} {} {} {fault:?}",
                self.kind, entry.change, entry.version
            )
        });
        match fault {
            None => Some(self.tell(&entry)),
            Some(WatchFault::Repeat) => {
                let once = self.tell(&entry);
                Some(Bytes::from([&once[..], &once[..]].concat()))
            }
            Some(WatchFault::Drop) => {
                self.dropped = true;
                None
            }
            Some(WatchFault::Delay) => {
                sleep(LATE).await;
                Some(self.tell(&entry))
            }
            Some(WatchFault::Cut) => {
                self.ended = true;
                None
            }
            Some(WatchFault::Gone) => Some(self.gone()),
            Some(WatchFault::Stale(changes)) => {
                let version = entry.version.saturating_sub(changes).max(101);
                self.net.lock().stale = Some((self.kind, version));
                Some(self.gone())
            }
        }
    }

    fn gone(&mut self) -> Bytes {
        self.ended = true;
        let status = failure(410, "Expired", "too old resource version");
        line("ERROR", &status)
    }

    /// At the end of a stream, as a server sends it: from where to go on. One that has kept
    /// something back must not say that all was told.
    fn bookmark(&self) -> Option<Bytes> {
        if self.dropped {
            return None;
        }
        let (version, kind, _) = self.kind.names();
        let at = self.net.store.lock().version;
        let object = json!({"apiVersion": version, "kind": kind,
            "metadata": {"resourceVersion": at.to_string()}, "spec": {}});
        Some(line("BOOKMARK", &object))
    }
}

fn line(change: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{{\"type\":\"{change}\",\"object\":{object}}}\n"))
}
