//! How Go shows a value of upstream's internal types, which have no JSON names: `{"Name":"","Protocol":"TCP"}`.
//!
//! Causes show bad structs so, and the difference of two objects is a difference of such texts.

use std::sync::{Arc, LazyLock};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Field, Schema, Shape, TypeId, builtin, encode, facts, nil};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// Types whose metadata is embedded, and those of their specs.
const TEMPLATES: [(&str, &str); 2] = [
    ("core.PodTemplateSpec", "core.PodSpec"),
    ("core.PersistentVolumeClaimTemplate", "core.PersistentVolumeClaimSpec"),
];
/// In JSON a schema or something else; in Go a struct of both.
const SCHEMA_OR: &str = "apiextensions.JSONSchemaPropsOr";
/// Stands for the name of a field that the served type has in the object around.
const ELSEWHERE: &str = "-";

/// The internal types. A field's `json` is its name in the served type, and `go` the name that is printed.
static INTERNAL: LazyLock<Schema> = LazyLock::new(|| facts::parse(include_str!("internal.txt")).unwrap_or_default());

/// A value of the named type: a full OpenAPI name, one of core/v1 (`SecurityContext`), or a list of such (`[]PodIP`).
///
/// Types that upstream has no internal form of (`LabelSelector`) are shown as their JSON.
pub fn show<T: Serialize + ?Sized>(value: &T, type_name: &str) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    let (is_list, name) = parts_of(type_name);
    let mut out = Vec::new();
    match &value {
        Value::Array(items) if is_list => encode::sequence(items, &mut out, |item, out| named(&name, item, out)),
        // A nil slice.
        Value::Null if is_list => out.extend_from_slice(b"null"),
        value => named(&name, value, &mut out),
    }
    String::from_utf8(out).unwrap_or_default()
}

/// A value of the named type that was made of what was `sent`, with null for the lists that were left out.
pub fn as_sent<T: Serialize + ?Sized>(value: &T, sent: &Value, type_name: &str) -> Value {
    let mut value = serde_json::to_value(value).unwrap_or_default();
    let (is_list, name) = parts_of(type_name);
    if let Some(id) = builtin().id(&name) {
        let item = Shape::Object(id);
        let shape = if is_list { Shape::List(Box::new(item)) } else { item };
        nil::keep_shape(builtin(), &shape, sent, &mut value);
    }
    value
}

/// Whether it is a list, and the full name of what it is, or is made of.
fn parts_of(type_name: &str) -> (bool, String) {
    let (is_list, name) = type_name.strip_prefix("[]").map_or((false, type_name), |name| (true, name));
    (is_list, if name.contains('.') { name.to_owned() } else { format!("io.k8s.api.core.v1.{name}") })
}

/// The same over many lines, as upstream compares two objects.
pub fn show_lines<T: Serialize + ?Sized>(value: &T, type_name: &str) -> String {
    let text = show(value, type_name);
    let (mut out, mut depth, mut quoted, mut escaped) = (String::with_capacity(text.len() * 2), 0, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', depth));
    };
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            out.push(c);
            continue;
        }
        match c {
            '{' | '[' if chars.peek().is_some_and(|next| matches!(next, '}' | ']')) => {
                out.push(c);
                out.extend(chars.next());
            }
            '{' | '[' => {
                depth += 1;
                out.push(c);
                line(&mut out, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c => {
                quoted = c == '"';
                out.push(c);
            }
        }
    }
    out
}

/// The fields of a struct that are not zero, by Go's names and in its order.
pub fn fields_set(object: &Map<String, Value>, type_name: &str) -> Vec<Arc<str>> {
    let ty = internal_name(type_name).and_then(|name| INTERNAL.named(&name));
    let is_set = |field: &&Field| {
        let value = object.get(&*field.json).filter(|value| !value.is_null());
        value.is_some_and(|value| {
            // A list or a map that is empty is still one.
            field.pointer || matches!(value, Value::Array(_) | Value::Object(_)) || !encode::is_empty(value)
        })
    };
    ty.into_iter().flat_map(|ty| &ty.fields).filter(is_set).map(|field| field.go.clone()).collect()
}

fn named(name: &str, value: &Value, out: &mut Vec<u8>) {
    match internal_name(name).and_then(|name| INTERNAL.id(&name)) {
        Some(id) => write_object(id, Some(value), None, out),
        None => match builtin().id(name) {
            Some(id) if value.is_object() => out.extend(encode::json(builtin(), id, value)),
            _ => encode::write_any(value, false, out),
        },
    }
}

/// `core.ServicePort` for `io.k8s.api.core.v1.ServicePort`.
fn internal_name(name: &str) -> Option<String> {
    let mut parts = name.rsplit('.');
    let (kind, _version, group) = (parts.next()?, parts.next()?, parts.next()?);
    Some(format!("{group}.{kind}"))
}

fn write(shape: &Shape, value: Option<&Value>, out: &mut Vec<u8>) {
    let value = value.filter(|v| !v.is_null());
    match (shape, value) {
        (Shape::Object(id), value) => write_object(*id, value, None, out),
        (Shape::List(item), Some(Value::Array(items))) => {
            encode::sequence(items, out, |value, out| write(item, Some(value), out));
        }
        (Shape::Map(item), Some(Value::Object(entries))) => {
            encode::members(entries, out, |value, out| write(item, Some(value), out));
        }
        (_, Some(value)) => encode::write_any(value, false, out),
        (Shape::String, None) => out.extend_from_slice(b"\"\""),
        (Shape::Bool, None) => out.extend_from_slice(b"false"),
        (Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString | Shape::Duration, None) => out.push(b'0'),
        (Shape::Quantity, None) => out.extend_from_slice(b"\"0\""),
        (_, None) => out.extend_from_slice(b"null"),
    }
}

/// `parent` is the object around it: some of its fields are in the inner one upstream.
fn write_object(id: TypeId, value: Option<&Value>, parent: Option<&Value>, out: &mut Vec<u8>) {
    let ty = INTERNAL.get(id);
    let empty = Value::Object(Map::new());
    let value = value.unwrap_or(&empty);
    let member = |field: &Field| match &*field.json {
        ELSEWHERE => parent?.get(served_name(&field.go)),
        name => value.get(name),
    };
    if let Some((_, spec)) = TEMPLATES.iter().find(|(name, _)| *name == &*ty.name) {
        return write_template(spec, value, out);
    }
    if let Some(or) = ty.name.strip_prefix(SCHEMA_OR) {
        return write_schema_or(or, value, out);
    }
    if ty.fields.is_empty() {
        // Shared with the served types.
        match builtin().id(&ty.name) {
            Some(id) => out.extend(encode::json(builtin(), id, value)),
            None => encode::write_any(value, false, out),
        }
        return;
    }
    out.push(b'{');
    let mut first = true;
    for field in &ty.fields {
        let inner = member(field).filter(|v| !v.is_null());
        if field.omit_empty && inner.is_none_or(encode::is_empty) {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write_field(field, inner, value, out);
    }
    out.push(b'}');
}

/// The metadata of a template is embedded: its fields stand beside the `Spec`.
fn write_template(spec: &str, value: &Value, out: &mut Vec<u8>) {
    let metadata = value.get("metadata").filter(|metadata| metadata.is_object());
    let meta = builtin().id(META).zip(metadata).map(|(id, metadata)| encode::json(builtin(), id, metadata));
    let inlined = meta.as_deref().and_then(|meta| meta.strip_suffix(b"}")).unwrap_or(b"{");
    out.extend_from_slice(inlined);
    out.extend_from_slice(if inlined.len() > 1 { b",\"Spec\":" } else { b"\"Spec\":" });
    match INTERNAL.id(spec) {
        Some(id) => write_object(id, value.get("spec"), None, out),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
}

fn write_schema_or(or: &str, value: &Value, out: &mut Vec<u8>) {
    let schema = |out: &mut Vec<u8>| {
        out.extend_from_slice(b"\"Schema\":");
        match INTERNAL.id("apiextensions.JSONSchemaProps").filter(|_| value.is_object()) {
            Some(id) => write_object(id, Some(value), None, out),
            None => out.extend_from_slice(b"null"),
        }
    };
    out.push(b'{');
    if or == "Bool" {
        let allows: &[u8] = if *value == Value::Bool(false) { b"\"Allows\":false," } else { b"\"Allows\":true," };
        out.extend_from_slice(allows);
        schema(out);
    } else {
        schema(out);
        out.extend_from_slice(if or == "Array" { b",\"JSONSchemas\":" } else { b",\"Property\":" });
        match (value, INTERNAL.id("apiextensions.JSONSchemaProps")) {
            (Value::Array(items), Some(id)) => encode::sequence(items, out, |item, out| match item {
                Value::String(text) => encode::write_text(text, out),
                item => write_object(id, Some(item), None, out),
            }),
            _ => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}

fn write_field(field: &Field, value: Option<&Value>, parent: &Value, out: &mut Vec<u8>) {
    encode::write_text(&field.go, out);
    out.push(b':');
    match (&field.shape, value) {
        (_, None) if field.pointer => out.extend_from_slice(b"null"),
        (Shape::Object(id), value) => write_object(*id, value, Some(parent), out),
        (shape, value) => write(shape, value, out),
    }
}

/// The name in the served type of a field that upstream keeps in another object.
fn served_name(go: &str) -> &'static str {
    match go {
        "HostNetwork" => "hostNetwork",
        "HostPID" => "hostPID",
        "HostIPC" => "hostIPC",
        "ShareProcessNamespace" => "shareProcessNamespace",
        "HostUsers" => "hostUsers",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn samples() {
        for (name, value, want) in [
            (
                "core.v1.ServicePort",
                json!({"port": 80}),
                r#"{"Name":"","Protocol":"","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#,
            ),
            (
                "core.v1.Taint",
                json!({"key": "d", "effect": "NoExecute"}),
                r#"{"Key":"d","Value":"","Effect":"NoExecute","TimeAdded":null}"#,
            ),
            (
                "rbac.v1.RoleRef",
                json!({"apiGroup": "g", "kind": "Role", "name": "other"}),
                r#"{"APIGroup":"g","Kind":"Role","Name":"other"}"#,
            ),
            (
                "authorization.v1.NonResourceAttributes",
                json!({"path": "/x", "verb": "get"}),
                r#"{"Path":"/x","Verb":"get"}"#,
            ),
            (
                "policy.v1.PodDisruptionBudgetSpec",
                json!({"minAvailable": 1, "maxUnavailable": "1%"}),
                r#"{"MinAvailable":1,"Selector":null,"MaxUnavailable":"1%","UnhealthyPodEvictionPolicy":null}"#,
            ),
            (
                "core.v1.VolumeNodeAffinity",
                json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z"]}]}]}}),
                r#"{"Required":{"NodeSelectorTerms":[{"MatchExpressions":[{"Key":"zone","Operator":"In","Values":["z"]}],"MatchFields":null}]}}"#,
            ),
            (
                "core.v1.SecurityContext",
                json!({"capabilities": {"add": ["CAP_SYS_ADMIN"]}, "allowPrivilegeEscalation": false}),
                r#"{"Capabilities":{"Add":["CAP_SYS_ADMIN"],"Drop":null},"Privileged":null,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":null,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,"AllowPrivilegeEscalation":false,"ProcMount":null,"SeccompProfile":null,"AppArmorProfile":null}"#,
            ),
            (
                "batch.v1.PodFailurePolicy",
                json!({"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}),
                r#"{"Rules":[{"Action":"Ignore","OnExitCodes":null,"OnPodConditions":[{"Type":"DisruptionTarget","Status":"True"}]}]}"#,
            ),
        ] {
            assert_eq!(show(&value, &format!("io.k8s.api.{name}")), want);
        }
        let rule = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.ValidationRule";
        assert_eq!(
            show(&json!({"rule": "self.a > 1"}), rule),
            r#"{"Rule":"self.a \u003e 1","Message":"","MessageExpression":"","Reason":null,"FieldPath":"","OptionalOldSelf":null}"#
        );
        let selector = "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector";
        assert_eq!(show(&json!({"matchLabels": {"a": "b"}}), selector), r#"{"matchLabels":{"a":"b"}}"#);
    }

    #[test]
    fn what_may_be_a_schema_is_shown_as_both() {
        let name =
            |kind: &str| format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOr{kind}");
        for (kind, value, want) in [
            ("Array", json!([]), r#"{"Schema":null,"JSONSchemas":[]}"#),
            ("Bool", json!(false), r#"{"Allows":false,"Schema":null}"#),
            ("StringArray", json!(["a"]), r#"{"Schema":null,"Property":["a"]}"#),
        ] {
            assert_eq!(show(&value, &name(kind)), want);
        }
        assert!(
            show(&json!({"type": "x"}), &name("Bool")).starts_with(r#"{"Allows":true,"Schema":{"ID":"","Schema":"","#)
        );
        let props = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        let set = json!({"type": "x", "title": "", "nullable": false, "$ref": "", "allOf": [], "default": null});
        let names: Vec<_> = set.as_object().map(|set| fields_set(set, props)).unwrap();
        assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["Ref", "Type", "AllOf"]);
    }

    #[test]
    fn lines() {
        assert_eq!(show_lines(&json!([{"ip": "::1"}]), "[]PodIP"), "[\n {\n  \"IP\": \"::1\"\n }\n]");
        let profile = json!({"type": "{\"[", "localhostProfile": null});
        let want = "{\n \"Type\": \"{\\\"[\",\n \"LocalhostProfile\": null\n}";
        assert_eq!(show_lines(&profile, "SeccompProfile"), want);
    }

    #[test]
    fn the_metadata_of_a_template_is_embedded() {
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}});
        let shown = show(&template, "PodTemplateSpec");
        assert!(shown.starts_with(r#"{"labels":{"a":"b"},"Spec":{"Volumes":null,"#), "{shown}");
        assert!(show(&json!({}), "PodTemplateSpec").starts_with(r#"{"Spec":{"Volumes":null,"#));
        let volume = show(&json!({"ephemeral": {"volumeClaimTemplate": {"metadata": {}, "spec": {}}}}), "Volume");
        assert!(volume.contains(r#""VolumeClaimTemplate":{"Spec":{"AccessModes":null,"Selector":null,"#), "{volume}");
    }

    #[test]
    fn a_pod_keeps_what_it_shares_in_its_security_context() {
        let spec = json!({"containers": [], "hostNetwork": true, "securityContext": {"runAsUser": 1}});
        let shown = show(&spec, "PodSpec");
        assert!(shown.contains(r#""SecurityContext":{"HostNetwork":true,"HostPID":false,"HostIPC":false,"#), "{shown}");
    }

    #[test]
    fn table_is_sound() {
        let schema = facts::parse(include_str!("internal.txt")).unwrap();
        assert!(schema.types.len() > 400);
    }
}
