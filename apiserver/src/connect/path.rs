//! Paths and queries as upstream builds them: decoded, cleaned, encoded again.

use std::fmt::Write;

use crate::request::RequestInfo;

/// The path below a subresource, from that segment on: decoded, with a leading slash unless it is empty, cleaned of
/// `.`, `..` and empty segments, its trailing slash kept.
pub(super) fn below(info: &RequestInfo, segment: usize) -> String {
    let mut clean: Vec<&str> = Vec::new();
    for part in info.parts.iter().skip(segment).flat_map(|part| part.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    let mut path: String = clean.iter().flat_map(|part| ["/", part]).collect();
    if info.path.ends_with('/') && !path.ends_with('/') {
        path.push('/');
    }
    path
}

/// What [`below`] is below of, decoded.
pub(super) fn base(info: &RequestInfo, segment: usize) -> String {
    let own: String = info.parts.iter().take(segment).flat_map(|part| ["/", part]).collect();
    let end = info.path.find(&own).map_or(info.path.len(), |start| start + own.len());
    info.path[..end].to_owned()
}

/// A path of decoded text, with a query as it came.
pub(super) fn with_query(path: &str, query: Option<&str>) -> String {
    let mut out = encoded(path, is_path_byte);
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        out.push('?');
        out.push_str(query);
    }
    out
}

pub(super) fn with_pairs<'a>(path: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = encoded(path, is_path_byte);
    for (number, (name, value)) in pairs.enumerate() {
        out.push(if number == 0 { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        out.push_str(&encoded(value, is_unreserved));
    }
    out
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}

fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte) || b"$&+,/:;=@".contains(&byte)
}

fn encoded(text: &str, plain: fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            out.push(byte as char);
        } else if write!(out, "%{byte:02X}").is_err() {
            // Writing to a String cannot fail.
            return out;
        }
    }
    out
}
