//! Paths to fields, as rules (`fieldPath`) and selectable fields name them: `.spec.a`, `.spec['a b']`.

use std::sync::LazyLock;

use super::structural::{Additional, Structural};

/// Why a path leads to no field.
type Refusal = String;

/// What a path leads to.
#[derive(Debug)]
pub struct Found<'s> {
    /// As errors show it: `spec.a`, with the members of maps in brackets.
    pub text: String,
    /// The names on the way.
    pub names: Vec<String>,
    pub schema: &'s Structural,
}

/// What is known of the values of a map that may hold anything.
static ANYTHING: LazyLock<Structural> = LazyLock::new(Structural::default);
const NO_FIELD: &str = "does not refer to a valid field";

/// Follows a path through a schema. `takes_brackets`: whether names may be given as `['name']`, too.
pub fn resolve<'s>(path: &str, schema: &'s Structural, takes_brackets: bool) -> Result<Found<'s>, Refusal> {
    let mut found = Found { text: String::new(), names: Vec::new(), schema };
    let mut rest = path;
    while let Some((token, after)) = token(rest) {
        rest = after;
        match token {
            "." => {
                // As upstream: a path may end in a dot, which then names what was named last.
                let name = take(&mut rest).unwrap_or(".");
                found.step(name)?;
            }
            "[" if !takes_brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let quoted = take(&mut rest).ok_or("unexpected end of JSON path")?;
                let inner = quoted.strip_prefix('\'').and_then(|inner| inner.strip_suffix('\''));
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                let name = unescaped(inner).map_err(|why| format!("invalid string literal: {why}"))?;
                found.step(&name)?;
                match take(&mut rest).ok_or("unexpected end of JSON path")? {
                    "]" => {}
                    other => return Err(format!("expected ] but got {other}")),
                }
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(found)
}

impl Found<'_> {
    fn step(&mut self, name: &str) -> Result<(), Refusal> {
        if self.schema.properties.is_empty() {
            self.schema = match &self.schema.additional {
                Additional::Unset => return Err(NO_FIELD.to_owned()),
                Additional::Allowed(_) => &ANYTHING,
                Additional::Schema(values) => values,
            };
            self.text = format!("{}[{name}]", self.text);
        } else {
            self.schema = self.schema.properties.get(name).ok_or(NO_FIELD)?;
            self.text = super::child(&self.text, name);
        }
        self.names.push(name.to_owned());
        Ok(())
    }
}

fn take<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let (token, after) = token(rest)?;
    *rest = after;
    Some(token)
}

/// The next delimiter, quoted text or name, and what follows it.
fn token(rest: &str) -> Option<(&str, &str)> {
    let first = rest.chars().next()?;
    let end = match first {
        '.' | '[' | ']' => 1,
        '\'' => {
            let quotes = rest.match_indices('\'').skip(1);
            let mut closing = quotes.filter(|(at, _)| !rest[..*at].ends_with('\\'));
            closing.next().map_or(rest.len(), |(at, _)| at + 1)
        }
        _ => rest.find(['.', '[', ']']).unwrap_or(rest.len()),
    };
    Some(rest.split_at(end))
}

fn unescaped(text: &str) -> Result<String, Refusal> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('v') => out.push('\u{b}'),
            Some(c @ ('\'' | '\\')) => out.push(c),
            Some(other) => return Err(format!("invalid escape char \\{other}")),
            None => out.push('\\'),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths() {
        let schema = Structural::of(&json!({"properties": {
            "a": {"properties": {"b c": {"type": "string"}, "it's": {"type": "string"}}},
            "map": {"additionalProperties": {"type": "integer"}}, "list": {"items": {"type": "string"}}, "free": {"additionalProperties": true}}}));
        let told = |path: &str| resolve(path, &schema, true).map(|found| found.text).unwrap_or_else(|why| why);
        for (path, want) in [
            (".a", "a"),
            (".a['b c']", "a.b c"),
            (r".a['it\'s']", "a.it's"),
            (".map.any", "map[any]"),
            (".map['any']", "map[any]"),
            (".free.any", "free[any]"),
            (".b", NO_FIELD),
            (".list[0]", "expected single quoted string but got 0"),
            (".a['b c'", "unexpected end of JSON path"),
            ("a", "expected [ or . but got: a"),
            (r".a['\q']", r"invalid string literal: invalid escape char \q"),
        ] {
            assert_eq!(told(path), want, "{path}");
        }
        assert_eq!(resolve(".a['b c']", &schema, false).unwrap_err(), "array notation is not allowed");
    }
}
