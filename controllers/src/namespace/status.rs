//! What a namespace reports of its deletion: one condition for each thing that can be in the way.

use crds::condition;
use k8s_openapi::{
    api::core::v1::{Namespace, NamespaceCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::Observed;

/// Type; reason and message while all is well.
const WELL: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

/// The namespace with its conditions up to date; none if they are already.
pub fn status(seen: &Observed) -> Option<Namespace> {
    let mut updated = seen.namespace.clone();
    let conditions = updated.status.get_or_insert_default().conditions.get_or_insert_default();
    let mut changed = false;
    for (kind, reason, message) in WELL {
        let (status, reason, message) = match trouble(seen, kind) {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", reason, message.to_owned()),
        };
        let condition = NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(seen.now)),
        };
        changed |= condition::set(conditions, condition);
    }
    changed.then_some(updated)
}

fn trouble(seen: &Observed, kind: &str) -> Option<(&'static str, String)> {
    match kind {
        "NamespaceDeletionDiscoveryFailure" if !seen.discovery_failures.is_empty() => {
            let failures = &seen.discovery_failures;
            let message = format!(
                "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
                failures.len(),
                failures.join(", ")
            );
            Some(("DiscoveryFailed", message))
        }
        "NamespaceDeletionContentFailure" => {
            let mut failures: Vec<_> = seen.remaining.iter().filter_map(|r| r.failure.as_deref()).collect();
            failures.sort_unstable();
            let (count, failures) = (failures.len(), failures.join(", "));
            let message = format!("Failed to delete all resource types, {count} remaining: {failures}");
            (count > 0).then_some(("ContentDeletionFailed", message))
        }
        // Until the pods are gone nothing else was counted.
        _ if seen.pods_remain() => None,
        "NamespaceContentRemaining" => {
            let left = seen.remaining.iter().filter(|r| !r.items.is_empty()).map(|r| {
                let (plural, group) = (&r.kind.resource.plural, &r.kind.resource.group);
                format!("{plural}.{group} has {} resource instances", r.items.len())
            });
            listed(left).map(|left| ("SomeResourcesRemain", format!("Some resources are remaining: {left}")))
        }
        "NamespaceFinalizersRemaining" => {
            let finalizers = seen.finalizers();
            let left = finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances"));
            let message = "Some content in the namespace has finalizers remaining";
            listed(left).map(|left| ("SomeFinalizersRemain", format!("{message}: {left}")))
        }
        _ => None,
    }
}

fn listed(items: impl Iterator<Item = String>) -> Option<String> {
    let mut items: Vec<_> = items.collect();
    items.sort();
    (!items.is_empty()).then(|| items.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::plan::tests::*, *};

    #[test]
    fn conditions() {
        let item = json!({"name": "a", "deletionTimestamp": "2026-01-01T00:09:55Z", "finalizers": ["x/y"]});
        let mut seen = observed("Terminating", vec![remaining("configmaps", &[item])]);
        let foreign = json!({"type": "StatusPatch", "status": "True"});
        seen.namespace.status.as_mut().unwrap().conditions =
            Some(vec![serde_json::from_value::<NamespaceCondition>(foreign).unwrap()]);
        let conditions = status(&seen).unwrap().status.unwrap().conditions.unwrap();
        let of = |kind: &str| condition::find(&conditions, kind).unwrap().clone();
        assert_eq!(conditions[0].type_, "StatusPatch");
        assert_eq!(
            of("NamespaceContentRemaining").message.unwrap(),
            "Some resources are remaining: configmaps. has 1 resource instances"
        );
        assert_eq!(
            of("NamespaceFinalizersRemaining").message.unwrap(),
            "Some content in the namespace has finalizers remaining: x/y in 1 resource instances"
        );
        assert_eq!(of("NamespaceDeletionContentFailure").status, "False");
        seen.namespace.status.as_mut().unwrap().conditions = Some(conditions);
        assert!(status(&seen).is_none());
    }
}
