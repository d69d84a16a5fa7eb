//! Values against their schema: whether they fit, which fields they have, taking fields out of them.

use std::{collections::BTreeSet, fmt};

use crds::schema::{ListType, Schema};
use serde_json::Value;

use super::{
    atom::{Atom, Place, Scalar, item_element},
    path::Element,
    set::Set,
};
use crate::patch::print;

/// A place where a value does not fit its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    path: String,
    why: String,
}

/// All of them, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfits(pub Vec<Misfit>);

impl fmt::Display for Misfits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |m: &Misfit| if m.path.is_empty() { m.why.clone() } else { format!("{}: {}", m.path, m.why) };
        match self.0.as_slice() {
            [one] => f.write_str(&told(one)),
            all => {
                f.write_str("errors:")?;
                all.iter().try_for_each(|m| write!(f, "\n  {}", told(m)))
            }
        }
    }
}

/// Whether an applied value fits. Lists owned item by item may not have one twice.
pub fn check(schema: &Schema, place: Place, value: &Value) -> Result<(), Misfits> {
    let mut misfits = Vec::new();
    visit(schema, place, value, &mut misfits);
    if misfits.is_empty() { Ok(()) } else { Err(Misfits(misfits)) }
}

fn misfit(why: impl Into<String>) -> Misfit {
    Misfit { path: String::new(), why: why.into() }
}

fn visit(schema: &Schema, place: Place, value: &Value, misfits: &mut Vec<Misfit>) {
    let mut below = |element: &Element, place, value: &Value| {
        let before = misfits.len();
        visit(schema, place, value, misfits);
        if misfits.len() > before {
            let step = element.to_string();
            misfits.iter_mut().skip(before).for_each(|m| m.path.insert_str(0, &step));
        }
    };
    match (place.atom(schema, Some(value)), value) {
        (_, Value::Null) => {}
        (Atom::Scalar(scalar), value) => misfits.extend(scalar_misfit(scalar, value)),
        (Atom::Map { of, .. }, Value::Object(map)) => {
            for (key, value) in map {
                let element = Element::field(key);
                let Some(place) = of.get(key) else {
                    misfits.push(Misfit { path: element.to_string(), why: "field not declared in schema".to_owned() });
                    return;
                };
                below(&element, place, value);
            }
        }
        (Atom::List { list: ListType::Atomic, item }, Value::Array(items)) => {
            for (i, value) in (0..).zip(items) {
                below(&Element::Index(i), item, value);
            }
        }
        (Atom::List { list, item }, Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for (i, value) in items.iter().enumerate() {
                let element = match item_element(schema, list, item, value) {
                    Ok(element) => element,
                    Err(why) => {
                        misfits.push(misfit(format!("element {i}: {why}")));
                        return;
                    }
                };
                let before = misfits.len();
                visit(schema, item, value, misfits);
                let step = element.to_string();
                misfits.iter_mut().skip(before).for_each(|m| m.path.insert_str(0, &step));
                if seen.contains(&element) {
                    misfits.insert(before, misfit(format!("duplicate entries for key {element}")));
                }
                seen.insert(element);
            }
        }
        // Upstream shows its own wrapper of the value, a Go pointer to a struct.
        (Atom::Map { .. }, value) => misfits.push(misfit(format!("expected map, got &{{{}}}", print::plain(value)))),
        (Atom::List { .. }, value) => misfits.push(misfit(format!("expected list, got &{{{}}}", print::plain(value)))),
    }
}

fn scalar_misfit(scalar: Scalar, value: &Value) -> Option<Misfit> {
    let why = match (scalar, value) {
        (Scalar::Numeric, Value::Number(_))
        | (Scalar::String, Value::String(_))
        | (Scalar::Boolean, Value::Bool(_)) => {
            return None;
        }
        (Scalar::Untyped, Value::Number(_) | Value::String(_) | Value::Bool(_)) => return None,
        (Scalar::Numeric, value) => format!("expected numeric (int or float), got {}", print::type_of(value)),
        (Scalar::String, value) => {
            format!("expected string, got &value.valueUnstructured{{Value:{}}}", print::syntax(value))
        }
        (Scalar::Boolean, value) => format!("expected boolean, got &{{{}}}", print::plain(value)),
        (Scalar::Untyped, value) => format!("expected any scalar, got &{{{}}}", print::plain(value)),
    };
    Some(misfit(why))
}

/// The fields that a value has: its leaves, and items of lists and maps.
pub fn fields(schema: &Schema, place: Place, value: &Value) -> Set {
    let mut set = Set::default();
    collect(schema, place, value, &mut set);
    set
}

/// Adds what is below; whether the place is itself a field of the set.
fn collect(schema: &Schema, place: Place, value: &Value, set: &mut Set) -> bool {
    match (place.atom(schema, Some(value)), value) {
        (Atom::Scalar(_) | Atom::Map { atomic: true, .. }, _) => true,
        (Atom::List { list: ListType::Atomic, .. }, _) => true,
        (Atom::Map { of, .. }, Value::Object(map)) => {
            for (key, value) in map {
                let Some(place) = of.get(key) else { continue };
                let mut below = Set::default();
                let leaf = collect(schema, place, value, &mut below);
                let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                set.put(Element::field(key), leaf || empty || !of.declares(key), below);
            }
            false
        }
        (Atom::List { list, item }, Value::Array(items)) => {
            let elements: Vec<_> =
                items.iter().filter_map(|v| Some((item_element(schema, list, item, v).ok()?, v))).collect();
            let twice = doubled(elements.iter().map(|(element, _)| element));
            for (element, value) in elements {
                let mut below = Set::default();
                if !twice.contains(&element) {
                    collect(schema, item, value, &mut below);
                }
                set.put(element, true, below);
            }
            false
        }
        _ => false,
    }
}

/// Those that come more than once.
pub fn doubled<'a>(elements: impl Iterator<Item = &'a Element>) -> BTreeSet<Element> {
    let mut seen = BTreeSet::new();
    elements.filter(|element| !seen.insert(*element)).cloned().collect()
}

/// Takes the fields of `gone` out. What is empty then is null, as upstream leaves it.
pub fn remove(schema: &Schema, place: Place, value: &mut Value, gone: &Set) {
    match (place.atom(schema, Some(value)), &mut *value) {
        (Atom::Scalar(_), _) => {}
        (Atom::Map { atomic: false, of }, Value::Object(map)) => {
            for node in gone.nodes() {
                let Element::Field(name) = &node.element else { continue };
                if node.member {
                    map.remove(&**name);
                } else if let (Some(inner), Some(place)) = (map.get_mut(&**name), of.get(name)) {
                    remove(schema, place, inner, &node.children);
                }
            }
            if map.is_empty() {
                *value = Value::Null;
            }
        }
        (Atom::List { list, item }, Value::Array(items)) if *list != ListType::Atomic => {
            items.retain_mut(|value| {
                let node = item_element(schema, list, item, value).ok().and_then(|element| gone.get(&element).cloned());
                match node {
                    Some(node) if node.member => false,
                    Some(node) => {
                        remove(schema, item, value, &node.children);
                        true
                    }
                    None => true,
                }
            });
            if items.is_empty() {
                *value = Value::Null;
            }
        }
        (_, value) => *value = Value::Null,
    }
}
