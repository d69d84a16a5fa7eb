//! ConfigMap (core/v1).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use crate::{
    field::{Error, Errors, Path, extend},
    kind::{AGE, About, Kind, NAME, Prose, Request, column},
    meta, syntax, table,
};

/// What a ConfigMap or Secret may hold, in bytes.
pub const SIZE_MAX: usize = 1 << 20;
pub const FROZEN: &str = "field is immutable when `immutable` is set";

impl Kind for ConfigMap {
    const ABOUT: About = About {
        short_names: &["cm"],
        columns: &[NAME, column("Data", "string", "", 0, Prose::Field("io.k8s.api.core.v1.ConfigMap", "data")), AGE],
        ..About::new("configmaps", "configmap")
    };

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate(self, errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        if old.immutable == Some(true) {
            let kept = |kept: bool, field: &str, errors: &mut Errors| {
                if !kept {
                    errors.push(Error::forbidden(Path::new(field), FROZEN));
                }
            };
            kept(self.immutable == Some(true), "immutable", errors);
            kept(self.data == old.data, "data", errors);
            kept(self.binary_data == old.binary_data, "binaryData", errors);
        }
        meta::create_of(self, errors);
        validate(self, errors);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let count = self.data.iter().flatten().count() + self.binary_data.iter().flatten().count();
        vec![json!(self.metadata.name), json!(count), json!(table::age(&self.metadata, now))]
    }
}

fn validate(map: &ConfigMap, errors: &mut Errors) {
    let (data, binary) = (Path::new("data"), Path::new("binaryData"));
    let mut size = 0;
    for (key, value) in map.data.iter().flatten() {
        let path = data.key(key);
        extend(errors, path, key, syntax::config_key(key));
        if map.binary_data.as_ref().is_some_and(|binary| binary.contains_key(key)) {
            errors.push(Error::invalid(path, key.as_str(), "duplicate of key present in binaryData"));
        }
        size += value.len();
    }
    for (key, value) in map.binary_data.iter().flatten() {
        extend(errors, binary.key(key), key, syntax::config_key(key));
        size += value.0.len();
    }
    if size > SIZE_MAX {
        errors.push(Error::too_long(Path::new("[]"), SIZE_MAX as i64));
    }
}
