//! The caller's images: the one question that the gateway asks an image service.
//!
//! By it the caller's token is verified: a service that does not know it says so.

use std::sync::Arc;
use std::time::Duration;

use alignment_api::WebUrl;
use tokio::sync::Semaphore;
use transfer::error::NetError;
use transfer::image_service::{Entry, ImageService};
use transfer::limits::Limits;
use transfer::policy::Policy;
use transfer::stop::AtSignal;
use transfer::token::{Token, TokenSource};
use transfer::{Network, RootCerts};

/// Questions at the same time; each takes a thread.
const CONCURRENT: usize = 32;
/// Time for an answer, as the old service had it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which image services may be asked, and how.
#[derive(Clone)]
pub struct Images {
    policy: Policy,
    roots: RootCerts,
    permits: Arc<Semaphore>,
}

impl Images {
    /// Asks services of these origins only.
    pub fn new(policy: Policy, roots: RootCerts) -> Self {
        Self {
            policy,
            roots,
            permits: Arc::new(Semaphore::new(CONCURRENT)),
        }
    }

    /// Whether a service may be asked.
    pub fn allows(&self, base: &WebUrl) -> bool {
        self.policy.check(base).is_ok()
    }

    /// All images that the token may see. Tried once.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn list(&self, base: WebUrl, token: &Token) -> Result<Vec<Entry>, NetError> {
        let shown = base.shown();
        let too_late = |problem: &str| NetError::Unavailable {
            url: shown.clone(),
            problem: problem.to_owned(),
            tries: 1,
        };
        let network = Network {
            policy: self.policy.clone(),
            limits: Limits {
                tries: 1,
                patience: PATIENCE,
                connect: PATIENCE / 2,
                window: PATIENCE,
                deadline: PATIENCE,
                ..Limits::default()
            },
            token: Some(TokenSource::Held(token.clone())),
            roots: self.roots.clone(),
            ..Network::default()
        };
        let permits = self.permits.clone();
        let asked = async move {
            let permit = permits.acquire_owned().await;
            tokio::task::spawn_blocking(move || {
                let _permit = permit;
                ImageService::new(base).entries(&network, &AtSignal)
            })
            .await
        };
        match tokio::time::timeout(PATIENCE + Duration::from_secs(1), asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(too_late("the question was broken off")),
            Err(_) => Err(too_late("no answer in time")),
        }
    }
}
