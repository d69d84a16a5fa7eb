//! How Go shows a value of upstream's internal types, which have no JSON names: `{"Name":"","Protocol":"TCP"}`.
//!
//! Causes show bad structs so, and the difference of two objects is a difference of such texts.

use serde::Serialize;
use serde_json::Value;

use crate::schema::{self, Field, Schema, Shape, Type};

/// Fields that upstream's internal types keep in other places than the API's types: a type and its fields in order.
/// `parent` fields come from the struct around it.
const REORDERED: &[(&str, &[&str])] = &[
    (
        "PodSpec",
        &[
            "volumes",
            "initContainers",
            "containers",
            "ephemeralContainers",
            "restartPolicy",
            "terminationGracePeriodSeconds",
            "activeDeadlineSeconds",
            "dnsPolicy",
            "nodeSelector",
            "serviceAccountName",
            "automountServiceAccountToken",
            "nodeName",
            "securityContext",
            "imagePullSecrets",
            "hostname",
            "subdomain",
            "setHostnameAsFQDN",
            "affinity",
            "schedulerName",
            "tolerations",
            "hostAliases",
            "priorityClassName",
            "priority",
            "preemptionPolicy",
            "dnsConfig",
            "readinessGates",
            "runtimeClassName",
            "overhead",
            "enableServiceLinks",
            "topologySpreadConstraints",
            "os",
            "schedulingGates",
            "resourceClaims",
            "resources",
            "hostnameOverride",
            "schedulingGroup",
        ],
    ),
    ("NodeSpec", &["podCIDRs", "providerID", "unschedulable", "taints", "configSource", "externalID"]),
];

/// What a Pod shares with its node is internally part of its security context.
const OF_HOST: &[(&str, &str, bool)] = &[
    ("HostNetwork", "hostNetwork", false),
    ("HostPID", "hostPID", false),
    ("HostIPC", "hostIPC", false),
    ("ShareProcessNamespace", "shareProcessNamespace", true),
    ("HostUsers", "hostUsers", true),
];

/// A value of the named type as it stands in a cause: `SecurityContext`, `[]PodIP`, or a full OpenAPI name.
pub fn show<T: Serialize + ?Sized>(value: &T, type_name: &str) -> String {
    Writer::new(false).text(value, type_name)
}

/// The same over many lines, as upstream compares two objects.
pub fn show_lines<T: Serialize + ?Sized>(value: &T, type_name: &str) -> String {
    Writer::new(true).text(value, type_name)
}

struct Writer {
    schema: &'static Schema,
    lines: bool,
    depth: usize,
    out: String,
}

impl Writer {
    fn new(lines: bool) -> Self {
        Self { schema: schema::builtin(), lines, depth: 0, out: String::new() }
    }

    fn text<T: Serialize + ?Sized>(mut self, value: &T, type_name: &str) -> String {
        let value = serde_json::to_value(value).unwrap_or_default();
        let (is_list, name) = type_name.strip_prefix("[]").map_or((false, type_name), |name| (true, name));
        let full = if name.contains('.') { name.to_owned() } else { format!("io.k8s.api.core.v1.{name}") };
        match self.schema.id(&full) {
            Some(id) if is_list => self.value(Some(&value), &Shape::List(Box::new(Shape::Object(id))), false),
            Some(id) => self.object(&value, self.schema.get(id), &Value::Null),
            None => self.any(&value),
        }
        self.out
    }

    fn line(&mut self) {
        if self.lines {
            self.out.push('\n');
            self.out.push_str(&" ".repeat(self.depth));
        }
    }

    /// Writes members between brackets, each on a line of its own where lines are wanted.
    fn block<I: IntoIterator>(&mut self, brackets: [char; 2], members: I, write: impl Fn(&mut Self, I::Item)) {
        self.out.push(brackets[0]);
        self.depth += 1;
        let mut any = false;
        for member in members {
            if any {
                self.out.push(',');
            }
            any = true;
            self.line();
            write(self, member);
        }
        self.depth -= 1;
        if any {
            self.line();
        }
        self.out.push(brackets[1]);
    }

    fn key(&mut self, name: &str) {
        self.string(name);
        self.out.push_str(if self.lines { ": " } else { ":" });
    }

    /// Go writes these as escapes, so that JSON can stand in HTML.
    fn string(&mut self, text: &str) {
        let quoted = Value::from(text).to_string();
        for c in quoted.chars() {
            match c {
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => self.out.push_str(&format!("\\u{:04x}", c as u32)),
                c => self.out.push(c),
            }
        }
    }

    fn any(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.string(text),
            Value::Array(items) => self.block(['[', ']'], items, |w, item| w.any(item)),
            Value::Object(fields) => self.block(['{', '}'], fields, |w, (name, value)| {
                w.key(name);
                w.any(value);
            }),
            other => self.out.push_str(&other.to_string()),
        }
    }

    fn object(&mut self, value: &Value, ty: &Type, parent: &Value) {
        // Types of apimachinery have no internal form: they keep their JSON names.
        if ty.name.starts_with("io.k8s.apimachinery") {
            return self.tagged(value, ty);
        }
        let order = REORDERED.iter().find(|(name, _)| *name == &*ty.go).map(|(_, order)| *order);
        let fields: Vec<&Field> = match order {
            None => ty.fields.iter().collect(),
            Some(order) => order.iter().filter_map(|json| ty.field(json)).collect(),
        };
        enum Member<'a> {
            Host(&'static str, &'static str, bool),
            Field(&'a Field),
        }
        let host = OF_HOST.iter().filter(|_| &*ty.go == "PodSecurityContext");
        let members: Vec<_> = host
            .map(|(go, json, pointer)| Member::Host(go, json, *pointer))
            .chain(fields.into_iter().map(Member::Field))
            .collect();
        self.block(['{', '}'], members, |w, member| match member {
            Member::Host(go, json, pointer) => {
                w.key(go);
                w.value(parent.get(json), &Shape::Bool, pointer);
            }
            Member::Field(field) => {
                w.key(&field.go);
                match (&field.shape, value.get(&*field.json)) {
                    (Shape::Object(id), Some(inner)) if !inner.is_null() => {
                        w.object(inner, w.schema.get(*id), value);
                    }
                    (shape, inner) => w.value(inner, shape, field.pointer),
                }
            }
        });
    }

    fn tagged(&mut self, value: &Value, ty: &Type) {
        let given = |field: &&Field| {
            let inner = value.get(&*field.json).unwrap_or(&Value::Null);
            let empty = match inner {
                Value::Null => true,
                Value::String(text) => text.is_empty(),
                Value::Array(items) => items.is_empty(),
                Value::Object(fields) => fields.is_empty() && !field.pointer,
                _ => false,
            };
            !(field.omit_empty && empty)
        };
        let fields: Vec<&Field> = ty.fields.iter().filter(given).collect();
        self.block(['{', '}'], fields, |w, field| {
            w.key(&field.json);
            w.value(value.get(&*field.json), &field.shape, field.pointer);
        });
    }

    fn value(&mut self, value: Option<&Value>, shape: &Shape, pointer: bool) {
        let value = value.unwrap_or(&Value::Null);
        match (shape, value) {
            (Shape::Object(id), Value::Null) if !pointer => {
                self.object(&Value::Null, self.schema.get(*id), &Value::Null);
            }
            (_, Value::Null) if pointer => self.out.push_str("null"),
            (Shape::Bool, Value::Null) => self.out.push_str("false"),
            (Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString | Shape::Duration, Value::Null) => {
                self.out.push('0');
            }
            (Shape::String, Value::Null) => self.out.push_str("\"\""),
            (Shape::Quantity, Value::Null) => self.out.push_str("\"0\""),
            (_, Value::Null) => self.out.push_str("null"),
            (Shape::Object(id), value) => self.object(value, self.schema.get(*id), &Value::Null),
            (Shape::List(of), Value::Array(items)) => {
                self.block(['[', ']'], items, |w, item| w.value(Some(item), of, false));
            }
            (Shape::Map(of), Value::Object(fields)) => self.block(['{', '}'], fields, |w, (name, value)| {
                w.key(name);
                w.value(Some(value), of, false);
            }),
            (_, other) => self.any(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn structs() {
        let profile = json!({"type": "RuntimeDefault", "localhostProfile": "<x>"});
        assert_eq!(show(&profile, "SeccompProfile"), r#"{"Type":"RuntimeDefault","LocalhostProfile":"\u003cx\u003e"}"#);
        assert_eq!(
            show(&json!({"port": 80, "protocol": "TCP"}), "ServicePort"),
            r#"{"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#
        );
        assert_eq!(show_lines(&json!([{"ip": "::1"}]), "[]PodIP"), "[\n {\n  \"IP\": \"::1\"\n }\n]");
        let selector = json!({"matchLabels": {"a": "b"}});
        let name = "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector";
        assert_eq!(show(&selector, name), r#"{"matchLabels":{"a":"b"}}"#);
    }

    #[test]
    fn a_pod_keeps_what_it_shares_in_its_security_context() {
        let spec = json!({"containers": [], "hostNetwork": true, "securityContext": {"runAsUser": 1}});
        let shown = show(&spec, "PodSpec");
        assert!(shown.contains(r#""SecurityContext":{"HostNetwork":true,"HostPID":false,"HostIPC":false,"#), "{shown}");
    }
}
