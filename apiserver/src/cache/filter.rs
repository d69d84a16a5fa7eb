//! Which objects a list or a watch is about.

use std::sync::Arc;

use crds::{
    kind::Definition,
    selector::{FieldTerm, Selector},
};

use super::{event::Event, object::Object};

/// A namespace, a name, labels, fields: all must match.
#[derive(Clone)]
pub struct Filter {
    /// The kind in the version that the client asked for; field selectors are of it.
    pub definition: Arc<Definition>,
    /// Empty: all.
    pub namespace: String,
    pub name: Option<String>,
    pub labels: Selector,
    pub fields: Vec<FieldTerm>,
}

/// What an event is to a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

impl Change {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.definition, &other.definition)
            && (&self.namespace, &self.name) == (&other.namespace, &other.name)
            && (&self.labels, &self.fields) == (&other.labels, &other.fields)
    }
}

impl Filter {
    pub fn all(definition: Arc<Definition>, namespace: &str) -> Self {
        Self {
            definition,
            namespace: namespace.to_owned(),
            name: None,
            labels: Selector::everything(),
            fields: Vec::new(),
        }
    }

    /// Whether it selects by labels or fields; then a list cannot tell how many items remain.
    pub fn selects(&self) -> bool {
        !self.labels.is_everything() || !self.fields.is_empty()
    }

    /// Whether it selects by fields of the kind's own.
    pub fn selects_own(&self) -> bool {
        self.fields.iter().any(|term| !matches!(term.path.as_str(), "metadata.name" | "metadata.namespace"))
    }

    pub fn matches(&self, object: &Object) -> bool {
        self.is_placed(object)
            && (self.labels.is_everything() || self.labels.matches(&object.labels))
            && self.fields.iter().all(|term| (object.field(&self.definition, &term.path) == *term.value) == term.equal)
    }

    fn is_placed(&self, object: &Object) -> bool {
        (self.namespace.is_empty() || self.namespace == *object.namespace)
            && self.name.as_ref().is_none_or(|name| **name == *object.name)
    }

    /// An object that enters the selection is added, one that leaves it deleted.
    pub fn change(&self, event: &Event) -> Option<Change> {
        let matches = |object: &Option<Arc<Object>>| object.as_ref().is_some_and(|o| self.matches(o));
        match (matches(&event.previous), matches(&event.object)) {
            (false, true) => Some(Change::Added),
            (true, true) => Some(Change::Modified),
            (true, false) => Some(Change::Deleted),
            (false, false) => None,
        }
    }
}
