//! Nobody grants more than they hold: what writing a role or a binding takes beyond the right to write it.

use crds::{field::quote, user::User};
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};
use serde::Deserialize;
use serde_json::Value;

use super::{Attributes, Authorize, Authorizer, Resource, quote_list, rbac, rule};
use crate::error::{ApiError, Result, Subject};

/// Checks a create or update of one of RBAC's kinds; others pass. `on` is the request's resource.
pub fn check(authorizer: &Authorizer, user: &User, on: &Resource, object: &Value, old: Option<&Value>) -> Result<()> {
    let kinds = ["roles", "clusterroles", "rolebindings", "clusterrolebindings"];
    if on.group != rbac::GROUP
        || !kinds.contains(&on.resource)
        || !on.subresource.is_empty()
        || user.is_in(User::MASTERS)
    {
        return Ok(());
    }
    if old.is_some_and(|old| only_for_garbage_collection(object, old)) {
        return Ok(());
    }
    let check = Check { authorizer, user, on };
    if on.resource.ends_with("bindings") { check.binding(object) } else { check.role(object, old) }
}

/// Finalizers and owners may change under a role that its writer could not have granted.
fn only_for_garbage_collection(object: &Value, old: &Value) -> bool {
    let rest = |object: &Value| {
        let mut rest = object.clone();
        if let Some(metadata) = rest.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|field, value| {
                !value.is_null()
                    && !["ownerReferences", "finalizers", "selfLink", "managedFields"].contains(&field.as_str())
            });
        }
        rest
    };
    rest(object) == rest(old)
}

struct Check<'a> {
    authorizer: &'a Authorizer,
    user: &'a User,
    on: &'a Resource<'a>,
}

impl Check<'_> {
    fn role(&self, object: &Value, old: Option<&Value>) -> Result<()> {
        let escalate = Resource { version: "*", ..*self.on };
        if self.authorizer.decide(&Attributes::resource(self.user, "escalate", escalate)).allowed() {
            return Ok(());
        }
        let rules = Option::<Vec<PolicyRule>>::deserialize(&object["rules"]).map_err(ApiError::internal)?;
        self.covers(object, &rules.unwrap_or_default())?;
        let aggregates =
            |role: &Value| role["aggregationRule"]["clusterRoleSelectors"].as_array().is_some_and(|s| !s.is_empty());
        if (aggregates(object) || old.is_some_and(aggregates)) && self.missing(&everything()).is_some() {
            return Err(self.forbidden(object, "must have cluster-admin privileges to use the aggregationRule"));
        }
        Ok(())
    }

    fn binding(&self, object: &Value) -> Result<()> {
        let role = RoleRef::deserialize(&object["roleRef"]).map_err(ApiError::internal)?;
        let resource = match role.kind.as_str() {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            // Validation tells what is wrong with it.
            _ => return Ok(()),
        };
        let bind = Resource {
            group: role.api_group.as_deref().unwrap_or(rbac::GROUP),
            version: "*",
            resource,
            name: &role.name,
            namespace: self.on.namespace,
            ..Resource::default()
        };
        if self.authorizer.decide(&Attributes::resource(self.user, "bind", bind)).allowed() {
            return Ok(());
        }
        // Upstream's 404 names the resource of the request, not that of the role.
        let absent =
            |_| ApiError::not_found(Subject { group: rbac::GROUP, resource: self.on.resource, name: &role.name });
        let rules = self.authorizer.rbac.role_rules(&role.kind, &role.name, self.on.namespace).map_err(absent)?;
        self.covers(object, &rules)
    }

    fn covers(&self, object: &Value, rules: &[PolicyRule]) -> Result<()> {
        self.missing(rules).map_or(Ok(()), |missing| Err(self.forbidden(object, &missing)))
    }

    /// What the user would grant without holding it, in upstream's words.
    fn missing(&self, wanted: &[PolicyRule]) -> Option<String> {
        let held = self.authorizer.rbac.rules(self.user, self.on.namespace);
        let missing = rule::uncovered(&held.rules, wanted);
        if missing.is_empty() {
            return None;
        }
        let mut text = format!(
            "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            quote(&self.user.name),
            quote_list(&self.user.groups),
            rule::describe_missing(&missing).join("\n"),
        );
        if !held.errors.is_empty() {
            text.push_str(&format!("; resolution errors: [{}]", super::aggregate(&held.errors)));
        }
        Some(text)
    }

    fn forbidden(&self, object: &Value, why: &str) -> ApiError {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        ApiError::forbidden(Subject { group: rbac::GROUP, resource: self.on.resource, name }, why)
    }
}

/// The right to do everything, which an aggregation rule may gather.
fn everything() -> [PolicyRule; 2] {
    let all = || Some(vec!["*".to_owned()]);
    let verbs = || vec!["*".to_owned()];
    [
        PolicyRule { api_groups: all(), resources: all(), verbs: verbs(), ..PolicyRule::default() },
        PolicyRule { non_resource_urls: all(), verbs: verbs(), ..PolicyRule::default() },
    ]
}
