//! `metadata.managedFields`, decoded: who owns which fields, since when.

use std::{cmp::Ordering, collections::BTreeMap};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::set::Set;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What tells two entries apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    pub manager: String,
    pub operation: Operation,
    /// Empty for Apply: a manager that applies in another version stays the same owner.
    pub api_version: String,
    pub subresource: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    pub set: Set,
    /// The version that the set is written in.
    pub api_version: String,
    /// RFC 3339.
    pub time: Option<String>,
}

/// All entries of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed(pub BTreeMap<Owner, Owned>);

pub fn time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Owned {
    /// Entries are sorted by whole seconds; none counts as the epoch.
    fn seconds(&self) -> i64 {
        let parsed = self.time.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
        parsed.map_or(0, Timestamp::as_second)
    }
}

impl Managed {
    /// The entries of an object; an error for entries that cannot be told.
    pub fn of(object: &Value) -> Result<Self, String> {
        object.pointer("/metadata/managedFields").map_or_else(|| Ok(Self::default()), Self::decode)
    }

    pub fn decode(entries: &Value) -> Result<Self, String> {
        let mut managed = Self::default();
        for (i, entry) in entries.as_array().into_iter().flatten().enumerate() {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
            let operation = match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err("operation must be `Apply` or `Update`".to_owned()),
            };
            let api_version = text("apiVersion").to_owned();
            if api_version.is_empty() {
                return Err("apiVersion must not be empty".to_owned());
            }
            match text("fieldsType") {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {i}")),
                other => {
                    let other = crds::field::quote(other);
                    return Err(format!("invalid fieldsType {other} in managed fields entry {i}"));
                }
            }
            let fields = entry.get("fieldsV1").filter(|fields| !fields.is_null());
            let set = fields.map_or_else(|| Ok(Set::default()), Set::decode);
            let set =
                set.map_err(|why| format!("error decoding versioned set from {entry}: error decoding set: {why}"))?;
            let owner = Owner {
                manager: text("manager").to_owned(),
                operation,
                api_version: if operation == Operation::Update { api_version.clone() } else { String::new() },
                subresource: text("subresource").to_owned(),
            };
            let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
            managed.0.insert(owner, Owned { set, api_version, time });
        }
        Ok(managed)
    }

    /// As entries, in upstream's order. None if there are none.
    pub fn encode(&self) -> Option<Value> {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by(|a, b| order(*a, *b));
        let entries: Vec<_> = entries.into_iter().map(|(owner, owned)| entry(owner, owned)).collect();
        (!entries.is_empty()).then_some(Value::Array(entries))
    }

    /// Merges the oldest Update entries of a version into one, `ancient-changes`, until there are at most `max`.
    pub fn cap(&mut self, max: usize) {
        let mut updates: Vec<_> = self.0.iter().filter(|(owner, _)| owner.operation == Operation::Update).collect();
        let mut count = updates.len();
        if count <= max {
            return;
        }
        updates.sort_by(|a, b| a.1.seconds().cmp(&b.1.seconds()).then_with(|| a.0.cmp(b.0)));
        let updates: Vec<Owner> = updates.into_iter().map(|(owner, _)| owner.clone()).collect();
        let mut firsts: BTreeMap<String, Owner> = BTreeMap::new();
        for owner in updates {
            if count <= max {
                return;
            }
            let Some(first) = firsts.get(&owner.api_version) else {
                firsts.insert(owner.api_version.clone(), owner);
                continue;
            };
            let bucket = Owner {
                manager: "ancient-changes".to_owned(),
                operation: Operation::Update,
                api_version: owner.api_version.clone(),
                subresource: String::new(),
            };
            if !self.0.contains_key(&bucket)
                && let Some(owned) = self.0.remove(first)
            {
                self.0.insert(bucket.clone(), owned);
            }
            let Some(merged) = self.0.remove(&owner) else { continue };
            if let Some(owned) = self.0.get_mut(&bucket) {
                owned.set = merged.set.union(&owned.set);
                owned.time = merged.time;
            }
            count -= 1;
        }
    }
}

fn order(a: (&Owner, &Owned), b: (&Owner, &Owned)) -> Ordering {
    (a.0.operation.cmp(&b.0.operation))
        .then_with(|| a.1.seconds().cmp(&b.1.seconds()))
        .then_with(|| a.0.manager.cmp(&b.0.manager))
        .then_with(|| a.1.api_version.cmp(&b.1.api_version))
        .then_with(|| a.0.subresource.cmp(&b.0.subresource))
}

fn entry(owner: &Owner, owned: &Owned) -> Value {
    let mut entry = Map::new();
    let mut put = |name: &str, text: &str| {
        if !text.is_empty() {
            entry.insert(name.to_owned(), Value::from(text));
        }
    };
    put("manager", &owner.manager);
    put("operation", owner.operation.name());
    put("apiVersion", &owned.api_version);
    put("time", owned.time.as_deref().unwrap_or_default());
    put("fieldsType", "FieldsV1");
    put("subresource", &owner.subresource);
    entry.insert("fieldsV1".to_owned(), owned.set.encode());
    Value::Object(entry)
}
