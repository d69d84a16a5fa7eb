//! Label and field selectors: parsed from text or from objects, matched, and written back.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::field;

pub mod validate;

pub type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `In` with one value, written `key=value`.
    Equals,
    /// `NotIn` with one value, written `key!=value`.
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One requirement of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

impl Requirement {
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_value(labels.get(&self.key).map(String::as_str))
    }

    pub fn matches_value(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| self.values.iter().any(|want| want == v);
        match (&self.operator, value) {
            (Operator::In | Operator::Equals, v) => v.is_some_and(listed),
            (Operator::NotIn | Operator::NotEquals, v) => !v.is_some_and(listed),
            (Operator::Exists, v) => v.is_some(),
            (Operator::DoesNotExist, v) => v.is_none(),
            (Operator::GreaterThan | Operator::LessThan, None) => false,
            (Operator::GreaterThan, Some(v)) => self.compare(v, |have, want| have > want),
            (Operator::LessThan, Some(v)) => self.compare(v, |have, want| have < want),
        }
    }

    fn compare(&self, value: &str, holds: impl Fn(i64, i64) -> bool) -> bool {
        match (value.parse(), self.values.first().map(|w| w.parse())) {
            (Ok(have), Some(Ok(want))) => holds(have, want),
            _ => false,
        }
    }
}

/// All requirements must hold. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    pub requirements: Vec<Requirement>,
    nothing: bool,
}

impl Selector {
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }

    /// The selector of a set of labels (a Service's or a ReplicationController's `spec.selector`).
    pub fn from_labels(labels: &Labels) -> Self {
        let requirement = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.clone()],
        };
        Self { requirements: labels.iter().map(requirement).collect(), nothing: false }
    }

    /// The selector of an API object: an absent one matches nothing, an empty one everything.
    ///
    /// An operator that validation would refuse makes a selector that matches nothing.
    pub fn from_object(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else {
            return Self::nothing();
        };
        let mut parsed = Self::from_labels(selector.match_labels.as_ref().unwrap_or(&BTreeMap::new()));
        for e in selector.match_expressions.iter().flatten() {
            let operator = match e.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                _ => return Self::nothing(),
            };
            parsed.requirements.push(Requirement {
                key: e.key.clone(),
                operator,
                values: e.values.clone().unwrap_or_default(),
            });
        }
        parsed
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = self.values.clone();
        values.sort();
        let (key, values) = (&self.key, values.join(","));
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut requirements: Vec<_> = self.requirements.iter().collect();
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        for (i, r) in requirements.iter().enumerate() {
            write!(f, "{}{r}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Why a selector's text cannot be used; the words are upstream's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SelectorError {
    #[error("unable to parse requirement: {0}")]
    Requirement(String),
    #[error("{0}")]
    Syntax(String),
}

/// Parses the text of a `labelSelector` query option.
pub fn parse(text: &str) -> Result<Selector, SelectorError> {
    Parser { rest: text }.selector()
}

struct Parser<'a> {
    rest: &'a str,
}

#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Symbol(&'a str),
    End,
}

impl<'a> Parser<'a> {
    const SYMBOLS: [&'static str; 10] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<", "\0"];

    fn next(&mut self) -> Token<'a> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if self.rest.is_empty() {
            return Token::End;
        }
        if let Some(symbol) = Self::SYMBOLS.iter().find(|s| self.rest.starts_with(**s)) {
            let (symbol, rest) = self.rest.split_at(symbol.len());
            self.rest = rest;
            return Token::Symbol(symbol);
        }
        let end = self.rest.find([' ', '\t', '\r', '\n', '=', '!', '(', ')', ',', '>', '<']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Token::Word(word)
    }

    fn peek(&self) -> Token<'a> {
        Parser { rest: self.rest }.next()
    }

    fn selector(mut self) -> Result<Selector, SelectorError> {
        let mut requirements = Vec::new();
        if self.peek() == Token::End {
            return Ok(Selector::everything());
        }
        loop {
            match self.peek() {
                Token::Word(_) | Token::Symbol("!") => requirements.push(self.requirement()?),
                other => {
                    return Err(SelectorError::Syntax(format!(
                        "found '{}', expected: !, identifier, or 'end of string'",
                        literal(&other)
                    )));
                }
            }
            match self.next() {
                Token::End => {
                    return Ok(Selector { requirements, nothing: false });
                }
                Token::Symbol(",") => {
                    let after = self.peek();
                    if !matches!(after, Token::Word(_) | Token::Symbol("!")) {
                        return Err(SelectorError::Syntax(format!(
                            "found '{}', expected: identifier after ','",
                            literal(&after)
                        )));
                    }
                }
                other => {
                    return Err(SelectorError::Syntax(format!(
                        "found '{}', expected: ',' or 'end of string'",
                        literal(&other)
                    )));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let wrong = |found: &Token, expected: &str| {
            SelectorError::Requirement(format!("found '{}', expected: {expected}", literal(found)))
        };
        let mut token = self.next();
        let negated = token == Token::Symbol("!");
        if negated {
            token = self.next();
        }
        let Token::Word(key) = token else {
            return Err(wrong(&token, "identifier"));
        };
        check(field::qualified_name(key), "key", key)?;
        let requirement = |operator, values| Requirement { key: key.to_owned(), operator, values };
        if negated {
            return Ok(requirement(Operator::DoesNotExist, Vec::new()));
        }
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(requirement(Operator::Exists, Vec::new()));
        }
        let token = self.next();
        let (operator, set) = match token {
            Token::Symbol("=" | "==") => (Operator::Equals, false),
            Token::Symbol("!=") => (Operator::NotEquals, false),
            Token::Symbol(">") => (Operator::GreaterThan, false),
            Token::Symbol("<") => (Operator::LessThan, false),
            Token::Word("in") => (Operator::In, true),
            Token::Word("notin") => (Operator::NotIn, true),
            _ => return Err(wrong(&token, "in, notin, =, ==, !=, gt, lt")),
        };
        let values = if set { self.values()? } else { vec![self.value()?] };
        if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
            let integer = values.first().is_some_and(|v| v.parse::<i64>().is_ok());
            if !integer {
                return Err(SelectorError::Requirement(format!(
                    "values[0][{key}]: Invalid value: \"{}\": for 'Gt', 'Lt' operators, the value must be an integer",
                    values.join(",")
                )));
            }
        }
        for (i, value) in values.iter().enumerate() {
            check(field::label_value(value), &format!("values[{i}][{key}]"), value)?;
        }
        Ok(requirement(operator, values))
    }

    fn value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            Token::Word(_) => match self.next() {
                Token::Word(w) => Ok(w.to_owned()),
                _ => Ok(String::new()),
            },
            Token::End | Token::Symbol(",") => Ok(String::new()),
            other => Err(SelectorError::Requirement(format!("found '{}', expected: identifier", literal(&other)))),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        let open = self.next();
        if open != Token::Symbol("(") {
            return Err(SelectorError::Requirement(format!("found '{}' expected: '('", literal(&open))));
        }
        let mut values = Vec::new();
        loop {
            match self.peek() {
                Token::Word(_) => {
                    values.push(self.value()?);
                    match self.next() {
                        Token::Symbol(",") if self.peek() == Token::Symbol(")") => {
                            self.next();
                            values.push(String::new());
                            break;
                        }
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => break,
                        other => {
                            let found = literal(&other);
                            return Err(SelectorError::Requirement(format!("found '{found}', expected: ',' or ')'")));
                        }
                    }
                }
                Token::Symbol(",") => {
                    self.next();
                    values.push(String::new());
                }
                Token::Symbol(")") => {
                    self.next();
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    break;
                }
                other => {
                    let found = literal(&other);
                    return Err(SelectorError::Requirement(format!(
                        "found '{found}', expected: ',', ')' or identifier"
                    )));
                }
            }
        }
        values.sort();
        values.dedup();
        Ok(values)
    }
}

fn literal<'a>(token: &Token<'a>) -> &'a str {
    match token {
        Token::Word(text) | Token::Symbol(text) => text,
        Token::End => "",
    }
}

fn check(problems: Vec<String>, what: &str, value: &str) -> Result<(), SelectorError> {
    if problems.is_empty() {
        return Ok(());
    }
    Err(SelectorError::Requirement(format!("{what}: Invalid value: {value:?}: {}", problems.join("; "))))
}

/// One term of a field selector: `path=value` or `path!=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    pub path: String,
    pub value: String,
    pub equal: bool,
}

/// Parses the text of a `fieldSelector` query option; `\,`, `\=` and `\\` are escapes in values.
pub fn parse_fields(text: &str) -> Result<Vec<FieldTerm>, SelectorError> {
    let mut terms = Vec::new();
    for term in split_terms(text) {
        if term.is_empty() {
            continue;
        }
        let invalid = || SelectorError::Syntax(format!("invalid selector: '{text}'; can't understand '{term}'"));
        let at = operator_at(term).ok_or_else(invalid)?;
        let (equal, width) = match &term[at..] {
            t if t.starts_with("!=") => (false, 2),
            t if t.starts_with("==") => (true, 2),
            _ => (true, 1),
        };
        let value = unescape(&term[at + width..]).ok_or_else(invalid)?;
        terms.push(FieldTerm { path: term[..at].to_owned(), value, equal });
    }
    Ok(terms)
}

fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn operator_at(term: &str) -> Option<usize> {
    term.char_indices().find_map(|(i, c)| (c == '=' || term[i..].starts_with("!=")).then_some(i))
}

fn unescape(value: &str) -> Option<String> {
    let (mut out, mut chars) = (String::with_capacity(value.len()), value.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                c @ ('\\' | ',' | '=') => out.push(c),
                _ => return None,
            },
            ',' | '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn matching() {
        let have = labels(&[("app", "web"), ("tier", "1")]);
        for (text, want) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app!=web", false),
            ("app in (web,db)", true),
            ("app notin (web)", false),
            ("app", true),
            ("!app", false),
            ("missing", false),
            ("!missing", true),
            ("tier>0", true),
            ("tier<1", false),
            ("app = web , tier in (1, 2)", true),
            ("missing!=x", true),
            ("app=", false),
        ] {
            assert_eq!(parse(text).unwrap().matches(&have), want, "{text}");
        }
    }

    #[test]
    fn written_back_sorted() {
        assert_eq!(parse("b in (y,x),a=1,!c,d in (z)").unwrap().to_string(), "a=1,b in (x,y),!c,d in (z)");
    }

    #[test]
    fn malformed() {
        for text in ["a=b,", "=x", "a in b", "a in (b", "(a)", "a b", "-a=b", "a>x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn fields() {
        let terms = parse_fields("metadata.name=a\\,b,status.phase!=Running").unwrap();
        assert_eq!(terms[0].value, "a,b");
        assert!(!terms[1].equal);
        assert!(parse_fields("nonsense").is_err());
    }
}
