//! Tokens of an OpenID Connect provider: its keys are fetched where its discovery document says, and
//! kept. What the page needs to sign people in there comes from the same document.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use alignment_api::{Scheme, WebUrl};
use anyhow::{Context as _, bail};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;
use transfer::limits::Limits;
use transfer::policy::Policy;
use transfer::stop::AtSignal;
use transfer::token::Token;
use transfer::{Network, RootCerts};

use super::{Caller, Unknown, signature};

/// Keys are fetched again after so long.
const KEYS_GOOD_FOR: Duration = Duration::from_secs(3600);
/// A key that is not known has them fetched again, but not more often than this.
const FETCH_EVERY: Duration = Duration::from_secs(10);
/// Time for the provider to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clocks differ by so many seconds at most.
const LEEWAY_SECONDS: u64 = 30;
/// Longest `sub`: OpenID Connect has 255 characters.
const LONGEST_SUBJECT: usize = 255;

/// The part of the discovery document that counts.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
}

/// What a page needs to sign people in: authorization code with PKCE, as a public client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignIn {
    client_id: String,
    scope: String,
    authorization_endpoint: String,
    token_endpoint: String,
    /// Where the page sends the code.
    #[serde(skip)]
    pub token_origin: String,
}

/// The page, as the provider knows it.
pub struct PageClient {
    /// Its name there.
    pub id: String,
    /// What it asks for.
    pub scope: String,
}

/// The claims that count; the others are validated while it is decoded.
#[derive(Deserialize)]
struct Claims {
    sub: String,
}

#[derive(Default)]
struct Keys {
    set: Option<Arc<JwkSet>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
}

/// A provider.
pub struct Oidc {
    issuer: String,
    discovery: WebUrl,
    audience: String,
    client: Option<PageClient>,
    roots: RootCerts,
    keys: Mutex<Keys>,
    sign_in: RwLock<Option<SignIn>>,
}

impl Oidc {
    /// A provider by the address that its tokens carry as `iss`.
    ///
    /// # Errors
    /// If the address is none.
    pub fn new(
        issuer: &str,
        audience: &str,
        client: Option<PageClient>,
        roots: RootCerts,
    ) -> anyhow::Result<Self> {
        signature::install();
        let base = WebUrl::parse(issuer)
            .map_err(|problem| anyhow::anyhow!("--oidc-issuer {issuer}: {problem}"))?;
        if base.has_query() {
            bail!("--oidc-issuer {issuer}: has a query");
        }
        let url = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
        let discovery = WebUrl::parse(&url)
            .map_err(|problem| anyhow::anyhow!("{url}: {problem}"))
            .context("--oidc-issuer")?;
        Ok(Self {
            issuer: issuer.to_owned(),
            discovery,
            audience: audience.to_owned(),
            client,
            roots,
            keys: Mutex::default(),
            sign_in: RwLock::default(),
        })
    }

    /// Its address.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// How the page signs people in; none, if it does not, or if the provider has not been heard yet.
    pub fn sign_in(&self) -> Option<SignIn> {
        let known = self.sign_in.read().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// Asks the provider until it has answered once, so that nobody has to wait for it later.
    pub async fn prepare(&self) {
        loop {
            let mut keys = self.keys.lock().await;
            if keys.set.is_none() {
                self.refresh(&mut keys).await;
            }
            if keys.set.is_some() {
                return;
            }
            drop(keys);
            tokio::time::sleep(FETCH_EVERY).await;
        }
    }

    /// Who a token was given to.
    ///
    /// # Errors
    /// [`Unknown`].
    pub async fn verify(&self, token: &Token) -> Result<Caller, Unknown> {
        let refuse = |problem: &str| Unknown::Refused(format!("The token {problem}."));
        let header = decode_header(token.reveal()).map_err(|_| refuse("is no JSON Web Token"))?;
        if !signature::ALGORITHMS.contains(&header.alg) {
            return Err(refuse("is signed in a way that is not taken"));
        }
        let key = self.key(header.kid.as_deref()).await?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_audience(&[&self.audience]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let key =
            DecodingKey::from_jwk(&key).map_err(|_| refuse("has a key of an unknown kind"))?;
        let claims = decode::<Claims>(token.reveal(), &key, &validation)
            .map_err(|error| refuse(&why(error.kind())))?
            .claims;
        if claims.sub.is_empty() || claims.sub.len() > LONGEST_SUBJECT {
            return Err(refuse("names nobody"));
        }
        Ok(Caller::new(&self.issuer, &claims.sub))
    }

    /// The key of this name; without a name, the only one.
    async fn key(&self, id: Option<&str>) -> Result<Jwk, Unknown> {
        let mut keys = self.keys.lock().await;
        let old = keys.fetched.is_none_or(|at| at.elapsed() > KEYS_GOOD_FOR);
        let known = keys.set.as_deref().and_then(|set| find(set, id));
        let may_ask = keys.tried.is_none_or(|at| at.elapsed() > FETCH_EVERY);
        if (old || known.is_none()) && may_ask {
            self.refresh(&mut keys).await;
        }
        match (&keys.set, keys.set.as_deref().and_then(|set| find(set, id))) {
            (_, Some(key)) => Ok(key),
            (Some(_), None) => Err(Unknown::Refused(
                "The token is signed with a key that its issuer does not have.".to_owned(),
            )),
            (None, None) => Err(Unknown::Unavailable(
                "The issuer of tokens does not answer.".to_owned(),
            )),
        }
    }

    async fn refresh(&self, keys: &mut Keys) {
        keys.tried = Some(Instant::now());
        match self.fetch().await {
            Ok((found, set)) => {
                keys.set = Some(Arc::new(set));
                keys.fetched = Some(Instant::now());
                let own = self.discovery.origin().scheme();
                let sign_in = self
                    .client
                    .as_ref()
                    .and_then(|client| sign_in(client, found, own));
                *self.sign_in.write().unwrap_or_else(PoisonError::into_inner) = sign_in;
            }
            Err(problem) => {
                tracing::warn!(problem, issuer = self.issuer, "keys of the issuer not read");
            }
        }
    }

    async fn fetch(&self) -> Result<(Discovery, JwkSet), String> {
        let (discovery, issuer, roots) = (
            self.discovery.clone(),
            self.issuer.clone(),
            self.roots.clone(),
        );
        let asked = tokio::task::spawn_blocking(move || {
            let found: Discovery = read(&discovery, &roots)?;
            if found.issuer != issuer {
                return Err(format!("{} names another issuer", discovery.shown()));
            }
            let keys =
                WebUrl::parse(&found.jwks_uri).map_err(|problem| format!("jwks_uri: {problem}"))?;
            if discovery.origin().scheme() == Scheme::Https
                && keys.origin().scheme() != Scheme::Https
            {
                return Err("jwks_uri: is not https".to_owned());
            }
            let set = read(&keys, &roots)?;
            Ok((found, set))
        });
        match asked.await {
            Ok(answer) => answer,
            Err(error) => Err(error.to_string()),
        }
    }
}

/// None, if an address is missing, is none, or is less safe than the provider's own.
fn sign_in(client: &PageClient, found: Discovery, own: Scheme) -> Option<SignIn> {
    let parse = |text: &str| {
        let url = WebUrl::parse(text).ok()?;
        (own != Scheme::Https || url.origin().scheme() == Scheme::Https).then_some(url)
    };
    let authorization_endpoint = found.authorization_endpoint?;
    let token_endpoint = found.token_endpoint?;
    parse(&authorization_endpoint)?;
    Some(SignIn {
        client_id: client.id.clone(),
        scope: client.scope.clone(),
        token_origin: parse(&token_endpoint)?.origin().to_string(),
        authorization_endpoint,
        token_endpoint,
    })
}

fn read<T: serde::de::DeserializeOwned + Send + 'static>(
    url: &WebUrl,
    roots: &RootCerts,
) -> Result<T, String> {
    let network = Network {
        // The administrator has named the issuer, and may have it in the cluster.
        policy: Policy::new(&[], std::slice::from_ref(url.origin())),
        limits: Limits {
            tries: 1,
            patience: PATIENCE,
            connect: PATIENCE / 2,
            window: PATIENCE,
            deadline: PATIENCE,
            ..Limits::default()
        },
        roots: roots.clone(),
        ..Network::default()
    };
    network
        .document(url, &AtSignal)
        .map_err(|error| error.to_string())
}

fn find(set: &JwkSet, id: Option<&str>) -> Option<Jwk> {
    let signs = |key: &&Jwk| {
        matches!(
            key.common.public_key_use,
            None | Some(PublicKeyUse::Signature)
        )
    };
    let mut keys = set.keys.iter().filter(signs);
    match id {
        Some(id) => keys
            .find(|key| key.common.key_id.as_deref() == Some(id))
            .cloned(),
        None => match (keys.next(), keys.next()) {
            (Some(only), None) => Some(only.clone()),
            _ => None,
        },
    }
}

fn why(kind: &jsonwebtoken::errors::ErrorKind) -> String {
    use jsonwebtoken::errors::ErrorKind;
    match kind {
        ErrorKind::ExpiredSignature => "has expired".to_owned(),
        ErrorKind::ImmatureSignature => "is not valid yet".to_owned(),
        ErrorKind::InvalidAudience => "is for another audience".to_owned(),
        ErrorKind::InvalidIssuer => "is of another issuer".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("has no claim `{claim}`"),
        ErrorKind::InvalidSignature => "has a wrong signature".to_owned(),
        _ => "cannot be verified".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_sent_to_addresses_that_are_as_safe_as_the_provider() {
        let client = PageClient {
            id: "page".to_owned(),
            scope: "openid".to_owned(),
        };
        let origin_of = |authorization: Option<&str>, token: Option<&str>, own| {
            let found = Discovery {
                issuer: String::new(),
                jwks_uri: String::new(),
                authorization_endpoint: authorization.map(Into::into),
                token_endpoint: token.map(Into::into),
            };
            sign_in(&client, found, own).map(|sign_in| sign_in.token_origin)
        };
        let (safe, plain) = (Some("https://a.example/x"), Some("http://b.example/y"));
        let found = Some("https://a.example".to_owned());
        assert_eq!(origin_of(safe, safe, Scheme::Https), found);
        assert_eq!(origin_of(plain, safe, Scheme::Http), found);
        for (authorization, token) in [(plain, safe), (safe, plain), (None, safe), (safe, None)] {
            assert_eq!(origin_of(authorization, token, Scheme::Https), None);
        }
        let script = Some("javascript:alert(1)");
        assert_eq!(origin_of(script, safe, Scheme::Http), None);
    }
}
