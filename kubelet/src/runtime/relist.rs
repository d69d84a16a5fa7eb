//! Tells of pods whose containers changed: from the runtime's events, or else by listing it over and over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use tokio::sync::mpsc;
use tracing::debug;

use super::{Kind, Result, Runtime};
use crate::pod::observed::POD_UID;

/// What a relist compares: the states of all sandboxes and containers of a pod.
type Snapshot = BTreeMap<String, BTreeSet<(String, i32)>>;

/// Runs until nobody listens any more. The first listing names every pod that the runtime has.
pub async fn run(runtime: Arc<dyn Runtime>, period: Duration, changed: mpsc::Sender<String>) {
    let mut before = Snapshot::new();
    // Not every runtime has events; one that is not there yet may have.
    let (mut events, mut lacking) = (None, false);
    loop {
        if events.is_none() && !lacking {
            match runtime.events().await {
                Ok(stream) => events = Some(stream),
                Err(error) => lacking = error.kind == Kind::Unimplemented,
            }
        }
        match list(runtime.as_ref()).await {
            Ok(now) => {
                for uid in differing(&before, &now) {
                    if changed.send(uid).await.is_err() {
                        return;
                    }
                }
                before = now;
            }
            Err(error) => debug!(%error, "cannot list the runtime"),
        }
        let Some(stream) = &mut events else {
            tokio::time::sleep(period).await;
            continue;
        };
        // With events a rare listing only catches what was missed.
        let pause = tokio::time::sleep(period * 60);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                biased;
                event = stream.next() => match event {
                    Some(uid) => if changed.send(uid).await.is_err() { return },
                    None => { events = None; break }
                },
                () = &mut pause => break,
            }
        }
    }
}

async fn list(runtime: &dyn Runtime) -> Result<Snapshot> {
    let (sandboxes, containers) = futures::try_join!(runtime.list_sandboxes(None), runtime.list_containers(None))?;
    let mut all = Snapshot::new();
    let sandboxes = sandboxes.into_iter().map(|s| (s.labels.get(POD_UID).cloned(), s.id, s.state));
    let containers = containers.into_iter().map(|c| (c.labels.get(POD_UID).cloned(), c.id, c.state));
    for (uid, id, state) in sandboxes.chain(containers) {
        if let Some(uid) = uid {
            all.entry(uid).or_default().insert((id, state));
        }
    }
    Ok(all)
}

fn differing(before: &Snapshot, now: &Snapshot) -> BTreeSet<String> {
    let uids = before.keys().chain(now.keys());
    uids.filter(|uid| before.get(*uid) != now.get(*uid)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pods_that_changed() {
        let snapshot = |rows: &[(&str, i32)]| -> Snapshot {
            rows.iter().map(|(uid, state)| ((*uid).into(), BTreeSet::from([("c".to_owned(), *state)]))).collect()
        };
        let before = snapshot(&[("same", 1), ("moved", 1), ("gone", 1)]);
        let now = snapshot(&[("same", 1), ("moved", 2), ("new", 0)]);
        assert_eq!(differing(&before, &now), ["gone", "moved", "new"].map(str::to_owned).into());
    }
}
