//! `x-kubernetes-validations`: the rules of a schema, compiled once and evaluated on objects.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{
    field_path,
    list::ByKey,
    structural::{Rule, Structural},
};
use crate::{
    cel::{self, Bindings, CALL_LIMIT, Decl, Env, Program, Value as Bound},
    field::{Error, ErrorKind, Errors},
};

const MESSAGE_BYTES_MAX: usize = 5 * 1024;
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// A rule that was read.
#[derive(Debug)]
pub struct Compiled {
    /// None for an empty rule; the error is upstream's.
    pub program: Option<Result<Program, String>>,
    pub uses_old: bool,
    /// None where there is no expression for the message.
    pub message: Option<Result<Program, String>>,
    /// The field below that the rule is told of; empty for the value itself.
    field: String,
}

/// The rules of a node of a schema, and of the nodes below it.
#[derive(Debug)]
pub struct Node {
    rules: Vec<(Rule, Compiled)>,
    decl: Arc<Decl>,
    kind: String,
    items: Option<Box<Self>>,
    properties: BTreeMap<String, Self>,
    values: Option<Box<Self>>,
    all_of: Vec<Self>,
}

/// Compiles a rule about values of a type, which `schema` describes.
pub fn compile(rule: &Rule, schema: &Structural, decl: &Arc<Decl>) -> Compiled {
    let field = field_path::resolve(&rule.field_path, schema, true).map(|found| found.text).unwrap_or_default();
    if rule.rule.trim().is_empty() {
        return Compiled { program: None, uses_old: false, message: None, field };
    }
    let env = Env::new().declared("self", decl);
    let env = if rule.optional_old_self == Some(true) {
        env.variable("oldSelf", cel::Type::optional(decl.ty().clone()))
    } else {
        env.declared("oldSelf", decl)
    };
    let program = compiled(&env, &rule.rule, "bool", "compilation failed: ", "cel expression must evaluate to a bool");
    let uses_old = program.as_ref().is_ok_and(|program| program.uses("oldSelf"));
    let message = (!rule.message_expression.is_empty() && program.is_ok()).then(|| {
        let (failed, other) = ("messageExpression compilation failed: ", "messageExpression must evaluate to a string");
        compiled(&env, &rule.message_expression, "string", failed, other)
    });
    Compiled { program: Some(program), uses_old, message, field }
}

fn compiled(env: &Env, source: &str, output: &str, failed: &str, other: &str) -> Result<Program, String> {
    let program = env.compile(source).map_err(|issues| format!("{failed}{issues}"))?;
    if program.output().to_string() != output {
        return Err(other.to_owned());
    }
    match program.instantiation_error() {
        Some(why) => Err(format!("program instantiation failed: {why}")),
        None => Ok(program),
    }
}

impl Node {
    /// The rules of a whole schema; none if it has none. `schema` is what `structural` was read from.
    pub fn of(structural: &Structural, schema: &Value, is_resource: bool) -> Option<Self> {
        let mut has_rules = false;
        has(structural, &mut has_rules);
        let decl = has_rules.then(|| cel::schema::declared(schema, "selfType", is_resource)).flatten()?;
        Self::below(structural, structural, &Arc::new(decl))
    }

    /// `structural` has the rules, `shape` tells what there is: they differ below `allOf`.
    fn below(structural: &Structural, shape: &Structural, decl: &Arc<Decl>) -> Option<Self> {
        let inner = |structural: &Structural, shape: Option<&Structural>, decl: Option<&Decl>| {
            Self::below(structural, shape?, &Arc::new(decl?.clone()))
        };
        let properties: BTreeMap<_, _> = structural
            .properties
            .iter()
            .filter_map(|(name, property)| {
                let decl = cel::escape(name).and_then(|name| decl.field(&name));
                Some((name.clone(), inner(property, shape.properties.get(name), decl)?))
            })
            .collect();
        let items = structural.items.as_deref().and_then(|items| inner(items, shape.items.as_deref(), decl.item()));
        let values = structural.values().and_then(|values| inner(values, shape.values(), decl.item()));
        let all_of: Vec<_> = structural.all_of.iter().filter_map(|all| Self::below(all, shape, decl)).collect();
        let nothing = structural.rules.is_empty() && properties.is_empty() && items.is_none();
        if nothing && values.is_none() && all_of.is_empty() {
            return None;
        }
        Some(Self {
            rules: structural.rules.iter().map(|rule| (rule.clone(), compile(rule, shape, decl))).collect(),
            decl: decl.clone(),
            kind: shape.kind.clone(),
            items: items.map(Box::new),
            properties,
            values: values.map(Box::new),
            all_of,
        })
    }
}

fn has(structural: &Structural, found: &mut bool) {
    structural.each(&mut |node| {
        *found |= !node.rules.is_empty();
        node.all_of.iter().for_each(|all| has(all, found));
    });
}

/// An object as it was, so that rules that it broke already are only warned of.
#[derive(Clone, Copy)]
pub struct Ratchet<'a> {
    current: Option<Pair<'a>>,
    parent: Option<Pair<'a>>,
}

#[derive(Clone, Copy)]
struct Pair<'a> {
    new: &'a Value,
    old: &'a Value,
    schema: &'a Structural,
}

impl<'a> Ratchet<'a> {
    pub const NONE: Self = Self { current: None, parent: None };

    pub const fn of(new: &'a Value, old: &'a Value, schema: &'a Structural) -> Self {
        Self { current: Some(Pair { new, old, schema }), parent: None }
    }

    fn forgives(self) -> bool {
        self.current.or(self.parent).is_some_and(|pair| pair.new == pair.old)
    }

    fn member(self, name: &str) -> Self {
        let Some(current) = self.current else { return self };
        if self.parent.is_none() && matches!(name, "apiVersion" | "kind") {
            return Self::NONE;
        }
        let below = || {
            let (new, old) = (current.new.as_object()?.get(name)?, current.old.as_object()?.get(name)?);
            Some(Pair { new, old, schema: current.schema.member(name)? })
        };
        Self { current: below(), parent: Some(current) }
    }

    fn items(self) -> Option<ByKey<'a>> {
        self.current.and_then(|pair| ByKey::of(pair.old, pair.schema))
    }

    /// `old` is what the item was before.
    fn item(self, new: &'a Value, old: Option<&'a Value>) -> Self {
        let Some(current) = self.current else { return self };
        let below = || Some(Pair { new, old: old?, schema: current.schema.items.as_deref()? });
        Self { current: below(), parent: Some(current) }
    }
}

/// One evaluation of all rules of an object.
pub struct Evaluation<'e> {
    pub errors: &'e mut Errors,
    pub warnings: &'e mut Vec<String>,
    /// What is left of the cost; none once it is spent.
    pub budget: Option<u64>,
}

/// A value on its way down.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub value: &'a Value,
    pub old: Option<&'a Value>,
    pub schema: &'a Structural,
    pub ratchet: Ratchet<'a>,
}

impl Evaluation<'_> {
    pub fn node(&mut self, node: &Node, place: Place, path: &str) {
        if place.value.is_null() || self.budget.is_none() {
            return;
        }
        self.rules(node, place, path);
        for all in &node.all_of {
            let ratchet = Ratchet { current: None, parent: place.ratchet.parent };
            self.node(all, Place { ratchet, ..place }, path);
        }
        match place.value {
            Value::Array(items) => {
                let (Some(below), Some(schema)) = (&node.items, &place.schema.items) else { return };
                let olds = place.old.and_then(|old| ByKey::of(old, place.schema));
                let before = place.ratchet.items();
                for (i, item) in items.iter().enumerate() {
                    let old = olds.as_ref().and_then(|olds| olds.get(item));
                    let ratchet = place.ratchet.item(item, before.as_ref().and_then(|before| before.get(item)));
                    self.node(below, Place { value: item, old, schema, ratchet }, &format!("{path}[{i}]"));
                }
            }
            Value::Object(members) => {
                let correlates = place.schema.map_type != "atomic";
                for (name, value) in members {
                    let old = place.old.filter(|_| correlates).and_then(|old| old.get(name));
                    let ratchet = place.ratchet.member(name);
                    if let (Some(below), Some(schema)) = (&node.values, place.schema.values()) {
                        let path = format!("{path}[{name}]");
                        self.node(below, Place { value, old, schema, ratchet }, &path);
                    }
                    if let (Some(below), Some(schema)) = (node.properties.get(name), place.schema.properties.get(name))
                    {
                        self.node(below, Place { value, old, schema, ratchet }, &super::child(path, name));
                    }
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, node: &Node, place: Place, path: &str) {
        if node.rules.is_empty() {
            return;
        }
        let here = if path.is_empty() { "<nil>" } else { path };
        let old = place.old.filter(|old| !old.is_null());
        if self.budget == Some(0) {
            self.stop(Error::invalid(here, node.kind.as_str(), OUT_OF_BUDGET));
            return;
        }
        let bound = Bound::typed(place.value, &node.decl);
        let plain = Bindings::new().bind_outcome("self", bound.clone());
        let with_old = match old {
            Some(old) => plain.clone().bind_outcome("oldSelf", Bound::typed(old, &node.decl)),
            None => plain.clone(),
        };
        let optional = || match old.map(|old| Bound::typed(old, &node.decl)) {
            Some(Ok(old)) => plain.clone().bind("oldSelf", Bound::some(old)),
            Some(Err(error)) => plain.clone().bind_outcome("oldSelf", Err(error)),
            None => plain.clone().bind("oldSelf", Bound::Optional(None)),
        };
        for (rule, compiled) in &node.rules {
            let program = match &compiled.program {
                None => continue,
                Some(Err(why)) => {
                    self.errors.push(Error::invalid(here, node.kind.as_str(), format!("rule compile error: {why}")));
                    continue;
                }
                Some(Ok(program)) => program,
            };
            let is_optional = rule.optional_old_self == Some(true);
            if compiled.uses_old && old.is_none() && !is_optional {
                continue;
            }
            let bindings = if is_optional { optional() } else { with_old.clone() };
            let evaluation = program.evaluate(&bindings, CALL_LIMIT);
            let Some(left) = self.budget.and_then(|budget| budget.checked_sub(evaluation.cost)) else {
                self.stop(Error::invalid(here, node.kind.as_str(), OUT_OF_BUDGET));
                return;
            };
            self.budget = Some(left);
            match evaluation.value {
                Ok(Bound::Bool(true)) => continue,
                Ok(_) => {}
                Err(error) => {
                    let (told, text) = (shown_rule(rule), error.to_string());
                    let why = if text.starts_with("no such overload") {
                        format!(
                            "'{text}': call arguments did not match a supported operator, function or macro signature for \
                             rule: {told}"
                        )
                    } else if error.is_over_budget() {
                        format!(
                            "'{text}': no further validation rules will be run due to call cost exceeds limit for rule: \
                             {told}"
                        )
                    } else {
                        format!("{text} evaluating rule: {told}")
                    };
                    let wrong = Error::invalid(here, node.kind.as_str(), why);
                    if error.is_over_budget() {
                        self.stop(wrong);
                        return;
                    }
                    self.errors.push(wrong);
                    continue;
                }
            }
            let at = match (compiled.field.as_str(), path) {
                ("", _) => here.to_owned(),
                (field, "") => field.to_owned(),
                (field, path) => format!("{path}.{field}"),
            };
            let detail = match &compiled.message {
                Some(Ok(message)) => match self.message(message, &rule.message_expression, &with_old) {
                    Ok(message) => message,
                    Err(why) => {
                        self.tell(Error::invalid(at, node.kind.as_str(), why), compiled.uses_old, place);
                        self.budget = None;
                        return;
                    }
                },
                _ => None,
            };
            let detail = detail.unwrap_or_else(|| match rule.message.as_str() {
                "" => format!("failed rule: {}", shown_rule(rule)),
                message => message.trim().to_owned(),
            });
            self.tell(refusal(rule, &node.kind, &at, place.value, detail), compiled.uses_old, place);
        }
    }

    fn stop(&mut self, error: Error) {
        self.errors.push(error);
        self.budget = None;
    }

    /// What was wrong before and has not changed is only warned of, but for rules about changes.
    fn tell(&mut self, error: Error, uses_old: bool, place: Place) {
        if !uses_old && place.ratchet.forgives() {
            self.warnings.push(error.to_string());
        } else {
            self.errors.push(error);
        }
    }

    /// The message that an expression makes; none if it makes none that can be told. The error ends all evaluation.
    fn message(&mut self, program: &Program, source: &str, bindings: &Bindings) -> Result<Option<String>, String> {
        let evaluation = program.evaluate(bindings, CALL_LIMIT);
        let left = self.budget.and_then(|budget| budget.checked_sub(evaluation.cost));
        let Some(left) = left else {
            let why = "messageExpression evaluation failed due to running out of cost budget, no further validation rules \
                       will be run";
            return Err(why.to_owned());
        };
        let value = match evaluation.value {
            Ok(value) => value,
            Err(error) if error.is_over_budget() => {
                return Err(format!(
                    "no further validation rules will be run due to call cost exceeds limit for messageExpression: {}",
                    crate::field::quote(source)
                ));
            }
            Err(_) => {
                self.budget = Some(left);
                return Ok(None);
            }
        };
        self.budget = Some(left);
        let text = value.as_str().unwrap_or_default().trim();
        let usable = !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n');
        Ok(usable.then(|| text.to_owned()))
    }
}

/// Objects and lists are not shown.
fn refusal(rule: &Rule, kind: &str, path: &str, value: &Value, detail: String) -> Error {
    let mut error = match rule.reason.as_str() {
        "FieldValueForbidden" => Error::forbidden(path, detail),
        "FieldValueRequired" => Error::required(path, detail),
        "FieldValueDuplicate" => Error::duplicate(path, value.clone()),
        _ => Error::invalid(path, value.clone(), detail),
    };
    if matches!(kind, "object" | "array") && matches!(error.kind, ErrorKind::Duplicate | ErrorKind::Invalid) {
        error.value = None;
    }
    error
}

/// A rule in words: its message, or the expression itself.
fn shown_rule(rule: &Rule) -> &str {
    let text = if rule.message.is_empty() { &rule.rule } else { &rule.message };
    text.trim()
}
