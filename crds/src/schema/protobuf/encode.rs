//! Values to protobuf.

use serde_json::{Map, Value};

use super::{DEPTH_MAX, ProtobufError, kind_of, wire};
use crate::schema::{
    Field, Or, Schema, Shape, Type, TypeId, encode as json,
    time::{self, Precision},
};

type Written = Result<(), ProtobufError>;

/// An object in its envelope; its own `apiVersion` and `kind` tell what it is.
pub fn encode(schema: &Schema, id: TypeId, value: &Value) -> Result<Vec<u8>, ProtobufError> {
    let mut raw = Vec::with_capacity(512);
    encode_raw(schema, id, value, &mut raw)?;
    let (api_version, kind) = kind_of(value);
    Ok(super::wrap(api_version, kind, &raw))
}

/// An object without envelope, appended to `out`. Upstream has no protobuf form of tables.
pub fn encode_raw(schema: &Schema, id: TypeId, value: &Value, out: &mut Vec<u8>) -> Written {
    let ty = schema.get(id);
    if ty.by_number.is_empty() && !ty.fields.is_empty() {
        return Err(ProtobufError::NotMarshalable(format!("*{}.{}", ty.package, ty.go)));
    }
    Encoder { schema, depth: 0 }.object(ty, value, out)
}

struct Encoder<'s> {
    schema: &'s Schema,
    depth: usize,
}

fn mismatch(field: &Field) -> ProtobufError {
    ProtobufError::Value(format!("the value of {} does not fit its type", field.json))
}

impl Encoder<'_> {
    fn object(&mut self, ty: &Type, value: &Value, out: &mut Vec<u8>) -> Written {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(ProtobufError::Depth);
        }
        let empty = Map::new();
        let written = self.fields(ty, &ty.by_number, 0, value.as_object().unwrap_or(&empty), out);
        self.depth -= 1;
        written
    }

    /// Writes the fields at these places, which have the first `level` numbers in common.
    fn fields(
        &mut self,
        ty: &Type,
        mut places: &[u16],
        level: usize,
        object: &Map<String, Value>,
        out: &mut Vec<u8>,
    ) -> Written {
        while let Some((first, rest)) = places.split_first() {
            let field = &ty.fields[usize::from(*first)];
            let number = field.numbers[level];
            if field.numbers.len() == level + 1 {
                self.field(field, number, object.get(&*field.json), out)?;
                places = rest;
                continue;
            }
            // The fields of an embedded struct are a message of their own.
            let group = places.partition_point(|at| ty.fields[usize::from(*at)].numbers[level] == number);
            let (inner, after) = places.split_at(group);
            wire::nested(number, out, |out| self.fields(ty, inner, level + 1, object, out))?;
            places = after;
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, number: u32, value: Option<&Value>, out: &mut Vec<u8>) -> Written {
        let value = value.filter(|v| !v.is_null());
        match (&field.shape, value) {
            (Shape::List(_) | Shape::Map(_) | Shape::Bytes, None) => Ok(()),
            (_, None) if field.pointer => Ok(()),
            (Shape::List(item), Some(Value::Array(items))) if field.wrapped => wire::nested(number, out, |out| {
                items.iter().try_for_each(|value| self.item(field, item, 1, value, out))
            }),
            (Shape::List(item), Some(Value::Array(items))) => {
                items.iter().try_for_each(|value| self.item(field, item, number, value, out))
            }
            (Shape::Map(item), Some(Value::Object(entries))) => entries.iter().try_for_each(|(key, value)| {
                wire::nested(number, out, |out| {
                    wire::bytes(1, key.as_bytes(), out);
                    self.item(field, item, 2, value, out)
                })
            }),
            (shape, value) => self.item(field, shape, number, value.unwrap_or(&Value::Null), out),
        }
    }

    fn item(&mut self, field: &Field, shape: &Shape, number: u32, value: &Value, out: &mut Vec<u8>) -> Written {
        match (shape, value) {
            (Shape::String, Value::String(text)) => wire::bytes(number, text.as_bytes(), out),
            (Shape::String, Value::Null) => wire::bytes(number, b"", out),
            (Shape::Int32 | Shape::Int64, Value::Number(n)) => {
                wire::number(number, n.as_i64().ok_or_else(|| mismatch(field))? as u64, out);
            }
            (Shape::Bool, Value::Bool(b)) => wire::number(number, u64::from(*b), out),
            (Shape::Int32 | Shape::Int64 | Shape::Bool, Value::Null) => wire::number(number, 0, out),
            (Shape::Double, value) => wire::double(number, value.as_f64().unwrap_or_default(), out),
            (Shape::Bytes, Value::String(text)) => {
                wire::bytes(number, &time::bytes(text).map_err(ProtobufError::Value)?, out);
            }
            (Shape::Bytes, Value::Null) => wire::bytes(number, b"", out),
            (Shape::Time, value) => return timestamp(Precision::Seconds, number, value, out),
            (Shape::MicroTime, value) => return timestamp(Precision::Micros, number, value, out),
            (Shape::Quantity, value) => wire::nested(number, out, |out| match value {
                Value::String(text) => wire::bytes(1, text.as_bytes(), out),
                Value::Null => wire::bytes(1, b"0", out),
                other => wire::bytes(1, other.to_string().as_bytes(), out),
            }),
            (Shape::IntOrString, value) => wire::nested(number, out, |out| {
                let text = value.as_str();
                wire::number(1, u64::from(text.is_some()), out);
                wire::number(2, value.as_i64().unwrap_or_default() as u64, out);
                wire::bytes(3, text.unwrap_or_default().as_bytes(), out);
            }),
            (Shape::Raw | Shape::FieldsV1 | Shape::Any, value) => wire::nested(number, out, |out| {
                if !value.is_null() {
                    let mut text = Vec::new();
                    json::write_any(value, true, &mut text);
                    wire::bytes(1, &text, out);
                }
            }),
            (Shape::Object(id), value) => {
                let ty = self.schema.get(*id);
                return wire::nested(number, out, |out| self.object(ty, value, out));
            }
            (Shape::Either(id, or), value) => {
                return wire::nested(number, out, |out| self.either(*id, *or, value, out));
            }
            // A list in a map: a message of its own.
            (Shape::List(item), value) => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                return wire::nested(number, out, |out| {
                    items.iter().try_for_each(|value| self.item(field, item, 1, value, out))
                });
            }
            _ => return Err(mismatch(field)),
        }
        Ok(())
    }

    fn either(&mut self, id: TypeId, or: Or, value: &Value, out: &mut Vec<u8>) -> Written {
        let ty = self.schema.get(id);
        let schema_number = if or == Or::Bool { 2 } else { 1 };
        if or == Or::Bool {
            wire::number(1, u64::from(value != &Value::Bool(false) && !value.is_null()), out);
        }
        match value {
            Value::Object(_) => wire::nested(schema_number, out, |out| self.object(ty, value, out)),
            Value::Array(items) if or == Or::List => {
                items.iter().try_for_each(|item| wire::nested(2, out, |out| self.object(ty, item, out)))
            }
            Value::Array(items) => {
                items.iter().filter_map(Value::as_str).for_each(|text| wire::bytes(2, text.as_bytes(), out));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Nothing but an empty message for Go's zero time.
fn timestamp(precision: Precision, number: u32, value: &Value, out: &mut Vec<u8>) -> Written {
    let time = value.as_str().map(|text| precision.read(text)).transpose().map_err(ProtobufError::Value)?;
    wire::nested(number, out, |out| {
        if let Some(time) = time.filter(|time| !time.is_zero()) {
            wire::number(1, time.seconds as u64, out);
            wire::number(2, if precision == Precision::Micros { time.nanos as u64 / 1_000 * 1_000 } else { 0 }, out);
        }
    });
    Ok(())
}
