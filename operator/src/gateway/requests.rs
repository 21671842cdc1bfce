//! The gateway's requests: a watch keeps them in memory, so that reading one costs the API server
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use alignment_api::RequestSpec;
use futures::{Stream, StreamExt, future};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, DynamicObject, ObjectMeta, PostParams, Preconditions};
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use transfer::token::Token;

use super::id::Id;
use crate::error::{Error, call};
use crate::readiness::Readiness;
use crate::request::{Kind, Request};
use crate::watch::{self, WatchResult};

/// Label of the requests that the gateway made, and of their Secrets.
pub const LABEL: &str = "voluba.ebrains.eu/gateway";
/// Value of [`LABEL`]: the interface by which they came.
pub const V0: &str = "v0";
/// Beginning of the names of the Secrets that the gateway makes; it deletes no others.
const SECRET_PREFIX: &str = "voluba-gateway-";

/// Name of the Secret of a request.
pub fn secret_name(request: &str) -> String {
    format!("{SECRET_PREFIX}{request}")
}

/// The requests of one namespace that came through a gateway.
#[derive(Clone)]
pub struct Requests {
    client: Client,
    namespace: Arc<str>,
    stores: [Store<Request>; 2],
}

/// Changes of the requests of one kind, as the watch tells them.
pub type Changes = futures::stream::BoxStream<'static, WatchResult<Event<Request>>>;

impl Requests {
    /// Begins to watch. The changes must be polled, or nothing is ever known.
    pub fn watch(client: Client, namespace: &str, readiness: &Readiness) -> (Self, Vec<Changes>) {
        let mut changes = Vec::new();
        let stores = Kind::ALL.map(|kind| {
            let writer = Writer::new(kind);
            let store = writer.as_reader();
            let cache = readiness.cache(kind.plural(), Some(namespace));
            let api = api(&client, namespace, kind);
            let stream = watcher(api, watch::config().labels(LABEL))
                .default_backoff()
                .inspect(move |event| watch::note_cache(&cache, event))
                .filter_map(move |event| {
                    let event = event.map(|event| watch::parse_event(event, kind));
                    future::ready(event.transpose())
                })
                .reflect(writer);
            changes.push(logged(stream).boxed());
            store
        });
        let requests = Self {
            client,
            namespace: namespace.into(),
            stores,
        };
        (requests, changes)
    }

    /// The request of an identifier, whatever its kind.
    pub fn get(&self, id: &Id) -> Option<Arc<Request>> {
        let name = id.to_string();
        let mut found = Kind::ALL.into_iter().zip(&self.stores);
        found.find_map(|(kind, store)| {
            store.get(&ObjectRef::new_with(&name, kind).within(&self.namespace))
        })
    }

    /// Waits until all requests are known that there were when the watch began.
    pub async fn until_known(&self) {
        for store in &self.stores {
            // Fails only when the watch has ended, and the program with it.
            let _ = store.wait_until_ready().await;
        }
    }

    /// All requests.
    pub fn all(&self) -> Vec<Arc<Request>> {
        self.stores.iter().flat_map(Store::state).collect()
    }

    /// Makes a request and the Secret with its token. The request comes first, so that the Secret
    /// has an owner from its first moment on: whatever happens in between, no token is left over.
    ///
    /// # Errors
    /// What the API server answers. The request may be there all the same, without its Secret; such
    /// a one is removed later.
    pub async fn create(&self, id: &Id, spec: &RequestSpec, token: &Token) -> Result<(), Error> {
        let kind = Kind::of(spec);
        let name = id.to_string();
        let object = json!({
            "apiVersion": Request::api_version(&kind),
            "kind": kind.name(),
            "metadata": {"name": name, "labels": {LABEL: V0}},
            "spec": spec,
        });
        let api = api(&self.client, &self.namespace, kind);
        let object: DynamicObject = serde_json::from_value(object).map_err(|error| Error::Api {
            call: "create request",
            source: Box::new(kube::Error::SerdeError(error)),
        })?;
        let params = PostParams::default();
        let made = call("create request", api.create(&params, &object)).await?;
        let secret = secret(&made, kind, token);
        let made_secret = call("create secret", self.secrets().create(&params, &secret)).await;
        if let Err(error) = made_secret {
            // Without its token it can only fail.
            if let Err(error) = self.delete(kind, &made.metadata).await {
                tracing::warn!(%error, request = name, "request without a Secret not removed");
            }
            return Err(error);
        }
        // It may have ended before it had its Secret.
        if self.get(id).is_some_and(|request| request.is_finished()) {
            self.forget_token(&name).await?;
        }
        Ok(())
    }

    /// Deletes the Secret of a request; it is as good if there is none.
    ///
    /// # Errors
    /// What the API server answers.
    pub async fn forget_token(&self, request: &str) -> Result<(), Error> {
        let name = secret_name(request);
        let (secrets, params) = (self.secrets(), DeleteParams::default());
        let deleted = call("delete secret", secrets.delete(&name, &params)).await;
        absent_is_fine(deleted.map(drop))
    }

    /// Whether there is no Secret for a request. Asked by a dry run of making one, because the
    /// gateway may not read Secrets.
    ///
    /// # Errors
    /// What the API server answers.
    pub async fn lacks_token(&self, request: &str) -> Result<bool, Error> {
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(secret_name(request)),
                ..ObjectMeta::default()
            },
            ..Secret::default()
        };
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        match call("create secret", self.secrets().create(&params, &secret)).await {
            Ok(_) => Ok(true),
            Err(Error::Api { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.is_already_exists()) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes a request, if it still is the one that is meant; its Job and Secret go with it.
    ///
    /// # Errors
    /// What the API server answers.
    pub async fn delete(&self, kind: Kind, metadata: &ObjectMeta) -> Result<(), Error> {
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: metadata.uid.clone(),
            ..Preconditions::default()
        });
        let name = metadata.name.clone().unwrap_or_default();
        let api = api(&self.client, &self.namespace, kind);
        absent_is_fine(
            call("delete request", api.delete(&name, &params))
                .await
                .map(drop),
        )
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

fn api(client: &Client, namespace: &str, kind: Kind) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &kind.resource())
}

fn secret(request: &DynamicObject, kind: Kind, token: &Token) -> Secret {
    let name = request.name_any();
    let owner = OwnerReference {
        api_version: Request::api_version(&kind).into_owned(),
        kind: kind.name().to_owned(),
        name: name.clone(),
        uid: request.uid().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let key = alignment_api::TOKEN_KEY.to_owned();
    let value = ByteString(token.reveal().as_bytes().to_owned());
    Secret {
        metadata: ObjectMeta {
            name: Some(secret_name(&name)),
            labels: Some([(LABEL.to_owned(), V0.to_owned())].into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some([(key, value)].into()),
        immutable: Some(true),
        ..Secret::default()
    }
}

fn absent_is_fine(answer: Result<(), Error>) -> Result<(), Error> {
    match answer {
        Err(Error::Api { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.is_not_found()) => {
            Ok(())
        }
        answer => answer,
    }
}

/// A watch that is interrupted goes on by itself; not more often than this is it told.
const TELL_EVERY: Duration = Duration::from_secs(30);

fn logged(
    stream: impl Stream<Item = WatchResult<Event<Request>>> + Send + 'static,
) -> impl Stream<Item = WatchResult<Event<Request>>> + Send + 'static {
    let mut told: Option<tokio::time::Instant> = None;
    stream.inspect(move |event| {
        if let Err(error) = event
            && told.is_none_or(|at| at.elapsed() > TELL_EVERY)
        {
            told = Some(tokio::time::Instant::now());
            tracing::warn!(%error, "watch interrupted");
        }
    })
}
