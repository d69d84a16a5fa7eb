//! Evaluates a plan, counting what it costs; the limit ends it.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Binding, Bindings, Evaluation, library,
    list::List,
    map::{Key, Map},
    plan::{Call, Loop, Node, Path, Start, Step, StepKey},
    spent,
    value::{EvalError, Object, Outcome, Value},
};

pub(crate) fn evaluate<'a>(node: &Node, bindings: &Bindings<'a>, limit: u64) -> Evaluation<'a> {
    let mut run = Run { bindings, locals: Vec::new(), cost: 0, limit };
    let value = run.node(node);
    // What went over the limit is not told by a value.
    let value = if run.cost > limit { Err(EvalError::over_budget()) } else { value };
    Evaluation { value, cost: run.cost }
}

struct Run<'r, 'a> {
    bindings: &'r Bindings<'a>,
    /// The variables of the loops around.
    locals: Vec<Local<'r, 'a>>,
    cost: u64,
    limit: u64,
}

enum Local<'r, 'a> {
    Value(Outcome<'a>),
    /// Computed at its first use, and perhaps never.
    Unset(&'r Node),
}

impl<'r, 'a> Run<'r, 'a> {
    fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(EvalError::over_budget()) } else { Ok(()) }
    }

    fn node(&mut self, node: &'r Node) -> Outcome<'a> {
        match node {
            Node::Constant(value) => Ok(value.clone()),
            Node::Path(path) => {
                let value = self.path(path);
                self.charge(u64::from(!matches!(path.start, Start::Conditional(_))))?;
                value
            }
            Node::Has(path) => self.has(path),
            Node::And(terms) => self.logic(terms, false),
            Node::Or(terms) => self.logic(terms, true),
            Node::NotStrictlyFalse(node) => {
                let value = self.node(node);
                self.charge(1)?;
                match value {
                    Err(error) if error.is_over_budget() => Err(error),
                    value => Ok(Value::Bool(!matches!(value, Ok(Value::Bool(false))))),
                }
            }
            Node::Call(call) => self.call(call, |arguments| call.function.call(call.overload, arguments)),
            Node::Regex(call, regex) => {
                self.call(call, |arguments| library::regex::call(call.function.name, arguments, regex))
            }
            Node::Among(value, list) => {
                let value = self.node(value)?;
                list.contains(&value).map(Value::Bool)
            }
            Node::Append(place, item) => self.append(*place, item),
            Node::Insert(place, entry) => self.insert(*place, entry),
            Node::OrOptional(sides) => match self.node(&sides[0])? {
                Value::Optional(None) => self.node(&sides[1]),
                other => Ok(other),
            },
            Node::OrValue(sides) => match self.node(&sides[0])? {
                Value::Optional(None) => self.node(&sides[1]),
                Value::Optional(Some(value)) => Ok(Value::clone(&value)),
                other => Ok(other),
            },
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Struct(name, fields) => self.object(name, fields),
            Node::Fold(fold) => self.fold(fold),
        }
    }

    /// The one value that decides absorbs errors of the others.
    fn logic(&mut self, terms: &'r [Node; 2], decides: bool) -> Outcome<'a> {
        let mut failed = None;
        for term in terms {
            match self.node(term) {
                Ok(Value::Bool(value)) if value == decides => return Ok(Value::Bool(decides)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or_else(|| Some(EvalError::no_such_overload())),
                Err(error) if error.is_over_budget() => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn call(&mut self, call: &'r Call, apply: impl FnOnce(&[Value<'a>]) -> Outcome<'a>) -> Outcome<'a> {
        let mut arguments = Vec::with_capacity(call.arguments.len());
        let mut failed = None;
        for argument in &call.arguments {
            match self.node(argument) {
                Ok(value) => arguments.push(value),
                Err(error) if error.is_over_budget() || call.arguments.len() > 2 => return Err(error),
                Err(error) => {
                    failed = failed.or(Some(error));
                    // What has no value counts as one.
                    arguments.push(Value::Null);
                }
            }
        }
        let overload = call.overload.unwrap_or("");
        let name = call.function.name;
        if let Some(error) = failed {
            let cost = spent::call(name, overload, &arguments, Some(&Value::Null)).unwrap_or(1);
            self.charge(cost)?;
            return Err(error);
        }
        if let Some(cost) = spent::call(name, overload, &arguments, None) {
            self.charge(cost)?;
            return apply(&arguments);
        }
        let result = apply(&arguments);
        let cost = spent::call(name, overload, &arguments, Some(result.as_ref().unwrap_or(&Value::Null)));
        self.charge(cost.unwrap_or(1))?;
        result
    }

    fn local(&mut self, place: usize) -> Outcome<'a> {
        match self.locals.get(place) {
            Some(Local::Value(outcome)) => outcome.clone(),
            Some(Local::Unset(init)) => {
                let init = *init;
                // Its own loops begin where it was written, not where it is used.
                let inner = self.locals.split_off(place);
                let outcome = self.node(init);
                self.locals.extend(inner);
                if let Some(local) = self.locals.get_mut(place) {
                    *local = Local::Value(outcome.clone());
                }
                outcome
            }
            None => Err(EvalError::no_such_overload()),
        }
    }

    /// Takes the accumulator away from its place, so that nobody else holds it.
    fn taken(&mut self, place: usize) -> Outcome<'a> {
        let outcome = self.local(place);
        self.charge(1)?;
        outcome
    }

    fn append(&mut self, place: usize, item: &'r Node) -> Outcome<'a> {
        let list = self.taken(place);
        let item = self.node(item);
        self.charge(1)?;
        match (list?, item?) {
            (Value::List(list), Value::List(item)) => {
                self.forget(place);
                match item.get(0) {
                    Some(item) => list.push(item?).map(Value::List),
                    None => Ok(Value::List(list)),
                }
            }
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn insert(&mut self, place: usize, [key, value]: &'r [Node; 2]) -> Outcome<'a> {
        let map = self.taken(place)?;
        let key = self.node(key)?;
        let value = self.node(value)?;
        self.charge(1)?;
        match map {
            Value::Map(map) => {
                self.forget(place);
                map.insert(&key, value).map(Value::Map)
            }
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn forget(&mut self, place: usize) {
        if let Some(local) = self.locals.get_mut(place) {
            *local = Local::Value(Ok(Value::Null));
        }
    }

    fn list(&mut self, items: &'r [(Node, bool)]) -> Outcome<'a> {
        let mut values = Vec::with_capacity(items.len());
        for (item, optional) in items {
            match self.node(item)? {
                Value::Optional(value) if *optional => values.extend(value.map(Arc::unwrap_or_clone)),
                other if *optional => {
                    let message = format!("cannot initialize optional list element from non-optional value {other}");
                    return Err(EvalError::new(message));
                }
                value => values.push(value),
            }
        }
        self.charge(10)?;
        Ok(Value::list(values))
    }

    fn map(&mut self, entries: &'r [(Node, Node, bool)]) -> Outcome<'a> {
        let mut values = BTreeMap::new();
        for (key, value, optional) in entries {
            let key = self.node(key)?;
            match self.node(value)? {
                Value::Optional(None) if *optional => {
                    values.remove(&Key::of(&key)?);
                }
                Value::Optional(Some(value)) if *optional => {
                    values.insert(Key::of(&key)?, Arc::unwrap_or_clone(value));
                }
                other if *optional => return Err(not_optional(&key.to_string(), &other)),
                value => {
                    values.insert(Key::of(&key)?, value);
                }
            }
        }
        self.charge(30)?;
        Ok(Value::Map(Map::new(values)))
    }

    fn object(&mut self, name: &Arc<str>, fields: &'r [(Arc<str>, Node, bool)]) -> Outcome<'a> {
        let mut values: Vec<(Arc<str>, Value<'a>)> = Vec::with_capacity(fields.len());
        for (field, value, optional) in fields {
            let value = match self.node(value)? {
                Value::Optional(value) if *optional => value.map(Arc::unwrap_or_clone),
                other if *optional => return Err(not_optional(field, &other)),
                value => Some(value),
            };
            values.retain(|(known, _)| known != field);
            values.extend(value.map(|value| (field.clone(), value)));
        }
        self.charge(40)?;
        let text = |field: &str, value: &Value<'_>| {
            &**name == "JSONPatch" && ["op", "path", "from"].contains(&field) && value.as_str().is_none()
        };
        if let Some((field, value)) = values.iter().find(|(field, value)| text(field, value)) {
            let ty = value.type_of();
            return Err(EvalError::new(format!("unexpected type {ty} for JSONPatchType '{field}' field")));
        }
        Ok(Value::Object(Arc::new(Object { name: name.clone(), fields: values })))
    }

    fn fold(&mut self, fold: &'r Loop) -> Outcome<'a> {
        let range = self.node(&fold.range)?;
        let place = self.locals.len();
        self.locals.push(Local::Unset(&fold.init));
        let ran = self.rounds(fold, place, &range);
        self.locals.truncate(place + 1);
        let result = ran.and_then(|()| self.node(&fold.result));
        self.locals.truncate(place);
        result
    }

    fn rounds(&mut self, fold: &'r Loop, place: usize, range: &Value<'a>) -> Result<(), EvalError> {
        match range {
            Value::List(list) => {
                for index in 0..list.len() {
                    let item = list.get(index).unwrap_or(Ok(Value::Null));
                    let (first, second) =
                        if fold.two { (Ok(Value::Int(index as i64)), Some(item)) } else { (item, None) };
                    if !self.round(fold, place, first, second)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let value = fold.two.then(|| map.find(&key).unwrap_or(Ok(Value::Null)));
                    if !self.round(fold, place, Ok(key), value)? {
                        break;
                    }
                }
            }
            other => {
                let ty = other.go_type();
                return Err(EvalError::new(if fold.two {
                    format!("unsupported comprehension range type: {ty}")
                } else {
                    format!("got '{ty}', expected iterable type")
                }));
            }
        }
        Ok(())
    }

    /// One round; whether there is to be another one.
    fn round(
        &mut self,
        fold: &'r Loop,
        place: usize,
        first: Outcome<'a>,
        second: Option<Outcome<'a>>,
    ) -> Result<bool, EvalError> {
        self.locals.truncate(place + 1);
        self.locals.push(Local::Value(first));
        self.locals.extend(second.map(Local::Value));
        match self.node(&fold.condition) {
            Err(error) if error.is_over_budget() => return Err(error),
            Ok(Value::Bool(false)) => return Ok(false),
            _ => {}
        }
        let step = self.node(&fold.step);
        if let Err(error) = &step
            && error.is_over_budget()
        {
            return Err(error.clone());
        }
        if let Some(local) = self.locals.get_mut(place) {
            *local = Local::Value(step);
        }
        Ok(true)
    }

    /// Where a path begins, and the steps that are still to be taken.
    fn start(&mut self, path: &'r Path) -> Result<(Value<'a>, &'r [Step]), EvalError> {
        let value = match &path.start {
            Start::Local(place) => self.local(*place)?,
            Start::Node(node) => self.node(node)?,
            Start::Conditional(branches) => {
                let (condition, then, otherwise) = &**branches;
                match self.node(condition)? {
                    Value::Bool(true) => self.path(then)?,
                    Value::Bool(false) => self.path(otherwise)?,
                    _ => return Err(EvalError::no_such_overload()),
                }
            }
            Start::Variable(name) => {
                let bindings = self.bindings;
                match bindings.find(name) {
                    Some(Binding::Value(outcome)) => outcome.clone()?,
                    Some(Binding::Lookup(lookup)) => return self.look_up(&**lookup, &path.steps),
                    None => return Err(EvalError::new(format!("no such attribute(s): {name}"))),
                }
            }
        };
        Ok((value, &path.steps))
    }

    /// The first step of a path into values that are found when they are used.
    fn look_up(
        &mut self,
        lookup: &dyn super::Lookup<'a>,
        steps: &'r [Step],
    ) -> Result<(Value<'a>, &'r [Step]), EvalError> {
        let Some((Step { key: StepKey::Constant(Value::String(name)), optional: false }, rest)) = steps.split_first()
        else {
            return Err(EvalError::no_such_overload());
        };
        self.charge(1)?;
        match lookup.find(name) {
            Some(outcome) => Ok((outcome?, rest)),
            None => Err(EvalError::new(format!("no such key: {}", &**name))),
        }
    }

    fn path(&mut self, path: &'r Path) -> Outcome<'a> {
        let (value, steps) = self.start(path)?;
        let (value, optional) = match self.walk(value, steps)? {
            Some(found) => found,
            None => return Ok(Value::Optional(None)),
        };
        Ok(if optional { Value::some(value) } else { value })
    }

    /// Takes steps; `None` where an optional one leads nowhere. Tells whether any was optional.
    fn walk(&mut self, value: Value<'a>, steps: &'r [Step]) -> Result<Option<(Value<'a>, bool)>, EvalError> {
        if steps.is_empty() {
            return Ok(Some((value, false)));
        }
        let (mut value, mut optional) = match value {
            Value::Optional(Some(value)) => (Arc::unwrap_or_clone(value), true),
            Value::Optional(None) => return Ok(None),
            value => (value, false),
        };
        for step in steps {
            optional = optional || step.optional;
            let key = self.key(step)?;
            match part(&value, &key) {
                Some(found) => {
                    self.charge(step_cost(step))?;
                    value = found?;
                }
                None if optional => return Ok(None),
                None => {
                    self.charge(step_cost(step))?;
                    return Err(missing(&value, &key));
                }
            }
        }
        Ok(Some((value, optional)))
    }

    fn key(&mut self, step: &'r Step) -> Outcome<'a> {
        match &step.key {
            StepKey::Constant(value) => Ok(value.clone()),
            StepKey::Path(path) => self.path(path),
        }
    }

    fn has(&mut self, path: &'r Path) -> Outcome<'a> {
        let Some((last, _)) = path.steps.split_last() else {
            return Ok(Value::Bool(true));
        };
        if path.steps.len() == 1
            && let Start::Variable(name) = &path.start
            && let Some(Binding::Lookup(lookup)) = self.bindings.find(name)
            && let StepKey::Constant(Value::String(field)) = &last.key
        {
            self.charge(1)?;
            return Ok(Value::Bool(lookup.has(field)));
        }
        let (value, steps) = self.start(path)?;
        let Some((last, before)) = steps.split_last() else {
            return Ok(Value::Bool(true));
        };
        let value = match self.walk(value, before)? {
            None | Some((Value::Optional(None), _)) => return Ok(Value::Bool(false)),
            Some((Value::Optional(Some(value)), _)) => Arc::unwrap_or_clone(value),
            Some((value, _)) => value,
        };
        let key = self.key(last)?;
        self.charge(1)?;
        match part(&value, &key) {
            Some(Err(error)) => Err(error),
            found => Ok(Value::Bool(found.is_some())),
        }
    }
}

/// A step by a choice between two keys costs nothing itself.
fn step_cost(step: &Step) -> u64 {
    u64::from(!matches!(&step.key, StepKey::Path(Path { start: Start::Conditional(_), .. })))
}

fn not_optional(key: &str, value: &Value<'_>) -> EvalError {
    EvalError::new(format!("cannot initialize optional entry '{key}' from non-optional value {value}"))
}

fn index(list: &List<'_>, key: &Value<'_>) -> Result<Option<usize>, EvalError> {
    let unsupported = || EvalError::new(format!("unsupported index value {key} in list"));
    let number = match key {
        Value::Int(n) => *n,
        _ if !list.is_plain() => return Err(EvalError::new(format!("unsupported index: {key}"))),
        Value::Uint(n) => i64::try_from(*n).map_err(|_| unsupported())?,
        Value::Double(n) if n.fract() == 0.0 && n.abs() < 9e18 => *n as i64,
        Value::Double(_) => return Err(unsupported()),
        other => {
            let ty = other.type_of();
            return Err(EvalError::new(format!("unsupported index type '{}' in list", ty.name())));
        }
    };
    Ok(usize::try_from(number).ok().filter(|index| *index < list.len()))
}

/// What a value has at a key.
fn part<'a>(value: &Value<'a>, key: &Value<'a>) -> Option<Outcome<'a>> {
    match value {
        Value::Map(map) => map.find(key),
        Value::List(list) => match index(list, key) {
            Ok(index) => index.and_then(|index| list.get(index)),
            Err(error) => Some(Err(error)),
        },
        Value::Object(object) => key.as_str().and_then(|name| object.field(name)).cloned().map(Ok),
        _ => None,
    }
}

fn missing(value: &Value<'_>, key: &Value<'_>) -> EvalError {
    match value {
        Value::List(_) => EvalError::new(format!("index out of bounds: {key}")),
        _ => EvalError::no_such_key(key),
    }
}
