//! Estimates of calls, by function and overload.

use super::{Coster, Entries, Estimate, Way, joined};
use crate::cel::{
    ast::{ACCUMULATOR, Expr, Kind, Literal},
    spent::{CHARACTER, PATTERN, is_text_comparison},
    typing::Type,
};

/// A call's argument as the rules see it.
struct Argument<'x> {
    expr: &'x Expr,
    ty: Type,
    way: Way,
    size: Option<Estimate>,
}

impl Argument<'_> {
    fn size(&self) -> Estimate {
        self.size.unwrap_or(Estimate::UNKNOWN)
    }

    /// A literal number, or else what is given.
    fn number(&self, default: u64) -> u64 {
        match &self.expr.kind {
            Kind::Literal(Literal::Int(n)) => u64::try_from(*n).unwrap_or(0),
            _ => default,
        }
    }
}

/// The cost of a call by itself, and the size of its result where that is known.
type CallCost = (Estimate, Option<Estimate>);

const ONE: Estimate = Estimate::fixed(1);

impl Coster<'_> {
    fn argument<'x>(&mut self, expr: &'x Expr) -> Argument<'x> {
        let way = self.way(expr);
        let own = way.first().is_some_and(|name| [ACCUMULATOR, "__result__"].contains(&&**name));
        let way = if own { Way::new() } else { way };
        Argument { expr, ty: self.checked.ty(expr).clone(), way, size: self.size(expr) }
    }

    pub(super) fn call(&mut self, expr: &Expr, function: &str, target: Option<&Expr>, given: &[Expr]) -> Estimate {
        if let ("dyn", [argument]) = (function, given) {
            let cost = self.cost(argument).plus(ONE);
            self.copy_sizes(expr, argument);
            return cost;
        }
        let mut costs = Vec::with_capacity(given.len());
        let mut arguments = Vec::with_capacity(given.len());
        for argument in given {
            costs.push(self.cost(argument));
            arguments.push(self.argument(argument));
        }
        let overloads = self.checked.overloads(expr);
        if overloads.is_empty() {
            return Estimate::default();
        }
        let mut sum = Estimate::default();
        let target = target.map(|target| {
            sum = self.cost(target);
            self.argument(target)
        });
        let mut cost = Estimate { min: u64::MAX, max: 0 };
        let mut size: Option<Estimate> = None;
        for overload in overloads {
            let (call, result) = self.overload(expr, function, overload, target.as_ref(), &arguments, &costs);
            cost = cost.or(call);
            size = match (size, result) {
                (Some(size), Some(result)) => Some(size.or(result)),
                (size, result) => size.or(result),
            };
            if let ("index_list" | "index_map", Some(of)) = (*overload, given.first()) {
                size = self.entries_of(of).map(|entries| entries.value);
                let mut way = self.way(of);
                way.push(if *overload == "index_list" { "@items" } else { "@values" }.into());
                self.paths.insert(expr.id, way);
            }
            if size.is_none() {
                size = self.size(expr);
            }
        }
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
        sum.plus(cost)
    }

    fn overload(
        &mut self,
        expr: &Expr,
        function: &str,
        overload: &str,
        target: Option<&Argument<'_>>,
        arguments: &[Argument<'_>],
        costs: &[Estimate],
    ) -> CallCost {
        let sum = costs.iter().fold(Estimate::default(), |sum, cost| sum.plus(*cost));
        let own =
            of_list(overload, target, arguments).or_else(|| self.of_kubernetes(function, overload, target, arguments));
        if let Some((cost, size)) = own {
            return (cost.plus(sum), size);
        }
        match (overload, arguments) {
            ("string_format", _) if target.is_some() => {
                (target.map_or(Estimate::UNKNOWN, Argument::size).scaled(CHARACTER).plus(sum), None)
            }
            ("string_to_bytes", [of]) => {
                let size = of.size();
                let result = Estimate { min: size.min, max: size.max.wrapping_mul(4) };
                (size.scaled(CHARACTER).plus(sum), Some(result))
            }
            ("bytes_to_string", [of]) => {
                let size = of.size();
                (size.scaled(CHARACTER).plus(sum), Some(Estimate { min: size.min / 4, max: size.max }))
            }
            ("strings_quote", [of]) => {
                let size = of.size();
                let result = Estimate { min: size.min.wrapping_add(2), max: size.max.wrapping_mul(2).wrapping_add(2) };
                (size.scaled(CHARACTER).plus(sum), Some(result))
            }
            ("starts_with_string" | "ends_with_string", [part]) => (part.size().scaled(CHARACTER).plus(sum), None),
            ("in_list", [_, list]) => (list.size().scaled(1.0).plus(sum), None),
            ("matches_string", [pattern]) if target.is_some() => {
                let text = target.map_or(Estimate::UNKNOWN, Argument::size).plus(ONE).scaled(CHARACTER);
                (text.times(pattern.size().scaled(PATTERN)).plus(sum), None)
            }
            ("contains_string", [part]) if target.is_some() => {
                let text = target.map_or(Estimate::UNKNOWN, Argument::size).scaled(CHARACTER);
                (text.times(part.size().scaled(CHARACTER)).plus(sum), None)
            }
            ("logical_or" | "logical_and", [..]) => match costs {
                [left, right] => (Estimate { min: left.min, max: left.plus(*right).max }, None),
                _ => (sum, None),
            },
            ("conditional", [_, then, otherwise]) => {
                let size = then.size().or(otherwise.size());
                let entries = joined(self.entries_of(then.expr), self.entries_of(otherwise.expr));
                self.set_entries(expr, entries);
                match costs {
                    [condition, then, otherwise] => (condition.plus(then.or(*otherwise)), Some(size)),
                    _ => (sum, Some(size)),
                }
            }
            ("add_string" | "add_bytes" | "add_list", [left, right]) => {
                let size = left.size().plus(right.size());
                let entries = joined(self.entries_of(left.expr), self.entries_of(right.expr));
                self.set_entries(expr, entries);
                let cost = if overload == "add_list" { ONE } else { size.scaled(CHARACTER) };
                (cost.plus(sum), Some(size))
            }
            (compared, [left, right])
                if ["equals", "not_equals"].contains(&compared) || is_text_comparison(compared) =>
            {
                let max = left.size().max.min(right.size().max);
                (Estimate { min: u64::from(max > 0), max }.scaled(CHARACTER).plus(sum), None)
            }
            _ => (ONE.plus(sum), None),
        }
    }

    fn set_entries(&mut self, expr: &Expr, entries: Option<Entries>) {
        if let Some(entries) = entries {
            self.entries.insert(expr.id, entries);
        }
    }

    /// The size of the items of a list.
    fn item(&self, list: &Argument<'_>) -> Option<(Type, Estimate)> {
        let item = match &list.ty {
            Type::List(item) => Type::clone(item),
            Type::Map(pair) => pair.0.clone(),
            other => other.unwrapped()?.clone(),
        };
        let mut way = list.way.clone();
        let size = if way.is_empty() {
            None
        } else {
            way.push("@items".into());
            self.declared_size(&way)
        };
        Some((item, size.unwrap_or(Estimate::UNKNOWN)))
    }

    /// What Kubernetes' libraries cost.
    fn of_kubernetes(
        &self,
        function: &str,
        overload: &str,
        target: Option<&Argument<'_>>,
        arguments: &[Argument<'_>],
    ) -> Option<CallCost> {
        let first = arguments.first();
        let of = |argument: &Argument<'_>| argument.size();
        Some(match function {
            "check" => (Estimate::fixed(350_000), None),
            "serviceAccount"
            | "path"
            | "group"
            | "resource"
            | "subresource"
            | "namespace"
            | "name"
            | "allowed"
            | "reason"
            | "error"
            | "errored"
            | "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "format.named"
            | "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
            | "getScheme"
            | "getHostname"
            | "getHost"
            | "getPort"
            | "getEscapedPath"
            | "getQuery" => (ONE, None),
            "fieldSelector" | "labelSelector" => {
                let [selector] = arguments else {
                    return None;
                };
                let length = of(selector);
                let requirements = length.scaled(0.5).scaled(50.0);
                (Estimate::fixed(10).plus(length.scaled(CHARACTER)).plus(requirements), None)
            }
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
                let target = target?;
                match self.item(target) {
                    Some((Type::String | Type::Bytes, size)) => {
                        (of(target).times(ONE.plus(size.scaled(CHARACTER))), None)
                    }
                    Some(_) => (of(target).times(ONE), None),
                    None => (of(target).scaled(CHARACTER), None),
                }
            }
            "url" | "jsonpatch.escapeKey" => {
                let size = of(first?);
                (size.scaled(CHARACTER), Some(size))
            }
            "lowerAscii" | "upperAscii" | "substring" | "trim" => {
                let size = of(target?);
                (size.scaled(CHARACTER), Some(size))
            }
            "replace" => {
                let size = of(target?);
                let [old, new, ..] = arguments else {
                    return None;
                };
                (size.scaled(2.0 * CHARACTER), Some(replaced(size, of(old), of(new))))
            }
            "split" => {
                let size = of(target?);
                let max = arguments.get(1).map_or(size.max, |most| match &most.expr.kind {
                    Kind::Literal(Literal::Int(most)) => *most as u64,
                    _ => size.max,
                });
                (size.scaled(2.0 * CHARACTER), Some(Estimate { min: 0, max }))
            }
            "join" => {
                let list = of(target?);
                let mut size = target.and_then(|t| self.item(t)).map_or(Estimate::default(), |(_, s)| list.times(s));
                if let Some(separator) = first {
                    let between = Estimate { min: list.min.saturating_sub(1), max: list.max.saturating_sub(1) };
                    size = size.plus(of(separator).times(between));
                }
                (size.scaled(CHARACTER), Some(size))
            }
            "find" | "findAll" => {
                let size = of(target?);
                let cost = size.plus(ONE).scaled(CHARACTER).times(of(first?).scaled(PATTERN));
                (cost, Some(Estimate { min: 0, max: size.max }))
            }
            "ip" if overload == "cidr_ip" => (ONE, None),
            "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
                (of(first?).scaled(CHARACTER), None)
            }
            "ip.isCanonical" => (of(first?).scaled(2.0 * CHARACTER), None),
            "containsIP" | "containsCIDR" => {
                let address = Estimate { min: 4, max: 16 };
                let mut cost = address.plus(address).scaled(CHARACTER);
                if function == "containsCIDR" {
                    cost = cost.plus(address.scaled(CHARACTER)).plus(ONE);
                }
                let text = ["cidr_contains_ip_string", "cidr_contains_cidr_string"].contains(&overload);
                (if text { cost.plus(of(first?).scaled(CHARACTER)) } else { cost }, None)
            }
            "validate" => (of(first?).scaled(CHARACTER).scaled(128.0 * PATTERN), None),
            "includes" if target.is_some() => (Estimate { min: 0, max: 64 }, None),
            "_==_" => match arguments {
                [left, right] if left.ty == right.ty => (same_type(&left.ty, right)?, None),
                _ => return None,
            },
            _ => return None,
        })
    }
}

/// What it costs to compare two values of one of Kubernetes' types.
fn same_type(ty: &Type, right: &Argument<'_>) -> Option<Estimate> {
    Some(match ty {
        Type::Opaque(name, _) if ["net.IP", "net.CIDR"].contains(&&**name) => ONE,
        Type::Object(name) => match &**name {
            "kubernetes.Quantity" | "kubernetes.Semver" => ONE,
            "kubernetes.NamedFormat" => Estimate { min: 1, max: 64 }.scaled(CHARACTER),
            "kubernetes.URL" => {
                let max = right.size.map_or(1, |size| size.max);
                Estimate { min: 1, max }.scaled(CHARACTER)
            }
            name if name.starts_with("kubernetes.authorization.") => ONE,
            _ => return None,
        },
        _ => return None,
    })
}

/// The size of a text after replacing; the more the shorter what goes and the longer what comes.
fn replaced(size: Estimate, old: Estimate, new: Estimate) -> Estimate {
    let times = |size: u64, by: u64| (size as f64 / by as f64).ceil() as u64;
    let (most, kept_most) = match old.min {
        0 => (size.max.saturating_add(1), size.max),
        least if new.max <= least => (0, size.max),
        least => (times(size.max, least), 0),
    };
    let (fewest, kept_least) = match old.max {
        0 => (size.min.saturating_add(1), size.min),
        longest if longest <= new.min => (0, size.min),
        longest => (times(size.min, longest), 0),
    };
    Estimate { min: fewest, max: most }.times(new).plus(Estimate { min: kept_least, max: kept_most })
}

/// What the libraries of lists and sets reckon themselves.
fn of_list(overload: &str, target: Option<&Argument<'_>>, arguments: &[Argument<'_>]) -> Option<CallCost> {
    let made =
        |factor: f64, size: Estimate| Some((size.scaled(factor).plus(ONE).plus(Estimate::fixed(10)), Some(size)));
    let compared = |list: &Argument<'_>, key: &str| {
        let long = key.starts_with("list_string_") || key.starts_with("list_bytes_");
        let size = list.size();
        made(if long { 2.0 + CHARACTER } else { 2.0 }, size.times(size))
    };
    match (overload, target, arguments) {
        ("list_sets_contains_list" | "list_sets_intersects_list", _, [one, other]) => {
            Some((one.size().times(other.size()).scaled(1.0).plus(ONE), None))
        }
        ("list_sets_equivalent_list", _, [one, other]) => {
            Some((one.size().times(other.size()).scaled(2.0).plus(ONE), None))
        }
        ("list_slice", Some(list), [start, end]) => {
            let (start, end) = (start.number(0), end.number(list.size().max));
            made(1.0, Estimate::fixed(end.wrapping_sub(start)))
        }
        ("lists_range", None, [end]) => made(1.0, Estimate::fixed(end.number(u64::MAX))),
        ("list_reverse", Some(list), []) => made(1.0, list.size()),
        ("list_flatten", Some(list), []) => made(1.0, list.size()),
        ("list_flatten_int", Some(list), [depth]) => made(depth.number(u64::MAX) as f64, list.size()),
        ("list_distinct", Some(list), []) => made(2.0, list.size().times(list.size())),
        (sort, Some(list), []) if sort.starts_with("list_") && sort.ends_with("_sort") => compared(list, sort),
        (sort, Some(_), [keys]) if sort.ends_with("_sortByAssociatedKeys") => compared(keys, sort),
        _ => None,
    }
}
