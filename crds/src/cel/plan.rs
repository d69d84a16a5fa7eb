//! Turns a checked expression into the tree that is evaluated; what is constant is computed here, once.

use std::sync::Arc;

use regex::Regex;

use super::{
    Bindings, Env,
    ast::{ACCUMULATOR, Checked, Expr, Fold, Kind, Literal, Reference},
    eval,
    library::{self, Function},
    list::List,
    typing::Type,
    value::{EvalError, Text, Value},
};

/// A step of an evaluation.
#[derive(Debug)]
pub(crate) enum Node {
    Constant(Value<'static>),
    Path(Path),
    /// `has()`: whether the last step of the path is there.
    Has(Path),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    NotStrictlyFalse(Box<Node>),
    Call(Call),
    Regex(Call, Regex),
    /// Whether a value is among constants.
    Among(Box<Node>, List<'static>),
    /// A list with one item more, where the list is the accumulator and nobody else's.
    Append(usize, Box<Node>),
    /// A map with one entry more, likewise.
    Insert(usize, Box<[Node; 2]>),
    OrOptional(Box<[Node; 2]>),
    OrValue(Box<[Node; 2]>),
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    Struct(Arc<str>, Vec<(Arc<str>, Node, bool)>),
    Fold(Box<Loop>),
}

/// A value and the way from it to a part: `a.b[c]`.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) start: Start,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug)]
pub(crate) enum Start {
    Variable(Arc<str>),
    Local(usize),
    Node(Box<Node>),
    Conditional(Box<(Node, Path, Path)>),
}

#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) key: StepKey,
    pub(crate) optional: bool,
}

#[derive(Debug)]
pub(crate) enum StepKey {
    Constant(Value<'static>),
    Path(Path),
}

pub(crate) struct Call {
    pub(crate) function: Arc<Function>,
    /// The one overload that the checker found.
    pub(crate) overload: Option<&'static str>,
    pub(crate) arguments: Vec<Node>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.function.name, self.arguments)
    }
}

#[derive(Debug)]
pub(crate) struct Loop {
    pub(crate) range: Node,
    pub(crate) two: bool,
    pub(crate) init: Node,
    pub(crate) condition: Node,
    pub(crate) step: Node,
    pub(crate) result: Node,
}

type Planned = Result<Node, EvalError>;

pub(crate) fn plan(env: &Env, checked: &Checked) -> Planned {
    Planner { env, checked, locals: Vec::new() }.node(&checked.root)
}

struct Planner<'c> {
    env: &'c Env,
    checked: &'c Checked,
    /// The names of the variables of the loops around; their places are where the evaluator keeps them.
    locals: Vec<Arc<str>>,
}

pub(crate) fn constant(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(b) => Value::Bool(*b),
        Literal::Int(n) => Value::Int(*n),
        Literal::Uint(n) => Value::Uint(*n),
        Literal::Double(n) => Value::Double(*n),
        Literal::String(text) => Value::String(Text::Shared(text.clone())),
        Literal::Bytes(bytes) => Value::Bytes(bytes.clone()),
    }
}

/// A node that needs nothing but itself.
fn computed(node: &Node) -> Planned {
    eval::evaluate(node, &Bindings::new(), u64::MAX).value.map(Node::Constant)
}

const fn is_constant(node: &Node) -> bool {
    matches!(node, Node::Constant(_))
}

impl Planner<'_> {
    fn node(&mut self, expr: &Expr) -> Planned {
        Ok(match &expr.kind {
            Kind::Literal(literal) => Node::Constant(constant(literal)),
            Kind::Ident(name) => self.name(expr, name),
            Kind::Select { operand, field, test } => {
                let key = StepKey::Constant(Value::String(Text::Shared(field.clone())));
                let operand = self.node(operand)?;
                let path = longer(operand, Step { key, optional: false });
                if *test { Node::Has(path) } else { Node::Path(path) }
            }
            Kind::Call { function, target, arguments } => {
                let mut nodes = Vec::with_capacity(arguments.len() + 1);
                for argument in target.iter().map(|target| &**target).chain(arguments) {
                    nodes.push(self.node(argument)?);
                }
                return self.call(expr, function, nodes);
            }
            Kind::List(elements) => {
                let mut nodes = Vec::with_capacity(elements.len());
                for element in elements {
                    nodes.push((self.node(&element.value)?, element.optional));
                }
                let all = nodes.iter().all(|(node, _)| is_constant(node));
                let list = Node::List(nodes);
                return if all { computed(&list) } else { Ok(list) };
            }
            Kind::Map(entries) => {
                let mut nodes = Vec::with_capacity(entries.len());
                for entry in entries {
                    nodes.push((self.node(&entry.key)?, self.node(&entry.value)?, entry.optional));
                }
                let all = nodes.iter().all(|(key, value, _)| is_constant(key) && is_constant(value));
                let map = Node::Map(nodes);
                return if all { computed(&map) } else { Ok(map) };
            }
            Kind::Struct(name, fields) => {
                let mut nodes = Vec::with_capacity(fields.len());
                for field in fields {
                    nodes.push((field.name.clone(), self.node(&field.value)?, field.optional));
                }
                Node::Struct(name.clone(), nodes)
            }
            Kind::Fold(fold) => Node::Fold(Box::new(self.fold(fold)?)),
        })
    }

    fn name(&self, expr: &Expr, name: &Arc<str>) -> Node {
        let start = match self.checked.reference(expr) {
            Some(Reference::Type(ty)) => return Node::Constant(Value::Type(bare(ty))),
            Some(Reference::Variable(variable)) => match self.local(name) {
                Some(place) => Start::Local(place),
                None => Start::Variable(variable.clone()),
            },
            _ => Start::Variable(name.clone()),
        };
        Node::Path(Path { start, steps: Vec::new() })
    }

    fn local(&self, name: &str) -> Option<usize> {
        self.locals.iter().rposition(|known| &**known == name)
    }

    fn call(&mut self, expr: &Expr, function: &Arc<str>, nodes: Vec<Node>) -> Planned {
        let overload = match self.checked.overloads(expr) {
            [one] => Some(*one),
            _ => None,
        };
        let nodes = match (&**function, two(nodes)) {
            ("_&&_", Ok(two)) => return Ok(Node::And(Box::new(two))),
            ("_||_", Ok(two)) => return Ok(Node::Or(Box::new(two))),
            ("or", Ok(two)) => return Ok(Node::OrOptional(Box::new(two))),
            ("orValue", Ok(two)) => return Ok(Node::OrValue(Box::new(two))),
            ("_[_]", Ok([of, key])) => return Ok(Node::Path(longer(of, Step { key: step_key(key), optional: false }))),
            ("_[?_]" | "_?._", Ok([of, key])) => {
                return Ok(Node::Path(longer(of, Step { key: step_key(key), optional: true })));
            }
            ("@in", Ok([value, Node::Constant(Value::List(list))])) if overload == Some("in_list") => {
                if list.is_empty() {
                    return Ok(Node::Constant(Value::Bool(false)));
                }
                let simple = |item: Value<'_>| {
                    matches!(item.type_of(), Type::Bool | Type::Int | Type::Uint | Type::Double | Type::String)
                };
                if list.iter().all(|item| item.is_ok_and(simple)) {
                    return Ok(Node::Among(Box::new(value), list));
                }
                vec![value, Node::Constant(Value::List(list))]
            }
            ("_+_", Ok([list, item])) => match (self.accumulator(&list), item) {
                (Some(place), Node::List(mut items)) if items.len() == 1 && !items[0].1 => {
                    let item = items.remove(0).0;
                    return Ok(Node::Append(place, Box::new(Node::List(vec![(item, false)]))));
                }
                (_, item) => vec![list, item],
            },
            (_, Ok(two)) => two.into(),
            ("_?_:_", Err(nodes)) => match <[Node; 3]>::try_from(nodes) {
                Ok([condition, then, otherwise]) => {
                    let branches = Box::new((condition, branch(then), branch(otherwise)));
                    return Ok(Node::Path(Path { start: Start::Conditional(branches), steps: Vec::new() }));
                }
                Err(nodes) => nodes,
            },
            ("@not_strictly_false", Err(mut nodes)) if nodes.len() == 1 => {
                return Ok(Node::NotStrictlyFalse(Box::new(nodes.remove(0))));
            }
            ("cel.@mapInsert", Err(nodes)) if nodes.len() == 3 => {
                let place = nodes.first().and_then(|map| self.accumulator(map));
                match (place, <[Node; 3]>::try_from(nodes)) {
                    (Some(place), Ok([_, key, value])) => return Ok(Node::Insert(place, Box::new([key, value]))),
                    (_, Ok(nodes)) => nodes.into(),
                    (_, Err(nodes)) => nodes,
                }
            }
            (_, Err(nodes)) => nodes,
        };
        let Some(known) = self.env.functions.get(&**function) else {
            return Err(EvalError::no_such_overload());
        };
        let call = Call { function: known.clone(), overload, arguments: nodes };
        match (&**function, call.arguments.as_slice()) {
            ("matches" | "find" | "findAll", [_, Node::Constant(Value::String(pattern)), ..]) => {
                let regex = library::regex::compile(pattern).map_err(EvalError::new)?;
                Ok(Node::Regex(call, regex))
            }
            (
                "bool" | "bytes" | "double" | "duration" | "dyn" | "int" | "string" | "timestamp" | "type" | "uint",
                [Node::Constant(_)],
            ) => computed(&Node::Call(call)),
            _ => Ok(Node::Call(call)),
        }
    }

    /// The place of the accumulator, if the node is nothing but that.
    fn accumulator(&self, node: &Node) -> Option<usize> {
        match node {
            Node::Path(Path { start: Start::Local(place), steps }) if steps.is_empty() => {
                self.locals.get(*place).filter(|name| &***name == ACCUMULATOR).map(|_| *place)
            }
            _ => None,
        }
    }

    fn fold(&mut self, fold: &Fold) -> Result<Loop, EvalError> {
        let init = self.node(&fold.init)?;
        let range = self.node(&fold.range)?;
        self.locals.push(fold.accumulator.clone());
        let outer = self.locals.len();
        self.locals.push(fold.variable.clone());
        self.locals.extend(fold.second.clone());
        let condition = self.node(&fold.condition);
        let step = self.node(&fold.step);
        self.locals.truncate(outer);
        let result = self.node(&fold.result);
        self.locals.truncate(outer - 1);
        Ok(Loop { range, two: fold.second.is_some(), init, condition: condition?, step: step?, result: result? })
    }
}

fn two(nodes: Vec<Node>) -> Result<[Node; 2], Vec<Node>> {
    <[Node; 2]>::try_from(nodes)
}

/// Types as values carry no parameters.
fn bare(ty: &Type) -> Type {
    match ty {
        Type::Type(_) => Type::Type(None),
        other => other.clone(),
    }
}

fn branch(node: Node) -> Path {
    match node {
        Node::Path(path) => path,
        other => Path { start: Start::Node(Box::new(other)), steps: Vec::new() },
    }
}

fn longer(node: Node, step: Step) -> Path {
    let mut path = branch(node);
    path.steps.push(step);
    path
}

fn step_key(node: Node) -> StepKey {
    match node {
        Node::Constant(value) => StepKey::Constant(value),
        other => StepKey::Path(branch(other)),
    }
}
