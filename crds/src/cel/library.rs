//! The functions that expressions may call: what they are declared with, and how a call finds its overload.

pub(crate) mod arithmetic;
pub(crate) mod authorizer;
pub(crate) mod collection;
pub(crate) mod comparison;
pub(crate) mod conversion;
pub(crate) mod format;
pub(crate) mod format_string;
pub(crate) mod network;
pub(crate) mod optional;
pub(crate) mod quantity;
pub(crate) mod regex;
pub(crate) mod semver;
pub(crate) mod signature;
pub(crate) mod standard;
pub(crate) mod string;
pub(crate) mod time;
pub(crate) mod url;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use super::{
    typing::Type,
    value::{EvalError, Outcome, Value},
};

/// The implementation of an overload; the receiver comes first.
pub(crate) type Call = for<'a> fn(&[Value<'a>]) -> Outcome<'a>;

/// A function as a library declares it: overloads with id, signature (`receiver.(arguments): result`) and call.
pub(crate) struct Declared {
    name: &'static str,
    overloads: &'static [(&'static str, &'static str, Call)],
    /// Whether the calls themselves tell what they cannot be applied to.
    singleton: bool,
}

impl Declared {
    pub(crate) const fn new(name: &'static str, overloads: &'static [(&'static str, &'static str, Call)]) -> Self {
        Self { name, overloads, singleton: false }
    }

    /// A function that has one implementation for all overloads.
    pub(crate) const fn singleton(
        name: &'static str,
        overloads: &'static [(&'static str, &'static str, Call)],
    ) -> Self {
        Self { name, overloads, singleton: true }
    }
}

pub(crate) struct Overload {
    pub(crate) id: &'static str,
    /// Whether the first argument is the receiver.
    pub(crate) member: bool,
    pub(crate) arguments: Vec<Type>,
    pub(crate) result: Type,
    call: Call,
}

pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) overloads: Vec<Overload>,
    singleton: bool,
}

impl Function {
    /// Calls the one overload that the checker found, or the first that fits the values.
    pub(crate) fn call<'a>(&self, overload: Option<&str>, arguments: &[Value<'a>]) -> Outcome<'a> {
        let chosen = overload.and_then(|id| self.overloads.iter().find(|overload| overload.id == id));
        if self.singleton {
            return chosen
                .or(self.overloads.first())
                .map_or_else(|| Err(EvalError::no_such_overload()), |overload| (overload.call)(arguments));
        }
        let fits = |overload: &&Overload| {
            overload.arguments.len() == arguments.len()
                && overload.arguments.iter().zip(arguments).all(|(ty, value)| fits_value(ty, value))
        };
        let found = match chosen {
            Some(chosen) => Some(chosen).filter(fits),
            None => self.overloads.iter().find(fits),
        };
        found.map_or_else(|| Err(self.mismatch(arguments)), |overload| (overload.call)(arguments))
    }

    fn mismatch(&self, arguments: &[Value<'_>]) -> EvalError {
        let types: Vec<_> = arguments.iter().map(|value| value.type_of().name().to_owned()).collect();
        EvalError::new(format!("no such overload: {}({})", self.name, types.join(", ")))
    }
}

/// Whether a value may stand for an argument; of lists and maps the first entry tells.
fn fits_value(ty: &Type, value: &Value<'_>) -> bool {
    match (ty, value) {
        (Type::Dyn | Type::Any | Type::Param(_), _) => true,
        (Type::List(item), Value::List(list)) => {
            list.get(0).is_none_or(|first| first.is_ok_and(|first| fits_value(item, &first)))
        }
        (Type::Map(pair), Value::Map(map)) => map
            .iter()
            .next()
            .is_none_or(|(key, value)| fits_value(&pair.0, &key) && value.is_ok_and(|v| fits_value(&pair.1, &v))),
        (ty, value) => ty.name() == value.type_of().name(),
    }
}

pub(crate) type Functions = HashMap<&'static str, Arc<Function>>;

fn add(functions: &mut HashMap<&'static str, Function>, declared: &[Declared]) {
    for Declared { name, overloads, singleton } in declared {
        let function =
            functions.entry(name).or_insert_with(|| Function { name, overloads: Vec::new(), singleton: *singleton });
        for (id, signature, call) in *overloads {
            let (member, arguments, result) = signature::read(signature);
            function.overloads.push(Overload { id, member, arguments, result, call: *call });
        }
    }
}

/// The functions of every environment of Kubernetes.
pub(crate) fn base() -> &'static Functions {
    static BASE: LazyLock<Functions> = LazyLock::new(|| {
        gather(&[
            standard::FUNCTIONS,
            arithmetic::FUNCTIONS,
            comparison::FUNCTIONS,
            conversion::FUNCTIONS,
            time::FUNCTIONS,
            string::FUNCTIONS,
            collection::FUNCTIONS,
            regex::FUNCTIONS,
            url::FUNCTIONS,
            quantity::FUNCTIONS,
            network::FUNCTIONS,
            format::FUNCTIONS,
            semver::FUNCTIONS,
            authorizer::FUNCTIONS,
            optional::FUNCTIONS,
        ])
    });
    &BASE
}

pub(crate) fn gather(libraries: &[&[Declared]]) -> Functions {
    let mut functions = HashMap::new();
    for library in libraries {
        add(&mut functions, library);
    }
    functions.into_iter().map(|(name, function)| (name, Arc::new(function))).collect()
}

/// The text of an argument that has to be one.
pub(crate) fn text<'v>(value: &'v Value<'_>) -> Result<&'v str, EvalError> {
    value.as_str().ok_or_else(EvalError::no_such_overload)
}
