//! StatefulSet (apps/v1).

use std::collections::HashSet;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus},
        core::v1::{PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Value, json};

use crate::{
    equal,
    field::{self, Error, Errors, Path, extend, not_negative},
    given::{Items, Text},
    kind::{AGE, About, Generation, Kind, NAME, Request, ScalePaths, Subresource, column, text},
    meta, percent,
    pod::{self, counts, template},
    table, volume,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");

impl Kind for StatefulSet {
    const ABOUT: About = About {
        short_names: &["sts"],
        categories: &["all"],
        subresources: &[
            Subresource::Scale(ScalePaths::new("spec.replicas", "status.replicas", "spec.selector")),
            Subresource::Status,
        ],
        columns: &[
            NAME,
            column("Ready", "string", "", 0, text("Number of the pod with ready state")),
            AGE,
            column("Containers", "string", "", 1, text("Names of each container in the template.")),
            column("Images", "string", "", 1, text("Images referenced by each container in the template.")),
        ],
        generation: Generation::Spec,
        ..About::new("statefulsets", "statefulset")
    };
    const HOLDS_OBJECTS: bool = true;
    const NEEDS_SELECTOR: bool = true;

    fn validate_name(name: &str) -> Vec<String> {
        field::dns_label(name)
    }

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.pod_management_policy.or_set("OrderedReady");
        let strategy = spec.update_strategy.get_or_insert_default();
        if strategy.type_.text().is_empty() {
            strategy.type_ = Some("RollingUpdate".to_owned());
            strategy.rolling_update.get_or_insert_default();
        }
        if let Some(rolling) = &mut strategy.rolling_update {
            rolling.partition.get_or_insert(0);
        }
        let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        retention.when_deleted.or_set("Retain");
        retention.when_scaled.or_set("Retain");
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        template::set_defaults(&mut spec.template);
        for claim in spec.volume_claim_templates.iter_mut().flatten() {
            claim.status.get_or_insert_default().phase.or_set("Pending");
            volume::claim::default(claim.spec.get_or_insert_default());
        }
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(StatefulSetStatus::default());
        self.spec.iter_mut().for_each(|spec| prepare_spec(spec, None));
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
        self.spec.iter_mut().for_each(|spec| prepare_spec(spec, old.spec.as_ref()));
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        if let Some(spec) = &self.spec {
            validate_spec(spec, true, errors);
        }
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        let (Some(spec), Some(old)) = (&self.spec, &old.spec) else {
            return;
        };
        validate_spec(spec, false, errors);
        let changeable = StatefulSetSpec {
            replicas: old.replicas,
            template: old.template.clone(),
            update_strategy: old.update_strategy.clone(),
            min_ready_seconds: old.min_ready_seconds,
            ordinals: old.ordinals.clone(),
            revision_history_limit: old.revision_history_limit,
            persistent_volume_claim_retention_policy: old.persistent_volume_claim_retention_policy.clone(),
            ..spec.clone()
        };
        if !equal::same(&changeable, old) {
            let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
            errors.push(Error::forbidden(SPEC, why));
        }
    }

    fn validate_subresource(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        let none = StatefulSetStatus::default();
        validate_status(self.status.as_ref().unwrap_or(&none), old.status.as_ref().unwrap_or(&none), errors);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let changed = old.filter(|old| equal::same(&self.spec, &old.spec)).is_none();
        let of = self.spec.as_ref().map(|s| &s.template).filter(|_| changed);
        let mut words = template::warnings(of, &SPEC.child("template"));
        let list = SPEC.child("volumeClaimTemplates");
        for (i, claim) in self.spec.iter().flat_map(|s| s.volume_claim_templates.items()).enumerate() {
            let item = list.index(i);
            let path = if old.is_some() { item.child("Spec") } else { item };
            claim.spec.iter().for_each(|spec| pod::warn::claim(spec, &path, &mut words));
        }
        if self.spec.as_ref().and_then(|s| s.revision_history_limit).is_some_and(|limit| limit < 0) {
            let why = "a negative value retains all historical revisions; a value >= 0 is recommended";
            words.push(format!("{}: {why}", SPEC.child("revisionHistoryLimit")));
        }
        words
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.as_ref();
        let (names, images) = template::cells(spec.map(|s| &s.template));
        let ready = self.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0);
        vec![
            json!(self.metadata.name),
            json!(format!("{ready}/{}", spec.and_then(|s| s.replicas).unwrap_or(0))),
            json!(table::age(&self.metadata, now)),
            json!(names),
            json!(images),
        ]
    }
}

/// `maxUnavailable` is switched off unless asked for.
fn prepare_spec(spec: &mut StatefulSetSpec, old: Option<&StatefulSetSpec>) {
    template::prepare(&mut spec.template, old.map(|old| &old.template));
    let before = old.and_then(|old| old.update_strategy.as_ref()?.rolling_update.as_ref()?.max_unavailable.as_ref());
    if before.is_some() {
        return;
    }
    if let Some(rolling) = spec.update_strategy.as_mut().and_then(|s| s.rolling_update.as_mut()) {
        rolling.max_unavailable = None;
    }
}

fn validate_spec(spec: &StatefulSetSpec, is_new: bool, errors: &mut Errors) {
    let policies = ["OrderedReady", "Parallel"];
    match spec.pod_management_policy.text() {
        "" => errors.push(Error::required(SPEC.child("podManagementPolicy"), "")),
        policy if !policies.contains(&policy) => {
            let why = "must be 'OrderedReady' or 'Parallel'";
            errors.push(Error::invalid(SPEC.child("podManagementPolicy"), policy, why));
        }
        _ => {}
    }
    validate_strategy(spec, &SPEC.child("updateStrategy"), errors);
    if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
        let path = SPEC.child("persistentVolumeClaimRetentionPolicy");
        for (name, value) in [("whenDeleted", &policy.when_deleted), ("whenScaled", &policy.when_scaled)] {
            if !["Retain", "Delete"].contains(&value.text()) {
                errors.push(Error::not_supported(path.child(name), value.text(), &["Retain", "Delete"]));
            }
        }
    }
    if is_new {
        let list = SPEC.child("volumeClaimTemplates");
        for (i, claim) in spec.volume_claim_templates.items().iter().enumerate() {
            let path = list.index(i);
            volume::claim::validate(&claim.spec.clone().unwrap_or_default(), &path.child("spec"), errors);
        }
    }
    not_negative(spec.replicas.unwrap_or(0), SPEC.child("replicas"), errors);
    not_negative(spec.min_ready_seconds.unwrap_or(0), SPEC.child("minReadySeconds"), errors);
    let start = spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0);
    not_negative(start, SPEC.child("ordinals.start"), errors);
    let service = spec.service_name.text();
    if is_new && !service.is_empty() {
        extend(errors, SPEC.child("serviceName"), service, field::dns_label(service));
    }
    let as_made = with_claims(spec);
    template::selected(&spec.selector, &as_made, "statefulset", "", &SPEC, errors, |errors| {
        let path = SPEC.child("template");
        pod::validate::template(&as_made, &path, errors);
        // Upstream looks at these twice.
        let metadata = as_made.metadata.clone().unwrap_or_default();
        meta::labels(metadata.labels.as_ref(), path.child("labels"), errors);
        meta::annotations(metadata.annotations.as_ref(), path.child("annotations"), errors);
        let none = Default::default();
        let pod_spec = as_made.spec.as_ref().unwrap_or(&none);
        pod::validate::annotations(metadata.annotations.as_ref(), pod_spec, &path.child("annotations"), errors);
    });
    template::runs_forever(&spec.template, "StatefulSet", &SPEC.child("template"), errors);
}

/// The template as its Pods come to be: with a volume for each claim, and names of their own.
fn with_claims(spec: &StatefulSetSpec) -> PodTemplateSpec {
    let mut template = spec.template.clone();
    let claims = spec.volume_claim_templates.items();
    let Some(pod) = &mut template.spec else {
        return template;
    };
    pod.subdomain = None;
    pod.hostname = None;
    let of_claim = |name: &str| {
        let source = PersistentVolumeClaimVolumeSource { claim_name: name.to_owned(), read_only: None };
        Volume { name: name.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() }
    };
    let mut names = HashSet::new();
    let first = claims.iter().map(|claim| claim.metadata.name.text()).filter(|name| names.insert(*name));
    let mut volumes: Vec<Volume> = first.map(of_claim).collect();
    let own = pod.volumes.take().unwrap_or_default().into_iter();
    volumes.extend(own.filter(|v| !names.contains(v.name.as_str())));
    pod.volumes = (!volumes.is_empty()).then_some(volumes);
    template
}

fn validate_strategy(spec: &StatefulSetSpec, path: &Path, errors: &mut Errors) {
    let none = Default::default();
    let strategy = spec.update_strategy.as_ref().unwrap_or(&none);
    let rolling_path = path.child("rollingUpdate");
    match (strategy.type_.text(), &strategy.rolling_update) {
        ("", _) => errors.push(Error::required(*path, "")),
        ("OnDelete", Some(rolling)) => {
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            let wrong = Error::invalid(rolling_path, "", why);
            errors.push(wrong.showing_struct(rolling, "io.k8s.api.apps.v1.RollingUpdateStatefulSetStrategy"));
        }
        ("OnDelete", None) | ("RollingUpdate", None) => {}
        ("RollingUpdate", Some(rolling)) => {
            not_negative(rolling.partition.unwrap_or(0), rolling_path.child("partition"), errors);
            if let Some(unavailable) = &rolling.max_unavailable {
                max_unavailable(unavailable, &rolling_path.child("maxUnavailable"), errors);
            }
        }
        _ => {
            let why = "must be 'RollingUpdate' or 'OnDelete'";
            let wrong = Error::invalid(*path, "", why);
            errors.push(wrong.showing_struct(strategy, "io.k8s.api.apps.v1.StatefulSetUpdateStrategy"));
        }
    }
}

fn max_unavailable(value: &IntOrString, path: &Path, errors: &mut Errors) {
    percent::validate(value, path, errors);
    if percent::number(value) == 0 {
        errors.push(Error::invalid(*path, percent::shown(value), "cannot be 0"));
    }
    percent::at_most_all(value, path, errors);
}

fn validate_status(status: &StatefulSetStatus, old: &StatefulSetStatus, errors: &mut Errors) {
    let number = |count: Option<i32>| count.unwrap_or(0);
    let (ready, available) = (number(status.ready_replicas), number(status.available_replicas));
    let counts = [
        ("readyReplicas", ready),
        ("currentReplicas", number(status.current_replicas)),
        ("updatedReplicas", number(status.updated_replicas)),
        ("availableReplicas", available),
    ];
    not_negative(status.replicas, STATUS.child("replicas"), errors);
    counts::are_not_negative(&counts, errors);
    not_negative(status.observed_generation.unwrap_or(0), STATUS.child("observedGeneration"), errors);
    not_negative(number(status.collision_count), STATUS.child("collisionCount"), errors);
    counts::are_some_of(status.replicas, &counts, errors);
    counts::available_are_ready(available, ready, "status.readyReplicas", errors);
    counts::collisions_only_grow(status.collision_count, old.collision_count, errors);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kind::Definition;

    #[test]
    fn claim_templates_are_claims_whatever_they_say() {
        let claim = json!({"apiVersion": "x", "kind": "y", "metadata": {"name": "c"}});
        let mut object = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"},
            "spec": {"volumeClaimTemplates": [claim]},
        });
        let rules = &Definition::of::<StatefulSet>().rules;
        rules.set_defaults(&mut object).unwrap();
        let made = object.clone();
        let claim = &mut object["spec"]["volumeClaimTemplates"][0];
        assert_eq!((&claim["apiVersion"], &claim["kind"]), (&json!("v1"), &json!("PersistentVolumeClaim")));
        // As in protobuf, where nothing else is left to be set.
        claim.as_object_mut().unwrap().retain(|name, _| !matches!(name.as_str(), "apiVersion" | "kind"));
        rules.set_defaults(&mut object).unwrap();
        assert_eq!(object, made);
    }
}
