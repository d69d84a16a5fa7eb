//! The validation rules of a schema: whether they compile, and what they may cost.

use std::sync::Arc;

use crate::{
    cel::{self, Decl},
    custom::{
        expression::{self, Compiled},
        structural::{Rule, Structural},
    },
    field::{Error, Errors},
    schema::encode,
};
use serde_json::Value;

/// What one rule may cost.
const RULE_LIMIT: u64 = 10_000_000;
/// What all rules of a schema may cost together.
const SCHEMA_LIMIT: u64 = 100_000_000;
const EXPENSIVE_MAX: usize = 4;

/// Checks the rules of a whole schema; `path` is its own. `wrong` are the errors of the schema itself: rules above one
/// are not looked at.
pub fn validate(schema: &Value, structural: &Structural, path: &str, wrong: &Errors, errors: &mut Errors) {
    let mut check = Check { wrong, errors, total: 0, expensive: Vec::new() };
    let decl = cel::schema::declared(schema, "selfType", true).map(Arc::new);
    let place = Place { path: path.to_owned(), times: Some(1), loose: None, is_ruled: false };
    check.node(structural, schema, decl.as_ref(), &place);
    if check.total > SCHEMA_LIMIT {
        let Check { errors, total, expensive, .. } = check;
        for (path, _) in expensive {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.push(Error::forbidden(path, why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(Error::forbidden(path, too_expensive(what, total, SCHEMA_LIMIT)));
    }
}

/// Where in a schema a node is.
struct Place {
    path: String,
    /// How often a value comes in an object; none if that is not limited.
    times: Option<u64>,
    /// The list or map above whose items cannot be told apart.
    loose: Option<String>,
    /// There are rules above.
    is_ruled: bool,
}

struct Check<'e> {
    wrong: &'e Errors,
    errors: &'e mut Errors,
    total: u64,
    expensive: Vec<(String, u64)>,
}

impl Check<'_> {
    fn node(&mut self, structural: &Structural, schema: &Value, decl: Option<&Arc<Decl>>, place: &Place) {
        let path = &place.path;
        let is_ruled = place.is_ruled || !structural.rules.is_empty();
        let at = |suffix: &str| Place {
            path: format!("{path}{suffix}"),
            times: place.times.and_then(|times| most(structural).map(|most| times.saturating_mul(most))),
            loose: place.loose.clone(),
            is_ruled,
        };
        // What expressions cannot reach from above they know by itself, unless rules above want to know it, too.
        let inner = |known: Option<&Decl>, below: &Structural, schema: &Value| match known {
            Some(known) => Some(Arc::new(known.clone())),
            None if decl.is_none() && is_ruled => None,
            None => cel::schema::declared(schema, "selfType", below.embedded).map(Arc::new),
        };
        if let (Some(values), Some(schema)) = (structural.values(), schema.get("additionalProperties")) {
            let decl = inner(decl.and_then(|decl| decl.item()), values, schema);
            self.node(values, schema, decl.as_ref(), &at(".additionalProperties"));
        }
        for (name, property) in &structural.properties {
            let Some(schema) = schema.get("properties").and_then(|properties| properties.get(name)) else { continue };
            let decl = inner(decl.and_then(|decl| decl.field(&cel::escape(name)?)), property, schema);
            self.node(property, schema, decl.as_ref(), &at(&format!(".properties[{name}]")));
        }
        if let (Some(items), Some(schema)) = (&structural.items, schema.get("items")) {
            let decl = inner(decl.and_then(|decl| decl.item()), items, schema);
            let mut place = at(".items");
            if place.loose.is_none() && structural.list_type != "map" {
                place.loose = Some(path.clone());
            }
            self.node(items, schema, decl.as_ref(), &place);
        }
        let is_above = |error: &Error| {
            error.field.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if structural.rules.is_empty() || self.wrong.iter().any(is_above) {
            return;
        }
        let path = format!("{path}.x-kubernetes-validations");
        let Some(decl) = decl else {
            let why = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to \
                       convert structural schema to CEL declarations";
            self.errors.push(Error::internal(path, why));
            return;
        };
        for (i, rule) in structural.rules.iter().enumerate() {
            let compiled = expression::compile(rule, structural, decl);
            self.rule(rule, &compiled, decl, &format!("{path}[{i}]"), place);
        }
    }

    fn rule(&mut self, rule: &Rule, compiled: &Compiled, decl: &Arc<Decl>, path: &str, place: &Place) {
        let (rule_path, message_path) = (format!("{path}.rule"), format!("{path}.messageExpression"));
        let most = || place.times.unwrap_or_else(|| cel::schema::REQUEST_BYTES_MAX / (decl.least_bytes() + 1));
        match &compiled.program {
            Some(Ok(program)) => {
                let cost = program.estimate(Some(decl)).max.saturating_mul(most());
                self.costs("estimated rule cost", cost, &rule_path);
            }
            Some(Err(why)) => self.errors.push(Error::invalid(&rule_path, "", why.as_str()).showing(shown(rule))),
            None => {}
        }
        match &compiled.message {
            Some(Ok(program)) => {
                let cost = program.estimate(Some(decl)).max;
                self.costs("estimated messageExpression cost", cost, &message_path);
            }
            Some(Err(why)) => self.errors.push(Error::invalid(&message_path, "", why.as_str()).showing(shown(rule))),
            None => {}
        }
        if let Some(loose) = place.loose.as_ref().filter(|_| compiled.uses_old) {
            let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {loose}");
            self.errors.push(Error::invalid(&rule_path, rule.rule.as_str(), why));
        } else if let Some(optional) = rule.optional_old_self.filter(|_| !compiled.uses_old) {
            let why = "may not be set if oldSelf is not used in rule";
            self.errors.push(Error::invalid(format!("{path}.optionalOldSelf"), optional, why));
        }
    }

    fn costs(&mut self, what: &str, cost: u64, path: &str) {
        if cost > RULE_LIMIT {
            self.errors.push(Error::forbidden(path, too_expensive(what, cost, RULE_LIMIT)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= SCHEMA_LIMIT / 100 {
            self.expensive.push((path.to_owned(), cost));
            self.expensive.sort_by_key(|costly| std::cmp::Reverse(costly.1));
            self.expensive.truncate(EXPENSIVE_MAX);
        }
    }
}

/// How many values a value holds at most, each with what is below it.
fn most(structural: &Structural) -> Option<u64> {
    let limit = |limit: Option<i64>| limit.map(|limit| u64::try_from(limit).unwrap_or(0));
    match structural.kind.as_str() {
        "object" if structural.values().is_some() => limit(structural.limits.max_properties),
        "array" => limit(structural.limits.max_items),
        _ => Some(1),
    }
}

fn too_expensive(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

/// The rule as Go shows its struct.
fn shown(rule: &Rule) -> String {
    let text = |text: &str| String::from_utf8(encode::any(&text.into())).unwrap_or_default();
    let reason = if rule.reason.is_empty() { "null".to_owned() } else { text(&rule.reason) };
    let optional = rule.optional_old_self.map_or("null".to_owned(), |optional| optional.to_string());
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{reason},\"FieldPath\":{},\
         \"OptionalOldSelf\":{optional}}}",
        text(&rule.rule),
        text(&rule.message),
        text(&rule.message_expression),
        text(&rule.field_path)
    )
}
