//! Workload (scheduling.k8s.io/v1alpha2).

use jiff::Timestamp;
use k8s_openapi::api::scheduling::v1alpha2::{PodGroupTemplate, TypedLocalObjectReference, Workload};
use serde_json::{Value, json};

use super::{feature, policy};
use crate::{
    declared,
    field::{self, Error, Errors, Path, extend},
    given::Text,
    kind::{AGE, About, Kind, NAME, Request},
    table,
};

const SPEC: Path = Path::new("spec");
const TEMPLATE_TYPE: &str = "io.k8s.api.scheduling.v1alpha2.PodGroupTemplate";
const TEMPLATES_MAX: usize = 8;

impl Kind for Workload {
    const ABOUT: About = About { columns: &[NAME, AGE], ..About::new("workloads", "workload") };

    fn prepare_create(&mut self, _request: &Request) {
        for template in &mut self.spec.pod_group_templates {
            feature::drop_disabled_in_template(template, None);
        }
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        for (i, template) in self.spec.pod_group_templates.iter_mut().enumerate() {
            feature::drop_disabled_in_template(template, old.spec.pod_group_templates.get(i));
        }
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        if let Some(controller) = &self.spec.controller_ref {
            validate_controller(controller, &SPEC.child("controllerRef"), errors);
        }
        let (templates, path) = (&self.spec.pod_group_templates, SPEC.child("podGroupTemplates"));
        if !validate_number(templates, &path, errors) {
            return;
        }
        declared::unique(templates, |template| template.name.as_str(), TEMPLATE_TYPE, &path, errors);
        for (i, template) in templates.iter().enumerate() {
            let path = path.index(i);
            declared::required(&template.name, declared::short_name, path.child("name"), errors);
            policy::validate(&template.scheduling_policy, &path.child("schedulingPolicy"), errors);
        }
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        let (new, old) = (&self.spec, &old.spec);
        declared::immutable(&new.controller_ref, &old.controller_ref, SPEC.child("controllerRef"), errors);
        let path = SPEC.child("podGroupTemplates");
        if !declared::immutable(&new.pod_group_templates, &old.pod_group_templates, path, errors) {
            validate_number(&new.pod_group_templates, &path, errors);
        }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![json!(self.metadata.name), json!(table::age(&self.metadata, now))]
    }
}

fn validate_controller(controller: &TypedLocalObjectReference, path: &Path, errors: &mut Errors) {
    let group = controller.api_group.text();
    if !group.is_empty() {
        extend(errors, path.child("apiGroup"), group, declared::long_name(group));
    }
    declared::required(&controller.kind, field::path_segment, path.child("kind"), errors);
    declared::required(&controller.name, field::path_segment, path.child("name"), errors);
}

/// False: there are none, or too many.
fn validate_number(templates: &[PodGroupTemplate], path: &Path, errors: &mut Errors) -> bool {
    if templates.is_empty() {
        errors.push(Error::required(*path, ""));
    }
    field::at_most_items(templates, TEMPLATES_MAX, path, errors) && !templates.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::User;

    fn workload(spec: Value) -> Workload {
        serde_json::from_value(json!({"apiVersion": "scheduling.k8s.io/v1alpha2", "kind": "Workload",
            "metadata": {"name": "w", "namespace": "n"}, "spec": spec}))
        .unwrap()
    }

    fn told(rule: impl FnOnce(&Request, &mut Errors)) -> Vec<String> {
        let (user, mut errors) = (User::default(), Errors::new());
        rule(&Request { user: &user, now: Timestamp::UNIX_EPOCH, subresource: "", sent: &Value::Null }, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn template(name: &str) -> Value {
        json!({"name": name, "schedulingPolicy": {"basic": {}}})
    }

    #[test]
    fn creation() {
        for (spec, want) in [
            (json!({"podGroupTemplates": [template("a")]}), vec![]),
            (json!({"podGroupTemplates": []}), vec!["spec.podGroupTemplates: Required value"]),
            (
                json!({"podGroupTemplates": vec![template("a"); 9]}),
                vec!["spec.podGroupTemplates: Too many: 9: must have at most 8 items"],
            ),
            (
                json!({"podGroupTemplates": [template("a"), template("a")]}),
                vec![
                    "spec.podGroupTemplates[1]: Duplicate value: {\"name\":\"a\",\"schedulingPolicy\":{\"basic\":{}},\"schedulingConstraints\":null}",
                ],
            ),
            (
                json!({"podGroupTemplates": [template("")], "controllerRef": {"kind": "a/b"}}),
                vec![
                    "spec.controllerRef.kind: Invalid value: \"a/b\": may not contain '/'",
                    "spec.controllerRef.name: Required value",
                    "spec.podGroupTemplates[0].name: Required value",
                ],
            ),
        ] {
            assert_eq!(told(|request, errors| workload(spec).validate_create(request, errors)), want);
        }
    }

    #[test]
    fn nothing_changes() {
        let old = workload(json!({"podGroupTemplates": [template("a")]}));
        let told = |new: Value| told(|request, errors| workload(new).validate_update(&old, request, errors));
        assert_eq!(told(json!({"podGroupTemplates": [template("a")]})), [""; 0]);
        assert_eq!(
            told(json!({"podGroupTemplates": [], "controllerRef": {"kind": "Job", "name": "j"}})),
            [
                "spec.controllerRef: Invalid value: null: field is immutable",
                "spec.podGroupTemplates: Invalid value: null: field is immutable",
                "spec.podGroupTemplates: Required value",
            ]
        );
    }
}
