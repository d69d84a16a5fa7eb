//! Custom resources: the table of kinds follows the CustomResourceDefinitions that are stored.
//!
//! What is served changes while a change of a definition passes through the cache, before anybody can read it
//! (`observer`); `control` then does what upstream's controllers do: names are accepted, definitions established and
//! approved, APIServices registered, and instances deleted with their definition.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock, Weak},
};

use crds::{
    custom,
    kind::{Definition, Kind},
    version::by_maturity,
};
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    cache::{Cache, Object, Observer},
    registry::Registry,
};

pub mod control;
pub mod convert;
mod finalize;
mod review;
mod service;
mod status;
pub mod stream;

/// The definitions as the cache has them, and the kinds that they make.
pub struct CustomKinds {
    registry: Arc<Registry>,
    /// Whose watches end with a change of their kind; known once the cache runs.
    cache: OnceLock<Weak<Cache>>,
    known: Mutex<BTreeMap<String, Known>>,
    /// Definitions that have changed since they were looked at last.
    dirty: Mutex<BTreeSet<String>>,
    changed: Notify,
}

struct Known {
    definition: Arc<CustomResourceDefinition>,
    /// What `kinds` are made of: the definition with the names that it is about to be given.
    made_of: Arc<CustomResourceDefinition>,
    kinds: Vec<Arc<Definition>>,
}

impl CustomKinds {
    pub fn new(registry: Arc<Registry>) -> Arc<Self> {
        Arc::new(Self {
            registry,
            cache: OnceLock::new(),
            known: Mutex::default(),
            dirty: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Watches of a kind that changes end from now on.
    pub fn attach(&self, cache: &Arc<Cache>) {
        if self.cache.set(Arc::downgrade(cache)).is_err() {
            tracing::debug!("a cache is attached already");
        }
    }

    /// Keeps the table of kinds. Definitions that are not established yet are not served.
    pub fn observer(self: &Arc<Self>) -> Observer {
        let kinds = self.clone();
        let prefix = CustomResourceDefinition::ABOUT.storage_prefix;
        Box::new(move |of, name, object| {
            if of == prefix {
                kinds.observe(name, object);
            }
        })
    }

    fn observe(&self, name: &str, object: Option<&Arc<Object>>) {
        let definition = object.map(|object| object.decode::<CustomResourceDefinition>()).transpose();
        let definition = definition.unwrap_or_else(|error| {
            tracing::error!(%error, name, "a CustomResourceDefinition that cannot be read is not served");
            None
        });
        let changed = {
            let mut known = self.known.lock();
            let before = known.remove(name);
            let changed = match (definition, before) {
                (None, before) => before.is_some_and(|before| {
                    end_watches(self, &before.kinds);
                    !before.kinds.is_empty()
                }),
                (Some(definition), before) => {
                    let definition = Arc::new(definition);
                    let made_of = settled(&definition, &known);
                    let same = before.as_ref().is_some_and(|before| serves_alike(&before.made_of, &made_of));
                    let ends = before.as_ref().filter(|before| !streams_alike(&before.made_of, &made_of));
                    if let Some(before) = ends {
                        end_watches(self, &before.kinds);
                    }
                    let kinds = match before {
                        Some(before) if same => before.kinds,
                        _ => served(&made_of),
                    };
                    known.insert(name.to_owned(), Known { definition, made_of, kinds });
                    !same
                }
            };
            changed.then(|| table(&known))
        };
        if let Some(kinds) = changed {
            self.registry.set_custom(kinds);
        }
        self.dirty.lock().insert(name.to_owned());
        self.changed.notify_one();
    }

    /// A definition as it was seen last.
    fn definition(&self, name: &str) -> Option<Arc<CustomResourceDefinition>> {
        self.known.lock().get(name).map(|known| known.definition.clone())
    }

    /// All definitions of a group.
    fn group(&self, group: &str) -> Vec<Arc<CustomResourceDefinition>> {
        let known = self.known.lock();
        known.values().map(|known| &known.definition).filter(|d| d.spec.group == group).cloned().collect()
    }

    /// The kind that is stored of a definition.
    fn stored(&self, name: &str) -> Option<Arc<Definition>> {
        let known = self.known.lock();
        let kinds = &known.get(name)?.kinds;
        kinds.iter().find(|d| d.custom.as_ref().is_some_and(|c| c.family.stored == d.gvk.version)).cloned()
    }

    /// Has a definition looked at again.
    fn again(&self, name: &str) {
        self.dirty.lock().insert(name.to_owned());
        self.changed.notify_one();
    }

    /// The definitions that are to be looked at; waits until there are some.
    async fn next(&self) -> BTreeSet<String> {
        loop {
            let dirty = std::mem::take(&mut *self.dirty.lock());
            if !dirty.is_empty() {
                return dirty;
            }
            self.changed.notified().await;
        }
    }
}

fn served(definition: &CustomResourceDefinition) -> Vec<Arc<Definition>> {
    if !custom::is_true(definition, "Established") {
        return Vec::new();
    }
    custom::definitions(definition).into_iter().map(Arc::new).collect()
}

/// An established definition with the names that its status will tell in a moment, so that these are served together
/// with whatever else has changed.
fn settled(
    definition: &Arc<CustomResourceDefinition>,
    known: &BTreeMap<String, Known>,
) -> Arc<CustomResourceDefinition> {
    if !custom::is_true(definition, "Established") {
        return definition.clone();
    }
    let others = known.values().map(|known| &known.definition).filter(|d| d.spec.group == definition.spec.group);
    let group: Vec<_> = others.chain([definition]).cloned().collect();
    status::names(definition, &group, Timestamp::UNIX_EPOCH).map_or_else(|| definition.clone(), Arc::new)
}

/// Whether two states of a definition make the same kinds.
fn serves_alike(a: &CustomResourceDefinition, b: &CustomResourceDefinition) -> bool {
    custom::is_true(a, "Terminating") == custom::is_true(b, "Terminating") && streams_alike(a, b)
}

/// Whether those who watch the one may go on watching the other.
fn streams_alike(a: &CustomResourceDefinition, b: &CustomResourceDefinition) -> bool {
    let names = |d: &CustomResourceDefinition| d.status.as_ref().and_then(|status| status.accepted_names.clone());
    let is_established = |d: &CustomResourceDefinition| custom::is_true(d, "Established");
    a.metadata.uid == b.metadata.uid
        && a.spec == b.spec
        && names(a) == names(b)
        && is_established(a) == is_established(b)
}

fn end_watches(kinds: &CustomKinds, ended: &[Arc<Definition>]) {
    if let (Some(kind), Some(cache)) = (ended.first(), kinds.cache.get().and_then(Weak::upgrade)) {
        cache.kind(kind).end_watches();
    }
}

/// By group and resource; of the versions the one that is preferred comes first.
fn table(known: &BTreeMap<String, Known>) -> Vec<Arc<Definition>> {
    let mut kinds: Vec<_> = known.values().flat_map(|known| known.kinds.iter().cloned()).collect();
    kinds.sort_by(|a, b| {
        let place = |d: &Arc<Definition>| (d.gvk.group.clone(), d.plural.clone());
        place(a).cmp(&place(b)).then_with(|| by_maturity(&a.gvk.version, &b.gvk.version))
    });
    kinds
}
