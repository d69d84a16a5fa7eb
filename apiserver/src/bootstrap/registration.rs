//! The APIServices of the groups that we serve ourselves, in upstream's order of preference.

use std::collections::{BTreeMap, BTreeSet};

use crds::kinds;
use serde_json::{Value, json};

use super::{Keep, Kind, Wanted};
use crate::registry::Table;

const API_SERVICE: Kind = ("apiregistration.k8s.io", "v1", "apiservices", "APIService");
/// The label of those that come and go with what is served.
pub const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const ON_START: &str = "onstart";
/// For a group that the facts do not name yet.
const PRIORITY_DEFAULT: (i32, i32) = (16_000, 15);

/// One for each group and version of the kinds table that is served, but for the group of APIServices itself.
pub fn api_services(kinds: &Table) -> Result<Vec<Wanted>, serde_json::Error> {
    let priorities: BTreeMap<String, (i32, i32)> = serde_json::from_str(include_str!("api_services.json"))?;
    let of = |group: &str, version: &str| {
        let name = name(group, version);
        let (of_group, of_version) = priorities.get(&name).copied().unwrap_or(PRIORITY_DEFAULT);
        let mut spec = json!({"version": version, "groupPriorityMinimum": of_group, "versionPriority": of_version});
        if !group.is_empty() {
            spec["group"] = group.into();
        }
        let object = json!({"metadata": {"labels": {AUTOMANAGED: ON_START}}, "spec": spec});
        Wanted::new(API_SERVICE, "", &name, object, Keep::Fields(&["spec"])).with_status(conditions_of_local_services())
    };
    Ok(known(kinds, true).map(|(group, version)| of(group, version)).collect())
}

/// Those of what was served at an earlier start, and is no longer.
pub fn gone(kinds: &Table) -> Vec<Wanted> {
    let object = json!({"metadata": {"labels": {AUTOMANAGED: ON_START}}});
    let of = |(group, version)| Wanted::new(API_SERVICE, "", &name(group, version), object.clone(), Keep::Absent);
    known(kinds, false).map(of).collect()
}

/// The groups and versions of the kinds table that are served, or are not.
fn known(kinds: &Table, served: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    let known: BTreeSet<(&str, &str)> = kinds::all().map(|kind| (&*kind.gvk.group, &*kind.gvk.version)).collect();
    known
        .into_iter()
        .filter(move |(group, version)| *group != API_SERVICE.0 && kinds.has_built_in(group, version) == served)
}

/// What an APIService is called.
pub fn name(group: &str, version: &str) -> String {
    format!("{version}.{group}")
}

/// The status of an APIService that no other server stands behind.
pub fn conditions_of_local_services() -> Value {
    let message = "Local APIServices are always available";
    json!({"conditions": [{"type": "Available", "status": "True", "reason": "Local", "message": message}]})
}
