//! What to delete next in a namespace, and when it may go itself.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;

use super::{Observed, Remaining, is_pods, status};
use crate::{
    plan::{Action, Plan, Write},
    runtime::{clock, object},
};

const FINALIZER: &str = "kubernetes";
const TERMINATING: &str = "Terminating";
/// How long finalizers commonly take.
const FINALIZER_SECONDS: i64 = 15;
/// What was just deleted is looked for again soon.
const SOON: Duration = Duration::from_millis(100);

pub fn is_marked(namespace: &Namespace) -> bool {
    namespace.status.as_ref().and_then(|s| s.phase.as_deref()) == Some(TERMINATING)
}

pub fn is_finalized(namespace: &Namespace) -> bool {
    namespace.spec.as_ref().and_then(|s| s.finalizers.as_ref()).is_none_or(Vec::is_empty)
}

pub fn plan(seen: &Observed) -> Plan {
    let namespace = &seen.namespace;
    if !is_marked(namespace) {
        let mut marked = namespace.clone();
        marked.status.get_or_insert_default().phase = Some(TERMINATING.to_owned());
        return Plan::of(Write::status(&marked)).again_after(Duration::ZERO);
    }
    if is_finalized(namespace) {
        return Plan::default();
    }
    let deletions: Vec<Write> = seen.remaining.iter().flat_map(|r| deletions(seen, r)).collect();
    if !deletions.is_empty() {
        return Plan::default().together(deletions).again_after(SOON);
    }
    let updated = status::status(seen);
    let plan = match &updated {
        Some(status) => Plan::of(Write::status(status)),
        None => Plan::default(),
    };
    let failed = !seen.discovery_failures.is_empty() || seen.remaining.iter().any(|r| r.failure.is_some());
    if failed || seen.remaining.iter().any(|r| !r.items.is_empty()) {
        return plan.again_after(estimate(seen));
    }
    // The conditions are seen before the namespace is gone: finalization follows in the next look.
    match updated {
        Some(_) => plan.again_after(Duration::ZERO),
        None => plan.then(finalize(namespace)),
    }
}

/// Deletes what has not been told to go yet.
fn deletions(seen: &Observed, remaining: &Remaining) -> Vec<Write> {
    let unmarked = || remaining.items.iter().filter(|i| i.metadata.deletion_timestamp.is_none());
    if unmarked().next().is_none() {
        return Vec::new();
    }
    let (kind, namespace) = (&remaining.kind, object::name(&seen.namespace.metadata));
    if kind.can("deletecollection") {
        let write = Write::new(kind.resource.clone(), namespace, "", "", Action::DeleteCollection);
        return vec![write.forgiving(&[404, 405])];
    }
    unmarked()
        .map(|i| Write::delete_any(kind.resource.clone(), &i.metadata).propagating("Background").forgiving(&[404, 405]))
        .collect()
}

/// When what remains may be gone: half of what it may need, and a bit.
fn estimate(seen: &Observed) -> Duration {
    let deleted = seen.namespace.metadata.deletion_timestamp.as_ref().map_or(seen.now, |t| t.0);
    let elapsed = i64::try_from(clock::since(seen.now, deleted).as_secs()).unwrap_or(i64::MAX);
    let pods = seen.remaining.iter().any(|r| is_pods(&r.kind) && !r.items.is_empty());
    let seconds = match pods && elapsed < seen.pod_grace_seconds {
        true => seen.pod_grace_seconds,
        false => FINALIZER_SECONDS.min(elapsed),
    };
    Duration::from_secs(u64::try_from(seconds / 2 + 1).unwrap_or(1))
}

fn finalize(namespace: &Namespace) -> Write {
    let mut finalized = namespace.clone();
    if let Some(finalizers) = finalized.spec.get_or_insert_default().finalizers.as_mut() {
        finalizers.retain(|f| f != FINALIZER);
    }
    Write::update_part(&finalized, "finalize").forgiving(&[404])
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        pod::tests::now,
        runtime::{
            discovery::Served,
            object::{Meta, Resource},
        },
    };

    pub fn remaining(plural: &str, items: &[serde_json::Value]) -> Remaining {
        let resource = Resource {
            group: "".into(),
            version: "v1".into(),
            kind: plural.to_owned().into(),
            plural: plural.to_owned().into(),
            namespaced: true,
        };
        let items = items.iter().map(|i| serde_json::from_value::<Meta>(json!({"metadata": i})).unwrap()).collect();
        let verbs = ["list", "delete", "deletecollection"].map(str::to_owned).to_vec();
        Remaining { kind: Served { resource, verbs }, items, failure: None }
    }

    pub fn observed(phase: &str, remaining: Vec<Remaining>) -> Observed {
        Observed {
            namespace: serde_json::from_value(json!({
                "metadata": {"name": "n", "deletionTimestamp": "2026-01-01T00:09:50Z"},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": phase}}))
            .unwrap(),
            remaining,
            discovery_failures: Vec::new(),
            pod_grace_seconds: 30,
            now: now(),
        }
    }

    fn verbs(plan: &Plan) -> Vec<String> {
        let name = |w: &Write| match w.action {
            Action::DeleteCollection => format!("delete {}", w.resource.plural),
            _ => w.subresource.to_owned(),
        };
        plan.writes().map(name).collect()
    }

    #[test]
    fn from_mark_to_finalization() {
        let marked = || json!({"name": "a", "deletionTimestamp": "2026-01-01T00:09:55Z", "finalizers": ["x/y"]});
        for (what, seen, want) in [
            ("marked first", observed("Active", vec![]), &["status"][..]),
            (
                "what is there is deleted",
                observed("Terminating", vec![remaining("pods", &[json!({"name": "a"})])]),
                &["delete pods"],
            ),
            ("what is going is waited for", observed("Terminating", vec![remaining("pods", &[marked()])]), &["status"]),
            ("the conditions are reported", observed("Terminating", vec![]), &["status"]),
        ] {
            assert_eq!(verbs(&plan(&seen)), want, "{what}");
        }
        let waiting = plan(&observed("Terminating", vec![remaining("pods", &[marked()])]));
        assert_eq!(waiting.requeue_after.unwrap().as_secs(), 16);
        let mut empty = observed("Terminating", vec![]);
        empty.namespace =
            serde_json::from_value(plan(&empty).writes().next().unwrap().body().unwrap().clone()).unwrap();
        let last = plan(&empty);
        assert_eq!(verbs(&last), ["finalize"]);
        assert_eq!(last.writes().next().unwrap().body().unwrap()["spec"]["finalizers"], json!([]));
    }
}
