//! Match conditions: expressions that say whether a webhook or a policy is called at all.

use std::collections::HashSet;

use k8s_openapi::api::admissionregistration::v1::MatchCondition;

use super::expression::Scope;
use crate::field::{self, Error, Errors, Path, extend};

const CONDITIONS_MAX: usize = 64;

/// `has_params`: the conditions of a policy may name its parameters.
pub fn validate(conditions: &[MatchCondition], has_params: bool, path: &Path, errors: &mut Errors) {
    let scope = Scope::plain(has_params);
    if conditions.len() > CONDITIONS_MAX {
        errors.push(Error::too_many(*path, conditions.len() as i64, CONDITIONS_MAX as i64));
    }
    let mut seen = HashSet::new();
    for (i, condition) in conditions.iter().enumerate() {
        let path = path.index(i);
        match condition.expression.trim() {
            "" => errors.push(Error::required(path.child("expression"), "")),
            expression => scope.condition(expression, &path.child("expression"), errors),
        }
        let (name_path, name) = (path.child("name"), condition.name.as_str());
        if name.is_empty() {
            errors.push(Error::required(name_path, ""));
            continue;
        }
        extend(errors, name_path, name, field::qualified_name(name));
        if !seen.insert(name) {
            errors.push(Error::duplicate(name_path, name));
        }
    }
}
