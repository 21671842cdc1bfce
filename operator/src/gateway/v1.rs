//! The interface for programs and for the page.
//!
//! Whoever knows the identifier of a request may read it, as in the old interface: it cannot be
//! guessed. Everything else needs a caller that is known.

pub mod create;
pub mod document;
pub mod events;
pub mod help;
pub mod openapi;
pub mod problem;
pub mod view;

use std::cmp::Reverse;
use std::num::NonZero;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router, middleware};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use transfer::token::Token;

use super::id::Id;
use super::identity::{Caller, Identity, Unknown, bearer};
use super::proxy::Prefix;
use super::requests::OWNER;
use super::{Gateway, LARGEST_BODY, timeout};
use crate::crd::Phase;
use crate::error::Error;
use crate::request::{Kind, Request};
use problem::{Kind as Wrong, Problem};
use view::Extras;

/// Requests in a list, if the caller does not say.
const PAGE: NonZero<u16> = NonZero::new(50).expect("not zero");
/// Most requests in a list.
const LARGEST_PAGE: u16 = 500;

/// All routes.
pub fn routes() -> Router<Gateway> {
    Router::new()
        .route("/v1", get(about))
        .route("/v1/openapi.json", get(openapi::document))
        .route("/v1/requests", get(list).post(create::create))
        .route("/v1/requests/{id}", get(read).delete(delete))
        .route("/v1/requests/{id}/cancel", post(cancel))
        .route("/v1/requests/{id}/events", get(follow))
        .route("/v1/requests/{id}/pictures/{name}", get(picture))
        .route(
            "/v1/{*rest}",
            any(|| async { absent("There is no such path.") }),
        )
        .method_not_allowed_fallback(|| async {
            Problem::new(Wrong::MethodNotAllowed, "The path has other methods.")
        })
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(timeout())
        .layer(middleware::map_response(late))
}

/// What the layer of the time limit answers has no body.
async fn late(response: Response) -> Response {
    if response.status() != StatusCode::REQUEST_TIMEOUT {
        return response;
    }
    let seconds = super::PATIENCE.as_secs();
    Problem::new(Wrong::Timeout, format!("It took longer than {seconds} s.")).into_response()
}

fn absent(detail: &str) -> Problem {
    Problem::new(Wrong::NotFound, detail)
}

/// A caller that is known and may call now.
struct Known {
    caller: Caller,
    token: Token,
}

impl FromRequestParts<Gateway> for Known {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Problem> {
        if matches!(gateway.identity, Identity::Nobody) {
            return Err(problem_of(Unknown::NotOffered));
        }
        let token = bearer(&parts.headers).ok_or_else(|| {
            let detail = "Expected the header `Authorization: Bearer TOKEN`.";
            Problem::new(Wrong::Unauthorized, detail)
        })?;
        let caller = gateway.identity.verify(&token).await.map_err(problem_of)?;
        gateway.rate.count(&caller).map_err(|seconds| {
            let detail = format!("The next call is allowed in {seconds} s.");
            Problem::new(Wrong::RateLimited, detail).retry_after(seconds)
        })?;
        Ok(Self { caller, token })
    }
}

fn problem_of(unknown: Unknown) -> Problem {
    match unknown {
        Unknown::NotOffered => Problem::new(
            Wrong::NotOffered,
            "This installation knows no callers: requests can be read by their identifiers, not listed or made here.",
        ),
        Unknown::Refused(detail) => Problem::new(Wrong::Unauthorized, detail),
        Unknown::Unavailable(detail) => Problem::new(Wrong::Unavailable, detail).retry_after(5),
    }
}

async fn about(State(gateway): State<Gateway>) -> Json<Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "identity": gateway.identity.describe(),
        "imageServices": gateway.image_services,
    }))
}

/// What a caller wants to see of its requests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    limit: Option<NonZero<u16>>,
    #[serde(rename = "continue")]
    after: Option<String>,
    kind: Option<String>,
    phase: Option<Phase>,
}

/// A place in a list: time and name of the last request before it.
type Place = (Option<k8s_openapi::jiff::Timestamp>, String);

fn place(request: &Request) -> Place {
    let made = request.creation_timestamp();
    (made.map(|time| time.0), request.name_any())
}

async fn list(
    State(gateway): State<Gateway>,
    prefix: Prefix,
    known: Known,
    query: Result<Query<Listed>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) =
        query.map_err(|error| Problem::new(Wrong::InvalidParameter, error.body_text()))?;
    let wrong = |name: &str| {
        let detail = format!(
            "`{name}` has a value that was not given out or is not one of those that there are."
        );
        Problem::new(Wrong::InvalidParameter, detail)
    };
    let after: Option<Place> = match &query.after {
        Some(text) => Some(unfold(text).ok_or_else(|| wrong("continue"))?),
        None => None,
    };
    let kind = match &query.kind {
        Some(name) => {
            let mut kinds = Kind::ALL.into_iter();
            Some(
                kinds
                    .find(|kind| kind.name() == name)
                    .ok_or_else(|| wrong("kind"))?,
            )
        }
        None => None,
    };
    let limit = usize::from(query.limit.unwrap_or(PAGE).get().min(LARGEST_PAGE));
    let mut found = gateway.requests.all();
    found.retain(|request| {
        is_of(request, &known.caller)
            && kind.is_none_or(|kind| kind == request.kind())
            && query
                .phase
                .is_none_or(|phase| phase == request.phase().unwrap_or(Phase::Pending))
            && after.as_ref().is_none_or(|after| place(request) < *after)
    });
    found.sort_by_key(|request| Reverse(place(request)));
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| fold(&place(last)));
    let items: Vec<_> = found
        .iter()
        .map(|request| view::summary(request, &prefix))
        .collect();
    Ok(Json(json!({"items": items, "continue": next})))
}

fn fold(place: &Place) -> String {
    URL_SAFE_NO_PAD.encode(json!(place).to_string())
}

fn unfold(text: &str) -> Option<Place> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

fn is_of(request: &Request, caller: &Caller) -> bool {
    request
        .annotations()
        .get(OWNER)
        .is_some_and(|owner| owner == caller.as_str())
}

async fn view_of(gateway: &Gateway, request: &Request, prefix: &Prefix) -> Value {
    let name = request.name_any();
    let mut extras = Extras {
        curve: gateway.requests.curve(&name),
        pictures: None,
    };
    if request.phase() == Some(Phase::Succeeded) {
        let pictures = gateway.gallery.of(request).await;
        extras.pictures =
            (!pictures.files.is_empty()).then(|| pictures.files.keys().cloned().collect());
        // The aligner has seen every iteration.
        if !pictures.curve.is_empty() {
            extras.curve.clone_from(&pictures.curve);
        }
    }
    view::whole(request, &extras, prefix)
}

fn find(gateway: &Gateway, id: &str) -> Result<(Id, Arc<Request>), Problem> {
    let id = Id::parse(id).ok_or_else(|| absent("This is no identifier."))?;
    match gateway.requests.get(&id) {
        Some(request) => Ok((id, request)),
        // Another replica may have made it just now.
        None if id.is_young(SystemTime::now()) => {
            Err(absent("The request is not known yet.").retry_after(1))
        }
        None => Err(absent("There is no such request, or it ended long ago.")),
    }
}

fn find_own(gateway: &Gateway, known: &Known, id: &str) -> Result<Arc<Request>, Problem> {
    let (_, request) = find(gateway, id)?;
    if is_of(&request, &known.caller) {
        Ok(request)
    } else {
        Err(Problem::new(
            Wrong::Forbidden,
            "The request was made by somebody else.",
        ))
    }
}

async fn read(
    State(gateway): State<Gateway>,
    prefix: Prefix,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (_, request) = find(&gateway, &id)?;
    let body = view_of(&gateway, &request, &prefix).await.to_string();
    let digest = transfer::hex(&Sha256::digest(&body));
    let tag = format!("\"{}\"", &digest[..32]);
    let seen = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let seen = seen.is_some_and(|tags| {
        let mut tags = tags
            .split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"));
        tags.any(|seen| seen == tag || seen == "*")
    });
    let cached = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    if seen {
        return Ok((StatusCode::NOT_MODIFIED, cached).into_response());
    }
    let type_ = [(header::CONTENT_TYPE, "application/json")];
    Ok((cached, type_, body).into_response())
}

async fn follow(
    State(gateway): State<Gateway>,
    prefix: Prefix,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (id, _) = find(&gateway, &id)?;
    let place = gateway.followers.clone().try_acquire_owned().map_err(|_| {
        let detail = "Too many requests are followed; ask for the request itself.";
        Problem::new(Wrong::Unavailable, detail).retry_after(30)
    })?;
    Ok(events::follow(gateway, prefix, id, place).into_response())
}

async fn picture(
    State(gateway): State<Gateway>,
    Path((id, name)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (_, request) = find(&gateway, &id)?;
    let missing = || absent("There is no such picture.");
    if request.phase() != Some(Phase::Succeeded) {
        return Err(missing());
    }
    let pictures = gateway.gallery.of(&request).await;
    let file = pictures.files.get(&name).ok_or_else(missing)?.clone();
    let headers = [
        (header::CONTENT_TYPE, "image/png"),
        (header::CACHE_CONTROL, "private, max-age=86400, immutable"),
    ];
    Ok((headers, file).into_response())
}

async fn cancel(
    State(gateway): State<Gateway>,
    prefix: Prefix,
    known: Known,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let request = find_own(&gateway, &known, &id)?;
    if request.is_finished() {
        let phase = request.phase().map_or("", Phase::name);
        let detail = format!("The request has ended already: {phase}.");
        return Err(Problem::new(Wrong::Over, detail));
    }
    let request = gateway
        .requests
        .cancel(&request)
        .await
        .map_err(|error| not_taken(&error))?;
    let view = view_of(&gateway, &request, &prefix).await;
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}

async fn delete(
    State(gateway): State<Gateway>,
    known: Known,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let request = find_own(&gateway, &known, &id)?;
    let deleted = gateway
        .requests
        .delete(request.kind(), &request.metadata)
        .await;
    deleted.map_err(|error| not_taken(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the cluster has to say against it; the gateway's own rights are nobody's business.
fn not_taken(error: &Error) -> Problem {
    tracing::warn!(%error, "refused by the cluster");
    if let Error::Api { source, .. } = error
        && let kube::Error::Api(status) = &**source
        && (status.is_invalid() || status.is_forbidden())
        && !status.message.contains(" cannot ")
    {
        return Problem::new(Wrong::Refused, status.message.clone());
    }
    if error.is_outdated() {
        return absent("The request has gone in the meantime.");
    }
    Problem::new(
        Wrong::Unavailable,
        "The cluster does not answer as it should.",
    )
    .retry_after(5)
}
