//! Whether two objects say the same, however they say it: an empty list is none, `1000m` is `1`.

mod plain;

use std::fmt;

use serde::Serialize;

use self::plain::Plain;
use crate::{
    field::{Error, Errors},
    meta::IMMUTABLE,
};

pub fn same<T: Serialize + ?Sized>(a: &T, b: &T) -> bool {
    matches!((a.serialize(Plain), b.serialize(Plain)), (Ok(a), Ok(b)) if a == b)
}

/// What may not change: a plain value.
pub fn immutable<T: Serialize>(new: &T, old: &T, path: impl fmt::Display, errors: &mut Errors) {
    if !same(new, old) {
        errors.push(Error::invalid(path, serde_json::to_value(new).unwrap_or_default(), IMMUTABLE));
    }
}

/// What may not change: a struct, shown as Go shows it.
pub fn immutable_struct<T: Serialize>(new: &T, old: &T, type_name: &str, path: impl fmt::Display, errors: &mut Errors) {
    if !same(new, old) {
        errors.push(Error::invalid(path, "", IMMUTABLE).showing_struct(new, type_name));
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodSpec, Volume};
    use serde_json::json;

    use super::*;

    #[test]
    fn empty_lists_and_maps_are_none_but_empty_structs_are_some() {
        let spec = |value| serde_json::from_value::<PodSpec>(value).unwrap();
        let bare = spec(json!({"containers": [{"name": "a"}]}));
        let hollow = spec(json!({"containers": [{"name": "a", "env": []}], "nodeSelector": {}, "volumes": []}));
        assert!(same(&bare, &hollow));
        assert!(!same(&bare, &spec(json!({"containers": [{"name": "a"}], "affinity": {}}))));
        let volume = |value| serde_json::from_value::<Volume>(value).unwrap();
        assert!(!same(&volume(json!({"name": "v", "emptyDir": {}})), &volume(json!({"name": "v"}))));
        assert!(same(&(1, Some("x"), vec!["y"]), &(1, Some("x"), vec!["y"])));
    }
}
