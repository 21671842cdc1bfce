//! Answers of the old interface, in its forms: `errors` is a list where the service or the image
//! service is the reason, and an object where the body is.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An answer that ends the work on a request early.
pub struct Refusal(Box<Response>);

impl From<Response> for Refusal {
    fn from(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// `{"code", "status"}`.
pub fn plain(status: StatusCode) -> Response {
    with_code(status, None)
}

/// The same with violations.
pub fn violations(status: StatusCode, errors: Value) -> Response {
    with_code(status, Some(errors))
}

fn with_code(status: StatusCode, errors: Option<Value>) -> Response {
    let name = match status {
        // The old name; newer lists have another.
        StatusCode::UNPROCESSABLE_ENTITY => "Unprocessable Entity",
        status => status.canonical_reason().unwrap_or_default(),
    };
    let mut body = json!({"code": status.as_u16(), "status": name});
    if let Some(errors) = errors {
        body["errors"] = errors;
    }
    (status, Json(body)).into_response()
}

/// A list with one sentence.
pub fn problem(status: StatusCode, sentence: impl Into<String>) -> Response {
    let mut response = (status, Json(json!({"errors": [sentence.into()]}))).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let scheme = header::HeaderValue::from_static("Bearer");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

/// A redirection, with a page for whoever does not follow.
pub fn redirect(status: StatusCode, to: &str) -> Response {
    let page = format!(
        "<!doctype html>\n<html lang=en>\n<title>Redirecting</title>\n<p>The page is at \
         <a href=\"{to}\">{to}</a>.</p>\n</html>\n"
    );
    let headers = [
        (header::LOCATION, to.to_owned()),
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
    ];
    (status, headers, page).into_response()
}
