//! What the policies of both kinds have in common: what they match, their parameters and variables.

use k8s_openapi::{
    api::admissionregistration::v1::{MatchResources, ParamKind, ParamRef, Variable},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::{expression::Scope, rule, webhook};
use crate::{
    cel::is_reserved,
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    selector::validate as selectors,
};

pub fn set_defaults(resources: &mut Option<MatchResources>) {
    let Some(resources) = resources else { return };
    resources.match_policy.get_or_insert_with(|| "Equivalent".to_owned());
    resources.namespace_selector.get_or_insert_default();
    resources.object_selector.get_or_insert_default();
    rule::set_named_defaults(&mut resources.resource_rules);
    rule::set_named_defaults(&mut resources.exclude_resource_rules);
}

pub fn validate_failure_policy(policy: Option<&str>, path: &Path, errors: &mut Errors) {
    match policy {
        None => errors.push(Error::required(*path, "")),
        policy => webhook::one_of(policy, webhook::FAILURE_POLICIES, path, errors),
    }
}

/// What a policy is for: something at least.
pub fn validate_constraints(resources: Option<&MatchResources>, path: &Path, errors: &mut Errors) {
    let Some(resources) = resources else {
        errors.push(Error::required(*path, ""));
        return;
    };
    validate_resources(resources, path, errors);
    if resources.resource_rules.items().is_empty() {
        errors.push(Error::required(path.child("resourceRules"), ""));
    }
}

pub fn validate_resources(resources: &MatchResources, path: &Path, errors: &mut Errors) {
    let policy_path = path.child("matchPolicy");
    match resources.match_policy.as_deref() {
        None => errors.push(Error::required(policy_path, "")),
        policy => webhook::one_of(policy, webhook::MATCH_POLICIES, &policy_path, errors),
    }
    for (name, selector) in
        [("namespaceSelector", &resources.namespace_selector), ("objectSelector", &resources.object_selector)]
    {
        match selector {
            None => errors.push(Error::required(path.child(name), "")),
            selector => selectors::label_selector(selector.as_ref(), &path.child(name), errors),
        }
    }
    for (name, rules) in
        [("resourceRules", &resources.resource_rules), ("excludeResourceRules", &resources.exclude_resource_rules)]
    {
        let list = path.child(name);
        for (i, rule) in rules.items().iter().enumerate() {
            rule::validate_named(rule, &list.index(i), errors);
        }
    }
}

pub fn validate_param_kind(kind: &ParamKind, path: &Path, errors: &mut Errors) {
    validate_api_version(kind.api_version.text(), &path.child("apiVersion"), errors);
    let (path, name) = (path.child("kind"), kind.kind.text());
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let wrong = field::dns_1035_label(&name.to_lowercase());
    if !wrong.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        errors.push(Error::invalid(path, name, why));
    }
}

fn validate_api_version(text: &str, path: &Path, errors: &mut Errors) {
    if text.is_empty() {
        errors.push(Error::required(*path, ""));
        return;
    }
    let (group, version) = match text.split_once('/') {
        None => ("", text),
        Some((_, version)) if version.contains('/') => {
            errors.push(Error::invalid(*path, text, format!("unexpected GroupVersion string: {text}")));
            return;
        }
        Some(parts) => parts,
    };
    let wrong = field::dns_subdomain(group);
    if !group.is_empty() && !wrong.is_empty() {
        errors.push(Error::invalid(*path, group, wrong.join(",")));
    }
    let wrong = field::dns_1035_label(version);
    if version.is_empty() {
        errors.push(Error::invalid(*path, text, "version must be specified"));
    } else if !wrong.is_empty() {
        errors.push(Error::invalid(*path, version, wrong.join(",")));
    }
}

/// Also makes the variables known to the expressions that follow.
pub fn validate_variables(variables: &[Variable], scope: &mut Scope, path: &Path, errors: &mut Errors) {
    for (i, variable) in variables.iter().enumerate() {
        let path = path.index(i);
        let (name_path, name) = (path.child("name"), variable.name.as_str());
        if name.trim().is_empty() {
            errors.push(Error::required(name_path, "name is not specified"));
        } else if !is_identifier(name) {
            errors.push(Error::invalid(name_path, name, "must be a valid CEL identifier"));
        }
        if variable.expression.trim().is_empty() {
            errors.push(Error::required(path.child("expression"), "expression is not specified"));
        } else {
            scope.declare(variable, &path.child("expression"), errors);
        }
    }
}

fn is_identifier(name: &str) -> bool {
    let inner = |c: u8| c == b'_' || c.is_ascii_alphanumeric();
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(inner) && !is_reserved(name)
}

pub fn validate_policy_name(name: &str, path: &Path, errors: &mut Errors) {
    match name {
        "" => errors.push(Error::required(*path, "")),
        name => extend(errors, *path, name, field::dns_subdomain(name)),
    }
}

pub fn validate_param_ref(param: &ParamRef, path: &Path, errors: &mut Errors) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let name = param.name.text();
    if !name.is_empty() {
        extend(errors, path.child("name"), name, field::path_segment(name));
        if param.selector.is_some() {
            errors.push(Error::forbidden(path.child("name"), EXCLUSIVE));
        }
    }
    if let Some(selector) = &param.selector {
        selectors::label_selector(Some(selector), &path.child("selector"), errors);
        if !name.is_empty() {
            errors.push(Error::forbidden(path.child("selector"), EXCLUSIVE));
        }
    }
    if name.is_empty() && param.selector.is_none() {
        errors.push(Error::required(*path, "one of name or selector must be specified"));
    }
    let path = path.child("parameterNotFoundAction");
    match param.parameter_not_found_action.text() {
        "" => errors.push(Error::required(path, "")),
        action => webhook::one_of(Some(action), &["Deny", "Allow"], &path, errors),
    }
}

/// The cell about the kind of a policy's parameters.
pub fn param_kind_cell(kind: Option<&ParamKind>) -> String {
    kind.map_or_else(|| "<unset>".to_owned(), |kind| format!("{}/{}", kind.api_version.text(), kind.kind.text()))
}

/// The cell about the parameters of a binding.
pub fn param_cell(param: Option<&ParamRef>) -> String {
    let Some(param) = param else { return "<unset>".to_owned() };
    match (param.name.text(), param.namespace.text(), &param.selector) {
        ("", _, Some(selector)) => selector_cell(selector),
        ("", _, None) => "<unset>".to_owned(),
        (name, "", _) => format!("*/{name}"),
        (name, namespace, _) => format!("{namespace}/{name}"),
    }
}

/// As Go writes a selector for people who debug.
fn selector_cell(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},"));
    let expressions = selector.match_expressions.items().iter().map(|e| {
        let values = e.values.items().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", e.key, e.operator)
    });
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.collect::<String>(),
        expressions.collect::<String>()
    )
}
