//! One object as the cache keeps it: its bytes, ready to be sent, and what selectors ask of it.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use crds::{kind::Definition, kinds, selector::Labels};
use parking_lot::Mutex;
use serde::{Deserialize, de::DeserializeOwned, de::IgnoredAny};
use serde_json::{Value, value::RawValue};
use store::{Entry, Revision};

use crate::{
    codec::typed,
    error::{ApiError, Result},
};

const UID: &[u8] = b"\"uid\":";
/// Forms of one object that are kept: versions of its kind that clients use side by side.
const FORMS_MAX: usize = 4;

/// An object as a version of a custom kind shows it; none if that is how it is stored.
type Form = (Arc<Definition>, Option<Arc<Object>>);

/// Immutable; a change makes a new one.
#[derive(Debug)]
pub struct Object {
    /// The whole object, `{"kind":…,"apiVersion":…,"metadata":{…,"resourceVersion":"…"}…}` or, of a custom resource, with
    /// its fields in the order of the alphabet; and a line end, with which upstream sends it.
    pub line: Bytes,
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    pub labels: Labels,
    pub revision: Revision,
    pub deleting: bool,
    kind: Box<str>,
    api_version: Box<str>,
    /// Where the fields that follow kind and apiVersion begin.
    body: usize,
    /// Where the digits of the resourceVersion begin.
    digits: usize,
    /// The values of the definition's field selectors, once somebody has asked.
    fields: OnceLock<Vec<String>>,
    protobuf: OnceLock<Bytes>,
    forms: Mutex<Vec<Form>>,
    /// Made for clients: nothing is left to be done to it.
    is_form: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outer<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    metadata: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow)]
    uid: Option<&'a RawValue>,
    labels: Option<Labels>,
    deletion_timestamp: Option<IgnoredAny>,
    #[serde(borrow)]
    resource_version: Option<&'a RawValue>,
}

/// What is stored, whoever has stored it: an object without its resourceVersion.
pub fn stored_value(entry: &Entry) -> Result<Value> {
    let adopted = typed::adopted(&entry.value).transpose().map_err(|why| damaged(&entry.key, why))?;
    serde_json::from_slice(adopted.as_ref().unwrap_or(&entry.value)).map_err(|e| damaged(&entry.key, e))
}

/// Whether the fields stand in the order in which they are sent: this tells kinds from custom ones by what comes first.
fn is_as_sent(stored: &[u8]) -> bool {
    if stored.starts_with(b"{\"kind\":\"") {
        return true;
    }
    let version = stored.strip_prefix(b"{\"apiVersion\":\"").and_then(|rest| rest.split(|byte| *byte == b'"').next());
    let group = version.and_then(|version| std::str::from_utf8(version).ok()?.split_once('/'));
    group.is_some_and(|(group, _)| !kinds::has_group(group))
}

fn damaged(key: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::internal(format!("cannot decode the object stored at {key}: {why}"))
}

/// Where a part that was borrowed from `whole` begins in it.
fn offset(whole: &[u8], part: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}

impl Object {
    /// Reads what is stored; the resourceVersion is the revision of its last change.
    pub fn new(entry: &Entry) -> Result<Self> {
        if let Some(adopted) = typed::adopted(&entry.value) {
            let json = adopted.map_err(|why| damaged(&entry.key, why))?;
            return Self::parse(&entry.key, &json, entry.modified);
        }
        // Upstream ends its JSON with a line break.
        let stored = entry.value.trim_ascii_end();
        if is_as_sent(stored) {
            return Self::parse(&entry.key, stored, entry.modified);
        }
        let value: Value = serde_json::from_slice(&entry.value).map_err(|e| damaged(&entry.key, e))?;
        Self::parse(&entry.key, &typed::json(&value), entry.modified)
    }

    /// An object that is not stored, or not in this form, with this resourceVersion.
    pub fn of(value: &Value, revision: Revision) -> Result<Self> {
        Self::parse("", &typed::json(value), revision)
    }

    /// An object that is made when it is asked for: nothing is at any revision.
    pub fn made(value: &Value) -> Result<Self> {
        Self::parse("", &typed::json(value), 0)
    }

    /// A custom resource in the form that a version of its kind shows.
    pub fn shown(value: &Value, revision: Revision) -> Result<Self> {
        Ok(Self { is_form: true, ..Self::of(value, revision)? })
    }

    fn parse(key: &str, stored: &[u8], revision: Revision) -> Result<Self> {
        let outer: Outer = serde_json::from_slice(stored).map_err(|e| damaged(key, e))?;
        let meta: Metadata = serde_json::from_str(outer.metadata.get()).map_err(|e| damaged(key, e))?;
        let begin = offset(stored, outer.metadata.get()) + 1;
        let is_alphabetical = !stored.starts_with(b"{\"kind\":");
        let is_kept = revision > 0;
        let version = if is_kept { format!("\"resourceVersion\":\"{revision}\"") } else { String::new() };
        let (cut, resume, lead, trail) = match (meta.resource_version, meta.uid) {
            _ if !is_kept => (begin, begin, "", ""),
            (Some(old), _) => {
                let value = offset(stored, old.get());
                let name = "\"resourceVersion\":".len();
                (value - name, value + old.get().len(), "", "")
            }
            (None, Some(uid)) if is_alphabetical && stored[..offset(stored, uid.get())].ends_with(UID) => {
                let name = offset(stored, uid.get()) - UID.len();
                (name, name, "", ",")
            }
            (None, Some(uid)) => {
                let end = offset(stored, uid.get()) + uid.get().len();
                (end, end, ",", "")
            }
            (None, None) => (begin, begin, "", if stored.get(begin) == Some(&b'}') { "" } else { "," }),
        };
        let mut out = Vec::with_capacity(stored.len() + version.len() + 2);
        out.extend_from_slice(&stored[..cut]);
        out.extend_from_slice(lead.as_bytes());
        let digits = out.len() + "\"resourceVersion\":\"".len();
        out.extend_from_slice(version.as_bytes());
        out.extend_from_slice(trail.as_bytes());
        out.extend_from_slice(&stored[resume..]);
        out.push(b'\n');
        let body = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",", outer.kind, outer.api_version);
        let body = if out.starts_with(body.as_bytes()) { body.len() } else { 0 };
        let uid = meta.uid.map(|u| u.get().trim_matches('"')).unwrap_or_default();
        Ok(Self {
            line: out.into(),
            namespace: meta.namespace.unwrap_or_default().into(),
            name: meta.name.unwrap_or_default().into(),
            uid: uid.into(),
            labels: meta.labels.unwrap_or_default(),
            revision,
            deleting: meta.deletion_timestamp.is_some(),
            kind: outer.kind.into(),
            api_version: outer.api_version.into(),
            body,
            digits,
            fields: OnceLock::new(),
            protobuf: OnceLock::new(),
            forms: Mutex::default(),
            is_form: false,
        })
    }

    /// The same object with another resourceVersion: what a watcher sees when it is deleted.
    pub fn at(&self, revision: Revision) -> Self {
        let end = self.digits + self.line[self.digits..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut out = Vec::with_capacity(self.line.len() + 2);
        out.extend_from_slice(&self.line[..self.digits]);
        out.extend_from_slice(revision.to_string().as_bytes());
        out.extend_from_slice(&self.line[end..]);
        Self {
            line: out.into(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            labels: self.labels.clone(),
            revision,
            deleting: self.deleting,
            kind: self.kind.clone(),
            api_version: self.api_version.clone(),
            body: self.body,
            digits: self.digits,
            fields: self.fields.clone(),
            protobuf: OnceLock::new(),
            forms: Mutex::default(),
            is_form: self.is_form,
        }
    }

    /// Whether the bytes are of this version of the kind, so that they can be sent as they are.
    pub fn is_of(&self, definition: &Definition) -> bool {
        let group_version = match &*definition.gvk.group {
            "" => *self.api_version == *definition.gvk.version,
            group => self
                .api_version
                .strip_prefix(group)
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|version| version == definition.gvk.version),
        };
        group_version && (definition.is_custom() || self.body > 0) && *self.kind == *definition.gvk.kind
    }

    /// The object without the line end.
    pub fn json(&self) -> &[u8] {
        self.line.strip_suffix(b"\n").unwrap_or(&self.line)
    }

    /// What follows kind and apiVersion, up to the end: items of typed lists carry neither.
    pub fn body(&self) -> &[u8] {
        &self.json()[self.body..]
    }

    /// `namespace/name`, or the name alone: the key below the kind's prefix.
    pub fn path(&self) -> String {
        if self.namespace.is_empty() { self.name.to_string() } else { format!("{}/{}", self.namespace, self.name) }
    }

    pub fn value(&self) -> Result<Value> {
        self.decode()
    }

    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.line).map_err(|e| damaged(&self.path(), e))
    }

    /// The object in this version of its kind.
    pub fn value_as(&self, definition: &Definition) -> Result<Value> {
        if definition.is_custom() {
            let form = self.known_form(definition).flatten();
            let value = form.as_deref().unwrap_or(self).value()?;
            let is_done = form.is_some() || (self.is_form && self.is_of(definition));
            return if is_done { Ok(value) } else { definition.rules.restore(value).map_err(ApiError::internal) };
        }
        let value = self.value()?;
        if self.is_of(definition) {
            return Ok(value);
        }
        let mut converted = match &definition.conversion {
            Some(conversion) => (conversion.from_stored)(value),
            None => value,
        };
        converted["apiVersion"] = definition.gvk.api_version().into();
        converted["kind"] = definition.gvk.kind.clone().into();
        Ok(converted)
    }

    /// The object as a version of its kind shows it: custom resources are converted, pruned and defaulted when they are
    /// read, for what is stored may be older than their definition.
    pub fn form(self: &Arc<Self>, definition: &Arc<Definition>) -> Result<Arc<Self>> {
        if !definition.is_custom() || (self.is_form && self.is_of(definition)) {
            return Ok(self.clone());
        }
        if let Some(form) = self.known_form(definition) {
            return Ok(form.unwrap_or_else(|| self.clone()));
        }
        let stored = self.value()?;
        let shown = definition.rules.restore(stored.clone()).map_err(ApiError::internal)?;
        let form = if shown == stored { None } else { Some(Arc::new(Self::shown(&shown, self.revision)?)) };
        self.remember(definition, form.clone());
        Ok(form.unwrap_or_else(|| self.clone()))
    }

    fn known_form(&self, definition: &Definition) -> Option<Option<Arc<Self>>> {
        let forms = self.forms.lock();
        forms.iter().find(|(of, _)| std::ptr::eq(&raw const **of, definition)).map(|(_, form)| form.clone())
    }

    /// Whether the object can be shown in a version of its kind without a conversion elsewhere.
    pub fn has_form(&self, definition: &Definition) -> bool {
        self.is_of(definition) || self.known_form(definition).is_some()
    }

    /// Keeps a form that was made elsewhere, or here.
    pub fn remember(&self, definition: &Arc<Definition>, form: Option<Arc<Self>>) {
        let mut forms = self.forms.lock();
        if forms.len() >= FORMS_MAX {
            forms.remove(0);
        }
        forms.push((definition.clone(), form));
    }

    /// The protobuf form, made once.
    pub fn protobuf(&self, make: impl FnOnce() -> Result<Bytes>) -> Result<&Bytes> {
        if let Some(made) = self.protobuf.get() {
            return Ok(made);
        }
        let made = make()?;
        Ok(self.protobuf.get_or_init(|| made))
    }

    /// The value of a field selector; empty where the field is absent.
    pub fn field(&self, definition: &Definition, path: &str) -> Cow<'_, str> {
        match path {
            "metadata.name" => return Cow::Borrowed(&self.name),
            "metadata.namespace" => return Cow::Borrowed(&self.namespace),
            _ => {}
        }
        let Some(at) = definition.selectable.iter().position(|p| p == path) else {
            return Cow::Borrowed("");
        };
        if definition.is_custom() || !self.is_of(definition) {
            let value = self.value_as(definition).unwrap_or_default();
            return Cow::Owned(selectable(definition, &value, path));
        }
        let values = self.fields.get_or_init(|| {
            let value = self.value().unwrap_or_default();
            definition.selectable.iter().map(|path| selectable(definition, &value, path)).collect()
        });
        Cow::Borrowed(values.get(at).map_or("", String::as_str))
    }
}

/// Most selectable fields are texts at that very path; only others need the kind's own rule, which decodes the object.
fn selectable(definition: &Definition, value: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(value, |value, name| value.get(name));
    match found {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Bool(truth)) => truth.to_string(),
        _ => definition.rules.selectable(value, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: &str) -> Entry {
        Entry {
            key: "/registry/pods/a/b".into(),
            value: Bytes::copy_from_slice(value.as_bytes()),
            created: 3,
            modified: 7,
        }
    }

    #[test]
    fn the_revision_is_spliced_in() {
        for (stored, want) in [
            (
                r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"b","uid":"u","labels":{"x":"y"}},"spec":{}}"#,
                r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"b","uid":"u","resourceVersion":"7","labels":{"x":"y"}},"spec":{}}"#,
            ),
            (
                r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"b","resourceVersion":"12","uid":"u"}}"#,
                r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"b","resourceVersion":"7","uid":"u"}}"#,
            ),
            (
                r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"b"}}"#,
                r#"{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"7","name":"b"}}"#,
            ),
            (
                r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{}}"#,
                r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"7"}}"#,
            ),
            (
                r#"{"apiVersion":"a.b/v1","kind":"C","metadata":{"name":"b","uid":"u"},"spec":{"uid":""}}"#,
                r#"{"apiVersion":"a.b/v1","kind":"C","metadata":{"name":"b","resourceVersion":"7","uid":"u"},"spec":{"uid":""}}"#,
            ),
            (
                r#"{ "apiVersion": "a.b/v1", "a": 1, "kind": "C", "metadata": {"uid": "u"} }"#,
                r#"{"a":1,"apiVersion":"a.b/v1","kind":"C","metadata":{"resourceVersion":"7","uid":"u"}}"#,
            ),
        ] {
            let object = Object::new(&entry(stored)).unwrap();
            assert_eq!(std::str::from_utf8(object.json()).unwrap(), want);
            assert!(want.contains("a.b") || object.body().starts_with(br#""metadata":{"#));
            let later = object.at(1234);
            assert_eq!(std::str::from_utf8(later.json()).unwrap(), want.replace("\"7\"", "\"1234\""));
        }
    }

    #[test]
    fn what_upstream_has_stored_is_read() {
        let value = serde_json::json!({
            "kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "b", "namespace": "a", "uid": "u"},
            "data": {"x": ""},
        });
        let want = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"b","namespace":"a","uid":"u","resourceVersion":"7"},"data":{"x":""}}"#;
        for stored in [typed::to_protobuf(&value).unwrap(), format!("{value}\n").into()] {
            let object = Object::new(&Entry { value: stored, ..entry("") }).unwrap();
            assert_eq!(std::str::from_utf8(object.json()).unwrap(), want);
        }
        assert!(Object::new(&Entry { value: Bytes::from_static(b"k8s\0\x0a\x02"), ..entry("") }).is_err());
    }

    #[test]
    fn what_upstream_sets_when_it_reads_is_set() {
        let labels = serde_json::json!({"app": "a"});
        let job = serde_json::json!({
            "kind": "Job", "apiVersion": "batch/v1", "metadata": {"name": "b", "namespace": "a"},
            "spec": {"template": {"metadata": {"labels": labels.clone()}, "spec": {}}},
        });
        let claim = serde_json::json!({
            "kind": "PersistentVolumeClaim", "apiVersion": "v1", "metadata": {"name": "b", "namespace": "a"},
            "spec": {}, "status": {},
        });
        let set = serde_json::json!({
            "kind": "StatefulSet", "apiVersion": "apps/v1", "metadata": {"name": "b", "namespace": "a"},
            "spec": {"volumeClaimTemplates": [{"metadata": {"name": "c"}}]},
        });
        for (value, pointer, want) in [
            (job, "/metadata/labels", labels),
            (claim, "/status/phase", "Pending".into()),
            (set, "/spec/volumeClaimTemplates/0/kind", "PersistentVolumeClaim".into()),
        ] {
            let stored = Entry { value: typed::to_protobuf(&value).unwrap(), ..entry("") };
            let read = Object::new(&stored).unwrap().value().unwrap();
            assert_eq!(read.pointer(pointer), Some(&want), "{pointer}");
            let read = stored_value(&stored).unwrap();
            assert_eq!(read.pointer(pointer), Some(&want), "{pointer}");
            assert_eq!(read["metadata"].get("resourceVersion"), None);
        }
    }
}
