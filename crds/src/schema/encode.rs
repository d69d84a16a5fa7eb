//! JSON out: a value as Go would write the struct that holds it.
//!
//! Fields stand in the order of Go's declaration and are left out or filled in as the tags say: empty scalars, lists
//! and maps under `omitempty` are dropped, structs and all else are written even if empty. An empty list or map that is
//! written is null, since upstream's storage does not tell the two apart.

use std::io::Write;

use serde_json::{Map, Number, Value};

use super::{Field, Or, Schema, Shape, Type, TypeId};

/// What Go writes for a field.
enum Held<T> {
    Nothing,
    Null,
    Zero(Value),
    Value(T),
}

/// Brings a value of a type into the form in which Go would write it. Fields that the type lacks are dropped.
pub fn canonical(schema: &Schema, id: TypeId, value: &mut Value) {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(object) = value else { return };
    let ty = schema.get(id);
    if object.keys().any(|key| ty.field(key).is_none()) {
        object.retain(|key, _| ty.field(key).is_some());
    }
    for field in &ty.fields {
        match held(schema, field, object.get_mut(&*field.json)) {
            Held::Value(_) => {}
            Held::Nothing => {
                object.remove(&*field.json);
                continue;
            }
            Held::Null => {
                object.insert(field.json.to_string(), Value::Null);
                continue;
            }
            Held::Zero(zero) => {
                object.insert(field.json.to_string(), zero);
            }
        }
        if let Some(value) = object.get_mut(&*field.json) {
            canonical_shape(schema, &field.shape, value);
        }
    }
}

/// Up to here each whole number has a double of its own.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

fn canonical_shape(schema: &Schema, shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Object(id), value) => canonical(schema, *id, value),
        (Shape::Either(id, _), value @ Value::Object(_)) => canonical(schema, *id, value),
        (Shape::Either(id, _), Value::Array(items)) => {
            items.iter_mut().filter(|item| item.is_object()).for_each(|item| canonical(schema, *id, item));
        }
        // Go writes a whole number without a fraction.
        (Shape::Double, value) => {
            let whole = value.as_f64().filter(|n| value.is_f64() && n.fract() == 0.0 && n.abs() <= WHOLE_MAX);
            if let Some(number) = whole {
                *value = Value::from(number as i64);
            }
        }
        (Shape::List(item), Value::Array(items)) if nests(item) => {
            items.iter_mut().for_each(|value| canonical_shape(schema, item, value));
        }
        (Shape::Map(item), Value::Object(entries)) if nests(item) => {
            entries.values_mut().for_each(|value| canonical_shape(schema, item, value));
        }
        _ => {}
    }
}

/// Whether there is anything in such a value to bring into form.
const fn nests(shape: &Shape) -> bool {
    matches!(shape, Shape::Object(_) | Shape::Either(..) | Shape::List(_) | Shape::Map(_))
}

fn held<T: AsValue>(schema: &Schema, field: &Field, value: Option<T>) -> Held<T> {
    let value = value.filter(|v| !v.value().is_null());
    let absent = if field.omit_empty { Held::Nothing } else { Held::Null };
    let Some(present) = value else {
        return if field.pointer { absent } else { zero_of(field, absent) };
    };
    if field.pointer {
        // Of an empty list of schemas Go writes the one schema, which is not there either.
        let is_hollow = matches!((&field.shape, present.value()), (Shape::Either(_, Or::List), Value::Array(items)) if items.is_empty());
        return if is_hollow { absent } else { Held::Value(present) };
    }
    let empty = match (&field.shape, present.value()) {
        (Shape::Object(id), Value::Object(object)) if field.omit_zero => is_zero(schema, schema.get(*id), object),
        (Shape::List(_) | Shape::Map(_), Value::Array(items)) => items.is_empty(),
        (Shape::List(_) | Shape::Map(_), Value::Object(entries)) => entries.is_empty(),
        (Shape::Bool | Shape::Int32 | Shape::Int64 | Shape::Double | Shape::String | Shape::Bytes, v) => is_empty(v),
        _ => false,
    };
    match empty {
        false => Held::Value(present),
        true if matches!(field.shape, Shape::List(_) | Shape::Map(_) | Shape::Object(_) | Shape::Bytes) => absent,
        true if field.omit_empty => Held::Nothing,
        true => Held::Value(present),
    }
}

/// What Go writes where it holds no value and no pointer to one.
fn zero_of<T>(field: &Field, absent: Held<T>) -> Held<T> {
    match &field.shape {
        Shape::Object(_) | Shape::Time | Shape::MicroTime if field.omit_zero => Held::Nothing,
        Shape::Object(_) => Held::Zero(Value::Object(Map::new())),
        Shape::Quantity => Held::Zero(Value::String("0".to_owned())),
        Shape::IntOrString => Held::Zero(Value::from(0)),
        Shape::Time | Shape::MicroTime | Shape::Raw | Shape::FieldsV1 | Shape::Either(..) => Held::Null,
        Shape::Any => absent,
        _ if field.omit_empty => Held::Nothing,
        Shape::Bool => Held::Zero(Value::Bool(false)),
        Shape::Int32 | Shape::Int64 | Shape::Double => Held::Zero(Value::from(0)),
        Shape::String => Held::Zero(Value::String(String::new())),
        _ => absent,
    }
}

fn is_zero(schema: &Schema, ty: &Type, object: &Map<String, Value>) -> bool {
    ty.fields.iter().all(|f| !matches!(held(schema, f, object.get(&*f.json)), Held::Value(_)))
}

pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Null => true,
    }
}

/// A value by reference, whether it may be changed or not.
trait AsValue {
    fn value(&self) -> &Value;
}

impl AsValue for &Value {
    fn value(&self) -> &Value {
        self
    }
}

impl AsValue for &mut Value {
    fn value(&self) -> &Value {
        self
    }
}

/// Writes a value of a type as Go's JSON encoder does, without the line end that upstream puts behind a response.
/// The value need not be canonical.
pub fn json(schema: &Schema, id: TypeId, value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write_object(schema, schema.get(id), value.as_object(), &mut out);
    out
}

/// Writes a value of no declared type: keys in alphabetical order.
pub fn any(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write_any(value, false, &mut out);
    out
}

fn write_object(schema: &Schema, ty: &Type, object: Option<&Map<String, Value>>, out: &mut Vec<u8>) {
    out.push(b'{');
    let start = out.len();
    for field in &ty.fields {
        let held = held(schema, field, object.and_then(|o| o.get(&*field.json)));
        if matches!(held, Held::Nothing) {
            continue;
        }
        if out.len() > start {
            out.push(b',');
        }
        write_text(&field.json, out);
        out.push(b':');
        match held {
            Held::Value(value) => write_shape(schema, &field.shape, value, out),
            Held::Zero(zero) => write_shape(schema, &field.shape, &zero, out),
            Held::Null | Held::Nothing => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}

/// Appends a value of a declared shape; the value need not be canonical.
pub fn write_shape(schema: &Schema, shape: &Shape, value: &Value, out: &mut Vec<u8>) {
    match (shape, value) {
        (Shape::Object(id), value) => write_object(schema, schema.get(*id), value.as_object(), out),
        (Shape::Either(id, _), Value::Object(object)) => write_object(schema, schema.get(*id), Some(object), out),
        (Shape::Either(id, _), Value::Array(items)) => {
            let shape = Shape::Object(*id);
            sequence(items, out, |item, out| match item {
                Value::Object(_) => write_shape(schema, &shape, item, out),
                item => write_any(item, false, out),
            });
        }
        (Shape::List(item), Value::Array(items)) => {
            sequence(items, out, |value, out| write_shape(schema, item, value, out));
        }
        (Shape::Map(item), Value::Object(entries)) => {
            members(entries, out, |value, out| write_shape(schema, item, value, out));
        }
        (Shape::FieldsV1, value) => write_fields_v1(value, out),
        // Go keeps such values as text, so that a number looks as it was written.
        (Shape::Raw | Shape::Any, value) => write_any(value, true, out),
        (_, value) => write_any(value, false, out),
    }
}

/// A set of fields: what names items of a list by a number is in the order of the numbers.
fn write_fields_v1(value: &Value, out: &mut Vec<u8>) {
    let Value::Object(entries) = value else { return write_any(value, true, out) };
    let numbered = |key: &String| {
        let is_item = key.starts_with("k:") || key.starts_with("v:");
        is_item && key.as_bytes().windows(2).any(|pair| pair[0] == b':' && matches!(pair[1], b'0'..=b'9' | b'-'))
    };
    if entries.keys().filter(|key| numbered(key)).take(2).count() < 2 {
        return members(entries, out, write_fields_v1);
    }
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by_cached_key(|(key, _)| order_of_item(key));
    members(sorted, out, write_fields_v1);
}

/// The kind of the name first, then its values one by one, of which numbers stand before texts.
fn order_of_item(key: &str) -> (&str, Vec<(String, i64, String)>) {
    let (kind, json) = key.split_at_checked(2).unwrap_or((key, ""));
    let one = |name: &str, value: &Value| match value {
        Value::Number(number) => (name.to_owned(), number.as_i64().unwrap_or(i64::MAX), String::new()),
        Value::String(text) => (name.to_owned(), i64::MAX, text.clone()),
        other => (name.to_owned(), i64::MAX, other.to_string()),
    };
    let values = match serde_json::from_str(json) {
        Ok(Value::Object(fields)) => fields.iter().map(|(name, value)| one(name, value)).collect(),
        Ok(value) => vec![one("", &value)],
        Err(_) => vec![(json.to_owned(), 0, String::new())],
    };
    (kind, values)
}

/// With `raw`, numbers look as they were written: what Go keeps as text.
pub(super) fn write_any(value: &Value, raw: bool, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_number(number, raw, out),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => sequence(items, out, |value, out| write_any(value, raw, out)),
        Value::Object(entries) => members(entries, out, |value, out| write_any(value, raw, out)),
    }
}

pub(super) fn sequence<'v>(items: &'v [Value], out: &mut Vec<u8>, mut write: impl FnMut(&'v Value, &mut Vec<u8>)) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

pub(super) fn members<'v>(
    entries: impl IntoIterator<Item = (&'v String, &'v Value)>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(&'v Value, &mut Vec<u8>),
) {
    out.push(b'{');
    for (at, (key, value)) in entries.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_text(key, out);
        out.push(b':');
        write(value, out);
    }
    out.push(b'}');
}

fn write_number(number: &Number, raw: bool, out: &mut Vec<u8>) {
    let text = match number.as_f64() {
        Some(float) if number.is_f64() && !raw => float_text(float),
        _ => number.to_string(),
    };
    out.extend_from_slice(text.as_bytes());
}

/// Go writes an exponent below 1e-6 and from 1e21 on, and no `.0`.
pub fn float_text(float: f64) -> String {
    let size = float.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{float:e}");
        return if size < 1.0 { text } else { text.replace('e', "e+") };
    }
    format!("{float}")
}

/// Bytes that text may not hold as they are, or that begin such.
const STRANGE: [bool; 256] = {
    let mut strange = [false; 256];
    let mut at = 0;
    while at < 256 {
        strange[at] = at < 0x20 || matches!(at as u8, b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2);
        at += 1;
    }
    strange
};

/// Go's encoder escapes what could end a script in a page, too.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, c) in bytes.iter().enumerate().filter(|(_, c)| STRANGE[usize::from(**c)]) {
        let escape: &[u8] = match c {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            8 => b"\\b",
            12 => b"\\f",
            0..0x20 | b'<' | b'>' | b'&' => {
                out.extend_from_slice(&bytes[plain..at]);
                plain = at + 1;
                // Writing to memory does not fail.
                write!(out, "\\u{c:04x}").unwrap_or_default();
                continue;
            }
            // U+2028 and U+2029, the line ends that JavaScript sees.
            0xe2 if matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9])) => {
                out.extend_from_slice(&bytes[plain..at]);
                plain = at + 3;
                out.extend_from_slice(if bytes[at + 2] == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                continue;
            }
            _ => continue,
        };
        out.extend_from_slice(&bytes[plain..at]);
        out.extend_from_slice(escape);
        plain = at + 1;
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::builtin;

    #[track_caller]
    fn check(version: &str, kind: &str, mut value: Value, want: &str) {
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let id = builtin().kind(group, version, kind).unwrap();
        assert_eq!(String::from_utf8(super::json(builtin(), id, &value)).unwrap(), want);
        canonical(builtin(), id, &mut value);
        assert_eq!(value, serde_json::from_str::<Value>(want).unwrap());
    }

    #[test]
    fn go_order_and_omission() {
        check(
            "v1",
            "Service",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "labels": {}, "generation": 0},
                "spec": {"ports": [{"port": 80, "name": ""}], "clusterIPs": [], "gadget": 1}}),
            r#"{"kind":"Service","apiVersion":"v1","metadata":{"name":"a"},"spec":{"ports":[{"port":80,"targetPort":0}]},"status":{"loadBalancer":{}}}"#,
        );
        check("rbac.authorization.k8s.io/v1", "Role", json!({"rules": []}), r#"{"metadata":{},"rules":null}"#);
        check(
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": 0, "paused": false, "selector": null}}),
            r#"{"metadata":{},"spec":{"replicas":0,"selector":null,"template":{"metadata":{},"spec":{"containers":null}},"strategy":{}},"status":{}}"#,
        );
        check(
            "v1",
            "Secret",
            json!({"data": {"a": ""}, "immutable": false}),
            r#"{"metadata":{},"immutable":false,"data":{"a":""}}"#,
        );
    }

    #[test]
    fn text_as_go_escapes_it() {
        assert_eq!(
            any(&json!("<a&b>\u{2028}\u{1}\u{8}é\"\u{7f}")),
            "\"\\u003ca\\u0026b\\u003e\\u2028\\u0001\\bé\\\"\u{7f}\"".as_bytes()
        );
    }

    #[test]
    fn items_are_owned_in_the_order_of_their_keys() {
        let fields = |object: Value| {
            let mut out = Vec::new();
            write_shape(builtin(), &Shape::FieldsV1, &object, &mut out);
            String::from_utf8(out).unwrap()
        };
        let ports = json!({
            "k:{\"port\":443,\"protocol\":\"TCP\"}": {}, "k:{\"port\":80,\"protocol\":\"UDP\"}": {".": {}},
            "k:{\"port\":80,\"protocol\":\"TCP\"}": {}, ".": {}, "f:b": {}, "f:a": {},
        });
        let want = r#"{"f:p":{".":{},"f:a":{},"f:b":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{},"k:{\"port\":80,\"protocol\":\"UDP\"}":{".":{}},"k:{\"port\":443,\"protocol\":\"TCP\"}":{}}}"#;
        assert_eq!(fields(json!({"f:p": ports})), want);
        assert_eq!(fields(json!({"v:10": {}, "v:9": {}, "v:\"a\"": {}})), r#"{"v:9":{},"v:10":{},"v:\"a\"":{}}"#);
    }

    #[test]
    fn floats() {
        for (float, want) in
            [(1.0, "1"), (0.5, "0.5"), (1e21, "1e+21"), (1e-7, "1e-7"), (1e20, "100000000000000000000")]
        {
            assert_eq!(any(&json!(float)), want.as_bytes());
        }
    }
}
