//! How server-side apply sees a place in the schema: a scalar, a list or a map, owned as a whole or part by part.

use std::sync::Arc;

use crds::schema::{Field, ListType, Schema, Shape, Type, TypeId};
use serde_json::Value;

use super::path::Element;

/// A place in the schema.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    Type(TypeId),
    Field(&'a Field),
    /// What a list or a map holds.
    Inner(&'a Shape),
    /// Nothing is declared: lists are owned as a whole, maps key by key.
    Deduced,
    /// Nothing is declared, and all is owned as a whole.
    Untyped,
}

/// What is at a place.
pub enum Atom<'a> {
    Scalar(Scalar),
    List { list: &'a ListType, item: Place<'a> },
    Map { of: Of<'a>, atomic: bool },
}

/// What a map holds.
#[derive(Clone, Copy)]
pub enum Of<'a> {
    Fields(&'a Type),
    Values(Place<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    Numeric,
    String,
    Boolean,
    Untyped,
}

const ATOMIC: &ListType = &ListType::Atomic;

impl<'a> Place<'a> {
    /// A value matters only where nothing is declared.
    pub fn atom(self, schema: &'a Schema, value: Option<&Value>) -> Atom<'a> {
        let (shape, list, atomic) = match self {
            Self::Type(id) => return fields(schema, id, None),
            Self::Field(field) if field.granular => (&field.shape, &field.list, Some(false)),
            Self::Field(field) => (&field.shape, &field.list, field.atomic.then_some(true)),
            Self::Inner(shape) => (shape, ATOMIC, None),
            Self::Deduced | Self::Untyped => return self.deduce(value),
        };
        match shape {
            Shape::Bool => Atom::Scalar(Scalar::Boolean),
            Shape::Int32 | Shape::Int64 | Shape::Double => Atom::Scalar(Scalar::Numeric),
            Shape::String | Shape::Bytes | Shape::Duration => Atom::Scalar(Scalar::String),
            Shape::Time | Shape::MicroTime | Shape::Quantity => Atom::Scalar(Scalar::Untyped),
            Shape::IntOrString | Shape::Any | Shape::Either(..) | Shape::FieldsV1 => Place::Deduced.deduce(value),
            Shape::Raw => Place::Untyped.deduce(value),
            Shape::Object(id) => fields(schema, *id, atomic),
            Shape::List(item) => Atom::List { list, item: Place::Inner(item) },
            Shape::Map(of) => Atom::Map { of: Of::Values(Place::Inner(of)), atomic: atomic.unwrap_or(false) },
        }
    }

    fn deduce(self, value: Option<&Value>) -> Atom<'a> {
        match value {
            Some(Value::Array(_)) => Atom::List { list: ATOMIC, item: Place::Untyped },
            None | Some(Value::Null | Value::Object(_)) => {
                Atom::Map { of: Of::Values(self), atomic: matches!(self, Self::Untyped) }
            }
            Some(_) => Atom::Scalar(Scalar::Untyped),
        }
    }

    /// Whether a member is a declared field here.
    pub fn declares(self, schema: &'a Schema, element: &Element) -> bool {
        match (self.atom(schema, None), element) {
            (Atom::Map { of: Of::Fields(ty), .. }, Element::Field(name)) => ty.field(name).is_some(),
            _ => false,
        }
    }

    /// The place below; none where nothing can be.
    pub fn below(self, schema: &'a Schema, element: &Element) -> Option<Place<'a>> {
        match (self.atom(schema, None), element) {
            (Atom::Map { of, .. }, Element::Field(name)) => of.get(name),
            (Atom::List { item, .. }, _) => Some(item),
            _ => None,
        }
    }

    /// Whether this is a list or map that is owned as a whole.
    pub fn is_atomic(self, schema: &'a Schema) -> bool {
        match self.atom(schema, None) {
            Atom::Scalar(_) => false,
            Atom::List { list, .. } => *list == ListType::Atomic,
            Atom::Map { atomic, .. } => atomic,
        }
    }
}

/// What a field says of its ownership overrides what its type says.
fn fields(schema: &Schema, id: TypeId, atomic: Option<bool>) -> Atom<'_> {
    let ty = schema.get(id);
    Atom::Map { of: Of::Fields(ty), atomic: atomic.unwrap_or(ty.atomic) }
}

impl<'a> Of<'a> {
    /// The place of a member; none if it is not declared.
    pub fn get(self, name: &str) -> Option<Place<'a>> {
        match self {
            Self::Fields(ty) => ty.field(name).map(Place::Field).or(ty.open.then_some(Place::Deduced)),
            Self::Values(place) => Some(place),
        }
    }

    pub fn declares(self, name: &str) -> bool {
        matches!(self, Self::Fields(ty) if ty.field(name).is_some())
    }
}

/// The path element of a list's item. The errors are upstream's.
pub fn item_element(schema: &Schema, list: &ListType, item: Place, value: &Value) -> Result<Element, String> {
    let ListType::Map(keys) = list else {
        return match value {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
            scalar => Ok(Element::Value(scalar.clone())),
        };
    };
    let Value::Object(map) = value else {
        let what = if value.is_null() { "a null element" } else { "non-map elements" };
        return Err(format!("associative list with keys may not have {what}"));
    };
    let mut found: Vec<(Arc<str>, Value)> = Vec::with_capacity(keys.len());
    for key in keys {
        let value = match map.get(&**key) {
            Some(value) => Some(value.clone()),
            None => key_default(schema, item, key),
        };
        found.extend(value.map(|value| (key.clone(), value)));
    }
    if found.is_empty() {
        let keys: Vec<_> = keys.iter().map(|key| crds::field::quote(key)).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for \
             any key fields)",
            keys.join(" ")
        ));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Element::Key(found))
}

/// What a key is where an item does not give it.
fn key_default(schema: &Schema, item: Place, key: &str) -> Option<Value> {
    let Atom::Map { of: Of::Fields(ty), .. } = item.atom(schema, None) else { return None };
    ty.field(key)?.default.clone()
}

fn zero_scalar(shape: &Shape) -> Option<Value> {
    Some(match shape {
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => Value::from(0),
        Shape::Quantity => Value::from("0"),
        Shape::Duration => Value::from("0s"),
        Shape::String => Value::from(""),
        _ => return None,
    })
}

/// Whether Go has a struct for it, which it writes even if it is empty.
const fn is_struct(shape: &Shape) -> bool {
    use Shape::{Any, Duration, Either, IntOrString, MicroTime, Object, Quantity, Raw, Time};
    matches!(shape, Object(_) | Either(..) | Time | MicroTime | Duration | Quantity | IntOrString | Raw | Any)
}

/// An object of a type as Go makes it: fields that are always written have their zero value.
pub fn zero(schema: &Schema, id: TypeId) -> Value {
    let ty = schema.get(id);
    let fields = ty.fields.iter().filter_map(|field| {
        if field.pointer || field.omit_zero || (field.omit_empty && !is_struct(&field.shape)) {
            return (!field.omit_empty && !field.omit_zero).then(|| (field.json.to_string(), Value::Null));
        }
        let zero = match &field.shape {
            Shape::Object(inner) => zero(schema, *inner),
            shape => zero_scalar(shape).unwrap_or_default(),
        };
        Some((field.json.to_string(), zero))
    });
    Value::Object(fields.collect())
}
