//! The kinds that are served right now: the built-in ones, and those that CustomResourceDefinitions add.

use std::sync::Arc;

use arc_swap::ArcSwap;
use crds::{
    kind::{Definition, Gvk},
    kinds::KINDS,
};

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
}

impl Default for Registry {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Registry {
    pub fn new(custom: Vec<Definition>) -> Self {
        Self { table: ArcSwap::from_pointee(Table::new(custom)) }
    }

    /// Replaces all custom kinds.
    pub fn set_custom(&self, custom: Vec<Definition>) {
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
    fn new(custom: Vec<Definition>) -> Self {
        let in_order: Vec<_> = KINDS.iter().cloned().chain(custom).map(Arc::new).collect();
        let mut by_path = in_order.clone();
        by_path.sort_by(|a, b| path_of(a).cmp(&path_of(b)));
        Self { by_path, in_order }
    }

    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Definition>> {
        let at = self.by_path.binary_search_by(|d| path_of(d).cmp(&(group, version, plural))).ok()?;
        self.by_path.get(at)
    }

    pub fn all(&self) -> &[Arc<Definition>] {
        &self.in_order
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

/// Whether a CustomResourceDefinition made this kind.
pub fn is_custom(definition: &Definition) -> bool {
    !definition.schema_name.starts_with("io.k8s.")
}

fn path_of(definition: &Definition) -> (&str, &str, &str) {
    (&definition.gvk.group, &definition.gvk.version, &definition.plural)
}
