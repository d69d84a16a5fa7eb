//! Kubernetes protobuf: values to bytes and back, by the field numbers of the facts.
//!
//! On the wire an object is `k8s\0` and a `runtime.Unknown`, which holds its kind and its bytes. Like upstream's
//! generated code, the encoder writes every field that is not a pointer, zero or not; the decoder leaves zeros out, and
//! [`super::encode::canonical`] brings both sides into one form.

use serde_json::Value;

use super::{Schema, TypeId};

mod decode;
mod encode;
pub mod wire;

pub use decode::{decode, decode_as};
pub use encode::{encode, encode_raw};

/// What every enveloped object begins with.
pub const MAGIC: &[u8] = b"k8s\0";

/// Deeper messages are refused: they could not be written as JSON that may be read again.
const DEPTH_MAX: usize = super::decode::scan::DEPTH_MAX;

/// Why bytes are no object, or an object has no protobuf form. The words are those of upstream's generated code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    #[error("empty data")]
    Empty,
    #[error("empty body")]
    EmptyBody,
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    #[error("unexpected EOF")]
    Eof,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: negative length found during unmarshaling")]
    Length,
    #[error("proto: {name}: illegal tag {number} (wire type {wire})")]
    Tag { name: String, number: u64, wire: u64 },
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WireType { wire: u64, field: String },
    #[error("proto: illegal wireType {0}")]
    IllegalWireType(u64),
    #[error("{0}")]
    Value(String),
    #[error("exceeded max depth")]
    Depth,
    #[error(
        "object {0} does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message"
    )]
    NotMarshalable(String),
    #[error("{kind} of {api_version} is not known")]
    UnknownKind { api_version: String, kind: String },
}

/// An object's envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unknown<'a> {
    /// Empty where the sender left them out.
    pub api_version: &'a str,
    pub kind: &'a str,
    pub raw: &'a [u8],
    pub content_encoding: &'a str,
    pub content_type: &'a str,
}

/// Opens the envelope of an object.
pub fn envelope(data: &[u8]) -> Result<Unknown<'_>, ProtobufError> {
    if data.is_empty() {
        return Err(ProtobufError::Empty);
    }
    let data = data.strip_prefix(MAGIC).ok_or(ProtobufError::Prefix)?;
    if data.is_empty() {
        return Err(ProtobufError::EmptyBody);
    }
    let mut unknown = Unknown::default();
    for field in wire::fields("Unknown", data) {
        let field = field?;
        match field.number {
            1 => {
                for part in wire::fields("TypeMeta", field.bytes("TypeMeta")?) {
                    let part = part?;
                    match part.number {
                        1 => unknown.api_version = text(part.bytes("APIVersion")?)?,
                        2 => unknown.kind = text(part.bytes("Kind")?)?,
                        _ => {}
                    }
                }
            }
            2 => unknown.raw = field.bytes("Raw")?,
            3 => unknown.content_encoding = text(field.bytes("ContentEncoding")?)?,
            4 => unknown.content_type = text(field.bytes("ContentType")?)?,
            _ => {}
        }
    }
    Ok(unknown)
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, ProtobufError> {
    std::str::from_utf8(bytes).map_err(|_| ProtobufError::Value("string field contains invalid UTF-8".to_owned()))
}

/// Puts an object's bytes into an envelope.
pub fn wrap(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + api_version.len() + kind.len() + 32);
    out.extend_from_slice(MAGIC);
    wire::nested(1, &mut out, |out| {
        wire::bytes(1, api_version.as_bytes(), out);
        wire::bytes(2, kind.as_bytes(), out);
    });
    wire::bytes(2, raw, &mut out);
    wire::bytes(3, b"", &mut out);
    wire::bytes(4, b"", &mut out);
    out
}

/// The length of what follows, big-endian, with which a frame of a watch begins.
pub const LENGTH_BYTES: usize = size_of::<u32>();

/// A frame of a watch: the event with its object, which is enveloped bytes already.
pub fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let mut out = vec![0; LENGTH_BYTES];
    wire::bytes(1, event.as_bytes(), &mut out);
    wire::nested(2, &mut out, |out| wire::bytes(1, object, out));
    let length = u32::try_from(out.len() - LENGTH_BYTES).unwrap_or(u32::MAX);
    out[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    out
}

/// The type that an envelope tells, or else `default`.
fn type_of(schema: &Schema, unknown: &Unknown, default: Option<TypeId>) -> Result<TypeId, ProtobufError> {
    let (group, version) = unknown.api_version.rsplit_once('/').unwrap_or(("", unknown.api_version));
    let named = schema.kind(group, version, unknown.kind);
    named.or(default.filter(|_| unknown.kind.is_empty())).ok_or_else(|| ProtobufError::UnknownKind {
        api_version: unknown.api_version.to_owned(),
        kind: unknown.kind.to_owned(),
    })
}

/// The kind that a value tells of itself.
fn kind_of(value: &Value) -> (&str, &str) {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    (text("apiVersion"), text("kind"))
}

#[cfg(test)]
mod tests;
