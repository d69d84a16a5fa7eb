//! Named formats: `!format.dns1123Label().validate(self.name).hasValue()`.

use std::sync::LazyLock;

use base64::Engine;
use regex::Regex;

use super::{Declared, text};
use crate::{
    cel::{
        time::Moment,
        value::{EvalError, Outcome, Value},
    },
    field,
    url::Url,
};

/// A format.
#[derive(Debug)]
pub struct Format {
    pub(crate) name: &'static str,
    /// What the format is called in expressions.
    called: &'static str,
    validate: fn(&str) -> Vec<String>,
    /// The size of the regular expression that a check counts as, in costs.
    pub(crate) regex_size: u64,
}

const fn format(
    called: &'static str,
    name: &'static str,
    regex_size: u64,
    validate: fn(&str) -> Vec<String>,
) -> Format {
    Format { name, called, validate, regex_size }
}

static FORMATS: [Format; 13] = [
    format("dns1123Label", "DNS1123Label", 30, field::dns_label),
    format("dns1123Subdomain", "DNS1123Subdomain", 60, field::dns_subdomain),
    format("dns1035Label", "DNS1035Label", 30, field::dns_1035_label),
    format("qualifiedName", "QualifiedName", 60, field::qualified_name),
    format("dns1123LabelPrefix", "DNS1123LabelPrefix", 30, |text| field::dns_label(&prefix(text))),
    format("dns1123SubdomainPrefix", "DNS1123SubdomainPrefix", 60, |text| field::dns_subdomain(&prefix(text))),
    format("dns1035LabelPrefix", "DNS1035LabelPrefix", 30, |text| field::dns_1035_label(&prefix(text))),
    format("labelValue", "LabelValue", 40, field::label_value),
    format("uri", "URI", 1103, |text| Url::of_request(text).err().into_iter().collect()),
    format("uuid", "uuid", 70, |text| unless(UUID.is_match(text), "does not match the UUID format")),
    format("byte", "byte", 84, |text| unless(is_base64(text), "invalid base64")),
    format("date", "date", 71, |text| unless(Moment::date(text).is_some(), "invalid date")),
    format("datetime", "datetime", 71, |text| unless(Moment::date_time(text).is_some(), "invalid datetime")),
];

static UUID: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    #[allow(clippy::expect_used, reason = "the pattern is a constant that a test compiles")]
    Regex::new(pattern).expect("a pattern")
});

fn unless(fits: bool, why: &str) -> Vec<String> {
    if fits { Vec::new() } else { vec![why.to_owned()] }
}

/// A prefix of a name may end in a dash; upstream puts a letter in place of it and the character before.
fn prefix(text: &str) -> String {
    let mut rest = text.chars();
    if rest.next_back() == Some('-') && rest.next_back().is_some() {
        return format!("{}a", rest.as_str());
    }
    text.to_owned()
}

fn is_base64(text: &str) -> bool {
    !text.is_empty() && base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

macro_rules! constant {
    ($called:literal, $index:literal) => {
        Declared::new(
            concat!("format.", $called),
            &[(concat!("format.", $called), "(): kubernetes.NamedFormat", |_| Ok(Value::Format(&FORMATS[$index])))],
        )
    };
}

pub(super) const FUNCTIONS: &[Declared] = &[
    constant!("dns1123Label", 0),
    constant!("dns1123Subdomain", 1),
    constant!("dns1035Label", 2),
    constant!("qualifiedName", 3),
    constant!("dns1123LabelPrefix", 4),
    constant!("dns1123SubdomainPrefix", 5),
    constant!("dns1035LabelPrefix", 6),
    constant!("labelValue", 7),
    constant!("uri", 8),
    constant!("uuid", 9),
    constant!("byte", 10),
    constant!("date", 11),
    constant!("datetime", 12),
    Declared::new(
        "validate",
        &[("format-validate", "kubernetes.NamedFormat.(string): optional(list(string))", validate)],
    ),
    Declared::new("format.named", &[("format-named", "(string): optional(kubernetes.NamedFormat)", named)]),
];

fn validate<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Format(format), value] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let wrong = (format.validate)(text(value)?);
    if wrong.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::list(wrong.into_iter().map(Value::text).collect())))
}

fn named<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let [name] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let name = text(name)?;
    let found = FORMATS.iter().find(|format| format.called == name);
    Ok(found.map_or(Value::Optional(None), |format| Value::some(Value::Format(format))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        for (called, text, ok) in [
            ("dns1123Label", "a-b", true),
            ("dns1123Label", "a.b", false),
            ("dns1123LabelPrefix", "a-", true),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", true),
            ("uuid", "x", false),
            ("date", "2020-02-30", false),
        ] {
            let format = FORMATS.iter().find(|format| format.called == called).unwrap();
            assert_eq!((format.validate)(text).is_empty(), ok, "{called} {text}");
        }
    }
}
