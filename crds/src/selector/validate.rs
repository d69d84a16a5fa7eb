//! Rules of label selectors in objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::Selector;
use crate::{
    field::{self, Error, Errors, Path, extend},
    given::Items,
    meta,
};

/// The name that a cause shows a selector by.
pub const TYPE: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector";

/// The selector to match with; none if it is malformed.
pub fn selector(object: &LabelSelector) -> Option<Selector> {
    let mut errors = Errors::new();
    label_selector(Some(object), &Path::new(""), &mut errors);
    errors.is_empty().then(|| Selector::from_object(Some(object)))
}

/// `selector` as a value that cannot be.
pub fn invalid(selector: &LabelSelector, path: &Path, why: &str) -> Error {
    Error::invalid(*path, "", why).showing_struct(selector, TYPE)
}

/// An absent selector is valid.
pub fn label_selector(selector: Option<&LabelSelector>, path: &Path, errors: &mut Errors) {
    let Some(selector) = selector else {
        return;
    };
    meta::labels(selector.match_labels.as_ref(), path.child("matchLabels"), errors);
    let list = path.child("matchExpressions");
    for (i, requirement) in selector.match_expressions.items().iter().enumerate() {
        label_requirement(requirement, &list.index(i), errors);
    }
}

fn label_requirement(requirement: &LabelSelectorRequirement, path: &Path, errors: &mut Errors) {
    let values = requirement.values.items();
    let list = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(Error::required(list, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.push(Error::forbidden(list, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.push(Error::invalid(path.child("operator"), other, "not a valid selector operator")),
    }
    meta::label_name(&requirement.key, path.child("key"), errors);
    for (i, value) in values.iter().enumerate() {
        extend(errors, list.index(i), value, field::label_value(value));
    }
}
