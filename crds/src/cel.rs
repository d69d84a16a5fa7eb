//! The Common Expression Language as Kubernetes speaks it: rules of custom resources, admission policies, match
//! conditions, device selectors.
//!
//! An [`Env`] knows the functions of Kubernetes' environment and the variables that its owner declares. It compiles an
//! expression to a [`Program`], or says what is wrong with it, word for word as cel-go does. A program is evaluated
//! with [`Bindings`] and a limit of cost, as often as wanted, from any thread.
//!
//! - **Rules of custom resources**: `schema::declared(&schema, "selfType", is_resource_root)` makes the [`Decl`] of
//!   `self`; `Env::new().declared("self", &decl).declared("oldSelf", &decl)`, or for `optionalOldSelf`
//!   `.variable("oldSelf", Type::optional(decl.ty().clone()))`. Values are bound with `Value::typed(&json, &decl)`,
//!   the old one with `Value::some(…)` or `Value::Optional(None)` then. `program.uses("oldSelf")` says whether a rule is
//!   a transition rule; `program.estimate(Some(&decl)).max` what it may cost at the registration of the resource.
//! - **Admission policies and match conditions**: `admission::env(has_params, has_authorizer)`; the object is dynamic:
//!   `Value::json(&object)`. For the check of types against a schema, declare `object` with the `Decl` of
//!   `schema::with_references`. [`Variables`] evaluates a policy's `variables` when they are first used.
//!   `.patches()` adds `Object{…}`, `JSONPatch{…}` and `jsonpatch.escapeKey`.
//! - **Device selectors**: `device::env()`, and `device::value` for the device.
//!
//! Costs are cel-go's with Kubernetes' estimates: what is spent here is what upstream would have spent.

pub mod admission;
mod ast;
mod check;
mod cost;
mod decl;
pub mod device;
mod equality;
mod escape;
mod eval;
mod issue;
mod lexer;
pub(crate) mod library;
mod list;
mod macros;
mod map;
mod number;
mod parser;
mod plan;
pub mod schema;
mod spent;
mod stack;
mod time;
mod typing;
mod validate;
mod value;
mod variables;

use std::{collections::HashMap, sync::Arc};

pub(crate) use self::escape::is_reserved;
use self::{ast::Checked, library::Functions};
pub use self::{
    cost::Estimate,
    decl::{Decl, ListType, Scalar},
    escape::{escape, unescape},
    issue::{Issue, Issues},
    library::{
        authorizer::{Authorize, Authorizer, Decision, Question, Resource, Target},
        semver::Semver,
    },
    list::List,
    map::{Key, Map},
    time::Moment,
    typing::Type,
    value::{EvalError, Object, Outcome, Text, Value},
    variables::{Lookup, Variables},
};

/// The most that one evaluation of an expression may cost.
pub const CALL_LIMIT: u64 = 1_000_000;
/// The most that all rules of one custom resource, or all expressions of one policy's binding, may cost together.
pub const OBJECT_LIMIT: u64 = 10_000_000;
/// The most that all match conditions of one webhook or policy may cost together.
pub const MATCH_LIMIT: u64 = 2_500_000;
/// The most characters of an expression.
pub const SOURCE_LIMIT: usize = 100_000;

/// What an expression may name: functions, variables, types with fields.
#[derive(Clone)]
pub struct Env {
    functions: Arc<Functions>,
    variables: HashMap<Arc<str>, Type>,
    objects: HashMap<Arc<str>, Arc<Decl>>,
    bind_macro: bool,
    patch_types: bool,
}

impl Default for Env {
    fn default() -> Self {
        Self::new()
    }
}

impl Env {
    /// The environment of Kubernetes v1.36, without variables.
    pub fn new() -> Self {
        Self {
            functions: Arc::new(library::base().clone()),
            variables: HashMap::new(),
            objects: HashMap::new(),
            bind_macro: false,
            patch_types: false,
        }
    }

    /// Declares a variable; names may have dots (`authorizer.requestResource`).
    #[must_use]
    pub fn variable(mut self, name: &str, ty: Type) -> Self {
        self.variables.insert(name.into(), ty);
        self
    }

    /// Declares a variable whose type has fields.
    #[must_use]
    pub fn declared(self, name: &str, decl: &Arc<Decl>) -> Self {
        let ty = decl.ty().clone();
        self.objects(decl).variable(name, ty)
    }

    /// Makes the object types within a declaration known.
    #[must_use]
    pub fn objects(mut self, decl: &Arc<Decl>) -> Self {
        decl.objects(&mut |object| {
            self.objects.insert(object.ty().name().into(), object.clone());
        });
        self
    }

    /// Adds the macro `cel.bind`, which device selectors have.
    #[must_use]
    pub fn bind_macro(mut self) -> Self {
        self.bind_macro = true;
        self
    }

    /// Adds what mutating policies have: `Object{…}`, `JSONPatch{…}` and `jsonpatch.escapeKey`.
    #[must_use]
    pub fn patches(mut self) -> Self {
        self.patch_types = true;
        self.with_functions(library::string::PATCH)
    }

    fn with_functions(mut self, declared: &[library::Declared]) -> Self {
        Arc::make_mut(&mut self.functions).extend(library::gather(&[declared]));
        self
    }

    /// Reads and checks an expression.
    pub fn compile(&self, source: &str) -> Result<Program, Issues> {
        let refused = || {
            let mut issues = Issues::new(source);
            issues.report(None, "no memory to read the expression");
            Err(issues)
        };
        stack::with_room(stack::may_be_deep(source), || self.read(source), refused)
    }

    fn read(&self, source: &str) -> Result<Program, Issues> {
        let parsed = parser::parse(source, self.bind_macro)?;
        let checked = check::check(self, parsed)?;
        validate::validate(&checked)?;
        let plan = plan::plan(self, &checked);
        let deep = checked.root.depth() > DEPTH_HERE;
        Ok(Program { checked, plan, deep })
    }
}

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    checked: Checked,
    /// A constant part may have no value; upstream says so when it makes the program.
    plan: Result<plan::Node, EvalError>,
    deep: bool,
}

/// Trees that are deeper are walked on a stack of their own.
const DEPTH_HERE: usize = 60;

impl Program {
    /// The type of the expression's values.
    pub fn output(&self) -> &Type {
        self.checked.output()
    }

    /// What prevents any evaluation: upstream words it `program instantiation failed: …`.
    pub fn instantiation_error(&self) -> Option<&EvalError> {
        self.plan.as_ref().err()
    }

    /// Whether the expression names this variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.checked.names(variable)
    }

    /// What an evaluation may cost, at least and at most. `root` declares how large the one variable's parts get.
    pub fn estimate(&self, root: Option<&Decl>) -> Estimate {
        let refused = || Estimate { min: 0, max: u64::MAX };
        stack::with_room(self.deep, || cost::estimate(&self.checked, root), refused)
    }

    /// Evaluates the expression; it is stopped when it costs more than `limit`.
    pub fn evaluate<'a>(&self, bindings: &Bindings<'a>, limit: u64) -> Evaluation<'a> {
        match &self.plan {
            Ok(node) => stack::with_room(
                self.deep,
                || eval::evaluate(node, bindings, limit),
                || Evaluation { value: Err(EvalError::new("no memory to evaluate the expression")), cost: 0 },
            ),
            Err(error) => Evaluation { value: Err(error.clone()), cost: 0 },
        }
    }
}

/// What came out of an evaluation, and what it cost.
#[derive(Debug)]
pub struct Evaluation<'a> {
    pub value: Outcome<'a>,
    pub cost: u64,
}

/// The values of variables.
#[derive(Clone, Default)]
pub struct Bindings<'a>(Vec<(Arc<str>, Binding<'a>)>);

#[derive(Clone)]
pub(crate) enum Binding<'a> {
    Value(Outcome<'a>),
    Lookup(Arc<dyn Lookup<'a> + 'a>),
}

impl<'a> Bindings<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds a variable.
    #[must_use]
    pub fn bind(self, name: &str, value: Value<'a>) -> Self {
        self.with(name, Binding::Value(Ok(value)))
    }

    /// Binds a variable to a value or to an error, which fails what uses it.
    #[must_use]
    pub fn bind_outcome(self, name: &str, outcome: Outcome<'a>) -> Self {
        self.with(name, Binding::Value(outcome))
    }

    /// Binds a variable whose fields are found when they are first used.
    #[must_use]
    pub fn bind_lookup(self, name: &str, lookup: Arc<dyn Lookup<'a> + 'a>) -> Self {
        self.with(name, Binding::Lookup(lookup))
    }

    fn with(mut self, name: &str, binding: Binding<'a>) -> Self {
        self.0.retain(|(known, _)| &**known != name);
        self.0.push((name.into(), binding));
        self
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Binding<'a>> {
        self.0.iter().find(|(known, _)| &**known == name).map(|(_, binding)| binding)
    }
}

#[cfg(test)]
mod tests;
