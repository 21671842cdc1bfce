//! The gateway's requests: a watch keeps them in memory, so that reading one costs the API server
//! nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alignment_api::{CurvePoint, RequestSpec};
use futures::{Stream, StreamExt, future};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{
    DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams, Preconditions,
};
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::broadcast;
use transfer::token::Token;

use super::curve::Curves;
use super::id::Id;
use crate::error::{Error, call};
use crate::readiness::Readiness;
use crate::request::{Kind, Request};
use crate::watch::{self, WatchResult};

/// Label of the requests that the gateway made, and of their Secrets.
pub const LABEL: &str = "voluba.ebrains.eu/gateway";
/// Annotation of whose request it is, if the interface knows.
pub const OWNER: &str = "voluba.ebrains.eu/owner";
/// Annotation of the name that its author gave it.
pub const SHOWN_NAME: &str = "voluba.ebrains.eu/shown-name";
/// Annotation of what was asked for: a second call with the same key must ask for the same.
pub const FINGERPRINT: &str = "voluba.ebrains.eu/fingerprint";
/// Changes that a listener may be behind; beyond that it is told that it missed some.
const UNHEARD: usize = 1024;
/// Beginning of the names of the Secrets that the gateway makes; it deletes no others.
const SECRET_PREFIX: &str = "voluba-gateway-";

/// The interface by which a request came: the value of [`LABEL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// The old one.
    V0,
    /// The one for programs and for the page.
    V1,
}

impl Interface {
    const fn name(self) -> &'static str {
        match self {
            Self::V0 => "v0",
            Self::V1 => "v1",
        }
    }
}

/// A request to be made.
pub struct New<'a> {
    /// Its identifier and name.
    pub id: &'a Id,
    /// By which interface it comes.
    pub interface: Interface,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// What it asks for.
    pub spec: &'a RequestSpec,
    /// The caller's token for the image service.
    pub token: Option<&'a Token>,
}

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
    curves: Curves,
    changed: broadcast::Sender<Arc<str>>,
}

/// Changes of the requests of one kind, as the watch tells them.
pub type Changes = futures::stream::BoxStream<'static, WatchResult<Event<Request>>>;

impl Requests {
    /// Begins to watch. The changes must be polled, or nothing is ever known.
    pub fn watch(client: Client, namespace: &str, readiness: &Readiness) -> (Self, Vec<Changes>) {
        let mut changes = Vec::new();
        let curves = Curves::default();
        let (changed, _) = broadcast::channel(UNHEARD);
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
            let (curves, changed) = (curves.clone(), changed.clone());
            // Whoever is told finds the change in the store.
            let stream = stream.inspect(move |event| {
                if let Ok(event) = event {
                    curves.note(event);
                    if let Event::Apply(request)
                    | Event::InitApply(request)
                    | Event::Delete(request) = event
                    {
                        // Nobody may be listening.
                        let _ = changed.send(request.name_any().into());
                    }
                }
            });
            changes.push(logged(stream).boxed());
            store
        });
        let requests = Self {
            client,
            namespace: namespace.into(),
            stores,
            curves,
            changed,
        };
        (requests, changes)
    }

    /// The request of an identifier, whatever its kind.
    pub fn get(&self, id: &Id) -> Option<Arc<Request>> {
        self.named(&id.to_string())
    }

    fn named(&self, name: &str) -> Option<Arc<Request>> {
        let mut found = Kind::ALL.into_iter().zip(&self.stores);
        found.find_map(|(kind, store)| {
            store.get(&ObjectRef::new_with(name, kind).within(&self.namespace))
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

    /// Names of requests that change from now on.
    pub fn changes(&self) -> broadcast::Receiver<Arc<str>> {
        self.changed.subscribe()
    }

    /// How the registration of a request has gone, as far as this replica has seen it.
    pub fn curve(&self, request: &str) -> Vec<CurvePoint> {
        self.curves.of(request)
    }

    /// Makes a request and the Secret with its token. The request comes first, so that the Secret
    /// has an owner from its first moment on: whatever happens in between, no token is left over.
    ///
    /// # Errors
    /// What the API server answers. The request may be there all the same, without its Secret; such
    /// a one is removed later.
    pub async fn create(&self, new: New<'_>) -> Result<Request, Error> {
        let kind = Kind::of(new.spec);
        let object = json!({
            "apiVersion": Request::api_version(&kind),
            "kind": kind.name(),
            "metadata": {
                "name": new.id.to_string(),
                "labels": {LABEL: new.interface.name()},
                "annotations": new.annotations,
            },
            "spec": new.spec,
        });
        let unreadable = |error| Error::Api {
            call: "create request",
            source: Box::new(kube::Error::SerdeError(error)),
        };
        let api = api(&self.client, &self.namespace, kind);
        let object: DynamicObject = serde_json::from_value(object).map_err(unreadable)?;
        let params = PostParams::default();
        let made = call("create request", api.create(&params, &object)).await?;
        let made = Request::read(made, kind).map_err(unreadable)?;
        if let Some(token) = new.token
            && let Err(error) = self.give_first_token(&made, token).await
        {
            // Without its token it can only fail.
            if let Err(error) = self.delete(kind, &made.metadata).await {
                tracing::warn!(%error, request = %new.id, "request without a Secret not removed");
            }
            return Err(error);
        }
        Ok(made)
    }

    /// Makes the Secret of a request that was made just now. There may be one of this name: of an
    /// earlier request, which goes with it, or made for this one by another replica. Which of the two
    /// cannot be read, so it is replaced; if it is there again, it is of this one.
    async fn give_first_token(&self, made: &Request, token: &Token) -> Result<(), Error> {
        match self.give_token(made, token).await {
            Err(error) if error.is_already_there() => {}
            answer => return answer,
        }
        self.forget_token(&made.name_any()).await?;
        match self.give_token(made, token).await {
            Err(error) if error.is_already_there() => Ok(()),
            answer => answer,
        }
    }

    /// Makes the Secret with the token of a request.
    ///
    /// # Errors
    /// What the API server answers.
    pub async fn give_token(&self, request: &Request, token: &Token) -> Result<(), Error> {
        let secret = secret(request, token);
        let params = PostParams::default();
        call("create secret", self.secrets().create(&params, &secret)).await?;
        // It may have ended before it had its Secret.
        let name = request.name_any();
        if self.named(&name).is_some_and(|known| known.is_finished()) {
            self.forget_token(&name).await?;
        }
        Ok(())
    }

    /// Has a request end for good.
    ///
    /// # Errors
    /// What the API server answers.
    pub async fn cancel(&self, request: &Request) -> Result<Request, Error> {
        let kind = request.kind();
        let api = api(&self.client, &self.namespace, kind);
        let patch = Patch::Merge(json!({
            "metadata": {"uid": request.uid()},
            "spec": {"cancel": true},
        }));
        let (name, params) = (request.name_any(), PatchParams::default());
        let patched = call("cancel request", api.patch(&name, &params, &patch)).await?;
        Request::read(patched, kind).map_err(|error| Error::Api {
            call: "cancel request",
            source: Box::new(kube::Error::SerdeError(error)),
        })
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
            Err(error) if error.is_already_there() => Ok(false),
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

fn secret(request: &Request, token: &Token) -> Secret {
    let (name, kind) = (request.name_any(), request.kind());
    let owner = OwnerReference {
        api_version: Request::api_version(&kind).into_owned(),
        kind: kind.name().to_owned(),
        name: name.clone(),
        uid: request.uid().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let label = request.labels().get(LABEL).cloned().unwrap_or_default();
    let key = alignment_api::TOKEN_KEY.to_owned();
    let value = ByteString(token.reveal().as_bytes().to_owned());
    Secret {
        metadata: ObjectMeta {
            name: Some(secret_name(&name)),
            labels: Some([(LABEL.to_owned(), label)].into()),
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
        Err(error) if error.is_missing() => Ok(()),
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
