//! What can stop a reconcile, and when it is tried again.
//!
//! Outcomes are no errors: an invalid request, a failed Job and a refused Job end in the status.

use std::time::Duration;

/// A reconcile that did not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server answered with an error, or not at all.
    #[error("{call}: {source}")]
    Api {
        /// What was asked.
        call: &'static str,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// A defect of the operator; only this request suffers.
    #[error("defect of the operator: {0}")]
    Panicked(String),
}

impl Error {
    /// Whether the object that was written is no longer the one that was read.
    pub fn is_outdated(&self) -> bool {
        matches!(self, Self::Api { source, .. }
            if matches!(&**source, kube::Error::Api(status)
                if status.is_not_found() || status.is_conflict()))
    }

    /// Whether there is no such object.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Api { source, .. }
            if matches!(&**source, kube::Error::Api(status) if status.is_not_found()))
    }

    /// Whether an object of that name exists.
    pub fn is_already_there(&self) -> bool {
        matches!(self, Self::Api { source, .. }
            if matches!(&**source, kube::Error::Api(status) if status.is_already_exists()))
    }

    /// Time until the next try after so many failures in a row.
    pub fn retry_after(&self, failures: u32) -> Duration {
        let (first, longest) = match self {
            error if error.is_outdated() => (50, 2_000),
            Self::Api { source, .. } if is_refusal(source) => (30_000, 600_000),
            Self::Panicked(_) => (60_000, 600_000),
            Self::Api { .. } => (500, 60_000),
        };
        let factor = 1_u64 << failures.saturating_sub(1).min(12);
        Duration::from_millis(longest.min(factor.saturating_mul(first)))
    }
}

/// 403 and 422: the same request gets the same answer until somebody changes something.
pub fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_forbidden() || status.is_invalid())
}

/// A call to the API server, whose error says what was asked.
///
/// # Errors
/// What the API server answers, or that it did not.
pub async fn call<T>(
    name: &'static str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    request.await.map_err(|source| Error::Api {
        call: name,
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::NoAnswer;

    #[test]
    fn retries_get_slower_and_stay_bounded() {
        let error = Error::Api {
            call: "x",
            source: Box::new(kube::Error::Service(Box::new(NoAnswer))),
        };
        assert!(error.to_string().ends_with("no answer within 10 s"));
        let waits: Vec<_> = (1..=40).map(|n| error.retry_after(n)).collect();
        assert_eq!(waits[0], Duration::from_millis(500));
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(waits[39], Duration::from_secs(60));
    }
}
