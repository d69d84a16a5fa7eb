//! A structural schema: what a custom resource's objects are made of, read from its `openAPIV3Schema`.
//!
//! What defines an object (types, properties, defaults) and what only restricts values (limits, `allOf` and its like)
//! are in one tree; the branches of `allOf`, `anyOf`, `oneOf` and `not` only restrict.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

use super::pattern;

/// What an object may hold beside its properties.
#[derive(Clone, Debug, Default)]
pub enum Additional {
    /// Nothing is said.
    #[default]
    Unset,
    /// A bool in place of a schema.
    Allowed(bool),
    Schema(Box<Structural>),
}

/// `x-kubernetes-validations`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub rule: String,
    pub message: String,
    pub message_expression: String,
    /// Empty: `FieldValueInvalid`.
    pub reason: String,
    pub field_path: String,
    pub optional_old_self: Option<bool>,
}

/// What only restricts a value.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    pub format: String,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub multiple_of: Option<f64>,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    /// As it is written, and compiled; none where it is no regular expression.
    pub pattern: Option<(String, Option<Regex>)>,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub unique_items: bool,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub required: Vec<String>,
    pub one_of: Vec<Value>,
}

#[derive(Clone, Debug, Default)]
pub struct Structural {
    /// `object`, `array`, `string`, …; empty where no type is declared.
    pub kind: String,
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`
    pub preserves: bool,
    pub int_or_string: bool,
    /// `x-kubernetes-embedded-resource`
    pub embedded: bool,
    pub items: Option<Box<Self>>,
    pub properties: BTreeMap<String, Self>,
    pub additional: Additional,
    /// Never null.
    pub default: Option<Value>,
    /// `atomic`, `set` or `map`; empty where it is not declared.
    pub list_type: String,
    pub list_keys: Vec<String>,
    pub map_type: String,
    pub limits: Limits,
    pub rules: Vec<Rule>,
    pub all_of: Vec<Self>,
    pub any_of: Vec<Self>,
    pub exactly_one_of: Vec<Self>,
    pub not: Option<Box<Self>>,
}

impl Structural {
    /// Reads a schema as it stands in a definition.
    pub fn of(schema: &Value) -> Self {
        schema.as_object().map(Self::of_map).unwrap_or_default()
    }

    pub fn of_map(schema: &Map<String, Value>) -> Self {
        let flag = |name: &str| schema.get(name) == Some(&Value::Bool(true));
        let text = |name: &str| schema.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let list =
            |name: &str| schema.get(name).and_then(Value::as_array).into_iter().flatten().map(Self::of).collect();
        let texts = |name: &str| texts(schema.get(name));
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        Self {
            kind: text("type"),
            nullable: flag("nullable"),
            preserves: flag("x-kubernetes-preserve-unknown-fields"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            embedded: flag("x-kubernetes-embedded-resource"),
            items: schema.get("items").filter(|items| items.is_object()).map(|items| Box::new(Self::of(items))),
            properties: properties.map(|(name, inner)| (name.clone(), Self::of(inner))).collect(),
            additional: match schema.get("additionalProperties") {
                None | Some(Value::Null) => Additional::Unset,
                Some(Value::Bool(allowed)) => Additional::Allowed(*allowed),
                Some(inner) => Additional::Schema(Box::new(Self::of(inner))),
            },
            default: schema.get("default").filter(|value| !value.is_null()).cloned().map(super::number::whole),
            list_type: text("x-kubernetes-list-type"),
            list_keys: texts("x-kubernetes-list-map-keys"),
            map_type: text("x-kubernetes-map-type"),
            limits: Limits::of(schema),
            rules: schema
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(Rule::of)
                .collect(),
            all_of: list("allOf"),
            any_of: list("anyOf"),
            exactly_one_of: list("oneOf"),
            not: schema.get("not").filter(|not| not.is_object()).map(|not| Box::new(Self::of(not))),
        }
    }

    /// The schema of a member of an object; none where it is not declared.
    pub fn member(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or_else(|| self.values())
    }

    /// The schema of all members that are no properties.
    pub fn values(&self) -> Option<&Self> {
        if let Additional::Schema(inner) = &self.additional { Some(inner) } else { None }
    }

    /// Calls `f` with this node and all that define something below it.
    pub fn each(&self, f: &mut impl FnMut(&Self)) {
        f(self);
        self.items.iter().for_each(|items| items.each(f));
        self.properties.values().for_each(|property| property.each(f));
        self.values().into_iter().for_each(|values| values.each(f));
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Limits {
    fn of(schema: &Map<String, Value>) -> Self {
        let flag = |name: &str| schema.get(name) == Some(&Value::Bool(true));
        let number = |name: &str| schema.get(name).and_then(Value::as_f64);
        let whole = |name: &str| schema.get(name).and_then(Value::as_i64);
        let text = |name: &str| schema.get(name).and_then(Value::as_str).unwrap_or_default();
        Self {
            format: text("format").to_owned(),
            maximum: number("maximum"),
            exclusive_maximum: flag("exclusiveMaximum"),
            minimum: number("minimum"),
            exclusive_minimum: flag("exclusiveMinimum"),
            multiple_of: number("multipleOf"),
            max_length: whole("maxLength"),
            min_length: whole("minLength"),
            pattern: Some(text("pattern"))
                .filter(|pattern| !pattern.is_empty())
                .map(|pattern| (pattern.to_owned(), pattern::compiled(pattern).ok())),
            max_items: whole("maxItems"),
            min_items: whole("minItems"),
            unique_items: flag("uniqueItems"),
            max_properties: whole("maxProperties"),
            min_properties: whole("minProperties"),
            required: texts(schema.get("required")),
            one_of: schema.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        }
    }
}

impl Rule {
    fn of(rule: &Value) -> Self {
        let text = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            rule: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: text("reason"),
            field_path: text("fieldPath"),
            optional_old_self: rule.get("optionalOldSelf").and_then(Value::as_bool),
        }
    }
}
