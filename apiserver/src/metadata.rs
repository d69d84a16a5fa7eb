//! Metadata that the server keeps: names, uids, times, generations, finalizers; as upstream's registry does it.

use crds::{
    field::{Error, Errors, path_segment, quote},
    kind::{Definition, Generation},
    meta::{FOREGROUND, ORPHAN, whole_seconds},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde::de::value::MapDeserializer;
use serde_json::{Map, Value};
use store::Revision;

use crate::{
    error::{ApiError, Result},
    options::{DeleteOptions, Propagation, go_uint},
    random::Random,
};

/// Longer prefixes are cut, so that the five random characters fit into a DNS label.
const PREFIX_LENGTH_MAX: usize = 58;
const SUFFIX_LENGTH: usize = 5;
const MANAGED: &str = "managedFields";
/// Without vowels and look-alikes.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

pub fn read(object: &Value) -> Result<ObjectMeta> {
    match object.get("metadata") {
        None | Some(Value::Null) => Ok(ObjectMeta::default()),
        Some(metadata) => serde::Deserialize::deserialize(metadata).map_err(|e| ApiError::bad_request(e.to_string())),
    }
}

/// The same without managed fields, which nothing but apply looks into, and which are long.
pub fn read_unmanaged(object: &Value) -> Result<ObjectMeta> {
    let Some(metadata) = object.get("metadata").and_then(Value::as_object) else { return read(object) };
    let fields = metadata.iter().filter(|(name, _)| *name != MANAGED).map(|(name, value)| (name.as_str(), value));
    serde::Deserialize::deserialize(MapDeserializer::<_, serde_json::Error>::new(fields))
        .map_err(|e| ApiError::bad_request(e.to_string()))
}

/// The same with who manages fields, but not which: a check does not ask for these.
pub fn read_to_check(object: &Value) -> Result<ObjectMeta> {
    let manager = |entry: &Value| {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
        ManagedFieldsEntry {
            manager: text("manager"),
            operation: text("operation"),
            subresource: text("subresource"),
            fields_type: text("fieldsType"),
            ..ManagedFieldsEntry::default()
        }
    };
    let entries = object.get("metadata").and_then(|metadata| metadata.get(MANAGED)).and_then(Value::as_array);
    let managed_fields = entries.map(|entries| entries.iter().map(manager).collect());
    Ok(ObjectMeta { managed_fields, ..read_unmanaged(object)? })
}

/// Takes the managed fields out of an object, for as long as something is done that does not need them.
pub fn take_managed(object: &mut Value) -> Option<Value> {
    fields(object)?.remove(MANAGED)
}

pub fn put_managed(object: &mut Value, managed: Option<Value>) {
    if let (Some(managed), Some(metadata)) = (managed, fields(object)) {
        metadata.insert(MANAGED.into(), managed);
    }
}

pub fn write(object: &mut Value, metadata: &ObjectMeta) -> Result<()> {
    object["metadata"] = serde_json::to_value(metadata).map_err(ApiError::internal)?;
    Ok(())
}

/// A text of the metadata, empty where absent.
pub fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(name)).and_then(Value::as_str).unwrap_or_default()
}

pub fn has_finalizers(object: &Value) -> bool {
    object.pointer("/metadata/finalizers").and_then(Value::as_array).is_some_and(|f| !f.is_empty())
}

/// The metadata as a map; an object without any gets one.
pub fn fields(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let object = object.as_object_mut()?;
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut()
}

/// What a client may not give a new object.
pub fn wipe(object: &mut Value) {
    const SYSTEM: [&str; 5] =
        ["creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"];
    if let Some(metadata) = fields(object) {
        SYSTEM.iter().for_each(|name| {
            metadata.remove(*name);
        });
    }
}

/// Gives a new object its uid and time, and a name if only a prefix was given, or if it `names_itself`.
pub fn fill(object: &mut Value, names_itself: bool, now: Timestamp, random: &Random) {
    let name = match (text(object, "name"), text(object, "generateName")) {
        ("", prefix) if !prefix.is_empty() => Some(generate_name(prefix, random)),
        ("", "") if names_itself => Some(random.uid()),
        _ => None,
    };
    let Some(metadata) = fields(object) else { return };
    metadata.insert("uid".into(), random.uid().into());
    metadata.insert("creationTimestamp".into(), seconds(now).into());
    if let Some(name) = name {
        metadata.insert("name".into(), name.into());
    }
}

/// Whole seconds, as Kubernetes writes times.
pub fn seconds(time: Timestamp) -> String {
    let whole = Timestamp::from_second(time.as_second()).unwrap_or(time);
    whole.to_string()
}

pub fn generate_name(prefix: &str, random: &Random) -> String {
    let mut end = prefix.len().min(PREFIX_LENGTH_MAX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix[..end].to_owned();
    for _ in 0..SUFFIX_LENGTH {
        name.push(char::from(random.one_of(SUFFIX_ALPHABET)));
    }
    name
}

/// The version that an object says it is of; none if it says none, or 0.
pub fn revision(object: &Value) -> Result<Option<Revision>> {
    let text = text(object, "resourceVersion");
    if text.is_empty() {
        return Ok(None);
    }
    // No Status upstream.
    let revision = go_uint(text).map_err(ApiError::unknown)?;
    Ok(Some(revision).filter(|revision| *revision != 0))
}

/// A name as a client of the API checks it before it asks for an object.
pub fn client_name(name: &str) -> std::result::Result<(), String> {
    if name.is_empty() {
        return Err("resource name may not be empty".to_owned());
    }
    match path_segment(name).as_slice() {
        [] => Ok(()),
        wrong => Err(format!("invalid resource name {}: [{}]", quote(name), wrong.join(" "))),
    }
}

/// The namespace of the body must be that of the path; one that is left out is filled in, and what is in no namespace
/// loses the one that it was given.
pub fn match_namespace(object: &mut Value, namespace: &str) -> Result<()> {
    let given = text(object, "namespace");
    if given == namespace {
        return Ok(());
    }
    if namespace.is_empty() {
        if let Some(metadata) = fields(object) {
            metadata.remove("namespace");
        }
        return Ok(());
    }
    if !given.is_empty() {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if let Some(metadata) = fields(object) {
        metadata.insert("namespace".into(), namespace.into());
    }
    Ok(())
}

/// The name of the body must be that of the path.
pub fn match_name(object: &Value, name: &str) -> Result<()> {
    match text(object, "name") {
        "" => Err(ApiError::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))),
        given if given == name => Ok(()),
        given => Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        ))),
    }
}

/// Counts the generation up if anything outside of metadata and status differs.
pub fn generation(definition: &Definition, object: &mut Value, old: Option<&Value>) {
    if definition.generation != Generation::Spec {
        return;
    }
    let generation = match old {
        None => 1,
        Some(old) => {
            let before = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
            before + i64::from(!same_intent(object, old))
        }
    };
    if let Some(metadata) = fields(object) {
        metadata.insert("generation".into(), generation.into());
    }
}

/// Whether two states of an object differ in metadata and status only.
fn same_intent(a: &Value, b: &Value) -> bool {
    const BESIDES: [&str; 4] = ["metadata", "status", "kind", "apiVersion"];
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a == b };
    fn intent(object: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
        object.iter().filter(|(name, _)| !BESIDES.contains(&name.as_str()))
    }
    intent(a).eq(intent(b))
}

/// What is wrong with an update that has to name the version it changes.
pub fn version_required() -> Errors {
    Error::invalid("metadata.resourceVersion", 0, "must be specified for an update").into()
}

/// The finalizers that a DELETE leaves on an object for the garbage collector, if they are others than before.
pub fn garbage_finalizers(
    metadata: &ObjectMeta,
    options: &DeleteOptions,
    orphans_by_default: bool,
) -> Option<Vec<String>> {
    let before = metadata.finalizers.clone().unwrap_or_default();
    let has = |name: &str| before.iter().any(|f| f == name);
    let policy = options.propagation().or_else(|| {
        let set = before.iter().find(|f| *f == ORPHAN || *f == FOREGROUND);
        set.map(|f| if f == ORPHAN { Propagation::Orphan } else { Propagation::Foreground })
    });
    let policy = policy.unwrap_or(if orphans_by_default { Propagation::Orphan } else { Propagation::Background });
    let wanted = match policy {
        Propagation::Orphan => Some(ORPHAN),
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Background => None,
    };
    let same = has(ORPHAN) == (wanted == Some(ORPHAN)) && has(FOREGROUND) == (wanted == Some(FOREGROUND));
    if same {
        return None;
    }
    let mut after: Vec<_> = before.into_iter().filter(|f| f != ORPHAN && f != FOREGROUND).collect();
    after.extend(wanted.map(str::to_owned));
    Some(after)
}

/// Marks an object that only finalizers keep.
pub fn mark_as_deleting(metadata: &mut ObjectMeta, now: Timestamp) {
    if metadata.deletion_timestamp.is_none() {
        bump(metadata);
    }
    let later = metadata.deletion_timestamp.as_ref().is_none_or(|time| time.0 > now);
    if later {
        metadata.deletion_timestamp = Some(whole_seconds(now));
    }
    metadata.deletion_grace_period_seconds = Some(0);
}

/// Marks an object whose kind ends it in steps of its own.
pub fn begin_deleting(metadata: &mut ObjectMeta, now: Timestamp) {
    metadata.deletion_timestamp.get_or_insert(whole_seconds(now));
}

/// What a DELETE does to an object that is deleted gracefully.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// Its time is over.
    Over,
    /// It has been told before, and nothing changes.
    Pending,
    /// It has this many seconds from now on.
    Seconds(i64),
}

/// Gives an object time to end. Once it is going, the time can only become shorter.
pub fn grant(
    metadata: &mut ObjectMeta,
    requested: Option<i64>,
    grace: impl FnOnce(Option<i64>) -> Option<i64>,
    now: Timestamp,
) -> Grace {
    let requested = requested.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let (Some(time), granted) = (metadata.deletion_timestamp.clone(), metadata.deletion_grace_period_seconds) else {
        let Some(seconds) = grace(requested) else { return Grace::Over };
        metadata.deletion_timestamp = Some(whole_seconds(later(now, seconds)));
        metadata.deletion_grace_period_seconds = Some(seconds);
        bump(metadata);
        return Grace::Seconds(seconds);
    };
    let granted = match granted {
        None | Some(0) => return Grace::Over,
        Some(seconds) if seconds < 0 => 1,
        Some(seconds) => seconds,
    };
    let Some(mut seconds) = requested.filter(|seconds| *seconds < granted) else { return Grace::Pending };
    let mut end = later(time.0, seconds - granted);
    if end < now {
        end = now;
        // The time is up, but whoever ends it still has to see that.
        seconds = seconds.min(1);
    }
    metadata.deletion_timestamp = Some(whole_seconds(end));
    metadata.deletion_grace_period_seconds = Some(seconds);
    Grace::Seconds(seconds)
}

fn later(time: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_second(time.as_second().saturating_add(seconds)).unwrap_or(time)
}

fn bump(metadata: &mut ObjectMeta) {
    metadata.generation = metadata.generation.map(|g| if g > 0 { g + 1 } else { g });
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;

    #[test]
    fn names() {
        let random = Random::seeded(1);
        let name = generate_name("a-", &random);
        assert!(name.starts_with("a-") && name.len() == 7, "{name}");
        assert_eq!(generate_name(&"x".repeat(80), &random).len(), 63);
    }

    #[test]
    fn namespaces_and_names_of_bodies() {
        let mut object = json!({"metadata": {"name": "a"}});
        match_namespace(&mut object, "n").unwrap();
        assert_eq!(text(&object, "namespace"), "n");
        assert!(match_namespace(&mut object, "m").is_err());
        assert!(match_name(&object, "a").is_ok());
        assert!(match_name(&object, "b").is_err());
        assert!(match_name(&json!({}), "b").is_err());
    }

    #[test]
    fn finalizers_of_deletes() {
        let meta = |finalizers: &[&str]| ObjectMeta {
            finalizers: Some(finalizers.iter().map(|f| (*f).to_owned()).collect()),
            ..Default::default()
        };
        let options = |policy: Option<&str>| DeleteOptions {
            propagation_policy: policy.map(str::to_owned),
            ..Default::default()
        };
        for (before, policy, default, want) in [
            (&[][..], None, false, None),
            (&[], None, true, Some(vec!["orphan"])),
            (&["x"], Some("Foreground"), false, Some(vec!["x", "foregroundDeletion"])),
            (&["orphan"], None, false, None),
            (&["orphan", "x"], Some("Background"), false, Some(vec!["x"])),
            (&["foregroundDeletion"], Some("Orphan"), false, Some(vec!["orphan"])),
        ] {
            let got = garbage_finalizers(&meta(before), &options(policy), default);
            assert_eq!(
                got,
                want.map(|w| w.into_iter().map(str::to_owned).collect::<Vec<_>>()),
                "{before:?} {policy:?}"
            );
        }
    }

    #[test]
    fn grace_only_shrinks() {
        let now = Timestamp::from_second(1000).unwrap();
        let mut meta = ObjectMeta { generation: Some(1), ..Default::default() };
        assert_eq!(grant(&mut meta, None, |_| Some(30), now), Grace::Seconds(30));
        assert_eq!((meta.generation, meta.deletion_grace_period_seconds), (Some(2), Some(30)));
        assert_eq!(grant(&mut meta, Some(60), |_| Some(60), now), Grace::Pending);
        assert_eq!(grant(&mut meta, None, |_| Some(30), now), Grace::Pending);
        assert_eq!(grant(&mut meta, Some(5), |_| Some(5), now), Grace::Seconds(5));
        assert_eq!(meta.deletion_timestamp, Some(Time(Timestamp::from_second(1005).unwrap())));
        assert_eq!(grant(&mut meta, Some(0), |_| Some(0), now), Grace::Seconds(0));
        assert_eq!(grant(&mut meta, Some(0), |_| Some(0), now), Grace::Over);
        assert_eq!(grant(&mut ObjectMeta::default(), None, |_| None, now), Grace::Over);
    }
}
