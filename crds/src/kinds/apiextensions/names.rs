//! Which of the names that a definition asks for it gets: those that no other definition of its group has.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition, CustomResourceDefinitionNames,
};

use super::condition::{ESTABLISHED, NAMES_ACCEPTED, condition, find, is_true};
use crate::given::{Items, Text};

/// The names that are accepted, and what follows for the conditions.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    pub names: CustomResourceDefinitionNames,
    pub accepted: CustomResourceDefinitionCondition,
    pub established: CustomResourceDefinitionCondition,
}

/// Names of a definition that are in use in its group.
#[derive(Default)]
struct Used<'a> {
    resources: BTreeSet<&'a str>,
    kinds: BTreeSet<&'a str>,
}

/// Decides on the names of a definition; `group` are all definitions of its group, itself among them.
pub fn decide<'a>(
    definition: &CustomResourceDefinition,
    group: impl Iterator<Item = &'a CustomResourceDefinition>,
) -> Accepted {
    let mut used = Used::default();
    for names in group.filter_map(|known| known.status.as_ref()?.accepted_names.as_ref()) {
        used.resources.extend([names.plural.as_str(), names.singular.text()]);
        used.resources.extend(names.short_names.items().iter().map(String::as_str));
        used.kinds.extend([names.kind.as_str(), names.list_kind.text()]);
    }
    let wanted = &definition.spec.names;
    let before = definition.status.as_ref().and_then(|status| status.accepted_names.clone()).unwrap_or_default();
    let mut names = before.clone();
    let mut conflict: Option<(&str, String)> = None;
    let taken = |wanted: &str, before: &str, used: &BTreeSet<&str>| {
        (wanted != before && used.contains(wanted))
            .then(|| format!("{} is already in use", crate::field::quote(wanted)))
    };
    match taken(&wanted.plural, &before.plural, &used.resources) {
        Some(why) => conflict = Some(("PluralConflict", why)),
        None => names.plural.clone_from(&wanted.plural),
    }
    match taken(wanted.singular.text(), before.singular.text(), &used.resources) {
        Some(why) => conflict = Some(("SingularConflict", why)),
        None => names.singular.clone_from(&wanted.singular),
    }
    if wanted.short_names.items() != before.short_names.items() {
        let known: BTreeSet<&String> = before.short_names.items().iter().collect();
        let new = wanted.short_names.items().iter().filter(|name| !known.contains(name));
        let mut wrong: Vec<_> = new.filter_map(|name| taken(name, "", &used.resources)).collect();
        wrong.dedup();
        match wrong.as_slice() {
            [] => names.short_names.clone_from(&wanted.short_names),
            [one] => conflict = Some(("ShortNamesConflict", one.clone())),
            all => conflict = Some(("ShortNamesConflict", format!("[{}]", all.join(", ")))),
        }
    }
    match taken(&wanted.kind, &before.kind, &used.kinds) {
        Some(why) => conflict = Some(("KindConflict", why)),
        None => names.kind.clone_from(&wanted.kind),
    }
    match taken(wanted.list_kind.text(), before.list_kind.text(), &used.kinds) {
        Some(why) => conflict = Some(("ListKindConflict", why)),
        None => names.list_kind.clone_from(&wanted.list_kind),
    }
    names.categories.clone_from(&wanted.categories);

    let accepted = match &conflict {
        Some((reason, why)) => condition(NAMES_ACCEPTED, "False", reason, why),
        None => condition(NAMES_ACCEPTED, "True", "NoConflicts", "no conflicts found"),
    };
    let established = if is_true(definition, ESTABLISHED) || conflict.is_some() {
        let known = find(definition, ESTABLISHED).cloned();
        known.unwrap_or_else(|| condition(ESTABLISHED, "False", "NotAccepted", "not all names are accepted"))
    } else {
        condition(ESTABLISHED, "False", "Installing", "the initial names have been accepted")
    };
    Accepted { names, accepted, established }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(name: &str, kind: &str, accepted: bool) -> CustomResourceDefinition {
        let names = json!({"plural": name, "singular": name, "kind": kind, "listKind": format!("{kind}List")});
        let status = json!({"acceptedNames": if accepted { names.clone() } else { json!({"plural": "", "kind": ""}) }});
        let spec = json!({"group": "g.example", "scope": "Cluster", "names": names, "versions": []});
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec, "status": status})).unwrap()
    }

    #[test]
    fn first_come() {
        let (cars, autos) = (definition("cars", "Car", true), definition("autos", "Car", false));
        let found = decide(&autos, [&cars, &autos].into_iter());
        assert_eq!((found.names.plural.as_str(), found.names.kind.as_str()), ("autos", ""));
        assert_eq!(found.accepted.reason.as_deref(), Some("ListKindConflict"));
        assert_eq!(found.established.reason.as_deref(), Some("NotAccepted"));
        let found = decide(&autos, [&autos].into_iter());
        assert_eq!((found.names.kind.as_str(), found.accepted.status.as_str()), ("Car", "True"));
        assert_eq!(found.established.reason.as_deref(), Some("Installing"));
    }
}
