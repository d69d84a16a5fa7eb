//! The access reviews: what someone asks about itself or others, answered and not kept.

use crds::{
    field::{self, Errors},
    go,
    kind::META,
    selector::{self, FieldTerm},
    user::User,
};
use k8s_openapi::{
    api::authorization::v1::{
        FieldSelectorAttributes, LabelSelectorAttributes, NonResourceAttributes, ResourceAttributes,
        SubjectAccessReviewSpec,
    },
    apimachinery::pkg::apis::meta::v1::{FieldSelectorRequirement, LabelSelectorRequirement},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Attributes, Authorize, Authorizer, Decision, Resource, Target, aggregate, rule::items};
use crate::error::{ApiError, Result};

const GROUP: &str = "authorization.k8s.io";

/// Answers a SubjectAccessReview.
pub fn subject(authorizer: &impl Authorize, review: Value) -> Result<Value> {
    let spec = spec(&review)?;
    let mut errors = validate(&spec, true);
    require_empty_metadata(&review, &["managedFields"], "must be empty", &mut errors);
    answer(authorizer, review, &user_of(&spec), &spec, errors)
}

/// Answers a LocalSubjectAccessReview that was sent to this namespace.
pub fn local(authorizer: &impl Authorize, namespace: &str, mut review: Value) -> Result<Value> {
    let spec = spec(&review)?;
    let mut errors = validate(&spec, true);
    require_empty_metadata(&review, &["managedFields", "namespace"], "must be empty except for namespace", &mut errors);
    let own = review["metadata"]["namespace"].as_str().filter(|n| !n.is_empty()).unwrap_or(namespace).to_owned();
    let asked = spec.resource_attributes.as_ref().map(|a| a.namespace.clone().unwrap_or_default());
    if let Some(asked) = asked.filter(|asked| *asked != own) {
        errors.push(field::Error::invalid("spec.resourceAttributes.namespace", asked, "must match metadata.namespace"));
    }
    if let Some(attributes) = &spec.non_resource_attributes {
        errors.push(field::Error::invalid(
            "spec.nonResourceAttributes",
            go_value(attributes),
            "disallowed on this kind of request",
        ));
    }
    if errors.is_empty() && own != namespace {
        let message = format!("spec.resourceAttributes.namespace must match namespace: {namespace}");
        return Err(ApiError::bad_request(message));
    }
    review["metadata"]["namespace"] = own.into();
    answer(authorizer, review, &user_of(&spec), &spec, errors)
}

/// Answers a SelfSubjectAccessReview of this user.
pub fn own(authorizer: &impl Authorize, user: &User, review: Value) -> Result<Value> {
    let spec = spec(&review)?;
    let mut errors = validate(&spec, false);
    require_empty_metadata(&review, &["managedFields"], "must be empty", &mut errors);
    answer(authorizer, review, user, &spec, errors)
}

/// Answers a SelfSubjectRulesReview of this user.
pub fn own_rules(authorizer: &Authorizer, user: &User, review: &Value) -> Result<Value> {
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let found = authorizer.rules(user, namespace);
    let some = |list: &Option<Vec<String>>| !items(list).is_empty();
    let resources = found.rules.iter().filter(|r| some(&r.resources)).map(|rule| {
        listed([
            ("verbs", rule.verbs.as_slice()),
            ("apiGroups", items(&rule.api_groups)),
            ("resources", items(&rule.resources)),
            ("resourceNames", items(&rule.resource_names)),
        ])
    });
    let resources: Vec<Value> = resources.collect();
    let paths =
        found.rules.iter().filter(|r| some(&r.non_resource_urls)).map(|rule| {
            listed([("verbs", rule.verbs.as_slice()), ("nonResourceURLs", items(&rule.non_resource_urls))])
        });
    let paths: Vec<Value> = paths.collect();
    let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": found.incomplete});
    if !found.errors.is_empty() {
        status["evaluationError"] = aggregate(&found.errors).into();
    }
    // Upstream answers with a new object: what was asked is not repeated.
    Ok(json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "metadata": {},
        "spec": {},
        "status": status,
    }))
}

/// Empty lists are left out, but for the verbs.
fn listed<'a>(lists: impl IntoIterator<Item = (&'a str, &'a [String])>) -> Value {
    let given = lists.into_iter().filter(|(name, list)| *name == "verbs" || !list.is_empty());
    given.map(|(name, list)| (name.to_owned(), json!(list))).collect::<Map<_, _>>().into()
}

/// A SelfSubjectAccessReview's spec is the same without the subject.
fn spec(review: &Value) -> Result<SubjectAccessReviewSpec> {
    match &review["spec"] {
        Value::Null => Ok(SubjectAccessReviewSpec::default()),
        spec => {
            let mut spec = spec.clone();
            // A list that is null is an empty one.
            if let Some(extra) = spec.get_mut("extra").and_then(Value::as_object_mut) {
                extra.values_mut().filter(|values| values.is_null()).for_each(|values| *values = json!([]));
            }
            SubjectAccessReviewSpec::deserialize(spec).map_err(|e| ApiError::bad_request(e.to_string()))
        }
    }
}

fn user_of(spec: &SubjectAccessReviewSpec) -> User {
    User {
        name: spec.user.clone().unwrap_or_default(),
        uid: spec.uid.clone().unwrap_or_default(),
        groups: spec.groups.clone().unwrap_or_default(),
        extra: spec.extra.clone().unwrap_or_default(),
    }
}

fn answer(
    authorizer: &impl Authorize,
    mut review: Value,
    user: &User,
    spec: &SubjectAccessReviewSpec,
    errors: Errors,
) -> Result<Value> {
    if !errors.is_empty() {
        // Upstream takes the kind from an object that has lost it.
        return Err(ApiError::invalid(GROUP, "", "", &errors));
    }
    let mut ignored = Vec::new();
    let terms = spec.resource_attributes.as_ref().map(|a| selected(a, &mut ignored)).unwrap_or_default();
    let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
    let decision = match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(on), _) => {
            let (group, resource, subresource) = (text(&on.group), text(&on.resource), text(&on.subresource));
            let (namespace, name, verb) = (text(&on.namespace), text(&on.name), text(&on.verb));
            let version = on.version.as_deref().filter(|v| !v.is_empty()).unwrap_or("*");
            authorizer.decide(&Attributes::resource(
                user,
                &verb,
                Resource {
                    group: &group,
                    version,
                    resource: &resource,
                    subresource: &subresource,
                    namespace: &namespace,
                    name: &name,
                    field_selector: &terms,
                },
            ))
        }
        (None, on) => {
            let on = on.clone().unwrap_or_default();
            let (verb, path) = (text(&on.verb), text(&on.path));
            authorizer.decide(&Attributes { user, verb: &verb, target: Target::Path(&path) })
        }
    };
    review["status"] = status(&decision, &ignored);
    Ok(review)
}

fn status(decision: &Decision, ignored: &[String]) -> Value {
    let mut status = json!({"allowed": decision.allowed()});
    let reason = match decision {
        Decision::Allow(why) => why.to_string(),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => reason.clone(),
    };
    if matches!(decision, Decision::Deny(_)) {
        status["denied"] = true.into();
    }
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    if !ignored.is_empty() {
        status["evaluationError"] = ignored.join("; ").into();
    }
    status
}

/// The terms of the field selector. Parts that are not understood are left out and told: the answer is then broader.
fn selected(attributes: &ResourceAttributes, ignored: &mut Vec<String>) -> Vec<FieldTerm> {
    let mut terms = Vec::new();
    let mut tell = |which: &str, understood: usize| {
        let how_much = if understood > 0 { "partially ignored" } else { "ignored" };
        ignored.push(format!("spec.resourceAttributes.{which} {how_much} due to parse error"));
    };
    if let Some(by) = &attributes.field_selector {
        let mut wrong = false;
        if let Some(raw) = by.raw_selector.as_deref().filter(|r| !r.is_empty()) {
            match selector::parse_fields(raw) {
                Ok(parsed) => terms = parsed,
                Err(_) => wrong = true,
            }
        }
        let requirements = by.requirements.as_deref().unwrap_or_default();
        terms.extend(requirements.iter().filter_map(field_term));
        if wrong || requirements.iter().any(|r| field_term(r).is_none()) {
            tell("fieldSelector", terms.len());
        }
    }
    if let Some(by) = &attributes.label_selector {
        let wrong = by.raw_selector.as_deref().is_some_and(|r| !r.is_empty() && selector::parse(r).is_err());
        let requirements = by.requirements.as_deref().unwrap_or_default();
        let known = requirements.iter().filter(|r| LABEL_OPERATORS.contains(&r.operator.as_str())).count();
        if wrong || known < requirements.len() {
            tell("labelSelector", known);
        }
    }
    terms
}

const LABEL_OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

fn field_term(requirement: &FieldSelectorRequirement) -> Option<FieldTerm> {
    let equal = match requirement.operator.as_str() {
        "In" => true,
        "NotIn" => false,
        _ => return None,
    };
    let [value] = items(&requirement.values) else { return None };
    Some(FieldTerm { path: requirement.key.clone(), value: value.clone(), equal })
}

fn validate(spec: &SubjectAccessReviewSpec, of_a_subject: bool) -> Errors {
    let mut errors = Errors::new();
    match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(_), Some(other)) => errors.push(field::Error::invalid(
            "spec.nonResourceAttributes",
            go_value(other),
            "cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => errors.push(field::Error::invalid(
            "spec.resourceAttributes",
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    let named = spec.user.as_deref().is_some_and(|u| !u.is_empty()) || !items(&spec.groups).is_empty();
    if of_a_subject && !named {
        errors.push(field::Error::invalid("spec.user", "", "at least one of user or group must be specified"));
    }
    if let Some(attributes) = &spec.resource_attributes {
        if let Some(by) = &attributes.field_selector {
            validate_field_selector(by, &mut errors);
        }
        if let Some(by) = &attributes.label_selector {
            validate_label_selector(by, &mut errors);
        }
    }
    errors
}

fn validate_either(path: &str, raw: &Option<String>, requirements: usize, errors: &mut Errors) {
    let raw = raw.as_deref().unwrap_or_default();
    if !raw.is_empty() && requirements > 0 {
        let why = "may not specified at the same time as requirements";
        errors.push(field::Error::invalid(format!("{path}.rawSelector"), raw, why));
    }
    if raw.is_empty() && requirements == 0 {
        let why = format!("when {path} is specified, requirements or rawSelector is required");
        errors.push(field::Error::required(format!("{path}.requirements"), why));
    }
}

fn validate_field_selector(by: &FieldSelectorAttributes, errors: &mut Errors) {
    let path = "spec.resourceAttributes.fieldSelector";
    let requirements = by.requirements.as_deref().unwrap_or_default();
    validate_either(path, &by.raw_selector, requirements.len(), errors);
    for (i, requirement) in requirements.iter().enumerate() {
        let at = format!("{path}.requirements[{i}]");
        if requirement.key.is_empty() {
            errors.push(field::Error::required(format!("{at}.key"), "must be specified"));
        }
        validate_values(&at, &requirement.operator, items(&requirement.values), errors);
    }
}

fn validate_label_selector(by: &LabelSelectorAttributes, errors: &mut Errors) {
    let path = "spec.resourceAttributes.labelSelector";
    let requirements = by.requirements.as_deref().unwrap_or_default();
    validate_either(path, &by.raw_selector, requirements.len(), errors);
    for (i, requirement) in requirements.iter().enumerate() {
        validate_label_requirement(&format!("{path}.requirements[{i}]"), requirement, errors);
    }
}

fn validate_label_requirement(at: &str, requirement: &LabelSelectorRequirement, errors: &mut Errors) {
    let values = items(&requirement.values);
    validate_values(at, &requirement.operator, values, errors);
    for why in field::qualified_name(&requirement.key) {
        errors.push(field::Error::invalid(format!("{at}.key"), requirement.key.as_str(), why));
    }
    for (i, value) in values.iter().enumerate() {
        for why in field::label_value(value) {
            errors.push(field::Error::invalid(format!("{at}.values[{i}]"), value.as_str(), why));
        }
    }
}

/// Unknown operators pass: newer clients may know more.
fn validate_values(at: &str, operator: &str, values: &[String], errors: &mut Errors) {
    let path = format!("{at}.values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(field::Error::required(path, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(field::Error::forbidden(path, why));
        }
        _ => {}
    }
}

fn require_empty_metadata(review: &Value, except: &[&str], why: &str, errors: &mut Errors) {
    let Some(metadata) = review["metadata"].as_object() else { return };
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(_) => false,
    };
    if metadata.iter().any(|(field, value)| !except.contains(&field.as_str()) && !empty(value)) {
        let shown = go::show(&review["metadata"], META);
        errors.push(field::Error::invalid("metadata", "", why).showing(shown));
    }
}

/// Upstream's errors show its internal type, whose fields have Go's names.
fn go_value(attributes: &NonResourceAttributes) -> Value {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    json!({"Path": text(&attributes.path), "Verb": text(&attributes.verb)})
}
