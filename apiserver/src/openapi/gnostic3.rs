//! OpenAPI v3 as gnostic's protobuf, in the rules of v2's.

use crds::schema::protobuf::wire::{nested, number};
use serde_json::Value;

use super::gnostic::{
    Form::{Any, Anys, Default, Each, Flag, Integer, Number, One, Text, Texts},
    Rules, message, named,
};

pub fn document(value: &Value) -> Vec<u8> {
    const RULES: Rules = &[
        ("openapi", 1, Text),
        ("info", 2, One(info)),
        ("paths", 4, One(|v, out| named(v, 1, path_item, out))),
        ("components", 5, One(components)),
    ];
    let mut out = Vec::with_capacity(1 << 18);
    message(RULES, 9, value, &mut out);
    out
}

fn info(value: &Value, out: &mut Vec<u8>) {
    message(&[("title", 1, Text), ("description", 2, Text), ("version", 6, Text)], 7, value, out);
}

fn components(value: &Value, out: &mut Vec<u8>) {
    const KEY: Rules = &[("type", 1, Text), ("description", 2, Text), ("name", 3, Text), ("in", 4, Text)];
    const RULES: Rules = &[
        ("schemas", 1, One(|v, out| named(v, 1, schema, out))),
        ("securitySchemes", 7, One(|v, out| named(v, 1, |v, out| either(KEY, 9, v, out), out))),
    ];
    message(RULES, 10, value, out);
}

/// An object, or a reference to a shared one.
fn either(rules: Rules, extension: u32, value: &Value, out: &mut Vec<u8>) {
    const REFERENCE: Rules = &[("$ref", 1, Text)];
    match value.get("$ref") {
        Some(_) => nested(2, out, |out| message(REFERENCE, 0, value, out)),
        None => nested(1, out, |out| message(rules, extension, value, out)),
    }
}

fn path_item(value: &Value, out: &mut Vec<u8>) {
    const RULES: Rules = &[
        ("$ref", 1, Text),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("get", 4, One(operation)),
        ("put", 5, One(operation)),
        ("post", 6, One(operation)),
        ("delete", 7, One(operation)),
        ("options", 8, One(operation)),
        ("head", 9, One(operation)),
        ("patch", 10, One(operation)),
        ("parameters", 13, Each(parameter)),
    ];
    message(RULES, 14, value, out);
}

fn operation(value: &Value, out: &mut Vec<u8>) {
    const RULES: Rules = &[
        ("tags", 1, Texts),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("parameters", 6, Each(parameter)),
        ("requestBody", 7, One(body)),
        ("responses", 8, One(responses)),
        ("deprecated", 10, Flag),
    ];
    message(RULES, 13, value, out);
}

fn parameter(value: &Value, out: &mut Vec<u8>) {
    const RULES: Rules = &[
        ("name", 1, Text),
        ("in", 2, Text),
        ("description", 3, Text),
        ("required", 4, Flag),
        ("schema", 10, One(schema)),
    ];
    either(RULES, 14, value, out);
}

fn body(value: &Value, out: &mut Vec<u8>) {
    either(&[("description", 1, Text), ("content", 2, One(content)), ("required", 3, Flag)], 4, value, out);
}

fn responses(value: &Value, out: &mut Vec<u8>) {
    named(value, 2, |v, out| either(&[("description", 1, Text), ("content", 3, One(content))], 5, v, out), out);
}

fn content(value: &Value, out: &mut Vec<u8>) {
    named(value, 1, |v, out| message(&[("schema", 1, One(schema))], 5, v, out), out);
}

fn schema(value: &Value, out: &mut Vec<u8>) {
    either(SCHEMA, 36, value, out);
}

const SCHEMA: Rules = &[
    ("nullable", 1, Flag),
    ("example", 7, Any),
    ("title", 9, Text),
    ("multipleOf", 10, Number),
    ("maximum", 11, Number),
    ("exclusiveMaximum", 12, Flag),
    ("minimum", 13, Number),
    ("exclusiveMinimum", 14, Flag),
    ("maxLength", 15, Integer),
    ("minLength", 16, Integer),
    ("pattern", 17, Text),
    ("maxItems", 18, Integer),
    ("minItems", 19, Integer),
    ("uniqueItems", 20, Flag),
    ("maxProperties", 21, Integer),
    ("minProperties", 22, Integer),
    ("required", 23, Texts),
    ("enum", 24, Anys),
    ("type", 25, Text),
    ("allOf", 26, Each(schema)),
    ("oneOf", 27, Each(schema)),
    ("anyOf", 28, Each(schema)),
    // This one is never a reference.
    ("not", 29, One(|v, out| message(SCHEMA, 36, v, out))),
    ("items", 30, One(|v, out| nested(1, out, |out| schema(v, out)))),
    ("properties", 31, One(|v, out| named(v, 1, schema, out))),
    ("additionalProperties", 32, One(additional)),
    ("default", 33, Default),
    ("description", 34, Text),
    ("format", 35, Text),
];

fn additional(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bool(allowed) => number(2, u64::from(*allowed), out),
        value => nested(1, out, |out| schema(value, out)),
    }
}
