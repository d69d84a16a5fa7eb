//! Which requests a webhook or a policy is for.

use std::collections::HashSet;

use k8s_openapi::api::admissionregistration::v1::{NamedRuleWithOperations, RuleWithOperations};

use crate::{
    field::{self, Error, Errors, Path, extend},
    given::Items,
};

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
/// What is gone cannot be changed.
const MUTABLE_OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];

pub fn set_defaults(rules: &mut Option<Vec<RuleWithOperations>>) {
    for rule in rules.iter_mut().flatten() {
        rule.scope.get_or_insert_with(|| "*".to_owned());
    }
}

pub fn set_named_defaults(rules: &mut Option<Vec<NamedRuleWithOperations>>) {
    for rule in rules.iter_mut().flatten() {
        rule.scope.get_or_insert_with(|| "*".to_owned());
    }
}

pub fn validate_named(rule: &NamedRuleWithOperations, path: &Path, errors: &mut Errors) {
    let (list, names) = (path.child("resourceNames"), rule.resource_names.items());
    let mut seen = HashSet::new();
    for (i, name) in names.iter().enumerate() {
        extend(errors, list.index(i), name, field::path_segment(name));
        if !seen.insert(name) {
            errors.push(Error::duplicate(list.index(i), name.as_str()));
        }
    }
    let rule = RuleWithOperations {
        api_groups: rule.api_groups.clone(),
        api_versions: rule.api_versions.clone(),
        operations: rule.operations.clone(),
        resources: rule.resources.clone(),
        scope: rule.scope.clone(),
    };
    validate(&rule, path, errors);
}

/// `path` is that of the rules, without an index, as upstream tells it.
pub fn validate_mutable(rules: &[NamedRuleWithOperations], path: &Path, errors: &mut Errors) {
    let path = path.child("operations");
    let operations = rules.iter().flat_map(|rule| rule.operations.items());
    for operation in operations.filter(|operation| !MUTABLE_OPERATIONS.contains(&operation.as_str())) {
        errors.push(Error::not_supported(path, operation.as_str(), MUTABLE_OPERATIONS));
    }
}

pub fn validate(rule: &RuleWithOperations, path: &Path, errors: &mut Errors) {
    let list = path.child("operations");
    one_wildcard(rule.operations.items(), "operations", &list, errors);
    for (i, operation) in rule.operations.items().iter().enumerate() {
        if !OPERATIONS.contains(&operation.as_str()) {
            errors.push(Error::not_supported(list.index(i), operation.as_str(), OPERATIONS));
        }
    }
    one_wildcard(rule.api_groups.items(), "API groups", &path.child("apiGroups"), errors);
    let list = path.child("apiVersions");
    one_wildcard(rule.api_versions.items(), "API versions", &list, errors);
    for (i, _) in rule.api_versions.items().iter().enumerate().filter(|(_, version)| version.is_empty()) {
        errors.push(Error::required(list.index(i), ""));
    }
    validate_resources(rule.resources.items(), &path.child("resources"), errors);
    if let Some(scope) = rule.scope.as_deref().filter(|scope| !SCOPES.contains(scope)) {
        errors.push(Error::not_supported(path.child("scope"), scope, SCOPES));
    }
}

/// There is one at least, and `*` stands alone.
fn one_wildcard(values: &[String], what: &str, path: &Path, errors: &mut Errors) {
    if values.is_empty() {
        errors.push(Error::required(*path, ""));
    }
    if values.len() > 1 && values.iter().any(|value| value == "*") {
        errors.push(Error::invalid(*path, values, format!("if '*' is present, must not specify other {what}")));
    }
}

fn validate_resources(resources: &[String], path: &Path, errors: &mut Errors) {
    if resources.is_empty() {
        errors.push(Error::required(*path, ""));
    }
    let (mut all_parts_of, mut part_of_all) = (HashSet::new(), HashSet::new());
    // Upstream goes by the last resource without a part, not by any.
    let mut ends_in_one = false;
    for (i, resource) in resources.iter().enumerate() {
        let path = path.index(i);
        if resource.is_empty() {
            errors.push(Error::required(path, ""));
            continue;
        }
        let Some((whole, part)) = resource.split_once('/') else {
            ends_in_one = resource != "*";
            continue;
        };
        if all_parts_of.contains(whole) {
            let why = format!("if '{whole}/*' is present, must not specify {resource}");
            errors.push(Error::invalid(path, resource.as_str(), why));
        }
        if part_of_all.contains(part) {
            let why = format!("if '*/{part}' is present, must not specify {resource}");
            errors.push(Error::invalid(path, resource.as_str(), why));
        }
        if part == "*" {
            all_parts_of.insert(whole);
        }
        if whole == "*" {
            part_of_all.insert(part);
        }
    }
    let has = |wanted: &str| resources.iter().any(|resource| resource == wanted);
    if resources.len() > 1 && has("*/*") {
        errors.push(Error::invalid(*path, resources, "if '*/*' is present, must not specify other resources"));
    }
    if has("*") && ends_in_one {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(Error::invalid(*path, resources, why));
    }
}
