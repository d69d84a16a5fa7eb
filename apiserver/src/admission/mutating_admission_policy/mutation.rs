//! One mutation: an expression whose value is a JSON patch, or a configuration that is laid over the object. Pure.

use crds::cel::{self, Env, OBJECT_LIMIT, Object, Value};
use k8s_openapi::api::admissionregistration::v1::Mutation as Given;
use serde_json::{Value as Json, json};

use super::Invocation;
use crate::{
    admission::expression::{Expression, Input, Run},
    apply,
    codec::{decode, typed},
    error::ApiError,
    patch,
};

pub enum Mutation {
    Apply(Expression),
    Json(Expression),
}

/// Why an object stays as it is.
pub enum Failed {
    /// The policy's failure policy decides.
    Evaluation(String),
    /// The request ends.
    Request(ApiError),
}

impl Mutation {
    /// None for a type that is not known.
    pub fn new(env: &Env, given: Given) -> Option<Self> {
        match given.patch_type.as_str() {
            "ApplyConfiguration" => {
                let source = given.apply_configuration?.expression.unwrap_or_default();
                Some(Self::Apply(Expression::new(env, &source)))
            }
            "JSONPatch" => Some(Self::Json(Expression::new(env, &given.json_patch?.expression.unwrap_or_default()))),
            _ => None,
        }
    }

    /// The object after it.
    pub fn mutated(
        &self,
        input: &Input,
        invocation: &Invocation,
        authorizer: &cel::Authorizer,
    ) -> Result<Json, Failed> {
        let (Self::Apply(expression) | Self::Json(expression)) = self;
        if let Some(why) = expression.broken() {
            return Err(Failed::Evaluation(why.to_owned()));
        }
        let object = input.object.clone().unwrap_or_default();
        let bindings = input.bindings(invocation.params.as_ref(), Some(authorizer));
        let mut run = Run::new(bindings, &invocation.mutating.policy.named, OBJECT_LIMIT);
        let value = run.evaluate(expression).map_err(|over| Failed::Evaluation(over.to_string()))?;
        let value = value.map_err(Failed::Evaluation)?;
        match self {
            Self::Apply(_) => applied(object, &value, invocation),
            Self::Json(_) => patched(object, &value, invocation),
        }
    }
}

fn mismatch(why: impl std::fmt::Display) -> Failed {
    Failed::Evaluation(format!("type mismatch: {why}"))
}

/// Objects that an expression makes are named after the fields that they stand in.
fn check_names(value: &Value<'_>, path: &str, wrong: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            if *object.name != *path {
                wrong.push(format!(
                    "unexpected type name {:?}, expected {path:?}, which matches field name path from root Object type",
                    &*object.name
                ));
            }
            for (name, field) in &object.fields {
                check_names(field, &format!("{path}.{name}"), wrong);
            }
        }
        Value::List(items) => items.iter().flatten().for_each(|item| check_names(&item, path, wrong)),
        Value::Map(map) => {
            map.iter().filter_map(|(_, item)| item.ok()).for_each(|item| check_names(&item, path, wrong))
        }
        Value::Optional(Some(inner)) => check_names(inner, path, wrong),
        _ => {}
    }
}

fn checked(object: &Object<'_>) -> Result<(), Failed> {
    let mut wrong = Vec::new();
    for (name, field) in &object.fields {
        check_names(field, &format!("{}.{name}", object.name), &mut wrong);
    }
    if wrong.is_empty() { Ok(()) } else { Err(mismatch(wrong.join("\n"))) }
}

fn applied(object: Json, value: &Value<'_>, invocation: &Invocation) -> Result<Json, Failed> {
    let Value::Object(made) = value else {
        let name = value.type_of().name().to_owned();
        return Err(Failed::Evaluation(format!("unsupported return type from ApplyConfiguration expression: {name}")));
    };
    checked(made)?;
    let kind = &invocation.matched.kind;
    let mut configuration = value.to_json().map_err(|why| Failed::Evaluation(why.to_string()))?;
    configuration["apiVersion"] = kind.api_version().into();
    configuration["kind"] = kind.kind.as_ref().into();
    let Some((schema, ty)) = typed::type_of(kind) else {
        let why = format!(
            "Resource kind {}, Kind={} not found. There can be a delay between when CustomResourceDefinitions are \
             created and when they are available.",
            kind.api_version(),
            kind.kind
        );
        return Err(Failed::Request(ApiError::unavailable(why)));
    };
    let failed = |why: String| Failed::Evaluation(format!("error applying patch: {why}"));
    let laid = apply::lay_over(schema, ty, &object, &configuration).map_err(failed)?;
    let decoded = decode::value(&laid, kind).map_err(|why| Failed::Request(ApiError::internal(why)))?;
    Ok(decoded.0)
}

fn patched(object: Json, value: &Value<'_>, invocation: &Invocation) -> Result<Json, Failed> {
    let Value::List(operations) = value else {
        return Err(mismatch("JSONPatchType.expression should evaluate to array"));
    };
    let mut patch = Vec::with_capacity(operations.len());
    for operation in operations.iter() {
        let operation = operation.map_err(|why| Failed::Evaluation(why.to_string()))?;
        let Value::Object(operation) = &operation else {
            return Err(mismatch("JSONPatchType.expression should evaluate to array of JSONPatch"));
        };
        patch.push(operation_of(operation)?);
    }
    match patch::operations(object.clone(), &Json::Array(patch)) {
        Ok(patched) => {
            let decoded = decode::value(&patched, &invocation.matched.kind);
            let internal = |why: String| Failed::Request(ApiError::internal(why));
            let (object, unknown) = decoded.map_err(internal)?;
            match unknown.as_slice() {
                [] => Ok(object),
                unknown => Err(internal(format!("strict decoding error: {}", unknown.join(", ")))),
            }
        }
        // A test that fails says that the patch is not for this object.
        Err(why) if why.ends_with(": test failed") => Ok(object),
        Err(why) => Err(Failed::Evaluation(format!("JSON Patch: {why}"))),
    }
}

fn operation_of(operation: &Object<'_>) -> Result<Json, Failed> {
    let text = |name: &str| operation.field(name).and_then(Value::as_str).unwrap_or_default();
    let mut made = json!({"op": text("op"), "path": text("path")});
    if !text("from").is_empty() {
        made["from"] = text("from").into();
    }
    if let Some(value) = operation.field("value") {
        if let Value::Object(object) = value {
            checked(object)?;
        }
        let json = value.to_json().map_err(|why| {
            let what = "JSONPath valueExpression evaluated to a type that could not marshal to JSON";
            Failed::Evaluation(format!("{what}: {why}"))
        })?;
        made["value"] = json;
    }
    Ok(made)
}
