//! Checks of literals that have the right type and still cannot be used: `duration('1parsec')`.

use super::{
    ast::{Checked, Expr, Kind, Literal},
    issue::Issues,
    library,
    time::{self, Moment},
    typing::Type,
};

pub(crate) fn validate(checked: &Checked) -> Result<(), Issues> {
    let mut validator = Validator { checked, issues: Issues::new(&checked.source) };
    validator.literals(&checked.root);
    validator.aggregates(&checked.root);
    validator.formats(&checked.root);
    if validator.issues.is_empty() { Ok(()) } else { Err(validator.issues) }
}

struct Validator<'c> {
    checked: &'c Checked,
    issues: Issues,
}

impl Validator<'_> {
    fn report(&mut self, expr: &Expr, message: String) {
        self.issues.report(self.checked.places.get(expr.id).copied(), message);
    }

    /// Arguments of conversions and matches that are literals must be what these can read.
    fn literals(&mut self, expr: &Expr) {
        if let Kind::Call { function, arguments, .. } = &expr.kind
            && let Some(argument) = arguments.first()
            && let Kind::Literal(literal) = &argument.kind
        {
            let fits = match (&**function, literal) {
                ("duration", Literal::String(text)) => time::go_duration(text).is_some(),
                ("timestamp", Literal::String(text)) => {
                    Moment::rfc3339(text).is_some_and(|moment| moment.is_within_years())
                }
                ("timestamp", Literal::Int(seconds)) => Moment::from_seconds(*seconds).is_some(),
                ("matches", Literal::String(pattern)) => library::regex::compile(pattern).is_ok(),
                _ => true,
            };
            if !fits {
                self.report(argument, format!("invalid {function} argument"));
            }
        }
        for child in expr.children() {
            self.literals(child);
        }
    }

    /// The elements of a literal list or map have one type, but within arguments of `format`.
    fn aggregates(&mut self, expr: &Expr) {
        match &expr.kind {
            Kind::Call { function, .. } if &**function == "format" => return,
            Kind::List(elements) => {
                let types = elements.iter().map(|element| (&element.value, element.optional));
                self.alike(types, true);
            }
            Kind::Map(entries) => {
                self.alike(entries.iter().map(|entry| (&entry.key, false)), false);
                self.alike(entries.iter().map(|entry| (&entry.value, entry.optional)), false);
            }
            _ => {}
        }
        for child in expr.children() {
            self.aggregates(child);
        }
    }

    fn alike<'x>(&mut self, exprs: impl Iterator<Item = (&'x Expr, bool)>, once: bool) {
        let mut first: Option<Type> = None;
        for (expr, optional) in exprs {
            let ty = self.checked.ty(expr);
            let ty = ty.unwrapped().filter(|_| optional).unwrap_or(ty).clone();
            match &first {
                None => first = Some(ty),
                Some(first) if *first == ty => {}
                Some(first) => {
                    let message = format!("expected type '{}' but found '{}'", first.written(), ty.written());
                    self.report(expr, message);
                    if once {
                        return;
                    }
                }
            }
        }
    }

    /// The clauses of a literal format must fit the elements of a literal list.
    fn formats(&mut self, expr: &Expr) {
        if let Kind::Call { function, target: Some(target), arguments } = &expr.kind
            && &**function == "format"
            && let Kind::Literal(Literal::String(format)) = &target.kind
            && let Some(Kind::List(elements)) = arguments.first().map(|argument| &argument.kind)
        {
            let elements: Vec<(&Expr, &Type)> =
                elements.iter().map(|element| (&element.value, self.checked.ty(&element.value))).collect();
            let types: Vec<&Type> = elements.iter().map(|(_, ty)| *ty).collect();
            match library::format_string::check(format, &types) {
                Err((index, message)) => {
                    let at = index.and_then(|index| elements.get(index)).map_or(expr, |(element, _)| element);
                    self.report(at, message);
                }
                Ok(used) if used < elements.len() => {
                    let given = elements.len();
                    let message =
                        format!("too many arguments supplied to string.format (expected {used}, got {given})");
                    self.report(expr, message);
                }
                Ok(_) => {}
            }
        }
        for child in expr.children() {
            self.formats(child);
        }
    }
}
