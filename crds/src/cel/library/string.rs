//! Functions of texts; positions count characters.

use super::{Declared, format_string, text};
use crate::cel::value::{EvalError, Outcome, Value};

pub(super) const FUNCTIONS: &[Declared] = &[
    Declared::new("charAt", &[("string_char_at_int", "string.(int): string", char_at)]),
    Declared::new(
        "indexOf",
        &[
            ("string_index_of_string", "string.(string): int", index_of),
            ("string_index_of_string_int", "string.(string, int): int", index_of),
        ],
    ),
    Declared::new(
        "lastIndexOf",
        &[
            ("string_last_index_of_string", "string.(string): int", last_index_of),
            ("string_last_index_of_string_int", "string.(string, int): int", last_index_of),
        ],
    ),
    Declared::new(
        "lowerAscii",
        &[("string_lower_ascii", "string.(): string", |a| changed(a, |t| t.to_ascii_lowercase()))],
    ),
    Declared::new(
        "upperAscii",
        &[("string_upper_ascii", "string.(): string", |a| changed(a, |t| t.to_ascii_uppercase()))],
    ),
    Declared::new("trim", &[("string_trim", "string.(): string", |a| changed(a, |t| t.trim().to_owned()))]),
    Declared::new(
        "replace",
        &[
            ("string_replace_string_string", "string.(string, string): string", replace),
            ("string_replace_string_string_int", "string.(string, string, int): string", replace),
        ],
    ),
    Declared::new(
        "split",
        &[
            ("string_split_string", "string.(string): list(string)", split),
            ("string_split_string_int", "string.(string, int): list(string)", split),
        ],
    ),
    Declared::new(
        "substring",
        &[
            ("string_substring_int", "string.(int): string", substring),
            ("string_substring_int_int", "string.(int, int): string", substring),
        ],
    ),
    Declared::new(
        "join",
        &[("list_join", "list(string).(): string", join), ("list_join_string", "list(string).(string): string", join)],
    ),
    Declared::new("format", &[("string_format", "string.(list(dyn)): string", format)]),
    Declared::new("strings.quote", &[("strings_quote", "(string): string", |a| changed(a, quoted))]),
];

/// What mutating policies have beside.
pub(in crate::cel) const PATCH: &[Declared] = &[Declared::new(
    "jsonpatch.escapeKey",
    &[("string_jsonpatch_escapeKey_string", "(string): string", |a| {
        changed(a, |key| key.replace('~', "~0").replace('/', "~1"))
    })],
)];

fn out_of_range(index: i64) -> EvalError {
    EvalError::new(format!("index out of range: {index}"))
}

fn characters(value: &Value<'_>) -> Result<Vec<char>, EvalError> {
    Ok(text(value)?.chars().collect())
}

fn changed<'a>(arguments: &[Value<'a>], change: fn(&str) -> String) -> Outcome<'a> {
    match arguments {
        [value] => Ok(Value::text(change(text(value)?))),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn char_at<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let [value, Value::Int(index)] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let characters = characters(value)?;
    match usize::try_from(*index) {
        Ok(at) if at <= characters.len() => {
            Ok(Value::text(characters.get(at).map(char::to_string).unwrap_or_default()))
        }
        _ => Err(out_of_range(*index)),
    }
}

fn index_of<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let (value, part, offset) = match arguments {
        [value, part] => (value, part, 0),
        [value, part, Value::Int(offset)] => (value, part, *offset),
        _ => return Err(EvalError::no_such_overload()),
    };
    let (whole, part) = (characters(value)?, characters(part)?);
    if part.is_empty() {
        return Ok(Value::Int(offset));
    }
    let start = usize::try_from(offset).map_err(|_| out_of_range(offset))?;
    let found = whole.get(start..).and_then(|rest| rest.windows(part.len()).position(|window| window == part));
    Ok(Value::Int(found.map_or(-1, |at| (start + at) as i64)))
}

fn last_index_of<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let (value, part, offset) = match arguments {
        [value, part] => (value, part, None),
        [value, part, Value::Int(offset)] => (value, part, Some(*offset)),
        _ => return Err(EvalError::no_such_overload()),
    };
    let (whole, part) = (characters(value)?, characters(part)?);
    if part.is_empty() {
        return Ok(Value::Int(offset.unwrap_or(whole.len() as i64)));
    }
    let start = match offset {
        Some(offset) => usize::try_from(offset).map_err(|_| out_of_range(offset))?,
        None => whole.len().saturating_sub(1),
    };
    if start >= whole.len() {
        return Ok(Value::Int(-1));
    }
    let found = whole.windows(part.len()).take(start + 1).rposition(|window| window == part);
    Ok(Value::Int(found.map_or(-1, |at| at as i64)))
}

fn replace<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let (value, old, new, most) = match arguments {
        [value, old, new] => (value, old, new, -1),
        [value, old, new, Value::Int(most)] => (value, old, new, *most),
        _ => return Err(EvalError::no_such_overload()),
    };
    let (value, old, new) = (text(value)?, text(old)?, text(new)?);
    Ok(Value::text(match usize::try_from(most) {
        Ok(most) => value.replacen(old, new, most),
        Err(_) => value.replace(old, new),
    }))
}

fn split<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let (value, separator, most) = match arguments {
        [value, separator] => (value, separator, -1),
        [value, separator, Value::Int(most)] => (value, separator, *most),
        _ => return Err(EvalError::no_such_overload()),
    };
    let (value, separator) = (text(value)?, text(separator)?);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if most == 0 {
        return Ok(Value::list(Vec::new()));
    }
    let parts: Vec<String> = if separator.is_empty() {
        // Go cuts between all characters, and leaves the rest in the last part.
        let mut rest = value.chars();
        let mut parts: Vec<String> = rest.by_ref().take(most - 1).map(String::from).collect();
        parts.extend(Some(rest.as_str().to_owned()).filter(|rest| !rest.is_empty()));
        parts
    } else {
        value.splitn(most, separator).map(str::to_owned).collect()
    };
    Ok(Value::list(parts.into_iter().map(Value::text).collect()))
}

fn substring<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let (value, start, end) = match arguments {
        [value, Value::Int(start)] => (value, *start, None),
        [value, Value::Int(start), Value::Int(end)] => (value, *start, Some(*end)),
        _ => return Err(EvalError::no_such_overload()),
    };
    let characters = characters(value)?;
    if let Some(end) = end.filter(|end| start > *end) {
        return Err(EvalError::new(format!("invalid substring range. start: {start}, end: {end}")));
    }
    let within = |index: i64| usize::try_from(index).ok().filter(|i| *i <= characters.len());
    let from = within(start).ok_or_else(|| out_of_range(start))?;
    let to = end.map_or(Ok(characters.len()), |end| within(end).ok_or_else(|| out_of_range(end)))?;
    Ok(Value::text(characters.get(from..to).unwrap_or(&[]).iter().collect::<String>()))
}

fn join<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let (list, separator) = match arguments {
        [Value::List(list)] => (list, ""),
        [Value::List(list), separator] => (list, text(separator)?),
        _ => return Err(EvalError::no_such_overload()),
    };
    let mut joined = String::new();
    for (i, item) in list.iter().enumerate() {
        let item = item?;
        let Some(part) = item.as_str() else {
            return Err(EvalError::new(format!("join: invalid input: {item}")));
        };
        joined.push_str(if i == 0 { "" } else { separator });
        joined.push_str(part);
    }
    Ok(Value::text(joined))
}

fn format<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [format, Value::List(list)] => {
            format_string::format(text(format)?, list).map(Value::text).map_err(EvalError::new)
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\u{b}' => quoted.push_str("\\v"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
