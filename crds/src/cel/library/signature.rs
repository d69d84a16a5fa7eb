//! Signatures of functions, read from the texts that declare them: `list(T).(int, int): list(T)`.

use crate::cel::typing::Type;

/// Whether the first argument is the receiver, the arguments, and the result.
pub(super) fn read(signature: &str) -> (bool, Vec<Type>, Type) {
    let (before, result) = signature.rsplit_once("): ").unwrap_or((signature, ""));
    let (receiver, arguments) = match before.split_once(".(") {
        Some((receiver, arguments)) => (Some(receiver), arguments),
        None => (None, before.trim_start_matches('(')),
    };
    let mut types: Vec<Type> = receiver.map(ty).into_iter().collect();
    types.extend(split(arguments).into_iter().map(ty));
    (receiver.is_some(), types, ty(result))
}

/// Cuts at the commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn ty(text: &str) -> Type {
    if let Some((name, inner)) = text.split_once('(') {
        let inner: Vec<Type> = split(inner.strip_suffix(')').unwrap_or(inner)).into_iter().map(ty).collect();
        return match (name, inner.as_slice()) {
            ("list", [item]) => Type::list(item.clone()),
            ("map", [key, value]) => Type::map(key.clone(), value.clone()),
            ("optional", [of]) => Type::optional(of.clone()),
            ("type", [of]) => Type::type_of(of.clone()),
            _ => Type::Error,
        };
    }
    match text {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "net.IP" | "net.CIDR" => Type::opaque(text),
        _ if text.len() == 1 => Type::param(text),
        _ if text.contains('.') => Type::object(text),
        _ => Type::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_is_read() {
        for function in super::super::base().values() {
            for overload in &function.overloads {
                let types = overload.arguments.iter().chain([&overload.result]);
                assert!(types.clone().all(|ty| !ty.to_string().contains("error")), "{}", overload.id);
            }
        }
        let (member, arguments, result) = read("map(K, V).(K, list(int)): optional(V)");
        assert!(member);
        assert_eq!(arguments.iter().map(Type::to_string).collect::<Vec<_>>(), ["map(K, V)", "K", "list(int)"]);
        assert_eq!(result.to_string(), "optional_type(V)");
    }
}
