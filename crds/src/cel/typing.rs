//! The types of expressions, how they are written in messages, and which value may stand where.

use std::{collections::HashMap, fmt, sync::Arc};

/// A type of the expression language.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Checked only at evaluation.
    Dyn,
    /// As `Dyn`, by its other name.
    Any,
    /// The type of an expression that is wrong; it fits everything, so that one mistake is told once.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    /// An object with declared fields, by its name.
    Object(Arc<str>),
    /// A type known by its name and parameters alone: `optional_type(int)`, `net.IP`.
    Opaque(Arc<str>, Arc<[Type]>),
    /// The type of a type.
    Type(Option<Arc<Type>>),
    /// A parameter of a function's signature, or one that is to be found.
    Param(Arc<str>),
}

const OPTIONAL: &str = "optional_type";

impl Type {
    pub fn list(item: Self) -> Self {
        Self::List(Arc::new(item))
    }

    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    pub fn object(name: &str) -> Self {
        Self::Object(name.into())
    }

    pub fn opaque(name: &str) -> Self {
        Self::Opaque(name.into(), Arc::new([]))
    }

    pub fn optional(of: Self) -> Self {
        Self::Opaque(OPTIONAL.into(), Arc::new([of]))
    }

    pub fn type_of(of: Self) -> Self {
        Self::Type(Some(Arc::new(of)))
    }

    pub fn param(name: &str) -> Self {
        Self::Param(name.into())
    }

    /// What an optional holds.
    pub(crate) fn unwrapped(&self) -> Option<&Self> {
        match self {
            Self::Opaque(name, parameters) if &**name == OPTIONAL => parameters.first(),
            _ => None,
        }
    }

    pub(crate) const fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn | Self::Any)
    }

    pub(crate) const fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Any | Self::Error)
    }

    /// The name that values of this type carry.
    pub fn name(&self) -> &str {
        match self {
            Self::Dyn => "dyn",
            Self::Any => "google.protobuf.Any",
            Self::Error => "error",
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::Duration => "google.protobuf.Duration",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Object(name) | Self::Opaque(name, _) | Self::Param(name) => name,
            Self::Type(_) => "type",
        }
    }

    /// The form that the checker's messages use.
    pub(crate) fn written(&self) -> String {
        match self {
            Self::Any => "any".to_owned(),
            Self::Error => "!error!".to_owned(),
            Self::Null => "null".to_owned(),
            Self::Timestamp => "timestamp".to_owned(),
            Self::Duration => "duration".to_owned(),
            Self::List(item) => format!("list({})", item.written()),
            Self::Map(pair) => format!("map({}, {})", pair.0.written(), pair.1.written()),
            Self::Type(Some(of)) => format!("type({})", of.written()),
            Self::Opaque(name, parameters) if !parameters.is_empty() => {
                let parameters: Vec<_> = parameters.iter().map(Self::written).collect();
                format!("{name}({})", parameters.join(", "))
            }
            other => other.name().to_owned(),
        }
    }

    fn mentions(&self, visit: &mut impl FnMut(&Self) -> bool) -> bool {
        match self {
            Self::List(item) => visit(item),
            Self::Map(pair) => visit(&pair.0) || visit(&pair.1),
            Self::Opaque(_, parameters) => parameters.iter().any(visit),
            Self::Type(Some(of)) => visit(of),
            _ => false,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(item) => write!(f, "list({item})"),
            Self::Map(pair) => write!(f, "map({}, {})", pair.0, pair.1),
            Self::Type(Some(of)) => write!(f, "type({of})"),
            Self::Opaque(name, parameters) if !parameters.is_empty() => {
                write!(f, "{name}(")?;
                for (i, parameter) in parameters.iter().enumerate() {
                    write!(f, "{}{parameter}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
            other => f.write_str(other.name()),
        }
    }
}

/// What the parameters met so far stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Substitution(HashMap<Arc<str>, Type>);

impl Substitution {
    pub(crate) fn add(&mut self, parameter: &str, ty: Type) {
        self.0.insert(parameter.into(), ty);
    }

    fn find(&self, ty: &Type) -> Option<&Type> {
        match ty {
            Type::Param(name) => self.0.get(name),
            _ => None,
        }
    }

    /// The type with everything known put in; with `to_dyn`, what is unknown becomes `dyn`.
    pub(crate) fn apply(&self, ty: &Type, to_dyn: bool) -> Type {
        if let Some(found) = self.find(ty) {
            return self.apply(found, to_dyn);
        }
        match ty {
            Type::Param(_) if to_dyn => Type::Dyn,
            Type::List(item) => Type::list(self.apply(item, to_dyn)),
            Type::Map(pair) => Type::map(self.apply(&pair.0, to_dyn), self.apply(&pair.1, to_dyn)),
            Type::Opaque(name, parameters) => {
                Type::Opaque(name.clone(), parameters.iter().map(|p| self.apply(p, to_dyn)).collect())
            }
            Type::Type(Some(of)) => Type::type_of(self.apply(of, to_dyn)),
            other => other.clone(),
        }
    }

    /// Whether a value of the one type may stand for the other; learns about parameters only if so.
    pub(crate) fn assignable(&mut self, to: &Type, from: &Type) -> bool {
        self.assignable_all(std::slice::from_ref(to), std::slice::from_ref(from))
    }

    pub(crate) fn assignable_all(&mut self, to: &[Type], from: &[Type]) -> bool {
        let mut trial = self.clone();
        let fits = trial.fits_all(to, from);
        if fits {
            *self = trial;
        }
        fits
    }

    fn fits_all(&mut self, one: &[Type], other: &[Type]) -> bool {
        one.len() == other.len() && one.iter().zip(other).all(|(a, b)| self.fits(a, b))
    }

    fn fits(&mut self, one: &Type, other: &Type) -> bool {
        if matches!(other, Type::Param(_)) {
            let (valid, known) = self.substitutes(one, other);
            if valid || known {
                return valid;
            }
        }
        if matches!(one, Type::Param(_)) {
            return self.substitutes(other, one).0;
        }
        if one.is_dyn_or_error() || other.is_dyn_or_error() {
            return true;
        }
        match (one, other) {
            (Type::Null, t) | (t, Type::Null) => {
                matches!(t, Type::Null | Type::Opaque(..) | Type::Object(_) | Type::Duration | Type::Timestamp)
            }
            (Type::List(a), Type::List(b)) => self.fits(a, b),
            (Type::Map(a), Type::Map(b)) => self.fits(&a.0, &b.0) && self.fits(&a.1, &b.1),
            (Type::Opaque(a, p), Type::Opaque(b, q)) => a == b && self.fits_all(p, q),
            (Type::Type(_), Type::Type(_)) => true,
            _ => one == other,
        }
    }

    /// Whether `parameter` may stand for `ty`, and whether it already stood for something.
    fn substitutes(&mut self, ty: &Type, parameter: &Type) -> (bool, bool) {
        if ty == parameter {
            return (true, true);
        }
        let Type::Param(name) = parameter else {
            return (false, false);
        };
        if let Some(known) = self.find(parameter).cloned() {
            if *ty == known {
                return (true, true);
            }
            if !self.fits(ty, &known) {
                return (false, true);
            }
            let general = most_general(ty, &known).clone();
            if self.free_of(parameter, &general) {
                self.add(name, general);
            }
            return (true, true);
        }
        if self.free_of(parameter, ty) {
            self.add(name, ty.clone());
            return (true, false);
        }
        (false, false)
    }

    /// Whether the parameter does not occur in the type; it would stand for itself otherwise.
    fn free_of(&self, parameter: &Type, within: &Type) -> bool {
        if parameter == within {
            return false;
        }
        match within {
            Type::Param(_) => self.find(within).is_none_or(|found| self.free_of(parameter, found)),
            _ => !within.mentions(&mut |part| !self.free_of(parameter, part)),
        }
    }
}

pub(crate) fn most_general<'t>(one: &'t Type, other: &'t Type) -> &'t Type {
    if equal_or_less_specific(one, other) { one } else { other }
}

fn equal_or_less_specific(one: &Type, other: &Type) -> bool {
    if one.is_dyn() || matches!(one, Type::Param(_)) {
        return true;
    }
    if other.is_dyn() || matches!(other, Type::Param(_)) {
        return false;
    }
    match (one, other) {
        (Type::List(a), Type::List(b)) => equal_or_less_specific(a, b),
        (Type::Map(a), Type::Map(b)) => equal_or_less_specific(&a.0, &b.0) && equal_or_less_specific(&a.1, &b.1),
        (Type::Opaque(a, p), Type::Opaque(b, q)) => {
            a == b && p.len() == q.len() && p.iter().zip(&**q).all(|(p, q)| equal_or_less_specific(p, q))
        }
        (Type::Type(_), Type::Type(_)) => true,
        _ => one == other,
    }
}
