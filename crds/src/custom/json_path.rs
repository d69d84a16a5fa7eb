//! JSON paths of printer columns and selectable fields, as kubectl and upstream's server have them.

use serde_json::Value;

/// A path that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    /// All members or items.
    All,
    /// Everything below, at any depth.
    Below,
    /// From, to, step; negative ones count from the end.
    Slice(Option<i64>, Option<i64>, i64),
    Union(Vec<Vec<Step>>),
    Filter {
        left: Operand,
        operator: String,
        right: Option<Operand>,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(JsonPath),
    Constant(Value),
}

/// The path is not of this syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON path")]
pub struct JsonPathError;

type Result<T> = std::result::Result<T, JsonPathError>;

impl JsonPath {
    /// Reads a path as definitions have it: `.spec.items[0].name`, `.status.conditions[?(@.type=="Ready")].status`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut reader = Reader { rest: text };
        let mut steps = Vec::new();
        if let Some(rest) = text.strip_prefix('@').or_else(|| text.strip_prefix('$')) {
            reader.rest = rest;
        }
        while !reader.rest.is_empty() {
            reader.step(&mut steps)?;
        }
        Ok(Self(steps))
    }

    /// What is at the path; nothing where something on the way is missing, or is not of the form that the path needs.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        self.0.iter().fold(vec![value], |found, step| found.into_iter().flat_map(|value| step.find(value)).collect())
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn eat(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn step(&mut self, steps: &mut Vec<Step>) -> Result<()> {
        if self.eat("..") {
            steps.push(Step::Below);
            if !self.rest.is_empty() && !self.rest.starts_with(['[', '.', '*']) {
                steps.push(Step::Field(self.name()?));
            }
            return Ok(());
        }
        if self.eat(".") {
            if self.eat("*") {
                steps.push(Step::All);
            } else if !self.rest.starts_with('[') {
                steps.push(Step::Field(self.name()?));
            }
            return Ok(());
        }
        if self.eat("[") {
            let inner = self.bracket()?;
            steps.push(bracketed(inner)?);
            return Ok(());
        }
        steps.push(Step::Field(self.name()?));
        Ok(())
    }

    /// A field's name; `\.` is a dot in it.
    fn name(&mut self) -> Result<String> {
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                '.' | '[' | ' ' | '|' | '}' => {
                    end = at;
                    break;
                }
                other => name.push(other),
            }
        }
        self.rest = self.rest.get(end..).unwrap_or_default();
        if name.is_empty() { Err(JsonPathError) } else { Ok(name) }
    }

    /// What is between brackets; brackets and quotes may stand within.
    fn bracket(&mut self) -> Result<&'a str> {
        let (mut depth, mut quote) = (1, None);
        for (at, c) in self.rest.char_indices() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, '[') => depth += 1,
                (None, ']') => {
                    depth -= 1;
                    if depth == 0 {
                        let inner = &self.rest[..at];
                        self.rest = &self.rest[at + 1..];
                        return Ok(inner);
                    }
                }
                _ => {}
            }
        }
        Err(JsonPathError)
    }
}

fn bracketed(text: &str) -> Result<Step> {
    let text = text.trim();
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        return filtered(filter);
    }
    if let Some(name) = quoted(text) {
        return Ok(Step::Field(name));
    }
    if text.contains(',') {
        let parts = text.split(',').map(|part| bracketed(part).map(|step| vec![step]));
        return parts.collect::<Result<Vec<_>>>().map(Step::Union);
    }
    let number = |part: &str| match part.trim() {
        "" => Ok(None),
        digits => digits.parse().map(Some).map_err(|_| JsonPathError),
    };
    let parts: Vec<_> = text.split(':').map(number).collect::<Result<_>>()?;
    match *parts.as_slice() {
        [Some(at)] => Ok(Step::Slice(Some(at), if at == -1 { None } else { Some(at + 1) }, 1)),
        [from, to] => Ok(Step::Slice(from, to, 1)),
        [from, to, step] => Ok(Step::Slice(from, to, step.unwrap_or(1))),
        _ => Err(JsonPathError),
    }
}

fn quoted(text: &str) -> Option<String> {
    let inner = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('\'').or_else(|| inner('"')).filter(|inner| !inner.contains(['\'', '"'])).map(|inner| inner.replace('\\', ""))
}

fn filtered(text: &str) -> Result<Step> {
    for operator in ["==", "!=", "<=", ">=", "<", ">"] {
        if let Some((left, right)) = text.split_once(operator) {
            let right = Some(operand(right)?);
            return Ok(Step::Filter { left: operand(left)?, operator: operator.to_owned(), right });
        }
    }
    Ok(Step::Filter { left: operand(text)?, operator: String::new(), right: None })
}

fn operand(text: &str) -> Result<Operand> {
    let text = text.trim();
    if let Some(path) = text.strip_prefix('@') {
        return JsonPath::parse(path).map(Operand::Path);
    }
    if let Some(inner) = quoted(text) {
        return Ok(Operand::Constant(Value::String(inner)));
    }
    serde_json::from_str(text).map(Operand::Constant).map_err(|_| JsonPathError)
}

impl Operand {
    fn value<'v>(&'v self, item: &'v Value) -> Option<&'v Value> {
        match self {
            Self::Path(path) => path.find(item).first().copied(),
            Self::Constant(value) => Some(value),
        }
    }
}

impl Step {
    fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match (self, value) {
            (Self::Field(name), Value::Object(members)) => members.get(name).into_iter().collect(),
            (Self::All, Value::Object(members)) => members.values().collect(),
            (Self::All, Value::Array(items)) => items.iter().collect(),
            (Self::Below, value) => {
                let mut found = Vec::new();
                below(value, &mut found);
                found
            }
            (Self::Slice(from, to, step), Value::Array(items)) => sliced(items, *from, *to, *step),
            (Self::Union(parts), value) => parts.iter().flat_map(|steps| JsonPath(steps.clone()).find(value)).collect(),
            (Self::Filter { left, operator, right }, Value::Array(items)) => {
                items.iter().filter(|item| keeps(left, operator, right.as_ref(), item)).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn below<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
    found.push(value);
    match value {
        Value::Object(members) => members.values().for_each(|value| below(value, found)),
        Value::Array(items) => items.iter().for_each(|value| below(value, found)),
        _ => {}
    }
}

fn sliced(items: &[Value], from: Option<i64>, to: Option<i64>, step: i64) -> Vec<&Value> {
    let length = items.len() as i64;
    let place = |at: i64| if at < 0 { at + length } else { at };
    let (from, to) = (place(from.unwrap_or(0)), to.map_or(length, place).min(length));
    if from < 0 || step < 1 {
        return Vec::new();
    }
    let every = usize::try_from(step).unwrap_or(1);
    (from..to).step_by(every).filter_map(|at| items.get(usize::try_from(at).ok()?)).collect()
}

fn keeps(left: &Operand, operator: &str, right: Option<&Operand>, item: &Value) -> bool {
    let left = left.value(item);
    let (Some(left), Some(right)) = (left, right.map(|right| right.value(item))) else {
        return left.is_some() && operator.is_empty();
    };
    let Some(right) = right else { return false };
    let order = match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.partial_cmp(&right),
        _ => match (left, right) {
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            _ => (left == right).then_some(std::cmp::Ordering::Equal),
        },
    };
    match operator {
        "==" => order.is_some_and(std::cmp::Ordering::is_eq),
        "!=" => !order.is_some_and(std::cmp::Ordering::is_eq),
        "<=" => order.is_some_and(std::cmp::Ordering::is_le),
        ">=" => order.is_some_and(std::cmp::Ordering::is_ge),
        "<" => order.is_some_and(std::cmp::Ordering::is_lt),
        _ => order.is_some_and(std::cmp::Ordering::is_gt),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finds() {
        let value = json!({"spec": {"list": ["x", "y"], "ports": [{"port": 1}, {"port": 2}], "a.b": 1},
            "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]}});
        for (path, want) in [
            (".spec.list[0]", json!(["x"])),
            (".spec.list[-1:]", json!(["y"])),
            (".spec.list[-1]", json!(["y"])),
            (".spec.ports[*].port", json!([1, 2])),
            (".spec.ports[?(@.port>1)].port", json!([2])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='Ready')].status", json!(["True"])),
            (".spec.a\\.b", json!([1])),
            (".spec['a.b']", json!([1])),
            (".spec.list[0,1]", json!(["x", "y"])),
            ("..port", json!([1, 2])),
            (".spec.none.more", json!([])),
        ] {
            let found: Vec<_> = JsonPath::parse(path).unwrap().find(&value).into_iter().cloned().collect();
            assert_eq!(Value::Array(found), want, "{path}");
        }
        assert!(JsonPath::parse(".a[").is_err());
    }
}
