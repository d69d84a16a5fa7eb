//! Keeps one cache like the server: a list, then a watch that resumes where it broke off.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use kube::core::WatchEvent;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::{
    cache::Cache,
    object::{Object, version},
    server::{Error, Form, Server},
};

const WATCH_SECONDS: u64 = 290;
/// A stream that is silent past its own end is dead.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS + 15);
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Feeds the cache until `stop`.
pub async fn reflect<T>(server: Server, cache: Arc<Cache<T>>, form: Form, stop: CancellationToken)
where
    T: Object + DeserializeOwned + Clone,
{
    let reflector = Reflector { server, path: cache.resource.collection(""), cache, form };
    stop.run_until_cancelled(reflector.run()).await;
}

struct Reflector<T> {
    server: Server,
    path: String,
    cache: Arc<Cache<T>>,
    form: Form,
}

/// How a watch came to its end.
enum End {
    Resume,
    Relist,
}

impl<T: Object + DeserializeOwned + Clone> Reflector<T> {
    async fn run(self) {
        let mut delay = RETRY_FIRST;
        loop {
            let listed = match self.list().await {
                Ok(at) => Ok(at),
                // A kind that the server does not (or no longer) know is an empty one.
                Err(e) if e.code() == 404 && !self.cache.is_ready() => {
                    self.cache.replace(Vec::new(), 0);
                    Err(e)
                }
                Err(e) => Err(e),
            };
            match listed {
                Ok(at) => {
                    delay = RETRY_FIRST;
                    self.follow(at).await;
                }
                Err(error) => {
                    tracing::debug!(path = self.path, %error, "listing failed");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(RETRY_MAX);
                }
            }
        }
    }

    async fn list(&self) -> Result<u64, Error> {
        let (items, at) = self.server.list(&self.path, self.form).await?;
        self.cache.replace(items, at);
        Ok(at)
    }

    /// Watches on and on; returns when only a new list helps.
    async fn follow(&self, mut at: u64) {
        let mut delay = RETRY_FIRST;
        loop {
            let before = at;
            match self.watch(&mut at).await {
                Ok(End::Relist) => return,
                Ok(End::Resume) => {}
                Err(error) if matches!(error.code(), 410 | 404) => return,
                Err(error) => tracing::debug!(path = self.path, %error, "watch failed"),
            }
            if at > before {
                delay = RETRY_FIRST;
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RETRY_MAX);
        }
    }

    async fn watch(&self, at: &mut u64) -> Result<End, Error> {
        let stream = self.server.watch::<T>(&self.path, *at, WATCH_SECONDS, self.form).await?;
        let mut stream = std::pin::pin!(stream);
        loop {
            let Ok(Some(event)) = tokio::time::timeout(SILENCE, stream.next()).await else {
                return Ok(End::Resume);
            };
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    *at = version(object.meta()).max(*at);
                    self.cache.apply(object);
                }
                WatchEvent::Deleted(object) => {
                    *at = version(object.meta()).max(*at);
                    self.cache.delete(&object);
                }
                WatchEvent::Bookmark(mark) => {
                    *at = mark.metadata.resource_version.parse().unwrap_or(*at).max(*at);
                    self.cache.advance(*at);
                }
                WatchEvent::Error(status) if status.code == 410 => return Ok(End::Relist),
                WatchEvent::Error(status) => return Err(Error::Refused(status)),
            }
        }
    }
}
