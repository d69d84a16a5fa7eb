//! VolumeAttributesClass (storage.k8s.io/v1).

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use serde_json::{Value, json};

use super::class;
use crate::{
    field::{Error, Errors, Path},
    kind::{AGE, About, DeleteAnswer, Kind, NAME, Prose, Request, column},
    meta, table,
};

impl Kind for VolumeAttributesClass {
    const ABOUT: About = About {
        short_names: &["vac"],
        columns: &[
            NAME,
            column(
                "DriverName",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.storage.v1.VolumeAttributesClass", "driverName"),
            ),
            AGE,
        ],
        delete_answer: DeleteAnswer::Object,
        ..About::new("volumeattributesclasses", "volumeattributesclass")
    };

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        class::validate_provisioner(&self.driver_name, &Path::new("driverName"), errors);
        let (path, none) = (Path::new("parameters"), BTreeMap::new());
        let parameters = self.parameters.as_ref().unwrap_or(&none);
        class::validate_parameters(parameters, &path, errors);
        if parameters.is_empty() {
            errors.push(Error::required(path, "must contain at least one key/value pair"));
        }
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        if self.driver_name != old.driver_name {
            errors.push(Error::forbidden(Path::new("driverName"), "updates to driverName are forbidden."));
        }
        if self.parameters != old.parameters {
            errors.push(Error::forbidden(Path::new("parameters"), "updates to parameters are forbidden."));
        }
        meta::create_of(self, errors);
        self.validate_create(request, errors);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![json!(self.metadata.name), json!(self.driver_name), json!(table::age(&self.metadata, now))]
    }
}
