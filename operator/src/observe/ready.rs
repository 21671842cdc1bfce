//! A signal that a cache is filled.

use tokio::sync::watch;

/// Whether a cache holds everything that the first list gave.
///
/// The caches of kube have a signal of their own, which wakes only one of several waiting tasks.
pub struct Ready(watch::Sender<bool>);

impl Default for Ready {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Ready {
    /// From now on.
    pub fn set(&self) {
        self.0.send_replace(true);
    }

    /// Waits for it.
    pub async fn wait(&self) {
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|ready| *ready).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn everybody_who_waits_is_woken() {
        let ready = Arc::new(Ready::default());
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let ready = ready.clone();
                tokio::spawn(async move { ready.wait().await })
            })
            .collect();
        tokio::task::yield_now().await;
        ready.set();
        for task in waiting {
            task.await.unwrap();
        }
        ready.wait().await;
    }
}
