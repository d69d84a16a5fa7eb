//! Sets of fields: which parts of an object a manager owns, and the arithmetic of such sets.

use std::cmp::Ordering;

use crds::schema::Schema;
use serde_json::{Map, Value};

use super::{atom::Place, path::Element};

/// A tree of fields. A field can be in the set, have fields below it that are, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Sorted by element; each is a member or has children.
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub element: Element,
    pub member: bool,
    pub children: Set,
}

impl Set {
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn get(&self, element: &Element) -> Option<&Node> {
        let i = self.nodes.binary_search_by(|node| node.element.cmp(element)).ok()?;
        self.nodes.get(i)
    }

    pub fn has(&self, element: &Element) -> bool {
        self.get(element).is_some_and(|node| node.member)
    }

    pub fn has_path(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.has(last),
            [first, rest @ ..] => self.get(first).is_some_and(|node| node.children.has_path(rest)),
        }
    }

    /// A set of one field.
    pub fn of(path: &[Element]) -> Self {
        let mut set = Self::default();
        set.insert(path);
        set
    }

    /// The members and children below an element are added to those that are there.
    pub fn put(&mut self, element: Element, member: bool, children: Self) {
        if !member && children.is_empty() {
            return;
        }
        // Walks of objects come in order, so that most often the place is at the end.
        if self.nodes.last().is_none_or(|last| last.element < element) {
            self.nodes.push(Node { element, member, children });
            return;
        }
        match self.nodes.binary_search_by(|node| node.element.cmp(&element)) {
            Err(i) => self.nodes.insert(i, Node { element, member, children }),
            Ok(i) => {
                if let Some(node) = self.nodes.get_mut(i) {
                    node.member |= member;
                    node.children = node.children.union(&children);
                }
            }
        }
    }

    pub fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => self.put(last.clone(), true, Self::default()),
            [first, rest @ ..] => self.put(first.clone(), false, Self::of(rest)),
        }
    }

    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, |a, b| match (a, b) {
            (Some(a), Some(b)) => (a.member || b.member, a.children.union(&b.children)),
            (Some(one), None) | (None, Some(one)) => (one.member, one.children.clone()),
            (None, None) => (false, Self::default()),
        })
    }

    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |a, b| match (a, b) {
            (Some(a), Some(b)) => (a.member && b.member, a.children.intersection(&b.children)),
            _ => (false, Self::default()),
        })
    }

    /// What is in this set and not in the other; a field of the other does not take away what is below it.
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |a, b| match (a, b) {
            (Some(a), Some(b)) => (a.member && !b.member, a.children.difference(&b.children)),
            (Some(a), None) => (a.member, a.children.clone()),
            _ => (false, Self::default()),
        })
    }

    /// The same, but a field of the other takes away everything below it.
    pub fn recursive_difference(&self, other: &Self) -> Self {
        self.combine(other, |a, b| match (a, b) {
            (Some(_), Some(b)) if b.member => (false, Self::default()),
            (Some(a), Some(b)) => (a.member, a.children.recursive_difference(&b.children)),
            (Some(a), None) => (a.member, a.children.clone()),
            _ => (false, Self::default()),
        })
    }

    fn combine(&self, other: &Self, f: impl Fn(Option<&Node>, Option<&Node>) -> (bool, Self)) -> Self {
        let mut nodes = Vec::with_capacity(self.nodes.len().max(other.nodes.len()));
        let (mut ours, mut theirs) = (self.nodes.iter().peekable(), other.nodes.iter().peekable());
        loop {
            let first = match (ours.peek(), theirs.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.element.cmp(&b.element),
            };
            let a = if first.is_le() { ours.next() } else { None };
            let b = if first.is_ge() { theirs.next() } else { None };
            let (member, children) = f(a, b);
            if (member || !children.is_empty())
                && let Some(node) = a.or(b)
            {
                nodes.push(Node { element: node.element.clone(), member, children });
            }
        }
        Self { nodes }
    }

    /// Only those that have none below them.
    pub fn leaves(&self) -> Self {
        let nodes = self.nodes.iter().map(|node| Node {
            element: node.element.clone(),
            member: node.member && node.children.is_empty(),
            children: node.children.leaves(),
        });
        Self { nodes: nodes.collect() }
    }

    /// Adds the declared fields above each member, which a set does not hold by itself.
    pub fn ensure_named(&self, schema: &Schema, place: Place) -> Self {
        let nodes = self.nodes.iter().map(|node| {
            let named = !node.children.is_empty() && place.declares(schema, &node.element);
            Node {
                element: node.element.clone(),
                member: node.member || named,
                children: place
                    .below(schema, &node.element)
                    .map_or_else(|| node.children.clone(), |inner| node.children.ensure_named(schema, inner)),
            }
        });
        Self { nodes: nodes.collect() }
    }

    /// Calls `f` with the path of each member: those of one level first, then what is below them.
    pub fn each<'a>(&'a self, path: &mut Vec<&'a Element>, f: &mut impl FnMut(&[&Element])) {
        for node in self.nodes.iter().filter(|node| node.member) {
            path.push(&node.element);
            f(path);
            path.pop();
        }
        for node in &self.nodes {
            path.push(&node.element);
            node.children.each(path, f);
            path.pop();
        }
    }

    /// What was owned below a place that has become atomic is owned as a whole; None if nothing has changed.
    pub fn reconciled(&self, schema: &Schema, place: Place) -> Option<Self> {
        let mut changed = false;
        let nodes = self.nodes.iter().map(|node| {
            let mut node = node.clone();
            if node.children.is_empty() {
                return node;
            }
            match place.below(schema, &node.element) {
                Some(inner) if inner.is_atomic(schema) => {
                    (node.member, node.children) = (true, Self::default());
                    changed = true;
                }
                Some(inner) => {
                    if let Some(children) = node.children.reconciled(schema, inner) {
                        node.children = children;
                        changed = true;
                    }
                }
                None => {}
            }
            node
        });
        let nodes = nodes.collect();
        changed.then_some(Self { nodes })
    }

    /// As `FieldsV1`, in upstream's order.
    pub fn encode(&self) -> Value {
        let nodes = self.nodes.iter().map(|node| {
            let mut below = Map::new();
            if node.member && !node.children.is_empty() {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            if let Value::Object(children) = node.children.encode() {
                below.extend(children);
            }
            (node.element.encode(), Value::Object(below))
        });
        Value::Object(nodes.collect())
    }

    /// Reads `FieldsV1`; what a later version may mean is left out.
    pub fn decode(fields: &Value) -> Result<Self, String> {
        Ok(Self::read(fields)?.0)
    }

    /// The fields below, and whether the place itself is a member.
    fn read(fields: &Value) -> Result<(Self, bool), String> {
        let Value::Object(fields) = fields else { return Err("expected a map of fields".to_owned()) };
        let mut set = Self { nodes: Vec::with_capacity(fields.len()) };
        let mut is_member = false;
        for (key, below) in fields {
            if key == "." {
                is_member = true;
                continue;
            }
            if let Some(element) = Element::decode(key)? {
                let (children, member) = Self::read(below)?;
                set.put(element, member, children);
            }
        }
        let leaf = set.is_empty();
        Ok((set, is_member || leaf))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(value: Value) -> Set {
        Set::decode(&value).unwrap()
    }

    #[test]
    fn arithmetic() {
        let a = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}, "f:l": {"k:{\"n\":1}": {".": {}, "f:x": {}}}}));
        let b = set(json!({"f:a": {"f:b": {}}, "f:d": {}, "f:l": {"k:{\"n\":1.0}": {}}}));
        for (made, expected) in [
            (
                a.union(&b),
                json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}, "f:d": {}, "f:l": {"k:{\"n\":1}": {".": {}, "f:x": {}}}}),
            ),
            (a.intersection(&b), json!({"f:a": {"f:b": {}}, "f:l": {"k:{\"n\":1}": {}}})),
            (a.difference(&b), json!({"f:a": {}, "f:c": {}, "f:l": {"k:{\"n\":1}": {"f:x": {}}}})),
            (a.recursive_difference(&b), json!({"f:a": {}, "f:c": {}})),
            (a.leaves(), json!({"f:a": {"f:b": {}}, "f:c": {}, "f:l": {"k:{\"n\":1}": {"f:x": {}}}})),
        ] {
            assert_eq!(made, set(expected));
        }
        assert!(a.has_path(&[Element::field("a"), Element::field("b")]) && !b.has(&Element::field("a")));
    }

    #[test]
    fn fields_v1() {
        let fields = json!({"f:l": {".": {}, "k:{\"containerPort\":443,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}},
            "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {}, "v:\"a\"": {}, "i:0": {}}});
        assert_eq!(set(fields.clone()).encode(), fields);
        assert_eq!(set(json!({"x:later": {}, "f:a": {"x:later": {}}})).encode(), json!({"f:a": {}}));
        for (wrong, why) in [
            (json!({"f": {}}), "key must be 2 characters long:"),
            (json!({"abc": {}}), "missing colon: abc"),
            (json!({"f:a": 1}), "expected a map of fields"),
        ] {
            assert_eq!(Set::decode(&wrong).unwrap_err(), why);
        }
    }

    #[test]
    fn one_level_comes_before_what_is_below() {
        let mut paths = Vec::new();
        let set = set(json!({"f:a": {"f:b": {}}, "f:c": {}, "f:d": {"v:1": {}, "i:2": {}, "k:{\"n\":\"x\"}": {}}}));
        set.each(&mut Vec::new(), &mut |path| paths.push(path.iter().map(ToString::to_string).collect::<String>()));
        assert_eq!(paths, [".c", ".a.b", ".d[n=\"x\"]", ".d[=1]", ".d[2]"]);
    }
}
