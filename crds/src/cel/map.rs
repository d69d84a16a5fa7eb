//! Maps and objects: borrowed JSON, or what an expression made.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map as JsonMap, Value as Json};

use super::{
    decl::Decl,
    equality::equal,
    value::{EvalError, Outcome, Text, Value},
};

/// A map.
#[derive(Clone)]
pub enum Map<'a> {
    /// An object as it came, with the declaration of the map or object itself, or the dynamic one.
    Json(&'a JsonMap<String, Json>, &'a Decl),
    Made(Arc<BTreeMap<Key, Value<'a>>>),
    /// A map of maps, in which every key is found: with an empty map where there is none.
    Defaulting(Arc<BTreeMap<Key, Value<'a>>>),
}

/// What may be the key of a map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Arc<str>),
}

impl Key {
    pub(crate) fn of(value: &Value<'_>) -> Result<Self, EvalError> {
        match value {
            Value::Bool(b) => Ok(Self::Bool(*b)),
            Value::Int(n) => Ok(Self::Int(*n)),
            Value::Uint(n) => Ok(Self::Uint(*n)),
            Value::String(Text::Shared(text)) => Ok(Self::String(text.clone())),
            Value::String(Text::Borrowed(text)) => Ok(Self::String((*text).into())),
            other => Err(EvalError::new(format!("unsupported key type: {}", other.type_of().name()))),
        }
    }

    fn value<'a>(&self) -> Value<'a> {
        match self {
            Self::Bool(b) => Value::Bool(*b),
            Self::Int(n) => Value::Int(*n),
            Self::Uint(n) => Value::Uint(*n),
            Self::String(text) => Value::String(Text::Shared(text.clone())),
        }
    }
}

impl<'a> Map<'a> {
    pub(crate) const fn json(map: &'a JsonMap<String, Json>, decl: &'a Decl) -> Self {
        Self::Json(map, decl)
    }

    pub fn new(entries: BTreeMap<Key, Value<'a>>) -> Self {
        Self::Made(Arc::new(entries))
    }

    pub(crate) fn is_plain(&self) -> bool {
        !matches!(self, Self::Json(_, decl) if !decl.is_dynamic())
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Json(map, _) => map.len(),
            Self::Made(entries) | Self::Defaulting(entries) => entries.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a field by the name that expressions use for it.
    pub fn field(&self, name: &str) -> Option<Outcome<'a>> {
        match self {
            Self::Json(map, decl) if decl.is_dynamic() => map.get(name).map(|json| Ok(Value::json(json))),
            Self::Json(map, decl) => decl.child(name).and_then(|(json_name, child)| {
                let json = map.get(json_name.unwrap_or(name))?;
                (!(json.is_null() && decl.is_object())).then(|| child.value(json))
            }),
            Self::Made(entries) => entries.get(&Key::String(name.into())).cloned().map(Ok),
            Self::Defaulting(entries) => {
                let found = entries.get(&Key::String(name.into())).cloned();
                Some(Ok(found.unwrap_or_else(|| Value::Map(Self::new(BTreeMap::new())))))
            }
        }
    }

    /// The value at a key; a number finds its equal of another type.
    pub(crate) fn find(&self, key: &Value<'a>) -> Option<Outcome<'a>> {
        if let Value::String(name) = key {
            return self.field(name);
        }
        let Self::Made(entries) = self else {
            return (!self.is_plain()).then(|| Err(EvalError::no_such_overload()));
        };
        let whole = match key {
            Value::Bool(b) => return entries.get(&Key::Bool(*b)).cloned().map(Ok),
            Value::Int(n) => i128::from(*n),
            Value::Uint(n) => i128::from(*n),
            Value::Double(n) if n.fract() == 0.0 && n.abs() < 1e19 => *n as i128,
            _ => return None,
        };
        let int = i64::try_from(whole).ok().and_then(|n| entries.get(&Key::Int(n)));
        let uint = || u64::try_from(whole).ok().and_then(|n| entries.get(&Key::Uint(n)));
        int.or_else(uint).cloned().map(Ok)
    }

    pub(crate) fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Json(map, decl) if decl.is_dynamic() => {
                map.keys().map(|key| Value::String(Text::Borrowed(key))).collect()
            }
            Self::Json(map, decl) => map.keys().filter_map(|key| decl.written(key)).map(Value::String).collect(),
            Self::Made(entries) | Self::Defaulting(entries) => entries.keys().map(Key::value).collect(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Value<'a>, Outcome<'a>)> + '_ {
        self.keys().into_iter().filter_map(|key| self.find(&key).map(|value| (key, value)))
    }

    /// The map with one entry more; cheap where nobody else holds the map.
    pub(crate) fn insert(self, key: &Value<'a>, value: Value<'a>) -> Result<Self, EvalError> {
        let mut entries = match self {
            Self::Made(entries) => entries,
            other => {
                let entries = other.iter().map(|(key, value)| Ok((Key::of(&key)?, value?)));
                Arc::new(entries.collect::<Result<_, EvalError>>()?)
            }
        };
        if Arc::make_mut(&mut entries).insert(Key::of(key)?, value).is_some() {
            return Err(EvalError::new(format!("insert failed: key {key} already exists")));
        }
        Ok(Self::Made(entries))
    }

    pub(crate) fn equals(&self, other: &Self) -> Result<bool, EvalError> {
        if self.len() != other.len() {
            return Ok(false);
        }
        if let (Self::Json(one, decl), false) = (self, self.is_plain()) {
            // What the schema does not know cannot be compared but as JSON.
            for (name, json) in one.iter().filter(|(name, _)| !decl.knows(name)) {
                let Self::Json(other, _) = other else {
                    return Err(EvalError::no_such_overload());
                };
                if other.get(name).is_some_and(|o| o != json) {
                    return Ok(false);
                }
            }
        }
        for (key, value) in self.iter() {
            let Some(found) = other.find(&key) else {
                return Ok(false);
            };
            match equal(&value?, &found?) {
                Ok(true) => {}
                Err(_) if self.is_plain() => {}
                different => return different,
            }
        }
        Ok(true)
    }

    pub(crate) fn to_json(&self) -> Result<JsonMap<String, Json>, EvalError> {
        if let Self::Json(map, _) = self {
            return Ok((*map).clone());
        }
        self.iter()
            .map(|(key, value)| match key.as_str() {
                Some(name) => Ok((name.to_owned(), value?.to_json()?)),
                None => {
                    let message = format!("map key {key:?} is of type {}, not string", key.type_of());
                    Err(EvalError::new(message))
                }
            })
            .collect()
    }
}
