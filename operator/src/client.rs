//! The client of the API server: every request is counted, none is retried, none waits for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use tower::{BoxError, Service};

use crate::metrics::Metrics;

/// Longest time that an answer may take; of a watch, that its beginning may take.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The API server did not answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", DEADLINE.as_secs())]
pub struct NoAnswer;

/// A client for a cluster. It never retries on its own: the reconcile loop does, with a back-off
/// that is known.
///
/// # Errors
/// If the configuration is of no use, for example an unreadable certificate.
pub fn connect(mut config: kube::Config, metrics: &Metrics) -> kube::Result<Client> {
    config.default_retry = false;
    Ok(layered(ClientBuilder::try_from(config)?, metrics))
}

/// A client over any connection, with the layers of the program.
pub fn layered<S, B>(builder: ClientBuilder<S>, metrics: &Metrics) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let metrics = metrics.clone();
    let counted = tower::util::MapRequestLayer::new(move |request: Request<Body>| {
        metrics.count(&request);
        request
    });
    let patient = tower::layer::layer_fn(Patient);
    builder.with_layer(&patient).with_layer(&counted).build()
}

/// Gives up on an answer that does not come.
///
/// The caches depend on it as much as the reconciles: their lists and watches have no deadline of
/// their own, and an operator without caches does nothing at all.
struct Patient<S>(S);

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

impl<S, B> Service<Request<Body>> for Patient<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let kind = Kind::of(request.uri());
        let answer = self.0.call(request);
        let answer = async move { answer.await.map_err(Into::into) };
        Box::pin(async move {
            match kind {
                Kind::Log => answer.await.map(streamed),
                Kind::Watch => within(answer).await.map(streamed),
                Kind::Call => within(async { whole(answer.await?).await }).await,
            }
        })
    }
}

/// What kind of answer a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One that is over soon.
    Call,
    /// One that begins at once and goes on.
    Watch,
    /// One that begins with the first line, whenever that is written.
    Log,
}

impl Kind {
    fn of(uri: &http::Uri) -> Self {
        let mut query = uri.query().into_iter().flat_map(|query| query.split('&'));
        if query.any(|pair| pair == "watch=true") {
            Self::Watch
        } else if uri.path().ends_with("/log") {
            Self::Log
        } else {
            Self::Call
        }
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
    tokio::time::timeout(DEADLINE, answer)
        .await
        .map_err(|_| NoAnswer)?
}

fn streamed<B>(response: Response<B>) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}

async fn whole<B>(response: Response<B>) -> Result<Answer, BoxError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.map_err(Into::into)?.to_bytes();
    let body = Full::new(bytes).map_err(|never| match never {});
    Ok(Response::from_parts(parts, body.boxed_unsync()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;
    use kube::api::{ListParams, LogParams, WatchParams};

    use super::*;

    fn silent() -> Api<Pod> {
        let service = tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, Infallible>>()
        });
        let builder = ClientBuilder::new(service, "default");
        Api::default_namespaced(layered(builder, &Metrics::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_comes_is_given_up() {
        let api = silent();
        let told = |error: kube::Error| {
            let text = error.to_string();
            assert!(text.ends_with("no answer within 10 s"), "{text}");
        };
        told(api.get("a").await.unwrap_err());
        told(api.list(&ListParams::default()).await.unwrap_err());
        let watch = api.watch(&WatchParams::default(), "1").await;
        told(watch.err().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_may_be_silent() {
        let api = silent();
        let params = LogParams::default();
        let log = api.log_stream("a", &params);
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, log).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_stops_in_its_middle_is_given_up() {
        let service = tower::service_fn(|_: Request<Body>| async {
            let part = futures::stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"{"))]);
            let body = futures::StreamExt::chain(part, futures::stream::pending());
            let frames = futures::StreamExt::map(body, |part| part.map(http_body::Frame::data));
            let body = http_body_util::StreamBody::new(frames);
            Ok::<_, Infallible>(Response::new(body))
        });
        let builder = ClientBuilder::new(service, "default");
        let api: Api<Pod> = Api::default_namespaced(layered(builder, &Metrics::default()));
        let error = api.list(&ListParams::default()).await.unwrap_err();
        assert!(error.to_string().ends_with("no answer within 10 s"));
    }
}
