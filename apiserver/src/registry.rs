//! The kinds that are served right now: the built-in ones, and those that CustomResourceDefinitions add.

use std::sync::Arc;

use arc_swap::ArcSwap;
use crds::{
    kind::{Definition, Gvk},
    kinds,
};

use crate::runtime_config::RuntimeConfig;

/// Looks kinds up by path or by name. Reads never wait; a change replaces the whole table.
pub struct Registry {
    built_in: BuiltIn,
    table: ArcSwap<Table>,
}

/// The kinds table, in the order of discovery.
struct BuiltIn {
    served: Vec<Arc<Definition>>,
    off: Vec<Arc<Definition>>,
}

/// One consistent view of all served kinds.
pub struct Table {
    /// Sorted by group, version and plural.
    by_path: Vec<Arc<Definition>>,
    /// In the order of discovery: built-in kinds first.
    in_order: Vec<Arc<Definition>>,
    /// Versions that are not served, but may be stored.
    unserved: Vec<Arc<Definition>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new(&RuntimeConfig::default())
    }
}

impl Registry {
    /// The built-in kinds that are turned on.
    pub fn new(config: &RuntimeConfig) -> Self {
        let all = kinds::all().cloned().map(Arc::new);
        let (served, off) = all.partition(|definition: &Arc<Definition>| config.serves(definition));
        let built_in = BuiltIn { served, off };
        Self { table: ArcSwap::from_pointee(Table::new(&built_in, Vec::new())), built_in }
    }

    /// Replaces all custom kinds.
    pub fn set_custom(&self, custom: Vec<Arc<Definition>>) {
        self.table.store(Arc::new(Table::new(&self.built_in, custom)));
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
    fn new(built_in: &BuiltIn, custom: Vec<Arc<Definition>>) -> Self {
        // What has the path of a built-in kind is never reached.
        let is_shadowed = |d: &Arc<Definition>| built_in.served.iter().any(|known| path_of(known) == path_of(d));
        let is_served = |d: &Arc<Definition>| d.custom.as_ref().is_none_or(|custom| custom.served);
        let (served, mut unserved) = custom.into_iter().filter(|d| !is_shadowed(d)).partition::<Vec<_>, _>(is_served);
        unserved.extend(built_in.off.iter().cloned());
        let in_order: Vec<_> = built_in.served.iter().cloned().chain(served).collect();
        let mut by_path = in_order.clone();
        by_path.sort_by(|a, b| path_of(a).cmp(&path_of(b)));
        Self { by_path, in_order, unserved }
    }

    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Definition>> {
        let at = self.by_path.binary_search_by(|d| path_of(d).cmp(&(plural, group, version))).ok()?;
        self.by_path.get(at)
    }

    pub fn all(&self) -> &[Arc<Definition>] {
        &self.in_order
    }

    /// All versions of what is stored under a prefix, served or not.
    pub fn versions<'a>(&'a self, storage_prefix: &'a str) -> impl Iterator<Item = &'a Arc<Definition>> {
        self.in_order.iter().chain(&self.unserved).filter(move |d| d.storage_prefix == storage_prefix)
    }

    /// Whether kinds of the kinds table are served in a group.
    pub fn is_built_in(&self, group: &str) -> bool {
        self.in_order.iter().any(|d| d.gvk.group == group && !d.is_custom())
    }

    /// Whether a kind of the kinds table is served in this version of a group.
    pub fn has_built_in(&self, group: &str, version: &str) -> bool {
        self.in_order.iter().any(|d| d.gvk.group == group && d.gvk.version == version && !d.is_custom())
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
            .chain(&self.unserved)
            .find(|d| d.gvk.group == group && d.gvk.version == version && d.gvk.kind == definition.gvk.kind)
            .unwrap_or(definition)
            .clone()
    }
}

/// What tells a path from others, the plural first: hardly two kinds have the same.
fn path_of(definition: &Definition) -> (&str, &str, &str) {
    (&definition.plural, &definition.gvk.group, &definition.gvk.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(pairs: &str) -> Registry {
        Registry::new(&RuntimeConfig::parse([pairs]).unwrap())
    }

    #[test]
    fn what_is_off_has_no_path() {
        let find = |registry: &Registry, version: &str| {
            registry.resource("networking.k8s.io", version, "ipaddresses").is_some()
        };
        let on_by_default = Registry::default();
        assert!(find(&on_by_default, "v1") && !find(&on_by_default, "v1beta1"));
        let with_beta = registry("networking.k8s.io/v1beta1=true");
        assert!(find(&with_beta, "v1") && find(&with_beta, "v1beta1"));
        assert_eq!(with_beta.any_version("networking.k8s.io", "ipaddresses").unwrap().gvk.version, "v1");
        // The stored version is known though it is off.
        let alone = registry("networking.k8s.io/v1beta1=true,networking.k8s.io/v1=false");
        let beta = alone.any_version("networking.k8s.io", "ipaddresses").unwrap();
        assert_eq!((&*beta.gvk.version, &*alone.table().stored(&beta).gvk.version), ("v1beta1", "v1"));
        assert!(registry("apps/v1/deployments=false").table().resource("apps", "v1", "deployments").is_none());
    }
}
