//! RBAC rules: what one allows, what a set of them covers, and how missing ones are told.

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::{Attributes, Target, quote_list};

const ALL: &str = "*";

/// The items of a list that may be absent.
pub(crate) fn items(list: &Option<Vec<String>>) -> &[String] {
    list.as_deref().unwrap_or_default()
}

fn has(set: &[String], wanted: &str) -> bool {
    set.iter().any(|s| s == wanted)
}

fn has_or_all(set: &[String], wanted: &str) -> bool {
    set.iter().any(|s| s == ALL || s == wanted)
}

pub fn allows(rule: &PolicyRule, attributes: &Attributes) -> bool {
    if !has_or_all(&rule.verbs, attributes.verb) {
        return false;
    }
    match attributes.target {
        Target::Path(path) => items(&rule.non_resource_urls).iter().any(|url| url_covers(url, path)),
        Target::Resource(on) => {
            has_or_all(items(&rule.api_groups), on.group)
                && items(&rule.resources).iter().any(|r| resource_matches(r, on.resource, on.subresource))
                && (items(&rule.resource_names).is_empty() || has(items(&rule.resource_names), on.name))
        }
    }
}

/// A rule names `pods`, `pods/log`, `*/scale` or `*`.
fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == ALL {
        return true;
    }
    if subresource.is_empty() {
        return rule == resource;
    }
    match rule.strip_suffix(subresource).and_then(|r| r.strip_suffix('/')) {
        Some(before) => before == ALL || before == resource,
        None => false,
    }
}

fn url_covers(rule: &str, path: &str) -> bool {
    rule == ALL || rule == path || (rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*')))
}

/// The parts of `wanted` that no rule of `held` covers, each with one verb, resource and name.
pub fn uncovered(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    wanted.iter().flat_map(break_down).filter(|part| !held.iter().any(|rule| covers(rule, part))).collect()
}

fn break_down(rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |text: &String| Some(vec![text.clone()]);
    let names: Vec<Option<&String>> = match items(&rule.resource_names) {
        [] => vec![None],
        names => names.iter().map(Some).collect(),
    };
    let mut parts = Vec::new();
    for group in items(&rule.api_groups) {
        for resource in items(&rule.resources) {
            for verb in &rule.verbs {
                parts.extend(names.iter().map(|name| PolicyRule {
                    api_groups: one(group),
                    resources: one(resource),
                    verbs: vec![verb.clone()],
                    resource_names: name.and_then(one),
                    ..PolicyRule::default()
                }));
            }
        }
    }
    for url in items(&rule.non_resource_urls) {
        parts.extend(rule.verbs.iter().map(|verb| PolicyRule {
            non_resource_urls: one(url),
            verbs: vec![verb.clone()],
            ..PolicyRule::default()
        }));
    }
    parts
}

/// Whether one rule holds all of a part.
fn covers(rule: &PolicyRule, part: &PolicyRule) -> bool {
    let all_in = |set: &[String], wanted: &[String]| has(set, ALL) || wanted.iter().all(|w| has(set, w));
    let names = items(&rule.resource_names);
    let wanted_names = items(&part.resource_names);
    all_in(&rule.verbs, &part.verbs)
        && all_in(items(&rule.api_groups), items(&part.api_groups))
        && items(&part.resources).iter().all(|r| resource_covered(items(&rule.resources), r))
        && items(&part.non_resource_urls).iter().all(|path| {
            items(&rule.non_resource_urls)
                .iter()
                .any(|url| url == path || (url.ends_with('*') && path.starts_with(url.trim_end_matches('*'))))
        })
        && (names.is_empty() || (!wanted_names.is_empty() && wanted_names.iter().all(|n| has(names, n))))
}

fn resource_covered(held: &[String], wanted: &str) -> bool {
    has_or_all(held, wanted) || wanted.split_once('/').is_some_and(|(_, sub)| has(held, &format!("*/{sub}")))
}

/// One line for each group, resource and name, with its verbs together; sorted.
pub fn describe_missing(missing: &[PolicyRule]) -> Vec<String> {
    let mut compact: Vec<PolicyRule> = Vec::new();
    for part in missing {
        let same = compact.iter_mut().find(|c| {
            part.non_resource_urls.is_none()
                && c.api_groups == part.api_groups
                && c.resources == part.resources
                && c.resource_names == part.resource_names
        });
        match same {
            Some(rule) => rule.verbs.extend_from_slice(&part.verbs),
            None => compact.push(part.clone()),
        }
    }
    let mut lines: Vec<_> = compact.iter().map(describe).collect();
    lines.sort();
    lines.dedup();
    lines
}

/// `{APIGroups:["apps"], Resources:["deployments"], Verbs:["get" "list"]}`
fn describe(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", items(&rule.api_groups)),
        ("Resources", items(&rule.resources)),
        ("NonResourceURLs", items(&rule.non_resource_urls)),
        ("ResourceNames", items(&rule.resource_names)),
        ("Verbs", rule.verbs.as_slice()),
    ];
    let told: Vec<_> = parts
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", quote_list(list)))
        .collect();
    format!("{{{}}}", told.join(", "))
}
