//! Who calls: the bearer token of a caller, verified by the issuer's keys or by the cluster.

pub mod oidc;
pub mod signature;
pub mod token_review;

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use kube::Client;
use serde_json::{Value, json};
use transfer::RootCerts;
use transfer::token::Token;

use crate::cli::GatewayArguments;
use oidc::{Oidc, PageClient};
use token_review::TokenReviews;

/// Whoever a token was given to: the same text for the same person, for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller(Arc<str>);

impl Caller {
    fn new(issuer: &str, subject: &str) -> Self {
        Self(format!("{issuer}#{subject}").into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a caller is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// This installation knows nobody.
    NotOffered,
    /// The token is missing or no good.
    Refused(String),
    /// Nobody could be asked.
    Unavailable(String),
}

/// How callers are known.
#[derive(Clone)]
pub enum Identity {
    /// Not at all.
    Nobody,
    /// By tokens of an OpenID Connect provider.
    Oidc(Arc<Oidc>),
    /// By tokens that the cluster knows.
    TokenReview(Arc<TokenReviews>),
}

impl Identity {
    /// As the options say.
    ///
    /// # Errors
    /// If the issuer is no address.
    pub fn new(
        arguments: &GatewayArguments,
        client: Client,
        roots: RootCerts,
    ) -> anyhow::Result<Self> {
        if let (Some(issuer), Some(audience)) = (&arguments.oidc_issuer, &arguments.oidc_audience) {
            let client = arguments.oidc_client_id.as_ref().map(|id| PageClient {
                id: id.clone(),
                scope: arguments.oidc_scope.clone(),
            });
            let oidc = Oidc::new(issuer, audience, client, roots)?;
            return Ok(Self::Oidc(Arc::new(oidc)));
        }
        Ok(match &arguments.token_review_audience {
            Some(audience) => Self::TokenReview(Arc::new(TokenReviews::new(client, audience))),
            None => Self::Nobody,
        })
    }

    /// What a page needs to know about it.
    pub fn describe(&self) -> Value {
        match self {
            Self::Nobody => Value::Null,
            Self::Oidc(oidc) => {
                json!({"kind": "oidc", "issuer": oidc.issuer(), "signIn": oidc.sign_in()})
            }
            Self::TokenReview(_) => json!({"kind": "tokenReview"}),
        }
    }

    /// Where a page that signs people in sends what it has got; none, if it does not.
    pub fn token_origin(&self) -> Option<String> {
        match self {
            Self::Oidc(oidc) => Some(oidc.sign_in()?.token_origin),
            Self::Nobody | Self::TokenReview(_) => None,
        }
    }

    /// Has what is needed from elsewhere fetched.
    pub async fn prepare(&self) {
        if let Self::Oidc(oidc) = self {
            oidc.prepare().await;
        }
    }

    /// Whether the token that says who calls is one for image services, too: the cluster's own are
    /// given to nobody.
    pub const fn token_is_for_services(&self) -> bool {
        matches!(self, Self::Oidc(_))
    }

    /// Who a token was given to.
    ///
    /// # Errors
    /// [`Unknown`].
    pub async fn verify(&self, token: &Token) -> Result<Caller, Unknown> {
        match self {
            Self::Nobody => Err(Unknown::NotOffered),
            Self::Oidc(oidc) => oidc.verify(token).await,
            Self::TokenReview(reviews) => reviews.verify(token).await,
        }
    }
}

/// The token in `Authorization: Bearer TOKEN`. The name of the scheme is read in any case (RFC 9110).
pub fn bearer(headers: &HeaderMap) -> Option<Token> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = given.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    Token::new(token.trim())
}
