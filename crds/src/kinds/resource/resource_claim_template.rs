//! ResourceClaimTemplate (resource.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::{api::resource::v1::ResourceClaimTemplate, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::{Value, json};

use super::request;
use crate::{
    equal,
    field::{Error, Errors, Path},
    kind::{AGE, About, DeleteAnswer, Kind, NAME, Request},
    meta, table,
};

const SPEC: Path = Path::new("spec");

impl Kind for ResourceClaimTemplate {
    const ABOUT: About = About {
        columns: &[NAME, AGE],
        delete_answer: DeleteAnswer::Object,
        // The right to ask for admin access is told before it.
        checks_metadata: false,
        checks_changes: false,
        ..About::new("resourceclaimtemplates", "resourceclaimtemplate")
    };

    fn set_defaults(&mut self) {
        self.spec.spec.devices.iter_mut().for_each(request::set_defaults);
    }

    fn validate_create(&self, request: &Request, errors: &mut Errors) {
        request::validate_admin_access(&self.spec.spec, request, errors);
        validate(self, errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        validate(self, errors);
        meta::update_of(self, old, errors);
        let name = "io.k8s.api.resource.v1.ResourceClaimTemplateSpec";
        equal::immutable_struct(&self.spec, &old.spec, name, SPEC, errors);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![json!(self.metadata.name), json!(table::age(&self.metadata, now))]
    }
}

fn validate(template: &ResourceClaimTemplate, errors: &mut Errors) {
    meta::create_of(template, errors);
    if let Some(metadata) = &template.spec.metadata {
        validate_metadata(metadata, &SPEC.child("metadata"), errors);
    }
    let (path, none) = (SPEC.child("spec"), Default::default());
    let devices = template.spec.spec.devices.as_ref().unwrap_or(&none);
    request::validate(devices, &path.child("devices"), errors);
}

/// Only labels and annotations are handed down to claims.
fn validate_metadata(metadata: &ObjectMeta, path: &Path, errors: &mut Errors) {
    meta::annotations(metadata.annotations.as_ref(), path.child("annotations"), errors);
    meta::labels(metadata.labels.as_ref(), path.child("labels"), errors);
    for (name, is_set) in [
        ("name", metadata.name.is_some()),
        ("generateName", metadata.generate_name.is_some()),
        ("namespace", metadata.namespace.is_some()),
        ("uid", metadata.uid.is_some()),
        ("finalizers", metadata.finalizers.is_some()),
        ("ownerReferences", metadata.owner_references.is_some()),
    ] {
        if is_set {
            errors.push(Error::forbidden(path.child(name), "cannot be set"));
        }
    }
}
