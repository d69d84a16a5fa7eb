//! DeviceClass (resource.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::DeviceClass;
use serde_json::{Value, json};

use super::request;
use crate::{
    field::{self, Error, Errors, Path},
    given::Items,
    kind::{AGE, About, DeleteAnswer, Generation, Kind, NAME, Request},
    meta, resource, table,
};

const SPEC: Path = Path::new("spec");

impl Kind for DeviceClass {
    const ABOUT: About = About {
        columns: &[NAME, AGE],
        generation: Generation::Spec,
        delete_answer: DeleteAnswer::Object,
        checks_prefix: false,
        checks_changes: false,
        ..About::new("deviceclasses", "deviceclass")
    };

    fn validate_name(name: &str) -> Vec<String> {
        field::long_name(name)
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        let spec = &self.spec;
        request::validate_selectors(spec.selectors.items(), &SPEC.child("selectors"), errors);
        let (list, configurations) = (SPEC.child("config"), spec.config.items());
        if field::at_most_items(configurations, request::CONFIGURATIONS_MAX, &list, errors) {
            for (i, configuration) in configurations.iter().enumerate() {
                request::validate_configuration(configuration.opaque.as_ref(), &list.index(i), errors);
            }
        }
        if let Some(name) = spec.extended_resource_name.as_deref().filter(|name| !resource::is_extended(name)) {
            let path = SPEC.child("extendedResourceName");
            errors.push(Error::invalid(path, name, "must be a valid extended resource name"));
        }
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        meta::update_of(self, old, errors);
        self.validate_create(request, errors);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![json!(self.metadata.name), json!(table::age(&self.metadata, now))]
    }
}
