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
fn run(case: &Value) -> (Vec<Value>, Value, Vec<String>) {
    let definition = definition(case["apiVersion"].as_str().expect("version"), case["kind"].as_str().expect("kind"));
    let user = User::default();
    let subresource = case["sub"].as_str().unwrap_or("");
    let now = "2024-01-01T00:00:00Z".parse().expect("time");
    let request = Request { user: &user, now, subresource };
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
    let warnings = if case["old"].is_null() {
        let rule = meta::Rule {
            namespaced: definition.namespaced,
            standard_finalizers: meta::wants_standard_finalizers(&definition.gvk.group),
            validate_name: &|name| definition.rules.validate_name(name),
        };
        meta::create(&metadata(&object), &rule, &mut errors);
        definition.rules.create(&mut object, &request, &mut errors).expect("create")
    } else {
        let mut old = schema::decode::value(table, id, &case["old"]).map(|d| d.value).expect("old");
        in_namespace(&mut old);
        definition.rules.set_defaults(&mut old).expect("defaults of the old");
        for object in [&mut object, &mut old] {
            object["metadata"]["resourceVersion"] = json!("1");
        }
        let (mut new_meta, old_meta) = (metadata(&object), metadata(&old));
        meta::keep(&mut new_meta, &old_meta);
        object["metadata"] = serde_json::to_value(&new_meta).expect("metadata");
        meta::update(&new_meta, &old_meta, definition.namespaced, &mut errors);
        meta::update_again(&new_meta, &old_meta, true, &mut errors);
        definition.rules.update(&mut object, &old, &request, &mut errors).expect("update")
    };
    let causes = errors.iter().map(|e| json!([e.field, e.body(), e.kind.reason()])).collect();
    schema::encode::canonical(table, id, &mut object);
    (causes, object, warnings)
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

/// What others than the rules of the kinds decide: admission, authorization, expressions.
const OF_OTHERS: &[&str] = &[
    "match conditions must compile and have unique names",
    "a ValidatingAdmissionPolicy whose expressions do not compile",
    "a ValidatingAdmissionPolicy may use params only with a paramKind",
    "the same request to another signer is fine (not stored)",
    "defaults of a schema must fit their type",
    "a DeviceClass with a bad selector and configuration",
    "a default of the wrong type is refused",
    "a default that its own schema does not allow is refused",
    "a default with unknown fields is refused",
    "an expression that does not compile",
    "an expression that is no bool",
    "a message expression that is no string",
    "params without a param kind",
    "a variable may not use a later one",
    "a match condition that does not compile",
    "a pod with the RuntimeClass gets its overhead, selector and tolerations",
];

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../e2e/replay");

fn section(text: &str) -> Option<Value> {
    let (name, rest) = text.split_once('\n')?;
    let mut lines = rest.lines().skip_while(|line| line.starts_with('#') || line.trim().is_empty());
    let directives: Vec<_> = rest.lines().take_while(|line| line.starts_with('#') || line.trim().is_empty()).collect();
    if directives.iter().any(|line| ["@as", "@anonymous", "@repeat"].iter().any(|name| line.contains(name))) {
        return None;
    }
    let (method, path) = lines.next()?.trim().split_once(' ')?;
    let body: Vec<_> = lines.skip_while(|line| !line.trim().is_empty()).collect();
    let object: Value = serde_json::from_str(&body.join("\n").replace("{{ns}}", "replay")).ok()?;
    let definition = KINDS.iter().find(|definition| {
        object["kind"] == *definition.gvk.kind && object["apiVersion"] == definition.gvk.api_version()
    })?;
    let collection = path.split('?').next()?.rsplit('/').next()?;
    let creates = method == "POST" && collection == definition.plural && object["metadata"].is_object();
    creates.then(
        || json!({"name": name.trim(), "apiVersion": object["apiVersion"], "kind": object["kind"], "object": object}),
    )
}

/// The creations of a file, with what stock answered.
fn creations(file: &str) -> Vec<Value> {
    let read = |path: String| std::fs::read_to_string(path).expect("recorded cases");
    let expected: Vec<Value> = serde_json::from_str(
        &read(format!("{CASES}/expected/{file}.json")).replace(&format!("replay-{file}"), "replay"),
    )
    .expect("recorded answers");
    let text = read(format!("{CASES}/cases/{file}.http"));
    let mut found = Vec::new();
    for mut case in text.split("\n### ").filter_map(|text| section(text.trim_start_matches("### "))) {
        let Some(answer) = expected.iter().find(|answer| answer["case"] == case["name"]) else { continue };
        let causes = &answer["body"]["details"]["causes"];
        let message = answer["body"][".message"].as_str().and_then(|text| text.split_once(" is invalid: "));
        match answer["status"].as_u64() {
            Some(422) if causes.is_array() => {
                let cause = |c: &Value| json!([c["field"], c["message"], c["reason"]]);
                case["causes"] = causes.as_array().into_iter().flatten().map(cause).collect();
            }
            Some(422) if message.is_some() => case["message"] = json!(message.map(|(_, causes)| causes)),
            Some(201) if answer["body"]["kind"] == case["kind"] => case["want"] = answer["body"].clone(),
            _ => continue,
        }
        found.push(case);
    }
    found
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn differences_of(case: &Value) -> Vec<String> {
    let (causes, object, _) = run(case);
    let mut out = Vec::new();
    if let Some(want) = case["causes"].as_array() {
        differences(&json!(want), &json!(causes), "causes", &mut out);
    } else if case["message"].is_string() {
        let texts: Vec<_> = causes.iter().map(|cause| format!("{}: {}", text(&cause[0]), text(&cause[1]))).collect();
        let message = if texts.len() == 1 { texts.concat() } else { format!("[{}]", texts.join(", ")) };
        differences(&case["message"], &json!(message), "message", &mut out);
    } else if !causes.is_empty() {
        out.push(format!("    unexpected causes {causes:?}"));
    } else {
        let kind = case["kind"].as_str().unwrap_or("");
        differences(&plain(kind, case["want"].clone()), &plain(kind, object), "", &mut out);
    }
    out
}

#[test]
fn answers_as_recorded() {
    let mut failed = Vec::new();
    let mut passed = 0;
    for file in [
        "extend-crd-invalid",
        "extend-crd-update",
        "extend-vap-invalid",
        "extend-webhooks",
        "groups-admissionreg",
        "groups-apiservice",
        "groups-certificates",
        "groups-crd",
        "groups-dra",
        "groups-endpointslice",
        "groups-flowcontrol",
        "groups-networking",
        "groups-rbac",
        "groups-small",
        "groups-storage",
    ] {
        for case in creations(file) {
            let name = case["name"].as_str().unwrap_or("");
            if OF_OTHERS.contains(&name) {
                continue;
            }
            let out = differences_of(&case);
            if out.is_empty() { passed += 1 } else { failed.push(format!("{file}: {name}\n{}", out.join("\n"))) }
        }
    }
    assert!(failed.is_empty(), "{passed} passed, {} failed\n{}", failed.len(), failed.join("\n"));
}
