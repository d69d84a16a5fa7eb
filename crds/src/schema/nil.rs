//! Go's nil pointers where our types have a value that cannot be absent.

use serde_json::Value;

use super::{Field, Schema, Shape, TypeId, encode};

/// Puts null where `made` of a type has an empty list, or an empty value for a required pointer, that `from`, of which it
/// was made, left out; and the lists of a map that are null there.
pub fn keep(schema: &Schema, id: TypeId, from: &Value, made: &mut Value) {
    let ty = schema.get(id);
    for (name, value) in made.as_object_mut().into_iter().flatten() {
        // Most is not looked up: scalars that say something, and metadata, which has nothing that it was not given.
        if name == "metadata" || !value.is_object() && !value.is_array() && !encode::is_empty(value) {
            continue;
        }
        let Some(field) = ty.field(name) else { continue };
        match from.get(&*field.json).filter(|given| !given.is_null()) {
            Some(given) => keep_shape(schema, &field.shape, given, value),
            None if is_nil(field, value) => *value = Value::Null,
            None => keep_shape(schema, &field.shape, &Value::Null, value),
        }
    }
}

/// Whether Go would hold nothing where our type holds this.
fn is_nil(field: &Field, value: &Value) -> bool {
    match field.shape {
        Shape::List(_) | Shape::Map(_) => encode::is_empty(value),
        _ => field.pointer && field.required && is_hollow(value),
    }
}

/// The same of a shape.
pub fn keep_shape(schema: &Schema, shape: &Shape, from: &Value, made: &mut Value) {
    match (shape, from, made) {
        (Shape::Object(id), from, made) => keep(schema, *id, from, made),
        (Shape::List(item), Value::Array(from), Value::Array(made)) => {
            from.iter().zip(made).for_each(|(from, made)| keep_shape(schema, item, from, made));
        }
        (Shape::Map(item), Value::Object(from), Value::Object(made)) => {
            for (name, from) in from {
                match made.get_mut(name) {
                    Some(made) => keep_shape(schema, item, from, made),
                    None if from.is_null() && matches!(**item, Shape::List(_) | Shape::Map(_)) => {
                        made.insert(name.clone(), Value::Null);
                    }
                    None => {}
                }
            }
        }
        _ => {}
    }
}

/// What a type of ours makes of nothing.
fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.values().all(is_hollow),
        value => encode::is_empty(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::builtin;

    #[test]
    fn a_pointer_that_was_left_out_stays_so() {
        let id = builtin().kind("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration").unwrap();
        let from = json!({"webhooks": [{"name": "a"}, {"sideEffects": null}, {"sideEffects": ""}, {}]});
        let mut made = json!({"webhooks": [
            {"name": "a", "sideEffects": ""}, {"sideEffects": ""}, {"sideEffects": ""}, {"sideEffects": "None"},
        ]});
        keep(builtin(), id, &from, &mut made);
        let want = json!([
            {"name": "a", "sideEffects": null}, {"sideEffects": null}, {"sideEffects": ""}, {"sideEffects": "None"},
        ]);
        assert_eq!(made["webhooks"], want);
    }

    #[test]
    fn a_list_in_a_map_stays_null() {
        let id = builtin().kind("authorization.k8s.io", "v1", "SubjectAccessReview").unwrap();
        let mut made = json!({"spec": {"extra": {"b": ["c"]}}});
        keep(builtin(), id, &json!({"spec": {"extra": {"a": null, "b": ["c"]}}}), &mut made);
        assert_eq!(made, json!({"spec": {"extra": {"a": null, "b": ["c"]}}}));
    }

    #[test]
    fn a_pointer_in_what_was_left_out_is_nil() {
        let id = builtin().kind("apps", "v1", "Deployment").unwrap();
        let mut made = json!({"spec": {"replicas": 1, "selector": {}}});
        keep(builtin(), id, &json!({}), &mut made);
        assert_eq!(made, json!({"spec": {"replicas": 1, "selector": null}}));
    }

    #[test]
    fn a_list_that_was_left_out_stays_so() {
        let id = builtin().kind("", "v1", "Pod").unwrap();
        let mut made = json!({"spec": {"containers": [], "volumes": [{"rbd": {"monitors": []}}]}});
        keep(builtin(), id, &json!({"spec": {"containers": [], "volumes": [{"rbd": {}}]}}), &mut made);
        assert_eq!(made, json!({"spec": {"containers": [], "volumes": [{"rbd": {"monitors": null}}]}}));
    }
}
