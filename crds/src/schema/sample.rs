//! For tests: a value of any type, with everything in it.

use serde_json::{Value, json};

use super::{Schema, Shape, TypeId};

/// A value in which every field is set, and to none that would be left out; of types within themselves, twice.
pub fn full(schema: &Schema, shape: &Shape, above: &mut Vec<TypeId>) -> Value {
    match shape {
        Shape::Bool => json!(true),
        Shape::Int32 => json!(-7),
        Shape::Int64 => json!(1_i64 << 40),
        Shape::Double => json!(2.5),
        Shape::String => json!("text"),
        Shape::Bytes => json!("AAEC"),
        Shape::Time => json!("2026-01-02T03:04:05Z"),
        Shape::MicroTime => json!("2026-01-02T03:04:05.123456Z"),
        Shape::Duration => json!("1m5s"),
        Shape::Quantity => json!("1500m"),
        Shape::IntOrString => json!("25%"),
        Shape::FieldsV1 => json!({"f:a": {".": {}}}),
        Shape::Raw => json!({"apiVersion": "v1", "kind": "X", "n": 1}),
        Shape::Any => json!({"a": [null, 1.5, "b"]}),
        Shape::Object(id) | Shape::Either(id, _) => {
            let within = above.iter().filter(|other| *other == id).count();
            above.push(*id);
            // In the innermost one, what would go on for ever is not there.
            let ends = |shape: &Shape| within > 0 && names(shape).is_some_and(|id| above.contains(&id));
            let fields = schema.get(*id).fields.iter().filter(|field| !field.numbers.is_empty() && !ends(&field.shape));
            let fields: Vec<_> = fields.collect();
            let object = fields.into_iter().map(|field| (field.json.to_string(), full(schema, &field.shape, above)));
            let object = Value::Object(object.collect());
            above.pop();
            object
        }
        Shape::List(item) => json!([full(schema, item, above)]),
        Shape::Map(item) => json!({"key": full(schema, item, above)}),
    }
}

/// The type that a shape is made of.
fn names(shape: &Shape) -> Option<TypeId> {
    match shape {
        Shape::Object(id) | Shape::Either(id, _) => Some(*id),
        Shape::List(inner) | Shape::Map(inner) => names(inner),
        _ => None,
    }
}
