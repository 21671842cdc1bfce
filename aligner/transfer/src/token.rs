//! The bearer token: read from its file for each call, since whoever mounts it may replace it, or held
//! by a program that was handed it.

use std::{
    fmt, fs,
    io::Read,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ureq::http::HeaderValue;
use zeroize::Zeroizing;

use super::error::NetError;

/// Tokens of identity providers have 1 to 4 KiB; servers take headers of 8 to 16.
const LONGEST_TOKEN: usize = 16 << 10;

/// A file that holds a token.
#[derive(Clone, Debug)]
pub struct TokenFile(pub PathBuf);

/// Where the token comes from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// A file, read for each call.
    File(TokenFile),
    /// Memory.
    Held(Token),
}

impl TokenSource {
    /// The token as it is now.
    ///
    /// # Errors
    /// As [`TokenFile::read`].
    pub fn read(&self) -> Result<Token, NetError> {
        match self {
            Self::File(file) => file.read(),
            Self::Held(token) => Ok(token.clone()),
        }
    }
}

/// A token. Never shown, overwritten when it is no longer needed.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl TokenFile {
    /// Reads the token as it is now.
    ///
    /// # Errors
    /// [`NetError::Unauthorized`] if the file is missing or holds no token.
    pub fn read(&self) -> Result<Token, NetError> {
        let fail = |problem: String| NetError::Unauthorized {
            url: format!("token file `{}`", self.0.display()),
            problem,
        };
        let mut text = Zeroizing::new(String::new());
        fs::File::open(&self.0)
            .and_then(|file| {
                file.take(LONGEST_TOKEN as u64 + 2)
                    .read_to_string(&mut text)
            })
            .map_err(|error| fail(format!("cannot be read: {error}")))?;
        let token = text.trim();
        if token.is_empty() {
            return Err(fail("is empty".to_owned()));
        }
        Token::new(token).ok_or_else(|| {
            fail(format!(
                "holds no token: expected at most {LONGEST_TOKEN} ASCII characters without spaces"
            ))
        })
    }
}

impl Token {
    /// A token, if the text can be one.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=LONGEST_TOKEN).contains(&text.len());
        (fits && text.chars().all(|c| c.is_ascii_graphic()))
            .then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The token itself, for whoever has to hand it on.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Value of the header `Authorization`, marked as secret.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let text = Zeroizing::new(format!("Bearer {}", *self.0));
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// What a person should know about the token's own words on its end; they are not verified.
    pub fn warning(&self, now: SystemTime) -> Option<String> {
        let expiry = self.expiry()?;
        let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
        match expiry.checked_sub(now) {
            None | Some(0) => Some("the token says that it has expired".to_owned()),
            Some(left) if left < SHORT_LIFE_SECONDS => Some(format!(
                "the token says that it expires in {} minutes; the upload comes last",
                left / 60
            )),
            Some(_) => None,
        }
    }

    /// `exp` of a JSON web token, seconds since 1970.
    fn expiry(&self) -> Option<u64> {
        let payload = self.0.split('.').nth(1)?;
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
        let claims: Claims = serde_json::from_slice(&json).ok()?;
        Some(claims.exp as u64)
    }
}

/// A run seldom takes longer.
const SHORT_LIFE_SECONDS: u64 = 30 * 60;

#[derive(serde::Deserialize)]
struct Claims {
    exp: f64,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn token(text: &str) -> Result<Token, NetError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        TokenFile(file.path().to_owned()).read()
    }

    #[test]
    fn a_token_is_what_stands_in_the_file_without_the_line_end() {
        let read = token("abc.def\n").unwrap();
        assert_eq!(read.header().unwrap().to_str().unwrap(), "Bearer abc.def");
        for text in ["", "\n", "a b", "a\nb", "ä", &"x".repeat(LONGEST_TOKEN + 1)] {
            let error = token(text).unwrap_err();
            assert_eq!(error.exit_code(), alignment_api::ExitCode::Unauthorized);
            assert!(text.trim().len() < 3 || !error.to_string().contains(text.trim()));
        }
        assert!(TokenFile("/nonexistent/token".into()).read().is_err());
    }

    #[test]
    fn a_token_is_never_shown() {
        let read = token("canary").unwrap();
        let shown = format!("{read:?} {:?}", read.header().unwrap());
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn a_token_that_ends_soon_is_warned_about() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let warning = |claims: &str| {
            let payload = URL_SAFE_NO_PAD.encode(claims);
            token(&format!("e30.{payload}.x")).unwrap().warning(now)
        };
        assert!(
            warning(r#"{"exp": 999999}"#)
                .unwrap()
                .contains("has expired")
        );
        assert!(
            warning(r#"{"exp": 1000600}"#)
                .unwrap()
                .contains("10 minutes")
        );
        assert_eq!(warning(r#"{"exp": 1007200}"#), None);
        assert_eq!(warning(r"{}"), None);
        assert_eq!(warning("nonsense"), None);
        assert_eq!(token("opaque").unwrap().warning(now), None);
    }
}
