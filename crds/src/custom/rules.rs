//! The rules of a custom kind: upstream's strategies of custom resources.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    Family, Version, column, default,
    expression::{Evaluation, Place, Ratchet},
    list,
    metadata::{self, Malformed},
    number, prune,
    value::{self, Past},
};
use crate::{
    cel::OBJECT_LIMIT,
    field::{self, Error, Errors},
    kind::{Request, Rules},
    meta::{FOREGROUND, ORPHAN},
};

pub(super) struct CustomRules {
    pub family: Arc<Family>,
    pub version: String,
}

/// Why an object cannot be used.
type Refusal = String;

impl Family {
    fn rules_of(self: &Arc<Self>, object: &Value) -> CustomRules {
        CustomRules { family: self.clone(), version: version_of(object).to_owned() }
    }

    /// An object as it is stored, in form for its own version: pruned, with that version's defaults.
    pub fn read(self: &Arc<Self>, object: Value) -> Result<Value, Refusal> {
        self.rules_of(&object).restore(object)
    }

    /// An object that another server has converted, in form for its version.
    pub fn receive(self: &Arc<Self>, mut object: Value) -> Result<Value, Refusal> {
        self.rules_of(&object).coerce(&mut object, Malformed::Dropped)?;
        Ok(object)
    }

    /// Another server converts: nothing becomes of another version here.
    fn check_conversion(&self, from: &str, to: &str) -> Result<(), Refusal> {
        if from == to || !self.uses_webhook() {
            return Ok(());
        }
        Err(format!("{} of version {from} has not been converted to {to} by the webhook of its definition", self.kind))
    }
}

fn version_of(object: &Value) -> &str {
    text(object, "apiVersion").rsplit_once('/').map(|(_, version)| version).unwrap_or_default()
}

impl CustomRules {
    fn own(&self) -> Option<&Version> {
        self.family.version(&self.version)
    }

    fn api_version(&self) -> String {
        format!("{}/{}", self.family.group, self.version)
    }

    fn is_own_kind(&self, object: &Value) -> bool {
        let group = text(object, "apiVersion").rsplit_once('/').map(|(group, _)| group).unwrap_or_default();
        text(object, "kind") == self.family.kind && group == self.family.group
    }

    /// Prunes an object by the schema of this version and brings its metadata into form; gives unknown fields.
    fn coerce(&self, object: &mut Value, malformed: Malformed) -> Result<Vec<String>, Refusal> {
        number::make_whole(object);
        let Some(members) = object.as_object_mut() else { return Ok(Vec::new()) };
        let mut unknown = metadata::coerce_root(members, malformed)?;
        if let Some(version) = self.own().filter(|_| self.is_own_kind(object)) {
            unknown.extend(prune::unknown(object, &version.structural));
            prune::nulls(object, Some(&version.structural));
            metadata::coerce_embedded(object, &version.structural, malformed, &mut unknown)
                .map_err(|error| error.to_string())?;
        }
        Ok(unknown)
    }

    fn validate(&self, object: &Value, old: Option<&Value>, errors: &mut Errors) -> Vec<String> {
        let Some(version) = self.own() else { return Vec::new() };
        let schema = &version.structural;
        let past = old.map(|value| Past { value, schema });
        value::validate(object, schema, "", past, errors);
        replicas(object, version, errors);
        status_of_scale(object, version, errors);
        metadata::validate(object, schema, "", errors);
        self.validate_lists(object, old, version, errors);
        self.validate_rules(object, old, version, errors)
    }

    fn validate_status(&self, object: &Value, old: &Value, errors: &mut Errors) -> Vec<String> {
        let Some(version) = self.own() else { return Vec::new() };
        if let (Some(status), Some(schema)) = (object.get("status"), version.structural.properties.get("status")) {
            let past = old.get("status").map(|value| Past { value, schema });
            value::validate(status, schema, "status", past, errors);
        }
        status_of_scale(object, version, errors);
        self.validate_lists(object, Some(old), version, errors);
        self.validate_rules(object, Some(old), version, errors)
    }

    /// Repetitions that were there before are let be.
    fn validate_lists(&self, object: &Value, old: Option<&Value>, version: &Version, errors: &mut Errors) {
        let check = |object: &Value| {
            let mut found = Errors::new();
            list::validate(object, &version.structural, "", &mut found);
            found
        };
        let had = old.is_some_and(|old| !check(old).is_empty());
        if !had {
            errors.append(&mut check(object));
        }
    }

    /// Gives the warnings of rules that an object breaks as it did before.
    fn validate_rules(
        &self,
        object: &Value,
        old: Option<&Value>,
        version: &Version,
        errors: &mut Errors,
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        let Some(rules) = &version.rules else { return warnings };
        if value::blocks_rules(errors) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing \
                       errors to complete validation";
            errors.push(Error::invalid("<nil>", Value::Null, why));
            return warnings;
        }
        let schema = &version.structural;
        let ratchet = old.map_or(Ratchet::NONE, |old| Ratchet::of(object, old, schema));
        let place = Place { value: object, old, schema, ratchet };
        Evaluation { errors, warnings: &mut warnings, budget: Some(OBJECT_LIMIT) }.node(rules, place, "");
        warnings
    }
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn set_generation(object: &mut Value, generation: i64) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("generation".to_owned(), generation.into());
    }
}

/// A member by the names of a path; the error is what stands in the way.
fn nested<'a>(object: &'a Value, path: &str) -> Result<Option<&'a Value>, Refusal> {
    let path = path.strip_prefix('.').unwrap_or(path);
    let mut value = object;
    let mut walked = String::new();
    for name in path.split('.') {
        walked = format!("{walked}.{name}");
        let Value::Object(members) = value else {
            return Err(format!(
                "{walked} accessor error: {} is of the type {}, expected map[string]interface{{}}",
                number::shown(value),
                number::go_type(value)
            ));
        };
        let Some(inner) = members.get(name) else { return Ok(None) };
        value = inner;
    }
    Ok(Some(value))
}

/// A whole number at a path, as upstream reads those of a Scale.
pub fn whole_at(object: &Value, path: &str) -> Result<Option<i64>, Refusal> {
    let Some(value) = nested(object, path)? else { return Ok(None) };
    value.as_i64().map(Some).ok_or_else(|| misfit(path, value, "int64"))
}

/// A text at a path.
pub fn text_at(object: &Value, path: &str) -> Result<Option<String>, Refusal> {
    let Some(value) = nested(object, path)? else { return Ok(None) };
    value.as_str().map(|text| Some(text.to_owned())).ok_or_else(|| misfit(path, value, "string"))
}

fn misfit(path: &str, value: &Value, wanted: &str) -> Refusal {
    let path = path.strip_prefix('.').unwrap_or(path);
    format!(
        ".{path} accessor error: {} is of the type {}, expected {wanted}",
        number::shown(value),
        number::go_type(value)
    )
}

fn replicas(object: &Value, version: &Version, errors: &mut Errors) {
    if let Some(scale) = &version.scale {
        count(object, &scale.replicas, errors);
    }
}

fn status_of_scale(object: &Value, version: &Version, errors: &mut Errors) {
    let Some(scale) = &version.scale else { return };
    count(object, &scale.status_replicas, errors);
    if !scale.selector.is_empty()
        && let Err(why) = text_at(object, &scale.selector)
    {
        errors.push(Error::invalid(&scale.selector, "", why));
    }
}

fn count(object: &Value, path: &str, errors: &mut Errors) {
    match whole_at(object, path) {
        Err(why) => errors.push(Error::invalid(path, 0, why)),
        Ok(Some(count)) if count < 0 => {
            errors.push(Error::invalid(path, count, "should be a non-negative integer"));
        }
        Ok(Some(count)) if count > i64::from(i32::MAX) => {
            errors.push(Error::invalid(path, count, format!("should be less than or equal to {}", i32::MAX)));
        }
        Ok(_) => {}
    }
}

/// What differs outside of metadata raises the generation.
fn differs(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return new != old };
    let content = |object: &Map<String, Value>| {
        object.iter().filter(|(name, _)| *name != "metadata").map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
    };
    content(new) != content(old)
}

/// Finalizers that might be taken for somebody else's.
fn warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    let finalizers = |object: &Value| -> Vec<String> {
        let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let before = old.map(&finalizers).unwrap_or_default();
    let mut added = finalizers(object);
    added.retain(|finalizer| !before.contains(finalizer));
    added.sort();
    added.dedup();
    let mut told = Vec::new();
    for finalizer in &added {
        let prefix = format!("metadata.finalizers: {}", field::quote(finalizer));
        told.extend(field::qualified_name(finalizer).into_iter().map(|why| format!("{prefix}: {why}")));
        if !finalizer.contains('/') && ![ORPHAN, FOREGROUND, "kubernetes"].contains(&finalizer.as_str()) {
            let path = if finalizer.contains('.') { " including a path (/)" } else { "" };
            told.push(format!(
                "{prefix}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other \
                 finalizer writers"
            ));
        }
    }
    told
}

impl Rules for CustomRules {
    fn validate_name(&self, name: &str, _object: &Value) -> Vec<String> {
        field::dns_subdomain(name)
    }

    fn accept(&self, object: &mut Value) -> Result<Vec<String>, Refusal> {
        self.coerce(object, Malformed::Refused)
    }

    fn restore(&self, mut object: Value) -> Result<Value, Refusal> {
        let from = version_of(&object).to_owned();
        if self.family.version(&from).is_none() {
            return Err(format!(
                "request to convert CR from an invalid group/version: {}",
                text(&object, "apiVersion")
            ));
        }
        self.family.check_conversion(&from, &self.version)?;
        let stored = Self { family: self.family.clone(), version: from };
        stored.coerce(&mut object, Malformed::Dropped)?;
        stored.default(&mut object);
        if object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default() == 0 {
            set_generation(&mut object, 1);
        }
        if stored.version != self.version {
            object["apiVersion"] = self.api_version().into();
            self.coerce(&mut object, Malformed::Dropped)?;
        }
        Ok(object)
    }

    fn keep(&self, mut object: Value) -> Result<Value, Refusal> {
        if self.version != self.family.stored {
            self.family.check_conversion(&self.version, &self.family.stored)?;
            let stored = Self { family: self.family.clone(), version: self.family.stored.clone() };
            object["apiVersion"] = stored.api_version().into();
            stored.coerce(&mut object, Malformed::Refused)?;
        }
        Ok(object)
    }

    fn set_defaults(&self, object: &mut Value) -> Result<(), serde_json::Error> {
        self.default(object);
        Ok(())
    }

    fn create(
        &self,
        object: &mut Value,
        _request: &Request,
        errors: &mut Errors,
    ) -> Result<Vec<String>, serde_json::Error> {
        if self.own().is_some_and(|version| version.has_status)
            && let Some(members) = object.as_object_mut()
        {
            members.remove("status");
        }
        set_generation(object, 1);
        let mut told = self.validate(object, None, errors);
        told.extend(warnings(object, None));
        Ok(told)
    }

    fn update(
        &self,
        object: &mut Value,
        old: &Value,
        request: &Request,
        errors: &mut Errors,
    ) -> Result<Vec<String>, serde_json::Error> {
        if request.subresource == "status" {
            let status = object.get("status").cloned();
            let managed = object.pointer("/metadata/managedFields").cloned();
            *object = old.clone();
            set(object, "status", status);
            if let Some(metadata) = object.get_mut("metadata") {
                set(metadata, "managedFields", managed);
            }
            return Ok(self.validate_status(object, old, errors));
        }
        if self.own().is_some_and(|version| version.has_status) {
            set(object, "status", old.get("status").cloned());
        }
        if differs(object, old) {
            let before = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
            set_generation(object, before + 1);
        }
        let mut told = self.validate(object, Some(old), errors);
        told.extend(warnings(object, Some(old)));
        Ok(told)
    }

    fn selectable(&self, object: &Value, path: &str) -> String {
        let known = self.own().and_then(|version| version.selectable.iter().find(|(name, _)| name == path));
        let found = known.and_then(|(_, path)| path.find(object).first().copied());
        found.filter(|value| !value.is_null()).map(number::shown).unwrap_or_default()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        self.own().map(|version| column::row(object, &version.printed, now)).unwrap_or_default()
    }
}

impl CustomRules {
    fn default(&self, object: &mut Value) {
        if let Some(version) = self.own().filter(|_| self.is_own_kind(object)) {
            default::fill(object, &version.structural);
        }
    }
}

fn set(object: &mut Value, name: &str, value: Option<Value>) {
    let Some(members) = object.as_object_mut() else { return };
    match value {
        Some(value) => members.insert(name.to_owned(), value),
        None => members.remove(name),
    };
}
