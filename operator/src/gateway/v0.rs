//! The old HTTP interface, which the front end of VoluBA speaks.
//!
//! Compatible to the byte where clients depend on it; docs/gateway.md lists every difference.

pub mod answers;
pub mod bodies;
pub mod fields;
pub mod pages;
pub mod standing;

use std::collections::BTreeMap;
use std::time::SystemTime;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde_json::{Value, json};
use transfer::error::NetError;
use transfer::image_service::Entry;
use transfer::token::Token;

use super::Gateway;
use super::id::Id;
use super::proxy::Prefix;
use super::requests::{Interface, New};
use answers::Refusal;
use bodies::{AlignmentBody, DepthMapBody};

const DEPTH_MAP: &str = "/v0/depth-map-computation";
const ALIGNMENT: &str = "/v0/alignment-computation";
/// The description of the interface.
pub const OPENAPI: &str = include_str!("v0/openapi.json");

/// All routes of the old service.
pub fn routes() -> Router<Gateway> {
    let mut router = Router::new();
    for base in [DEPTH_MAP, ALIGNMENT] {
        let collection = format!("{base}/");
        let create = match base {
            DEPTH_MAP => post(create_depth_map),
            _ => post(create_alignment),
        };
        router = router
            .route(&collection, create)
            .route(
                base,
                any(move |prefix: Prefix| async move {
                    answers::redirect(StatusCode::PERMANENT_REDIRECT, &format!("{prefix}{base}/"))
                }),
            )
            // The old service kept the two apart in name only.
            .route(&format!("{base}/{{id}}"), get(status));
    }
    router
        .route("/v0/worker-health", get(worker_health))
        .route("/health", get(|| async { StatusCode::OK }))
        .route("/source", get(source))
        .route(
            "/",
            get(|prefix: Prefix| async move {
                answers::redirect(StatusCode::FOUND, &format!("{prefix}/redoc"))
            }),
        )
        .route("/openapi.json", get(openapi))
        .route("/redoc", get(pages::reference))
        .route("/swagger-ui", get(pages::console))
        .route("/swagger-ui/{file}", get(pages::console_file))
        .fallback(|| async { answers::plain(StatusCode::NOT_FOUND) })
        .method_not_allowed_fallback(|| async { answers::plain(StatusCode::METHOD_NOT_ALLOWED) })
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

async fn source(State(gateway): State<Gateway>) -> Response {
    match &gateway.source_url {
        Some(url) => answers::redirect(StatusCode::FOUND, url.as_ref()),
        None => answers::plain(StatusCode::NOT_FOUND),
    }
}

async fn worker_health(State(gateway): State<Gateway>) -> Response {
    match gateway.health.look().await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(message) => {
            let body = axum::Json(json!({"message": message}));
            (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
        }
    }
}

async fn status(State(gateway): State<Gateway>, Path(id): Path<String>) -> Response {
    let id = Id::parse(&id);
    let body = match id.and_then(|id| gateway.requests.get(&id)) {
        Some(request) => standing::of(&request),
        None if id.is_some_and(|id| id.is_young(SystemTime::now())) => standing::pending(),
        None if gateway.unknown_is_not_found => return answers::plain(StatusCode::NOT_FOUND),
        None => standing::unknown(),
    };
    axum::Json(body).into_response()
}

async fn create_depth_map(
    State(gateway): State<Gateway>,
    prefix: Prefix,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let body = DepthMapBody::read(&json_of(&headers, &body)?).map_err(unprocessable)?;
    let token = token(&headers)?;
    let images = images(&gateway, &body.base, &token).await?;
    check_image(&images, &body.segmentation, Wanted::Segmentation)?;
    accept(&gateway, &prefix, DEPTH_MAP, &token, |name| body.spec(name)).await
}

async fn create_alignment(
    State(gateway): State<Gateway>,
    prefix: Prefix,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let body = AlignmentBody::read(&json_of(&headers, &body)?).map_err(unprocessable)?;
    let token = token(&headers)?;
    let images = images(&gateway, &body.base, &token).await?;
    for name in [&body.image, &body.depth_map] {
        check_image(&images, name, Wanted::Image)?;
    }
    accept(&gateway, &prefix, ALIGNMENT, &token, |name| body.spec(name)).await
}

/// A body that does not say that it is JSON counts as empty.
fn json_of(headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
    let type_ = headers.get(header::CONTENT_TYPE);
    let type_ = type_.and_then(|value| value.to_str().ok()).unwrap_or("");
    let type_ = type_
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    let is_json = type_ == "application/json"
        || (type_.starts_with("application/") && type_.ends_with("+json"));
    if !is_json || body.is_empty() {
        return Ok(json!({}));
    }
    fields::parse(body).map_err(|_| {
        let errors = json!({"json": ["Invalid JSON body."]});
        answers::violations(StatusCode::BAD_REQUEST, errors).into()
    })
}

fn unprocessable(found: fields::Violations) -> Refusal {
    answers::violations(StatusCode::UNPROCESSABLE_ENTITY, found.into_json()).into()
}

fn token(headers: &HeaderMap) -> Result<Token, Refusal> {
    let given = headers.get(header::AUTHORIZATION);
    let given = given.and_then(|value| value.to_str().ok());
    given
        .and_then(|text| text.strip_prefix("Bearer "))
        .and_then(Token::new)
        .ok_or_else(|| {
            answers::problem(
                StatusCode::UNAUTHORIZED,
                "Expected the header `Authorization: Bearer TOKEN`.",
            )
            .into()
        })
}

/// The caller's images. That the service gives them out is what verifies the token.
async fn images(
    gateway: &Gateway,
    base: &alignment_api::WebUrl,
    token: &Token,
) -> Result<Vec<Entry>, Refusal> {
    if !gateway.images.allows(base) {
        let sentence = format!(
            "`{}` is not an image service that this service may ask.",
            base.origin()
        );
        let errors = json!({"image_service_base_url": [sentence]});
        return Err(answers::violations(StatusCode::UNPROCESSABLE_ENTITY, errors).into());
    }
    gateway
        .images
        .list(base.clone(), token)
        .await
        .map_err(|error| {
            let refused = matches!(&error, NetError::Unauthorized { problem, .. }
            if problem.starts_with("answers 401"));
            let status = if refused {
                StatusCode::UNAUTHORIZED
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            };
            answers::problem(status, format!("The image service: {error}.")).into()
        })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Image,
    Segmentation,
}

fn check_image(images: &[Entry], name: &str, wanted: Wanted) -> Result<(), Refusal> {
    let refuse = |sentence: String| {
        let answer = answers::problem(StatusCode::BAD_REQUEST, sentence);
        Err(answer.into())
    };
    let Some(image) = images.iter().find(|image| image.name == name) else {
        return refuse(format!("The image service lists no image named `{name}`."));
    };
    match (wanted, image.is_segmentation()) {
        (Wanted::Image, true) => refuse(format!(
            "The image `{name}` is a segmentation, expected an image."
        )),
        (Wanted::Segmentation, false) => refuse(format!(
            "The image `{name}` is not a segmentation, as the image service has it."
        )),
        _ => Ok(()),
    }
}

async fn accept(
    gateway: &Gateway,
    prefix: &Prefix,
    base: &str,
    token: &Token,
    spec: impl Fn(&str) -> alignment_api::RequestSpec,
) -> Result<Response, Refusal> {
    let id = Id::new();
    let spec = spec(&id.to_string());
    let new = New {
        id: &id,
        interface: Interface::V0,
        annotations: BTreeMap::new(),
        spec: &spec,
        token: Some(token),
    };
    match gateway.requests.create(new).await {
        Ok(_) => {
            let url = format!("{prefix}{base}/{id}");
            let body = axum::Json(json!({"status_polling_url": url}));
            Ok((StatusCode::ACCEPTED, body).into_response())
        }
        Err(error) => {
            tracing::warn!(%error, request = %id, "request not made");
            let sentence = "The cluster does not take the request now. Please try again later.";
            Err(answers::problem(StatusCode::INTERNAL_SERVER_ERROR, sentence).into())
        }
    }
}
