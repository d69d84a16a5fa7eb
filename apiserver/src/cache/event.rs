//! A change of one object, with the object before and after it, shared by all its watchers.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use crds::kind::Definition;
use parking_lot::Mutex;
use store::Revision;

use super::{filter::Change, object::Object};
use crate::codec::Form;

pub struct Event {
    pub revision: Revision,
    /// None: it was deleted.
    pub object: Option<Arc<Object>>,
    pub previous: Option<Arc<Object>>,
    /// What was there last, with the revision of its end.
    gone: OnceLock<Arc<Object>>,
    encodings: Mutex<Vec<Encoding>>,
}

/// One form in which the event has been sent.
struct Encoding {
    change: Change,
    form: Form,
    definition: Arc<Definition>,
    bytes: Bytes,
}

impl Event {
    pub fn new(revision: Revision, object: Option<Arc<Object>>, previous: Option<Arc<Object>>) -> Self {
        Self { revision, object, previous, gone: OnceLock::new(), encodings: Mutex::default() }
    }

    /// The object that a watcher is shown.
    pub fn shown(&self, change: Change) -> Option<&Arc<Object>> {
        match change {
            Change::Added | Change::Modified => self.object.as_ref(),
            Change::Deleted => {
                let previous = self.previous.as_ref()?;
                Some(self.gone.get_or_init(|| Arc::new(previous.at(self.revision))))
            }
        }
    }

    /// The event in a form that is made by the first watcher who needs it.
    pub fn encoded(
        &self,
        change: Change,
        form: Form,
        definition: &Arc<Definition>,
        make: impl FnOnce(&Arc<Object>) -> Bytes,
    ) -> Bytes {
        let mut encodings = self.encodings.lock();
        let known =
            encodings.iter().find(|e| e.change == change && e.form == form && Arc::ptr_eq(&e.definition, definition));
        if let Some(known) = known {
            return known.bytes.clone();
        }
        let bytes = self.shown(change).map(make).unwrap_or_default();
        encodings.push(Encoding { change, form, definition: definition.clone(), bytes: bytes.clone() });
        bytes
    }

    /// Roughly what it holds in memory.
    pub fn size(&self) -> usize {
        let of = |object: &Option<Arc<Object>>| object.as_ref().map_or(0, |o| o.line.len());
        of(&self.object) + of(&self.previous)
    }
}
