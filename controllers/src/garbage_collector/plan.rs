//! What becomes of one object, given its owners and its dependents.

use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use serde_json::json;

use crate::{
    plan::{Action, Event, Plan, Write},
    runtime::object::{Resource, has_finalizer, name, namespace, uid},
};

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

#[derive(Clone, Debug)]
pub struct Item {
    pub resource: Resource,
    pub meta: ObjectMeta,
}

pub type Dependent = Item;

/// What is known of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Exists,
    /// It goes once its dependents are gone.
    Waiting,
    Absent,
    /// A cluster-scoped object cannot have an owner in a namespace.
    Impossible,
}

impl Owner {
    pub fn of(meta: &ObjectMeta) -> Self {
        if is_waiting(meta) { Self::Waiting } else { Self::Exists }
    }
}

#[derive(Debug)]
pub struct Observed {
    pub item: Item,
    pub owners: Vec<(OwnerReference, Owner)>,
    pub dependents: Vec<Dependent>,
}

fn is_waiting(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some() && has_finalizer(meta, FOREGROUND)
}

/// Whether it is being deleted, with something for the collector to do first.
pub fn is_finalizing(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some() && (has_finalizer(meta, FOREGROUND) || has_finalizer(meta, ORPHAN))
}

fn blocks(dependent: &Dependent, owner: &str) -> bool {
    let references = dependent.meta.owner_references.iter().flatten();
    references.filter(|r| r.uid == owner).any(|r| r.block_owner_deletion == Some(true))
}

/// The dependents whose fate depends on the item's, now.
pub fn to_look_at(seen: &Observed) -> impl Iterator<Item = &Dependent> {
    let waiting = is_waiting(&seen.item.meta);
    seen.dependents.iter().filter(move |d| waiting && d.meta.deletion_timestamp.is_none())
}

pub fn plan(seen: &Observed) -> Plan {
    let item = &seen.item;
    if item.meta.deletion_timestamp.is_some() {
        return finalize(seen);
    }
    let of = |state: Owner| seen.owners.iter().filter(move |(_, o)| *o == state);
    if let Some((reference, _)) = of(Owner::Impossible).next() {
        return tell_impossible(item, reference);
    }
    let exists = of(Owner::Exists).next().is_some();
    let lost: Vec<&OwnerReference> = seen.owners.iter().filter(|(_, o)| *o != Owner::Exists).map(|(r, _)| r).collect();
    if lost.is_empty() {
        return Plan::default();
    }
    if exists {
        return Plan::of(drop_owners(item, &lost.iter().map(|r| r.uid.as_str()).collect::<Vec<_>>()));
    }
    let waited_for = of(Owner::Waiting).next().is_some();
    if waited_for && !seen.dependents.is_empty() {
        return delete_in_foreground(seen);
    }
    // The policy is what the object's finalizers ask for.
    let policy = match () {
        () if has_finalizer(&item.meta, ORPHAN) => "Orphan",
        () if has_finalizer(&item.meta, FOREGROUND) => "Foreground",
        () => "Background",
    };
    Plan::of(Write::delete_any(item.resource.clone(), &item.meta).propagating(policy).if_unchanged(&item.meta))
}

/// The owner waits for this object, which has dependents itself: they go first.
fn delete_in_foreground(seen: &Observed) -> Plan {
    let item = &seen.item;
    let mut plan = Plan::default();
    // Objects that wait for one another would wait for ever.
    if seen.dependents.iter().any(|d| is_waiting(&d.meta)) {
        let unblocked: Vec<OwnerReference> = item
            .meta
            .owner_references
            .iter()
            .flatten()
            .map(|r| OwnerReference { block_owner_deletion: Some(false), ..r.clone() })
            .collect();
        plan = plan.then(patch(
            item,
            json!({"metadata": {"ownerReferences": unblocked,
            "resourceVersion": item.meta.resource_version}}),
        ));
        return plan.then(Write::delete_any(item.resource.clone(), &item.meta).propagating("Foreground"));
    }
    plan.then(Write::delete_any(item.resource.clone(), &item.meta).propagating("Foreground").if_unchanged(&item.meta))
}

fn finalize(seen: &Observed) -> Plan {
    let item = &seen.item;
    let id = uid(&item.meta);
    if has_finalizer(&item.meta, FOREGROUND) {
        if seen.dependents.iter().any(|d| blocks(d, id)) {
            return Plan::default();
        }
        return Plan::of(drop_finalizer(item, FOREGROUND));
    }
    if has_finalizer(&item.meta, ORPHAN) {
        // The owner stays until the last dependent has let go of it: a failed step ends the plan.
        let releases = seen.dependents.iter().map(|d| drop_owners(d, &[id]));
        return Plan::default().together(releases.collect()).then(drop_finalizer(item, ORPHAN));
    }
    Plan::default()
}

fn drop_finalizer(item: &Item, finalizer: &str) -> Write {
    let left: Vec<&String> = item.meta.finalizers.iter().flatten().filter(|f| *f != finalizer).collect();
    patch(item, json!({"metadata": {"finalizers": left, "resourceVersion": item.meta.resource_version}}))
}

/// Takes owners off an object; with its resource version, since the whole list is written.
fn drop_owners(item: &Item, owners: &[&str]) -> Write {
    let left: Vec<&OwnerReference> =
        item.meta.owner_references.iter().flatten().filter(|r| !owners.contains(&r.uid.as_str())).collect();
    patch(item, json!({"metadata": {"ownerReferences": left, "resourceVersion": item.meta.resource_version}}))
        .forgiving(&[404])
}

/// Every kind takes a merge patch, custom ones included.
fn patch(item: &Item, mut patch: serde_json::Value) -> Write {
    patch["metadata"]["uid"] = json!(item.meta.uid);
    let (namespace, name) = (namespace(&item.meta), name(&item.meta));
    Write::new(item.resource.clone(), namespace, name, "", Action::MergePatch(patch))
}

fn tell_impossible(item: &Item, reference: &OwnerReference) -> Plan {
    let regarding = ObjectReference {
        api_version: Some(item.resource.api_version()),
        kind: Some(item.resource.kind.to_string()),
        name: item.meta.name.clone(),
        namespace: item.meta.namespace.clone(),
        uid: item.meta.uid.clone(),
        ..ObjectReference::default()
    };
    let (version, kind, name, id) = (&reference.api_version, &reference.kind, &reference.name, &reference.uid);
    let message = format!(
        "ownerRef [{version}/{kind}, namespace: , name: {name}, uid: {id}] does not exist in namespace {:?}",
        namespace(&item.meta)
    );
    Plan::default().tell(Event::warning(regarding, "OwnerRefInvalidNamespace", message))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn item(name: &str, meta: Value) -> Item {
        let mut meta: ObjectMeta = serde_json::from_value(meta).unwrap();
        meta.name = Some(name.into());
        meta.uid = Some(format!("uid-{name}"));
        meta.resource_version = Some("7".into());
        let resource = Resource {
            group: "".into(),
            version: "v1".into(),
            kind: "Thing".into(),
            plural: "things".into(),
            namespaced: true,
        };
        Item { resource, meta }
    }

    fn owner(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Thing", "name": name, "uid": format!("uid-{name}"),
            "blockOwnerDeletion": true})
    }

    fn text(plan: &Plan) -> Vec<String> {
        plan.writes()
            .map(|w| match &w.action {
                Action::Delete { propagation, .. } => format!("delete {} {}", w.name, propagation.unwrap()),
                Action::MergePatch(p) => {
                    let count = |field: &str| p["metadata"][field].as_array().map(Vec::len);
                    match (count("ownerReferences"), count("finalizers")) {
                        (Some(n), _) => format!("{} owners={n}", w.name),
                        (_, n) => format!("{} finalizers={}", w.name, n.unwrap()),
                    }
                }
                _ => unreachable!(),
            })
            .collect()
    }

    #[test]
    fn fates() {
        let two = || json!({"ownerReferences": [owner("a"), owner("b")]});
        let deleting =
            |finalizer: &str| json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [finalizer]});
        let child = || item("c", json!({"ownerReferences": [owner("x")]}));
        use Owner::*;
        for (what, meta, owners, dependents, want) in [
            ("an owner is left", two(), vec![Exists, Absent], vec![], vec!["x owners=1"]),
            ("all owners are there", two(), vec![Exists, Exists], vec![], vec![]),
            ("no owner is left", two(), vec![Absent, Absent], vec![], vec!["delete x Background"]),
            ("the owner waits for a leaf", two(), vec![Waiting, Absent], vec![], vec!["delete x Background"]),
            ("the owner waits for a subtree", two(), vec![Waiting, Absent], vec![child()], vec!["delete x Foreground"]),
            (
                "a circle is broken",
                two(),
                vec![Waiting, Absent],
                vec![item("c", deleting(FOREGROUND))],
                vec!["x owners=2", "delete x Foreground"],
            ),
            ("foreground waits", deleting(FOREGROUND), vec![], vec![child()], vec![]),
            ("foreground ends", deleting(FOREGROUND), vec![], vec![], vec!["x finalizers=0"]),
            ("orphaning", deleting(ORPHAN), vec![], vec![child()], vec!["c owners=0", "x finalizers=0"]),
            ("an impossible owner deletes nothing", two(), vec![Impossible, Absent], vec![], vec![]),
            ("somebody else's finalizer", deleting("a/b"), vec![], vec![child()], vec![]),
        ] {
            let item = item("x", meta);
            let references = item.meta.owner_references.clone().unwrap_or_default();
            let owners = references.into_iter().zip(owners).collect();
            assert_eq!(text(&plan(&Observed { item, owners, dependents })), want, "{what}");
        }
    }

    #[test]
    fn a_dependent_that_does_not_block_is_not_waited_for() {
        let mut child = item("c", json!({"ownerReferences": [owner("x")]}));
        child.meta.owner_references.as_mut().unwrap()[0].block_owner_deletion = None;
        let meta = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [FOREGROUND]});
        let seen = Observed { item: item("x", meta), owners: vec![], dependents: vec![child] };
        assert_eq!(text(&plan(&seen)), ["x finalizers=0"]);
        assert_eq!(to_look_at(&seen).count(), 1);
    }
}
