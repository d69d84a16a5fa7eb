//! The kinds that are served right now: the built-in ones, and those that CustomResourceDefinitions add.

use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use crds::{
    kind::{Definition, Gvk},
    kinds::KINDS,
};

static BUILT_IN: LazyLock<Vec<Arc<Definition>>> = LazyLock::new(|| KINDS.iter().cloned().map(Arc::new).collect());

/// Looks kinds up by path or by name. Reads never wait; a change replaces the whole table.
pub struct Registry {
    table: ArcSwap<Table>,
}

/// One consistent view of all served kinds.
pub struct Table {
    /// Sorted by group, version and plural.
    by_path: Vec<Arc<Definition>>,
    /// In the order of discovery: built-in kinds first.
    in_order: Vec<Arc<Definition>>,
    /// Versions of custom kinds that are not served, but may be stored.
    unserved: Vec<Arc<Definition>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Registry {
    pub fn new(custom: Vec<Arc<Definition>>) -> Self {
        Self { table: ArcSwap::from_pointee(Table::new(custom)) }
    }

    /// Replaces all custom kinds.
    pub fn set_custom(&self, custom: Vec<Arc<Definition>>) {
        self.table.store(Arc::new(Table::new(custom)));
    }

    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// The kind behind a path, by its plural.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Definition>> {
        self.table.load().resource(group, version, plural).cloned()
    }

    pub fn kind(&self, gvk: &Gvk) -> Option<Arc<Definition>> {
        self.table.load().in_order.iter().find(|d| d.gvk == *gvk).cloned()
    }

    /// Any served version of a resource, the preferred one first.
    pub fn any_version(&self, group: &str, plural: &str) -> Option<Arc<Definition>> {
        self.table.load().in_order.iter().find(|d| d.gvk.group == group && d.plural == plural).cloned()
    }
}

impl Table {
    fn new(custom: Vec<Arc<Definition>>) -> Self {
        // What has the path of a built-in kind is never reached.
        let is_shadowed = |d: &Arc<Definition>| BUILT_IN.iter().any(|known| path_of(known) == path_of(d));
        let is_served = |d: &Arc<Definition>| d.custom.as_ref().is_none_or(|custom| custom.served);
        let (served, unserved) = custom.into_iter().filter(|d| !is_shadowed(d)).partition::<Vec<_>, _>(is_served);
        let in_order: Vec<_> = BUILT_IN.iter().cloned().chain(served).collect();
        let mut by_path = in_order.clone();
        by_path.sort_by(|a, b| path_of(a).cmp(&path_of(b)));
        Self { by_path, in_order, unserved }
    }

    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Definition>> {
        let at = self.by_path.binary_search_by(|d| path_of(d).cmp(&(group, version, plural))).ok()?;
        self.by_path.get(at)
    }

    pub fn all(&self) -> &[Arc<Definition>] {
        &self.in_order
    }

    /// All versions of what is stored under a prefix, served or not.
    pub fn versions<'a>(&'a self, storage_prefix: &'a str) -> impl Iterator<Item = &'a Arc<Definition>> {
        self.in_order.iter().chain(&self.unserved).filter(move |d| d.storage_prefix == storage_prefix)
    }

    /// Whether a group is one of the kinds table.
    pub fn is_built_in(&self, group: &str) -> bool {
        BUILT_IN.iter().any(|d| d.gvk.group == group)
    }

    pub fn has_group(&self, group: &str) -> bool {
        self.in_order.iter().any(|d| d.gvk.group == group)
    }

    pub fn has_version(&self, group: &str, version: &str) -> bool {
        self.in_order.iter().any(|d| d.gvk.group == group && d.gvk.version == version)
    }

    /// The kind whose version is the one that is stored: itself, but for kinds that are converted.
    pub fn stored(&self, definition: &Arc<Definition>) -> Arc<Definition> {
        let Some(conversion) = &definition.conversion else {
            return definition.clone();
        };
        let (group, version) = conversion.stored;
        self.in_order
            .iter()
            .find(|d| d.gvk.group == group && d.gvk.version == version && d.gvk.kind == definition.gvk.kind)
            .unwrap_or(definition)
            .clone()
    }
}

fn path_of(definition: &Definition) -> (&str, &str, &str) {
    (&definition.gvk.group, &definition.gvk.version, &definition.plural)
}
