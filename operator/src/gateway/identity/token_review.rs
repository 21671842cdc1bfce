//! Tokens that the cluster knows: those of service accounts, and of users whose provider the API
//! server is configured with.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::Instant;
use transfer::token::Token;

use super::{Caller, Unknown};

/// An answer is good for so long.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// Answers that are kept.
const MOST_KEPT: usize = 1024;

type Digested = [u8; 32];
type Answer = Result<Caller, Unknown>;

/// Asks the API server, and remembers what it said for a minute.
pub struct TokenReviews {
    api: Api<TokenReview>,
    audience: String,
    kept: Mutex<HashMap<Digested, (Instant, Answer)>>,
}

impl TokenReviews {
    /// Tokens must be for this audience.
    pub fn new(client: Client, audience: &str) -> Self {
        Self {
            api: Api::all(client),
            audience: audience.to_owned(),
            kept: Mutex::default(),
        }
    }

    /// Who a token was given to.
    ///
    /// # Errors
    /// [`Unknown`].
    pub async fn verify(&self, token: &Token) -> Answer {
        let digest: Digested = Sha256::digest(token.reveal()).into();
        if let Some((at, answer)) = self.kept.lock().await.get(&digest)
            && at.elapsed() < GOOD_FOR
        {
            return answer.clone();
        }
        let answer = self.ask(token).await;
        if !matches!(answer, Err(Unknown::Unavailable(_))) {
            let mut kept = self.kept.lock().await;
            if kept.len() >= MOST_KEPT {
                kept.retain(|_, (at, _)| at.elapsed() < GOOD_FOR);
            }
            if kept.len() >= MOST_KEPT {
                kept.clear();
            }
            kept.insert(digest, (Instant::now(), answer.clone()));
        }
        answer
    }

    async fn ask(&self, token: &Token) -> Answer {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.reveal().to_owned()),
                audiences: Some(vec![self.audience.clone()]),
            },
            ..TokenReview::default()
        };
        let answer = self.api.create(&PostParams::default(), &review).await;
        let status = match answer {
            Ok(review) => review.status.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "token not reviewed");
                let problem = "The cluster does not say who the token was given to.";
                return Err(Unknown::Unavailable(problem.to_owned()));
            }
        };
        // An API server that knows no audiences answers without them.
        let audiences = status.audiences.unwrap_or_default();
        let name = status.user.and_then(|user| user.username);
        match name {
            Some(name)
                if status.authenticated == Some(true) && audiences.contains(&self.audience) =>
            {
                Ok(Caller::new("kubernetes", &name))
            }
            _ => Err(Unknown::Refused(
                "The cluster does not know the token, or it is for another audience.".to_owned(),
            )),
        }
    }
}
