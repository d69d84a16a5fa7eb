//! Watches: from a revision, from now, or beginning with what is there.

use std::sync::Arc;

use futures::StreamExt;
use store::{Revision, StoreError};

use super::{
    Cache, Change, Filter, Object,
    changes::Changes,
    event::Event,
    kind::{Delivery, Start},
    split_key,
};
use crate::error::{ApiError, Result};

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The objects as they are, told as ADDED; the cache must have reached this revision.
    State(Revision),
    /// What changes from now on.
    Now,
    /// What has changed after this revision.
    After(Revision),
}

/// What a watcher is told first.
pub enum First {
    Objects(Vec<Arc<Object>>),
    Changes(Vec<Delivery>),
}

pub struct Watch<C = Changes> {
    pub first: First,
    /// What `first` shows is the state at this revision.
    pub revision: Revision,
    pub changes: C,
}

impl<C> Watch<C> {
    /// The same watch, whose changes are told by something made of what tells them now.
    pub fn told_by<D>(self, made: impl FnOnce(C) -> D) -> Watch<D> {
        Watch { first: self.first, revision: self.revision, changes: made(self.changes) }
    }
}

impl Cache {
    pub async fn watch(&self, filter: Filter, from: From) -> Result<Watch> {
        let kind = self.kind(&filter.definition);
        let after = match from {
            From::State(revision) => {
                self.wait_for(revision).await?;
                None
            }
            From::Now => None,
            From::After(revision) => Some(revision),
        };
        let selected = filter.name.as_deref();
        self.check_readable(&filter.definition.storage_prefix, &filter.namespace, selected).await?;
        let applied = self.revision();
        let registered = kind.register(filter.clone(), after, matches!(from, From::State(_)));
        let first = match registered.start {
            Start::State(mut objects) => {
                objects.retain(|object| filter.matches(object));
                First::Objects(objects)
            }
            Start::Changes(changes) => First::Changes(changes),
            Start::Older(until) => First::Changes(self.replay(&filter, after.unwrap_or_default(), until).await?),
        };
        Ok(Watch { first, revision: applied.max(registered.revision), changes: registered.changes })
    }

    /// Changes that the cache no longer has, from the store's history.
    async fn replay(&self, filter: &Filter, after: Revision, until: Revision) -> Result<Vec<Delivery>> {
        let prefix = super::key_of(&filter.definition.storage_prefix, "", "");
        let mut batches = self.store.watch(&prefix, after).await.map_err(too_old)?;
        let mut changes = Vec::new();
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(too_old)?;
            let reached = batch.last().map_or(0, |event| event.revision);
            for change in batch.into_iter().filter(|event| event.revision <= until) {
                let event = Arc::new(read(change)?);
                if let Some(change) = filter.change(&event) {
                    changes.push((change, event));
                }
            }
            if reached >= until {
                break;
            }
        }
        Ok(changes)
    }
}

fn read(change: store::Event) -> Result<Event> {
    let object = change.value.as_ref().map(Object::new).transpose()?.map(Arc::new);
    let previous = change.previous.as_ref().map(Object::new).transpose()?.map(Arc::new);
    let previous = match (&object, previous, split_key(&change.key)) {
        // The history kept no value: the key still tells what was deleted.
        (None, None, Some((_, path))) => Some(Arc::new(nameless(path)?)),
        (_, previous, _) => previous,
    };
    Ok(Event::new(change.revision, object, previous))
}

fn nameless(path: &str) -> Result<Object> {
    let (namespace, name) = path.split_once('/').unwrap_or(("", path));
    Object::of(
        &serde_json::json!({"kind": "", "apiVersion": "", "metadata": {"namespace": namespace, "name": name}}),
        0,
    )
}

fn too_old(error: StoreError) -> ApiError {
    match error {
        StoreError::Compacted { asked, oldest } => {
            ApiError::expired(format!("too old resource version: {asked} ({oldest})"))
        }
        other => ApiError::from_store(other),
    }
}

/// The first changes and the later ones are told alike.
pub fn added(object: &Arc<Object>) -> Delivery {
    (Change::Added, Arc::new(Event::new(object.revision, Some(object.clone()), None)))
}
