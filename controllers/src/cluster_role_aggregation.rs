//! Fills ClusterRoles that are the sum of others.

use std::sync::Arc;

use crds::selector::Selector;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};

use crate::{
    plan::{Plan, Write},
    runtime::{Controller, View, Wiring, object::Key, server::Error},
};

#[derive(Debug)]
pub struct Observed {
    pub role: Arc<ClusterRole>,
    /// All roles, by name.
    pub roles: Vec<Arc<ClusterRole>>,
}

#[derive(Default)]
pub struct ClusterRoleAggregationController;

impl Controller for ClusterRoleAggregationController {
    const NAME: &'static str = "clusterrole-aggregation";
    const COMPONENT: &'static str = "clusterrole-aggregation-controller";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.map::<ClusterRole>(|caches, _| {
            let roles = caches.get::<ClusterRole>().all();
            roles.iter().filter(|r| r.aggregation_rule.is_some()).map(|r| Key::of(&r.metadata)).collect()
        });
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let roles = view.caches.get::<ClusterRole>();
        let role = roles.get(key).filter(|r| r.aggregation_rule.is_some());
        Ok(role.map(|role| Observed { role, roles: roles.all() }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        let selectors = seen.role.aggregation_rule.iter().flat_map(|a| a.cluster_role_selectors.iter().flatten());
        let mut rules: Vec<PolicyRule> = Vec::new();
        for selector in selectors.map(|s| Selector::from_object(Some(s))) {
            let chosen = seen.roles.iter().filter(|r| {
                r.metadata.name != seen.role.metadata.name
                    && selector.matches(r.metadata.labels.as_ref().unwrap_or(&Default::default()))
            });
            for rule in chosen.flat_map(|r| r.rules.iter().flatten()) {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
        let same = |have: &[PolicyRule]| have.len() == rules.len() && have.iter().all(|r| rules.contains(r));
        if same(seen.role.rules.as_deref().unwrap_or_default()) {
            return Plan::default();
        }
        Plan::of(Write::update(&ClusterRole { rules: Some(rules), ..ClusterRole::clone(&seen.role) }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_sum_of_the_selected() {
        let role = |name: &str, label: &str, verbs: &[&str]| {
            let role = json!({"metadata": {"name": name, "labels": {"to": label}}, "rules": [{"verbs": verbs}]});
            Arc::new(serde_json::from_value::<ClusterRole>(role).unwrap())
        };
        let sum: ClusterRole = serde_json::from_value(json!({"metadata": {"name": "sum"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "sum"}}]}}))
        .unwrap();
        let roles = vec![
            role("a", "sum", &["get"]),
            role("b", "sum", &["get"]),
            role("c", "sum", &["list"]),
            role("d", "x", &["*"]),
        ];
        let plan =
            ClusterRoleAggregationController.plan(&Observed { role: Arc::new(sum.clone()), roles: roles.clone() });
        let written: ClusterRole =
            serde_json::from_value(plan.writes().next().unwrap().body().unwrap().clone()).unwrap();
        assert_eq!(written.rules.as_ref().unwrap().len(), 2);
        assert!(ClusterRoleAggregationController.plan(&Observed { role: Arc::new(written), roles }).is_empty());
    }
}
