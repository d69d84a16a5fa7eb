//! Objects as JSON bytes with kind, apiVersion and metadata in front, where the watch cache looks for them.

use bytes::Bytes;
use serde_json::{Map, Value};

const FIRST: [&str; 3] = ["kind", "apiVersion", "metadata"];

/// Serialises an object. Serialising a `Value` cannot fail: its keys are text and its numbers are finite.
pub fn encode(object: &Value) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    match object {
        Value::Object(fields) => write_fields(fields, &mut out),
        other => write(other, &mut out),
    }
    out.into()
}

fn write_fields(fields: &Map<String, Value>, out: &mut Vec<u8>) {
    let first = FIRST.iter().filter_map(|name| fields.get_key_value(*name));
    let rest = fields.iter().filter(|(name, _)| !FIRST.contains(&name.as_str()));
    out.push(b'{');
    for (i, (name, value)) in first.chain(rest).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_text(name, out);
        out.push(b':');
        write(value, out);
    }
    out.push(b'}');
}

pub fn write(value: &Value, out: &mut Vec<u8>) {
    if let Err(error) = serde_json::to_writer(&mut *out, value) {
        tracing::error!(%error, "a JSON value that cannot be written");
    }
}

pub fn write_text(text: &str, out: &mut Vec<u8>) {
    if let Err(error) = serde_json::to_writer(&mut *out, text) {
        tracing::error!(%error, "a text that cannot be written");
    }
}
