//! Progress and pictures out of the logs of pods.
//!
//! One task per running pod follows its log and keeps the newest progress. What it shows changes
//! at most every few seconds, and at once with a new stage; each change triggers a reconcile, which
//! writes it to the status. A lost line costs nothing: the next one says more.
//!
//! Of a result that goes to an image service, the last lines are its pictures, and the pod ends with
//! them. So the rest of the log is read even after that, for a short time, and the pictures become a
//! ConfigMap. That is best effort: no status waits for it, and nothing fails for want of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alignment_api::{Destination, LONGEST_LINE};
use futures::{AsyncBufRead, AsyncBufReadExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::LogParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::apply;
use crate::build::metadata::pictures_metadata;
use crate::build::pictures::config_map;
use crate::build::pod::CONTAINER;
use crate::crd::ProgressStatus;
use crate::metrics::Metrics;
use crate::observe::PodView;
use crate::pictures::{Collection, Pictures};
use crate::report;
use crate::request::Request;

/// Logs that are followed at the same time.
pub const MOST_FOLLOWERS: usize = 64;
/// Shortest time between two updates of one request's progress within a stage.
pub const UPDATE_INTERVAL: Duration = Duration::from_secs(3);
/// Lines that are read again after a reconnection; the newest progress and all pictures are among them.
const TAIL_LINES: i64 = 40;
/// Longest time for the rest of a log and its pictures after the pod's end.
const FAREWELL: Duration = Duration::from_secs(30);
/// Tries to store pictures.
const TRIES: u32 = 3;
/// Pause before a log is asked for again; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

struct Follower {
    pod_uid: String,
    /// The pod has ended, or nobody wants its progress any more.
    over: CancellationToken,
}

#[derive(Default)]
struct Tables {
    followers: HashMap<String, Follower>,
    /// What is shown, with the pod that it came from.
    shown: HashMap<String, (String, ProgressStatus)>,
}

/// What one follower does.
struct Task {
    request_uid: String,
    pod: Arc<PodView>,
    over: CancellationToken,
    /// Metadata of the ConfigMap with the pictures; none, if the results are files.
    pictures: Option<ObjectMeta>,
}

impl Task {
    /// Ends when the rest of the log is not waited for any more.
    async fn patience(over: CancellationToken, awaits_pictures: bool) {
        over.cancelled().await;
        if awaits_pictures {
            tokio::time::sleep(FAREWELL).await;
        }
    }
}

/// The followers of one scope, by the uid of the request.
#[derive(Clone)]
pub struct Followers {
    client: Client,
    permits: Arc<Semaphore>,
    metrics: Metrics,
    trigger: mpsc::Sender<ObjectRef<Request>>,
    tables: Arc<Mutex<Tables>>,
}

impl Followers {
    /// No followers yet; reconciles are triggered through the channel.
    pub fn new(
        client: Client,
        permits: Arc<Semaphore>,
        metrics: Metrics,
        trigger: mpsc::Sender<ObjectRef<Request>>,
    ) -> Self {
        Self {
            client,
            permits,
            metrics,
            trigger,
            tables: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the running pod, if there is one, and nothing else.
    pub fn follow(&self, request: &Request, running: Option<&Arc<PodView>>) {
        let mut tables = self.lock();
        let followed = tables.followers.get(&uid(request));
        match (running, followed) {
            (None, Some(follower)) => follower.over.cancel(),
            (None, None) => {}
            (Some(pod), Some(follower))
                if follower.pod_uid == pod.uid && !follower.over.is_cancelled() => {}
            (Some(pod), _) => self.start(&mut tables, request, pod, CancellationToken::new()),
        }
    }

    /// The request has a result: its progress is forgotten. What its pod told of pictures is read,
    /// also if the pod ended before its log could be followed.
    pub fn conclude(&self, request: &Request, ended: Option<&Arc<PodView>>) {
        let mut tables = self.lock();
        tables.shown.remove(&uid(request));
        match (tables.followers.get(&uid(request)), ended) {
            (Some(follower), _) => follower.over.cancel(),
            (None, Some(pod)) if awaits_pictures(request) => {
                let over = CancellationToken::new();
                over.cancel();
                self.start(&mut tables, request, pod, over);
            }
            (None, _) => {}
        }
    }

    fn start(
        &self,
        tables: &mut Tables,
        request: &Request,
        pod: &Arc<PodView>,
        over: CancellationToken,
    ) {
        let task = Task {
            request_uid: uid(request),
            pod: pod.clone(),
            over: over.clone(),
            pictures: awaits_pictures(request).then(|| pictures_metadata(request)),
        };
        tokio::spawn(self.clone().run(task));
        let pod_uid = pod.uid.clone();
        let follower = Follower { pod_uid, over };
        if let Some(old) = tables.followers.insert(uid(request), follower) {
            old.over.cancel();
        }
    }

    /// What may be shown as the progress of a request.
    pub fn progress(&self, request_uid: &str) -> Option<ProgressStatus> {
        let tables = self.lock();
        tables
            .shown
            .get(request_uid)
            .map(|(_, progress)| progress.clone())
    }

    /// Stops following a request and forgets its progress.
    pub fn forget(&self, request_uid: &str) {
        let mut tables = self.lock();
        tables.shown.remove(request_uid);
        if let Some(follower) = tables.followers.remove(request_uid) {
            follower.over.cancel();
        }
    }

    async fn run(self, task: Task) {
        let patience = Task::patience(task.over.clone(), task.pictures.is_some());
        tokio::select! {
            () = self.read_on(&task) => {}
            () = patience => {}
        }
    }

    /// Reads the log until the pod has ended and all is read.
    async fn read_on(&self, task: &Task) {
        let Ok(_permit) = self.permits.clone().acquire_owned().await else {
            return;
        };
        let _counted = Counted::new(&self.metrics);
        let mut collection = Collection::default();
        let mut pause = FIRST_PAUSE;
        loop {
            // What is read from now on is the whole rest.
            let last = task.over.is_cancelled();
            match self.read(task, &mut collection).await {
                Ok(true) => pause = FIRST_PAUSE,
                Ok(false) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => return,
                Err(kube::Error::Api(status)) if status.is_forbidden() => {
                    tracing::warn!(error = %status, "logs cannot be read; no progress is shown");
                    return;
                }
                // As a rule the container is not there yet, or its node is out of reach.
                Err(error) => tracing::debug!(%error, pod = task.pod.name, "log not followed"),
            }
            if last || collection.is_finished() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = task.over.cancelled() => {}
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Reads one stream to its end; tells whether progress came.
    async fn read(&self, task: &Task, collection: &mut Collection) -> kube::Result<bool> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &task.pod.namespace);
        let params = LogParams {
            container: Some(CONTAINER.to_owned()),
            follow: true,
            tail_lines: Some(TAIL_LINES),
            ..LogParams::default()
        };
        let stream = api.log_stream(&task.pod.name, &params).await?;
        let mut lines = Lines::new(Box::pin(stream));
        let mut pace = Pace::default();
        loop {
            let line = tokio::select! {
                line = lines.next() => line,
                () = pace.wait() => {
                    if let Some(progress) = pace.due() {
                        self.show(task, progress).await;
                    }
                    continue;
                }
            };
            let Some(line) = line else {
                if let Some(progress) = pace.due() {
                    self.show(task, progress).await;
                }
                return Ok(pace.shown_at.is_some());
            };
            if let Some(progress) = report::progress(&line) {
                if let Some(progress) = pace.take(progress) {
                    self.show(task, progress).await;
                }
            } else if let Some(metadata) = &task.pictures
                && let Some(pictures) = collection.take(&line)
            {
                self.store(metadata, pictures).await;
            }
        }
    }

    /// Shows progress, if it is still wanted.
    async fn show(&self, task: &Task, progress: ProgressStatus) {
        let shown = (task.pod.uid.clone(), progress);
        let old = {
            let mut tables = self.lock();
            if task.over.is_cancelled() {
                return;
            }
            tables.shown.insert(task.request_uid.clone(), shown.clone())
        };
        if old.as_ref() == Some(&shown) {
            return;
        }
        let request = task.pod.trigger();
        // The receiver is gone only while the program stops.
        let _ = self.trigger.send(request).await;
    }

    async fn store(&self, metadata: &ObjectMeta, pictures: Pictures) {
        let pictures = config_map(metadata.clone(), pictures);
        for attempt in 1..=TRIES {
            let Err(error) = apply::create_pictures(&self.client, &pictures).await else {
                return;
            };
            let name = pictures.name_any();
            tracing::warn!(%error, name, attempt, "pictures are not stored");
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }
}

fn uid(request: &Request) -> String {
    request.uid().unwrap_or_default()
}

/// Whether the aligner tells pictures, because it leaves no files with them.
fn awaits_pictures(request: &Request) -> bool {
    matches!(request.spec.destination(), Destination::ImageService(_))
}

struct Counted(Metrics);

impl Counted {
    fn new(metrics: &Metrics) -> Self {
        metrics.log_followers.inc();
        Self(metrics.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.log_followers.dec();
    }
}

/// Decides which progress is shown, and when.
#[derive(Default)]
struct Pace {
    shown_at: Option<Instant>,
    shown: Option<ProgressStatus>,
    waiting: Option<ProgressStatus>,
}

impl Pace {
    /// Takes in a line; gives what is to be shown at once.
    fn take(&mut self, progress: ProgressStatus) -> Option<ProgressStatus> {
        let new_stage = self.shown.as_ref().map(|p| p.stage) != Some(progress.stage);
        let early = self
            .shown_at
            .is_some_and(|at| at.elapsed() < UPDATE_INTERVAL);
        self.waiting = Some(progress);
        if early && !new_stage {
            None
        } else {
            self.due()
        }
    }

    /// What waits to be shown, now that its time has come.
    fn due(&mut self) -> Option<ProgressStatus> {
        let progress = self.waiting.take()?;
        self.shown_at = Some(Instant::now());
        self.shown = Some(progress.clone());
        Some(progress)
    }

    /// Ends when something is due; never, if nothing waits.
    async fn wait(&self) {
        match (&self.waiting, self.shown_at) {
            (Some(_), Some(at)) => tokio::time::sleep_until(at + UPDATE_INTERVAL).await,
            (Some(_), None) => {}
            (None, _) => std::future::pending().await,
        }
    }
}

/// Lines of bounded length: of a longer one, the rest is passed over.
struct Lines<R> {
    reader: R,
    line: Vec<u8>,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    const fn new(reader: R) -> Self {
        Self {
            reader,
            line: Vec::new(),
        }
    }

    /// The next line; none at the end, a broken stream included. Can be cancelled at any time.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let chunk = self.reader.fill_buf().await.ok()?;
            if chunk.is_empty() {
                return None;
            }
            let newline = chunk.iter().position(|byte| *byte == b'\n');
            let part = &chunk[..newline.unwrap_or(chunk.len())];
            // One byte more than the limit marks the line as too long.
            let room = (LONGEST_LINE + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let consumed = newline.map_or(chunk.len(), |position| position + 1);
            self.reader.consume_unpin(consumed);
            if newline.is_some() {
                return Some(std::mem::take(&mut self.line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alignment_api::Stage;

    use super::*;

    fn progress(stage: Stage, percent: i32) -> ProgressStatus {
        ProgressStatus {
            stage,
            percent,
            level: None,
            iteration: None,
            metric: None,
            eta_seconds: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn progress_is_shown_every_few_seconds_and_at_once_with_a_new_stage() {
        let mut pace = Pace::default();
        let percent = |shown: Option<ProgressStatus>| shown.map(|p| p.percent);
        assert_eq!(percent(pace.take(progress(Stage::Load, 1))), Some(1));
        assert_eq!(percent(pace.take(progress(Stage::Load, 2))), None);
        assert_eq!(percent(pace.take(progress(Stage::Depth, 5))), Some(5));
        assert_eq!(percent(pace.take(progress(Stage::Depth, 6))), None);
        assert_eq!(percent(pace.take(progress(Stage::Depth, 7))), None);
        let before = Instant::now();
        pace.wait().await;
        assert_eq!(before.elapsed(), UPDATE_INTERVAL);
        assert_eq!(percent(pace.due()), Some(7));
        assert_eq!(percent(pace.due()), None);
    }

    #[tokio::test]
    async fn lines_are_cut_and_endless_ones_do_not_fill_the_memory() {
        let long = "x".repeat(10 * LONGEST_LINE);
        let text = format!("a\n{long}\n\nb\nrest");
        let mut lines = Lines::new(futures::io::Cursor::new(text));
        assert_eq!(lines.next().await.unwrap(), b"a");
        let cut = lines.next().await.unwrap();
        assert_eq!(cut.len(), LONGEST_LINE + 1);
        assert_eq!(report::progress(&cut), None);
        assert_eq!(lines.next().await.unwrap(), b"");
        assert_eq!(lines.next().await.unwrap(), b"b");
        assert_eq!(lines.next().await, None);
    }
}
