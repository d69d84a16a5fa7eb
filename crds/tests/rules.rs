//! Answers of a stock v1.36.3 apiserver, compared with what the rules of the kinds say to the same objects.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step fails the test")]

use crds::{
    field::Errors,
    kind::{Definition, Request},
    kinds::KINDS,
    meta, schema,
    user::User,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

fn definition(api_version: &str, kind: &str) -> &'static Definition {
    KINDS.iter().find(|d| d.gvk.kind == kind && d.gvk.api_version() == api_version).expect(kind)
}

fn metadata(object: &Value) -> ObjectMeta {
    serde_json::from_value(object["metadata"].clone()).expect("metadata")
}

/// Runs one case: the causes if there are any, and the object as it would be stored.
fn run(case: &Value) -> (Vec<Value>, Value) {
    let definition = definition(case["apiVersion"].as_str().expect("version"), case["kind"].as_str().expect("kind"));
    let user = User::default();
    let subresource = case["sub"].as_str().unwrap_or("");
    let now = "2024-01-01T00:00:00Z".parse().expect("time");
    let request = Request::new(&user, now, subresource);
    let table = schema::builtin();
    let id = table.id(&definition.schema_name).expect("schema");
    let mut object = schema::decode::value(table, id, &case["object"]).map(|d| d.value).expect("decodes");
    let in_namespace = |object: &mut Value| {
        if definition.namespaced {
            object["metadata"]["namespace"] = json!("replay");
        }
    };
    in_namespace(&mut object);
    let generate = object["metadata"]["generateName"].as_str().unwrap_or("").to_owned();
    if object["metadata"]["name"].is_null() && !generate.is_empty() {
        object["metadata"]["name"] = json!(format!("{generate}x"));
    }
    if case["kind"] == "Pod" && object["spec"].is_object() && object["spec"]["serviceAccountName"].is_null() {
        object["spec"]["serviceAccountName"] = json!("default"); // as admission does
    }
    if case["old"].is_null() {
        object["metadata"]["uid"] = json!("uid");
    }
    let mut errors = Errors::new();
    definition.rules.set_defaults(&mut object).expect("defaults");
    if case["old"].is_null() {
        let rule = meta::Rule {
            namespaced: definition.namespaced,
            standard_finalizers: true,
            checks_prefix: definition.checks_prefix,
            validate_name: &|name| definition.rules.validate_name(name, &object),
        };
        meta::create(&metadata(&object), &rule, &mut errors);
        definition.rules.create(&mut object, &request, &mut errors).expect("create");
    } else {
        let mut old = schema::decode::value(table, id, &case["old"]).map(|d| d.value).expect("old");
        in_namespace(&mut old);
        definition.rules.set_defaults(&mut old).expect("defaults of the old");
        for object in [&mut object, &mut old] {
            object["metadata"]["resourceVersion"] = json!("1");
        }
        let (new, there) = (object["metadata"].as_object_mut(), old["metadata"].as_object());
        meta::keep(new.expect("metadata"), there.expect("metadata"));
        let (new_meta, old_meta) = (metadata(&object), metadata(&old));
        meta::update(&new_meta, &old_meta, definition.namespaced, &mut errors);
        meta::update_again(&new_meta, &old_meta, true, &mut errors);
        definition.rules.update(&mut object, &old, &request, &mut errors).expect("update");
    }
    let causes = errors.iter().map(|e| json!([e.field, e.body(), e.kind.reason()])).collect();
    schema::encode::canonical(table, id, &mut object);
    (causes, object)
}

/// Drops what others than the rules of the kind fill in: the apiserver's core and admission.
fn plain(kind: &str, mut object: Value) -> Value {
    let meta = object["metadata"].as_object_mut().expect("metadata");
    for name in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "namespace", "generation"] {
        meta.remove(name);
    }
    for name in ["apiVersion", "kind"] {
        object.as_object_mut().expect("object").remove(name);
    }
    if kind == "Pod" {
        let spec = object["spec"].as_object_mut().expect("spec");
        for name in
            ["serviceAccount", "serviceAccountName", "tolerations", "priority", "preemptionPolicy", "priorityClassName"]
        {
            spec.remove(name);
        }
    }
    prune(&mut object);
    object
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|_, v| !v.is_null());
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn differences(want: &Value, got: &Value, path: &str, out: &mut Vec<String>) {
    match (want, got) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let none = Value::Null;
                let (a, b) = (a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none));
                differences(a, b, &format!("{path}.{key}"), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{path}[{i}]"), out);
            }
        }
        (Value::String(a), Value::String(b)) if a.replace(".000000Z", "Z") == b.replace(".000000Z", "Z") => {}
        (a, b) if a != b => out.push(format!("    {path}: got {b} want {a}")),
        _ => {}
    }
}

#[test]
fn answers_as_recorded() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("rules.json")).expect("cases");
    assert!(!cases.is_empty());
    let mut failed = Vec::new();
    for case in &cases {
        let (causes, object) = run(case);
        let mut out = Vec::new();
        if let Some(want) = case["causes"].as_array() {
            differences(&json!(want), &json!(causes), "causes", &mut out);
        } else if !causes.is_empty() {
            out.push(format!("    unexpected causes {causes:?}"));
        } else {
            let kind = case["kind"].as_str().unwrap_or("");
            differences(&plain(kind, case["want"].clone()), &plain(kind, object), "", &mut out);
        }
        if !out.is_empty() {
            failed.push(format!("{}\n{}", case["name"], out.join("\n")));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
