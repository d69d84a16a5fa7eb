//! Whether expressions of policies and webhooks compile, and to what.

use std::sync::LazyLock;

use k8s_openapi::api::admissionregistration::v1::Variable;

use crate::{
    cel::{Env, Type, admission},
    field::{Error, Errors, Path},
};

/// What the expressions of one policy may name.
pub struct Scope {
    has_params: bool,
    /// The variables that were declared so far; none where there can be no variables.
    variables: Option<Vec<(String, Type)>>,
}

static BOOL: [Type; 1] = [Type::Bool];
static TEXT: [Type; 1] = [Type::String];
static TEXT_OR_NULL: [Type; 2] = [Type::String, Type::Null];
static CONFIGURATION: LazyLock<[Type; 1]> = LazyLock::new(|| [Type::object("Object")]);
static PATCHES: LazyLock<[Type; 1]> = LazyLock::new(|| [Type::list(Type::object("JSONPatch"))]);

impl Scope {
    /// Without variables, as match conditions are.
    pub const fn plain(has_params: bool) -> Self {
        Self { has_params, variables: None }
    }

    pub const fn with_variables(has_params: bool) -> Self {
        Self { has_params, variables: Some(Vec::new()) }
    }

    fn env(&self, has_authorizer: bool) -> Env {
        let env = admission::env(self.has_params, has_authorizer);
        match &self.variables {
            Some(variables) => admission::with_variables(env, variables),
            None => env,
        }
    }

    /// A variable is known to what comes after it, whatever is wrong with it.
    pub fn declare(&mut self, variable: &Variable, path: &Path, errors: &mut Errors) {
        let ty = compiled(&self.env(true), &variable.expression, &variable.expression, &[], path, errors);
        if let Some(variables) = &mut self.variables {
            variables.push((variable.name.clone(), ty.unwrap_or(Type::Dyn)));
        }
    }

    pub fn condition(&self, source: &str, path: &Path, errors: &mut Errors) {
        compiled(&self.env(true), source, source, &BOOL, path, errors);
    }

    pub fn message(&self, source: &str, path: &Path, errors: &mut Errors) {
        compiled(&self.env(false), source, source, &TEXT, path, errors);
    }

    /// `shown` is the source as it was written.
    pub fn annotation(&self, source: &str, shown: &str, path: &Path, errors: &mut Errors) {
        compiled(&self.env(true), source, shown, &TEXT_OR_NULL, path, errors);
    }

    pub fn configuration(&self, source: &str, path: &Path, errors: &mut Errors) {
        compiled(&self.env(true).patches(), source, source.trim(), &*CONFIGURATION, path, errors);
    }

    pub fn patches(&self, source: &str, path: &Path, errors: &mut Errors) {
        compiled(&self.env(true).patches(), source, source.trim(), &*PATCHES, path, errors);
    }
}

/// The type of an expression's values, which must be one of those that are wanted (none: any).
fn compiled(env: &Env, source: &str, shown: &str, wanted: &[Type], path: &Path, errors: &mut Errors) -> Option<Type> {
    let mut refuse = |why: String| errors.push(Error::invalid(*path, shown, why));
    let program = match env.compile(source) {
        Ok(program) => program,
        Err(issues) => {
            refuse(format!("compilation failed: {issues}"));
            return None;
        }
    };
    let ty = program.output().clone();
    if !wanted.is_empty() && !wanted.contains(&ty) {
        match wanted {
            [one] => refuse(format!("must evaluate to {one} but got {ty}")),
            several => {
                let several: Vec<String> = several.iter().map(ToString::to_string).collect();
                refuse(format!("must evaluate to one of [{}] but got {ty}", several.join(" ")));
            }
        }
        return None;
    }
    if let Some(why) = program.instantiation_error() {
        errors.push(Error::internal(*path, format!("program instantiation failed: {why}")));
        return None;
    }
    Some(ty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(check: impl FnOnce(&Scope, &Path, &mut Errors)) -> Vec<String> {
        let mut scope = Scope::with_variables(false);
        let mut errors = Errors::new();
        let variable = Variable { name: "n".into(), expression: "object.x.size()".into() };
        scope.declare(&variable, &Path::new("variables"), &mut errors);
        check(&scope, &Path::new("e"), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn types_of_expressions() {
        assert!(told(|s, p, e| s.condition("variables.n > 1 && has(object.y)", p, e)).is_empty());
        assert!(told(|s, p, e| s.patches("[JSONPatch{op: 'remove', path: '/x'}]", p, e)).is_empty());
        let words = "e: Invalid value: \"1\": must evaluate to bool but got int";
        assert_eq!(told(|s, p, e| s.condition("1", p, e)), [words]);
        let words = "e: Invalid value: \"1\": must evaluate to one of [string null_type] but got int";
        assert_eq!(told(|s, p, e| s.annotation("1", "1", p, e)), [words]);
        let words = "e: Invalid value: \"'x'\": must evaluate to list(JSONPatch) but got string";
        assert_eq!(told(|s, p, e| s.patches("'x'", p, e)), [words]);
        assert_eq!(told(|s, p, e| s.message("authorizer.path('x').check('y').reason()", p, e)).len(), 1);
    }
}
