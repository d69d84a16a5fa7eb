//! Finds the type of every part of an expression, and the overloads that calls may mean, as cel-go's checker does.

use std::{collections::HashMap, sync::Arc};

use super::{
    Decl, Env,
    ast::{Checked, Expr, Fold, Id, Kind, Literal, Parsed, Reference},
    issue::Issues,
    library::Function,
    typing::{Substitution, Type, most_general},
};

pub(crate) fn check(env: &Env, parsed: Parsed) -> Result<Checked, Issues> {
    let Parsed { source, mut root, places } = parsed;
    let mut checker = Checker {
        env,
        issues: Issues::new(&source),
        types: vec![None; places.len()],
        references: vec![None; places.len()],
        places: &places,
        known: Substitution::default(),
        parameters: 0,
        scopes: Vec::new(),
    };
    checker.check(&mut root);
    let Checker { issues, types, references, known, .. } = checker;
    if !issues.is_empty() {
        return Err(issues);
    }
    let types = types.into_iter().map(|ty| ty.map_or(Type::Error, |ty| known.apply(&ty, true))).collect();
    Ok(Checked { source, root, places, types, references })
}

struct Checker<'e> {
    env: &'e Env,
    places: &'e [usize],
    issues: Issues,
    types: Vec<Option<Type>>,
    references: Vec<Option<Reference>>,
    known: Substitution,
    parameters: usize,
    scopes: Vec<HashMap<Arc<str>, Type>>,
}

/// What a name stands for.
enum Named {
    Variable(Type),
    Type(Type),
}

impl Checker<'_> {
    fn report(&mut self, id: Id, message: String) {
        self.issues.report(self.places.get(id).copied(), message);
    }

    fn mismatch(&mut self, id: Id, expected: &Type, found: &Type) {
        self.report(id, format!("expected type '{}' but found '{}'", expected.written(), found.written()));
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.report(id, format!("undeclared reference to '{name}' (in container '')"));
    }

    fn ty(&self, expr: &Expr) -> Type {
        self.types.get(expr.id).cloned().flatten().unwrap_or(Type::Error)
    }

    fn set(&mut self, id: Id, ty: Type) {
        if let Some(slot) = self.types.get_mut(id) {
            *slot = Some(ty);
        }
    }

    fn refer(&mut self, id: Id, reference: Reference) {
        if let Some(slot) = self.references.get_mut(id) {
            *slot = Some(reference);
        }
    }

    fn parameter(&mut self) -> Type {
        self.parameters += 1;
        Type::param(&format!("_var{}", self.parameters - 1))
    }

    fn named(&self, name: &str) -> Option<Named> {
        let plain = name.strip_prefix('.').unwrap_or(name);
        // A leading dot means a name of the whole, not of a macro.
        let local = || self.scopes.iter().rev().find_map(|scope| scope.get(plain));
        let variable = if name.starts_with('.') { None } else { local() };
        if let Some(ty) = variable.or_else(|| self.env.variables.get(plain)) {
            return Some(Named::Variable(ty.clone()));
        }
        if self.object(plain).is_some() || self.is_patch_type(plain) {
            return Some(Named::Type(Type::object(plain)));
        }
        type_called(plain).map(Named::Type)
    }

    fn object(&self, name: &str) -> Option<&Arc<Decl>> {
        self.env.objects.get(name)
    }

    fn is_patch_type(&self, name: &str) -> bool {
        self.env.patch_types && (name == "JSONPatch" || name == "Object" || name.starts_with("Object."))
    }

    fn check(&mut self, expr: &mut Expr) {
        let id = expr.id;
        match &mut expr.kind {
            Kind::Literal(literal) => {
                let ty = literal_type(literal);
                self.set(id, ty);
            }
            Kind::Ident(name) => {
                let name = name.clone();
                match self.named(&name) {
                    Some(named) => self.meant(id, &name, named),
                    None => {
                        self.set(id, Type::Error);
                        self.undeclared(id, &name);
                    }
                }
            }
            Kind::Select { .. } => self.select(expr),
            Kind::Call { .. } => self.call(expr),
            Kind::List(_) => self.list(expr),
            Kind::Map(_) => self.map(expr),
            Kind::Struct(..) => self.made(expr),
            Kind::Fold(fold) => self.fold(id, fold),
        }
    }

    fn meant(&mut self, id: Id, name: &str, named: Named) {
        match named {
            Named::Variable(ty) => {
                self.set(id, ty);
                self.refer(id, Reference::Variable(name.strip_prefix('.').unwrap_or(name).into()));
            }
            Named::Type(ty) => {
                self.set(id, Type::type_of(ty.clone()));
                self.refer(id, Reference::Type(ty));
            }
        }
    }

    fn select(&mut self, expr: &mut Expr) {
        let id = expr.id;
        if let Some(name) = expr.qualified_name()
            && let Some(named) = self.named(&name)
        {
            self.meant(id, &name, named);
            expr.kind = Kind::Ident(name.into());
            return;
        }
        let Kind::Select { operand, field, test } = &mut expr.kind else {
            return;
        };
        self.check(operand);
        let ty = self.field(id, &self.ty(operand), field, false);
        let ty = if *test { Type::Bool } else { self.known.apply(&ty, false) };
        self.set(id, ty);
    }

    fn field(&mut self, id: Id, operand: &Type, field: &str, optional: bool) -> Type {
        let operand = self.known.apply(operand, false);
        let (target, wrapped) = operand.unwrapped().map_or((&operand, false), |inner| (inner, true));
        let found = match target {
            Type::Map(pair) => pair.1.clone(),
            Type::Object(name) => self.field_type(id, name, field).unwrap_or(Type::Error),
            Type::Param(_) => {
                self.known.assignable(&Type::Dyn, target);
                Type::Dyn
            }
            other => {
                if !other.is_dyn_or_error() {
                    self.report(id, format!("type '{}' does not support field selection", other.written()));
                }
                Type::Dyn
            }
        };
        if wrapped || optional { Type::optional(found) } else { found }
    }

    fn field_type(&mut self, id: Id, object: &str, field: &str) -> Option<Type> {
        if self.is_patch_type(object) {
            return match (object, field) {
                ("JSONPatch", "op" | "path" | "from") => Some(Type::String),
                ("JSONPatch", "value") => Some(Type::Dyn),
                ("JSONPatch", _) => {
                    self.report(id, format!("undefined field '{field}'"));
                    None
                }
                _ => Some(Type::Dyn),
            };
        }
        let Some(decl) = self.object(object) else {
            self.report(id, format!("unexpected failed resolution of '{object}'"));
            return None;
        };
        let found = decl.field(field).map(|decl| decl.ty().clone());
        if found.is_none() {
            self.report(id, format!("undefined field '{field}'"));
        }
        found
    }

    fn call(&mut self, expr: &mut Expr) {
        let id = expr.id;
        let Kind::Call { function, target, arguments } = &mut expr.kind else {
            return;
        };
        if &**function == "_?._" {
            return self.optional_select(id, arguments);
        }
        for argument in arguments.iter_mut() {
            self.check(argument);
        }
        let Some(receiver) = target else {
            let plain = function.strip_prefix('.').unwrap_or(function);
            let Some(known) = self.env.functions.get(plain).cloned() else {
                self.set(id, Type::Error);
                return self.undeclared(id, &function.clone());
            };
            *function = known.name.into();
            return self.resolve(id, &known, None, arguments);
        };
        if let Some(prefix) = receiver.qualified_name()
            && let Some(known) = self.env.functions.get(&*format!("{prefix}.{function}")).cloned()
        {
            *function = known.name.into();
            *target = None;
            return self.resolve(id, &known, None, arguments);
        }
        self.check(receiver);
        match self.env.functions.get(&**function).cloned() {
            Some(known) => self.resolve(id, &known, Some(receiver), arguments),
            None => {
                self.set(id, Type::Error);
                self.undeclared(id, &function.clone());
            }
        }
    }

    fn optional_select(&mut self, id: Id, arguments: &mut [Expr]) {
        let [operand, field] = arguments else {
            return;
        };
        self.check(operand);
        let Kind::Literal(Literal::String(name)) = &field.kind else {
            return;
        };
        let ty = self.field(id, &self.ty(operand), name, true);
        self.set(field.id, Type::String);
        let ty = self.known.apply(&ty, false);
        self.set(id, ty);
        self.refer(id, Reference::Function(vec!["select_optional_field"]));
    }

    fn resolve(&mut self, id: Id, function: &Function, target: Option<&Expr>, arguments: &[Expr]) {
        let given: Vec<Type> = target.into_iter().chain(arguments).map(|argument| self.ty(argument)).collect();
        if let "_&&_" | "_||_" = function.name {
            let mut fits = true;
            for (argument, ty) in arguments.iter().zip(&given) {
                if !self.known.assignable(ty, &Type::Bool) {
                    self.mismatch(argument.id, &Type::Bool, ty);
                    fits = false;
                }
            }
            let overload = function.overloads.first().map(|overload| overload.id);
            self.refer(id, Reference::Function(overload.into_iter().collect()));
            return self.set(id, if fits { Type::Bool } else { Type::Error });
        }
        let mut found: Vec<&'static str> = Vec::new();
        let mut result: Option<Type> = None;
        for overload in function.overloads.iter().filter(|overload| overload.member == target.is_some()) {
            let mut fresh = Substitution::default();
            for parameter in parameters(overload.arguments.iter().chain([&overload.result])) {
                let variable = self.parameter();
                fresh.add(&parameter, variable);
            }
            let wanted: Vec<Type> = overload.arguments.iter().map(|ty| fresh.apply(ty, false)).collect();
            if self.known.assignable_all(&given, &wanted) {
                found.push(overload.id);
                let ty = self.known.apply(&fresh.apply(&overload.result, false), false);
                result = Some(match result {
                    None => ty,
                    Some(known) if known.is_dyn() || ty == known => known,
                    Some(_) => Type::Dyn,
                });
            }
        }
        let Some(result) = result else {
            let shown: Vec<String> = given.iter().map(|ty| self.known.apply(ty, true).written()).collect();
            let (receiver, shown) = match (target, shown.split_first()) {
                (Some(_), Some((receiver, rest))) => (format!("{receiver}."), rest),
                _ => (String::new(), &*shown),
            };
            let name = function.name;
            let shown = shown.join(", ");
            self.report(id, format!("found no matching overload for '{name}' applied to '{receiver}({shown})'"));
            return self.set(id, Type::Error);
        };
        self.set(id, result);
        self.refer(id, Reference::Function(found));
    }

    /// What an optional element holds; something else is a mistake.
    fn held(&mut self, expr: &Expr, optional: bool) -> Type {
        let ty = self.ty(expr);
        if !optional {
            return ty;
        }
        match ty.unwrapped() {
            Some(inner) => inner.clone(),
            None => {
                if !ty.is_dyn() {
                    self.mismatch(expr.id, &Type::optional(ty.clone()), &ty);
                }
                ty
            }
        }
    }

    fn join(&mut self, before: Option<Type>, now: Type) -> Type {
        match before {
            None => now,
            Some(before) if self.known.assignable(&before, &now) => most_general(&before, &now).clone(),
            // That the elements differ is told of the finished tree, where functions may allow it.
            Some(_) => Type::Dyn,
        }
    }

    fn list(&mut self, expr: &mut Expr) {
        let Kind::List(elements) = &mut expr.kind else {
            return;
        };
        let mut item = None;
        for element in elements {
            self.check(&mut element.value);
            let ty = self.held(&element.value, element.optional);
            item = Some(self.join(item, ty));
        }
        let item = item.unwrap_or_else(|| self.parameter());
        self.set(expr.id, Type::list(item));
    }

    fn map(&mut self, expr: &mut Expr) {
        let Kind::Map(entries) = &mut expr.kind else {
            return;
        };
        let (mut key, mut value) = (None, None);
        for entry in entries {
            self.check(&mut entry.key);
            let ty = self.ty(&entry.key);
            key = Some(self.join(key, ty));
            self.check(&mut entry.value);
            let ty = self.held(&entry.value, entry.optional);
            value = Some(self.join(value, ty));
        }
        let (key, value) = (key.unwrap_or_else(|| self.parameter()), value.unwrap_or_else(|| self.parameter()));
        self.set(expr.id, Type::map(key, value));
    }

    fn made(&mut self, expr: &mut Expr) {
        let id = expr.id;
        let Kind::Struct(name, fields) = &mut expr.kind else {
            return;
        };
        let ty = match self.named(name) {
            None => {
                self.set(id, Type::Error);
                return self.undeclared(id, &name.clone());
            }
            Some(Named::Variable(ty)) => {
                self.report(id, format!("'{}' is not a type", ty));
                Type::Error
            }
            Some(Named::Type(ty @ Type::Object(_))) => ty,
            Some(Named::Type(ty)) => {
                self.report(id, format!("'{}' is not a message type", ty));
                Type::Error
            }
        };
        *name = name.strip_prefix('.').unwrap_or(name).into();
        self.set(id, ty.clone());
        let name = name.clone();
        let object = if ty == Type::Error { &*name } else { ty.name() };
        for field in fields {
            self.check(&mut field.value);
            let wanted = self.field_type(field.id, object, &field.name).unwrap_or(Type::Error);
            let found = self.held(&field.value, field.optional);
            if !self.known.assignable(&wanted, &found) {
                let (name, wanted, found) = (&field.name, wanted.written(), found.written());
                let message = format!("expected type of field '{name}' is '{wanted}' but provided type is '{found}'");
                self.report(field.id, message);
            }
        }
    }

    fn fold(&mut self, id: Id, fold: &mut Fold) {
        self.check(&mut fold.range);
        self.check(&mut fold.init);
        let range = self.known.apply(&self.ty(&fold.range), false);
        let accumulated = self.ty(&fold.init);
        self.scopes.push(HashMap::from([(fold.accumulator.clone(), accumulated.clone())]));
        let (first, second) = match (&range, fold.second.is_some()) {
            (Type::List(item), false) => (Type::clone(item), None),
            (Type::List(item), true) => (Type::Int, Some(Type::clone(item))),
            (Type::Map(pair), two) => (pair.0.clone(), two.then(|| pair.1.clone())),
            (Type::Dyn | Type::Any | Type::Error | Type::Param(_), two) => {
                self.known.assignable(&Type::Dyn, &range);
                (Type::Dyn, two.then_some(Type::Dyn))
            }
            (other, two) => {
                let ty = other.written();
                let message = "cannot be range of a comprehension (must be list, map, or dynamic)";
                self.report(fold.range.id, format!("expression of type '{ty}' {message}"));
                (Type::Error, two.then_some(Type::Error))
            }
        };
        let mut variables = HashMap::from([(fold.variable.clone(), first)]);
        variables.extend(fold.second.clone().zip(second));
        self.scopes.push(variables);
        self.check(&mut fold.condition);
        self.assert(&fold.condition, &Type::Bool);
        self.check(&mut fold.step);
        self.assert(&fold.step, &accumulated);
        self.scopes.pop();
        self.check(&mut fold.result);
        self.scopes.pop();
        let ty = self.known.apply(&self.ty(&fold.result), false);
        self.set(id, ty);
    }

    fn assert(&mut self, expr: &Expr, wanted: &Type) {
        let found = self.ty(expr);
        if !self.known.assignable(wanted, &found) {
            self.mismatch(expr.id, wanted, &found);
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

/// The names of parameters in types, each once.
fn parameters<'t>(types: impl Iterator<Item = &'t Type>) -> Vec<Arc<str>> {
    fn gather(ty: &Type, names: &mut Vec<Arc<str>>) {
        match ty {
            Type::Param(name) if !names.contains(name) => names.push(name.clone()),
            Type::List(item) => gather(item, names),
            Type::Map(pair) => {
                gather(&pair.0, names);
                gather(&pair.1, names);
            }
            Type::Opaque(_, parameters) => parameters.iter().for_each(|parameter| gather(parameter, names)),
            Type::Type(Some(of)) => gather(of, names),
            _ => {}
        }
    }
    let mut names = Vec::new();
    types.for_each(|ty| gather(ty, &mut names));
    names
}

/// The type that an expression may name as a value: `type(x) == int`.
fn type_called(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "string" => Type::String,
        "null_type" => Type::Null,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "type" => Type::Type(None),
        "dyn" => Type::Dyn,
        "optional_type" => Type::optional(Type::param("V")),
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "net.IP" | "net.CIDR" => Type::opaque(name),
        _ => return None,
    })
}
