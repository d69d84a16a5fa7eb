//! Round trips over every kind, known bytes, and bytes that mean nothing.

use serde_json::{Map, Value, json};

use super::*;
use crate::schema::{Or, Schema, Shape, builtin, decode as json_decode, encode::canonical, sample::full};

/// A small generator of numbers: the same objects in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn object(schema: &Schema, id: TypeId, dice: &mut Dice, depth: usize) -> Value {
    let mut object = Map::new();
    for field in &schema.get(id).fields {
        if !field.numbers.is_empty() && dice.roll(3) > 0 {
            object.insert(field.json.to_string(), value(schema, &field.shape, dice, depth + 1));
        }
    }
    Value::Object(object)
}

fn value(schema: &Schema, shape: &Shape, dice: &mut Dice, depth: usize) -> Value {
    let number = dice.roll(5);
    let items = if depth > 6 { 0 } else { dice.roll(3) };
    match shape {
        Shape::Bool => json!(number > 2),
        Shape::Int32 => json!([0, 1, -1, i32::MAX, i32::MIN][number as usize]),
        Shape::Int64 => json!([0, 1, -1, i64::MAX, i64::MIN][number as usize]),
        Shape::Double => json!([0.0, 1.0, -0.5, 1e300, 3.25][number as usize]),
        Shape::String => json!(["", "a", "é<&>", "\n\"", "x".repeat(200).as_str()][number as usize]),
        Shape::Bytes => json!(["", "YQ==", "YWI=", "AAEC", "/+8="][number as usize]),
        Shape::Time => json!(["2026-01-02T03:04:05Z", "1969-12-31T23:59:59Z"][number as usize % 2]),
        Shape::MicroTime => json!(["2026-01-02T03:04:05.123456Z", "1960-01-01T00:00:00.000001Z"][number as usize % 2]),
        Shape::Duration => json!("1s"),
        Shape::Quantity => json!(["0", "100m", "1Gi", "1e3", "-5"][number as usize]),
        Shape::IntOrString => [json!(0), json!(80), json!(-1), json!("http"), json!("25%")][number as usize].clone(),
        Shape::FieldsV1 => json!({"f:a": {".": {}}}),
        Shape::Raw => json!({"kind": "X", "n": 1}),
        Shape::Any => [json!("a"), json!(1), json!([true]), json!({"a": null}), json!(false)][number as usize].clone(),
        Shape::Object(_) if depth > 12 => json!({}),
        Shape::Object(id) => object(schema, *id, dice, depth),
        Shape::Either(id, or) => match (or, number) {
            (Or::Bool, 0 | 1) => json!(number == 0),
            (Or::Texts, 0 | 1) => json!(["a", "b"]),
            (Or::List, 0 | 1) if depth < 6 => json!([object(schema, *id, dice, depth + 3)]),
            _ => object(schema, *id, dice, depth + 3),
        },
        Shape::List(item) => (0..items).map(|_| value(schema, item, dice, depth)).collect(),
        Shape::Map(item) => {
            let entries = (0..items).map(|n| (format!("k{n}"), value(schema, item, dice, depth)));
            Value::Object(entries.collect())
        }
    }
}

#[test]
fn every_kind_round_trips() {
    let schema = builtin();
    let mut dice = Dice(1);
    let mut seen = 0;
    for (at, ty) in schema.types.iter().enumerate().filter(|(_, ty)| !ty.kinds.is_empty() || ty.everywhere.is_some()) {
        let id = TypeId(at as u32);
        if ty.by_number.is_empty() {
            continue;
        }
        for _ in 0..5 {
            let mut before = object(schema, id, &mut dice, 0);
            if let Some([group, version, kind]) = ty.kinds.first() {
                let version = if group.is_empty() { version.to_string() } else { format!("{group}/{version}") };
                before["apiVersion"] = json!(version);
                before["kind"] = json!(**kind);
            }
            canonical(schema, id, &mut before);
            let wire = encode(schema, id, &before).unwrap();
            let mut after = decode(schema, &wire, Some(id)).unwrap();
            canonical(schema, id, &mut after);
            assert_eq!(before, after, "{}", ty.name);
            assert_eq!(encode(schema, id, &after).unwrap(), wire, "{}", ty.name);
            let json = crate::schema::encode::json(schema, id, &after);
            let mut read = json_decode::json(schema, id, &json).unwrap();
            assert_eq!(read.strict, [""; 0]);
            canonical(schema, id, &mut read.value);
            assert_eq!(read.value, after, "{}", ty.name);
        }
        seen += 1;
    }
    assert!(seen > 150, "{seen} kinds");
}

/// Where a value differs from one that must have all that it has.
fn lost(before: &Value, after: &Value, path: &str) -> Option<String> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before.iter().find_map(|(name, value)| {
            let path = format!("{path}.{name}");
            after.get(name).map_or_else(|| Some(path.clone()), |after| lost(value, after, &path))
        }),
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            before.iter().zip(after).find_map(|(before, after)| lost(before, after, path))
        }
        _ => (before != after).then(|| format!("{path}: {before} became {after}")),
    }
}

/// Kinds, their lists, and what every group has, `Status` and `DeleteOptions` among them.
#[test]
fn every_field_of_every_kind_round_trips() {
    let schema = builtin();
    for kind in crate::kinds::all() {
        let list = schema.kind(&kind.gvk.group, &kind.gvk.version, &kind.list_kind);
        let stored = kind.verbs.contains(&crate::kind::Verb::List);
        assert!(kind.facts.get().is_some() && (list.is_some() || !stored), "{:?}", kind.gvk);
    }
    let mut seen = Vec::new();
    for (at, ty) in schema.types.iter().enumerate().filter(|(_, ty)| !ty.kinds.is_empty() || ty.everywhere.is_some()) {
        let id = TypeId(at as u32);
        if ty.by_number.is_empty() {
            continue;
        }
        let mut before = full(schema, &Shape::Object(id), &mut Vec::new());
        if let Some([group, version, kind]) = ty.kinds.first() {
            before["apiVersion"] = json!(crate::kind::group_version(group, version));
            before["kind"] = json!(**kind);
        }
        let bytes = encode(schema, id, &before).unwrap();
        let after = decode(schema, &bytes, Some(id)).unwrap();
        assert_eq!(lost(&before, &after, &ty.name), None);
        assert_eq!(encode(schema, id, &after).unwrap(), bytes, "{}", ty.name);
        let frame = watch_frame("MODIFIED", &bytes);
        assert_eq!(frame[..4], u32::to_be_bytes(u32::try_from(frame.len() - 4).unwrap()));
        let parts: Vec<_> = wire::fields("WatchEvent", &frame[4..]).collect::<Result<_, _>>().unwrap();
        assert_eq!((parts[0].number, parts[0].bytes("type").unwrap()), (1, &b"MODIFIED"[..]));
        let raw: Vec<_> = wire::fields("RawExtension", parts[1].bytes("object").unwrap()).map(Result::unwrap).collect();
        assert_eq!((raw[0].number, raw[0].bytes("raw").unwrap()), (1, &bytes[..]));
        seen.push(&*ty.go);
    }
    for name in ["Status", "DeleteOptions", "PodList", "LeaseCandidateList", "DeviceTaintRule"] {
        assert!(seen.contains(&name), "{name}");
    }
}

#[test]
fn known_bytes() {
    let schema = builtin();
    let id = schema.kind("", "v1", "ConfigMap").unwrap();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let wire = encode(schema, id, &map).unwrap();
    let mut want = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x1b".to_vec();
    want.extend_from_slice(b"\x0a\x11\x0a\x01a\x12\0\x1a\0\x22\0\x2a\0\x32\0\x38\0\x42\0\x12\x06\x0a\x01k\x12\x01v");
    want.extend_from_slice(b"\x1a\0\x22\0");
    assert_eq!(wire, want);
    assert_eq!(decode(schema, &wire, None).unwrap(), map);
}

#[test]
fn frames() {
    let frame = watch_frame("ADDED", b"k8s\0x");
    assert_eq!(frame, b"\0\0\0\x10\x0a\x05ADDED\x12\x07\x0a\x05k8s\0x");
}

#[test]
fn refusals() {
    let schema = builtin();
    assert_eq!(decode(schema, b"", None), Err(ProtobufError::Empty));
    assert_eq!(decode(schema, b"k8s\0", None), Err(ProtobufError::EmptyBody));
    assert_eq!(decode(schema, b"{}", None), Err(ProtobufError::Prefix));
    let table = schema.id("io.k8s.apimachinery.pkg.apis.meta.v1.Table").unwrap();
    assert!(matches!(encode(schema, table, &json!({})), Err(ProtobufError::NotMarshalable(_))));
    let id = schema.kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
    let props = schema.id("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps").unwrap();
    let not = schema.get(props).field("not").unwrap().numbers[0];
    let mut deep = Vec::new();
    for _ in 0..300 {
        let inner = std::mem::take(&mut deep);
        wire::bytes(not, &inner, &mut deep);
    }
    assert_eq!(decode_as(schema, props, &deep), Err(ProtobufError::Depth));
    assert!(decode_as(schema, id, &[0xff; 20]).is_err());
}

#[test]
fn no_panic_on_any_bytes() {
    let schema = builtin();
    let id = schema.kind("", "v1", "Pod").unwrap();
    let mut dice = Dice(7);
    let pod = object(schema, id, &mut dice, 0);
    let mut wire = Vec::new();
    encode_raw(schema, id, &pod, &mut wire).unwrap();
    for _ in 0..3_000 {
        let (at, bit) = (dice.roll(wire.len() as u64) as usize, 1 << dice.roll(8));
        wire[at] ^= bit;
        if let Ok(mut value) = decode_as(schema, id, &wire) {
            canonical(schema, id, &mut value);
            let _bytes = encode(schema, id, &value);
        }
        if dice.roll(10) > 0 {
            wire[at] ^= bit;
        }
    }
    for length in 0..wire.len() {
        let _value = decode_as(schema, id, &wire[..length]);
    }
}
