//! A provider of OpenID Connect: its discovery document, its keys, and the tokens that it gives out.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

/// What its tokens are for.
pub(crate) const AUDIENCE: &str = "voluba-align";

/// A key with a name.
pub(crate) struct Key {
    id: String,
    pair: EcdsaKeyPair,
}

impl Key {
    pub(crate) fn new(id: &str) -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        Self {
            id: id.to_owned(),
            pair,
        }
    }

    fn public(&self) -> Value {
        // 4, then both coordinates of 32 bytes.
        let point = self.pair.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..])})
    }

    /// A token of these claims.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), text.as_bytes())
            .unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// The provider.
pub(crate) struct Issuer {
    pub(crate) url: String,
    pub(crate) key: Key,
    published: Arc<Mutex<Vec<Value>>>,
}

type Shared = (String, Arc<Mutex<Vec<Value>>>);

impl Issuer {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/realms/x", listener.local_addr().unwrap());
        let key = Key::new("one");
        let published = Arc::new(Mutex::new(vec![key.public()]));
        let router = Router::new()
            .route("/realms/x/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .with_state((url.clone(), published.clone()));
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            key,
            published,
        }
    }

    /// Has one more key known.
    pub(crate) fn publish(&self, key: &Key) {
        self.published.lock().unwrap().push(key.public());
    }

    pub(crate) fn claims(&self, subject: &str) -> Value {
        let now = k8s_openapi::jiff::Timestamp::now().as_second();
        json!({"iss": self.url, "sub": subject, "aud": [AUDIENCE, "other"], "iat": now, "exp": now + 300})
    }

    /// A good token.
    pub(crate) fn token(&self, subject: &str) -> String {
        self.key.sign(
            &json!({"alg": "ES256", "kid": "one"}),
            &self.claims(subject),
        )
    }
}

async fn discovery(State((url, _)): State<Shared>) -> String {
    let (origin, _) = url.split_once("/realms").unwrap();
    json!({"issuer": url, "jwks_uri": format!("{origin}/keys")}).to_string()
}

async fn keys(State((_, published)): State<Shared>) -> String {
    json!({"keys": *published.lock().unwrap()}).to_string()
}
