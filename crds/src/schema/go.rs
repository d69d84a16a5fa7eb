//! Values as upstream's field errors print them: JSON of the internal Go type, with Go's names and every field.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::{Field, Schema, Shape, TypeId, builtin, encode, facts};

/// The internal types. A field's `json` is its name in the served type, and `go` the name that is printed.
static INTERNAL: LazyLock<Schema> = LazyLock::new(|| facts::parse(include_str!("internal.txt")).unwrap_or_default());

/// A value of a served type (`io.k8s.api.core.v1.ServicePort`) as a field error shows it.
///
/// Types that upstream has no internal form of (`LabelSelector`) are printed as their JSON.
pub fn text(name: &str, value: &Value) -> String {
    let mut out = Vec::new();
    match internal_name(name).and_then(|name| INTERNAL.id(&name)) {
        Some(id) => write(&Shape::Object(id), Some(value), &mut out),
        None => match builtin().id(name) {
            Some(id) if value.is_object() => out = encode::json(builtin(), id, value),
            _ => encode::write_any(value, false, &mut out),
        },
    }
    String::from_utf8(out).unwrap_or_default()
}

/// The same for a list of such values.
pub fn list_text(name: &str, values: &[Value]) -> String {
    let items: Vec<_> = values.iter().map(|value| text(name, value)).collect();
    format!("[{}]", items.join(","))
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
        (Shape::Object(id), value) => write_object(*id, value, out),
        (Shape::List(item), Some(Value::Array(items))) => {
            encode::sequence(items, out, |value, out| write(item, Some(value), out));
        }
        (Shape::Map(item), Some(Value::Object(entries))) => {
            encode::members(entries, out, |value, out| write(item, Some(value), out));
        }
        (_, Some(value)) => encode::write_any(value, false, out),
        (Shape::String, None) => out.extend_from_slice(b"\"\""),
        (Shape::Bool, None) => out.extend_from_slice(b"false"),
        (Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString, None) => out.push(b'0'),
        (Shape::Quantity, None) => out.extend_from_slice(b"\"0\""),
        (_, None) => out.extend_from_slice(b"null"),
    }
}

fn write_object(id: TypeId, value: Option<&Value>, out: &mut Vec<u8>) {
    let ty = INTERNAL.get(id);
    let empty = Value::Object(Map::new());
    let value = value.unwrap_or(&empty);
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
        let value = value.get(&*field.json).filter(|v| !v.is_null());
        if field.omit_empty && value.is_none_or(encode::is_empty) {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write_field(field, value, out);
    }
    out.push(b'}');
}

fn write_field(field: &Field, value: Option<&Value>, out: &mut Vec<u8>) {
    encode::write_text(&field.go, out);
    out.push(b':');
    if field.pointer && value.is_none() {
        out.extend_from_slice(b"null");
    } else {
        write(&field.shape, value, out);
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
            assert_eq!(text(&format!("io.k8s.api.{name}"), &value), want);
        }
        let rule = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.ValidationRule";
        assert_eq!(
            text(rule, &json!({"rule": "self.a > 1"})),
            r#"{"Rule":"self.a \u003e 1","Message":"","MessageExpression":"","Reason":null,"FieldPath":"","OptionalOldSelf":null}"#
        );
        let selector = "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector";
        assert_eq!(text(selector, &json!({"matchLabels": {"a": "b"}})), r#"{"matchLabels":{"a":"b"}}"#);
    }

    #[test]
    fn table_is_sound() {
        let schema = facts::parse(include_str!("internal.txt")).unwrap();
        assert!(schema.types.len() > 400);
    }
}
