//! Answers that are no results: problem details (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use alignment_api::Violation;

/// What can be wrong. The names are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is nothing of this name, or it is not the caller's.
    NotFound,
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// The token is missing or no good.
    Unauthorized,
    /// This installation knows no callers.
    NotOffered,
    /// It belongs to somebody else.
    Forbidden,
    /// The cluster does not take it.
    Refused,
    /// The body is no JSON.
    InvalidJson,
    /// The body does not say that it is JSON.
    UnsupportedMediaType,
    /// The body is too large.
    TooLarge,
    /// The request has violations.
    InvalidRequest,
    /// A header or a parameter has a value that it may not have.
    InvalidParameter,
    /// The key was used for something else.
    IdempotencyKeyReused,
    /// It has ended.
    Over,
    /// Too many calls.
    RateLimited,
    /// The image service does not give out the caller's images.
    ImageService,
    /// The cluster, or the issuer of tokens, does not answer.
    Unavailable,
    /// The body did not come in time.
    Timeout,
}

impl Kind {
    const fn describe(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::NotFound => ("not-found", 404, "Not found"),
            Self::MethodNotAllowed => ("method-not-allowed", 405, "Method not allowed"),
            Self::Unauthorized => ("unauthorized", 401, "The caller is not known"),
            Self::NotOffered => ("not-offered", 404, "Not offered here"),
            Self::Forbidden => ("forbidden", 403, "Not allowed"),
            Self::Refused => ("refused", 403, "The cluster does not take the request"),
            Self::InvalidJson => ("invalid-json", 400, "The body is no JSON"),
            Self::UnsupportedMediaType => ("unsupported-media-type", 415, "The body must be JSON"),
            Self::TooLarge => ("too-large", 413, "The body is too large"),
            Self::InvalidRequest => ("invalid-request", 422, "The request is not valid"),
            Self::InvalidParameter => (
                "invalid-parameter",
                400,
                "A header or parameter is not valid",
            ),
            Self::IdempotencyKeyReused => (
                "idempotency-key-reused",
                422,
                "The key was used for another request",
            ),
            Self::Over => ("over", 409, "The request has ended"),
            Self::RateLimited => ("rate-limited", 429, "Too many calls"),
            Self::ImageService => ("image-service", 502, "The image service does not help"),
            Self::Unavailable => ("unavailable", 503, "Not available now"),
            Self::Timeout => ("timeout", 408, "The body did not come in time"),
        }
    }
}

/// A problem, as it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<Violation>,
    retry_after: Option<u64>,
}

impl Problem {
    /// A problem and a sentence about it.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
        }
    }

    /// A request that is not valid, field by field.
    pub fn invalid(errors: Vec<Violation>) -> Self {
        let detail = match errors.len() {
            1 => "One field is not as it must be.".to_owned(),
            n => format!("{n} fields are not as they must be."),
        };
        Self {
            errors,
            ..Self::new(Kind::InvalidRequest, detail)
        }
    }

    /// With the time after which it is worth trying again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (name, status, title) = self.kind.describe();
        let mut body = json!({
            "type": format!("urn:voluba:problem:{name}"),
            "title": title,
            "status": status,
            "detail": self.detail,
        });
        if !self.errors.is_empty() {
            let errors = self.errors.iter();
            body["errors"] = errors
                .map(|error| json!({"field": error.field, "detail": error.message}))
                .collect();
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let type_ = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, type_, body.to_string()).into_response();
        let headers = response.headers_mut();
        if self.kind == Kind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
