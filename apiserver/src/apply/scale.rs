//! Managed fields on their way to the Scale of an object and back: only the number of replicas has owners there.

use serde_json::Value;

use super::{
    managed::{Managed, Owned},
    path::Element,
    set::Set,
};

const SCALE: &str = "autoscaling/v1";

/// Where the versions of a kind have their number of replicas. An inner None: that version has no scale.
pub type ReplicasAt<'a> = &'a dyn Fn(&str) -> Option<Option<Vec<Element>>>;

/// A JSON path of a field, `.spec.replicas`.
pub fn path(json_path: &str) -> Vec<Element> {
    json_path.split('.').filter(|part| !part.is_empty()).map(Element::field).collect()
}

fn replicas() -> Vec<Element> {
    path(".spec.replicas")
}

/// What of an object's `metadata.managedFields` its Scale shows: those who own the number of replicas.
pub fn to_scale(parent: &Value, at: ReplicasAt) -> Option<Value> {
    let owners = Managed::of(parent).ok()?.0.into_iter().filter_map(|(owner, owned)| {
        let path = at(&owned.api_version)??;
        let set = owned.set.has_path(&path).then(|| Set::of(&replicas()))?;
        Some((owner, Owned { set, api_version: SCALE.to_owned(), time: owned.time }))
    });
    Managed(owners.collect()).encode()
}

/// The object's managed fields after a write of its Scale, whose fields are `scale` (tracked or applied there).
pub fn to_parent(parent: &Value, api_version: &str, scale: &Value, at: ReplicasAt) -> Result<Option<Value>, String> {
    let parent = Managed::of(parent)?;
    let mut scale = Managed::of(scale)?.0;
    let mut managed = Managed::default();
    for (owner, mut owned) in parent.0 {
        let Some(path) = at(&owned.api_version) else { continue };
        if let Some(path) = path.filter(|path| owned.set.has_path(path))
            && scale.remove(&owner).is_none()
        {
            owned.set = owned.set.difference(&Set::of(&path));
            if owned.set.is_empty() {
                continue;
            }
        }
        managed.0.insert(owner, owned);
    }
    for (owner, owned) in scale {
        if !owned.set.has_path(&replicas()) {
            continue;
        }
        let Some(Some(path)) = at(api_version) else { continue };
        // Upstream looks the time up among the parent's owners, where a new one is not: the entry has none.
        managed.0.insert(owner, Owned { set: Set::of(&path), api_version: api_version.to_owned(), time: None });
    }
    Ok(managed.encode())
}
