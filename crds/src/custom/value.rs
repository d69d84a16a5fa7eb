//! Values against their schema, in the words of upstream's OpenAPI validator.
//!
//! An update may leave alone what was invalid before: with the object as it was (`Past`), errors of a value that has not
//! changed are forgotten.

use std::{borrow::Cow, collections::HashSet};

use indexmap::IndexMap;
use serde_json::Value;

use super::{
    format,
    list::ByKey,
    number::{float, go_type},
    structural::{Additional, Limits, Structural},
};
use crate::field::{Error, ErrorKind, Errors};

mod bound;

/// Upstream takes no greater float for a whole number.
const WHOLE_MAX: f64 = 9_007_199_254_740_991.0;

/// Validates a value; `base` is put before the paths of its members (empty: the value is the whole object).
pub fn validate(value: &Value, schema: &Structural, base: &str, past: Option<Past>, errors: &mut Errors) {
    let found = Checker { base, is_default: false }.ratcheted(value, schema, "", past);
    errors.extend(found.problems.into_values());
}

/// The same for a default, of which upstream asks less: what is a number or a text may be anything, and what has a
/// format that nothing is checked against may be a text or a list.
pub fn validate_default(value: &Value, schema: &Structural, base: &str, errors: &mut Errors) {
    let found = Checker { base, is_default: true }.node(value, schema, "", None);
    errors.extend(found.problems.into_values());
}

/// The value as it was, with the schema that tells items of lists from one another.
#[derive(Clone, Copy)]
pub struct Past<'a> {
    pub value: &'a Value,
    pub schema: &'a Structural,
}

impl<'a> Past<'a> {
    fn member(self, name: &str) -> Option<Self> {
        Some(Self { value: self.value.as_object()?.get(name)?, schema: self.schema.member(name)? })
    }

    fn items(self) -> Option<(ByKey<'a>, &'a Structural)> {
        Some((ByKey::of(self.value, self.schema)?, self.schema.items.as_deref()?))
    }
}

struct Problem {
    error: Error,
    words: String,
}

/// What a validator has found, and how many of its checks passed: the branch that came nearest tells its errors.
#[derive(Default)]
struct Found {
    /// By the validator's own words, by which repetitions are known.
    problems: IndexMap<String, Error>,
    matches: usize,
}

impl Found {
    fn push(&mut self, problem: Problem) {
        self.problems.entry(problem.words).or_insert(problem.error);
    }

    fn add(&mut self, problems: impl IntoIterator<Item = Problem>) {
        problems.into_iter().for_each(|problem| self.push(problem));
    }

    fn merge(&mut self, other: Self) {
        self.matches += other.matches;
        self.add(other.problems.into_iter().map(|(words, error)| Problem { error, words }));
    }

    fn is_valid(&self) -> bool {
        self.problems.is_empty()
    }
}

struct Checker<'a> {
    base: &'a str,
    is_default: bool,
}

impl Checker<'_> {
    /// The path of an error; upstream prints the missing root as `<nil>`.
    fn path(&self, path: &str) -> String {
        let path = path.strip_prefix('.').unwrap_or(path);
        match (self.base, path) {
            ("", "") => "<nil>".to_owned(),
            ("", path) => path.to_owned(),
            (base, "") => base.to_owned(),
            (base, path) => format!("{base}.{path}"),
        }
    }

    fn invalid(&self, path: &str, value: impl Into<Value>, words: String) -> Problem {
        Problem { error: Error::invalid(self.path(path), value, words.clone()), words }
    }

    /// An error of no particular place.
    fn composite(&self, words: String) -> Problem {
        let path = if self.base.is_empty() { "<nil>" } else { self.base };
        Problem { error: Error::invalid(path, "", words.clone()), words }
    }

    fn wrong_type(&self, path: &str, wanted: &str, value: &str) -> Problem {
        let words = format!("{path} in body must be of type {wanted}: {}", crate::field::quote(value));
        Problem { error: Error::type_invalid(self.path(path), value, words.clone()), words }
    }

    fn ratcheted(&self, value: &Value, schema: &Structural, path: &str, past: Option<Past>) -> Found {
        let mut found = self.node(value, schema, path, past);
        if past.is_some_and(|past| past.value == value) {
            found.problems.clear();
        }
        found
    }

    fn node(&self, value: &Value, schema: &Structural, path: &str, past: Option<Past>) -> Found {
        let mut found = Found::default();
        let types = Types { kind: &schema.kind, int_or_string: schema.int_or_string && !self.is_default };
        if value.is_null() {
            if types.is_declared() && !schema.nullable {
                found.push(self.wrong_type(path, &types.name(), "null"));
            } else {
                found.matches += 1;
            }
            self.one_of(value, schema, path, &mut found);
            return found;
        }
        let limits = &schema.limits;
        let counts = self.is_default || format::is_known(types.single(), &limits.format);
        let format = if counts { limits.format.as_str() } else { "" };
        if types.is_declared() || !format.is_empty() {
            match self.typed(value, &types, format, path) {
                Some(problem) => found.push(problem),
                None => found.matches += 1,
            }
            found.matches += 1;
        }
        found.merge(self.combined(value, schema, path, past));
        found.matches += 1;
        match value {
            Value::String(text) => {
                found.add(self.text(text, limits, path));
                found.matches += 1;
                if !format.is_empty() {
                    if !format::fits(format, text) {
                        found.push(self.wrong_type(path, format, text));
                    }
                    found.matches += 1;
                }
            }
            Value::Number(number) => {
                found.merge(bound::check(self, number, schema, &types, format, path));
                found.matches += 1;
            }
            Value::Array(items) => {
                found.merge(self.list(items, schema, path, past));
                found.matches += 1;
            }
            Value::Bool(_) | Value::Object(_) | Value::Null => {}
        }
        self.one_of(value, schema, path, &mut found);
        found.matches += 1;
        if let Value::Object(members) = value {
            found.merge(self.object(members, schema, path, past));
            found.matches += 1;
        }
        found.matches += 1;
        found
    }

    fn typed(&self, value: &Value, types: &Types, format: &str, path: &str) -> Option<Problem> {
        let (kind, own_format) = kind_of(value);
        let is_whole = value.as_f64().is_some_and(|number| number.fract() == 0.0 && number.abs() <= WHOLE_MAX);
        let fits = types.has(kind)
            || (kind == "number" && is_whole && types.has("integer"))
            || (kind == "integer" && types.has("number"));
        let is_plain = matches!(value, Value::String(_) | Value::Array(_));
        if !is_plain && !format.is_empty() && !fits && own_format != format {
            return Some(self.wrong_type(path, format, own_format));
        }
        if !types.has("number") && !types.has("integer") && !format.is_empty() && is_plain {
            return None;
        }
        (!fits).then(|| self.wrong_type(path, &types.name(), kind))
    }

    fn one_of(&self, value: &Value, schema: &Structural, path: &str, found: &mut Found) {
        let allowed = &schema.limits.one_of;
        // As upstream, which passes over null.
        if allowed.is_empty() || allowed.iter().any(|one| !one.is_null() && same(one, value)) {
            return;
        }
        let texts: Vec<String> =
            allowed.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
        let supported: Vec<&str> = texts.iter().map(String::as_str).collect();
        let error = Error::not_supported(self.path(path), value.clone(), &supported);
        found.push(Problem { words: format!("{path} in body should be one of [{}]", texts.join(" ")), error });
    }

    /// `anyOf`, `oneOf`, `allOf` and `not`.
    fn combined(&self, value: &Value, schema: &Structural, path: &str, past: Option<Past>) -> Found {
        let mut found = Found::default();
        let check = |branch: &Structural| self.node(value, branch, path, past);
        let shown = crate::field::quote(path);
        if !schema.any_of.is_empty() {
            let mut best: Option<Found> = None;
            let mut passed = None;
            for branch in &schema.any_of {
                let result = check(branch);
                if result.is_valid() {
                    passed = Some(result);
                    break;
                }
                if best.as_ref().is_none_or(|best| result.matches > best.matches) {
                    best = Some(result);
                }
            }
            if passed.is_none() {
                found.push(self.composite(format!("{shown} must validate at least one schema (anyOf)")));
            }
            passed.or(best).into_iter().for_each(|result| found.merge(result));
        }
        if !schema.exactly_one_of.is_empty() {
            self.exactly_one(&schema.exactly_one_of, &check, &shown, &mut found);
        }
        if !schema.all_of.is_empty() {
            let results: Vec<Found> = schema.all_of.iter().map(check).collect();
            let valid = results.iter().filter(|result| result.is_valid()).count();
            results.into_iter().for_each(|result| found.merge(result));
            if valid != schema.all_of.len() {
                let none = if valid == 0 { ". None validated" } else { "" };
                found.push(self.composite(format!("{shown} must validate all the schemas (allOf){none}")));
            }
        }
        if schema.not.as_deref().is_some_and(|not| check(not).is_valid()) {
            found.push(self.composite(format!("{shown} must not validate the schema (not)")));
        }
        found.matches += 1;
        found
    }

    fn exactly_one(
        &self,
        branches: &[Structural],
        check: &dyn Fn(&Structural) -> Found,
        shown: &str,
        found: &mut Found,
    ) {
        let (mut best, mut first, mut valid): (Option<Found>, Option<Found>, usize) = (None, None, 0);
        for branch in branches {
            let result = check(branch);
            if result.is_valid() {
                valid += 1;
                best = None;
                first.get_or_insert(result);
            } else if valid == 0 && best.as_ref().is_none_or(|best| result.matches > best.matches) {
                best = Some(result);
            }
        }
        if valid == 1 {
            return first.into_iter().for_each(|result| found.merge(result));
        }
        let how = if valid == 0 { "Found none valid".to_owned() } else { format!("Found {valid} valid alternatives") };
        found.push(self.composite(format!("{shown} must validate one and only one schema (oneOf). {how}")));
        best.into_iter().for_each(|result| found.merge(result));
    }

    /// The first thing that is wrong with a text.
    fn text(&self, text: &str, limits: &Limits, path: &str) -> Option<Problem> {
        let length = text.chars().count() as i64;
        if let Some(max) = limits.max_length.filter(|max| length > *max) {
            let words = format!("{path} in body should be at most {max} chars long");
            return Some(Problem { error: Error::too_long(self.path(path), max), words });
        }
        if let Some(min) = limits.min_length.filter(|min| length < *min) {
            return Some(self.invalid(path, text, format!("{path} in body should be at least {min} chars long")));
        }
        let (pattern, compiled) = limits.pattern.as_ref()?;
        let matches = compiled.as_ref().is_some_and(|compiled| compiled.is_match(text));
        (!matches).then(|| self.invalid(path, text, format!("{path} in body should match '{pattern}'")))
    }

    fn list(&self, items: &[Value], schema: &Structural, path: &str, past: Option<Past>) -> Found {
        let mut found = Found::default();
        if let Some(inner) = &schema.items {
            let before = past.and_then(Past::items);
            for (i, item) in items.iter().enumerate() {
                let past = before.as_ref().and_then(|(before, schema)| Some(Past { value: before.get(item)?, schema }));
                found.merge(self.ratcheted(item, inner, &format!("{path}[{i}]"), past));
            }
        }
        let (limits, size) = (&schema.limits, items.len() as i64);
        if let Some(min) = limits.min_items.filter(|min| size < *min) {
            found.push(self.invalid(path, size, format!("{path} in body should have at least {min} items")));
        }
        if let Some(max) = limits.max_items.filter(|max| size > *max) {
            let words = format!("{path} in body should have at most {max} items");
            found.push(Problem { error: Error::too_many(self.path(path), size, max), words });
        }
        if limits.unique_items && items.iter().collect::<HashSet<_>>().len() < items.len() {
            found.push(self.invalid(path, "", format!("{path} in body shouldn't contain duplicates")));
        }
        found.matches += 1;
        found
    }

    fn object(
        &self,
        members: &serde_json::Map<String, Value>,
        schema: &Structural,
        path: &str,
        past: Option<Past>,
    ) -> Found {
        let mut found = Found::default();
        let (limits, size) = (&schema.limits, members.len() as i64);
        if let Some(min) = limits.min_properties.filter(|min| size < *min) {
            found.push(self.invalid(path, size, format!("{path} in body should have at least {min} properties")));
        }
        if let Some(max) = limits.max_properties.filter(|max| size > *max) {
            let words = format!("{path} in body should have at most {max} properties");
            found.push(Problem { error: Error::too_many(self.path(path), size, max), words });
        }
        let check = |name: &str, value: &Value, inner: &Structural, path: &str, is_root: bool| {
            let is_type = is_root && matches!(name, "kind" | "apiVersion");
            let past = past.filter(|_| !is_type).and_then(|past| past.member(name));
            self.ratcheted(value, inner, path, past)
        };
        for (name, value) in members.iter().filter(|(name, _)| !schema.properties.contains_key(*name)) {
            match &schema.additional {
                Additional::Schema(inner) => {
                    found.merge(check(name, value, inner, &format!("{path}.{name}"), false));
                }
                Additional::Allowed(false) => {
                    let words = format!("{path}.{name} in body is a forbidden property");
                    found.push(self.invalid(path, name.as_str(), words));
                }
                Additional::Allowed(true) | Additional::Unset => {}
            }
        }
        for (name, inner) in &schema.properties {
            if let Some(value) = members.get(name) {
                found.merge(check(name, value, inner, &super::child(path, name), path.is_empty()));
            }
        }
        for name in limits.required.iter().filter(|name| !members.contains_key(*name)) {
            let path = format!("{path}.{name}");
            let words = format!("{path} in body is required");
            found.push(Problem { error: Error::required(self.path(&path), ""), words });
        }
        found
    }
}

/// The types that a schema takes.
struct Types<'a> {
    kind: &'a str,
    int_or_string: bool,
}

impl<'a> Types<'a> {
    const fn is_declared(&self) -> bool {
        self.int_or_string || !self.kind.is_empty()
    }

    fn has(&self, kind: &str) -> bool {
        if self.int_or_string { matches!(kind, "integer" | "string") } else { self.kind == kind }
    }

    /// The only type, empty where there are two.
    const fn single(&self) -> &'a str {
        if self.int_or_string { "" } else { self.kind }
    }

    fn name(&self) -> String {
        if self.int_or_string { "integer,string".to_owned() } else { self.kind.to_owned() }
    }
}

/// The type of a value, and the format that upstream's validator knows of it.
fn kind_of(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
        Value::Number(_) if go_type(value) == "float64" => ("number", "float64"),
        Value::Number(_) => ("integer", "int64"),
    }
}

/// Numbers are the same however they are written.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// What keeps upstream from looking at the rules of an object: it is not even of the right form.
pub fn blocks_rules(errors: &Errors) -> bool {
    use ErrorKind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
    errors.iter().any(|error| matches!(error.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid))
}

fn limit(number: f64, is_whole: bool) -> Cow<'static, str> {
    if is_whole { Cow::Owned((number as i64).to_string()) } else { Cow::Owned(float(number)) }
}

#[cfg(test)]
mod tests;
