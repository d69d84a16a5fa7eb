//! Regular expressions: `matches`, `find`, `findAll`.

use regex::Regex;

use super::{Declared, text};
use crate::cel::value::{EvalError, Outcome, Value};

pub(super) const FUNCTIONS: &[Declared] = &[
    Declared::singleton(
        "matches",
        &[("matches", "(string, string): bool", matches), ("matches_string", "string.(string): bool", matches)],
    ),
    Declared::new("find", &[("string_find_string", "string.(string): string", find)]),
    Declared::new(
        "findAll",
        &[
            ("string_find_all_string", "string.(string): list(string)", find_all),
            ("string_find_all_string_int", "string.(string, int): list(string)", find_all),
        ],
    ),
];

/// Compiles a pattern; the error is worded as Go's.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| {
        let why = match &error {
            regex::Error::Syntax(text) => text.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned(),
            other => other.to_string(),
        };
        format!("error parsing regexp: {why}: `{pattern}`")
    })
}

/// A call of one of the functions here with a pattern that was compiled before.
pub(crate) fn call<'a>(function: &str, arguments: &[Value<'a>], regex: &Regex) -> Outcome<'a> {
    let [Value::String(whole), _, rest @ ..] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    match (function, rest) {
        ("matches", []) => Ok(Value::Bool(regex.is_match(whole))),
        ("find", []) => Ok(Value::text(regex.find(whole).map_or("", |found| found.as_str()))),
        ("findAll", []) => Ok(all(regex, whole, -1)),
        ("findAll", [Value::Int(most)]) => Ok(all(regex, whole, *most)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn all<'a>(regex: &Regex, whole: &str, most: i64) -> Value<'a> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    Value::list(regex.find_iter(whole).take(most).map(|found| Value::text(found.as_str())).collect())
}

fn pattern(arguments: &[Value<'_>], prefix: &str) -> Result<Regex, EvalError> {
    let pattern = arguments.get(1).ok_or_else(EvalError::no_such_overload)?;
    compile(text(pattern)?).map_err(|why| EvalError::new(format!("{prefix}{why}")))
}

fn matches<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    call("matches", arguments, &pattern(arguments, "")?)
}

fn find<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    call("find", arguments, &pattern(arguments, "Illegal regex: ")?)
}

fn find_all<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    call("findAll", arguments, &pattern(arguments, "Illegal regex: ")?)
}
