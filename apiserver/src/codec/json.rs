//! JSON text as Go writes it.

use std::io;

use bytes::Bytes;
use crds::schema::encode;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

struct Go;

impl Formatter for Go {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(encode::float_text(value).as_bytes())
    }

    /// What could end a script in a page is escaped, too.
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, mut rest: &str) -> io::Result<()> {
        while let Some((at, strange)) = rest.char_indices().find(|(_, c)| "<>&\u{2028}\u{2029}".contains(*c)) {
            let (plain, from) = rest.split_at(at);
            write!(writer, "{plain}\\u{:04x}", u32::from(strange))?;
            rest = &from[strange.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// The text of what is no `Value`: its fields stand in the order of their declaration.
pub fn text(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(1024);
    value.serialize(&mut Serializer::with_formatter(&mut out, Go))?;
    Ok(out)
}

/// The same with its line end.
pub fn line(value: &impl Serialize) -> serde_json::Result<Bytes> {
    text(value).map(ended)
}

/// Text with the line end that upstream puts behind what it sends.
pub fn ended(mut text: Vec<u8>) -> Bytes {
    text.push(b'\n');
    text.into()
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
    use serde_json::json;

    use super::{indented, text};

    #[test]
    fn writes_as_go_does() {
        let value = json!({"a": "<b>&\u{2028}\"é", "n": 1e21});
        let want = r#"{"a":"\u003cb\u003e\u0026\u2028\"é","n":1e+21}"#;
        assert_eq!(String::from_utf8(text(&value).unwrap()).unwrap(), want);
        assert_eq!(text(&value).unwrap(), crds::schema::encode::any(&value));
    }

    #[test]
    fn indents_as_go_does() {
        let text = br#"{"a":{},"b":[],"c":["x:,{\"",{"d":1}]}"#;
        let want = "{\n  \"a\": {},\n  \"b\": [],\n  \"c\": [\n    \"x:,{\\\"\",\n    {\n      \"d\": 1\n    }\n  ]\n}";
        assert_eq!(String::from_utf8(indented(text)).unwrap(), want);
    }
}
