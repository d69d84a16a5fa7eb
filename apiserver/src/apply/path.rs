//! One step of the path to a field: a member's name, the keys of a list item, the value of a set's item, an index.

use std::{cmp::Ordering, fmt, sync::Arc};

use serde_json::{Number, Value};

use crate::patch::print;

#[derive(Clone, Debug)]
pub enum Element {
    Field(Arc<str>),
    /// Sorted by name.
    Key(Vec<(Arc<str>, Value)>),
    Value(Value),
    Index(i64),
}

impl Element {
    pub fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    /// Reads `f:name`, `k:{"name":"web"}`, `v:"a"`, `i:0`. None for a kind that a later version may know.
    pub fn decode(text: &str) -> Result<Option<Self>, String> {
        if text.len() < 2 {
            return Err("key must be 2 characters long:".to_owned());
        }
        let Some((kind, rest)) = text.split_once(':').filter(|(kind, _)| kind.len() == 1) else {
            return Err(format!("missing colon: {text}"));
        };
        let json = |rest| serde_json::from_str::<Value>(rest).map_err(|e| e.to_string());
        Ok(match kind {
            "f" => Some(Self::field(rest)),
            "v" => Some(Self::Value(json(rest)?)),
            "i" => Some(Self::Index(rest.parse().map_err(|_| format!("invalid index: {rest}"))?)),
            "k" => {
                let Value::Object(keys) = json(rest)? else { return Err(format!("invalid key: {rest}")) };
                let mut keys: Vec<(Arc<str>, Value)> =
                    keys.into_iter().map(|(name, value)| (name.into(), value)).collect();
                keys.sort_by(|a, b| a.0.cmp(&b.0));
                Some(Self::Key(keys))
            }
            _ => None,
        })
    }

    pub fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Value(value) => format!("v:{}", json(value)),
            Self::Index(i) => format!("i:{i}"),
            Self::Key(keys) => {
                let keys: Vec<_> =
                    keys.iter().map(|(name, value)| format!("{}:{}", Value::from(&**name), json(value))).collect();
                format!("k:{{{}}}", keys.join(","))
            }
        }
    }

    const fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                let pairs = a.iter().zip(b).map(|(a, b)| a.0.cmp(&b.0).then_with(|| order(&a.1, &b.1)));
                pairs.fold(Ordering::Equal, Ordering::then).then_with(|| a.len().cmp(&b.len()))
            }
            (Self::Value(a), Self::Value(b)) => order(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                let keys: Vec<_> = keys.iter().map(|(name, value)| format!("{name}={}", shown(value))).collect();
                write!(f, "[{}]", keys.join(","))
            }
            Self::Value(value) => write!(f, "[={}]", shown(value)),
            Self::Index(i) => write!(f, "[{i}]"),
        }
    }
}

/// As Go writes it: a whole number has no fraction, however it came.
fn json(value: &Value) -> String {
    match value.as_f64() {
        Some(float) if value.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => format!("{float:.0}"),
        _ => value.to_string(),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => crds::field::quote(text),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(",")),
        Value::Object(map) => map.iter().map(|(name, value)| format!("{name}={}", shown(value))).collect(),
        other => print::plain(other),
    }
}

/// A total order of values: numbers, texts, truth values, lists, objects, null. Numbers compare by what they are worth.
pub fn order(a: &Value, b: &Value) -> Ordering {
    const fn rank(value: &Value) -> u8 {
        match value {
            Value::Number(_) => 0,
            Value::String(_) => 1,
            Value::Bool(_) => 2,
            Value::Array(_) => 3,
            Value::Object(_) => 4,
            Value::Null => 5,
        }
    }
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => order_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let pairs = a.iter().zip(b).map(|(a, b)| order(a, b));
            pairs.fold(Ordering::Equal, Ordering::then).then_with(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let sorted = |map| {
                let mut entries: Vec<_> = serde_json::Map::iter(map).collect();
                entries.sort_by_key(|(key, _)| *key);
                entries
            };
            let pairs = sorted(a).into_iter().zip(sorted(b)).map(|(a, b)| a.0.cmp(b.0).then_with(|| order(a.1, b.1)));
            pairs.fold(Ordering::Equal, Ordering::then).then_with(|| a.len().cmp(&b.len()))
        }
        _ => rank(a).cmp(&rank(b)),
    }
}

fn order_numbers(a: &Number, b: &Number) -> Ordering {
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) {
        return a.cmp(&b);
    }
    let worth = |n: &Number| n.as_f64().unwrap_or_default();
    worth(a).total_cmp(&worth(b))
}

/// Equality where `1` is `1.0`.
pub fn same(a: &Value, b: &Value) -> bool {
    a == b || order(a, b).is_eq()
}
