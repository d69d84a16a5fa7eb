//! Descriptions of types and fields, unpacked when first asked for.

use std::{
    collections::HashMap,
    io::Read,
    sync::{Arc, LazyLock},
};

use flate2::read::GzDecoder;

static PACKED: &[u8] = include_bytes!("prose.txt.gz");

#[derive(Default)]
struct Prose {
    own: String,
    fields: HashMap<String, String>,
}

static PROSE: LazyLock<HashMap<Arc<str>, Prose>> = LazyLock::new(|| {
    let mut text = String::new();
    match GzDecoder::new(PACKED).read_to_string(&mut text) {
        Ok(_) => parse(&text),
        Err(_) => HashMap::new(),
    }
});

/// The description of a type, by its OpenAPI name; empty if there is none.
pub fn of_type(name: &str) -> &'static str {
    PROSE.get(name).map_or("", |prose| &prose.own)
}

/// The description of a type's field.
pub fn of_field(name: &str, field: &str) -> &'static str {
    PROSE.get(name).and_then(|prose| prose.fields.get(field)).map_or("", String::as_str)
}

/// A type's line is `name\tprose`; a field's begins with another tab and belongs to the type above.
fn parse(text: &str) -> HashMap<Arc<str>, Prose> {
    let mut all: HashMap<Arc<str>, Prose> = HashMap::new();
    let mut current: Arc<str> = Arc::default();
    for line in text.lines() {
        let (field, line) = line.strip_prefix('\t').map_or((false, line), |field| (true, field));
        let Some((name, prose)) = line.split_once('\t') else { continue };
        if field {
            all.entry(current.clone()).or_default().fields.insert(name.to_owned(), unescape(prose));
        } else {
            current = name.into();
            all.entry(current.clone()).or_default().own = unescape(prose);
        }
    }
    all
}

fn unescape(prose: &str) -> String {
    let mut out = String::with_capacity(prose.len());
    let mut chars = prose.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                _ => '\\',
            }),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::builtin;

    #[test]
    fn described() {
        let pod = "io.k8s.api.core.v1.Pod";
        assert!(of_type(pod).starts_with("Pod is a collection of containers"));
        assert!(of_field(pod, "spec").starts_with("Specification of the desired behavior of the pod."));
        assert_eq!(of_field(pod, "gadget"), "");
        let bare = |name: &str| of_type(name).is_empty() && name.starts_with("io.k8s.api.");
        let undescribed = builtin().types.iter().filter(|ty| bare(&ty.name)).count();
        assert!(undescribed < 20, "{undescribed} types have no description");
    }
}
