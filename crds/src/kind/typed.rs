//! The rules of a built-in kind: JSON in and out, a Kubernetes type in between.

use std::marker::PhantomData;

use jiff::Timestamp;
use serde::{
    de::value::MapDeserializer,
    de::{Deserializer, IntoDeserializer, Visitor},
    forward_to_deserialize_any,
};
use serde_json::{Map, Value};

use super::{Facts, Kind, Request, Rules};
use crate::{
    condition,
    field::Errors,
    schema::{self, Schema, Shape},
};

const METADATA: &str = "metadata";
const MANAGED: &str = "managedFields";

pub struct Typed<K> {
    facts: Facts,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Typed<K> {
    pub const fn new(facts: Facts) -> Self {
        Self { facts, kind: PhantomData }
    }

    fn decode(&self, object: &Value) -> Result<K, serde_json::Error> {
        self.read(object).map(|(typed, _)| typed)
    }

    /// The object as its type, and whether it says the same as JSON: times and quantities have their one form there, too.
    fn read(&self, object: &Value) -> Result<(K, bool), serde_json::Error> {
        let marked = K::NEEDS_SELECTOR.then(|| with_marked_selector(object)).flatten();
        let whole = marked.as_ref().unwrap_or(object);
        if let Ok(typed) = K::deserialize(Lean::Object(whole)) {
            let says_kind = !K::HOLDS_OBJECTS && ["apiVersion", "kind"].iter().all(|name| object.get(name).is_some());
            return Ok((typed, says_kind));
        }
        let filled = condition::with_zero_times(whole);
        let mut object = filled.unwrap_or_else(|| whole.clone());
        let typed = K::deserialize(Lean::Object(&object)).or_else(|still| {
            loosen(&mut object, true);
            if let Some((schema, ty)) = self.facts.get() {
                forget_kinds(schema, &Shape::Object(ty), &mut object, true);
            }
            // What is wrong yet is told as it was before.
            K::deserialize(Lean::Object(&object)).map_err(|_| still)
        })?;
        Ok((typed, false))
    }

    /// The same, with a copy to compare with what is made of it.
    fn read_to_change(&self, object: &Value) -> Result<(K, Option<K>), serde_json::Error> {
        let (typed, is_same) = self.read(object)?;
        let before = is_same.then(|| typed.clone());
        Ok((typed, before))
    }

    /// Puts in place of an object what was made of it; it stays as it is if that is nothing else.
    fn write(&self, typed: K, before: Option<K>, object: &mut Value) -> Result<(), serde_json::Error> {
        if before.is_some_and(|before| before == typed) {
            return Ok(());
        }
        let mut made = serde_json::to_value(typed)?;
        if let Some((schema, ty)) = self.facts.get() {
            schema::nil::keep(schema, ty, object, &mut made);
        }
        let managed = object.get_mut(METADATA).and_then(|metadata| metadata.get_mut(MANAGED)).map(Value::take);
        if let (Some(managed), Some(metadata)) = (managed, made.get_mut(METADATA).and_then(Value::as_object_mut)) {
            metadata.insert(MANAGED.to_owned(), managed);
        }
        *object = made;
        Ok(())
    }
}

/// JSON as it is read into a type: without the managed fields, which no rule looks into, and which are long.
enum Lean<'a> {
    Object(&'a Value),
    Metadata(&'a Value),
    Other(&'a Value),
}

impl<'a> Lean<'a> {
    const fn value(&self) -> &'a Value {
        match self {
            Self::Object(value) | Self::Metadata(value) | Self::Other(value) => value,
        }
    }
}

impl<'de> IntoDeserializer<'de, serde_json::Error> for Lean<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Lean<'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self {
            Self::Object(Value::Object(fields)) => {
                visitor.visit_map(MapDeserializer::new(fields.iter().map(|(name, value)| {
                    (name.as_str(), if name == METADATA { Self::Metadata(value) } else { Self::Other(value) })
                })))
            }
            Self::Metadata(Value::Object(fields)) => {
                let kept = fields.iter().filter(|(name, _)| *name != MANAGED);
                visitor.visit_map(MapDeserializer::new(kept.map(|(name, value)| (name.as_str(), value))))
            }
            other => other.value().deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        if self.value().is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

/// Objects within others are of the kind that their place says, whatever they say themselves.
fn forget_kinds(schema: &Schema, shape: &Shape, value: &mut Value, is_whole: bool) {
    match (shape, value) {
        (Shape::Object(id), Value::Object(fields)) => {
            let ty = schema.get(*id);
            if !is_whole && !ty.kinds.is_empty() {
                fields.retain(|name, _| !matches!(name.as_str(), "apiVersion" | "kind"));
            }
            for field in &ty.fields {
                if let Some(value) = fields.get_mut(&*field.json) {
                    forget_kinds(schema, &field.shape, value, false);
                }
            }
        }
        (Shape::List(item), Value::Array(items)) => {
            items.iter_mut().for_each(|value| forget_kinds(schema, item, value, false));
        }
        _ => {}
    }
}

/// Takes out what Go reads as nothing and our types do not: nulls in maps, objects within others that leave it empty what
/// they are.
fn loosen(value: &mut Value, is_whole: bool) {
    match value {
        Value::Object(fields) => {
            let says_nothing =
                |name: &str, value: &Value| !is_whole && matches!(name, "apiVersion" | "kind") && value == "";
            fields.retain(|name, value| !value.is_null() && !says_nothing(name, value));
            fields.values_mut().for_each(|value| loosen(value, false));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| loosen(item, false)),
        _ => {}
    }
}

fn selector(object: &Value) -> Option<&Map<String, Value>> {
    object.pointer("/spec/selector")?.as_object()
}

/// An empty selector gets an empty map of labels, which one that is missing has not once it is decoded.
fn with_marked_selector(object: &Value) -> Option<Value> {
    selector(object).filter(|selector| selector.is_empty())?;
    let mut marked = object.clone();
    marked["spec"]["selector"]["matchLabels"] = Map::new().into();
    Some(marked)
}

impl<K: Kind> Rules for Typed<K> {
    fn validate_name(&self, name: &str, object: &Value) -> Vec<String> {
        K::validate_name_of(name, object)
    }

    fn accept(&self, object: &mut Value) -> Result<Vec<String>, String> {
        K::unreadable(object).map_or_else(|| Ok(Vec::new()), Err)
    }

    fn set_defaults(&self, object: &mut Value) -> Result<(), serde_json::Error> {
        let (mut typed, before) = self.read_to_change(object)?;
        typed.set_defaults();
        self.write(typed, before, object)
    }

    fn create(
        &self,
        object: &mut Value,
        request: &Request,
        errors: &mut Errors,
    ) -> Result<Vec<String>, serde_json::Error> {
        let (mut typed, before) = self.read_to_change(object)?;
        let request = &Request { sent: object, ..request.clone() };
        let mut warnings = typed.sent_warnings();
        typed.prepare_create(request);
        let others = errors.len();
        typed.validate_create(request, errors);
        errors.iter_mut().skip(others).for_each(|error| error.tell_nil(request.sent));
        warnings.extend(typed.warnings(None));
        // As upstream's storage, which sets defaults whenever it reads.
        typed.set_defaults();
        self.write(typed, before, object)?;
        Ok(warnings)
    }

    fn update(
        &self,
        object: &mut Value,
        old: &Value,
        request: &Request,
        errors: &mut Errors,
    ) -> Result<Vec<String>, serde_json::Error> {
        let (mut typed, before) = self.read_to_change(object)?;
        let old = self.decode(old)?;
        let request = &Request { sent: object, ..request.clone() };
        let others = errors.len();
        if request.subresource.is_empty() {
            typed.prepare_update(&old, request);
            typed.validate_update(&old, request, errors);
        } else {
            typed.prepare_subresource(&old, request);
            typed.validate_subresource(&old, request, errors);
        }
        errors.iter_mut().skip(others).for_each(|error| error.tell_nil(request.sent));
        let warnings = if request.subresource.is_empty() { typed.warnings(Some(&old)) } else { Vec::new() };
        typed.set_defaults();
        self.write(typed, before, object)?;
        Ok(warnings)
    }

    fn selectable(&self, object: &Value, path: &str) -> String {
        self.decode(object).map(|typed| typed.selectable(path)).unwrap_or_default()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        self.decode(object).map(|typed| typed.row(now)).unwrap_or_default()
    }

    fn grace_seconds(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        self.decode(object).ok()?.grace_seconds(requested)
    }

    fn orphaning_warning(&self) -> Option<&'static str> {
        K::ORPHANING_WARNING
    }

    fn inner_annotations(&self) -> &'static [&'static str] {
        K::INNER_ANNOTATIONS
    }

    fn is_held(&self, object: &Value) -> bool {
        self.decode(object).is_ok_and(|typed| typed.is_held())
    }

    fn begin_deletion(&self, object: &mut Value, now: Timestamp) -> Result<bool, serde_json::Error> {
        let mut typed: K = self.decode(object)?;
        if !typed.begin_deletion(now) {
            return Ok(false);
        }
        self.write(typed, None, object)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
    use serde_json::json;

    use super::*;
    use crate::kind::Definition;

    fn defaulted<K: Kind>(mut object: Value) -> Value {
        Definition::of::<K>().rules.set_defaults(&mut object).unwrap();
        object
    }

    #[test]
    fn an_object_that_needs_no_defaults_stays_as_it_is() {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}, "binaryData": {},
            "metadata": {"name": "c", "labels": null, "managedFields": [{"fieldsV1": {"f:data": {}}}]},
        });
        assert_eq!(defaulted::<ConfigMap>(object.clone()), object);
    }

    #[test]
    fn managed_fields_outlast_defaults() {
        let managed = json!([{"manager": "m", "fieldsV1": {"f:spec": {}}}]);
        let made = defaulted::<Deployment>(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "managedFields": managed},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {}},
        }));
        assert_eq!((&made["spec"]["replicas"], &made["metadata"]["managedFields"]), (&json!(1), &managed));
    }

    #[test]
    fn what_does_not_say_its_kind_is_told_it() {
        assert_eq!(defaulted::<ConfigMap>(json!({"metadata": {}}))["kind"], "ConfigMap");
    }
}
