//! The variables of an admission policy: each an expression, evaluated when it is first used, and once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::{Bindings, CALL_LIMIT, Program, value::Outcome};

/// Fields that are found when an expression asks for them.
pub trait Lookup<'a>: Send + Sync {
    /// The value; `None` if there is no such field.
    fn find(&self, name: &str) -> Option<Outcome<'a>>;

    /// Whether there is such a field.
    fn has(&self, name: &str) -> bool;
}

/// The values of a policy's variables for one object.
pub struct Variables<'a> {
    programs: Vec<(Arc<str>, Arc<Program>)>,
    bindings: Bindings<'a>,
    state: Mutex<State<'a>>,
    itself: Weak<Self>,
}

#[derive(Default)]
struct State<'a> {
    found: HashMap<Arc<str>, Outcome<'a>>,
    cost: u64,
}

impl<'a> Variables<'a> {
    /// Variables in the order of their declaration, each of which may use those before it; `bindings` are those of
    /// the policy's expressions. Bind the result with `bindings.bind_lookup("variables", variables.clone())`.
    pub fn new(programs: Vec<(Arc<str>, Arc<Program>)>, bindings: Bindings<'a>) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self { programs, bindings, state: Mutex::default(), itself: itself.clone() })
    }

    /// What all variables evaluated so far cost.
    pub fn cost(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).cost
    }
}

impl<'a> Lookup<'a> for Variables<'a> {
    fn find(&self, name: &str) -> Option<Outcome<'a>> {
        let (name, program) = self.programs.iter().find(|(known, _)| &**known == name)?;
        if let Some(found) = self.state.lock().unwrap_or_else(PoisonError::into_inner).found.get(name) {
            return Some(found.clone());
        }
        // The lock is not held here: the variable may use others.
        let bindings = match self.itself.upgrade() {
            Some(itself) => self.bindings.clone().bind_lookup("variables", itself),
            None => self.bindings.clone(),
        };
        let evaluation = program.evaluate(&bindings, CALL_LIMIT);
        let failed = |error| super::EvalError::new(format!("composited variable {name:?} fails to evaluate: {error}"));
        let value = evaluation.value.map_err(failed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.cost = state.cost.saturating_add(evaluation.cost);
        state.found.insert(name.clone(), value.clone());
        Some(value)
    }

    fn has(&self, name: &str) -> bool {
        self.programs.iter().any(|(known, _)| &**known == name)
    }
}
