//! Expressions about requests: compiled once, and evaluated with what a request has, within a budget.

use std::sync::Arc;

use crds::cel::{Bindings, CALL_LIMIT, Env, Program, Type, Value, Variables, admission};
use k8s_openapi::api::admissionregistration::v1::{MatchCondition, Variable};

mod input;
mod on_behalf;

pub use input::{Input, authorizer};

/// An expression that was compiled, or why it could not be.
#[derive(Clone, Debug)]
pub struct Expression {
    source: Arc<str>,
    program: Result<Arc<Program>, String>,
}

impl Expression {
    pub fn new(env: &Env, source: &str) -> Self {
        let program = match env.compile(source) {
            Ok(program) => match program.instantiation_error() {
                Some(why) => Err(format!("program instantiation failed: {why}")),
                None => Ok(Arc::new(program)),
            },
            Err(issues) => Err(format!("compilation failed: {issues}")),
        };
        Self { source: source.into(), program }
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// Why it could not be compiled.
    pub fn broken(&self) -> Option<&str> {
        self.program.as_ref().err().map(String::as_str)
    }
}

/// What a policy names once and uses often.
#[derive(Clone, Debug, Default)]
pub struct Named {
    programs: Vec<(Arc<str>, Arc<Program>)>,
    types: Vec<(String, Type)>,
}

impl Named {
    /// Each variable may use those before it.
    pub fn new(env: &Env, variables: &[Variable]) -> Self {
        let mut named = Self::default();
        for variable in variables {
            let expression = Expression::new(&named.known_to(env.clone()), &variable.expression);
            let Ok(program) = expression.program else { continue };
            named.types.push((variable.name.clone(), program.output().clone()));
            named.programs.push((variable.name.as_str().into(), program));
        }
        named
    }

    /// The environment with all variables.
    pub fn known_to(&self, env: Env) -> Env {
        admission::with_variables(env, &self.types)
    }
}

/// Why no further expression is evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverBudget;

impl std::fmt::Display for OverBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("validation failed due to running out of cost budget, no further validation rules will be run")
    }
}

/// One run of expressions over one input: variables are evaluated once in it, and all share its budget.
pub struct Run<'a> {
    bindings: Bindings<'a>,
    variables: Option<Arc<Variables<'a>>>,
    /// Of the variables, so far.
    spent: u64,
    budget: u64,
}

impl<'a> Run<'a> {
    pub fn new(bindings: Bindings<'a>, named: &Named, budget: u64) -> Self {
        if named.programs.is_empty() {
            return Self { bindings, variables: None, spent: 0, budget };
        }
        let variables = Variables::new(named.programs.clone(), bindings.clone());
        let bindings = bindings.bind_lookup("variables", variables.clone());
        Self { bindings, variables: Some(variables), spent: 0, budget }
    }

    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// The value, or what upstream says of an expression that has none.
    pub fn evaluate(&mut self, expression: &Expression) -> Result<Result<Value<'a>, String>, OverBudget> {
        let program = match &expression.program {
            Ok(program) => program,
            Err(why) => return Ok(Err(format!("compilation error: {why}"))),
        };
        let evaluation = program.evaluate(&self.bindings, CALL_LIMIT);
        let variables = self.variables.as_ref().map_or(0, |variables| variables.cost());
        let cost = evaluation.cost.saturating_add(variables - self.spent);
        self.spent = variables;
        self.budget = self.budget.checked_sub(cost).ok_or(OverBudget)?;
        Ok(evaluation.value.map_err(|why| format!("expression '{}' resulted in error: {why}", expression.source)))
    }
}

/// Conditions that must all hold, or something is not called at all.
#[derive(Clone, Debug, Default)]
pub struct Conditions(Vec<Expression>);

impl Conditions {
    pub fn new(env: &Env, conditions: &[MatchCondition]) -> Self {
        Self(conditions.iter().map(|condition| Expression::new(env, &condition.expression)).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that is false decides, whatever is wrong with others; else errors are told, unless they are
    /// ignored, which is as if a condition were false.
    pub fn hold(&self, run: &mut Run<'_>, ignores_errors: bool) -> Result<bool, String> {
        let mut errors = Vec::new();
        let mut outcomes = Vec::new();
        for condition in &self.0 {
            match run.evaluate(condition) {
                Ok(outcome) => outcomes.push(outcome),
                Err(_) if ignores_errors => return Ok(false),
                Err(over) => return Err(over.to_string()),
            }
        }
        for outcome in outcomes {
            match outcome {
                Ok(value) if value.as_bool() == Some(false) => return Ok(false),
                Ok(_) => {}
                Err(why) => errors.push(why),
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            _ if ignores_errors => Ok(false),
            errors => Err(crate::authorize::aggregate(errors)),
        }
    }
}
