//! Whether a schema is complete: whatever `allOf` and its like restrict must be declared outside of them, too.

use super::structural::{child, children, list};
use crate::field::{Error, Errors, Path};
use serde_json::{Map, Value};

type Schema = Map<String, Value>;

/// Checks what a whole schema restricts; as upstream, only what stands at its root.
pub fn validate(schema: &Schema, path: &Path, errors: &mut Errors) {
    branches(schema, schema, path, path, errors);
}

/// `declared`, at `at`, is what the restrictions of `schema`, at `path`, are about.
fn branches(schema: &Schema, declared: &Schema, at: &Path, path: &Path, errors: &mut Errors) {
    if let Some(not) = child(schema, "not") {
        restricted(not, Some(declared), at, &path.child("not"), errors);
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        let path = path.child(name);
        for (i, branch) in list(schema, name).into_iter().enumerate() {
            restricted(branch, Some(declared), at, &path.index(i), errors);
        }
    }
}

fn restricted(schema: &Schema, declared: Option<&Schema>, at: &Path, path: &Path, errors: &mut Errors) {
    let Some(declared) = declared else {
        errors.push(Error::required(*at, format!("because it is defined in {path}")));
        return;
    };
    branches(schema, declared, at, path, errors);
    if let Some(items) = child(schema, "items") {
        restricted(items, child(declared, "items"), &at.child("items"), &path.child("items"), errors);
    }
    let (at, path) = (at.child("properties"), path.child("properties"));
    for (name, property) in children(schema, "properties") {
        let declared = child(declared, "properties").and_then(|properties| child(properties, name));
        restricted(property, declared, &at.key(name), &path.key(name), errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_restricted_is_declared() {
        let Value::Object(schema) = json!({"type": "object",
            "properties": {"a": {"type": "object", "properties": {"b": {"type": "string"}}}, "l": {"type": "array"}},
            "anyOf": [{"properties": {"a": {"properties": {"b": {"minLength": 1}, "c": {"minLength": 1}}}}}],
            "not": {"properties": {"l": {"items": {"maxLength": 1}}}}})
        else {
            unreachable!("an object")
        };
        let mut errors = Errors::new();
        validate(&schema, &Path::new("s"), &mut errors);
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let want = [
            "s.properties[l].items: Required value: because it is defined in s.not.properties[l].items",
            "s.properties[a].properties[c]: Required value: because it is defined in \
             s.anyOf[0].properties[a].properties[c]",
        ];
        assert_eq!(told, want);
    }
}
