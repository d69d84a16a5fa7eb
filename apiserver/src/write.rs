//! The one write path: whatever is created or changed, by whichever verb or subresource, goes through here.
//!
//! An object is defaulted, admitted, prepared, checked, checked by admission once more, and committed if nobody was
//! faster; otherwise all of that is done again on what is there now.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use crds::{
    kind::{Definition, Gvk, ScalePaths},
    user::User,
};
use serde_json::Value;
use store::{Compare, Entry, Op, Outcome, Txn};

use crate::{
    admission::{Attributes, Chain, Operation, Options},
    allocate, apply,
    audit::Record,
    authorize::Authorizer,
    cache::{Object, key_of},
    codec::{sent::Sent, typed},
    custom::convert,
    error::{ApiError, Result, Subject},
    metadata,
    options::WriteOptions,
    subresource::scale,
    world::World,
};

mod check;
mod delete;
mod versions;

pub use delete::Deleted;
pub(crate) use versions::converted;

/// Tries to find a name that is free, and tries to commit a change before it is given up.
const NAMES_MAX: usize = 8;
const ATTEMPTS_MAX: usize = 64;
/// Events are kept for an hour.
const EVENT_SECONDS: u64 = 3600;

/// One write: what it is about, and who wants it.
pub struct Writer<'a> {
    pub world: &'a World,
    pub admission: &'a Chain,
    pub definition: Arc<Definition>,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// One of many that a request is about: admission is not told its name.
    pub is_one_of_many: bool,
    pub user: Arc<User>,
    pub options: WriteOptions,
    /// Under which name fields are owned: `fieldManager`, or the client's user agent.
    pub manager: String,
    /// What clients see in place of the object: its Scale.
    pub scale: Option<ScalePaths>,
    /// Whether fields that change become the manager's; an apply has seen to that itself.
    pub tracks_fields: bool,
    /// Of the request.
    pub verb: &'a str,
    pub authorizer: &'a Authorizer,
    /// `Warning` headers of the answer.
    pub warnings: Vec<String>,
    /// What the audit log is told.
    pub audit: Record,
}

/// What an answer shows.
#[derive(Clone, Debug)]
pub enum Shown {
    Stored(Arc<Object>),
    /// What would have been stored, or is not stored in this form.
    Value(Value),
}

impl Shown {
    pub fn value(&self, definition: &Definition) -> Result<Value> {
        match self {
            Self::Stored(object) => object.value_as(definition),
            Self::Value(value) => Ok(value.clone()),
        }
    }
}

#[derive(Debug)]
pub struct Written {
    pub shown: Shown,
    pub created: bool,
}

/// Whether the client may create what it updates.
pub type Allowed<'a> = dyn Fn() -> Result<()> + Sync + 'a;

/// What becomes of an update of something that is not there.
pub enum Missing<'a> {
    NotFound,
    /// It is created, if this allows it.
    Create(&'a Allowed<'a>),
}

/// An object as the store has it.
#[derive(Clone)]
pub(crate) struct Current {
    pub entry: Entry,
    /// In the version of the request.
    pub value: Arc<Value>,
}

/// Whether a transaction went through.
enum Commit {
    Done(store::Revision),
    /// Somebody was faster; what is there now.
    Conflict(Option<Entry>),
}

/// Makes the object that a client wants from the one that is there; asked again after a conflict.
pub type Source<'a> = dyn FnMut(Option<&Value>) -> Result<Value> + Send + 'a;

/// Sets what was left out, and brings the object into the form of its type; gives what is not told by that any more.
pub(crate) fn set_defaults(definition: &Definition, object: &mut Value) -> Result<Sent> {
    // An empty list of managed fields says something, which the canonical form does not.
    let managed = metadata::take_managed(object);
    let mut sent = if definition.is_custom() { Sent::default() } else { Sent::of(object) };
    definition.rules.set_defaults(object).map_err(|e| ApiError::bad_request(e.to_string()))?;
    if !definition.tells_empty {
        sent.defaulted(object);
    }
    typed::canonical(definition, object);
    sent.fill_nulls(object);
    metadata::put_managed(object, managed);
    Ok(sent)
}

/// The revision is not kept in an object: it is that of its last change. Nobody keeps a selfLink any more.
fn stored_json(stored: &Definition, mut object: Value) -> Bytes {
    if let Some(metadata) = metadata::fields(&mut object) {
        metadata.remove("resourceVersion");
        metadata.remove("selfLink");
    }
    typed::to_json(stored, &object)
}

impl Writer<'_> {
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { group: &self.definition.gvk.group, resource: &self.definition.plural, name: self.name }
    }

    /// The kind of what clients see.
    fn kind(&self) -> Gvk {
        if self.scale.is_some() { scale::gvk() } else { self.definition.gvk.clone() }
    }

    /// What clients see of an object that is there.
    fn seen(&self, there: &Current) -> Result<Arc<Value>> {
        match &self.scale {
            None => Ok(there.value.clone()),
            Some(paths) => Ok(Arc::new(scale::of_tracked(&there.value, &self.definition, paths)?)),
        }
    }

    fn key(&self, name: &str) -> String {
        let namespace = if self.definition.namespaced { self.namespace } else { "" };
        key_of(&self.definition.storage_prefix, namespace, name)
    }

    pub(crate) async fn read(&self, key: &str) -> Result<Option<Current>> {
        let entry = self.world.store.get(key).await.map_err(ApiError::from_store)?;
        self.current(entry).await
    }

    async fn current(&self, entry: Option<Entry>) -> Result<Option<Current>> {
        let Some(entry) = entry else { return Ok(None) };
        let object = self.world.cache.object(&entry)?;
        convert::prepare(self.world, [&object], &self.definition).await?;
        let value = object.value_as(&self.definition)?;
        Ok(Some(Current { entry, value: Arc::new(value) }))
    }

    pub(crate) fn attributes(
        &self,
        operation: Operation,
        object: Option<Value>,
        old: Option<Arc<Value>>,
    ) -> Attributes {
        let options = match operation {
            Operation::Create => Options::Create(self.options.clone()),
            _ => Options::Update(self.options.clone()),
        };
        let is_namespace = self.definition.gvk.group.is_empty() && self.definition.plural == "namespaces";
        let namespace = if is_namespace { self.name } else { self.namespace };
        Attributes {
            operation,
            definition: self.definition.clone(),
            kind: self.kind(),
            subresource: self.subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: if self.is_one_of_many { String::new() } else { self.name.to_owned() },
            object,
            old,
            options,
            dry_run: self.options.dry_run,
            user: self.user.clone(),
            warnings: Vec::new(),
            audit_annotations: Default::default(),
            sent: Default::default(),
            reinvocation: Default::default(),
        }
    }

    /// Lets plugins change the object; defaults are set again where they did.
    /// Of what a client has sent nothing is known any more that a plugin wrote anew.
    async fn admit(&mut self, mut attributes: Attributes, sent: Sent) -> Result<(Value, Arc<Sent>)> {
        attributes.sent = Arc::new(sent);
        let before = self.admission.may_change(&attributes).then(|| attributes.object.clone());
        let admitted = self.admission.admit(&mut attributes, self.world).await;
        self.warnings.append(&mut attributes.warnings);
        self.audit.annotate_all(&attributes.audit_annotations);
        admitted?;
        let changed = before.is_some_and(|before| attributes.object != before);
        let mut object = attributes.object.unwrap_or_default();
        if changed {
            self.set_defaults(&mut object)?;
        }
        Ok((object, attributes.sent))
    }

    /// Lets plugins see to an object that is not the kind's own: a Binding, an Eviction.
    pub(crate) async fn admit_other(&mut self, mut attributes: Attributes) -> Result<Value> {
        let mut admitted = self.admission.admit(&mut attributes, self.world).await;
        if admitted.is_ok() {
            admitted = self.admission.validate(&mut attributes, self.world).await;
        }
        self.warnings.append(&mut attributes.warnings);
        self.audit.annotate_all(&attributes.audit_annotations);
        admitted?;
        Ok(attributes.object.unwrap_or_default())
    }

    /// Lets plugins refuse the object as it will be stored, which is given back.
    pub(crate) async fn validate(&mut self, mut attributes: Attributes) -> Result<Value> {
        let validated = self.admission.validate(&mut attributes, self.world).await;
        self.warnings.append(&mut attributes.warnings);
        self.audit.annotate_all(&attributes.audit_annotations);
        validated?;
        Ok(attributes.object.unwrap_or_default())
    }

    /// What an answer shows of what is stored.
    async fn shown(&self, object: Arc<Object>) -> Result<Shown> {
        convert::prepare(self.world, [&object], &self.definition).await?;
        Ok(Shown::Stored(object.form(&self.definition)?))
    }

    /// A kind that is on its way out takes no new objects.
    fn takes_new(&self) -> Result<()> {
        if self.definition.custom.as_ref().is_some_and(|custom| custom.terminating) {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(ApiError::forbidden(self.subject(), why));
        }
        Ok(())
    }

    fn set_defaults(&self, object: &mut Value) -> Result<Sent> {
        set_defaults(&self.definition, object)
    }

    /// Who owns what an apply or another write sets.
    pub fn with_manager<T>(&self, force: bool, with: impl FnOnce(&apply::Manager) -> T) -> T {
        let (definition, kind) = (&self.definition, self.kind());
        let (group, has_status) = (&definition.gvk.group, definition.has_subresource("status"));
        let reset = apply::Reset::of(group, &definition.plural, self.subresource, has_status);
        let siblings = versions::Siblings::of(self.world.registry.table(), definition);
        with(&apply::Manager {
            name: &self.manager,
            api_version: &kind.api_version(),
            kind: &kind.kind,
            subresource: self.subresource,
            force,
            now: self.world.now(),
            reset: &reset,
            versions: siblings.as_ref().filter(|_| self.scale.is_none()).map(|s| s as &dyn apply::Versions),
        })
    }

    pub(crate) fn track(&self, object: &mut Value, old: Option<&Value>) {
        if !self.tracks_fields {
            return;
        }
        let facts = if self.scale.is_some() { typed::type_of(&scale::gvk()) } else { self.definition.facts.get() };
        let Some((schema, ty)) = facts else { return };
        self.with_manager(false, |manager| apply::track(schema, ty, old, object, manager));
        // What does not fit its schema is owned by nobody.
        if self.definition.is_custom() && self.scale.is_none() && apply::check(schema, ty, object).is_err() {
            metadata::take_managed(object);
        }
    }

    /// Creates an object. It has been decoded, and its namespace is that of the path.
    pub async fn create(&mut self, object: Value) -> Result<Written> {
        self.takes_new()?;
        let (object, sent) = self.admit_new(object).await?;
        self.insert(object, &sent, &|| Ok(())).await
    }

    /// Defaults, ownership and admission of an object that is to be.
    async fn admit_new(&mut self, mut object: Value) -> Result<(Value, Arc<Sent>)> {
        let sent = self.set_defaults(&mut object)?;
        self.track(&mut object, None);
        let attributes = self.attributes(Operation::Create, Some(object), None);
        self.admit(attributes, sent).await
    }

    /// A question that is answered rather than stored: defaulted, tracked and admitted as objects are.
    pub async fn consider(&mut self, object: Value) -> Result<Value> {
        let (object, _) = self.admit_new(object).await?;
        let attributes = self.attributes(Operation::Create, Some(object), None);
        self.validate(attributes).await
    }

    /// Names, prepares, checks and stores an object that has been admitted, if that is `allowed`.
    async fn insert(&mut self, mut object: Value, sent: &Arc<Sent>, allowed: &Allowed<'_>) -> Result<Written> {
        let generated = metadata::text(&object, "name").is_empty();
        let allocates = allocate::of(&self.definition).is_some();
        for attempt in 1.. {
            let is_only_try = !generated && !allocates;
            let mut object = if is_only_try { std::mem::take(&mut object) } else { object.clone() };
            let warned = self.warnings.len();
            metadata::fill(&mut object, self.definition.names_itself, self.world.now(), &self.world.random);
            self.allocate(&mut object, None).await?;
            self.before_create(&mut object, sent)?;
            allowed()?;
            let name = metadata::text(&object, "name").to_owned();
            let mut attributes = self.attributes(Operation::Create, Some(object), None);
            attributes.name.clone_from(&name);
            attributes.sent = sent.clone();
            let object = self.validate(attributes).await?;
            self.refuse_version(&object)?;
            let has_prefix = !metadata::text(&object, "generateName").is_empty();
            match self.store_new(&name, object).await? {
                Ok(written) => return Ok(written),
                Err(Some(_)) if generated && attempt < NAMES_MAX => self.warnings.truncate(warned),
                // Somebody else got what was allocated.
                Err(None) if allocates && attempt < ATTEMPTS_MAX => self.warnings.truncate(warned),
                Err(there) => return Err(self.taken(&name, there, has_prefix)),
            }
        }
        Err(ApiError::internal("no name was tried"))
    }

    /// The object, or the one that has its name; none if something that it was to get is gone.
    async fn store_new(&mut self, name: &str, object: Value) -> Result<std::result::Result<Written, Option<Entry>>> {
        let key = self.key(name);
        if self.options.dry_run {
            let there = self.world.store.get(&key).await.map_err(ApiError::from_store)?;
            return Ok(match there {
                Some(there) => Err(Some(there)),
                None => Ok(Written { shown: Shown::Value(object), created: true }),
            });
        }
        let change = self.allocation(None, Some(&object))?;
        let bytes = self.encode(object).await?;
        match self.put(&key, 0, bytes.clone(), change).await? {
            Commit::Done(revision) => {
                let entry = Entry { key, value: bytes, created: revision, modified: revision };
                Ok(Ok(Written { shown: self.shown(self.world.cache.object(&entry)?).await?, created: true }))
            }
            Commit::Conflict(there) => Ok(Err(there)),
        }
    }

    /// Whoever gives a prefix is told that no name was found, even if the name was given as well.
    fn taken(&self, name: &str, there: Option<Entry>, has_prefix: bool) -> ApiError {
        let on = Subject { name, ..self.subject() };
        let deleting = there.is_some_and(|entry| self.world.cache.object(&entry).is_ok_and(|object| object.deleting));
        let error = if has_prefix { ApiError::name_not_generated(on) } else { ApiError::already_exists(on) };
        if deleting { error.prefixed("object is being deleted: ") } else { error }
    }

    /// Changes an object to what `source` makes of it. A resourceVersion in that must be the stored one's.
    pub async fn update(&mut self, source: &mut Source<'_>, missing: &Missing<'_>) -> Result<Written> {
        let key = self.key(self.name);
        let mut current = self.read(&key).await?;
        for _ in 0..ATTEMPTS_MAX {
            let warned = self.warnings.len();
            let Some(there) = current else {
                return match missing {
                    Missing::Create(allowed) if crds::field::path_segment(self.name).is_empty() => {
                        self.create_missing(source, allowed).await
                    }
                    _ => Err(ApiError::missing(self.subject())),
                };
            };
            match self.change(source, &there).await? {
                Ok(written) => return Ok(written),
                Err(now) => current = self.current(now).await?,
            }
            self.warnings.truncate(warned);
        }
        Err(ApiError::modified(self.subject()))
    }

    async fn create_missing(&mut self, source: &mut Source<'_>, allowed: &Allowed<'_>) -> Result<Written> {
        let object = source(None)?;
        self.takes_new()?;
        let uid = metadata::text(&object, "uid");
        if !uid.is_empty() {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(ApiError::conflict(self.subject(), why));
        }
        let (mut object, sent) = self.admit_new(object).await?;
        metadata::revision(&object)?;
        if !self.options.dry_run
            && let Some(metadata) = metadata::fields(&mut object)
        {
            metadata.remove("resourceVersion");
        }
        self.insert(object, &sent, allowed).await
    }

    /// One attempt; the error is what somebody else has put there meanwhile.
    async fn change(
        &mut self,
        source: &mut Source<'_>,
        there: &Current,
    ) -> Result<std::result::Result<Written, Option<Entry>>> {
        let old = self.seen(there)?;
        let mut seen = source(Some(&old))?;
        // As upstream, for PUT alone.
        if self.verb == "update" {
            self.same_uid(&seen, there)?;
        }
        let sent = match self.scale {
            None => self.set_defaults(&mut seen)?,
            Some(_) => {
                typed::canonical_form(&scale::gvk(), &mut seen);
                Sent::default()
            }
        };
        self.track(&mut seen, Some(&old));
        let attributes = self.attributes(Operation::Update, Some(seen), Some(old.clone()));
        let (seen, sent) = self.admit(attributes, sent).await?;
        let mut object = match &self.scale {
            None => seen,
            Some(paths) => {
                let object = scale::put(&there.value, &self.definition, paths, &seen)?;
                let attributes = self.attributes(Operation::Update, Some(seen), Some(old));
                self.validate(attributes).await?;
                object
            }
        };
        self.check_version(&mut object, there)?;
        self.allocate(&mut object, Some(&there.value)).await?;
        self.before_update(&mut object, &there.value, &sent)?;
        if self.scale.is_none() {
            let attributes = self.attributes(Operation::Update, Some(object), Some(there.value.clone()));
            object = self.validate(attributes).await?;
        }
        apply::keep_times(&there.value, &mut object);
        if self.ends(&object, &there.value) {
            return self.remove(there, object).await;
        }
        if self.options.dry_run {
            return Ok(Ok(Written { shown: Shown::Value(object), created: false }));
        }
        let change = self.allocation(Some(&there.value), Some(&object))?;
        let bytes = self.encode(object).await?;
        let mut entry = there.entry.clone();
        if bytes != entry.value || self.world.store.is_stale(&entry).await.map_err(ApiError::from_store)? {
            match self.put(&entry.key, entry.modified, bytes.clone(), change).await? {
                Commit::Done(revision) => entry.modified = revision,
                Commit::Conflict(now) => return Ok(Err(now)),
            }
            entry.value = bytes;
        }
        Ok(Ok(Written { shown: self.shown(self.world.cache.object(&entry)?).await?, created: false }))
    }

    /// Changes an object by nothing but `change`: no admission, no rules. For what subresources do beside their own
    /// checks. None: it is not there.
    pub async fn modify(
        &self,
        change: &mut (dyn FnMut(&Value) -> Result<Value> + Send),
    ) -> Result<Option<Arc<Object>>> {
        let key = self.key(self.name);
        let mut current = self.read(&key).await?;
        for _ in 0..ATTEMPTS_MAX {
            let Some(there) = current else { return Ok(None) };
            let object = change(&there.value)?;
            let mut entry = there.entry;
            if !self.options.dry_run {
                let bytes = self.encode(object).await?;
                match self.put(&entry.key, entry.modified, bytes.clone(), Default::default()).await? {
                    Commit::Done(revision) => entry.modified = revision,
                    Commit::Conflict(now) => {
                        current = self.current(now).await?;
                        continue;
                    }
                }
                entry.value = bytes;
            }
            return self.world.cache.object(&entry).map(Some);
        }
        Err(ApiError::modified(self.subject()))
    }

    /// Whether this update takes away the last thing that kept a deleted object.
    fn ends(&self, object: &Value, old: &Value) -> bool {
        let grace = old.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
        !metadata::text(old, "deletionTimestamp").is_empty()
            && grace == 0
            && !metadata::has_finalizers(object)
            && !self.definition.rules.is_held(object)
    }

    async fn remove(&self, there: &Current, object: Value) -> Result<std::result::Result<Written, Option<Entry>>> {
        if !self.options.dry_run {
            let op = Op::Delete { key: there.entry.key.clone() };
            let change = self.allocation(Some(&there.value), None)?;
            if let Commit::Conflict(Some(now)) = self.commit(&there.entry.key, there.entry.modified, op, change).await?
            {
                return Ok(Err(Some(now)));
            }
        }
        Ok(Ok(Written { shown: Shown::Value(object), created: false }))
    }

    /// The bytes that are stored: in the stored version, without the resourceVersion, which is the revision.
    pub(crate) async fn encode(&self, mut object: Value) -> Result<Bytes> {
        let stored = self.world.registry.table().stored(&self.definition);
        if stored.is_custom() {
            if let Some(family) = convert::family(&stored) {
                let object = convert::one(self.world, family, object, &family.stored).await?;
                return Ok(stored_json(&stored, object));
            }
            object = self.definition.rules.keep(object).map_err(ApiError::internal)?;
            return Ok(stored_json(&stored, object));
        }
        if let Some(conversion) = &self.definition.conversion {
            object = (conversion.to_stored)(object);
        }
        object["apiVersion"] = stored.gvk.api_version().into();
        object["kind"] = stored.gvk.kind.clone().into();
        Ok(stored_json(&stored, object))
    }

    /// Fills in what comes from shared ranges, where the kind has such.
    async fn allocate(&self, object: &mut Value, old: Option<&Value>) -> Result<()> {
        match allocate::of(&self.definition).filter(|_| self.subresource.is_empty()) {
            Some(allocator) => allocator.allocate(object, old, self.options.dry_run, self.world).await,
            None => Ok(()),
        }
    }

    /// What is taken from shared ranges, and given back, when the object becomes another.
    fn allocation(&self, old: Option<&Value>, new: Option<&Value>) -> Result<allocate::Change> {
        let allocator = allocate::of(&self.definition);
        allocator.map_or(Ok(Default::default()), |a| allocate::Change::between(a, old, new, self.world))
    }

    async fn put(
        &self,
        key: &str,
        modified: store::Revision,
        value: Bytes,
        change: allocate::Change,
    ) -> Result<Commit> {
        let ttl = (self.definition.plural == "events").then(|| Duration::from_secs(EVENT_SECONDS));
        self.commit(key, modified, Op::Put { key: key.to_owned(), value, ttl }, change).await
    }

    async fn commit(&self, key: &str, modified: store::Revision, op: Op, change: allocate::Change) -> Result<Commit> {
        let txn = Txn { compare: vec![Compare { key: key.to_owned(), modified }], ops: vec![op] };
        Ok(match change.commit(txn, self.world).await? {
            Outcome::Committed(revision) => {
                // Whoever is answered may count on it at once, in all that is decided by the cache: rights, classes, quotas.
                if let Err(error) = self.world.cache.wait_for(revision).await {
                    tracing::warn!(%error, revision, "the cache does not follow a write");
                }
                Commit::Done(revision)
            }
            Outcome::Conflict(entries) => Commit::Conflict(entries.into_iter().next().flatten()),
        })
    }
}
