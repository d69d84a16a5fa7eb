//! `pods/binding`, and `bindings` of a namespace: a pod gets its node.

use crds::{field, kind::Gvk};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    admission::Operation,
    call::Call,
    codec::{
        answer::{self, Answer},
        decode,
    },
    error::{ApiError, Result, Subject},
    metadata,
    options::WriteOptions,
    pipeline::Apiserver,
    registry::Registry,
    route::{self, Target},
    verbs,
    write::Writer,
};

pub fn gvk() -> Gvk {
    Gvk { group: "".into(), version: "v1".into(), kind: "Binding".into() }
}

pub async fn answer(server: &Apiserver, call: &mut Call, target: &Target) -> Result<Answer> {
    if call.info.verb != "create" {
        return Err(route::not_allowed());
    }
    let form = verbs::form(call, &target.definition)?;
    let media = verbs::sent(call, &target.definition)?;
    let options = WriteOptions::from_query(&call.query, "CreateOptions", false)?;
    let body = call.read_body().await?;
    let decoded = decode::object(&body, media, &gvk(), options.field_validation)?;
    call.warnings.extend(decoded.warnings);
    call.audit.request_object(&decoded.object);
    let mut binding = decoded.object;
    metadata::match_namespace(&mut binding, &call.info.namespace)?;
    let pods = pods(&server.world.registry)?;
    let target = Target { definition: pods, subresource: target.subresource.clone() };
    let name = match call.info.name.as_str() {
        "" => metadata::text(&binding, "name").to_owned(),
        name => name.to_owned(),
    };
    if !call.info.name.is_empty() {
        let given = metadata::text(&binding, "name");
        if given != name {
            return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
        }
    }
    let mut writer = verbs::writer(server, call, &target, &name, options);
    let mut attributes = writer.attributes(Operation::Create, Some(binding), None);
    attributes.kind = gvk();
    let binding = writer.admit_other(attributes).await?;
    check(&binding)?;
    let bound = writer.modify(&mut |pod| bind(&writer, pod, &binding)).await;
    let warnings = std::mem::take(&mut writer.warnings);
    call.warnings.extend(warnings);
    if bound?.is_none() {
        return Err(ApiError::not_found(Subject { group: "", resource: "pods", name: &name }));
    }
    answer::value(StatusCode::CREATED, form, &done())
}

/// What upstream answers when something is created that is not kept.
pub fn done() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

fn pods(registry: &Registry) -> Result<std::sync::Arc<crds::kind::Definition>> {
    registry.resource("", "v1", "pods").ok_or_else(route::not_found)
}

/// What is wrong with a binding, which upstream tells as a plain error.
fn check(binding: &Value) -> Result<()> {
    let text = |path: &str| binding.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let mut errors = Vec::new();
    let kind = text("/target/kind");
    if !kind.is_empty() && kind != "Node" {
        errors.push(field::Error::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    if text("/target/name").is_empty() {
        errors.push(field::Error::required("target.name", ""));
    }
    if errors.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let told = if let [one] = told.as_slice() { one.clone() } else { format!("[{}]", told.join(", ")) };
    Err(ApiError::unknown(told))
}

/// The pod on its node, if it is the pod that is meant and on none yet.
fn bind(writer: &Writer, pod: &Value, binding: &Value) -> Result<Value> {
    let name = writer.name;
    let text = |object: &Value, path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let conflict = |why: &str| Err(ApiError::conflict(Subject { group: "", resource: "pods/binding", name }, why));
    for (what, path) in [("UID", "/metadata/uid"), ("ResourceVersion", "/metadata/resourceVersion")] {
        writer.precondition(what, &text(binding, path), &text(pod, path))?;
    }
    if !text(pod, "/metadata/deletionTimestamp").is_empty() {
        return conflict(&format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let node = text(pod, "/spec/nodeName");
    if !node.is_empty() {
        return conflict(&format!("pod {name} is already assigned to node {}", field::quote(&node)));
    }
    let gated = pod.pointer("/spec/schedulingGates").and_then(Value::as_array).is_some_and(|gates| !gates.is_empty());
    if gated {
        return conflict(&format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = text(binding, "/target/name").into();
    for field in ["annotations", "labels"] {
        let given = binding.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_object);
        for (key, value) in given.into_iter().flatten() {
            pod["metadata"][field][key] = value.clone();
        }
    }
    schedule(&mut pod, writer.world.now());
    Ok(pod)
}

/// A bound pod is scheduled.
fn schedule(pod: &mut Value, now: Timestamp) {
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    let scheduled = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": metadata::seconds(now),
    });
    match conditions.iter_mut().find(|condition| condition["type"] == "PodScheduled") {
        Some(known) => *known = scheduled,
        None => conditions.push(scheduled),
    }
}
