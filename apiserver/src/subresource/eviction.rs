//! `pods/eviction`: a deletion that disruption budgets may refuse.

use std::sync::Arc;

use crds::{
    field::{Error, Errors, Path},
    kind::Gvk,
    selector::{Labels, Selector},
};
use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::Pod,
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::apis::meta::v1::{Condition, Preconditions, StatusCause, Time},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    admission::{Chain, Operation},
    call::Call,
    codec::{
        answer::{self, Answer},
        decode,
    },
    error::{ApiError, Result, Subject},
    metadata,
    options::{DeleteOptions, WriteOptions},
    pipeline::Apiserver,
    route::{self, Target},
    verbs,
    write::{Missing, Writer},
};

const IGNORE_STORE: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// Evictions of one budget that its controller has not confirmed yet.
const DISRUPTED_MAX: usize = 2000;
const RETRY_SECONDS: i32 = 10;
const ATTEMPTS_MAX: usize = 20;

/// The beta version has the same form, and is still accepted.
fn gvk(body: &Value) -> Gvk {
    let beta = body.get("apiVersion").and_then(Value::as_str) == Some("policy/v1beta1");
    Gvk { group: "policy".into(), version: if beta { "v1beta1" } else { "v1" }.into(), kind: "Eviction".into() }
}

pub async fn answer(server: &Apiserver, call: &mut Call, target: &Target) -> Result<Answer> {
    if call.info.verb != "create" {
        return Err(route::not_allowed());
    }
    let form = verbs::form(call, &target.definition)?;
    let media = verbs::sent(call, &target.definition)?;
    let options = WriteOptions::from_query(&call.query, "CreateOptions", false)?;
    let body = call.read_body().await?;
    let kind = gvk(&serde_json::from_slice(&body).unwrap_or_default());
    let decoded = decode::object(&body, media, &kind, options.field_validation)?;
    call.warnings.extend(decoded.warnings);
    call.audit.request_object(&decoded.object);
    let mut eviction = decoded.object;
    metadata::match_namespace(&mut eviction, &call.info.namespace)?;
    if metadata::text(&eviction, "name") != call.info.name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let delete = delete_options(&eviction, &options, &call.info.name)?;
    let name = call.info.name.clone();
    let dry_run = delete.dry_run();
    let mut writer = verbs::writer(server, call, target, &name, options);
    let mut attributes = writer.attributes(Operation::Create, Some(eviction), None);
    attributes.kind = kind;
    let admitted = writer.admit_other(attributes).await;
    let warnings = std::mem::take(&mut writer.warnings);
    if admitted.is_ok() {
        // Admission has seen the eviction; what it comes to is the server's own doing.
        let bare = Chain::new(Vec::new());
        let mut writer = verbs::writer(server, call, target, &name, WriteOptions { dry_run, ..Default::default() });
        writer.admission = &bare;
        Evicting { server, writer, delete }.run().await?;
    }
    call.warnings.extend(warnings);
    admitted?;
    answer::value(StatusCode::CREATED, form, &super::binding::done())
}

/// How the pod is to be deleted; a dry run may be asked for in either place, in both in the same words.
fn delete_options(eviction: &Value, options: &WriteOptions, name: &str) -> Result<DeleteOptions> {
    let mut given = eviction.get("deleteOptions").cloned().filter(|v| !v.is_null()).unwrap_or_else(|| json!({}));
    if given[IGNORE_STORE] == true {
        let path = Path::new("deleteOptions");
        let why = "can not be set for pod eviction, try after removing the option";
        let errors = Errors::from(Error::invalid(path.child(IGNORE_STORE), true, why));
        return Err(ApiError::invalid("policy", "Eviction", name, &errors));
    }
    if options.dry_run {
        let own: Vec<_> = given["dryRun"].as_array().into_iter().flatten().map(|v| v.as_str().unwrap_or("")).collect();
        if !own.is_empty() && own != ["All"] {
            let own = own.join(" ");
            let why = format!("Non-matching dry-run options in request and content: [All] and [{own}]");
            return Err(ApiError::unknown(why));
        }
        given["dryRun"] = json!(["All"]);
    }
    DeleteOptions::deserialize(given).map_err(|e| ApiError::bad_request(e.to_string()))
}

struct Evicting<'a> {
    server: &'a Apiserver,
    writer: Writer<'a>,
    delete: DeleteOptions,
}

impl Evicting<'_> {
    async fn run(&mut self) -> Result<()> {
        let asked = self.delete.preconditions.as_ref().is_some_and(|p| p.resource_version.is_some());
        let mut last = None;
        for _ in 0..ATTEMPTS_MAX {
            let pod = self.pod().await?;
            let mut delete = self.delete.clone();
            let free = ignores_budgets(&pod);
            let guarded = if free { !asked && !has_ended(&pod) } else { self.passes_budget(&pod).await? && !asked };
            if guarded {
                // What was decided holds for this version of the pod alone.
                let preconditions = delete.preconditions.get_or_insert_with(Preconditions::default);
                preconditions.resource_version.clone_from(&pod.metadata.resource_version);
            }
            match self.remove(&delete).await {
                Err(error) if error.reason() == "Conflict" && guarded && free => last = Some(error),
                Err(error) if error.reason() == "Conflict" && guarded => {
                    return Err(processing(&self.budget_name(&pod)?));
                }
                outcome => return outcome,
            }
        }
        Err(last.unwrap_or_else(|| ApiError::modified(self.writer.subject())))
    }

    async fn pod(&self) -> Result<Pod> {
        let (namespace, name) = (self.writer.namespace, self.writer.name);
        let live = self.server.world.get_live::<Pod>(namespace, name).await?;
        live.ok_or_else(|| ApiError::missing(self.writer.subject()))
    }

    fn budgets(&self, pod: &Pod) -> Result<Vec<PodDisruptionBudget>> {
        let none = Labels::new();
        let labels = pod.metadata.labels.as_ref().unwrap_or(&none);
        let mut budgets = self.server.world.list::<PodDisruptionBudget>(self.writer.namespace)?;
        budgets.retain(|budget| {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            Selector::from_object(selector).matches(labels)
        });
        Ok(budgets)
    }

    fn budget_name(&self, pod: &Pod) -> Result<String> {
        Ok(self.budgets(pod)?.first().and_then(|b| b.metadata.name.clone()).unwrap_or_default())
    }

    /// Takes the pod out of its budget. True: the pod was left out of account, and must not become ready meanwhile.
    async fn passes_budget(&self, pod: &Pod) -> Result<bool> {
        self.server.world.cache.wait_until_current().await?;
        let budgets = self.budgets(pod)?;
        let budget = match budgets.as_slice() {
            [] => return Ok(false),
            [budget] => budget,
            _ => {
                let why =
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(ApiError::unknown(why));
            }
        };
        if !is_ready(pod) && unready_may_go(budget) {
            return Ok(true);
        }
        self.decrement(budget).await.map(|()| false)
    }

    async fn decrement(&self, budget: &PodDisruptionBudget) -> Result<()> {
        let world = &self.server.world;
        let definition =
            world.registry.resource("policy", "v1", "poddisruptionbudgets").ok_or_else(route::not_found)?;
        let name = budget.metadata.name.clone().unwrap_or_default();
        let mut writer = Writer {
            definition,
            subresource: "status",
            name: &name,
            user: Arc::new(crds::user::User::named("system:apiserver", &[crds::user::User::MASTERS])),
            options: self.writer.options.clone(),
            manager: "kube-apiserver".to_owned(),
            warnings: Vec::new(),
            admission: &self.server.admission,
            tracks_fields: true,
            audit: self.writer.audit.clone(),
            scale: None,
            ..self.writer
        };
        let (pod, now) = (self.writer.name, world.now());
        let mut source = |old: Option<&Value>| {
            let old = old.unwrap_or(&Value::Null);
            let mut budget = PodDisruptionBudget::deserialize(old).map_err(ApiError::internal)?;
            take(&mut budget, pod, now)?;
            let mut new = old.clone();
            new["status"] = serde_json::to_value(&budget.status).map_err(ApiError::internal)?;
            Ok(new)
        };
        writer.update(&mut source, &Missing::NotFound).await.map(drop)
    }

    /// Marks the pod as disrupted, then deletes it.
    async fn remove(&mut self, delete: &DeleteOptions) -> Result<()> {
        let mut delete = delete.clone();
        if !delete.dry_run() {
            let (now, wanted) = (self.server.world.now(), delete.preconditions.clone());
            self.writer.subresource = "status";
            self.writer.tracks_fields = false;
            let name = self.writer.name;
            let mut source = |old: Option<&Value>| {
                let mut pod = old.cloned().unwrap_or_default();
                check(&pod, wanted.as_ref(), name)?;
                mark(&mut pod, now);
                Ok(pod)
            };
            let marked = self.writer.update(&mut source, &Missing::NotFound).await?;
            if let Some(version) = delete.preconditions.as_mut().and_then(|p| p.resource_version.as_mut()) {
                let marked = marked.shown.value(&self.writer.definition)?;
                *version = metadata::text(&marked, "resourceVersion").to_owned();
            }
        }
        // Upstream looks at the options when it deletes, not before.
        self.writer.delete(&delete.validated()?).await.map(drop)
    }
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed") || pod.metadata.deletion_timestamp.is_some()
}

/// A pod that does no work (yet, or any more) disrupts nothing.
fn ignores_budgets(pod: &Pod) -> bool {
    has_ended(pod) || phase(pod) == "Pending"
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn unready_may_go(budget: &PodDisruptionBudget) -> bool {
    let always = budget.spec.as_ref().and_then(|s| s.unhealthy_pod_eviction_policy.as_deref()) == Some("AlwaysAllow");
    let healthy = |s: &PodDisruptionBudgetStatus| s.current_healthy >= s.desired_healthy && s.desired_healthy > Some(0);
    always || budget.status.as_ref().is_some_and(healthy)
}

fn refused(why: String) -> ApiError {
    let cause = StatusCause { reason: Some("DisruptionBudget".into()), message: Some(why), ..Default::default() };
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", REFUSED).with_cause(cause)
}

fn processing(budget: &str) -> ApiError {
    refused(format!("The disruption budget {budget} is still being processed by the server."))
        .with_retry_after(RETRY_SECONDS)
}

/// One disruption less, if the budget has one left.
fn take(budget: &mut PodDisruptionBudget, pod: &str, now: Timestamp) -> Result<()> {
    let name = budget.metadata.name.clone().unwrap_or_default();
    let generation = budget.metadata.generation.unwrap_or(0);
    let status = budget.status.get_or_insert_default();
    if status.observed_generation.unwrap_or(0) < generation {
        return Err(processing(&name));
    }
    let on = Subject { group: "policy", resource: "poddisruptionbudget", name: &name };
    let allowed = status.disruptions_allowed.unwrap_or(0);
    if allowed < 0 {
        return Err(ApiError::forbidden(on, "pdb disruptions allowed is negative"));
    }
    if status.disrupted_pods.as_ref().is_some_and(|pods| pods.len() > DISRUPTED_MAX) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(ApiError::forbidden(on, why));
    }
    if allowed == 0 {
        return Err(refused(reason(&name, status)));
    }
    status.disruptions_allowed = Some(allowed - 1);
    if allowed == 1 {
        disallow(status, now);
    }
    status.disrupted_pods.get_or_insert_default().insert(pod.to_owned(), Time(now));
    Ok(())
}

/// Why a budget allows nothing, in upstream's words.
fn reason(name: &str, status: &PodDisruptionBudgetStatus) -> String {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let told =
        conditions.iter().find(|c| c.type_ == "DisruptionAllowed" && c.status == "False" && !c.message.is_empty());
    let (needs, has) = (status.desired_healthy.unwrap_or(0), status.current_healthy.unwrap_or(0));
    match told {
        Some(c) if c.reason == "SyncFailed" => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
            c.message
        ),
        _ if has <= needs => format!("The disruption budget {name} needs {needs} healthy pods and has {has} currently"),
        Some(c) => {
            format!("The disruption budget {name} does not allow evicting pods currently ({}): {}", c.reason, c.message)
        }
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

fn disallow(status: &mut PodDisruptionBudgetStatus, now: Timestamp) {
    let observed_generation = status.observed_generation;
    let conditions = status.conditions.get_or_insert_default();
    let wanted = Condition {
        type_: "DisruptionAllowed".into(),
        status: "False".into(),
        reason: "InsufficientPods".into(),
        message: String::new(),
        observed_generation,
        last_transition_time: Time(now),
    };
    match conditions.iter_mut().find(|c| c.type_ == wanted.type_) {
        Some(known) => {
            let since = if known.status == "False" { known.last_transition_time.clone() } else { Time(now) };
            *known = Condition { last_transition_time: since, ..wanted };
        }
        None => conditions.push(wanted),
    }
}

/// The pod must still be the one that the eviction was decided on.
fn check(pod: &Value, wanted: Option<&Preconditions>, name: &str) -> Result<()> {
    let on = Subject { group: "", resource: "Pod", name };
    let differs = |wanted: Option<&str>, field: &str| {
        wanted.filter(|w| !w.is_empty() && *w != metadata::text(pod, field)).map(str::to_owned)
    };
    let Some(preconditions) = wanted else { return Ok(()) };
    if let Some(wanted) = differs(preconditions.uid.as_deref(), "uid") {
        let there = metadata::text(pod, "uid");
        return Err(ApiError::conflict(
            on,
            format!(
                "the UID in the precondition ({wanted}) does not match the UID in record ({there}). \
                 The object might have been deleted and then recreated"
            ),
        ));
    }
    if let Some(wanted) = differs(preconditions.resource_version.as_deref(), "resourceVersion") {
        let there = metadata::text(pod, "resourceVersion");
        return Err(ApiError::conflict(
            on,
            format!(
                "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record \
                 ({there}). The object might have been modified"
            ),
        ));
    }
    Ok(())
}

fn mark(pod: &mut Value, now: Timestamp) {
    let target = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastProbeTime": null,
        "lastTransitionTime": metadata::seconds(now),
    });
    let conditions = &mut pod["status"]["conditions"];
    match conditions.as_array_mut() {
        Some(conditions) => {
            conditions.retain(|condition| condition["type"] != "DisruptionTarget");
            conditions.push(target);
        }
        None => *conditions = json!([target]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(generation: i64, status: Value) -> PodDisruptionBudget {
        let object = json!({"metadata": {"name": "b", "generation": generation}, "status": status});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn taking_a_disruption() {
        let now = Timestamp::from_second(1000).unwrap();
        let status = |allowed: i64| json!({"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1});
        for (generation, allowed, want) in [
            (2, 1, Some("still being processed")),
            (1, 0, Some("needs 1 healthy pods and has 1 currently")),
            (1, 1, None),
        ] {
            let mut budget = budget(generation, status(allowed));
            let error = take(&mut budget, "p", now).err();
            let cause = error.and_then(|e| e.status().details.clone()?.causes?.first()?.message.clone());
            assert_eq!(cause.is_some(), want.is_some());
            assert!(want.is_none_or(|want| cause.is_some_and(|cause| cause.contains(want))));
            let taken = budget.status.unwrap().disrupted_pods.is_some_and(|pods| pods.contains_key("p"));
            assert_eq!(taken, want.is_none());
        }
    }
}
