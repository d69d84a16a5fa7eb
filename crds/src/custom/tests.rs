//! Versions of one kind, and what clients are told of them.

use serde_json::json;

use super::*;

/// The kinds of a definition with two versions, of which the first is stored.
fn kinds(conversion: Value) -> Vec<Definition> {
    let schema = |properties: Value| json!({"openAPIV3Schema": {"type": "object", "properties": properties}});
    let names = json!({"plural": "cars", "singular": "car", "kind": "Car", "listKind": "CarList"});
    let crd = json!({
        "metadata": {"name": "cars.g.dev"},
        "spec": {"group": "g.dev", "scope": "Namespaced", "names": names, "conversion": conversion, "versions": [
            {"name": "v1", "served": true, "storage": true,
                "schema": schema(json!({"a": {"type": "integer", "default": 1.0, "minimum": 1.0}}))},
            {"name": "v2", "served": true, "storage": false, "deprecated": true,
                "schema": schema(json!({"a": {"type": "integer"}, "b": {"type": "string", "default": "x"}}))},
        ]},
        "status": {"acceptedNames": names},
    });
    definitions(&serde_json::from_value(crd).unwrap())
}

fn car(version: &str, fields: Value) -> Value {
    let mut car =
        json!({"apiVersion": format!("g.dev/{version}"), "kind": "Car", "metadata": {"name": "c", "generation": 1}});
    for (name, value) in fields.as_object().unwrap() {
        car[name] = value.clone();
    }
    car
}

#[test]
fn without_a_webhook_versions_differ_in_their_schemas_alone() {
    let kinds = kinds(json!({"strategy": "None"}));
    // Defaults are those of the version that was stored; what the other does not know goes.
    assert_eq!(kinds[1].rules.restore(car("v1", json!({}))), Ok(car("v2", json!({"a": 1}))));
    assert_eq!(kinds[1].rules.keep(car("v2", json!({"a": 2, "b": "y"}))), Ok(car("v1", json!({"a": 2}))));
    let gone = kinds[0].rules.restore(car("v0", json!({}))).unwrap_err();
    assert_eq!(gone, "request to convert CR from an invalid group/version: g.dev/v0");
}

#[test]
fn with_a_webhook_nothing_becomes_of_another_version_here() {
    let kinds = kinds(json!({"strategy": "Webhook"}));
    assert!(kinds[1].rules.restore(car("v1", json!({}))).is_err());
    assert!(kinds[1].rules.keep(car("v2", json!({}))).is_err());
    let family = &kinds[0].custom.as_ref().unwrap().family;
    assert_eq!(family.read(car("v1", json!({}))), Ok(car("v1", json!({"a": 1}))));
    // What the webhook gives is pruned, and has no defaults.
    assert_eq!(family.receive(car("v2", json!({"a": 2, "c": 3}))), Ok(car("v2", json!({"a": 2}))));
}

#[test]
fn what_clients_are_told() {
    let kinds = kinds(json!({"strategy": "None"}));
    let columns: Vec<_> = kinds[0].columns.iter().map(|column| (&*column.name, &*column.kind)).collect();
    assert_eq!(columns, [("Name", "string"), ("Age", "date")]);
    let custom = |at: usize| kinds[at].custom.as_ref().unwrap();
    assert_eq!(custom(0).warning, None);
    // Nobody is sent back to an older version.
    assert_eq!(custom(1).warning.as_deref(), Some("g.dev/v2 Car is deprecated"));
    // As Go writes it.
    assert_eq!(custom(0).family.version("v1").unwrap().schema["properties"]["a"]["minimum"].to_string(), "1");
}
