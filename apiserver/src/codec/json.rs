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

/// JSON text over several lines, as Go indents it.
pub fn indented(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 2);
    let mut depth = 0;
    let (mut in_text, mut escaped) = (false, false);
    let line = |depth: usize, out: &mut Vec<u8>| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    for (at, &byte) in text.iter().enumerate() {
        if in_text {
            out.push(byte);
            in_text = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        let is_empty = || matches!((byte, text.get(at + 1)), (b'{', Some(b'}')) | (b'[', Some(b']')));
        let was_empty = || matches!((text.get(at.wrapping_sub(1)), byte), (Some(b'{'), b'}') | (Some(b'['), b']'));
        match byte {
            b'{' | b'[' => {
                out.push(byte);
                depth += 1;
                if !is_empty() {
                    line(depth, &mut out);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !was_empty() {
                    line(depth, &mut out);
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(depth, &mut out);
            }
            b':' => out.extend_from_slice(b": "),
            _ => {
                in_text = byte == b'"';
                out.push(byte);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::indented;

    #[test]
    fn indents_as_go_does() {
        let text = br#"{"a":{},"b":[],"c":["x:,{\"",{"d":1}]}"#;
        let want = "{\n  \"a\": {},\n  \"b\": [],\n  \"c\": [\n    \"x:,{\\\"\",\n    {\n      \"d\": 1\n    }\n  ]\n}";
        assert_eq!(String::from_utf8(indented(text)).unwrap(), want);
    }
}
