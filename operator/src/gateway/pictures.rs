//! Pictures of results: the operator leaves them in a ConfigMap beside the request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, ResourceExt};
use tokio::time::Instant;

use crate::build::metadata::pictures_name;
use crate::build::pictures::read;
use crate::pictures::Pictures;
use crate::request::Request;

/// Requests whose pictures are kept in memory.
const MOST_KEPT: usize = 64;
/// What was not there may come: it is asked for again after so long.
const ABSENT_FOR: Duration = Duration::from_secs(5);

struct Kept {
    uid: String,
    at: Instant,
    pictures: Arc<Pictures>,
}

fn belongs(map: &ConfigMap, uid: &str) -> bool {
    let owners = map.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.uid == uid)
}

/// The pictures of all requests.
#[derive(Clone)]
pub struct Gallery {
    api: Api<ConfigMap>,
    /// The newest last.
    kept: Arc<Mutex<VecDeque<Kept>>>,
}

impl Gallery {
    /// Of the requests of a namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            kept: Arc::default(),
        }
    }

    /// The pictures of a request that has ended; empty if there are none. Read once, since they never
    /// change.
    pub async fn of(&self, request: &Request) -> Arc<Pictures> {
        // An identifier may come again, the uid does not.
        let (name, uid) = (request.name_any(), request.uid().unwrap_or_default());
        if let Some(known) = self.known(&uid) {
            return known;
        }
        let pictures = match self.api.get_opt(&pictures_name(&name)).await {
            Ok(map) => map.filter(|map| belongs(map, &uid)).map(read),
            Err(error) => {
                tracing::warn!(%error, request = name, "pictures not read");
                None
            }
        };
        let pictures = Arc::new(pictures.unwrap_or_default());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|one| one.uid != uid);
        if kept.len() >= MOST_KEPT {
            kept.pop_front();
        }
        kept.push_back(Kept {
            uid,
            at: Instant::now(),
            pictures: pictures.clone(),
        });
        pictures
    }

    fn known(&self, uid: &str) -> Option<Arc<Pictures>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let one = kept.iter().find(|one| one.uid == uid)?;
        let good = !one.pictures.is_empty() || one.at.elapsed() < ABSENT_FOR;
        good.then(|| one.pictures.clone())
    }
}
