//! Protobuf to values.

use serde_json::{Map, Number, Value};

use super::{
    DEPTH_MAX, MAGIC, ProtobufError, envelope, text, type_of,
    wire::{self, Payload, WireField},
};
use crate::{
    quantity::Quantity,
    schema::{
        Field, Or, Schema, Shape, Type, TypeId, decode as json,
        time::{self, Instant, Precision},
    },
};

type Read<T> = Result<T, ProtobufError>;

/// An enveloped object; the value has its `apiVersion` and `kind`, where the envelope tells them.
///
/// `default` is what it is taken for if the envelope has no kind.
pub fn decode(schema: &Schema, data: &[u8], default: Option<TypeId>) -> Read<Value> {
    Decoder { schema, depth: 0 }.enveloped(data, default)
}

/// An object without envelope.
pub fn decode_as(schema: &Schema, id: TypeId, raw: &[u8]) -> Read<Value> {
    Decoder { schema, depth: 0 }.object(schema.get(id), raw, Map::new()).map(Value::Object)
}

struct Decoder<'s> {
    schema: &'s Schema,
    depth: usize,
}

impl Decoder<'_> {
    fn enveloped(&mut self, data: &[u8], default: Option<TypeId>) -> Read<Value> {
        let unknown = envelope(data)?;
        let id = type_of(self.schema, &unknown, default)?;
        let mut object = self.object(self.schema.get(id), unknown.raw, Map::new())?;
        for (name, value) in [("apiVersion", unknown.api_version), ("kind", unknown.kind)] {
            if !value.is_empty() {
                object.insert(name.to_owned(), value.into());
            }
        }
        Ok(Value::Object(object))
    }

    /// A message that comes twice is read into what the first one left.
    fn object(&mut self, ty: &Type, data: &[u8], mut object: Map<String, Value>) -> Read<Map<String, Value>> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(ProtobufError::Depth);
        }
        self.fields(ty, &ty.by_number, 0, data, &mut object)?;
        self.depth -= 1;
        Ok(object)
    }

    /// Reads the fields at these places, which have the first `level` numbers in common; others are passed over.
    fn fields(
        &mut self,
        ty: &Type,
        places: &[u16],
        level: usize,
        data: &[u8],
        object: &mut Map<String, Value>,
    ) -> Read<()> {
        let number_at = |at: &u16| ty.fields[usize::from(*at)].numbers[level];
        for wired in wire::fields(&ty.go, data) {
            let wired = wired?;
            let start = places.partition_point(|at| number_at(at) < wired.number);
            let Some(first) = places.get(start).filter(|at| number_at(at) == wired.number) else { continue };
            let field = &ty.fields[usize::from(*first)];
            if field.numbers.len() == level + 1 {
                self.field(field, wired, object)?;
                continue;
            }
            let end = places.partition_point(|at| number_at(at) <= wired.number);
            let name = field.embedded.as_deref().unwrap_or_default();
            self.fields(ty, &places[start..end], level + 1, wired.bytes(name)?, object)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, wired: WireField, object: &mut Map<String, Value>) -> Read<()> {
        match &field.shape {
            Shape::List(item) if field.wrapped => {
                let Value::Array(items) = slot(object, field, Value::Array(Vec::new())) else { return Ok(()) };
                self.wrapped(field, item, wired.bytes(&field.go)?, items)?;
            }
            Shape::List(item) => {
                let Value::Array(items) = slot(object, field, Value::Array(Vec::new())) else { return Ok(()) };
                match (&**item, wired.payload) {
                    // Packed: upstream's code takes both.
                    (Shape::Int32 | Shape::Int64 | Shape::Bool, Payload::Bytes(mut packed)) => {
                        while !packed.is_empty() {
                            let number = wire::varint(&mut packed)?;
                            items.push(scalar(item, number));
                        }
                    }
                    _ => items.push(self.value(field, item, wired, None)?),
                }
            }
            Shape::Map(item) => {
                let (key, value) = self.entry(field, item, wired.bytes(&field.go)?)?;
                if let Value::Object(entries) = slot(object, field, Value::Object(Map::new())) {
                    entries.insert(key, value);
                }
            }
            shape => {
                let old = if matches!(shape, Shape::Object(_)) { object.remove(&*field.json) } else { None };
                let value = self.value(field, shape, wired, old)?;
                if field.pointer || !is_zero(shape, &value) {
                    object.insert(field.json.to_string(), value);
                }
            }
        }
        Ok(())
    }

    /// The message around a list of texts.
    fn wrapped(&mut self, field: &Field, item: &Shape, data: &[u8], items: &mut Vec<Value>) -> Read<()> {
        for part in wire::fields(&field.go, data) {
            let part = part?;
            if part.number == 1 {
                items.push(self.value(field, item, part, None)?);
            }
        }
        Ok(())
    }

    fn entry(&mut self, field: &Field, item: &Shape, data: &[u8]) -> Read<(String, Value)> {
        let (mut key, mut value) = (String::new(), None);
        for part in wire::fields(&field.go, data) {
            let part = part?;
            match (part.number, item) {
                (1, _) => key = text(part.bytes(&field.go)?)?.to_owned(),
                (2, Shape::List(inner)) => {
                    let mut items = Vec::new();
                    self.wrapped(field, inner, part.bytes(&field.go)?, &mut items)?;
                    value = Some(Value::Array(items));
                }
                (2, item) => value = Some(self.value(field, item, part, None)?),
                _ => {}
            }
        }
        Ok((key, value.unwrap_or_else(|| zero(item))))
    }

    fn value(&mut self, field: &Field, shape: &Shape, wired: WireField, old: Option<Value>) -> Read<Value> {
        let go = &*field.go;
        Ok(match shape {
            Shape::String => Value::String(text(wired.bytes(go)?)?.to_owned()),
            Shape::Int32 | Shape::Int64 | Shape::Bool => scalar(shape, wired.varint(go)?),
            Shape::Double => Number::from_f64(wired.double(go)?).map_or(Value::Null, Value::Number),
            Shape::Bytes => Value::String(time::text(wired.bytes(go)?)),
            Shape::Time => timestamp(Precision::Seconds, wired.bytes(go)?)?,
            Shape::MicroTime => timestamp(Precision::Micros, wired.bytes(go)?)?,
            Shape::Duration => Value::String(text(wired.bytes(go)?)?.to_owned()),
            Shape::Quantity => {
                let mut quantity = String::from("0");
                for part in wire::fields("Quantity", wired.bytes(go)?) {
                    let part = part?;
                    if part.number == 1 {
                        let parsed = text(part.bytes("String_")?)?.parse::<Quantity>();
                        quantity = parsed.map_err(|problem| ProtobufError::Value(problem.to_string()))?.to_string();
                    }
                }
                Value::String(quantity)
            }
            Shape::IntOrString => int_or_string(wired.bytes(go)?)?,
            Shape::Raw | Shape::FieldsV1 | Shape::Any => {
                let mut value = Value::Null;
                for part in wire::fields(go, wired.bytes(go)?) {
                    let part = part?;
                    if part.number == 1 {
                        value = self.raw(part.bytes("Raw")?)?;
                    }
                }
                value
            }
            Shape::Object(id) => {
                let old = if let Some(Value::Object(old)) = old { old } else { Map::new() };
                Value::Object(self.object(self.schema.get(*id), wired.bytes(go)?, old)?)
            }
            Shape::Either(id, or) => self.either(*id, *or, wired.bytes(go)?)?,
            Shape::List(_) | Shape::Map(_) => Value::Null,
        })
    }

    /// An embedded object: JSON, or enveloped as in a watch event.
    fn raw(&mut self, data: &[u8]) -> Read<Value> {
        if data.is_empty() {
            return Ok(Value::Null);
        }
        if data.starts_with(MAGIC) {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(ProtobufError::Depth);
            }
            let value = self.enveloped(data, None)?;
            self.depth -= 1;
            return Ok(value);
        }
        json::any(data).map(|decoded| decoded.value).map_err(|problem| ProtobufError::Value(problem.to_string()))
    }

    fn either(&mut self, id: TypeId, or: Or, data: &[u8]) -> Read<Value> {
        let ty = self.schema.get(id);
        let schema_number = if or == Or::Bool { 2 } else { 1 };
        let (mut allows, mut schema, mut items) = (false, None, Vec::new());
        for part in wire::fields("JSONSchemaProps", data) {
            let part = part?;
            match (part.number, or) {
                (number, _) if number == schema_number => {
                    let object = self.object(ty, part.bytes("Schema")?, Map::new())?;
                    schema = Some(Value::Object(object));
                }
                (1, Or::Bool) => allows = part.varint("Allows")? != 0,
                (2, Or::List) => {
                    items.push(Value::Object(self.object(ty, part.bytes("JSONSchemas")?, Map::new())?));
                }
                (2, Or::Texts) => items.push(text(part.bytes("Property")?)?.into()),
                _ => {}
            }
        }
        Ok(match (schema, or) {
            _ if !items.is_empty() => Value::Array(items),
            (Some(schema), _) => schema,
            (None, Or::Bool) => Value::Bool(allows),
            (None, _) => Value::Null,
        })
    }
}

/// Where the field's list or map is gathered.
fn slot<'o>(object: &'o mut Map<String, Value>, field: &Field, empty: Value) -> &'o mut Value {
    if !object.contains_key(&*field.json) {
        object.insert(field.json.to_string(), empty);
    }
    &mut object[&*field.json]
}

fn scalar(shape: &Shape, number: u64) -> Value {
    match shape {
        Shape::Bool => Value::Bool(number != 0),
        Shape::Int32 => Value::from(number as i32),
        _ => Value::from(number as i64),
    }
}

fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::IntOrString => Value::from(0),
        Shape::String | Shape::Bytes => Value::String(String::new()),
        Shape::Quantity => Value::String("0".to_owned()),
        Shape::Object(_) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

/// A zero that is not behind a pointer means nothing; canonical form brings it back where Go writes it.
fn is_zero(shape: &Shape, value: &Value) -> bool {
    match (shape, value) {
        (_, Value::Null | Value::Bool(false)) => true,
        (Shape::Int32 | Shape::Int64, value) => value.as_i64() == Some(0),
        (Shape::Double, value) => value.as_f64() == Some(0.0),
        (Shape::String, Value::String(text)) => text.is_empty(),
        _ => false,
    }
}

fn timestamp(precision: Precision, data: &[u8]) -> Read<Value> {
    if data.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    for part in wire::fields("Timestamp", data) {
        let part = part?;
        match part.number {
            1 => seconds = part.varint("Seconds")? as i64,
            2 => nanos = part.varint("Nanos")? as i32,
            _ => {}
        }
    }
    // Go carries what is more than a second over; so far out, years have no four digits and are no times.
    if !(-62_200_000_000..=253_402_300_799).contains(&seconds) {
        return Err(ProtobufError::Value("time is out of range".to_owned()));
    }
    let nanos = if precision == Precision::Micros { nanos / 1_000 * 1_000 } else { 0 };
    let seconds = seconds + i64::from(nanos.div_euclid(1_000_000_000));
    let time = Instant { seconds, nanos: nanos.rem_euclid(1_000_000_000) };
    Ok(if time.is_zero() { Value::Null } else { Value::String(precision.write(time)) })
}

fn int_or_string(data: &[u8]) -> Read<Value> {
    let (mut is_text, mut number, mut words) = (false, 0, "");
    for part in wire::fields("IntOrString", data) {
        let part = part?;
        match part.number {
            1 => is_text = part.varint("Type")? == 1,
            2 => number = part.varint("IntVal")? as i32,
            3 => words = text(part.bytes("StrVal")?)?,
            _ => {}
        }
    }
    Ok(if is_text { words.into() } else { number.into() })
}
