//! Making a request: the body, the caller's key, the image service, and only then the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kube::ResourceExt;
use serde_json::Value;
use transfer::error::NetError;
use transfer::token::Token;

use super::document::{self, Asked};
use super::problem::{Kind as Wrong, Problem};
use super::{Known, is_of, not_taken, view_of};
use crate::gateway::id::Id;
use crate::gateway::identity::Caller;
use crate::gateway::proxy::Prefix;
use crate::gateway::requests::{FINGERPRINT, Interface, New, OWNER, SHOWN_NAME};
use crate::gateway::{Gateway, LARGEST_BODY};
use crate::request::{Kind, Request};

/// Header with the token for the image service.
const SERVICE_TOKEN: &str = "image-service-token";
/// Header with the caller's key of a request.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Longest key.
const LONGEST_KEY: usize = 255;
/// What was made may take so long to be seen.
const SOON: Duration = Duration::from_secs(2);
/// Answers `POST /v1/requests`.
///
/// # Errors
/// What is wrong with the call, or why nothing was made.
pub(super) async fn create(
    State(gateway): State<Gateway>,
    prefix: Prefix,
    known: Known,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let asked = Asked::read(&json_of(&headers, body)?).map_err(Problem::invalid)?;
    let key = key_of(&headers)?;
    let token = service_token(&gateway, &known, &headers)?;
    let token = check_service(&gateway, &asked, token).await?;
    let kind = Kind::of(&asked.spec);
    let id = match &key {
        Some(key) => Id::of(&[known.caller.as_str(), key, kind.name()]),
        None => Id::new(),
    };
    let spec = asked.spec(&id.to_string());
    let mut annotations = BTreeMap::from([
        (OWNER.to_owned(), known.caller.as_str().to_owned()),
        (FINGERPRINT.to_owned(), asked.fingerprint.clone()),
    ]);
    annotations.extend(asked.name.clone().map(|name| (SHOWN_NAME.to_owned(), name)));
    let new = New {
        id: &id,
        interface: Interface::V1,
        annotations,
        spec: &spec,
        token: token.as_ref(),
    };
    let (status, request) = match gateway.requests.create(new).await {
        Ok(request) => (StatusCode::CREATED, Arc::new(request)),
        Err(error) if error.is_already_there() => {
            let request = again(&gateway, &known.caller, &id, &asked, token.as_ref()).await?;
            (StatusCode::OK, request)
        }
        Err(error) => return Err(not_taken(&error)),
    };
    let view = view_of(&gateway, &request, &prefix).await;
    let location = [(header::LOCATION, format!("{prefix}/v1/requests/{id}"))];
    Ok((status, location, Json(view)).into_response())
}

/// The key was used before: the same request is answered, and given its token if it never got one.
async fn again(
    gateway: &Gateway,
    caller: &Caller,
    id: &Id,
    asked: &Asked,
    token: Option<&Token>,
) -> Result<Arc<Request>, Problem> {
    let seen = async {
        loop {
            // Before the look, so that no change is missed.
            let mut changes = gateway.requests.changes();
            if let Some(request) = gateway.requests.get(id) {
                return request;
            }
            let _ = changes.recv().await;
        }
    };
    let request = tokio::time::timeout(SOON, seen).await.map_err(|_| {
        Problem::new(Wrong::Unavailable, "The request is not known yet.").retry_after(1)
    })?;
    let fingerprint = request.annotations().get(FINGERPRINT);
    if !is_of(&request, caller) || fingerprint != Some(&asked.fingerprint) {
        let detail =
            "A request with this key asks for something else. Use a new key for a new request.";
        return Err(Problem::new(Wrong::IdempotencyKeyReused, detail));
    }
    if let Some(token) = token
        && !request.is_finished()
    {
        match gateway.requests.give_token(&request, token).await {
            Err(error) if !error.is_already_there() => return Err(not_taken(&error)),
            _ => {}
        }
    }
    Ok(request)
}

fn json_of(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Value, Problem> {
    let type_ = headers.get(header::CONTENT_TYPE);
    let type_ = type_.and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = type_.split(';').next().unwrap_or("").trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let detail = "Expected the header `Content-Type: application/json`.";
        return Err(Problem::new(Wrong::UnsupportedMediaType, detail));
    }
    let body = body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            Wrong::TooLarge,
            format!("At most {LARGEST_BODY} bytes are taken."),
        ),
        _ => Problem::new(Wrong::InvalidJson, error.body_text()),
    })?;
    serde_json::from_slice(&body)
        .map_err(|error| Problem::new(Wrong::InvalidJson, format!("{error}.")))
}

fn key_of(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(given) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let key = given.to_str().unwrap_or_default();
    if key.is_empty() || key.len() > LONGEST_KEY {
        let detail =
            format!("`Idempotency-Key` must have 1 to {LONGEST_KEY} visible characters of ASCII.");
        return Err(Problem::new(Wrong::InvalidParameter, detail));
    }
    Ok(Some(key.to_owned()))
}

fn service_token(
    gateway: &Gateway,
    known: &Known,
    headers: &HeaderMap,
) -> Result<Option<Token>, Problem> {
    match headers.get(SERVICE_TOKEN) {
        Some(given) => {
            let token = given.to_str().ok().and_then(Token::new);
            let detail = "`Image-Service-Token` is no token.";
            token
                .map(Some)
                .ok_or_else(|| Problem::new(Wrong::InvalidParameter, detail))
        }
        None if gateway.identity.token_is_for_services() => Ok(Some(known.token.clone())),
        None => Ok(None),
    }
}

/// Whether the image service may be asked, takes the token, and has what the request reads. Gives the
/// token that the request needs, if it needs one.
async fn check_service(
    gateway: &Gateway,
    asked: &Asked,
    token: Option<Token>,
) -> Result<Option<Token>, Problem> {
    let Some((field, base)) = &asked.service else {
        return Ok(None);
    };
    if !gateway.images.allows(base) {
        let message = format!(
            "`{}` is not an image service that this installation may ask",
            base.origin()
        );
        return Err(Problem::invalid(vec![document::violation(field, message)]));
    }
    let token = token.ok_or_else(|| {
        let detail =
            "The request names an image service: expected the header `Image-Service-Token`.";
        Problem::new(Wrong::InvalidParameter, detail)
    })?;
    let listed = gateway
        .images
        .list(base.clone(), &token)
        .await
        .map_err(|error| {
            let wrong = match error {
                NetError::Unauthorized { .. } => Wrong::Unauthorized,
                _ => Wrong::ImageService,
            };
            Problem::new(wrong, format!("The image service: {error}."))
        })?;
    let missing = asked
        .images
        .iter()
        .filter(|(_, name)| !listed.iter().any(|entry| entry.name == *name));
    let missing: Vec<_> = missing
        .map(|(field, name)| {
            document::violation(
                field,
                format!("the image service lists no image named `{name}`"),
            )
        })
        .collect();
    if missing.is_empty() {
        Ok(Some(token))
    } else {
        Err(Problem::invalid(missing))
    }
}
