//! The page for people: which requests there are, and how one goes.
//!
//! Files that never change while the program runs, all from here: a browser asks no other host for
//! anything, but for a token where the installation has people sign in at a provider. What they show,
//! they get from the interface [`v1`](super::v1), as any other client does.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use super::Gateway;
use super::id::Id;
use super::proxy::Prefix;
use super::v0::answers;

const LIST: &str = include_str!("page/list.html");
const REQUEST: &str = include_str!("page/request.html");
/// Stands in the page of a request for its identifier.
const PLACE: &str = "{id}";
/// What the pages need: name, content type, content.
const FILES: [(&str, &str, &str); 11] = [
    (
        "page.css",
        "text/css; charset=utf-8",
        include_str!("page/page.css"),
    ),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("list.js", SCRIPT, include_str!("page/list.js")),
    ("request.js", SCRIPT, include_str!("page/request.js")),
    ("calls.js", SCRIPT, include_str!("page/calls.js")),
    ("curve.js", SCRIPT, include_str!("page/curve.js")),
    ("dom.js", SCRIPT, include_str!("page/dom.js")),
    ("follow.js", SCRIPT, include_str!("page/follow.js")),
    ("pictures.js", SCRIPT, include_str!("page/pictures.js")),
    ("session.js", SCRIPT, include_str!("page/session.js")),
    ("words.js", SCRIPT, include_str!("page/words.js")),
];
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Stricter than for the other pages: nothing inline, and no text becomes markup. The provider's origin
/// is that of its token endpoint.
fn policy(provider: Option<&str>) -> String {
    let provider = provider.map_or_else(String::new, |origin| format!(" {origin}"));
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'{provider}; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

/// The pages and their files.
pub fn routes() -> Router<Gateway> {
    Router::new()
        .route(
            "/ui",
            get(|prefix: Prefix| async move {
                answers::redirect(StatusCode::PERMANENT_REDIRECT, &format!("{prefix}/ui/"))
            }),
        )
        .route("/ui/", get(list))
        .route("/ui/{file}", get(file))
        .route("/ui/requests/{id}", get(request))
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, type_, content)) => answer(&headers, type_, content, &policy(None)),
        None => answers::plain(StatusCode::NOT_FOUND),
    }
}

async fn list(State(gateway): State<Gateway>, headers: HeaderMap) -> Response {
    let provider = gateway.identity.token_origin();
    answer(&headers, HTML, LIST, &policy(provider.as_deref()))
}

async fn request(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let provider = gateway.identity.token_origin();
    page_of(&id, &headers, &policy(provider.as_deref()))
}

/// The same page for every identifier: it asks for the request itself, and says if there is none.
fn page_of(id: &str, headers: &HeaderMap, policy: &str) -> Response {
    if let Some(id) = Id::parse(id) {
        let content = REQUEST.replace(PLACE, &id.to_string());
        return answer(headers, HTML, &content, policy);
    }
    // What somebody else has written does not come into the page.
    let content = REQUEST.replace(PLACE, "");
    let mut response = answer(&HeaderMap::new(), HTML, &content, policy);
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// A content, unless the browser has it. It asks each time: another version of the gateway has
/// other files.
fn answer(headers: &HeaderMap, type_: &str, content: &str, policy: &str) -> Response {
    let digest = Sha256::new()
        .chain_update(policy)
        .chain_update(content)
        .finalize();
    let tag = format!("\"{digest:x}\"");
    let fields = [
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy.to_owned()),
        (header::CONTENT_TYPE, type_.to_owned()),
    ];
    let known = headers.get(header::IF_NONE_MATCH);
    let known = known.and_then(|value| value.to_str().ok()).unwrap_or("");
    if known
        .split(',')
        .any(|known| known.trim().trim_start_matches("W/") == tag)
    {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    (fields, content.to_owned()).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Largest size of all files together, in bytes.
    const LARGEST: usize = 100_000;

    fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
        let files = FILES.iter().map(|(name, _, content)| (*name, *content));
        [("list.html", LIST), ("request.html", REQUEST)]
            .into_iter()
            .chain(files)
    }

    #[test]
    fn the_pages_are_small_and_every_file_that_they_name_is_there() {
        let size: usize = all().map(|(_, content)| content.len()).sum();
        assert!(size < LARGEST, "{size}");
        let known: BTreeSet<&str> = FILES.iter().map(|(name, ..)| *name).collect();
        let mut named = BTreeSet::new();
        for (_, content) in all() {
            for quoted in content.split(['"', '\'']) {
                let name = quoted.trim_start_matches("../").trim_start_matches("./");
                let plain = |c: char| c.is_ascii_lowercase() || c == '.';
                let ending = name.rsplit_once('.').map(|(_, ending)| ending);
                if matches!(ending, Some("js" | "css" | "svg")) && name.chars().all(plain) {
                    named.insert(name);
                }
            }
        }
        assert_eq!(named, known);
    }

    #[test]
    fn no_text_becomes_markup_and_no_other_host_is_named() {
        for (name, content) in all() {
            for wrong in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!content.contains(wrong), "{name}: {wrong}");
            }
            // The name of a language is an address that nobody asks.
            let content = content.replace("http://www.w3.org/2000/svg", "");
            assert!(
                !content.contains("//") || name.rsplit('.').next() == Some("js"),
                "{name}"
            );
            assert!(
                !content.contains("http://") && !content.contains("https://"),
                "{name}"
            );
        }
        for page in [LIST, REQUEST] {
            assert!(
                !page.contains("<style")
                    && !page.contains(" style=")
                    && !page.contains(" onclick=")
            );
        }
    }

    #[tokio::test]
    async fn a_page_says_what_it_is_and_is_sent_once() {
        let id = Id::new().to_string();
        let first = page_of(&id, &HeaderMap::new(), &policy(None));
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_TYPE], HTML);
        let mut known = HeaderMap::new();
        known.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        let second = page_of(&id, &known, &policy(None));
        assert_eq!(second.status(), StatusCode::NOT_MODIFIED);
        // Another policy is another page: a browser would go on with the old one.
        let other = page_of(&id, &known, &policy(Some("https://iam.example.org")));
        assert_eq!(other.status(), StatusCode::OK);
        let said = other.headers()[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap();
        assert!(said.contains("connect-src 'self' https://iam.example.org;"));
        let other = page_of(&Id::new().to_string(), &known, &policy(None));
        assert_eq!(other.status(), StatusCode::OK);
        let none = file(Path("none.js".to_owned()), HeaderMap::new()).await;
        assert_eq!(none.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn what_is_no_identifier_does_not_come_into_the_page() {
        let response = page_of("<script>x</script>", &HeaderMap::new(), &policy(None));
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        let body = axum::body::to_bytes(response.into_body(), LARGEST)
            .await
            .unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(
            body.contains("v1/requests/\"") && !body.contains("<script>x"),
            "{body}"
        );
    }
}
