//! What differs between two values, as sets of fields.

use std::collections::BTreeMap;

use crds::schema::{ListType, Schema};
use serde_json::{Map, Value};

use super::{
    atom::{Atom, Of, Place, item_element},
    path::{Element, same},
    set::Set,
};

/// The difference between an old and a new value.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Added or modified.
    pub changed: Set,
    pub removed: Set,
    /// The new value has items that have no key, which cannot be owned.
    pub is_keyless: bool,
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

/// Both values are of the schema. Walks only as deep as there are differences in lists, and otherwise once over both.
pub fn compare(schema: &Schema, place: Place, old: &Value, new: &Value) -> Difference {
    let mut all = Difference::default();
    Walk { schema }.place(place, Some(old), Some(new), &mut all);
    all
}

/// Whether a place itself is added or modified, or removed.
#[derive(Clone, Copy, Default)]
struct Own {
    changed: bool,
    removed: bool,
}

struct Walk<'a> {
    schema: &'a Schema,
}

impl Walk<'_> {
    fn below(
        &self,
        place: Place,
        old: Option<&Value>,
        new: Option<&Value>,
        out: &mut Difference,
        element: impl FnOnce() -> Element,
    ) {
        let mut below = Difference::default();
        let own = self.place(place, old, new, &mut below);
        out.is_keyless |= below.is_keyless;
        if !(own.changed || own.removed) && below.is_empty() {
            return;
        }
        let element = element();
        out.removed.put(element.clone(), own.removed, below.removed);
        out.changed.put(element, own.changed, below.changed);
    }

    fn place(&self, place: Place, old: Option<&Value>, new: Option<&Value>, out: &mut Difference) -> Own {
        let (before, after) = (place.atom(self.schema, old), place.atom(self.schema, new));
        let mut leaf = false;
        // A value may change its form where no type is declared: then both forms are looked at.
        let forms = std::mem::discriminant(&before) != std::mem::discriminant(&after) && old.is_some() && new.is_some();
        if forms || new.is_none() {
            leaf |= self.atom(&before, old, new, out);
        }
        if new.is_some() {
            leaf |= self.atom(&after, old, new, out);
        }
        match (old, new) {
            (None, _) => Own { changed: true, removed: false },
            (_, None) => Own { changed: false, removed: true },
            (Some(old), Some(new)) => Own { changed: leaf && !same(old, new), removed: false },
        }
    }

    /// Whether this is a leaf; if not, what is below has been compared.
    fn atom(&self, atom: &Atom, old: Option<&Value>, new: Option<&Value>, out: &mut Difference) -> bool {
        match atom {
            Atom::Scalar(_) | Atom::Map { atomic: true, .. } | Atom::List { list: ListType::Atomic, .. } => true,
            Atom::Map { of, .. } => {
                let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
                // That both are empty, or null, is a leaf, so that null and empty differ.
                if old.is_none_or(Map::is_empty) && new.is_none_or(Map::is_empty) {
                    return true;
                }
                self.maps(*of, old, new, out);
                false
            }
            Atom::List { list, item } => {
                let (old_items, new_items) = (old.and_then(Value::as_array), new.and_then(Value::as_array));
                if old_items.is_none_or(Vec::is_empty) && new_items.is_none_or(Vec::is_empty) {
                    return true;
                }
                if old_items != new_items {
                    let empty = Vec::new();
                    self.lists(list, *item, old_items.unwrap_or(&empty), new_items.unwrap_or(&empty), out);
                }
                false
            }
        }
    }

    fn maps(&self, of: Of, old: Option<&Map<String, Value>>, new: Option<&Map<String, Value>>, out: &mut Difference) {
        for (key, after) in new.into_iter().flatten() {
            let before = old.and_then(|old| old.get(key));
            if let Some(place) = of.get(key) {
                self.below(place, before, Some(after), out, || Element::field(key));
            }
        }
        for (key, before) in old.into_iter().flatten() {
            if new.is_none_or(|new| !new.contains_key(key))
                && let Some(place) = of.get(key)
            {
                self.below(place, Some(before), None, out, || Element::field(key));
            }
        }
    }

    fn lists(&self, list: &ListType, item: Place, old: &[Value], new: &[Value], out: &mut Difference) {
        let mut items: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for value in old {
            if let Ok(element) = item_element(self.schema, list, item, value) {
                items.entry(element).or_default().0.push(value);
            }
        }
        for value in new {
            match item_element(self.schema, list, item, value) {
                Ok(element) => items.entry(element).or_default().1.push(value),
                Err(_) => out.is_keyless = true,
            }
        }
        for (element, (before, after)) in items {
            let (first_before, first_after) = (before.first().copied(), after.first().copied());
            match (before.len(), after.len()) {
                (0 | 1, 0 | 1) => self.below(item, first_before, first_after, out, || element),
                // Items that come twice are taken for one, as a whole.
                (0 | 1, _) => {
                    if first_before.is_some() {
                        self.below(item, first_before, None, out, || element.clone());
                    }
                    out.changed.put(element, true, Set::default());
                }
                (_, 0 | 1) => {
                    if first_after.is_some() {
                        self.below(item, None, first_after, out, || element.clone());
                    }
                    out.removed.put(element, true, Set::default());
                }
                _ => {
                    let equal = before.len() == after.len() && before.iter().zip(&after).all(|(a, b)| same(a, b));
                    out.changed.put(element, !equal, Set::default());
                }
            }
        }
    }
}
