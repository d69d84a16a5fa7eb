//! OpenAPI v2 as gnostic's protobuf, which client-go asks for.
//!
//! A rule a JSON member: its field number and what it holds. Members that begin with `x-` are vendor extensions, whose
//! values gnostic carries as YAML; JSON is YAML, too.

use crds::schema::protobuf::wire::{bytes, double, nested, number};
use serde_json::{Map, Value};

pub(super) type Write = fn(&Value, &mut Vec<u8>);

pub(super) enum Form {
    Text,
    Flag,
    Integer,
    Number,
    Texts,
    Any,
    Anys,
    /// A default of v3: a number, a truth value or a text; gnostic knows no others.
    Default,
    One(Write),
    Each(Write),
}

use Form::{Any, Anys, Default, Each, Flag, Integer, Number, One, Text, Texts};

pub(super) type Rules = &'static [(&'static str, u32, Form)];

pub fn document(value: &Value) -> Vec<u8> {
    const RULES: Rules = &[
        ("swagger", 1, Text),
        ("info", 2, One(info)),
        ("host", 3, Text),
        ("basePath", 4, Text),
        ("schemes", 5, Texts),
        ("consumes", 6, Texts),
        ("produces", 7, Texts),
        ("paths", 8, One(|v, out| named(v, 2, path_item, out))),
        ("definitions", 9, One(|v, out| named(v, 1, schema, out))),
        ("parameters", 10, One(|v, out| named(v, 1, parameter, out))),
        ("security", 12, Each(|v, out| named(v, 1, |v, out| texts(1, v, out), out))),
        ("securityDefinitions", 13, One(|v, out| named(v, 1, security, out))),
    ];
    let mut out = Vec::with_capacity(1 << 21);
    message(RULES, 16, value, &mut out);
    out
}

pub(super) fn message(rules: Rules, extension: u32, value: &Value, out: &mut Vec<u8>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        if let Some((_, field, form)) = rules.iter().find(|(rule, _, _)| rule == name) {
            write(form, *field, value, out);
        } else if name.starts_with("x-") {
            nested(extension, out, |out| {
                bytes(1, name.as_bytes(), out);
                any(2, value, out);
            });
        }
    }
}

fn write(form: &Form, field: u32, value: &Value, out: &mut Vec<u8>) {
    match form {
        Text => bytes(field, value.as_str().unwrap_or_default().as_bytes(), out),
        Flag => number(field, u64::from(value == &Value::Bool(true)), out),
        Integer => number(field, value.as_i64().unwrap_or_default() as u64, out),
        Number => double(field, value.as_f64().unwrap_or_default(), out),
        Texts => texts(field, value, out),
        Any => any(field, value, out),
        Anys => list(value).iter().for_each(|value| any(field, value, out)),
        Default => nested(field, out, |out| match value {
            Value::Number(given) => double(1, given.as_f64().unwrap_or_default(), out),
            Value::Bool(given) => number(2, u64::from(*given), out),
            Value::String(given) => bytes(3, given.as_bytes(), out),
            _ => {}
        }),
        One(write) => nested(field, out, |out| write(value, out)),
        Each(write) => list(value).iter().for_each(|value| nested(field, out, |out| write(value, out))),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn texts(field: u32, value: &Value, out: &mut Vec<u8>) {
    list(value).iter().filter_map(Value::as_str).for_each(|text| bytes(field, text.as_bytes(), out));
}

fn any(field: u32, value: &Value, out: &mut Vec<u8>) {
    nested(field, out, |out| bytes(2, format!("{value}\n").as_bytes(), out));
}

/// A map: its entries in the field, each with a name and a value.
pub(super) fn named(value: &Value, field: u32, write: Write, out: &mut Vec<u8>) {
    for (name, value) in value.as_object().unwrap_or(&Map::new()) {
        nested(field, out, |out| {
            bytes(1, name.as_bytes(), out);
            nested(2, out, |out| write(value, out));
        });
    }
}

fn info(value: &Value, out: &mut Vec<u8>) {
    message(&[("title", 1, Text), ("version", 2, Text), ("description", 3, Text)], 7, value, out);
}

fn security(value: &Value, out: &mut Vec<u8>) {
    const KEY: Rules = &[("type", 1, Text), ("name", 2, Text), ("in", 3, Text), ("description", 4, Text)];
    nested(2, out, |out| message(KEY, 5, value, out));
}

fn path_item(value: &Value, out: &mut Vec<u8>) {
    const RULES: Rules = &[
        ("$ref", 1, Text),
        ("get", 2, One(operation)),
        ("put", 3, One(operation)),
        ("post", 4, One(operation)),
        ("delete", 5, One(operation)),
        ("options", 6, One(operation)),
        ("head", 7, One(operation)),
        ("patch", 8, One(operation)),
        ("parameters", 9, Each(parameters_item)),
    ];
    message(RULES, 10, value, out);
}

fn operation(value: &Value, out: &mut Vec<u8>) {
    const RULES: Rules = &[
        ("tags", 1, Texts),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Texts),
        ("consumes", 7, Texts),
        ("parameters", 8, Each(parameters_item)),
        ("responses", 9, One(|v, out| named(v, 1, response, out))),
        ("schemes", 10, Texts),
        ("deprecated", 11, Flag),
    ];
    message(RULES, 13, value, out);
}

fn response(value: &Value, out: &mut Vec<u8>) {
    const RULES: Rules = &[("description", 1, Text), ("schema", 2, One(|v, out| nested(1, out, |out| schema(v, out))))];
    nested(1, out, |out| message(RULES, 5, value, out));
}

/// A parameter, or a reference to a shared one.
fn parameters_item(value: &Value, out: &mut Vec<u8>) {
    if value.get("$ref").is_some() {
        nested(2, out, |out| message(&[("$ref", 1, Text)], 0, value, out));
    } else {
        nested(1, out, |out| parameter(value, out));
    }
}

fn parameter(value: &Value, out: &mut Vec<u8>) {
    const BODY: Rules = &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Flag),
        ("schema", 5, One(schema)),
    ];
    const QUERY: Rules = &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 6, Text),
        ("format", 7, Text),
        ("uniqueItems", 20, Flag),
    ];
    const PATH: Rules = &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("uniqueItems", 19, Flag),
    ];
    match value.get("in").and_then(Value::as_str) {
        Some("body") => nested(1, out, |out| message(BODY, 6, value, out)),
        Some("path") => nested(2, out, |out| nested(4, out, |out| message(PATH, 22, value, out))),
        _ => nested(2, out, |out| nested(3, out, |out| message(QUERY, 23, value, out))),
    }
}

fn schema(value: &Value, out: &mut Vec<u8>) {
    const RULES: Rules = &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("multipleOf", 6, Number),
        ("maximum", 7, Number),
        ("exclusiveMaximum", 8, Flag),
        ("minimum", 9, Number),
        ("exclusiveMinimum", 10, Flag),
        ("maxLength", 11, Integer),
        ("minLength", 12, Integer),
        ("pattern", 13, Text),
        ("maxItems", 14, Integer),
        ("minItems", 15, Integer),
        ("uniqueItems", 16, Flag),
        ("maxProperties", 17, Integer),
        ("minProperties", 18, Integer),
        ("required", 19, Texts),
        ("enum", 20, Anys),
        ("additionalProperties", 21, One(additional)),
        ("type", 22, One(kind)),
        ("items", 23, One(|v, out| nested(1, out, |out| schema(v, out)))),
        ("allOf", 24, Each(schema)),
        ("properties", 25, One(|v, out| named(v, 1, schema, out))),
        ("example", 30, Any),
    ];
    message(RULES, 31, value, out);
}

fn additional(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bool(allowed) => number(2, u64::from(*allowed), out),
        value => nested(1, out, |out| schema(value, out)),
    }
}

fn kind(value: &Value, out: &mut Vec<u8>) {
    match value.as_str() {
        Some(one) => bytes(1, one.as_bytes(), out),
        None => texts(1, value, out),
    }
}
