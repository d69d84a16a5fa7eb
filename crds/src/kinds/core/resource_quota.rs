//! ResourceQuota (core/v1).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus};
use serde_json::{Value, json};

use crate::{
    field::{Error, Errors, Path},
    given::Items,
    kind::{AGE, About, DeleteAnswer, Kind, NAME, Request, Subresource, column, text},
    meta,
    quantity::Quantity,
    resource::{self, Written},
    table,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");
const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
const POD_AMOUNTS: [&str; 6] = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];

impl Kind for ResourceQuota {
    const ABOUT: About = About {
        short_names: &["quota"],
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column(
                "Request",
                "string",
                "",
                0,
                text("Request represents a minimum amount of cpu/memory that a container may consume."),
            ),
            column(
                "Limit",
                "string",
                "",
                0,
                text(
                    "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
                ),
            ),
            AGE,
        ],
        delete_answer: DeleteAnswer::Object,
        ..About::new("resourcequotas", "resourcequota")
    };

    fn set_defaults(&mut self) {
        if let Some(spec) = &mut self.spec {
            resource::default(&mut spec.hard);
        }
        if let Some(status) = &mut self.status {
            resource::default(&mut status.hard);
            resource::default(&mut status.used);
        }
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(ResourceQuotaStatus::default());
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        self.spec.iter().for_each(|spec| validate(spec, errors));
        status(self, errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        self.spec.iter().for_each(|spec| validate(spec, errors));
        let scopes = |quota: &Self| {
            let mut scopes = quota.spec.as_ref().map(|s| s.scopes.items().to_vec()).unwrap_or_default();
            scopes.sort();
            scopes.dedup();
            scopes
        };
        if scopes(self) != scopes(old) {
            let now = self.spec.as_ref().map(shown).unwrap_or_default();
            errors.push(Error::invalid(SPEC.child("scopes"), "", meta::IMMUTABLE).showing(now));
        }
    }

    fn validate_subresource(&self, _old: &Self, _request: &Request, errors: &mut Errors) {
        status(self, errors);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let hard = resource::amounts(self.spec.as_ref().and_then(|s| s.hard.as_ref()));
        let amount = |name: String| hard.get(&name).map(|amount| (name, *amount));
        let known = [resource::CPU, resource::MEMORY, resource::EPHEMERAL_STORAGE];
        let warning = |name: &&str| {
            let bare = || amount((*name).to_owned()).filter(|_| *name != resource::EPHEMERAL_STORAGE);
            let (request, asked) = amount(format!("requests.{name}")).or_else(bare)?;
            let (limit, most) = amount(format!("limits.{name}"))?;
            let words = format!("ResourceQuota {request} ({asked}) should be less than {limit} ({most})");
            (asked > most).then_some(words)
        };
        known.iter().filter(|_| old.is_none()).filter_map(warning).collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.clone().unwrap_or_default();
        let used = resource::amounts(status.used.as_ref());
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, hard) in resource::amounts(status.hard.as_ref()) {
            let used = used.get(&name).copied().unwrap_or(Quantity::ZERO);
            let cell = if name.starts_with("limits.") { &mut limits } else { &mut requests };
            cell.push(format!("{name}: {used}/{hard}"));
        }
        vec![
            json!(self.metadata.name),
            json!(requests.join(", ")),
            json!(limits.join(", ")),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

fn list(list: Option<&Written>, path: &Path, errors: &mut Errors) {
    for (name, amount) in resource::amounts(list) {
        let path = path.key(&name);
        resource::validate_quota_name(&name, &path, errors);
        resource::validate_amount(&name, amount, &path, errors);
    }
}

fn status(quota: &ResourceQuota, errors: &mut Errors) {
    let Some(status) = &quota.status else {
        return;
    };
    list(status.hard.as_ref(), &STATUS.child("hard"), errors);
    list(status.used.as_ref(), &STATUS.child("used"), errors);
}

fn shown(spec: &ResourceQuotaSpec) -> String {
    if spec.scopes.is_none() { "null".to_owned() } else { json!(spec.scopes).to_string() }
}

/// Whether a scope says something of a resource: of Pods, or of claims.
fn counts(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == resource::PODS,
        "VolumeAttributesClass" => ["persistentvolumeclaims", "requests.storage"].contains(&resource),
        _ if SCOPES.contains(&scope) => resource == resource::PODS || POD_AMOUNTS.contains(&resource),
        _ => true,
    }
}

/// The limits that a scope does not fit.
fn unfit<'a>(spec: &'a ResourceQuotaSpec, scope: &'a str) -> impl Iterator<Item = &'a String> {
    let names = spec.hard.iter().flatten().map(|(name, _)| name);
    names.filter(move |name| resource::is_quota_standard(name) && !counts(scope, name))
}

fn conflicts<'a>(scopes: &[&str], spec: &'a ResourceQuotaSpec) -> impl Iterator<Item = Error> + use<'a> {
    let pairs = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
    let count = pairs.iter().filter(|pair| pair.iter().all(|scope| scopes.contains(scope))).count();
    (0..count).map(|_| Error::invalid(SPEC.child("scopes"), "", "conflicting scopes").showing(shown(spec)))
}

fn validate(spec: &ResourceQuotaSpec, errors: &mut Errors) {
    list(spec.hard.as_ref(), &SPEC.child("hard"), errors);
    let path = SPEC.child("scopes");
    let scopes: Vec<&str> = spec.scopes.items().iter().map(String::as_str).collect();
    for scope in &scopes {
        let wrong = |why: &str| Error::invalid(path, "", why).showing(shown(spec));
        if !SCOPES.contains(scope) {
            errors.push_with(|| wrong("unsupported scope"));
        }
        errors.extend(unfit(spec, scope).map(|_| wrong("unsupported scope applied to resource")));
    }
    errors.extend(conflicts(&scopes, spec));
    validate_selector(spec, errors);
}

fn validate_selector(spec: &ResourceQuotaSpec, errors: &mut Errors) {
    let Some(selector) = &spec.scope_selector else {
        return;
    };
    let path = SPEC.child("scopeSelector");
    let path = path.child("matchExpressions");
    let requirements = selector.match_expressions.items();
    for requirement in requirements {
        let (scope, values) = (requirement.scope_name.as_str(), requirement.values.items());
        let operator = requirement.operator.as_str();
        let wrong = |field, value: &str, why: &str| Error::invalid(path.child(field), value, why);
        if !SCOPES.contains(&scope) {
            errors.push(wrong("scopeName", scope, "unsupported scope"));
        }
        errors.extend(unfit(spec, scope).map(|_| {
            Error::invalid(path, "", "unsupported scope applied to resource")
                .showing_struct(selector, "io.k8s.api.core.v1.ScopeSelector")
        }));
        let only_exists = SCOPES.contains(&scope) && !["PriorityClass", "VolumeAttributesClass"].contains(&scope);
        if only_exists && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(wrong("operator", operator, why));
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(Error::required(path.child("values"), why));
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                    errors.push(Error::invalid(path.child("values"), values.to_vec(), why));
                }
            }
            _ => errors.push(wrong("operator", operator, "not a valid selector operator")),
        }
    }
    let scopes: Vec<&str> = requirements.iter().map(|r| r.scope_name.as_str()).collect();
    errors.extend(conflicts(&scopes, spec));
}
