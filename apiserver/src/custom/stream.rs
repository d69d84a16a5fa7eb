//! Watches of kinds that a webhook converts: events wait for the conversion of their objects.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use sync_wrapper::SyncStream;

use super::convert;
use crate::{
    cache::{
        Filter,
        kind::Delivery,
        watcher::{First, From, Watch},
    },
    error::Result,
    world::World,
};

/// A watch whose objects are ready to be shown in the version that the filter is of.
pub async fn watch(
    world: &Arc<World>,
    filter: Filter,
    from: From,
) -> Result<Watch<impl Stream<Item = Delivery> + Unpin + use<>>> {
    // Fields are those of the client's version, which the cache does not know of.
    let mut wide = filter.clone();
    if filter.selects_own() {
        wide.fields.clear();
    }
    let watch = world.cache.watch(wide, from).await?;
    let first = match watch.first {
        First::Objects(mut objects) => {
            convert::prepare(world, &objects, &filter.definition).await?;
            objects.retain(|object| filter.matches(object));
            First::Objects(objects)
        }
        First::Changes(changes) => {
            let mut ready = Vec::with_capacity(changes.len());
            for delivery in changes {
                ready.extend(converted(world, &filter, delivery).await);
            }
            First::Changes(ready)
        }
    };
    let world = world.clone();
    let changes = watch.changes.filter_map(move |delivery| {
        let (world, filter) = (world.clone(), filter.clone());
        async move { converted(&world, &filter, delivery).await }
    });
    Ok(Watch { first, revision: watch.revision, changes: SyncStream::new(Box::pin(changes)) })
}

/// None: it is of nothing that was selected. What cannot be converted is told to the watcher where it is shown.
async fn converted(world: &World, filter: &Filter, (change, event): Delivery) -> Option<Delivery> {
    let told = |done: Result<()>| {
        if let Err(error) = done {
            tracing::warn!(%error, kind = %filter.definition.gvk.kind, "an object of a watch cannot be converted");
        }
    };
    let mut change = change;
    if filter.selects_own() {
        let both = event.object.iter().chain(&event.previous);
        told(convert::prepare(world, both, &filter.definition).await);
        change = filter.change(&event)?;
    }
    told(convert::prepare(world, event.shown(change), &filter.definition).await);
    Some((change, event))
}
