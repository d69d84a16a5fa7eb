//! The text of a patched object, which errors show: Go's libraries open only what a patch goes through, and sort the
//! members there; all else stands as it was declared.

use std::collections::BTreeMap;

use crds::schema::{Schema, Shape, TypeId, encode};
use serde_json::Value;

/// How far a patch has opened a value.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// Its members, or items by their index; those not named are as they were.
    Members(BTreeMap<String, Opened>),
    /// It came with the patch, or has been looked through.
    Whole,
}

impl Opened {
    /// What a merge patch opens of a document.
    pub fn by_merge(document: &Value, patch: &Value) -> Self {
        let (Value::Object(there), Value::Object(members)) = (document, patch) else { return Self::Whole };
        let opened = |(key, patch): (&String, &Value)| {
            (key.clone(), Self::by_merge(there.get(key).unwrap_or(&Value::Null), patch))
        };
        Self::Members(members.iter().map(opened).collect())
    }

    /// What the operations of a JSON patch open. Items of a list are taken to stay where they are.
    pub fn by_operations(patch: &Value) -> Self {
        let mut opened = Self::Members(BTreeMap::new());
        for operation in patch.as_array().into_iter().flatten() {
            for pointer in ["from", "path"].into_iter().filter_map(|name| operation.get(name)?.as_str()) {
                opened.open(pointer);
            }
        }
        opened
    }

    fn open(&mut self, pointer: &str) {
        let mut at = self;
        for part in pointer.split('/').skip(1) {
            let Self::Members(members) = at else { return };
            at = members.entry(super::json::unescape(part)).or_insert_with(|| Self::Members(BTreeMap::new()));
        }
        *at = Self::Whole;
    }

    fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Members(members) => members.get(name),
            Self::Whole => Some(self),
        }
    }
}

/// The text of a value of type `ty`.
pub fn text(schema: &Schema, ty: TypeId, value: &Value, opened: &Opened) -> String {
    let mut out = Vec::with_capacity(1024);
    write(schema, Some(&Shape::Object(ty)), value, Some(opened), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn write(schema: &Schema, shape: Option<&Shape>, value: &Value, opened: Option<&Opened>, out: &mut Vec<u8>) {
    match (opened, shape, value) {
        (None, Some(shape), value) => encode::write_shape(schema, shape, value, out),
        (None, None, value) | (Some(Opened::Whole), _, value) => out.extend(encode::any(value)),
        (Some(opened), shape, Value::Object(members)) => {
            out.push(b'{');
            for (i, (name, value)) in members.iter().enumerate() {
                comma(i, out);
                encode::write_text(name, out);
                out.push(b':');
                write(schema, shape.and_then(|shape| member(schema, shape, name)), value, opened.member(name), out);
            }
            out.push(b'}');
        }
        (Some(opened), shape, Value::Array(items)) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                comma(i, out);
                let of = shape.and_then(|shape| match shape {
                    Shape::List(of) => Some(&**of),
                    _ => None,
                });
                write(schema, of, item, opened.member(&i.to_string()), out);
            }
            out.push(b']');
        }
        (Some(_), _, value) => out.extend(encode::any(value)),
    }
}

fn comma(before: usize, out: &mut Vec<u8>) {
    if before > 0 {
        out.push(b',');
    }
}

fn member<'a>(schema: &'a Schema, shape: &'a Shape, name: &str) -> Option<&'a Shape> {
    match shape {
        Shape::Object(id) => schema.get(*id).field(name).map(|field| &field.shape),
        Shape::Map(of) => Some(of),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_opened_is_sorted() {
        let schema = crds::schema::builtin();
        let ty = schema.kind("", "v1", "Pod").unwrap();
        let metadata = json!({"name": "p", "namespace": "n", "uid": "u", "annotations": {"b": "<", "a": ""}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers":
            [{"name": "c", "image": "i"}], "hostname": 1}});
        let patch = json!({"spec": {"hostname": 1}});
        assert_eq!(
            text(schema, ty, &pod, &Opened::by_merge(&pod, &patch)),
            "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\",\"namespace\":\"n\",\"uid\":\"u\",\
             \"annotations\":{\"a\":\"\",\"b\":\"\\u003c\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\",\
             \"resources\":{}}],\"hostname\":1}}"
        );
        let patch = json!([{"op": "add", "path": "/spec/containers/0/image", "value": 1}]);
        let opened = Opened::by_operations(&patch);
        assert!(
            text(schema, ty, &pod, &opened)
                .ends_with("\"containers\":[{\"image\":\"i\",\"name\":\"c\"}],\"hostname\":1}}")
        );
    }
}
