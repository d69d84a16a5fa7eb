//! PodGroup (scheduling.k8s.io/v1alpha2).

use jiff::Timestamp;
use k8s_openapi::api::scheduling::v1alpha2::{
    PodGroup, PodGroupResourceClaimStatus, PodGroupSpec, PodGroupStatus, PodGroupTemplateReference,
};
use serde_json::{Value, json};

use super::{feature, policy};
use crate::{
    condition, declared, equal,
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    kind::{AGE, About, Kind, NAME, Prose, Request, Subresource, column, text},
    meta, table,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");
const CLAIM_STATUS_TYPE: &str = "io.k8s.api.scheduling.v1alpha2.PodGroupResourceClaimStatus";
const CLAIMS_MAX: usize = 4;

impl Kind for PodGroup {
    const ABOUT: About = About {
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column(
                "Policy",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.scheduling.v1alpha2.PodGroupSpec", "schedulingPolicy"),
            ),
            column("Workload", "string", "", 0, text("Name of the referenced Workload object")),
            column("Status", "string", "", 0, text("Status of the PodGroup")),
            AGE,
        ],
        ..About::new("podgroups", "podgroup")
    };

    fn set_defaults(&mut self) {
        self.spec.disruption_mode.get_or_insert_with(|| "Pod".to_owned());
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(PodGroupStatus::default());
        feature::drop_disabled(&mut self.spec, None);
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
        feature::drop_disabled(&mut self.spec, Some(&old.spec));
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        meta::keep_for_status(&mut self.metadata, &old.metadata);
        if let Some(status) = self.status.as_mut().filter(|_| old.spec.resource_claims.items().is_empty()) {
            status.resource_claim_statuses = None;
        }
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        if let Some(reference) = &self.spec.pod_group_template_ref {
            validate_reference(reference, &SPEC.child("podGroupTemplateRef"), errors);
        }
        policy::validate(&self.spec.scheduling_policy, &SPEC.child("schedulingPolicy"), errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        validate_change(&self.spec, &old.spec, errors);
    }

    fn validate_subresource(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        let none = PodGroupStatus::default();
        let (new, old) = (self.status.as_ref().unwrap_or(&none), old.status.as_ref().unwrap_or(&none));
        condition::validate(new.conditions.items(), &STATUS.child("conditions"), errors);
        let path = STATUS.child("resourceClaimStatuses");
        let (statuses, claims) = (new.resource_claim_statuses.items(), self.spec.resource_claims.items());
        for (i, status) in statuses.iter().enumerate() {
            if claims.iter().all(|claim| claim.name != status.name) {
                let why = "must match the name of an entry in `spec.resourceClaims`";
                errors.push(Error::invalid(path.index(i).child("name"), status.name.as_str(), why));
            }
        }
        validate_claims(statuses, old.resource_claim_statuses.items(), &path, errors);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let reference = self.spec.pod_group_template_ref.as_ref();
        let workload = reference.map_or("<none>", |r| r.workload.as_ref().map_or("", |w| w.workload_name.as_str()));
        vec![
            json!(self.metadata.name),
            json!(if self.spec.scheduling_policy.gang.is_some() { "Gang" } else { "Basic" }),
            json!(workload),
            json!(state(self)),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

fn state(group: &PodGroup) -> &str {
    let conditions = group.status.as_ref().map(|status| status.conditions.items()).unwrap_or_default();
    if let Some(disrupted) = condition::find(conditions, "DisruptionTarget") {
        return &disrupted.reason;
    }
    match condition::find(conditions, "PodGroupScheduled") {
        None => "Pending",
        Some(scheduled) if scheduled.status == "True" => "Scheduled",
        Some(_) => "Unschedulable",
    }
}

fn validate_reference(reference: &PodGroupTemplateReference, path: &Path, errors: &mut Errors) {
    declared::one_of_fields(&[("workload", reference.workload.is_some())], *path, errors);
    let Some(workload) = &reference.workload else { return };
    let path = path.child("workload");
    declared::required(&workload.workload_name, declared::long_name, path.child("workloadName"), errors);
    let (name, path) = (&workload.pod_group_template_name, path.child("podGroupTemplateName"));
    declared::required(name, declared::short_name, path, errors);
}

/// Nothing of what a group is made for may change.
fn validate_change(new: &PodGroupSpec, old: &PodGroupSpec, errors: &mut Errors) {
    let reference = SPEC.child("podGroupTemplateRef");
    declared::immutable(&new.pod_group_template_ref, &old.pod_group_template_ref, reference, errors);
    declared::immutable(&new.scheduling_policy, &old.scheduling_policy, SPEC.child("schedulingPolicy"), errors);
    let constraints = SPEC.child("schedulingConstraints");
    declared::off(&new.scheduling_constraints, &old.scheduling_constraints, constraints, errors);
    let claims = SPEC.child("resourceClaims");
    if !declared::immutable(&new.resource_claims, &old.resource_claims, claims, errors) {
        field::at_most_items(new.resource_claims.items(), CLAIMS_MAX, &claims, errors);
    }
    declared::off(&new.disruption_mode, &old.disruption_mode, SPEC.child("disruptionMode"), errors);
    let class = |spec: &PodGroupSpec| spec.priority_class_name.clone().filter(|name| !name.is_empty());
    declared::off(&class(new), &class(old), SPEC.child("priorityClassName"), errors);
    declared::off(&new.priority, &old.priority, SPEC.child("priority"), errors);
}

fn validate_claims(
    new: &[PodGroupResourceClaimStatus],
    old: &[PodGroupResourceClaimStatus],
    path: &Path,
    errors: &mut Errors,
) {
    if equal::same(&new, &old) || !field::at_most_items(new, CLAIMS_MAX, path, errors) {
        return;
    }
    declared::unique(new, |status| status.name.as_str(), CLAIM_STATUS_TYPE, path, errors);
    for (i, status) in new.iter().enumerate().filter(|(_, status)| !old.contains(status)) {
        if status.resource_claim_name.is_some() {
            let name = status.resource_claim_name.text();
            extend(errors, path.index(i).child("resourceClaimName"), name, declared::long_name(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::User;

    fn group(spec: Value) -> PodGroup {
        serde_json::from_value(json!({"apiVersion": "scheduling.k8s.io/v1alpha2", "kind": "PodGroup",
            "metadata": {"name": "g", "namespace": "n"}, "spec": spec}))
        .unwrap()
    }

    fn request(user: &User) -> Request<'_> {
        Request { user, now: Timestamp::UNIX_EPOCH, subresource: "", sent: &Value::Null }
    }

    fn told(errors: &Errors) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn creation() {
        for (spec, want) in [
            (json!({"schedulingPolicy": {"basic": {}}}), vec![]),
            (json!({"schedulingPolicy": {"gang": {"minCount": 2}}}), vec![]),
            (
                json!({"schedulingPolicy": {}}),
                vec!["spec.schedulingPolicy: Invalid value: \"\": must specify one of: `basic`, `gang`"],
            ),
            (
                json!({"schedulingPolicy": {"gang": {"minCount": 0}}}),
                vec!["spec.schedulingPolicy.gang.minCount: Required value"],
            ),
            (
                json!({"schedulingPolicy": {"gang": {"minCount": -1}}}),
                vec!["spec.schedulingPolicy.gang.minCount: Invalid value: -1: must be greater than or equal to 1"],
            ),
            (
                json!({"schedulingPolicy": {"basic": {}}, "podGroupTemplateRef": {"workload": {"podGroupTemplateName": "a.b"}}}),
                vec![
                    "spec.podGroupTemplateRef.workload.workloadName: Required value",
                    "spec.podGroupTemplateRef.workload.podGroupTemplateName: Invalid value: \"a.b\": must not contain dots",
                ],
            ),
        ] {
            let (user, mut errors) = (User::default(), Errors::new());
            group(spec).validate_create(&request(&user), &mut errors);
            assert_eq!(told(&errors), want);
        }
    }

    #[test]
    fn what_is_off_is_dropped_and_stays_as_it_is() {
        let user = User::default();
        let mut new = group(json!({"schedulingPolicy": {"basic": {}}, "priority": 5, "disruptionMode": "PodGroup",
            "schedulingConstraints": {"topology": [{"key": "zone"}]}}));
        new.prepare_create(&request(&user));
        new.set_defaults();
        assert_eq!((new.spec.priority, new.spec.disruption_mode.text()), (None, "Pod"));
        assert!(new.spec.scheduling_constraints.is_none());
        let old = new.clone();
        (new.spec.priority, new.spec.disruption_mode) = (Some(7), Some("PodGroup".to_owned()));
        new.spec.scheduling_policy =
            group(json!({"schedulingPolicy": {"gang": {"minCount": 1}}})).spec.scheduling_policy;
        new.prepare_update(&old, &request(&user));
        let mut errors = Errors::new();
        new.validate_update(&old, &request(&user), &mut errors);
        assert_eq!(
            told(&errors),
            ["spec.schedulingPolicy: Invalid value: null: field is immutable", "spec.disruptionMode: Forbidden",]
        );
    }
}
