//! The other versions of a kind, for the owners of fields that were written in them.

use std::sync::Arc;

use crds::kind::Definition;
use serde_json::Value;

use crate::{
    apply::{self, Versioned, Versions},
    codec::{answer::named, typed},
    registry::Table,
};

/// A kind among those that are stored in its place.
pub struct Siblings {
    table: Arc<Table>,
    definition: Arc<Definition>,
}

impl Siblings {
    /// None for kinds of a single version.
    pub fn of(table: Arc<Table>, definition: &Arc<Definition>) -> Option<Self> {
        let several = table.versions(&definition.storage_prefix).nth(1).is_some();
        several.then(|| Self { table, definition: definition.clone() })
    }

    fn find(&self, api_version: &str) -> Option<&Arc<Definition>> {
        self.table.versions(&self.definition.storage_prefix).find(|d| d.gvk.api_version() == api_version)
    }
}

/// An object of one version in another version of its kind.
pub(crate) fn converted(object: Value, from: &Definition, to: &Definition) -> Value {
    if to.is_custom() {
        let mut object = named(object, to);
        // Fields that the other version does not know have no owners in it.
        return match to.rules.accept(&mut object) {
            Ok(_) | Err(_) => object,
        };
    }
    let stored = match &from.conversion {
        Some(conversion) => (conversion.to_stored)(object),
        None => object,
    };
    let object = match &to.conversion {
        Some(conversion) => (conversion.from_stored)(stored),
        None => stored,
    };
    named(object, to)
}

impl Versions for Siblings {
    fn convert(&self, object: &Value, api_version: &str) -> Result<Option<Versioned<'_>>, String> {
        let Some(other) = self.find(api_version) else { return Ok(None) };
        let Some((schema, ty)) = other.facts.get() else { return Ok(None) };
        if other.is_custom() {
            // Nothing is pruned: fields that the other version does not know do not fit it.
            let object = named(object.clone(), other);
            apply::check(schema, ty, &object)?;
            return Ok(Some(Versioned { object, schema, ty }));
        }
        let mut object = converted(object.clone(), &self.definition, other);
        typed::canonical(other, &mut object);
        Ok(Some(Versioned { object, schema, ty }))
    }

    fn revert(&self, object: Value, api_version: &str) -> Option<Value> {
        let mut object = converted(object, self.find(api_version)?, &self.definition);
        typed::canonical(&self.definition, &mut object);
        Some(object)
    }
}
