//! Expressions against declared types: pure.

use std::sync::Arc;

use crds::cel::{Decl, Env, Type, admission, schema};
use k8s_openapi::api::admissionregistration::v1::{ExpressionWarning, ValidatingAdmissionPolicySpec};
use serde_json::Value;

/// A kind and its declared type.
#[derive(Clone, Debug)]
pub struct Known {
    /// `apps/v1, Kind=Deployment`
    name: String,
    decl: Arc<Decl>,
}

impl Known {
    /// From an OpenAPI v3 document of the group and version.
    pub fn read((group, version, kind): &(String, String, String), document: &Value) -> Option<Self> {
        let schemas = document.pointer("/components/schemas")?.as_object()?;
        let is_kind = |schema: &&Value| {
            let named = schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten();
            named.into_iter().any(|gvk| {
                gvk["group"] == group.as_str() && gvk["version"] == version.as_str() && gvk["kind"] == kind.as_str()
            })
        };
        let found = schemas.values().find(is_kind)?;
        let resolve = |reference: &str| schemas.get(reference.rsplit('/').next()?).cloned();
        let decl = Arc::new(schema::with_references(found, kind, true, &resolve)?);
        let version = if group.is_empty() { format!("/{version}") } else { format!("{group}/{version}") };
        Some(Self { name: format!("{version}, Kind={kind}"), decl })
    }
}

/// What is wrong with a policy's validations for each of the types.
pub fn check(spec: &ValidatingAdmissionPolicySpec, types: &[Known], params: Option<&Known>) -> Vec<ExpressionWarning> {
    let mut warnings = Vec::new();
    for (at, validation) in spec.validations.iter().flatten().enumerate() {
        let message = validation.message_expression.as_deref().filter(|source| !source.is_empty());
        let expressions = [("expression", Some(validation.expression.as_str())), ("messageExpression", message)];
        for (field, source) in expressions {
            let Some(source) = source else { continue };
            let told: Vec<String> = types.iter().filter_map(|known| wrong(spec, source, known, params)).collect();
            if !told.is_empty() {
                let field_ref = format!("spec.validations[{at}].{field}");
                warnings.push(ExpressionWarning { field_ref, warning: told.join("\n") });
            }
        }
    }
    warnings
}

fn wrong(spec: &ValidatingAdmissionPolicySpec, source: &str, known: &Known, params: Option<&Known>) -> Option<String> {
    let mut plain = admission::env(spec.param_kind.is_some(), true)
        .declared("object", &known.decl)
        .declared("oldObject", &known.decl);
    if let Some(params) = params {
        plain = plain.declared("params", &params.decl);
    }
    let mut declared: Vec<(String, Type)> = Vec::new();
    for variable in spec.variables.iter().flatten() {
        let env = with(&plain, &declared);
        let ty = env.compile(&variable.expression).map_or(Type::Dyn, |program| program.output().clone());
        declared.push((variable.name.clone(), ty));
    }
    let issues = with(&plain, &declared).compile(source).err()?;
    Some(format!("{}: compilation failed: {issues}\n", known.name))
}

fn with(env: &Env, variables: &[(String, Type)]) -> Env {
    if variables.is_empty() { env.clone() } else { admission::with_variables(env.clone(), variables) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_that_are_not_there() {
        let document = json!({"components": {"schemas": {
            "x.Deployment": {
                "type": "object",
                "properties": {"spec": {"$ref": "#/components/schemas/x.Spec"}},
                "x-kubernetes-group-version-kind": [{"group": "apps", "version": "v1", "kind": "Deployment"}],
            },
            "x.Spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
        }}});
        let gvk = ("apps".to_owned(), "v1".to_owned(), "Deployment".to_owned());
        let known = Known::read(&gvk, &document).unwrap();
        let spec = |expression: &str| ValidatingAdmissionPolicySpec {
            validations: Some(vec![serde_json::from_value(json!({ "expression": expression })).unwrap()]),
            ..Default::default()
        };
        assert!(check(&spec("object.spec.replicas > 1"), std::slice::from_ref(&known), None).is_empty());
        let warnings = check(&spec("object.spec.maxReplicas > 1"), &[known], None);
        assert_eq!(warnings[0].field_ref, "spec.validations[0].expression");
        let words = &warnings[0].warning;
        let begin = "apps/v1, Kind=Deployment: compilation failed: ERROR: <input>:1:12: undefined field 'maxReplicas'";
        assert!(words.starts_with(begin), "{words}");
    }
}
