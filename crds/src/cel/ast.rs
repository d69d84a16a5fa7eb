//! The tree of an expression, as parsed and as checked.

use std::sync::Arc;

use super::typing::Type;

/// Of a node; places and types are kept by it.
pub(crate) type Id = usize;

#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) id: Id,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Literal(Literal),
    Ident(Arc<str>),
    Select {
        operand: Box<Expr>,
        field: Arc<str>,
        /// Of `has()`: whether the field is there.
        test: bool,
    },
    Call {
        function: Arc<str>,
        target: Option<Box<Expr>>,
        arguments: Vec<Expr>,
    },
    List(Vec<Element>),
    Map(Vec<Entry>),
    Struct(Arc<str>, Vec<Field>),
    Fold(Box<Fold>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Expr,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) id: Id,
    pub(crate) name: Arc<str>,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// What the macros over lists and maps become.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    pub(crate) range: Expr,
    pub(crate) variable: Arc<str>,
    pub(crate) second: Option<Arc<str>>,
    pub(crate) accumulator: Arc<str>,
    pub(crate) init: Expr,
    pub(crate) condition: Expr,
    pub(crate) step: Expr,
    pub(crate) result: Expr,
}

/// The accumulator of macros; no source can write it.
pub(crate) const ACCUMULATOR: &str = "@result";

impl Fold {
    /// Whether this only names a value: `cel.bind`, `optMap`.
    pub(crate) fn is_bind(&self) -> bool {
        matches!(&self.range.kind, Kind::List(elements) if elements.is_empty())
            && matches!(self.condition.kind, Kind::Literal(Literal::Bool(false)))
    }
}

impl Expr {
    /// `a.b.c` as one name, if it is nothing but names.
    pub(crate) fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.to_string()),
            Kind::Select { operand, field, test: false } => Some(format!("{}.{field}", operand.qualified_name()?)),
            _ => None,
        }
    }

    /// How many levels the tree has.
    pub(crate) fn depth(&self) -> usize {
        1 + self.children().into_iter().map(Self::depth).max().unwrap_or(0)
    }

    /// The nodes right below.
    pub(crate) fn children(&self) -> Vec<&Self> {
        match &self.kind {
            Kind::Literal(_) | Kind::Ident(_) => Vec::new(),
            Kind::Select { operand, .. } => vec![operand],
            Kind::Call { target, arguments, .. } => target.iter().map(|t| &**t).chain(arguments).collect(),
            Kind::List(elements) => elements.iter().map(|element| &element.value).collect(),
            Kind::Map(entries) => entries.iter().flat_map(|entry| [&entry.key, &entry.value]).collect(),
            Kind::Struct(_, fields) => fields.iter().map(|field| &field.value).collect(),
            Kind::Fold(fold) => {
                vec![&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result]
            }
        }
    }
}

/// An expression that was read.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) source: Arc<str>,
    pub(crate) root: Expr,
    /// Where each node stands in the source, in characters.
    pub(crate) places: Vec<usize>,
}

/// What a node means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reference {
    Variable(Arc<str>),
    Type(Type),
    /// The overloads that fit.
    Function(Vec<&'static str>),
}

/// An expression that was checked.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) source: Arc<str>,
    pub(crate) root: Expr,
    pub(crate) places: Vec<usize>,
    pub(crate) types: Vec<Type>,
    pub(crate) references: Vec<Option<Reference>>,
}

impl Checked {
    pub(crate) fn output(&self) -> &Type {
        self.ty(&self.root)
    }

    pub(crate) fn ty(&self, expr: &Expr) -> &Type {
        self.types.get(expr.id).unwrap_or(&Type::Error)
    }

    pub(crate) fn reference(&self, expr: &Expr) -> Option<&Reference> {
        self.references.get(expr.id).and_then(Option::as_ref)
    }

    pub(crate) fn overloads(&self, expr: &Expr) -> &[&'static str] {
        match self.reference(expr) {
            Some(Reference::Function(overloads)) => overloads,
            _ => &[],
        }
    }

    pub(crate) fn names(&self, variable: &str) -> bool {
        self.references.iter().any(|r| matches!(r, Some(Reference::Variable(name)) if &**name == variable))
    }
}
