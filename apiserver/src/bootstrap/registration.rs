//! The APIServices of the groups that we serve ourselves, in upstream's order of preference.

use std::collections::{BTreeMap, BTreeSet};

use crds::kinds::KINDS;
use serde_json::{Value, json};

use super::{Keep, Kind, Wanted};

const API_SERVICE: Kind = ("apiregistration.k8s.io", "v1", "apiservices", "APIService");
/// For a group that the facts do not name yet.
const PRIORITY_DEFAULT: (i32, i32) = (16_000, 15);

/// One for each group and version of the kinds table, but for the group of APIServices itself.
pub fn api_services() -> Result<Vec<Wanted>, serde_json::Error> {
    let priorities: BTreeMap<String, (i32, i32)> = serde_json::from_str(include_str!("api_services.json"))?;
    let served: BTreeSet<_> = KINDS.iter().map(|kind| (&kind.gvk.group, &kind.gvk.version)).collect();
    let served = served.into_iter().filter(|(group, _)| *group != API_SERVICE.0);
    Ok(served
        .map(|(group, version)| {
            let name = format!("{version}.{group}");
            let (of_group, of_version) = priorities.get(&name).copied().unwrap_or(PRIORITY_DEFAULT);
            let mut spec = json!({"version": version, "groupPriorityMinimum": of_group, "versionPriority": of_version});
            if !group.is_empty() {
                spec["group"] = group.as_ref().into();
            }
            let labels = json!({"kube-aggregator.kubernetes.io/automanaged": "onstart"});
            let object = json!({"metadata": {"labels": labels}, "spec": spec});
            Wanted::new(API_SERVICE, "", &name, object, Keep::Fields(&["spec"]))
                .with_status(conditions_of_local_services())
        })
        .collect())
}

/// The status of an APIService that no other server stands behind.
pub fn conditions_of_local_services() -> Value {
    let message = "Local APIServices are always available";
    json!({"conditions": [{"type": "Available", "status": "True", "reason": "Local", "message": message}]})
}
