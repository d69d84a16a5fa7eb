//! The macros: calls that are written out as other expressions when they are read.

use std::sync::Arc;

use super::{
    ast::{ACCUMULATOR, Element, Expr, Fold, Kind, Literal},
    parser::{Parser, global},
};

pub(super) struct MacroCall<'f> {
    /// Where the call stands; what is made for it stands there too.
    pub(super) at: usize,
    pub(super) function: &'f str,
    pub(super) target: Option<Expr>,
    pub(super) arguments: Vec<Expr>,
}

/// What a call becomes; the call itself if it is none of a macro.
pub(super) fn expand<'f>(parser: &mut Parser<'_>, call: MacroCall<'f>) -> Result<Expr, MacroCall<'f>> {
    let count = call.arguments.len();
    let is_cel = || matches!(call.target.as_ref().map(|t| &t.kind), Some(Kind::Ident(name)) if &**name == "cel");
    let expander: Expander = match (call.function, count, call.target.is_some()) {
        ("has", 1, false) => has,
        ("all", 2 | 3, true) => all,
        ("exists", 2 | 3, true) => exists,
        ("exists_one" | "existsOne", 2 | 3, true) => exists_one,
        ("map", 2 | 3, true) => map,
        ("filter", 2, true) => filter,
        ("transformList", 3 | 4, true) => transform_list,
        ("transformMap", 3 | 4, true) => transform_map,
        ("transformMapEntry", 3 | 4, true) => transform_map_entry,
        ("optMap", 2, true) => opt_map,
        ("optFlatMap", 2, true) => opt_flat_map,
        ("sortBy", 2, true) => sort_by,
        ("bind", 3, true) if parser.bind_macro && is_cel() => bind,
        _ => return Err(call),
    };
    let MacroCall { at, target, arguments, .. } = call;
    let mut maker = Maker { parser, at };
    let target = target.unwrap_or_else(|| maker.literal(Literal::Null));
    Ok(expander(&mut maker, target, arguments).unwrap_or_else(|(at, message)| maker.parser.wrong(at, message)))
}

/// The place and the words of what is wrong with the arguments.
type Expanded = Result<Expr, (usize, String)>;
type Expander = fn(&mut Maker<'_, '_>, Expr, Vec<Expr>) -> Expanded;

struct Maker<'p, 's> {
    parser: &'p mut Parser<'s>,
    at: usize,
}

struct Parts {
    init: Expr,
    condition: Expr,
    step: Expr,
    result: Expr,
}

impl Maker<'_, '_> {
    fn node(&mut self, kind: Kind) -> Expr {
        self.parser.node(self.at, kind)
    }

    fn literal(&mut self, literal: Literal) -> Expr {
        self.node(Kind::Literal(literal))
    }

    fn accumulator(&mut self) -> Expr {
        self.node(Kind::Ident(ACCUMULATOR.into()))
    }

    fn call(&mut self, function: &str, arguments: Vec<Expr>) -> Expr {
        self.node(global(function, arguments))
    }

    fn method(&mut self, function: &str, target: Expr, arguments: Vec<Expr>) -> Expr {
        let target = Some(Box::new(target));
        self.node(Kind::Call { function: function.into(), target, arguments })
    }

    fn list(&mut self, values: Vec<Expr>) -> Expr {
        self.node(Kind::List(values.into_iter().map(|value| Element { value, optional: false }).collect()))
    }

    fn wrong(&self, expr: &Expr, message: &str) -> (usize, String) {
        (self.parser.place(expr), message.to_owned())
    }

    fn name(&self, expr: &Expr, message: &str) -> Result<Arc<str>, (usize, String)> {
        match &expr.kind {
            Kind::Ident(name) if [ACCUMULATOR, "__result__"].contains(&&**name) => {
                Err(self.wrong(expr, "iteration variable overwrites accumulator variable"))
            }
            Kind::Ident(name) => Ok(name.clone()),
            _ => Err(self.wrong(expr, message)),
        }
    }

    /// The one or two variables that come before the last `rest` arguments.
    fn variables(&self, arguments: &[Expr], two: bool, message: &str) -> Result<Variables, (usize, String)> {
        let [first, second, ..] = arguments else {
            return Err((self.at, message.to_owned()));
        };
        if !two {
            return Ok((self.name(first, message)?, None));
        }
        let one = self.name(first, "argument must be a simple name")?;
        let other = self.name(second, "argument must be a simple name")?;
        if one == other {
            return Err(self.wrong(second, &format!("duplicate variable name: {one}")));
        }
        Ok((one, Some(other)))
    }

    fn fold(&mut self, range: Expr, (variable, second): Variables, parts: Parts) -> Expr {
        let Parts { init, condition, step, result } = parts;
        let accumulator = ACCUMULATOR.into();
        let fold = Fold { range, variable, second, accumulator, init, condition, step, result };
        self.node(Kind::Fold(Box::new(fold)))
    }

    /// Names a value within an expression.
    fn bound(&mut self, name: Arc<str>, value: Expr, within: Expr) -> Expr {
        let range = self.list(Vec::new());
        let condition = self.literal(Literal::Bool(false));
        let step = self.node(Kind::Ident(name.clone()));
        let fold = Fold {
            range,
            variable: "#unused".into(),
            second: None,
            accumulator: name,
            init: value,
            condition,
            step,
            result: within,
        };
        self.node(Kind::Fold(Box::new(fold)))
    }

    /// The same expression once more, with nodes of its own.
    fn copy(&mut self, expr: &Expr) -> Expr {
        let mut copy = expr.clone();
        self.renumber(&mut copy);
        copy
    }

    fn renumber(&mut self, expr: &mut Expr) {
        let at = self.parser.place(expr);
        expr.id = self.parser.id(at);
        match &mut expr.kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => self.renumber(operand),
            Kind::Call { target, arguments, .. } => {
                target.iter_mut().for_each(|target| self.renumber(target));
                arguments.iter_mut().for_each(|argument| self.renumber(argument));
            }
            Kind::List(elements) => elements.iter_mut().for_each(|element| self.renumber(&mut element.value)),
            Kind::Map(entries) => entries.iter_mut().for_each(|entry| {
                self.renumber(&mut entry.key);
                self.renumber(&mut entry.value);
            }),
            Kind::Struct(_, fields) => fields.iter_mut().for_each(|field| self.renumber(&mut field.value)),
            Kind::Fold(fold) => {
                let Fold { range, init, condition, step, result, .. } = &mut **fold;
                [range, init, condition, step, result].into_iter().for_each(|part| self.renumber(part));
            }
        }
    }

    /// A loop that adds to its accumulator, for all or for what a filter lets through.
    fn gather(&mut self, range: Expr, variables: Variables, init: Expr, filter: Option<Expr>, step: Expr) -> Expr {
        let condition = self.literal(Literal::Bool(true));
        let step = match filter {
            Some(filter) => {
                let unchanged = self.accumulator();
                self.call("_?_:_", vec![filter, step, unchanged])
            }
            None => step,
        };
        let result = self.accumulator();
        self.fold(range, variables, Parts { init, condition, step, result })
    }
}

type Variables = (Arc<str>, Option<Arc<str>>);

fn has(maker: &mut Maker<'_, '_>, _: Expr, mut arguments: Vec<Expr>) -> Expanded {
    match arguments.pop() {
        Some(Expr { kind: Kind::Select { operand, field, .. }, .. }) => {
            Ok(maker.node(Kind::Select { operand, field, test: true }))
        }
        Some(other) => Err(maker.wrong(&other, "invalid argument to has() macro")),
        None => Err((maker.at, "invalid argument to has() macro".to_owned())),
    }
}

/// Takes the last argument, which the caller's count guarantees.
fn last(maker: &mut Maker<'_, '_>, arguments: &mut Vec<Expr>) -> Expr {
    arguments.pop().unwrap_or_else(|| maker.literal(Literal::Null))
}

fn quantified(maker: &mut Maker<'_, '_>, target: Expr, mut arguments: Vec<Expr>, is_all: bool) -> Expanded {
    let variables = maker.variables(&arguments, arguments.len() == 3, "argument must be a simple name")?;
    let predicate = last(maker, &mut arguments);
    let init = maker.literal(Literal::Bool(is_all));
    let so_far = maker.accumulator();
    let open = if is_all { so_far } else { maker.call("!_", vec![so_far]) };
    let condition = maker.call("@not_strictly_false", vec![open]);
    let so_far = maker.accumulator();
    let step = maker.call(if is_all { "_&&_" } else { "_||_" }, vec![so_far, predicate]);
    let result = maker.accumulator();
    Ok(maker.fold(target, variables, Parts { init, condition, step, result }))
}

fn all(maker: &mut Maker<'_, '_>, target: Expr, arguments: Vec<Expr>) -> Expanded {
    quantified(maker, target, arguments, true)
}

fn exists(maker: &mut Maker<'_, '_>, target: Expr, arguments: Vec<Expr>) -> Expanded {
    quantified(maker, target, arguments, false)
}

fn exists_one(maker: &mut Maker<'_, '_>, target: Expr, mut arguments: Vec<Expr>) -> Expanded {
    let variables = maker.variables(&arguments, arguments.len() == 3, "argument must be a simple name")?;
    let predicate = last(maker, &mut arguments);
    let init = maker.literal(Literal::Int(0));
    let (so_far, one) = (maker.accumulator(), maker.literal(Literal::Int(1)));
    let more = maker.call("_+_", vec![so_far, one]);
    let condition = maker.literal(Literal::Bool(true));
    let unchanged = maker.accumulator();
    let step = maker.call("_?_:_", vec![predicate, more, unchanged]);
    let (count, one) = (maker.accumulator(), maker.literal(Literal::Int(1)));
    let result = maker.call("_==_", vec![count, one]);
    Ok(maker.fold(target, variables, Parts { init, condition, step, result }))
}

fn map(maker: &mut Maker<'_, '_>, target: Expr, mut arguments: Vec<Expr>) -> Expanded {
    let variables = maker.variables(&arguments, false, "argument is not an identifier")?;
    let transform = last(maker, &mut arguments);
    let filter = (arguments.len() == 2).then(|| last(maker, &mut arguments));
    let (so_far, item) = (maker.accumulator(), maker.list(vec![transform]));
    let step = maker.call("_+_", vec![so_far, item]);
    let init = maker.list(Vec::new());
    Ok(maker.gather(target, variables, init, filter, step))
}

fn filter(maker: &mut Maker<'_, '_>, target: Expr, mut arguments: Vec<Expr>) -> Expanded {
    let variables = maker.variables(&arguments, false, "argument is not an identifier")?;
    let predicate = last(maker, &mut arguments);
    let item = last(maker, &mut arguments);
    let (so_far, item) = (maker.accumulator(), maker.list(vec![item]));
    let step = maker.call("_+_", vec![so_far, item]);
    let init = maker.list(Vec::new());
    Ok(maker.gather(target, variables, init, Some(predicate), step))
}

fn transform_list(maker: &mut Maker<'_, '_>, target: Expr, mut arguments: Vec<Expr>) -> Expanded {
    let variables = maker.variables(&arguments, true, "")?;
    let transform = last(maker, &mut arguments);
    let filter = (arguments.len() == 3).then(|| last(maker, &mut arguments));
    let (so_far, item) = (maker.accumulator(), maker.list(vec![transform]));
    let step = maker.call("_+_", vec![so_far, item]);
    let init = maker.list(Vec::new());
    Ok(maker.gather(target, variables, init, filter, step))
}

fn transform_map(maker: &mut Maker<'_, '_>, target: Expr, mut arguments: Vec<Expr>) -> Expanded {
    let variables = maker.variables(&arguments, true, "")?;
    let transform = last(maker, &mut arguments);
    let filter = (arguments.len() == 3).then(|| last(maker, &mut arguments));
    let (so_far, key) = (maker.accumulator(), maker.node(Kind::Ident(variables.0.clone())));
    let step = maker.call("cel.@mapInsert", vec![so_far, key, transform]);
    let init = maker.node(Kind::Map(Vec::new()));
    Ok(maker.gather(target, variables, init, filter, step))
}

fn transform_map_entry(maker: &mut Maker<'_, '_>, target: Expr, mut arguments: Vec<Expr>) -> Expanded {
    let variables = maker.variables(&arguments, true, "")?;
    let transform = last(maker, &mut arguments);
    let filter = (arguments.len() == 3).then(|| last(maker, &mut arguments));
    let so_far = maker.accumulator();
    let step = maker.call("cel.@mapInsert", vec![so_far, transform]);
    let init = maker.node(Kind::Map(Vec::new()));
    Ok(maker.gather(target, variables, init, filter, step))
}

fn simple_name(maker: &Maker<'_, '_>, arguments: &[Expr], message: &str) -> Result<Arc<str>, (usize, String)> {
    match arguments.first() {
        Some(Expr { kind: Kind::Ident(name), .. }) => Ok(name.clone()),
        Some(other) => Err(maker.wrong(other, message)),
        None => Err((maker.at, message.to_owned())),
    }
}

fn opt(maker: &mut Maker<'_, '_>, target: Expr, mut arguments: Vec<Expr>, flat: bool) -> Expanded {
    let called = if flat { "optFlatMap" } else { "optMap" };
    let message = format!("{called}() variable name must be a simple identifier");
    let name = simple_name(maker, &arguments, &message)?;
    let transform = last(maker, &mut arguments);
    let same = maker.copy(&target);
    let present = maker.method("hasValue", target, Vec::new());
    let value = maker.method("value", same, Vec::new());
    let bound = maker.bound(name, value, transform);
    let some = if flat { bound } else { maker.call("optional.of", vec![bound]) };
    let none = maker.call("optional.none", Vec::new());
    Ok(maker.call("_?_:_", vec![present, some, none]))
}

fn opt_map(maker: &mut Maker<'_, '_>, target: Expr, arguments: Vec<Expr>) -> Expanded {
    opt(maker, target, arguments, false)
}

fn opt_flat_map(maker: &mut Maker<'_, '_>, target: Expr, arguments: Vec<Expr>) -> Expanded {
    opt(maker, target, arguments, true)
}

fn sort_by(maker: &mut Maker<'_, '_>, target: Expr, arguments: Vec<Expr>) -> Expanded {
    const INPUT: &str = "@__sortBy_input__";
    if matches!(target.kind, Kind::Literal(_) | Kind::Map(_) | Kind::Struct(..)) {
        let message = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
        return Err(maker.wrong(&target, message));
    }
    let input = maker.node(Kind::Ident(INPUT.into()));
    let keys = map(maker, input, arguments)?;
    let input = maker.node(Kind::Ident(INPUT.into()));
    let sorted = maker.method("@sortByAssociatedKeys", input, vec![keys]);
    Ok(maker.bound(INPUT.into(), target, sorted))
}

fn bind(maker: &mut Maker<'_, '_>, _: Expr, mut arguments: Vec<Expr>) -> Expanded {
    let name = simple_name(maker, &arguments, "cel.bind() variable names must be simple identifiers")?;
    let within = last(maker, &mut arguments);
    let value = last(maker, &mut arguments);
    Ok(maker.bound(name, value, within))
}
