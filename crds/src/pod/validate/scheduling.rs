//! Where a Pod may run: gates, tolerations, and how its like are spread.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::api::core::v1::{PodSpec, Toleration, TopologySpreadConstraint};

use crate::{
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    meta,
    pod::affinity,
    selector,
};

/// Readiness gates and scheduling gates.
pub fn gates(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let list = path.child("readinessGates");
    for (i, gate) in spec.readiness_gates.items().iter().enumerate() {
        let path = list.index(i);
        let name = &gate.condition_type;
        extend(errors, path.child("conditionType"), name, field::qualified_name(name));
    }
    let list = path.child("schedulingGates");
    let mut seen = BTreeSet::new();
    for (i, gate) in spec.scheduling_gates.items().iter().enumerate() {
        extend(errors, list.index(i), &gate.name, field::qualified_name(&gate.name));
        if !seen.insert(gate.name.as_str()) {
            errors.push(Error::duplicate(list.index(i), gate.name.as_str()));
        }
    }
}

pub fn tolerations(tolerations: &[Toleration], path: &Path, errors: &mut Errors) {
    for (i, toleration) in tolerations.iter().enumerate() {
        self::toleration(toleration, &path.index(i), errors);
    }
}

fn toleration(toleration: &Toleration, path: &Path, errors: &mut Errors) {
    let (key, operator) = (toleration.key.text(), toleration.operator.text());
    let (value, effect) = (toleration.value.text(), toleration.effect.text());
    if !key.is_empty() {
        meta::label_name(key, path.child("key"), errors);
    } else if operator != "Exists" {
        let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(Error::invalid(path.child("operator"), operator, why));
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(Error::invalid(path.child("effect"), effect, why));
    }
    match operator {
        "Equal" | "" => {
            let wrong = field::label_value(value);
            if !wrong.is_empty() {
                errors.push(Error::invalid(path.child("operator"), value, wrong.join(";")));
            }
        }
        "Exists" if value.is_empty() => {}
        "Exists" => {
            let why = "value must be empty when `operator` is 'Exists'";
            errors.push(Error::invalid(path.child("operator"), value, why));
        }
        "Lt" | "Gt" => {
            let supported = ["Equal", "Exists", "Lt", "Gt"];
            errors.push(Error::not_supported(path.child("operator"), operator, &supported));
        }
        other => errors.push(Error::not_supported(path.child("operator"), other, &["Equal", "Exists"])),
    }
    if !effect.is_empty() {
        taint_effect(effect, &path.child("effect"), errors);
    }
}

/// What a toleration tolerates, for however long.
pub fn untimed(toleration: &Toleration) -> [&str; 4] {
    [&toleration.key, &toleration.operator, &toleration.value, &toleration.effect].map(Text::text)
}

/// What a taint does to Pods that do not tolerate it.
pub fn taint_effect(effect: &str, path: &Path, errors: &mut Errors) {
    super::one_of(effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"], path, errors);
}

pub fn spread(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let constraints = spec.topology_spread_constraints.items();
    let last: HashMap<_, usize> = constraints.iter().enumerate().map(|(i, own)| (spread_key(own), i)).collect();
    for (i, constraint) in constraints.iter().enumerate() {
        let comes_again = last.get(&spread_key(constraint)).is_some_and(|last| *last > i);
        spread_constraint(constraint, comes_again, &path.index(i), errors);
    }
}

fn spread_key(constraint: &TopologySpreadConstraint) -> (&str, &str) {
    (&constraint.topology_key, &constraint.when_unsatisfiable)
}

fn spread_constraint(constraint: &TopologySpreadConstraint, comes_again: bool, path: &Path, errors: &mut Errors) {
    let positive = |value: i32, path: Path, errors: &mut Errors| {
        if value <= 0 {
            errors.push(Error::invalid(path, value, "must be greater than zero"));
        }
    };
    positive(constraint.max_skew, path.child("maxSkew"), errors);
    if constraint.topology_key.is_empty() {
        errors.push(Error::required(path.child("topologyKey"), "can not be empty"));
    }
    let action = constraint.when_unsatisfiable.as_str();
    let actions = ["DoNotSchedule", "ScheduleAnyway"];
    if !actions.contains(&action) {
        errors.push(Error::not_supported(path.child("whenUnsatisfiable"), action, &actions));
    }
    if comes_again {
        let shown = format!("{{{}, {action}}}", constraint.topology_key);
        errors.push(Error::duplicate(path.child("{topologyKey, whenUnsatisfiable}"), shown));
    }
    if let Some(domains) = constraint.min_domains {
        positive(domains, path.child("minDomains"), errors);
        if action != "DoNotSchedule" {
            let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
            errors.push(Error::invalid(path.child("minDomains"), domains, why));
        }
    }
    for (name, policy) in
        [("nodeAffinityPolicy", &constraint.node_affinity_policy), ("nodeTaintsPolicy", &constraint.node_taints_policy)]
    {
        if let Some(policy) = policy.as_deref().filter(|p| !["Honor", "Ignore"].contains(p)) {
            errors.push(Error::not_supported(path.child(name), policy, &["Honor", "Ignore"]));
        }
    }
    let selector = constraint.label_selector.as_ref();
    affinity::label_keys(constraint.match_label_keys.items(), &[], selector, path, errors);
    selector::validate::label_selector(selector, &path.child("labelSelector"), errors);
}
