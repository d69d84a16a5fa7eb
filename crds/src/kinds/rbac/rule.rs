//! The rules of roles: what may be done, to what.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::{
    field::{Error, Errors, Path},
    given::Items,
};

pub fn validate(rules: &[PolicyRule], namespaced: bool, path: &Path, errors: &mut Errors) {
    for (i, rule) in rules.iter().enumerate() {
        validate_rule(rule, namespaced, &path.index(i), errors);
    }
}

fn validate_rule(rule: &PolicyRule, namespaced: bool, path: &Path, errors: &mut Errors) {
    if rule.verbs.is_empty() {
        errors.push(Error::required(path.child("verbs"), "verbs must contain at least one value"));
    }
    let urls = rule.non_resource_urls.items();
    if !urls.is_empty() {
        let path = path.child("nonResourceURLs");
        if namespaced {
            errors.push(Error::invalid(path, urls, "namespaced rules cannot apply to non-resource URLs"));
        }
        if [&rule.api_groups, &rule.resources, &rule.resource_names].iter().any(|list| !list.items().is_empty()) {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(Error::invalid(path, urls, why));
        }
        return;
    }
    if rule.api_groups.items().is_empty() {
        errors.push(Error::required(path.child("apiGroups"), "resource rules must supply at least one api group"));
    }
    if rule.resources.items().is_empty() {
        errors.push(Error::required(path.child("resources"), "resource rules must supply at least one resource"));
    }
}
