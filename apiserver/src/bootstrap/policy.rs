//! Who may do what from the start: RBAC's default roles and bindings, priority classes, and what extensions must know.
//!
//! A rule is written `[verbs, groups, resources, names]` or `[verbs, URLs]`, each a text with spaces; `core` is the
//! core group. A role's rules go `to` another's, or are gathered `from` those that go to it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Cluster, Keep, Kind, Wanted};
use crate::authorize::rbac::GROUP;

const CLUSTER_ROLES: &str = include_str!("cluster_roles.json");
const CLUSTER_ROLE_BINDINGS: &str = include_str!("cluster_role_bindings.json");
const ROLES: &str = include_str!("roles.json");
const ROLE_BINDINGS: &str = include_str!("role_bindings.json");
const PRIORITY_CLASSES: &str = include_str!("priority_classes.json");

const CLUSTER_ROLE: Kind = (GROUP, "v1", "clusterroles", "ClusterRole");
const CLUSTER_ROLE_BINDING: Kind = (GROUP, "v1", "clusterrolebindings", "ClusterRoleBinding");
const ROLE: Kind = (GROUP, "v1", "roles", "Role");
const ROLE_BINDING: Kind = (GROUP, "v1", "rolebindings", "RoleBinding");
const PRIORITY_CLASS: Kind = ("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass");
const CONFIG_MAP: Kind = ("", "v1", "configmaps", "ConfigMap");

type Rule = Vec<String>;

#[derive(Deserialize)]
struct ClusterRole {
    to: Option<String>,
    from: Option<String>,
    rules: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
struct RoleBinding {
    role: String,
    subjects: Vec<String>,
}

type ByNamespace<T> = BTreeMap<String, BTreeMap<String, T>>;

pub fn rbac() -> Result<Vec<Wanted>, serde_json::Error> {
    let mut wanted = Vec::new();
    for (name, role) in serde_json::from_str::<BTreeMap<String, ClusterRole>>(CLUSTER_ROLES)? {
        wanted.push(Wanted::new(CLUSTER_ROLE, "", &name, cluster_role(&role), Keep::Rules));
    }
    for (name, subjects) in serde_json::from_str::<BTreeMap<String, Vec<String>>>(CLUSTER_ROLE_BINDINGS)? {
        let object = binding("ClusterRole", &name, &subjects);
        wanted.push(Wanted::new(CLUSTER_ROLE_BINDING, "", &name, object, Keep::Subjects));
    }
    for (namespace, roles) in serde_json::from_str::<ByNamespace<Vec<Rule>>>(ROLES)? {
        for (name, rules) in roles {
            let object = json!({"metadata": metadata(), "rules": policy_rules(&rules)});
            wanted.push(Wanted::new(ROLE, &namespace, &name, object, Keep::Rules));
        }
    }
    for (namespace, bindings) in serde_json::from_str::<ByNamespace<RoleBinding>>(ROLE_BINDINGS)? {
        for (name, of) in bindings {
            let object = binding("Role", &of.role, &of.subjects);
            wanted.push(Wanted::new(ROLE_BINDING, &namespace, &name, object, Keep::Subjects));
        }
    }
    Ok(wanted)
}

pub fn rules_of_cluster_role(name: &str) -> Result<Vec<PolicyRule>, serde_json::Error> {
    let roles: BTreeMap<String, ClusterRole> = serde_json::from_str(CLUSTER_ROLES)?;
    Ok(policy_rules(roles.get(name).and_then(|r| r.rules.as_deref()).unwrap_or_default()))
}

pub fn priority_classes() -> Result<Vec<Wanted>, serde_json::Error> {
    let classes: BTreeMap<String, Value> = serde_json::from_str(PRIORITY_CLASSES)?;
    let object = |facts: &Value| {
        let mut object = facts.clone();
        object["preemptionPolicy"] = "PreemptLowerPriority".into();
        object
    };
    Ok(classes.iter().map(|(name, f)| Wanted::new(PRIORITY_CLASS, "", name, object(f), Keep::AsItIs)).collect())
}

/// How extension API servers know our clients and us.
pub fn config_maps(cluster: &Cluster, now: Timestamp) -> [Wanted; 2] {
    let authentication = json!({"data": {
        "client-ca-file": cluster.client_authority,
        "requestheader-allowed-names": "[\"front-proxy-client\"]",
        "requestheader-client-ca-file": cluster.front_proxy_authority,
        "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
        "requestheader-group-headers": "[\"X-Remote-Group\"]",
        "requestheader-username-headers": "[\"X-Remote-User\"]",
    }});
    let tracking = json!({"data": {"since": now.strftime("%Y-%m-%d").to_string()}});
    let since = "kube-apiserver-legacy-service-account-token-tracking";
    [
        Wanted::new(
            CONFIG_MAP,
            "kube-system",
            "extension-apiserver-authentication",
            authentication,
            Keep::Fields(&["data"]),
        ),
        Wanted::new(CONFIG_MAP, "kube-system", since, tracking, Keep::AsItIs),
    ]
}

fn metadata() -> Value {
    json!({
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
    })
}

fn cluster_role(role: &ClusterRole) -> Value {
    let label = |to: &str| format!("rbac.authorization.k8s.io/aggregate-to-{to}");
    let mut object = json!({"metadata": metadata(), "rules": role.rules.as_deref().map(policy_rules)});
    if let Some(to) = &role.to {
        object["metadata"]["labels"][label(to)] = "true".into();
    }
    if let Some(from) = &role.from {
        object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label(from): "true"}}]});
    }
    object
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn policy_rules(rules: &[Rule]) -> Vec<PolicyRule> {
    let rule = |rule: &Rule| match rule.as_slice() {
        [verbs, urls] => {
            PolicyRule { verbs: words(verbs), non_resource_urls: Some(words(urls)), ..PolicyRule::default() }
        }
        [verbs, groups, resources, names @ ..] => PolicyRule {
            verbs: words(verbs),
            api_groups: Some(words(groups).into_iter().map(|g| if g == "core" { String::new() } else { g }).collect()),
            resources: Some(words(resources)),
            resource_names: names.first().map(|n| words(n)),
            ..PolicyRule::default()
        },
        _ => PolicyRule::default(),
    };
    rules.iter().map(rule).collect()
}

fn binding(kind: &str, role: &str, subjects: &[String]) -> Value {
    let mut object = json!({"metadata": metadata(), "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role}});
    let subjects: Vec<_> = subjects.iter().filter_map(|s| subject(s)).collect();
    if !subjects.is_empty() {
        object["subjects"] = subjects.into();
    }
    object
}

/// `User name`, `Group name` or `ServiceAccount namespace/name`
fn subject(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(' ')?;
    Some(match name.split_once('/').filter(|_| kind == "ServiceAccount") {
        Some((namespace, name)) => json!({"kind": kind, "name": name, "namespace": namespace}),
        None => json!({"kind": kind, "name": name, "apiGroup": GROUP}),
    })
}
