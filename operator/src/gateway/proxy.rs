//! What a reverse proxy in front of the gateway says of the caller's view: one hop, and only if the
//! installation trusts it.

use std::convert::Infallible;
use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::Gateway;

/// Longest prefix that is believed.
const LONGEST_PREFIX: usize = 256;

/// The path below which the caller sees the gateway; empty, or with a slash at its beginning and none
/// at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix(String);

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Prefix {
    /// The last of the prefixes that a header lists: the nearest proxy's. An odd one is ignored.
    fn read(header: &str) -> Self {
        let text = header.rsplit(',').next().unwrap_or("").trim();
        let text = text.trim_end_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
        let part =
            |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(plain);
        let fits = text.len() <= LONGEST_PREFIX
            && text
                .strip_prefix('/')
                .is_some_and(|path| path.split('/').all(part));
        if fits {
            Self(text.to_owned())
        } else {
            Self::default()
        }
    }
}

impl FromRequestParts<Gateway> for Prefix {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Infallible> {
        let header = parts.headers.get("x-forwarded-prefix");
        let header = header.and_then(|value| value.to_str().ok());
        Ok(match header {
            Some(text) if gateway.trust_proxy => Self::read(text),
            _ => Self::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_path_is_a_prefix() {
        for (header, expected) in [
            ("/voluba", "/voluba"),
            ("/a/b/", "/a/b"),
            ("/evil, /good", "/good"),
            ("/", ""),
            ("", ""),
            ("voluba", ""),
            ("//evil.example", ""),
            ("/a//b", ""),
            ("/../a", ""),
            ("/a\"b", ""),
            ("/a b", ""),
            ("https://evil.example", ""),
        ] {
            assert_eq!(Prefix::read(header).to_string(), expected, "{header}");
        }
        assert_eq!(
            Prefix::read(&format!("/{}", "a".repeat(300))),
            Prefix::default()
        );
    }
}
