//! Server-side apply, and the tracking of who owns which field through all other writes.
//!
//! Pure, over objects as they are served in the version of the request, in canonical form (what Go always writes is
//! there). Tracking sees an object after defaulting and before admission, as upstream does it: what plugins, preparation
//! and validation change is nobody's. Inside: `set` is the arithmetic of field sets, `atom` how the schema divides an
//! object, `compare`, `merge` and `typed` walk objects by it, `managed` is `metadata.managedFields`.

mod atom;
mod compare;
mod conflict;
mod last_applied;
mod lay_over;
mod managed;
mod merge;
mod path;
pub mod reset;
pub mod scale;
pub mod set;
mod typed;

use std::{borrow::Cow, cell::RefCell, collections::BTreeMap, sync::LazyLock};

use crds::schema::{Schema, TypeId};
use jiff::Timestamp;
use serde_json::Value;

use self::{
    atom::Place,
    compare::{Difference, compare},
    conflict::Conflicts,
    managed::{Managed, Operation, Owned, Owner},
};
pub use self::{lay_over::lay_over, path::Element, reset::Reset, set::Set};
use crate::error::{ApiError, Result};

/// Update entries that an object may have; older ones are merged.
const UPDATE_MANAGERS_MAX: usize = 10;
/// The manager whose applies may take over what client-side apply owned.
const KUBECTL: &str = "kubectl";

/// Who writes, how and when.
pub struct Manager<'a> {
    /// `fieldManager`, or what the User-Agent gives; empty becomes `unknown`.
    pub name: &'a str,
    /// Of the request: `apps/v1`.
    pub api_version: &'a str,
    /// Of the request: the kind that an applied object must have.
    pub kind: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Apply takes over what others own.
    pub force: bool,
    pub now: Timestamp,
    pub reset: &'a Reset,
    /// None where a kind has but one version: entries of other versions are dropped.
    pub versions: Option<&'a dyn Versions>,
}

/// The other versions of a kind.
pub trait Versions {
    /// The object (given in the version of the request) in a version, with that version's schema. None if the version is
    /// not served (any more). The error says why the object does not fit that version.
    fn convert(&self, object: &Value, api_version: &str) -> std::result::Result<Option<Versioned<'_>>, String>;

    /// An object in another version, back in the version of the request.
    fn revert(&self, object: Value, api_version: &str) -> Option<Value>;
}

/// An object in a version of its kind.
pub struct Versioned<'a> {
    pub object: Value,
    pub schema: &'a Schema,
    pub ty: TypeId,
}

/// `live` (none: it is created) with `applied` laid over it, and what its manager no longer applies taken out; its
/// `metadata.managedFields` are up to date. Defaults must be set again.
///
/// Errors: 409 for conflicts (with a cause each), 400 for what is not to be applied here, 500 (as upstream) for what does
/// not fit the schema.
pub fn apply(schema: &Schema, ty: TypeId, live: Option<&Value>, applied: &Value, manager: &Manager) -> Result<Value> {
    let text = |name: &str| applied.get(name).and_then(Value::as_str).unwrap_or_default();
    if (text("apiVersion"), text("kind")) != (manager.api_version, manager.kind) {
        return Err(ApiError::bad_request(format!("invalid object type: {}", gvk(applied))));
    }
    let failed = |what: &str, why: &dyn std::fmt::Display| ApiError::unknown(format!("failed to {what}: {why}"));
    let place = Place::Type(ty);
    let work = Work { schema, ty, manager, misfit: RefCell::default() };
    let empty = || atom::zero(schema, ty);
    let live = live.map_or_else(|| Cow::Owned(empty()), Cow::Borrowed);
    let mut managed = Managed::of(&live).map_err(|why| failed("decode managed fields", &why))?;
    if managed.0.is_empty() {
        let owner = work.owner("before-first-apply", Operation::Update);
        work.update(&mut managed, owner, &empty(), &live);
    }
    if applied.pointer("/metadata/managedFields").is_some_and(Value::is_array) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    typed::check(schema, place, applied)
        .map_err(|why| failed(&format!("create typed patch object ({})", described(applied)), &why))?;

    let owner = work.owner(manager.name, Operation::Apply);
    let mut outcome = work.lay(managed.clone(), &owner, &live, applied, manager.force);
    if manager.name == KUBECTL
        && let Err(conflicts) = &outcome
        && let Some(allowed) = last_applied::owned(schema, place, manager.api_version, &live)
    {
        let left = conflicts.without(&allowed);
        outcome = if left.is_empty() { work.lay(managed, &owner, &live, applied, true) } else { Err(left) };
    }
    if let Some(why) = work.misfit.take() {
        return Err(failed("convert object", &why));
    }
    let (mut object, managed) = outcome.map_err(Conflicts::into_error)?;
    if manager.name == KUBECTL {
        last_applied::keep_up(&mut object, applied);
    }
    set_managed_fields(&mut object, managed.encode());
    Ok(object)
}

/// Sets the `metadata.managedFields` of `new`, which is to replace `old` (none: it is created). What `new` says about
/// them counts, except on subresources: `[]` and `[{}]` drop all entries, other valid entries replace those of `old`.
pub fn track(schema: &Schema, ty: TypeId, old: Option<&Value>, new: &mut Value, manager: &Manager) {
    let given = take_managed_fields(new);
    let there = old.and_then(|old| old.pointer("/metadata/managedFields"));
    let work = Work { schema, ty, manager, misfit: RefCell::default() };
    let zero;
    let before = match old {
        Some(old) => old,
        None => {
            zero = atom::zero(schema, ty);
            &zero
        }
    };
    let there_is_uid = old.and_then(|old| old.pointer("/metadata/uid")).is_some_and(|uid| uid != "");
    let given = given.filter(|_| manager.subresource.is_empty());
    // Most updates come with the entries that the object has: they are worked on only if something differs.
    let unchanged = given.is_none() || given.as_ref() == there;
    if unchanged && there_is_uid && there.is_none_or(|there| there.as_array().is_none_or(Vec::is_empty)) {
        return;
    }
    let difference = work.difference(before, new);
    if difference.is_keyless {
        // As below.
        return set_managed_fields(new, None);
    }
    if unchanged && difference.is_empty() {
        return set_managed_fields(new, there.cloned());
    }
    let decoded = |entries: Option<&Value>| entries.map_or_else(|| Ok(Managed::default()), Managed::decode);
    let mut managed = match &given {
        Some(given) if is_reset(given) => Managed::default(),
        given => match decoded(given.as_ref()) {
            Ok(managed) if !managed.0.is_empty() => managed,
            _ => decoded(there).unwrap_or_default(),
        },
    };
    if !(managed.0.is_empty() && there_is_uid) {
        work.follow(&mut managed, work.owner(manager.name, Operation::Update), before, new, difference);
    }
    // As upstream: what cannot be told is forgotten.
    let is_told = work.misfit.take().is_none();
    set_managed_fields(new, managed.encode().filter(|_| is_told));
}

/// Whether an object fits a schema; what does not, in upstream's words.
pub fn check(schema: &Schema, ty: TypeId, object: &Value) -> std::result::Result<(), String> {
    typed::check(schema, Place::Type(ty), object).map_err(|why| why.to_string())
}

/// Whether managed fields can be told; upstream's words of what is wrong with them. For what admission makes of them.
pub fn check_managed_fields(entries: &Value) -> std::result::Result<(), String> {
    Managed::decode(entries).map(drop)
}

/// Gives the entries of `new` the times that they have in `old` if nothing else differs at all, so that a write that
/// changes nothing does nothing. For after admission and preparation.
pub fn keep_times(old: &Value, new: &mut Value) {
    fn but<'a>(value: &'a Value, name: &'a str) -> impl Iterator<Item = (&'a String, &'a Value)> {
        value.as_object().into_iter().flatten().filter(move |(key, _)| *key != name)
    }
    let (Some(meta), Some(new_meta)) = (old.get("metadata"), new.get("metadata")) else { return };
    let (Some(before), Some(after)) = (meta["managedFields"].as_array(), new_meta["managedFields"].as_array()) else {
        return;
    };
    let same = before.len() == after.len()
        && before.iter().zip(after).all(|(before, after)| but(before, "time").eq(but(after, "time")))
        && but(meta, "managedFields").eq(but(new_meta, "managedFields"))
        && but(old, "metadata").eq(but(new, "metadata"));
    if same {
        let before = before.clone();
        set_managed_fields(new, Some(before.into()));
    }
}

/// Non-null and empty, or one entry that says nothing.
fn is_reset(entries: &Value) -> bool {
    match entries.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([one]) => one.as_object().is_some_and(serde_json::Map::is_empty),
        _ => false,
    }
}

fn take_managed_fields(object: &mut Value) -> Option<Value> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    metadata.remove("managedFields").filter(|entries| !entries.is_null())
}

fn set_managed_fields(object: &mut Value, entries: Option<Value>) {
    take_managed_fields(object);
    if let (Some(entries), Some(Value::Object(metadata))) = (entries, object.get_mut("metadata")) {
        metadata.insert("managedFields".to_owned(), entries);
    }
}

/// `apps/v1, Kind=Deployment`
pub fn gvk(object: &Value) -> String {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let slash = if text("apiVersion").contains('/') { "" } else { "/" };
    format!("{slash}{}, Kind={}", text("apiVersion"), text("kind"))
}

/// `default/web; apps/v1, Kind=Deployment`
pub fn described(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    format!("{}/{}; {}", text("/metadata/namespace"), text("/metadata/name"), gvk(object))
}

/// Fields that nobody owns.
static UNOWNED: LazyLock<Set> = LazyLock::new(|| {
    let metadata = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let mut unowned = Set::default();
    for top in ["apiVersion", "kind", "metadata"] {
        unowned.insert(&[Element::field(top)]);
    }
    for field in metadata {
        unowned.insert(&[Element::field("metadata"), Element::field(field)]);
    }
    unowned
});

struct Work<'a> {
    schema: &'a Schema,
    ty: TypeId,
    manager: &'a Manager<'a>,
    /// Why an object does not fit another version, once that was found.
    misfit: RefCell<Option<String>>,
}

impl Work<'_> {
    fn owner(&self, name: &str, operation: Operation) -> Owner {
        let version = if operation == Operation::Update { self.manager.api_version } else { "" };
        Owner {
            manager: if name.is_empty() { "unknown" } else { name }.to_owned(),
            operation,
            api_version: version.to_owned(),
            subresource: self.manager.subresource.to_owned(),
        }
    }

    fn difference(&self, old: &Value, new: &Value) -> Difference {
        self.filtered(compare(self.schema, Place::Type(self.ty), old, new))
    }

    fn filtered(&self, difference: Difference) -> Difference {
        let filter = |set: Set| self.manager.reset.apply(set).difference(&UNOWNED);
        let is_keyless = difference.is_keyless;
        Difference { changed: filter(difference.changed), removed: filter(difference.removed), is_keyless }
    }

    fn update(&self, managed: &mut Managed, owner: Owner, old: &Value, new: &Value) {
        self.follow(managed, owner, old, new, self.difference(old, new));
    }

    /// A write by `owner` took from all others what it changed.
    fn follow(&self, managed: &mut Managed, owner: Owner, old: &Value, new: &Value, difference: Difference) {
        self.reconcile(managed, old);
        self.take(managed, None, old, new, &difference);
        let own = difference.changed;
        if !own.is_empty() {
            let owned = managed.0.entry(owner).or_insert_with(|| Owned {
                set: Set::default(),
                api_version: self.manager.api_version.to_owned(),
                time: None,
            });
            owned.set = own.union(&owned.set);
            owned.time = Some(managed::time(self.manager.now));
        }
        managed.cap(UPDATE_MANAGERS_MAX);
    }

    /// Takes changed and removed fields from the entries of all but one; what is left of the conflicts it was about.
    fn take(&self, managed: &mut Managed, but: Option<&Owner>, old: &Value, new: &Value, here: &Difference) {
        self.each_other(managed, but, old, new, here, |owned, difference| {
            owned.set = owned.set.difference(&difference.changed).difference(&difference.removed);
        });
        managed.0.retain(|_, owned| !owned.set.is_empty());
    }

    fn conflicts(&self, managed: &mut Managed, but: &Owner, old: &Value, new: &Value, here: &Difference) -> Conflicts {
        let mut sets = Vec::new();
        self.each_other(managed, Some(but), old, new, here, |owned, difference| {
            sets.push(owned.set.intersection(&difference.changed));
        });
        let owners = managed.0.keys().filter(|owner| *owner != but).cloned();
        Conflicts(owners.zip(sets).filter(|(_, set)| !set.is_empty()).collect())
    }

    /// Calls `f` with each entry and the difference in its version; entries of versions that are gone are dropped.
    fn each_other(
        &self,
        managed: &mut Managed,
        but: Option<&Owner>,
        old: &Value,
        new: &Value,
        here: &Difference,
        mut f: impl FnMut(&mut Owned, &Difference),
    ) {
        let mut others: BTreeMap<String, Option<Difference>> = BTreeMap::new();
        managed.0.retain(|owner, owned| {
            if Some(owner) == but {
                return true;
            }
            if owned.api_version == self.manager.api_version {
                f(owned, here);
                return true;
            }
            let version = &owned.api_version;
            let there = others.entry(version.clone()).or_insert_with(|| {
                let (old, new) = (self.convert(old, version)?, self.convert(new, version)?);
                Some(self.filtered(compare(old.schema, Place::Type(old.ty), &old.object, &new.object)))
            });
            there.as_ref().inspect(|there| f(owned, there)).is_some()
        });
    }

    fn convert(&self, object: &Value, version: &str) -> Option<Versioned<'_>> {
        if version == self.manager.api_version {
            return Some(Versioned { object: object.clone(), schema: self.schema, ty: self.ty });
        }
        self.manager.versions?.convert(object, version).unwrap_or_else(|why| {
            self.misfit.replace(Some(why));
            None
        })
    }

    fn revert(&self, object: Value, version: &str) -> Option<Value> {
        if version == self.manager.api_version { Some(object) } else { self.manager.versions?.revert(object, version) }
    }

    /// Brings entries in line with a schema that has changed since they were written.
    fn reconcile(&self, managed: &mut Managed, live: &Value) {
        managed.0.retain(|_, owned| {
            if owned.api_version == self.manager.api_version {
                owned.set =
                    owned.set.reconciled(self.schema, Place::Type(self.ty)).unwrap_or_else(|| owned.set.clone());
                return true;
            }
            let Some(there) = self.convert(live, &owned.api_version) else { return false };
            owned.set = owned.set.reconciled(there.schema, Place::Type(there.ty)).unwrap_or_else(|| owned.set.clone());
            true
        });
    }

    /// Merges, prunes, and settles who owns what.
    fn lay(
        &self,
        mut managed: Managed,
        owner: &Owner,
        live: &Value,
        applied: &Value,
        force: bool,
    ) -> std::result::Result<(Value, Managed), Conflicts> {
        let place = Place::Type(self.ty);
        self.reconcile(&mut managed, live);
        let merged = merge::merge(self.schema, place, Some(live), Some(applied)).unwrap_or_default();
        let set = self.manager.reset.apply(typed::fields(self.schema, place, applied));
        let last = managed.0.remove(owner);
        let time = last.as_ref().and_then(|last| last.time.clone());
        let owned = Owned { set, api_version: self.manager.api_version.to_owned(), time };
        managed.0.insert(owner.clone(), owned);
        let new = match last {
            Some(last) => self.prune(merged, &managed, owner, &last),
            None => merged,
        };

        let here = self.difference(live, &new);
        let conflicts = self.conflicts(&mut managed, owner, live, &new, &here);
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }
        self.take(&mut managed, Some(owner), live, &new, &here);
        if let Some(mut owned) = managed.0.remove(owner) {
            owned.set = owned.set.difference(&UNOWNED);
            if !path::same(live, &new) {
                owned.time = Some(managed::time(self.manager.now));
            }
            if !owned.set.is_empty() {
                managed.0.insert(owner.clone(), owned);
            }
        }
        Ok((new, managed))
    }

    /// Takes out what the manager applied last time and nobody owns now. Items of lists and maps go as a whole only if
    /// nothing in them is owned by another.
    fn prune(&self, merged: Value, managed: &Managed, owner: &Owner, last: &Owned) -> Value {
        let version = last.api_version.as_str();
        let kept = managed.0.get(owner).filter(|now| now.api_version == version);
        if kept.is_some_and(|now| last.set.difference(&now.set).is_empty()) {
            return merged;
        }
        let Some(Versioned { object, schema, ty }) = self.convert(&merged, version) else { return merged };
        let place = Place::Type(ty);
        let last = last.set.ensure_named(schema, place);
        let mut pruned = object.clone();
        typed::remove(schema, place, &mut pruned, &last);
        let Some(pruned) = self.add_back(&object, pruned, version, managed) else { return merged };

        // What was not this manager's before stays, whoever owns it.
        let fields = |value: &Value| typed::fields(schema, place, value).ensure_named(schema, place);
        let gone = fields(&object).difference(&fields(&pruned)).intersection(&last);
        let mut out = object;
        typed::remove(schema, place, &mut out, &gone);
        self.revert(out, version).unwrap_or(merged)
    }

    /// `pruned` with all that is in `merged` (both in `version`) and owned by anyone, in any version.
    fn add_back(&self, merged: &Value, mut pruned: Value, version: &str, managed: &Managed) -> Option<Value> {
        let mut versions: Vec<&str> = managed.0.values().map(|owned| owned.api_version.as_str()).collect();
        versions.sort_by_key(|v| (*v != version, *v));
        versions.dedup();
        for other in versions {
            let owned = managed.0.values().filter(|owned| owned.api_version == other);
            let owned = owned.fold(Set::default(), |all, owned| all.union(&owned.set));
            let there = |value: &Value| {
                if other == version {
                    return self.convert(&self.revert(value.clone(), version)?, version);
                }
                self.convert(&self.revert(value.clone(), version)?, other)
            };
            let (Some(whole), Some(less)) = (there(merged), there(&pruned)) else { continue };
            let place = Place::Type(whole.ty);
            let fields = |value: &Value| typed::fields(whole.schema, place, value).ensure_named(whole.schema, place);
            let kept = fields(&less.object).union(&owned.ensure_named(whole.schema, place));
            let gone = fields(&whole.object).difference(&kept);
            let mut out = whole.object;
            typed::remove(whole.schema, place, &mut out, &gone);
            let back = self.revert(out, other)?;
            pruned = self.convert(&back, version)?.object;
        }
        Some(pruned)
    }
}

#[cfg(test)]
mod tests;
