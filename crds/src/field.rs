//! Field errors: where an object is wrong and why, in upstream's words; and the syntax rules of names and labels.

mod errors;

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::{
    custom::number::float,
    schema::{encode, go},
};

pub use errors::Errors;

/// Where in an object: built on the stack while validation descends, written out only when something is wrong.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    pub const fn new(field: &'a str) -> Self {
        Self { parent: None, segment: Segment::Field(field) }
    }

    pub const fn child(&'a self, field: &'a str) -> Self {
        Self { parent: Some(self), segment: Segment::Field(field) }
    }

    pub const fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), segment: Segment::Index(index) }
    }

    pub const fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), segment: Segment::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            Segment::Field(name) if self.parent.is_some() && !name.is_empty() => write!(f, ".{name}"),
            Segment::Field(name) => f.write_str(name),
            Segment::Index(i) => write!(f, "[{i}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// What is wrong; the names are the `reason` of a `StatusCause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TooFew,
    Internal,
    TypeInvalid,
}

impl ErrorKind {
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::Internal => "Internal error",
        }
    }
}

/// What is at a path, as errors have it; null for a field that an object lacks.
fn value_at<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(object, |value, part| {
        let mut steps = part.split('[');
        let name = steps.next()?;
        let member = match value {
            Value::Object(fields) => fields.get(name).unwrap_or(&Value::Null),
            Value::Null => value,
            _ => return None,
        };
        steps.try_fold(member, |list, step| match (list, step.strip_suffix(']')?.parse::<usize>()) {
            (Value::Array(items), Ok(index)) => items.get(index),
            (Value::Null, Ok(_)) => Some(list),
            _ => None,
        })
    })
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub kind: ErrorKind,
    pub field: String,
    /// The rendered bad value, for the kinds of error that show it.
    pub value: Option<String>,
    pub detail: String,
    /// Of what `value` shows, and the name of its type, if Go has a form of its own for it.
    shown: Option<Box<(Value, String)>>,
}

impl Error {
    fn new(kind: ErrorKind, path: impl fmt::Display, value: Option<String>, detail: impl Into<String>) -> Self {
        Self { kind, field: path.to_string(), value, detail: detail.into(), shown: None }
    }

    pub fn required(path: impl fmt::Display, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Required, path, None, detail)
    }

    pub fn forbidden(path: impl fmt::Display, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, path, None, detail)
    }

    pub fn internal(path: impl fmt::Display, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, path, None, detail)
    }

    /// `value` is anything that converts to JSON: text is quoted, objects are shown as JSON, as upstream shows them.
    pub fn invalid(path: impl fmt::Display, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, path, Some(render(&value.into())), detail)
    }

    pub fn type_invalid(path: impl fmt::Display, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::TypeInvalid, path, Some(render(&value.into())), detail)
    }

    pub fn duplicate(path: impl fmt::Display, value: impl Into<Value>) -> Self {
        Self::new(ErrorKind::Duplicate, path, Some(render(&value.into())), "")
    }

    pub fn not_found(path: impl fmt::Display, value: impl Into<Value>) -> Self {
        Self::new(ErrorKind::NotFound, path, Some(render(&value.into())), "")
    }

    /// `supported` are listed in the order given; upstream sorts them where they come from a set.
    pub fn not_supported(path: impl fmt::Display, value: impl Into<Value>, supported: &[&str]) -> Self {
        let mut detail = String::new();
        if !supported.is_empty() {
            let quoted: Vec<_> = supported.iter().map(|s| quote(s)).collect();
            detail = format!("supported values: {}", quoted.join(", "));
        }
        Self::new(ErrorKind::NotSupported, path, Some(render(&value.into())), detail)
    }

    /// An error about a value that is shown in a form of its own, as `schema::go` renders it.
    pub fn rendered(kind: ErrorKind, path: impl fmt::Display, value: String, detail: impl Into<String>) -> Self {
        Self::new(kind, path, Some(value), detail.into())
    }

    /// A negative limit is not told.
    pub fn too_long(path: impl fmt::Display, max_bytes: i64) -> Self {
        let detail = match max_bytes {
            n if n < 0 => "value is too long".to_owned(),
            1 => "may not be more than 1 byte".to_owned(),
            n => format!("may not be more than {n} bytes"),
        };
        Self::new(ErrorKind::TooLong, path, None, detail)
    }

    /// Wrong without a value to show.
    pub fn wrong(path: impl fmt::Display, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, path, None, detail)
    }

    pub fn too_many(path: impl fmt::Display, actual: i64, max: i64) -> Self {
        let detail = match max {
            n if n < 0 => "has too many items".to_owned(),
            1 => "must have at most 1 item".to_owned(),
            n => format!("must have at most {n} items"),
        };
        Self::new(ErrorKind::TooMany, path, Some(actual.to_string()), detail)
    }

    /// Shows this text in place of the bad value: for values that upstream shows in Go's own form.
    pub fn showing(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self.shown = None;
        self
    }

    /// The same of a value of a type that `schema::go` knows how to show.
    pub fn showing_struct<T: Serialize + ?Sized>(mut self, value: &T, type_name: &str) -> Self {
        let value = serde_json::to_value(value).unwrap_or_default();
        self.value = Some(go::show(&value, type_name));
        self.shown = Some(Box::new((value, type_name.to_owned())));
        self
    }

    /// Shows as nil what our types cannot tell from empty lists, and was not in the object that was `sent`.
    pub fn tell_nil(&mut self, sent: &Value) {
        let Some(sent) = value_at(sent, &self.field) else { return };
        if sent.is_null() && self.value.as_deref() == Some("[]") {
            self.value = Some("null".to_owned());
        } else if let Some((value, type_name)) = self.shown.take().map(|shown| *shown) {
            self.value = Some(go::show(&go::as_sent(&value, sent, &type_name), &type_name));
        }
    }

    /// About how much memory it takes, in bytes.
    fn size(&self) -> usize {
        size_of::<Self>() + self.field.len() + self.value.as_ref().map_or(0, String::len) + self.detail.len()
    }

    /// What a `StatusCause` carries as its message.
    pub fn body(&self) -> String {
        let mut body = self.kind.words().to_owned();
        if let Some(value) = &self.value {
            body = format!("{body}: {value}");
        }
        if self.detail.is_empty() { body } else { format!("{body}: {}", self.detail) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// One error for each thing that is wrong with a text.
pub fn extend(errors: &mut Errors, path: impl fmt::Display + Copy, value: &str, wrong: Vec<String>) {
    errors.extend(wrong.into_iter().map(|why| Error::invalid(path, value, why)));
}

/// What a number says that must not be below zero.
pub fn not_negative(value: impl Into<i64>, path: impl fmt::Display, errors: &mut Errors) {
    let value = value.into();
    if value < 0 {
        errors.push(Error::invalid(path, value, "must be greater than or equal to 0"));
    }
}

/// The same for a number.
pub fn extend_number(errors: &mut Errors, path: impl fmt::Display + Copy, value: i64, wrong: Vec<String>) {
    errors.extend(wrong.into_iter().map(|why| Error::invalid(path, value, why)));
}

/// False: there are more items than may be, and nothing more is looked at.
pub fn at_most_items<T>(list: &[T], max: usize, path: &Path, errors: &mut Errors) -> bool {
    if list.len() > max {
        errors.push(Error::too_many(*path, list.len() as i64, max as i64));
    }
    list.len() <= max
}

/// How Go's `%q` and upstream's field errors show a value.
fn render(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Number(number) if number.is_f64() => number.as_f64().map(float).unwrap_or_default(),
        other => String::from_utf8(encode::any(other)).unwrap_or_default(),
    }
}

/// Quotes as Go's `strconv.Quote` does.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if (0x80..0xa0).contains(&(c as u32)) || c == '\u{feff}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

const DNS_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
    end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
    start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
    character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
    '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
    start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Upstream says bytes of labels and their keys, and characters of names.
pub fn too_long_text(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

pub fn too_long_name(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn is_lower(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let b = text.as_bytes();
    !b.is_empty() && is_lower(b[0]) && is_lower(b[b.len() - 1]) && b.iter().all(|c| is_lower(*c) || *c == b'-')
}

fn is_name_part(text: &str) -> bool {
    let b = text.as_bytes();
    let inner = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    !b.is_empty() && b[0].is_ascii_alphanumeric() && b[b.len() - 1].is_ascii_alphanumeric() && b.iter().all(inner)
}

/// RFC 1123 label: what is wrong with it, nothing if it is one.
pub fn dns_label(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > 63 {
        wrong.push(too_long_name(63));
    }
    if !is_label(value) {
        let hint = is_subdomain(value);
        wrong.push(if hint { "must not contain dots".to_owned() } else { DNS_LABEL.to_owned() });
    }
    wrong
}

fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

/// The same where the rule is a declared one: its length is told in bytes.
pub fn long_name(value: &str) -> Vec<String> {
    dns_subdomain(value)
        .into_iter()
        .map(|why| if why == too_long_name(253) { too_long_text(253) } else { why })
        .collect()
}

/// RFC 1123 subdomain: what is wrong with it, nothing if it is one.
pub fn dns_subdomain(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > 253 {
        wrong.push(too_long_name(253));
    }
    if !is_subdomain(value) {
        wrong.push(DNS_SUBDOMAIN.to_owned());
    }
    wrong
}

/// RFC 1035 label: what is wrong with it, nothing if it is one.
pub fn dns_1035_label(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > 63 {
        wrong.push(too_long_name(63));
    }
    if !(is_label(value) && value.as_bytes()[0].is_ascii_lowercase()) {
        wrong.push(DNS_1035.to_owned());
    }
    wrong
}

/// The key of a label, an annotation, a taint: an optional DNS prefix and a name.
pub fn qualified_name(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = match value.split_once('/') {
        None => value,
        Some((_, name)) if name.contains('/') => {
            return vec![format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                QUALIFIED_NAME.strip_prefix("name part ").unwrap_or(QUALIFIED_NAME)
            )];
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                if prefix.len() > 253 {
                    wrong.push(format!("prefix part {}", too_long_text(253)));
                }
                if !is_subdomain(prefix) {
                    wrong.push(format!("prefix part {DNS_SUBDOMAIN}"));
                }
            }
            name
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        wrong.push(format!("name part {}", too_long_text(63)));
    }
    if !is_name_part(name) {
        wrong.push(QUALIFIED_NAME.to_owned());
    }
    wrong
}

/// The value of a label: what is wrong with it, nothing if it is one.
pub fn label_value(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > 63 {
        wrong.push(too_long_text(63));
    }
    if !value.is_empty() && !is_name_part(value) {
        wrong.push(LABEL_VALUE.to_owned());
    }
    wrong
}

/// A path segment of the API: what is wrong with it, nothing if it is one.
pub fn path_segment(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    ["/", "%"].iter().filter(|c| value.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths() {
        let spec = Path::new("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        assert_eq!(first.child("image").to_string(), "spec.containers[0].image");
        assert_eq!(Path::new("metadata").child("labels").key("a/b").to_string(), "metadata.labels[a/b]");
    }

    #[test]
    fn lists_that_were_left_out_are_told_as_nil() {
        let told = |field: &str, sent: Value| {
            let mut errors = [
                Error::invalid(field, json!([]), "bad"),
                Error::invalid(field, "", "bad")
                    .showing_struct(&json!({"rules": []}), "io.k8s.api.batch.v1.SuccessPolicy"),
            ];
            errors.iter_mut().for_each(|error| error.tell_nil(&sent));
            errors.map(|error| error.value.unwrap_or_default())
        };
        assert_eq!(told("a[1].b", json!({"a": [0, {"b": {"rules": []}}]})), ["[]", r#"{"Rules":[]}"#]);
        assert_eq!(told("a[1].b", json!({"a": [0, {}]})), ["null", r#"{"Rules":null}"#]);
        assert_eq!(told("a[1].b", json!({})), ["null", r#"{"Rules":null}"#]);
        assert_eq!(told("a[x.y/z]", json!({"a": {}})), ["[]", r#"{"Rules":[]}"#]);
    }

    #[test]
    fn words() {
        let path = Path::new("spec");
        assert_eq!(Error::required(path, "why").to_string(), "spec: Required value: why");
        assert_eq!(Error::invalid(path, "x\"", "bad").body(), "Invalid value: \"x\\\"\": bad");
        assert_eq!(Error::invalid(path, json!({"a": 1}), "bad").body(), "Invalid value: {\"a\":1}: bad");
        assert_eq!(Error::invalid(path, json!(["<", 1.0]), "bad").body(), "Invalid value: [\"\\u003c\",1]: bad");
        assert_eq!(Error::invalid(path, 1e6, "bad").body(), "Invalid value: 1e+06: bad");
        assert_eq!(
            Error::not_supported(path, "x", &["a", "b"]).body(),
            "Unsupported value: \"x\": supported values: \"a\", \"b\""
        );
        assert_eq!(Error::duplicate(path, 3).body(), "Duplicate value: 3");
    }

    #[test]
    fn names() {
        for (value, ok) in [("a", true), ("a-b", true), ("A", false), ("-a", false), ("", false), ("a.b", false)] {
            assert_eq!(dns_label(value).is_empty(), ok, "{value}");
        }
        for (value, ok) in
            [("a/b", true), ("a.b/C_d", true), ("/b", false), ("a/", false), ("a/b/c", false), ("-", false)]
        {
            assert_eq!(qualified_name(value).is_empty(), ok, "{value}");
        }
    }
}
