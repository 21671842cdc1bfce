//! A small JSON document that a server gives to everybody.

use alignment_api::WebUrl;
use serde::de::DeserializeOwned;

use crate::error::NetError;
use crate::exchange::{Ask, status_fault};
use crate::image_service::json;
use crate::stop::Cancel;
use crate::{Network, retry};

impl Network {
    /// Reads a JSON document of at most `limits.list_bytes` bytes. No token is sent.
    ///
    /// # Errors
    /// [`NetError`].
    pub fn document<T>(&self, url: &WebUrl, stop: &dyn Cancel) -> Result<T, NetError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let most = self.limits.list_bytes;
        retry::until_done(self, &url.shown(), stop, || {
            self.exchange(Ask::get(url.clone(), None), stop, move |reply| {
                status_fault(&reply)?;
                json(reply, most)
            })
        })
    }
}
