//! Watchers who are to be woken later: of which kinds, and when.

use std::sync::Arc;

use tokio::time::Instant;

use super::kind::KindCache;

/// The kinds that have such watchers, and when the first of them are to be woken.
#[derive(Default)]
pub struct Postponed(Vec<(Arc<KindCache>, Instant)>);

impl Postponed {
    pub fn put(&mut self, kind: Arc<KindCache>, due: Instant) {
        match self.0.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &kind)) {
            Some((_, known)) => *known = due,
            None => self.0.push((kind, due)),
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Wakes them when it is time, for as long as there are any.
    pub async fn wake(&mut self) {
        while let Some(next) = self.0.iter().map(|(_, due)| *due).min() {
            tokio::time::sleep_until(next).await;
            let now = Instant::now();
            self.0.retain_mut(|(kind, due)| match kind.wake_due(now) {
                Some(next) => {
                    *due = next;
                    true
                }
                None => false,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use crds::kind::Definition;
    use futures::{FutureExt, StreamExt};
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;
    use store::Revision;

    use super::*;
    use crate::cache::{Filter, Object};

    #[tokio::test]
    async fn many_watchers_are_woken_when_it_is_time() {
        let (kind, mut postponed) = (Arc::<KindCache>::default(), Postponed::default());
        let filter = Filter::all(Arc::new(Definition::of::<ConfigMap>()), "");
        let mut watches: Vec<_> = (0..100).map(|_| kind.register(filter.clone(), None, false).changes).collect();
        let now = Instant::now();
        let mut change = |revision: Revision| {
            let value = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"namespace": "a", "name": "b"}});
            let object = Arc::new(Object::of(&value, revision).unwrap());
            let due = kind.apply(revision, vec![("a/b".into(), Some(object))], now);
            due.inspect(|due| postponed.put(kind.clone(), *due))
        };
        assert_eq!(change(1), None);
        futures::future::join_all(watches.iter_mut().map(StreamExt::next)).await;
        let mut waiting = futures::future::join_all(watches.iter_mut().map(StreamExt::next)).boxed();
        assert!((&mut waiting).now_or_never().is_none());
        assert!(change(2).is_some_and(|due| due > now));
        let (told, ()) = tokio::join!(waiting, postponed.wake());
        assert!(told.into_iter().all(|change| change.is_some_and(|(_, event)| event.revision == 2)));
        assert!(postponed.is_empty());
    }
}
