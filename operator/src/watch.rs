//! What watches have in common: how long one lasts, what it says of its cache, how requests are read.

use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event};

use crate::readiness::CacheReadiness;
use crate::request::{Kind, Request};

/// A watch is renewed after so many seconds: one that died silently is noticed by then.
const WATCH_SECONDS: u32 = 60;

/// What a watch yields.
pub type WatchResult<T> = Result<T, watcher::Error>;

/// A watch of everything.
pub fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Notes what a watch says of its cache.
pub fn note_cache<K>(cache: &CacheReadiness, event: &WatchResult<Event<K>>) {
    match event {
        Ok(Event::InitDone) => cache.filled(),
        Err(watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) => {
            if let kube::Error::Api(status) = error
                && status.is_forbidden()
            {
                cache.refused(&status.message);
            }
        }
        _ => {}
    }
}

/// Reads the request in an event. One that this version does not understand is left out, so that it
/// hides no other.
pub fn parse_event(event: Event<DynamicObject>, kind: Kind) -> Option<Event<Request>> {
    Some(match event {
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(parse(object, kind)?),
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(parse(object, kind)?),
        Event::Delete(object) => Event::Delete(parse(object, kind)?),
    })
}

fn parse(mut object: DynamicObject, kind: Kind) -> Option<Request> {
    object.managed_fields_mut().clear();
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    match Request::read(object, kind) {
        Ok(request) => Some(request),
        Err(error) => {
            tracing::error!(%error, namespace, name, "request not understood; left alone");
            None
        }
    }
}
