//! Resources: their names, and the lists of quantities that are asked for and limited.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity as Wire};

use crate::{
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    meta::NOT_NEGATIVE,
    quantity::Quantity,
};

pub const CPU: &str = "cpu";
pub const MEMORY: &str = "memory";
pub const STORAGE: &str = "storage";
pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
pub const PODS: &str = "pods";
pub const HUGE_PAGES_PREFIX: &str = "hugepages-";
const REQUESTS_PREFIX: &str = "requests.";

/// Quantities by the resource's name, as they are written.
pub type Written = BTreeMap<String, Wire>;
/// Quantities by the resource's name, to reckon with.
pub type Amounts = BTreeMap<String, Quantity>;

const QUOTA: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

const INTEGERS: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

pub fn is_huge_pages(name: &str) -> bool {
    name.starts_with(HUGE_PAGES_PREFIX)
}

fn is_quota_huge_pages(name: &str) -> bool {
    is_huge_pages(name) || name.starts_with("requests.hugepages-")
}

/// Of Kubernetes itself: without a domain, or of a `kubernetes.io/` one.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Counted by a device plugin or another extension.
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with(REQUESTS_PREFIX)
        && field::qualified_name(&format!("{REQUESTS_PREFIX}{name}")).is_empty()
}

pub fn is_quota_standard(name: &str) -> bool {
    QUOTA.contains(&name) || is_quota_huge_pages(name)
}

pub fn is_standard(name: &str) -> bool {
    name == STORAGE || is_quota_standard(name)
}

pub fn is_container_standard(name: &str) -> bool {
    [CPU, MEMORY, EPHEMERAL_STORAGE].contains(&name) || is_huge_pages(name)
}

pub fn is_integer(name: &str) -> bool {
    INTEGERS.contains(&name) || is_extended(name)
}

pub fn is_overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

/// What can be asked for by a Pod as a whole.
pub fn is_pod_level(name: &str) -> bool {
    [CPU, MEMORY].contains(&name) || is_huge_pages(name)
}

pub fn amounts(list: Option<&Written>) -> Amounts {
    list.into_iter().flatten().map(|(name, wire)| (name.clone(), Quantity::of(Some(wire)))).collect()
}

pub fn written(amounts: &Amounts) -> Written {
    amounts.iter().map(|(name, amount)| (name.clone(), (*amount).into())).collect()
}

pub fn add(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        to.entry(name.clone()).and_modify(|have| *have += *amount).or_insert(*amount);
    }
}

/// The larger of both for each name.
pub fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let have = to.entry(name.clone()).or_insert(*amount);
        if *amount > *have {
            *have = *amount;
        }
    }
}

/// Finer parts than a thousandth are rounded up, and the text becomes the canonical one.
pub fn default(list: &mut Option<Written>) {
    for wire in list.iter_mut().flat_map(BTreeMap::values_mut) {
        if let Ok(quantity) = wire.0.parse::<Quantity>() {
            *wire = quantity.rounded_to_millis().into();
        }
    }
}

pub fn default_requirements(requirements: &mut Option<ResourceRequirements>) {
    if let Some(requirements) = requirements {
        default(&mut requirements.limits);
        default(&mut requirements.requests);
    }
}

/// Whether two lists hold the same amounts, however they are written.
pub fn same(a: Option<&Written>, b: Option<&Written>) -> bool {
    amounts(a) == amounts(b)
}

pub fn validate_name(name: &str, path: &Path, errors: &mut Errors) -> bool {
    let wrong = field::qualified_name(name);
    if !wrong.is_empty() {
        extend(errors, *path, name, wrong);
        return false;
    }
    if !name.contains('/') && !is_standard(name) {
        errors.push(Error::invalid(*path, name, "must be a standard resource type or fully qualified"));
        return false;
    }
    true
}

pub fn validate_container_name(name: &str, path: &Path, errors: &mut Errors) {
    validate_name(name, path, errors);
    if !name.contains('/') {
        if !is_container_standard(name) {
            errors.push(Error::invalid(*path, name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(Error::invalid(*path, name, "doesn't follow extended resource name standard"));
    }
}

fn validate_pod_name(name: &str, path: &Path, errors: &mut Errors) {
    if validate_name(name, path, errors) && !is_pod_level(name) {
        errors.push(Error::not_supported(*path, name, &[CPU, HUGE_PAGES_PREFIX, MEMORY]));
    }
}

pub fn validate_quota_name(name: &str, path: &Path, errors: &mut Errors) {
    validate_name(name, path, errors);
    if !name.contains('/') && !is_quota_standard(name) {
        errors.push(Error::invalid(*path, name, "must be a standard resource for quota"));
    }
}

pub fn validate_not_negative(amount: Quantity, path: &Path, errors: &mut Errors) {
    if amount.is_negative() {
        errors.push(Error::invalid(*path, amount.to_string(), NOT_NEGATIVE));
    }
}

pub fn validate_positive(amount: Quantity, path: &Path, errors: &mut Errors) {
    if amount <= Quantity::ZERO {
        errors.push(Error::invalid(*path, amount.to_string(), "must be greater than zero"));
    }
}

/// An amount that may be counted for the named resource.
pub fn validate_amount(name: &str, amount: Quantity, path: &Path, errors: &mut Errors) {
    validate_not_negative(amount, path, errors);
    if is_integer(name) && amount.millis() % 1000 != 0 {
        errors.push(Error::invalid(*path, amount.to_string(), "must be an integer"));
    }
}

fn validate_huge_pages(name: &str, amount: Quantity, path: &Path, errors: &mut Errors) {
    let size = name.strip_prefix(HUGE_PAGES_PREFIX).and_then(|s| s.parse::<Quantity>().ok()).unwrap_or(Quantity::ZERO);
    let divides = size > Quantity::ZERO && size.millis() % 1000 == 0 && amount.units() % size.units() == 0;
    if !divides {
        let why = format!("{amount} is not positive integer multiple of {name}");
        errors.push(Error::invalid(*path, amount.to_string(), why));
    }
}

/// The requests and limits of a container.
pub fn validate_container(
    requirements: &ResourceRequirements,
    claims: &BTreeSet<&str>,
    path: &Path,
    errors: &mut Errors,
) {
    validate_requirements(requirements, validate_container_name, claims, path, errors);
}

/// The requests and limits of a Pod as a whole.
pub fn validate_pod(requirements: &ResourceRequirements, claims: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    validate_requirements(requirements, validate_pod_name, claims, path, errors);
}

fn validate_requirements(
    requirements: &ResourceRequirements,
    validate_name: impl Fn(&str, &Path, &mut Errors),
    claims: &BTreeSet<&str>,
    path: &Path,
    errors: &mut Errors,
) {
    let (limits, requests) = (amounts(requirements.limits.as_ref()), amounts(requirements.requests.as_ref()));
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    for (name, amount) in &limits {
        let path = limits_path.key(name);
        validate_name(name, &path, errors);
        validate_amount(name, *amount, &path, errors);
        if is_huge_pages(name) {
            validate_huge_pages(name, *amount, &path, errors);
        }
    }
    for (name, amount) in &requests {
        let path = requests_path.key(name);
        validate_name(name, &path, errors);
        validate_amount(name, *amount, &path, errors);
        let why = match limits.get(name) {
            Some(limit) if amount != limit && !is_overcommit_allowed(name) => {
                Some(format!("must be equal to {name} limit of {limit}"))
            }
            Some(limit) if amount > limit => Some(format!("must be less than or equal to {name} limit of {limit}")),
            None if !is_overcommit_allowed(name) => {
                errors.push(Error::required(limits_path, "Limit must be set for non overcommitable resources"));
                None
            }
            _ => None,
        };
        errors.extend(why.map(|why| Error::invalid(requests_path, amount.to_string(), why)));
        if is_huge_pages(name) {
            validate_huge_pages(name, *amount, &path, errors);
        }
    }
    let any = |wanted: &dyn Fn(&str) -> bool| limits.keys().chain(requests.keys()).any(|name| wanted(name));
    if any(&is_huge_pages) && !any(&|name| [CPU, MEMORY].contains(&name)) {
        errors.push(Error::forbidden(*path, "HugePages require cpu or memory"));
    }
    validate_claims(requirements, claims, &path.child("claims"), errors);
}

fn validate_claims(requirements: &ResourceRequirements, known: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for (i, claim) in requirements.claims.items().iter().enumerate() {
        let (path, name) = (path.index(i), claim.name.as_str());
        if name.is_empty() {
            errors.push(Error::required(path, ""));
            continue;
        }
        if names.contains(name) {
            errors.push(Error::duplicate(path, name));
        } else {
            let mut key = name.to_owned();
            let request = claim.request.text();
            if !request.is_empty() {
                extend(errors, path.child("request"), request, field::dns_label(request));
                key = format!("{name}/{request}");
            }
            if names.contains(&key) {
                errors.push(Error::duplicate(path, key.as_str()));
            } else if request.is_empty() {
                let requests = names.iter().filter(|k| k.split_once('/').is_some_and(|(claim, _)| claim == name));
                errors.extend(requests.map(|_| Error::duplicate(path, name)));
            }
            names.insert(key);
        }
        if !known.contains(name) {
            let mut error = Error::not_found(path, name);
            let known: Vec<_> = known.iter().copied().collect();
            error.detail = match known.is_empty() {
                true => "must be one of the names in pod.spec.resourceClaims which is empty".to_owned(),
                false => format!("must be one of the names in pod.spec.resourceClaims: {}", known.join(", ")),
            };
            errors.push(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names() {
        for (name, extended, integer) in [
            ("cpu", false, false),
            ("example.com/gpu", true, true),
            ("pods", false, true),
            ("requests.example.com/gpu", false, false),
            ("node.kubernetes.io/x", false, false),
        ] {
            assert_eq!((is_extended(name), is_integer(name)), (extended, integer), "{name}");
        }
    }

    #[test]
    fn requirements() {
        for (value, want) in [
            (json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}), vec![]),
            (
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
                vec!["resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
            ),
            (
                json!({"requests": {"example.com/gpu": "1"}}),
                vec!["resources.limits: Required value: Limit must be set for non overcommitable resources"],
            ),
            (
                json!({"limits": {"hugepages-2Mi": "3Mi"}}),
                vec![
                    "resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                    "resources: Forbidden: HugePages require cpu or memory",
                ],
            ),
            (
                json!({"claims": [{"name": "x"}]}),
                vec![
                    "resources.claims[0]: Not found: \"x\": must be one of the names in pod.spec.resourceClaims which is empty",
                ],
            ),
        ] {
            let mut errors = Errors::new();
            let requirements = serde_json::from_value(value).unwrap();
            validate_container(&requirements, &BTreeSet::new(), &Path::new("resources"), &mut errors);
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
        }
    }
}
