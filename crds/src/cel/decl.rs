//! Declared types: what a schema says of a value's type, its fields, and how large it can get.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use base64::Engine;
use serde_json::Value as Json;

use super::{
    escape::escape,
    list::List,
    map::Map,
    time::{self, Moment},
    typing::Type,
    value::{EvalError, Outcome, Text, Value},
};

/// A type as it is declared: by a schema (`schema::declared`), or with the constructors here.
#[derive(Clone, Debug)]
pub struct Decl {
    ty: Type,
    shape: Shape,
    /// The most items, entries, characters or bytes that a value has; the largest number if that is not known.
    max_elements: u64,
    /// The least bytes of a value's JSON, of which the most items of a list are reckoned.
    min_size: u64,
    nullable: bool,
}

#[derive(Clone, Debug)]
enum Shape {
    Dynamic,
    IntOrString,
    Scalar(Scalar),
    List(Arc<Decl>, ListType),
    Map(Arc<Decl>, Arc<Decl>),
    Object(Fields),
}

/// How the values of a scalar are written in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    /// Base64.
    Bytes,
    /// `2020-01-01`
    Date,
    /// `2020-01-01T00:00:00Z`
    DateTime,
    Duration,
}

/// How a list compares and adds: `x-kubernetes-list-type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    Map(Vec<Arc<str>>),
}

#[derive(Clone, Debug)]
struct Fields {
    /// By the names that expressions use; beside each its name in JSON.
    by_identifier: BTreeMap<Arc<str>, (Arc<str>, Arc<Decl>)>,
    by_name: BTreeMap<Arc<str>, Arc<str>>,
}

impl Fields {
    /// A field by its identifier; reserved words are identifiers here too, where they follow a dot.
    fn called(&self, identifier: &str) -> Option<&(Arc<str>, Arc<Decl>)> {
        let escaped = || escape(identifier).filter(|escaped| escaped != identifier);
        self.by_identifier.get(identifier).or_else(|| self.by_identifier.get(&*escaped().filter(|e| is_word(e))?))
    }
}

/// Whether this is the escape of a reserved word, and of nothing else.
fn is_word(escaped: &str) -> bool {
    super::escape::unescape(escaped).is_some_and(|word| super::escape::is_reserved(&word))
}

const UNLIMITED: u64 = u64::MAX;

impl Decl {
    fn new(ty: Type, shape: Shape, min_size: u64) -> Self {
        Self { ty, shape, max_elements: 0, min_size, nullable: false }
    }

    /// The type of what no schema describes.
    pub fn dynamic() -> &'static Self {
        static DYNAMIC: LazyLock<Decl> = LazyLock::new(|| Decl::new(Type::Dyn, Shape::Dynamic, 1));
        &DYNAMIC
    }

    /// As `dynamic`, under the name `any`.
    pub fn any() -> Self {
        Self::new(Type::Any, Shape::Dynamic, 1)
    }

    /// A type whose values are never JSON: a quantity, an authorizer.
    pub fn of(ty: Type) -> Self {
        Self::new(ty, Shape::Dynamic, 8)
    }

    pub fn int_or_string() -> Self {
        Self::new(Type::Dyn, Shape::IntOrString, 1)
    }

    pub fn scalar(scalar: Scalar) -> Self {
        let (ty, min_size) = match scalar {
            Scalar::Null => (Type::Null, 4),
            Scalar::Bool => (Type::Bool, 4),
            Scalar::Int => (Type::Int, 1),
            Scalar::Uint => (Type::Uint, 1),
            Scalar::Double => (Type::Double, 1),
            Scalar::String => (Type::String, 2),
            Scalar::Bytes => (Type::Bytes, 2),
            Scalar::Date => (Type::Timestamp, 12),
            Scalar::DateTime => (Type::Timestamp, 21),
            Scalar::Duration => (Type::Duration, 3),
        };
        Self::new(ty, Shape::Scalar(scalar), min_size)
    }

    pub fn string() -> Self {
        Self::scalar(Scalar::String)
    }

    pub fn list(item: Self, list_type: ListType) -> Self {
        Self::new(Type::list(item.ty.clone()), Shape::List(Arc::new(item), list_type), 2).max_elements(UNLIMITED)
    }

    pub fn map(key: Self, value: Self) -> Self {
        let ty = Type::map(key.ty.clone(), value.ty.clone());
        Self::new(ty, Shape::Map(Arc::new(key), Arc::new(value)), 2).max_elements(UNLIMITED)
    }

    /// An object; fields whose names no expression can write are left out. The name must be the type's only.
    pub fn object(name: &str, fields: impl IntoIterator<Item = (String, Self)>) -> Self {
        let mut known = Fields { by_identifier: BTreeMap::new(), by_name: BTreeMap::new() };
        for (name, decl) in fields {
            if let Some(identifier) = escape(&name) {
                let (name, identifier): (Arc<str>, Arc<str>) = (name.into(), identifier.into());
                known.by_name.insert(name.clone(), identifier.clone());
                known.by_identifier.insert(identifier, (name, Arc::new(decl)));
            }
        }
        Self::new(Type::object(name), Shape::Object(known), 2)
    }

    #[must_use]
    pub fn max_elements(self, max_elements: u64) -> Self {
        Self { max_elements, ..self }
    }

    #[must_use]
    pub(crate) fn min_size(self, min_size: u64) -> Self {
        Self { min_size, ..self }
    }

    #[must_use]
    pub(crate) fn nullable(self, nullable: bool) -> Self {
        Self { nullable, ..self }
    }

    pub const fn ty(&self) -> &Type {
        &self.ty
    }

    /// The least bytes of a value's JSON.
    pub const fn least_bytes(&self) -> u64 {
        self.min_size
    }

    pub(crate) const fn most_elements(&self) -> u64 {
        self.max_elements
    }

    pub(crate) const fn is_dynamic(&self) -> bool {
        matches!(self.shape, Shape::Dynamic)
    }

    pub(crate) const fn is_object(&self) -> bool {
        matches!(self.shape, Shape::Object(_))
    }

    /// The declaration of a list's items or a map's values.
    pub fn item(&self) -> Option<&Self> {
        match &self.shape {
            Shape::List(item, _) | Shape::Map(_, item) => Some(item),
            _ => None,
        }
    }

    pub(crate) fn key(&self) -> Option<&Self> {
        match &self.shape {
            Shape::Map(key, _) => Some(key),
            _ => None,
        }
    }

    pub(crate) const fn list_type(&self) -> &ListType {
        match &self.shape {
            Shape::List(_, list_type) => list_type,
            _ => &ListType::Atomic,
        }
    }

    /// The declaration of a field by the name that expressions use.
    pub fn field(&self, identifier: &str) -> Option<&Self> {
        match &self.shape {
            Shape::Object(fields) => fields.called(identifier).map(|(_, decl)| &**decl),
            _ => None,
        }
    }

    /// The declaration of what an expression calls so, and its JSON name where that may be another.
    pub(crate) fn child<'d>(&'d self, identifier: &str) -> Option<(Option<&'d str>, &'d Self)> {
        match &self.shape {
            Shape::Object(fields) => fields.called(identifier).map(|(name, decl)| (Some(&**name), &**decl)),
            Shape::Map(_, value) => Some((None, value)),
            _ => None,
        }
    }

    /// What expressions call a JSON name.
    pub(crate) fn written<'n>(&'n self, name: &'n str) -> Option<Text<'n>> {
        match &self.shape {
            Shape::Object(fields) => fields.by_name.get(name).map(|identifier| Text::Borrowed(identifier)),
            Shape::Map(..) => Some(Text::Borrowed(name)),
            _ => None,
        }
    }

    pub(crate) fn knows(&self, name: &str) -> bool {
        match &self.shape {
            Shape::Object(fields) => fields.by_name.contains_key(name),
            _ => true,
        }
    }

    /// Every object type within, by name.
    pub(crate) fn objects(self: &Arc<Self>, visit: &mut impl FnMut(&Arc<Self>)) {
        match &self.shape {
            Shape::Object(fields) => {
                visit(self);
                for (_, decl) in fields.by_identifier.values() {
                    decl.objects(visit);
                }
            }
            Shape::List(item, _) => item.objects(visit),
            Shape::Map(key, value) => {
                key.objects(visit);
                value.objects(visit);
            }
            _ => {}
        }
    }

    /// The value of JSON of this type.
    pub(crate) fn value<'a>(&'a self, json: &'a Json) -> Outcome<'a> {
        if self.is_dynamic() {
            return Ok(Value::json(json));
        }
        let wrong = |message: &str| Err(EvalError::new(message));
        match (&self.shape, json) {
            (_, Json::Null) if self.nullable => Ok(Value::Null),
            (_, Json::Null) => wrong("invalid data, got null for schema with nullable=false"),
            (Shape::IntOrString, Json::String(_) | Json::Number(_)) if json.is_string() || json.is_i64() => {
                Ok(Value::json(json))
            }
            (Shape::IntOrString, _) => {
                wrong("invalid data, expected XIntOrString value to be either a string or integer")
            }
            (Shape::Object(_) | Shape::Map(..), Json::Object(map)) => Ok(Value::Map(Map::json(map, self))),
            (Shape::Object(_) | Shape::Map(..), _) => {
                wrong("invalid data, expected a map for the provided schema with type=object")
            }
            (Shape::List(..), Json::Array(items)) => Ok(Value::List(List::json(items, self))),
            (Shape::List(..), _) => wrong("invalid data, expected an array for the provided schema with type=array"),
            (Shape::Scalar(scalar), json) => scalar.value(json),
            (Shape::Dynamic, json) => Ok(Value::json(json)),
        }
    }
}

impl Scalar {
    fn value(self, json: &Json) -> Outcome<'_> {
        let wrong = |want: &str| Err(EvalError::new(format!("invalid data, expected {want}, got {}", go_type(json))));
        match (self, json) {
            (Self::Bool, Json::Bool(b)) => Ok(Value::Bool(*b)),
            (Self::Bool, _) => wrong("bool"),
            (Self::Int, Json::Number(n)) if n.is_i64() => Ok(Value::json(json)),
            (Self::Int, _) => wrong("int"),
            (Self::Uint, Json::Number(n)) if n.is_u64() => Ok(Value::Uint(n.as_u64().unwrap_or_default())),
            (Self::Uint, _) => wrong("uint"),
            (Self::Double, Json::Number(n)) => Ok(Value::Double(n.as_f64().unwrap_or(f64::NAN))),
            (Self::Double, _) => wrong("float"),
            (Self::Null, _) => wrong("null"),
            (_, Json::String(text)) => self.text(text),
            _ => wrong("string"),
        }
    }

    fn text(self, text: &str) -> Outcome<'_> {
        let bad = |what: &str, why: &str| Err(EvalError::new(format!("Invalid {what} {text}: {why}")));
        match self {
            Self::Bytes => match base64::engine::general_purpose::STANDARD.decode(text) {
                Ok(bytes) => Ok(Value::Bytes(bytes.into())),
                Err(why) => bad("byte formatted string", &why.to_string()),
            },
            Self::Duration => match time::parse_duration(text) {
                Some(nanos) => Ok(Value::Duration(nanos)),
                None => bad("duration", &format!("unable to parse {text} as duration")),
            },
            Self::Date => match Moment::date(text) {
                Some(moment) => Ok(Value::Timestamp(moment)),
                None => bad("date formatted string", "cannot parse as a date"),
            },
            Self::DateTime => match Moment::date_time(text) {
                Some(moment) => Ok(Value::Timestamp(moment)),
                None => bad("date-time formatted string", "cannot parse as a date-time"),
            },
            _ => Ok(Value::String(Text::Borrowed(text))),
        }
    }
}

/// What Go calls the type of decoded JSON.
fn go_type(json: &Json) -> &'static str {
    match json {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(n) if n.is_i64() => "int64",
        Json::Number(_) => "float64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}
