//! What a client wrote, as far as the canonical form with defaults does not tell it any more, and rules ask for it.

use serde_json::Value;

/// A step of the way to a value.
#[derive(Debug)]
enum Step {
    Name(String),
    Index(usize),
}

/// An object as it came.
#[derive(Debug, Default)]
pub struct Sent {
    pub has_labels: bool,
    /// Where it has empty lists, maps and texts, beside those of its metadata: Go tells the first two from absent ones
    /// until it stores an object, and empty bytes.
    empties: Vec<(Vec<Step>, Value)>,
}

impl Sent {
    pub fn of(object: &Value) -> Self {
        let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
        let mut found = Self { has_labels: labels.is_some_and(|labels| !labels.is_empty()), empties: Vec::new() };
        let fields = object.as_object().into_iter().flatten();
        for (name, value) in fields.filter(|(name, _)| *name != "metadata") {
            found.walk(value, &mut vec![At::Name(name)]);
        }
        found
    }

    fn walk<'a>(&mut self, value: &'a Value, path: &mut Vec<At<'a>>) {
        match value {
            Value::Array(items) if !items.is_empty() => {
                for (i, item) in items.iter().enumerate() {
                    path.push(At::Index(i));
                    self.walk(item, path);
                    path.pop();
                }
            }
            Value::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    path.push(At::Name(name));
                    self.walk(value, path);
                    path.pop();
                }
            }
            Value::String(text) if !text.is_empty() => {}
            Value::Array(_) | Value::Object(_) | Value::String(_) => {
                self.empties.push((path.iter().map(At::owned).collect(), value.clone()));
            }
            _ => {}
        }
    }

    /// Forgets those that are empty no more, or gone, with the defaults.
    pub fn defaulted(&mut self, object: &mut Value) {
        self.empties.retain(|(path, empty)| path.iter().try_fold(&mut *object, step).is_some_and(|now| now == empty));
    }

    /// Whether there was an empty list or map at this place.
    pub fn is_empty_at(&self, names: &[&str]) -> bool {
        let is_there = |path: &[Step]| {
            path.len() == names.len()
                && path.iter().zip(names).all(|(step, name)| matches!(step, Step::Name(n) if n == name))
        };
        self.empties.iter().any(|(path, _)| is_there(path))
    }

    /// What is left of it once the object was written as JSON and read again.
    pub fn read_again(&self) -> Self {
        Self { has_labels: self.has_labels, empties: Vec::new() }
    }

    /// Puts lists back where the canonical form has null: whoever wrote them owns them.
    pub fn fill_nulls(&self, object: &mut Value) {
        for (path, empty) in self.empties.iter().filter(|(_, empty)| empty.is_array()) {
            if let Some(place @ Value::Null) = path.iter().try_fold(&mut *object, step) {
                *place = empty.clone();
            }
        }
    }

    /// Puts all of them back, for rules that tell them from absent ones.
    pub fn restore(&self, object: &mut Value) {
        for (path, empty) in &self.empties {
            let Some((last, before)) = path.split_last() else { continue };
            let Some(parent) = before.iter().try_fold(&mut *object, step) else { continue };
            match (parent, last) {
                // Absent texts and empty ones are the same, but for bytes that are written as null.
                (Value::Object(fields), Step::Name(name)) if !empty.is_string() => {
                    let place = fields.entry(name).or_insert(Value::Null);
                    if place.is_null() {
                        *place = empty.clone();
                    }
                }
                (parent, last) => {
                    if let Some(place @ Value::Null) = step(parent, last) {
                        *place = empty.clone();
                    }
                }
            }
        }
    }
}

/// A step while it is taken: nothing is copied for what is not empty.
#[derive(Clone, Copy)]
enum At<'a> {
    Name(&'a str),
    Index(usize),
}

impl At<'_> {
    fn owned(&self) -> Step {
        match *self {
            Self::Name(name) => Step::Name(name.to_owned()),
            Self::Index(index) => Step::Index(index),
        }
    }
}

fn step<'a>(value: &'a mut Value, step: &Step) -> Option<&'a mut Value> {
    match step {
        Step::Name(name) => value.get_mut(name),
        Step::Index(index) => value.get_mut(index),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_empty_comes_back() {
        let sent =
            json!({"metadata": {"labels": {}}, "spec": {"a": [], "b": [{"c": {}, "d": 1}], "e": {}, "f": "", "g": ""}});
        let found = Sent::of(&sent);
        let canonical = json!({"metadata": {}, "spec": {"a": null, "b": [{"d": 1}], "f": null}});
        let mut owned = canonical.clone();
        found.fill_nulls(&mut owned);
        assert_eq!(owned, json!({"metadata": {}, "spec": {"a": [], "b": [{"d": 1}], "f": null}}));
        let mut whole = canonical;
        found.restore(&mut whole);
        assert_eq!(whole, json!({"metadata": {}, "spec": {"a": [], "b": [{"c": {}, "d": 1}], "e": {}, "f": ""}}));
    }

    #[test]
    fn what_has_gone_or_got_a_value_is_left() {
        let mut sent = Sent::of(&json!({"spec": {"a": {"b": []}, "c": [], "d": [{"e": []}], "f": {}}}));
        sent.defaulted(&mut json!({"spec": {"a": {"b": []}, "c": [], "d": [{"e": []}]}}));
        let mut object = json!({"spec": {"c": ["x"], "d": []}});
        let before = object.clone();
        sent.restore(&mut object);
        assert_eq!(object, before);
    }
}
