//! Checks the expressions of ValidatingAdmissionPolicies against the types that they will meet, and tells what it found.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::admissionregistration::v1::{
    TypeChecking, ValidatingAdmissionPolicy, ValidatingAdmissionPolicySpec, ValidatingAdmissionPolicyStatus,
};
use serde_json::Value;

use crate::{
    plan::{Plan, Write},
    runtime::{
        Controller, View, Wiring,
        object::Key,
        server::{Error, Form},
    },
};

mod check;

use check::Known;

/// Types that one policy is checked against, at most.
const TYPES_MAX: usize = 10;

#[derive(Debug)]
pub struct Observed {
    policy: Arc<ValidatingAdmissionPolicy>,
    /// By group, version and kind.
    types: Vec<Known>,
    params: Option<Known>,
}

#[derive(Default)]
pub struct ValidatingAdmissionPolicyStatusController;

/// Group, version and kind.
type Gvk = (String, String, String);

impl Controller for ValidatingAdmissionPolicyStatusController {
    const NAME: &'static str = "validatingadmissionpolicy-status";
    const COMPONENT: &'static str = "validatingadmissionpolicy-status-controller";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<ValidatingAdmissionPolicy>();
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let policy = view.caches.get::<ValidatingAdmissionPolicy>().get(key);
        let Some(policy) = policy.filter(|policy| is_unseen(policy)) else { return Ok(None) };
        let spec = policy.spec.clone().unwrap_or_default();
        let mut documents = BTreeMap::new();
        let mut types = Vec::new();
        for gvk in kinds(view, &spec).await? {
            types.extend(known(view, &gvk, &mut documents).await?);
        }
        let params = match spec.param_kind.as_ref().and_then(gvk_of_params) {
            Some(gvk) => known(view, &gvk, &mut documents).await?,
            None => None,
        };
        Ok(Some(Observed { policy, types, params }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        let none = ValidatingAdmissionPolicySpec::default();
        let spec = seen.policy.spec.as_ref().unwrap_or(&none);
        let warnings = check::check(spec, &seen.types, seen.params.as_ref());
        let status = ValidatingAdmissionPolicyStatus {
            observed_generation: seen.policy.metadata.generation,
            type_checking: Some(TypeChecking { expression_warnings: (!warnings.is_empty()).then_some(warnings) }),
            ..seen.policy.status.clone().unwrap_or_default()
        };
        let policy =
            ValidatingAdmissionPolicy { status: Some(status), ..ValidatingAdmissionPolicy::clone(&seen.policy) };
        Plan::of(Write::status(&policy))
    }
}

/// Whether its spec has changed since it was checked.
fn is_unseen(policy: &ValidatingAdmissionPolicy) -> bool {
    let seen = policy.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
    policy.metadata.generation.unwrap_or(0) > seen
}

fn split(api_version: &str) -> (&str, &str) {
    api_version.rsplit_once('/').unwrap_or(("", api_version))
}

fn gvk_of_params(kind: &k8s_openapi::api::admissionregistration::v1::ParamKind) -> Option<Gvk> {
    let (group, version) = split(kind.api_version.as_deref()?);
    Some((group.to_owned(), version.to_owned(), kind.kind.clone()?))
}

/// The kinds that the rules name outright, in order.
async fn kinds(view: &View, spec: &ValidatingAdmissionPolicySpec) -> Result<Vec<Gvk>, Error> {
    let mut found = std::collections::BTreeSet::new();
    let rules = spec.match_constraints.iter().flat_map(|constraints| constraints.resource_rules.iter().flatten());
    for rule in rules {
        let named = |names: &Option<Vec<String>>| {
            let names = names.clone().unwrap_or_default();
            if names.iter().any(|name| name.contains('*')) { Vec::new() } else { names }
        };
        let resources: Vec<String> =
            rule.resources.iter().flatten().filter(|r| !r.contains(['*', '/'])).cloned().collect();
        for group in named(&rule.api_groups) {
            for version in named(&rule.api_versions) {
                let root = root(&group, &version);
                let list: Option<Value> = view.server.fetch(&format!("/{root}"), Form::Whole).await?;
                let served = list.as_ref().and_then(|list| list["resources"].as_array()).into_iter().flatten();
                for resource in served.filter(|r| resources.iter().any(|name| r["name"] == name.as_str())) {
                    let kind = resource["kind"].as_str().unwrap_or_default().to_owned();
                    found.insert((group.clone(), version.clone(), kind));
                }
            }
        }
    }
    Ok(found.into_iter().take(TYPES_MAX).collect())
}

/// `api/v1`, `apis/apps/v1`
fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The type of a kind, from the schema that the server publishes; none if it publishes none.
async fn known(view: &View, gvk: &Gvk, documents: &mut BTreeMap<String, Value>) -> Result<Option<Known>, Error> {
    let root = root(&gvk.0, &gvk.1);
    if !documents.contains_key(&root) {
        let document: Option<Value> = view.server.fetch(&format!("/openapi/v3/{root}"), Form::Whole).await?;
        documents.insert(root.clone(), document.unwrap_or_default());
    }
    Ok(documents.get(&root).and_then(|document| Known::read(gvk, document)))
}
