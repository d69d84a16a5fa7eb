//! Laying a configuration over an object for a policy, which owns nothing.

use crds::schema::{ListType, Schema, TypeId};
use serde_json::Value;

use super::{
    atom::{Atom, Place},
    merge::merge,
    typed::check,
};

/// A configuration laid over an object without any regard to who owns what. What is owned as a whole cannot be part of
/// it: the rest of that would be lost. The error tells why, as upstream does.
pub fn lay_over(schema: &Schema, ty: TypeId, live: &Value, applied: &Value) -> std::result::Result<Value, String> {
    let place = Place::Type(ty);
    check(schema, place, applied).map_err(|why| format!("failed to convert patch object to typed object: {why}"))?;
    let mut atomics = Vec::new();
    find_atomics(schema, place, applied, "", &mut atomics);
    if !atomics.is_empty() {
        let atomics = atomics.join(", ");
        return Err(format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {atomics}"));
    }
    Ok(merge(schema, place, Some(live), Some(applied)).unwrap_or_default())
}

fn find_atomics(schema: &Schema, place: Place, value: &Value, path: &str, found: &mut Vec<String>) {
    match (place.atom(schema, Some(value)), value) {
        (Atom::Map { of, atomic }, Value::Object(map)) => {
            found.extend(atomic.then(|| path.to_owned()));
            for (name, value) in map {
                let declared = of.get(name).filter(|_| of.declares(name));
                if let Some(place) = declared {
                    find_atomics(schema, place, value, &format!("{path}.{name}"), found);
                }
            }
        }
        (Atom::List { list, item }, Value::Array(items)) => {
            found.extend((*list == ListType::Atomic).then(|| path.to_owned()));
            for (i, value) in items.iter().enumerate() {
                find_atomics(schema, item, value, &format!("{path}[{i}]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_are_merged_and_atomics_refused() {
        let schema = crds::schema::builtin();
        let ty = schema.kind("", "v1", "Pod").unwrap();
        let live = json!({"spec": {"containers": [{"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}]}]}});
        let over = json!({"spec": {"containers": [{"name": "a", "env": [{"name": "F", "value": "2"}]}]}});
        let laid = lay_over(schema, ty, &live, &over).unwrap();
        let env = json!([{"name": "E", "value": "1"}, {"name": "F", "value": "2"}]);
        assert_eq!(laid["spec"]["containers"], json!([{"name": "a", "image": "x", "env": env}]));
        let atomic = json!({"spec": {"containers": [{"name": "a", "command": ["x"]}]}});
        let why = lay_over(schema, ty, &live, &atomic).unwrap_err();
        let words =
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].command";
        assert_eq!(why, words);
    }
}
