//! JSON in: bytes to what Go's decoder would hold of them, and what a strict decoder would say.
//!
//! Nulls and unknown fields are dropped; times, quantities and base64 come out in their canonical form. What Go calls
//! an error (a text where a number belongs) fails with Go's words; what only the strict decoder minds (unknown and
//! duplicate fields) is listed. The result still holds zero values that were written out; see [`super::encode`].

use std::{borrow::Cow, collections::HashSet};

use serde_json::{Map, Number, Value};

use self::{
    path::{Path, Step},
    scan::{Scan, Scanner, SyntaxError},
};
use super::{Field, Or, Schema, Shape, Type, TypeId, time, time::Precision};
use crate::{field::quote, quantity::Quantity};

mod path;
pub mod scan;

/// Go's strict decoder stops counting here.
const STRICT_MAX: usize = 100;

/// An object as Go would hold it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// `unknown field "spec.gadget"`, `duplicate field "data.k"`: each once, in the order of the text.
    pub strict: Vec<String>,
}

/// Why Go would not take it, in its words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No JSON: upstream notices when it looks for the kind, and says so in front of this.
    #[error("{0}")]
    Syntax(#[from] SyntaxError),
    /// JSON that does not fit the type.
    #[error("{0}")]
    Mismatch(String),
}

/// Decodes an object of a type.
pub fn json(schema: &Schema, ty: TypeId, input: &[u8]) -> Result<Decoded, DecodeError> {
    let text = String::from_utf8_lossy(input);
    let mut decoder = Decoder::new(schema, &text);
    let place = Place { field: None, depth: 0 };
    let value = decoder.value(&Shape::Object(ty), place, None, None)?;
    decoder.finish(value.unwrap_or_else(|| Value::Object(Map::new())))
}

/// The same for a value that was parsed already: from YAML, or the result of a patch.
pub fn value(schema: &Schema, ty: TypeId, input: &Value) -> Result<Decoded, DecodeError> {
    json(schema, ty, input.to_string().as_bytes())
}

/// The same for what upstream converts rather than reads: the result of a strategic merge patch or of an apply. Numbers
/// are cut to the size of their type there, and what does not fit is told in other words.
pub fn converted(schema: &Schema, ty: TypeId, input: &Value) -> Result<Decoded, DecodeError> {
    let text = input.to_string();
    let mut decoder = Decoder { converts: true, ..Decoder::new(schema, &text) };
    let place = Place { field: None, depth: 0 };
    let value = decoder.value(&Shape::Object(ty), place, None, None)?;
    decoder.finish(value.unwrap_or_else(|| Value::Object(Map::new())))
}

/// Decodes an object without knowing its type, as upstream does for custom resources.
pub fn any(input: &[u8]) -> Result<Decoded, DecodeError> {
    let text = String::from_utf8_lossy(input);
    let schema = Schema::default();
    let mut decoder = Decoder::new(&schema, &text);
    let value = decoder.any(None)?;
    decoder.finish(value)
}

/// The `apiVersion` and `kind` of an object, empty where it has none. The rest is only checked to be JSON.
pub fn kind(input: &[u8]) -> Result<(String, String), DecodeError> {
    let text = String::from_utf8_lossy(input);
    let mut decoder = Decoder::new(super::builtin(), &text);
    let mut found = [String::new(), String::new()];
    if decoder.scan.peek()? == b'{' {
        let mut more = decoder.scan.open(b'}')?;
        while more {
            let key = decoder.scan.key()?;
            let slot = ["apiVersion", "kind"].iter().position(|name| name.eq_ignore_ascii_case(&key));
            match (slot, decoder.scan.peek()?) {
                (Some(slot), b'"') => found[slot] = decoder.scan.string()?.into_owned(),
                (Some(slot), first) if first != b'n' => {
                    let what = sort(decoder.scan.skip()?);
                    let name = ["apiVersion", "kind"][slot];
                    decoder.save(format!("json: cannot unmarshal {what} into Go struct field .{name} of type string"));
                }
                _ => {
                    decoder.scan.skip()?;
                }
            }
            more = decoder.scan.more(b'}')?;
        }
    } else {
        let what = sort(decoder.scan.skip()?);
        if what != "null" {
            let go = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";
            decoder.save(format!("json: cannot unmarshal {what} into Go value of type {go}"));
        }
    }
    let [version, kind] = found;
    decoder.finish(Value::Null).map(|_| (version, kind))
}

/// What Go calls a value that does not fit.
fn sort(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        Some(b'n') => "null",
        _ => "number",
    }
}

/// What upstream's converter says of a value that does not fit.
fn unconvertible(raw: &str, shape: &Shape, go: &str) -> String {
    let found = match sort(raw) {
        "object" => "map",
        "array" => "slice",
        "number" if raw.parse::<i64>().is_ok() => "int64",
        "number" => "float64",
        other => other,
    };
    match (shape, found) {
        (Shape::Object(_), _) => format!("cannot restore struct from: {found}"),
        (Shape::List(_) | Shape::Bytes, _) => format!("cannot restore slice from {found}"),
        (Shape::Map(_), _) => format!("cannot restore map from {found}"),
        // Go would take the number for a character.
        (Shape::String, "int64") => format!("cannot convert int64 to {go}"),
        (Shape::String, _) => "unrecognized type: string".to_owned(),
        (Shape::Bool, _) => "unrecognized type: bool".to_owned(),
        (Shape::Int32, _) => "unrecognized type: int32".to_owned(),
        (Shape::Int64, _) => "unrecognized type: int64".to_owned(),
        _ => "unrecognized type: float64".to_owned(),
    }
}

/// Which part of which field is being read: what an error needs to name the Go type.
#[derive(Clone, Copy)]
struct Place<'a> {
    field: Option<&'a Field>,
    /// How many lists and maps into the field.
    depth: usize,
}

impl Place<'_> {
    const fn inner(self) -> Self {
        Self { field: self.field, depth: self.depth + 1 }
    }
}

struct Decoder<'s, 't> {
    schema: &'s Schema,
    scan: Scanner<'t>,
    strict: Vec<String>,
    /// The first mismatch; Go notes it and reads on.
    saved: Option<String>,
    /// The first error of a type that reads its own JSON; Go stops there.
    fatal: Option<String>,
    /// Inside a value that is read by a decoder of its own, which is not strict and whose errors are fatal.
    nested: usize,
    /// Whether values are converted rather than read.
    converts: bool,
}

impl<'s, 't> Decoder<'s, 't> {
    fn new(schema: &'s Schema, text: &'t str) -> Self {
        Self {
            schema,
            scan: Scanner::new(text),
            strict: Vec::new(),
            saved: None,
            fatal: None,
            nested: 0,
            converts: false,
        }
    }

    fn finish(mut self, value: Value) -> Result<Decoded, DecodeError> {
        self.scan.finish()?;
        match self.fatal.or(self.saved) {
            Some(problem) => Err(DecodeError::Mismatch(problem)),
            None => Ok(Decoded { value, strict: self.strict }),
        }
    }

    fn save(&mut self, problem: String) {
        let slot = if self.nested > 0 { &mut self.fatal } else { &mut self.saved };
        slot.get_or_insert(problem);
    }

    fn fail(&mut self, problem: String) {
        self.fatal.get_or_insert(problem);
    }

    fn report(&mut self, what: &str, path: Option<&Path>, name: &str) {
        if self.nested > 0 || self.strict.len() >= STRICT_MAX {
            return;
        }
        let problem = format!("{what} field {}", quote(&Path::strict(path, name)));
        if !self.strict.contains(&problem) {
            self.strict.push(problem);
        }
    }

    fn mismatch(&mut self, what: &str, path: Option<&Path>, go: &str) {
        let problem = match Path::context(path) {
            Some((owner, fields)) => {
                format!("json: cannot unmarshal {what} into Go struct field {owner}.{fields} of type {go}")
            }
            None => format!("json: cannot unmarshal {what} into Go value of type {go}"),
        };
        self.save(problem);
    }

    /// Reads a value; none if it is null. `old` is what an earlier duplicate left there.
    fn value(&mut self, shape: &Shape, place: Place, path: Option<&Path>, old: Option<Value>) -> Scan<Option<Value>> {
        let first = self.scan.peek()?;
        if first == b'n' {
            self.scan.word("null")?;
            return Ok(None);
        }
        let value = match (shape, first) {
            (Shape::String, b'"') => Value::String(self.scan.string()?.into_owned()),
            (Shape::Object(id), b'{') => {
                let old = if let Some(Value::Object(old)) = old { old } else { Map::new() };
                Value::Object(self.object(self.schema.get(*id), path, old)?)
            }
            (Shape::List(item), b'[') => {
                let old = if let Some(Value::Array(old)) = old { old } else { Vec::new() };
                self.list(item, place, path, old)?
            }
            (Shape::Map(item), b'{') => {
                let old = if let Some(Value::Object(old)) = old { old } else { Map::new() };
                self.map(item, place, path, old)?
            }
            (Shape::Bool, b't') => self.scan.word("true").map(|()| Value::Bool(true))?,
            (Shape::Bool, b'f') => self.scan.word("false").map(|()| Value::Bool(false))?,
            (Shape::Int32 | Shape::Int64 | Shape::Double, b'-' | b'0'..=b'9') => self.number(shape, place, path)?,
            (Shape::Any, _) => self.any(path)?,
            (Shape::Raw | Shape::FieldsV1, _) => self.aside(|d| d.any(None))?,
            (Shape::Time | Shape::MicroTime | Shape::Duration | Shape::Quantity | Shape::IntOrString, _) => {
                self.own(shape, path)?
            }
            (Shape::Bytes, b'"') => self.bytes()?,
            (Shape::Bytes, b'[') => self.byte_list(path)?,
            (Shape::Either(id, or), _) => self.aside(|d| d.either(*id, *or, place, path))?,
            _ => {
                let raw = self.scan.skip()?;
                let go = go_name(self.schema, shape, place);
                match self.converts {
                    true => self.save(unconvertible(raw, shape, &go)),
                    false => self.mismatch(sort(raw), path, &go),
                }
                return Ok(None);
            }
        };
        Ok(Some(value))
    }

    fn object(&mut self, ty: &Type, path: Option<&Path>, mut object: Map<String, Value>) -> Scan<Map<String, Value>> {
        let merging = !object.is_empty();
        let mut seen = Seen::default();
        let mut next = 0;
        let mut more = self.scan.open(b'}')?;
        while more {
            let key = self.scan.key()?;
            let Some(at) = find(&ty.fields, &key, next) else {
                self.report("unknown", path, &key);
                self.scan.skip()?;
                more = self.scan.more(b'}')?;
                continue;
            };
            next = at + 1;
            let field = &ty.fields[at];
            let again = seen.again(at);
            if again {
                self.report("duplicate", path, &key);
            }
            let old = if again || merging { object.remove(&*field.json) } else { None };
            // Null leaves a scalar as it is and empties everything else.
            let kept = old.clone().filter(|_| keeps_null(field));
            let here = Path { parent: path, step: Step::Field(field, ty) };
            let value = self.value(&field.shape, Place { field: Some(field), depth: 0 }, Some(&here), old)?;
            if let Some(value) = value.or(kept) {
                object.insert(field.json.to_string(), value);
            }
            more = self.scan.more(b'}')?;
        }
        Ok(object)
    }

    /// Go reads into the elements that an earlier duplicate left.
    fn list(&mut self, item: &Shape, place: Place, path: Option<&Path>, old: Vec<Value>) -> Scan<Value> {
        let mut old = old.into_iter();
        let mut list = Vec::new();
        let mut more = self.scan.open(b']')?;
        while more {
            let here = Path { parent: path, step: Step::Index(list.len()) };
            let old = old.next();
            let kept = old.clone().filter(|_| is_plain(item));
            let value = self.value(item, place.inner(), Some(&here), old)?;
            list.push(value.or(kept).unwrap_or_else(|| zero(item)));
            more = self.scan.more(b']')?;
        }
        Ok(Value::Array(list))
    }

    fn map(&mut self, item: &Shape, place: Place, path: Option<&Path>, mut map: Map<String, Value>) -> Scan<Value> {
        let mut earlier: HashSet<String> = map.keys().cloned().collect();
        let mut more = self.scan.open(b'}')?;
        while more {
            let key = self.scan.key()?;
            let here = Path { parent: path, step: Step::Key(&key) };
            let value = self.value(item, place.inner(), Some(&here), None)?.unwrap_or_else(|| zero(item));
            if map.insert(key.clone().into_owned(), value).is_some() && !earlier.remove(&*key) {
                self.report("duplicate", path, &key);
            }
            more = self.scan.more(b'}')?;
        }
        Ok(Value::Object(map))
    }

    fn number(&mut self, shape: &Shape, place: Place, path: Option<&Path>) -> Scan<Value> {
        let text = self.scan.number()?;
        if self.converts && *shape != Shape::Double {
            return Ok(self.cut(text, shape, place));
        }
        let number = match shape {
            Shape::Int32 => text.parse::<i32>().ok().map(Number::from),
            Shape::Int64 => text.parse::<i64>().ok().map(Number::from),
            _ => text.parse::<f64>().ok().and_then(Number::from_f64),
        };
        if let Some(number) = number {
            return Ok(Value::Number(number));
        }
        let go = go_name(self.schema, shape, place);
        self.mismatch(&format!("number {text}"), path, &go);
        Ok(Value::Null)
    }

    /// A whole number, cut to its size.
    fn cut(&mut self, text: &str, shape: &Shape, place: Place) -> Value {
        let whole = text.parse::<i64>().ok();
        let float = || text.parse::<f64>().ok().filter(|float| float.fract() == 0.0).map(|float| float as i64);
        match (whole.or_else(float), shape) {
            (Some(number), Shape::Int32) => Value::from(number as i32),
            (Some(number), _) => Value::from(number),
            (None, _) => {
                let go = go_name(self.schema, shape, place);
                self.save(format!("cannot convert float64 to {go}"));
                Value::Null
            }
        }
    }

    fn bytes(&mut self) -> Scan<Value> {
        let text = self.scan.string()?;
        Ok(match time::bytes(&text) {
            Ok(bytes) => Value::String(time::text(&bytes)),
            Err(problem) => {
                let problem = if self.converts { format!("error decoding from json: {problem}") } else { problem };
                self.save(problem);
                Value::Null
            }
        })
    }

    /// Go takes a list of numbers for bytes, too.
    fn byte_list(&mut self, path: Option<&Path>) -> Scan<Value> {
        let mut bytes = Vec::new();
        let mut more = self.scan.open(b']')?;
        while more {
            self.scan.peek()?;
            let raw = self.scan.skip()?;
            match (sort(raw), raw.parse::<u8>()) {
                ("null", _) => bytes.push(0),
                ("number", Ok(byte)) => bytes.push(byte),
                ("number", Err(_)) => self.mismatch(&format!("number {raw}"), path, "uint8"),
                (what, _) => self.mismatch(what, path, "uint8"),
            }
            more = self.scan.more(b']')?;
        }
        Ok(Value::String(time::text(&bytes)))
    }

    /// What is read by a decoder of its own.
    fn aside<T>(&mut self, read: impl FnOnce(&mut Self) -> Scan<T>) -> Scan<T> {
        self.nested += 1;
        let value = read(self);
        self.nested -= 1;
        value
    }

    /// The types that upstream reads from the raw JSON text.
    fn own(&mut self, shape: &Shape, path: Option<&Path>) -> Scan<Value> {
        let raw = self.scan.skip()?;
        if *shape == Shape::Quantity {
            let inner = raw.strip_prefix('"').and_then(|r| r.strip_suffix('"')).unwrap_or(raw);
            return Ok(match inner.trim().parse::<Quantity>() {
                Ok(quantity) => Value::String(quantity.to_string()),
                Err(problem) => {
                    self.fail(problem.to_string());
                    Value::Null
                }
            });
        }
        let text = if raw.starts_with('"') { Some(Scanner::new(raw).string()?) } else { None };
        let read = match (shape, text) {
            (Shape::IntOrString | Shape::Duration, Some(text)) => Ok(Value::String(text.into_owned())),
            (Shape::IntOrString, None) => match raw.parse::<i32>() {
                Ok(number) => Ok(Value::from(number)),
                Err(_) if sort(raw) == "number" => Err((Cow::Owned(format!("number {raw}")), "int32")),
                Err(_) => Err((Cow::Borrowed(sort(raw)), "int32")),
            },
            (_, None) => Err((Cow::Borrowed(sort(raw)), "string")),
            (_, Some(text)) => {
                let precision = if *shape == Shape::MicroTime { Precision::Micros } else { Precision::Seconds };
                match precision.read(&text) {
                    Ok(at) if at.is_zero() => Ok(Value::Null),
                    Ok(at) => Ok(Value::String(precision.write(at))),
                    Err(problem) => {
                        self.fail(problem);
                        Ok(Value::Null)
                    }
                }
            }
        };
        Ok(match read {
            Ok(value) => value,
            Err((what, go)) => {
                self.nested += 1;
                self.mismatch(&what, path, go);
                self.nested -= 1;
                Value::Null
            }
        })
    }

    /// A schema, or what stands in its place.
    fn either(&mut self, id: TypeId, or: Or, place: Place, path: Option<&Path>) -> Scan<Value> {
        let item = match (or, self.scan.peek()?) {
            (_, b'{') => Shape::Object(id),
            (Or::Bool, b't' | b'f') => Shape::Bool,
            (Or::List, b'[') => Shape::List(Box::new(Shape::Object(id))),
            (Or::Texts, b'[') => Shape::List(Box::new(Shape::String)),
            _ => {
                self.scan.skip()?;
                if or == Or::Bool {
                    self.fail("boolean or JSON schema expected".to_owned());
                }
                return Ok(Value::Null);
            }
        };
        Ok(self.value(&item, Place { field: None, depth: place.depth }, path, None)?.unwrap_or_default())
    }

    /// A value of no declared type: integers stay integers where they fit.
    fn any(&mut self, path: Option<&Path>) -> Scan<Value> {
        Ok(match self.scan.peek()? {
            b'{' => {
                let mut object = Map::new();
                let mut more = self.scan.open(b'}')?;
                while more {
                    let key = self.scan.key()?;
                    if object.contains_key(&*key) {
                        self.report("duplicate", path, &key);
                    }
                    let here = Path { parent: path, step: Step::Key(&key) };
                    let value = self.any(Some(&here))?;
                    object.insert(key.into_owned(), value);
                    more = self.scan.more(b'}')?;
                }
                Value::Object(object)
            }
            b'[' => {
                let mut list = Vec::new();
                let mut more = self.scan.open(b']')?;
                while more {
                    let here = Path { parent: path, step: Step::Index(list.len()) };
                    list.push(self.any(Some(&here))?);
                    more = self.scan.more(b']')?;
                }
                Value::Array(list)
            }
            b'"' => Value::String(self.scan.string()?.into_owned()),
            b't' => self.scan.word("true").map(|()| Value::Bool(true))?,
            b'f' => self.scan.word("false").map(|()| Value::Bool(false))?,
            b'n' => self.scan.word("null").map(|()| Value::Null)?,
            _ => {
                let text = self.scan.number()?;
                let whole = text.parse::<i64>().ok().map(Number::from);
                match whole.or_else(|| text.parse::<f64>().ok().and_then(Number::from_f64)) {
                    Some(number) => Value::Number(number),
                    None => {
                        self.mismatch(&format!("number {text}"), None, "float64");
                        Value::Null
                    }
                }
            }
        })
    }
}

/// Which of a type's fields were read.
#[derive(Default)]
struct Seen {
    early: u128,
    late: Vec<usize>,
}

impl Seen {
    /// Marks the field; whether it was marked before.
    fn again(&mut self, at: usize) -> bool {
        if at >= 128 {
            let again = self.late.contains(&at);
            self.late.push(at);
            return again;
        }
        let bit = 1u128 << at;
        let again = self.early & bit != 0;
        self.early |= bit;
        again
    }
}

/// Clients write fields in the order of declaration more often than not.
fn find(fields: &[Field], key: &str, next: usize) -> Option<usize> {
    if fields.get(next).is_some_and(|f| &*f.json == key) {
        return Some(next);
    }
    fields.iter().position(|f| &*f.json == key)
}

fn keeps_null(field: &Field) -> bool {
    !field.pointer && is_plain(&field.shape)
}

/// What null leaves as it is.
const fn is_plain(shape: &Shape) -> bool {
    use Shape::{Bool, Double, Int32, Int64, Object, Raw, String};
    matches!(shape, Bool | Int32 | Int64 | Double | String | Object(_) | Raw)
}

/// What Go holds where a list or a map has null.
fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::IntOrString => Value::from(0),
        Shape::Double => Value::from(0.0),
        Shape::String | Shape::Bytes => Value::String(String::new()),
        Shape::Quantity => Value::String("0".to_owned()),
        Shape::Object(_) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

/// The Go type of what is being read, as Go prints it.
fn go_name(schema: &Schema, shape: &Shape, place: Place) -> String {
    let mut name = place.field.and_then(|f| f.go_type.as_deref());
    for _ in 0..place.depth {
        name = name.and_then(|n| n.strip_prefix("[]").or_else(|| n.strip_prefix("map[").and_then(after_key)));
    }
    name.map_or_else(|| plain_name(schema, shape), str::to_owned)
}

fn after_key(name: &str) -> Option<&str> {
    name.split_once(']').map(|(_, rest)| rest)
}

fn plain_name(schema: &Schema, shape: &Shape) -> String {
    match shape {
        Shape::Bool => "bool".to_owned(),
        Shape::Int32 => "int32".to_owned(),
        Shape::Int64 => "int64".to_owned(),
        Shape::Double => "float64".to_owned(),
        Shape::String => "string".to_owned(),
        Shape::Bytes => "[]uint8".to_owned(),
        Shape::Time => "v1.Time".to_owned(),
        Shape::MicroTime => "v1.MicroTime".to_owned(),
        Shape::Duration => "v1.Duration".to_owned(),
        Shape::Quantity => "resource.Quantity".to_owned(),
        Shape::IntOrString => "intstr.IntOrString".to_owned(),
        Shape::FieldsV1 => "v1.FieldsV1".to_owned(),
        Shape::Raw => "runtime.RawExtension".to_owned(),
        Shape::Any => "v1.JSON".to_owned(),
        Shape::Either(..) => "v1.JSONSchemaProps".to_owned(),
        Shape::Object(id) => {
            let ty = schema.get(*id);
            format!("{}.{}", ty.package, ty.go)
        }
        Shape::List(item) => format!("[]{}", plain_name(schema, item)),
        Shape::Map(item) => format!("map[string]{}", plain_name(schema, item)),
    }
}

#[cfg(test)]
mod tests;
