//! An operation: a method on a path.

use super::parameter::Parameter;

pub const OBJECT_MEDIA: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
pub const STREAM_MEDIA: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
pub const ANY_MEDIA: &[&str] = &["*/*"];
pub const PATCH_MEDIA: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// In lower case.
    pub method: &'static str,
    pub id: String,
    pub tag: String,
    pub prose: String,
    /// `x-kubernetes-action`; empty outside of the resources.
    pub action: &'static str,
    /// Group, version and kind.
    pub kind: Option<[String; 3]>,
    pub parameters: Vec<Parameter>,
    pub body: Option<Body>,
    pub consumes: Vec<&'static str>,
    pub produces: Vec<&'static str>,
    pub responses: Vec<(u16, Model)>,
}

#[derive(Clone, Debug)]
pub struct Body {
    /// The name of its type.
    pub model: String,
    pub required: bool,
}

/// What a response holds.
#[derive(Clone, Debug)]
pub enum Model {
    Text,
    Type(String),
}

pub const fn status_text(code: u16) -> &'static str {
    match code {
        201 => "Created",
        202 => "Accepted",
        401 => "Unauthorized",
        _ => "OK",
    }
}

/// The identifier of an operation: its verb, the group and version, and the rest of its name.
///
/// `list` + `NamespacedPod` under `/api/v1` is `listCoreV1NamespacedPod`.
pub fn id(verb: &str, root: &str, rest: &str) -> String {
    let scope: String = scope(root).iter().map(|part| camel(part, true)).collect();
    format!("{verb}{scope}{}", camel(rest, true))
}

/// `core_v1`, `apps_v1`.
pub fn tag(root: &str) -> String {
    match scope(root).as_slice() {
        [] => camel(root.split('/').next().unwrap_or(root), false),
        [group] => camel(group, false),
        [group, version, ..] => format!("{}_{}", camel(group, false), camel(version, false)),
    }
}

/// The group and version of a root, as far as it has them.
fn scope(root: &str) -> Vec<&str> {
    let parts: Vec<_> = root.split('/').collect();
    match parts.as_slice() {
        ["api", rest @ ..] => [&["core"], rest].concat(),
        ["apis", group, rest @ ..] => [&[group.strip_suffix(".k8s.io").unwrap_or(group)], rest].concat(),
        _ => Vec::new(),
    }
}

/// Letters, digits and `_` are kept; what follows anything else is capitalised.
fn camel(text: &str, mut capital: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if !(c.is_alphabetic() || c == '_' || (at > 0 && c.is_numeric())) {
            capital = true;
        } else if std::mem::take(&mut capital) {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
    }
    out
}
