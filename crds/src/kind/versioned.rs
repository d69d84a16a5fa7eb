//! Rules of another version of a kind: its objects are looked at in the version that the rules are written for.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Error, Value};

use super::{Conversion, Gvk, Request, Rules, group_version};
use crate::field::Errors;

pub(super) struct Versioned {
    rules: Arc<dyn Rules>,
    /// The apiVersion of the objects, and that of the rules.
    own: String,
    other: String,
    conversion: Conversion,
}

impl Versioned {
    pub fn new(rules: Arc<dyn Rules>, own: &Gvk, conversion: Conversion) -> Self {
        let (group, version) = conversion.stored;
        Self { rules, own: own.api_version(), other: group_version(group, version), conversion }
    }

    fn there(&self, object: &Value) -> Value {
        let mut object = (self.conversion.to_stored)(object.clone());
        object["apiVersion"] = self.other.as_str().into();
        object
    }

    /// What the rules do to an object is done to it in its own version.
    fn through<T>(&self, object: &mut Value, rule: impl FnOnce(&mut Value) -> Result<T, Error>) -> Result<T, Error> {
        let mut there = self.there(object);
        let done = rule(&mut there)?;
        *object = (self.conversion.from_stored)(there);
        object["apiVersion"] = self.own.as_str().into();
        Ok(done)
    }
}

impl Rules for Versioned {
    fn validate_name(&self, name: &str, object: &Value) -> Vec<String> {
        self.rules.validate_name(name, object)
    }

    fn set_defaults(&self, object: &mut Value) -> Result<(), Error> {
        self.through(object, |object| self.rules.set_defaults(object))
    }

    fn create(&self, object: &mut Value, request: &Request, errors: &mut Errors) -> Result<Vec<String>, Error> {
        self.through(object, |object| self.rules.create(object, request, errors))
    }

    fn update(
        &self,
        object: &mut Value,
        old: &Value,
        request: &Request,
        errors: &mut Errors,
    ) -> Result<Vec<String>, Error> {
        let old = self.there(old);
        self.through(object, |object| self.rules.update(object, &old, request, errors))
    }

    fn selectable(&self, object: &Value, path: &str) -> String {
        self.rules.selectable(&self.there(object), path)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        self.rules.row(&self.there(object), now)
    }

    fn grace_seconds(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        self.rules.grace_seconds(&self.there(object), requested)
    }

    fn orphaning_warning(&self) -> Option<&'static str> {
        self.rules.orphaning_warning()
    }

    fn inner_annotations(&self) -> &'static [&'static str] {
        self.rules.inner_annotations()
    }

    fn is_held(&self, object: &Value) -> bool {
        self.rules.is_held(&self.there(object))
    }

    fn begin_deletion(&self, object: &mut Value, now: Timestamp) -> Result<bool, Error> {
        self.through(object, |object| self.rules.begin_deletion(object, now))
    }
}
