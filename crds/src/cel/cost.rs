//! What evaluations of an expression may cost, reckoned from the most that its values can hold.

mod call;

use std::{collections::HashMap, sync::Arc};

use super::{
    ast::{Checked, Expr, Fold, Id, Kind, Literal},
    decl::Decl,
    typing::Type,
};

/// A range of costs or sizes; what is not known is up to the largest number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    pub min: u64,
    pub max: u64,
}

impl Estimate {
    pub(crate) const UNKNOWN: Self = Self { min: 0, max: u64::MAX };

    pub(crate) const fn fixed(n: u64) -> Self {
        Self { min: n, max: n }
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub(crate) const fn times(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    pub(crate) fn scaled(self, factor: f64) -> Self {
        // A product that is too large becomes the largest number.
        let scale = |n: u64| (n as f64 * factor).ceil() as u64;
        Self { min: scale(self.min), max: scale(self.max) }
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

pub(crate) fn estimate(checked: &Checked, root: Option<&Decl>) -> Estimate {
    let mut coster = Coster {
        checked,
        root,
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: HashMap::new(),
    };
    coster.cost(&checked.root)
}

type Way = Vec<Arc<str>>;

/// How large the keys and values of a list or map get.
#[derive(Clone, Copy, Debug)]
struct Entries {
    is_list: bool,
    key: Estimate,
    value: Estimate,
}

fn joined(one: Option<Entries>, other: Option<Entries>) -> Option<Entries> {
    let (one, other) = (one?, other?);
    Some(Entries { is_list: one.is_list, key: one.key.or(other.key), value: one.value.or(other.value) })
}

struct Local {
    way: Way,
    size: Option<Estimate>,
    entries: Option<Entries>,
}

struct Coster<'c> {
    checked: &'c Checked,
    /// Declares what the variables hold.
    root: Option<&'c Decl>,
    /// The way from a variable to what a node means.
    paths: HashMap<Id, Way>,
    sizes: HashMap<Id, Estimate>,
    entries: HashMap<Id, Entries>,
    locals: HashMap<Arc<str>, Vec<Local>>,
}

impl Coster<'_> {
    fn cost(&mut self, expr: &Expr) -> Estimate {
        match &expr.kind {
            Kind::Literal(_) => Estimate::fixed(0),
            Kind::Ident(name) => {
                let way = self.local(name).map_or_else(|| vec![name.clone()], |local| local.way.clone());
                self.paths.insert(expr.id, way);
                Estimate::fixed(1)
            }
            Kind::Select { operand, test: true, .. } => self.cost(operand),
            Kind::Select { operand, field, .. } => {
                let cost = self.cost(operand);
                let mut way = self.way(operand);
                way.push(field.clone());
                self.paths.insert(expr.id, way);
                match self.checked.ty(operand) {
                    Type::Map(_) | Type::Object(_) | Type::Param(_) => cost.plus(Estimate::fixed(1)),
                    _ => cost,
                }
            }
            Kind::Call { function, target, arguments } => self.call(expr, function, target.as_deref(), arguments),
            Kind::List(elements) => {
                let mut sum = Estimate::fixed(10);
                let mut value = Estimate { min: if elements.is_empty() { 0 } else { u64::MAX }, max: 0 };
                for element in elements {
                    sum = sum.plus(self.cost(&element.value));
                    value = value.or(self.known_size(&element.value));
                }
                self.entries.insert(expr.id, Entries { is_list: true, key: Estimate::fixed(1), value });
                sum
            }
            Kind::Map(entries) => {
                let mut sum = Estimate::fixed(30);
                let least = if entries.is_empty() { 0 } else { u64::MAX };
                let (mut key, mut value) = (Estimate { min: least, max: 0 }, Estimate { min: least, max: 0 });
                for entry in entries {
                    sum = sum.plus(self.cost(&entry.key)).plus(self.cost(&entry.value));
                    key = key.or(self.known_size(&entry.key));
                    value = value.or(self.known_size(&entry.value));
                }
                self.entries.insert(expr.id, Entries { is_list: false, key, value });
                sum
            }
            Kind::Struct(_, fields) => {
                fields.iter().fold(Estimate::fixed(40), |sum, field| sum.plus(self.cost(&field.value)))
            }
            Kind::Fold(fold) if fold.is_bind() => self.bind(expr, fold),
            Kind::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.get(name).and_then(|locals| locals.last())
    }

    fn push(&mut self, name: &Arc<str>, local: Local) {
        self.locals.entry(name.clone()).or_default().push(local);
    }

    fn pop(&mut self, name: &str) {
        if let Some(locals) = self.locals.get_mut(name) {
            locals.pop();
        }
    }

    fn way(&self, expr: &Expr) -> Way {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.way.clone();
        }
        self.paths.get(&expr.id).cloned().unwrap_or_default()
    }

    fn entries_of(&self, expr: &Expr) -> Option<Entries> {
        self.entries.get(&expr.id).copied().or_else(|| match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.entries),
            _ => None,
        })
    }

    fn known_size(&mut self, expr: &Expr) -> Estimate {
        self.size(expr).unwrap_or(Estimate::UNKNOWN)
    }

    fn size(&mut self, expr: &Expr) -> Option<Estimate> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        if let Some(size) = written_size(expr) {
            return Some(Estimate::fixed(size));
        }
        if let Some(size) = self.declared_size(&self.way(expr)) {
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if is_scalar(self.checked.ty(expr)) {
            return Some(Estimate::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    /// The most that a declaration allows to what a way leads to.
    fn declared_size(&self, way: &[Arc<str>]) -> Option<Estimate> {
        let mut decl = self.root?;
        if way.is_empty() {
            return None;
        }
        for step in &way[1..] {
            decl = match &**step {
                "@items" | "@values" => decl.item()?,
                "@keys" => decl.key()?,
                // The attributes of a device have one size, whatever their names.
                field => decl.field(field).or_else(|| decl.item().filter(|item| *item.ty() == Type::Any))?,
            };
        }
        Some(Estimate { min: 0, max: decl.most_elements() })
    }

    /// One of the two variables that a loop has, or the one.
    fn iterated(&mut self, name: &Arc<str>, range: &Expr, key: bool, single: bool) {
        let entries = self.entries_of(range);
        let is_list = entries.map_or_else(|| matches!(self.checked.ty(range), Type::List(_)), |e| e.is_list);
        let by_key = if single { !is_list } else { key };
        let step = match (by_key, is_list) {
            (true, true) => "@indices",
            (true, false) => "@keys",
            (false, true) => "@items",
            (false, false) => "@values",
        };
        let mut way = self.way(range);
        way.push(step.into());
        let size = entries.map(|entries| if by_key { entries.key } else { entries.value });
        self.push(name, Local { way, size, entries: None });
    }

    fn accumulated(&mut self, name: &Arc<str>, init: &Expr) {
        let local = Local { way: self.way(init), size: self.size(init), entries: self.entries_of(init) };
        self.push(name, local);
    }

    fn fold(&mut self, expr: &Expr, fold: &Fold) -> Estimate {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        self.accumulated(&fold.accumulator, &fold.init);
        self.iterated(&fold.variable, &fold.range, true, fold.second.is_none());
        if let Some(second) = &fold.second {
            self.iterated(second, &fold.range, false, false);
        }
        let round = self.cost(&fold.condition);
        let round = self.cost(&fold.step).plus(round);
        self.pop(&fold.variable);
        fold.second.iter().for_each(|second| self.pop(second));
        sum = sum.plus(self.cost(&fold.result));
        self.pop(&fold.accumulator);
        let rounds = self.known_size(&fold.range);
        sum = sum.plus(rounds.times(round));
        match &fold.init.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&fold.init) {
                    self.sizes.insert(expr.id, size);
                }
            }
            Kind::List(_) | Kind::Map(_) => {
                self.sizes.insert(expr.id, rounds);
                if let Some(entries) = self.entries_of(&fold.step) {
                    self.entries.insert(expr.id, entries);
                }
            }
            _ => {}
        }
        sum
    }

    fn bind(&mut self, expr: &Expr, fold: &Fold) -> Estimate {
        let sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        self.accumulated(&fold.accumulator, &fold.init);
        let sum = sum.plus(self.cost(&fold.result));
        self.pop(&fold.accumulator);
        self.copy_sizes(expr, &fold.result);
        sum
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        if let Some(size) = self.size(from) {
            self.sizes.insert(to.id, size);
        }
        if let Some(entries) = self.entries_of(from) {
            self.entries.insert(to.id, entries);
        }
    }
}

fn written_size(expr: &Expr) -> Option<u64> {
    Some(match &expr.kind {
        Kind::Literal(Literal::String(text)) => text.chars().count() as u64,
        Kind::Literal(Literal::Bytes(bytes)) => bytes.len() as u64,
        Kind::Literal(_) => 1,
        Kind::List(elements) => elements.len() as u64,
        Kind::Map(entries) => entries.len() as u64,
        _ => return None,
    })
}

fn is_scalar(ty: &Type) -> bool {
    match ty {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        other => other.unwrapped().is_some_and(is_scalar),
    }
}
