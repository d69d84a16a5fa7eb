//! Watches of kinds that a webhook converts: events wait for the conversion of their objects.

use std::sync::Arc;

use tokio::sync::mpsc;

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

/// Converted events that wait for the watcher.
const BACKLOG: usize = 64;

/// A watch whose objects are ready to be shown in the version that the filter is of.
pub async fn watch(world: &Arc<World>, filter: Filter, from: From) -> Result<Watch> {
    // Fields are those of the client's version, which the cache does not know of.
    let mut wide = filter.clone();
    if filter.selects_own() {
        wide.fields.clear();
    }
    let mut watch = world.cache.watch(wide, from).await?;
    watch.first = match watch.first {
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
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let changes = std::mem::replace(&mut watch.changes, receiver);
    tokio::spawn(feed(world.clone(), filter, changes, sender));
    Ok(watch)
}

async fn feed(
    world: Arc<World>,
    filter: Filter,
    mut changes: mpsc::Receiver<Delivery>,
    sender: mpsc::Sender<Delivery>,
) {
    loop {
        let delivery = tokio::select! {
            delivery = changes.recv() => delivery,
            () = sender.closed() => None,
        };
        let Some(delivery) = delivery else { return };
        if let Some(delivery) = converted(&world, &filter, delivery).await
            && sender.send(delivery).await.is_err()
        {
            return;
        }
    }
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
