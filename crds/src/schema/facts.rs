//! The table of built-in types as text: how `facts.txt` is read.
//!
//! Lines, by their first letter: `V group/version` that upstream declares; `P openapi.package package`, in which the
//! following types are; `T Name`, a type; `K group/version Kind` that the type is served as (`*` for every group and
//! version). A line that begins with a tab is a field: JSON name, Go name, protobuf numbers (joined by dots, `-` for
//! none), shape and flags, separated by blanks; then attributes `name=value`, each after a tab.
//!
//! Shapes: `s` string, `b` bool, `i` int32, `l` int64, `d` double, `y` bytes, `t` Time, `m` MicroTime, `u` Duration,
//! `q` Quantity, `o` IntOrString, `f` FieldsV1, `r` RawExtension, `a` any value, `[X` list, `{X` map, `@Name` a type (of
//! this package where it has no dots), `?b`, `?l`, `?t` a `JSONSchemaProps` or a bool, a list of such, a list of texts.
//! Flags: `p` pointer, `o` omitempty, `z` omitzero, `r` required, `w` wrapped.

use std::sync::Arc;

use super::{Field, ListType, Or, Schema, Shape, Type, TypeId};

pub const TABLE: &str = include_str!("facts.txt");

/// What is wrong with the table, and where.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line} of the schema facts: {problem}")]
pub struct FactsError {
    line: usize,
    problem: &'static str,
}

struct Reader {
    schema: Schema,
    package: String,
    go_package: Arc<str>,
    current: Option<TypeId>,
}

pub fn parse(table: &str) -> Result<Schema, FactsError> {
    let mut reader =
        Reader { schema: Schema::default(), package: String::new(), go_package: Arc::default(), current: None };
    reader.schema.types.reserve(1_000);
    for (at, line) in table.lines().enumerate() {
        reader.line(line).map_err(|problem| FactsError { line: at + 1, problem })?;
    }
    reader.schema.number();
    Ok(reader.schema)
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), &'static str> {
        if let Some(field) = line.strip_prefix('\t') {
            return self.field(field);
        }
        match line.split_once(' ').ok_or("has no value")? {
            ("V", version) => {
                let (group, version) = version.split_once('/').ok_or("has no version")?;
                self.schema.versions.push((group.into(), version.into()));
            }
            ("P", packages) => {
                let (package, go) = packages.split_once(' ').ok_or("has no Go package")?;
                self.package = package.to_owned();
                self.go_package = go.into();
            }
            ("T", ty) => self.ty(ty)?,
            ("K", kind) => self.kind(kind)?,
            ("#", _) => {}
            _ => return Err("is of no known sort"),
        }
        Ok(())
    }

    fn ty(&mut self, line: &str) -> Result<(), &'static str> {
        let mut parts = line.split('\t');
        let name = parts.next().unwrap_or_default();
        let id = self.reference(name);
        self.current = Some(id);
        let package = self.go_package.clone();
        let ty = &mut self.schema.types[id.0 as usize];
        ty.go = name.into();
        ty.package = package;
        for attribute in parts {
            match attribute.split_once('=').ok_or("has an attribute without a value")? {
                ("go", go) => ty.go = go.into(),
                ("map", kind) => ty.atomic = kind == "atomic",
                ("unions", json) => {
                    ty.unions = Some(serde_json::from_str(json).map_err(|_| "has unions that are no JSON")?)
                }
                _ => return Err("has an unknown attribute"),
            }
        }
        Ok(())
    }

    fn kind(&mut self, line: &str) -> Result<(), &'static str> {
        let id = self.current.ok_or("stands before a type")?;
        let (version, kind) = line.split_once(' ').ok_or("has no kind")?;
        if version == "*" {
            self.schema.by_kind.insert(format!("*/* {kind}"), id);
            self.schema.types[id.0 as usize].everywhere = Some(kind.into());
            return Ok(());
        }
        let (group, version) = version.split_once('/').ok_or("has no version")?;
        self.schema.add_kind(group, version, kind, id);
        Ok(())
    }

    fn field(&mut self, line: &str) -> Result<(), &'static str> {
        let id = self.current.ok_or("stands before a type")?;
        let mut attributes = line.split('\t');
        let mut words = attributes.next().unwrap_or_default().split(' ');
        let mut word = || words.next().ok_or("is cut short");
        let (json, go, numbers, shape, flags) = (word()?, word()?, word()?, word()?, word()?);
        let mut field = Field::new(json, go, self.shape(shape)?);
        if numbers != "-" {
            field.numbers =
                numbers.split('.').map(str::parse).collect::<Result<_, _>>().map_err(|_| "has a bad number")?;
        }
        field.pointer = flags.contains('p');
        field.omit_empty = flags.contains('o');
        field.omit_zero = flags.contains('z');
        field.required = flags.contains('r');
        field.wrapped = flags.contains('w');
        for attribute in attributes {
            attach(&mut field, attribute)?;
        }
        self.schema.types[id.0 as usize].fields.push(field);
        Ok(())
    }

    fn shape(&mut self, code: &str) -> Result<Shape, &'static str> {
        let (first, rest) = code.split_at_checked(1).ok_or("has no shape")?;
        Ok(match first {
            "s" => Shape::String,
            "b" => Shape::Bool,
            "i" => Shape::Int32,
            "l" => Shape::Int64,
            "d" => Shape::Double,
            "y" => Shape::Bytes,
            "t" => Shape::Time,
            "m" => Shape::MicroTime,
            "u" => Shape::Duration,
            "q" => Shape::Quantity,
            "o" => Shape::IntOrString,
            "f" => Shape::FieldsV1,
            "r" => Shape::Raw,
            "a" => Shape::Any,
            "[" => Shape::List(Box::new(self.shape(rest)?)),
            "{" => Shape::Map(Box::new(self.shape(rest)?)),
            "@" => Shape::Object(self.reference(rest)),
            "?" => {
                let or = match rest {
                    "b" => Or::Bool,
                    "l" => Or::List,
                    "t" => Or::Texts,
                    _ => return Err("has an unknown shape"),
                };
                Shape::Either(self.reference("JSONSchemaProps"), or)
            }
            _ => return Err("has an unknown shape"),
        })
    }

    /// The type of a name, which may be described further on.
    fn reference(&mut self, name: &str) -> TypeId {
        let full = if name.contains('.') { name.to_owned() } else { format!("{}.{name}", self.package) };
        match self.schema.id(&full) {
            Some(id) => id,
            None => self.schema.add(Type { name: full.into(), ..Type::default() }),
        }
    }
}

fn attach(field: &mut Field, attribute: &str) -> Result<(), &'static str> {
    let list = |texts: &str| texts.split(',').map(Arc::from).collect::<Vec<Arc<str>>>();
    match attribute.split_once('=').ok_or("has an attribute without a value")? {
        ("go", go) => field.go_type = Some(go.into()),
        ("in", embedded) => field.embedded = Some(embedded.into()),
        ("list", "set") => (field.list, field.list_declared) = (ListType::Set, true),
        ("list", _) => field.list_declared = true,
        ("keys", keys) => field.list = ListType::Map(list(keys)),
        ("map", kind) => (field.atomic, field.granular) = (kind == "atomic", kind == "granular"),
        ("merge", key) => field.patch_merge_key = Some(key.into()),
        ("patch", strategies) => field.patch_strategies = list(strategies),
        ("enum", values) => field.one_of = list(values),
        ("default", json) => {
            field.default = Some(serde_json::from_str(json).map_err(|_| "has a default that is no JSON")?)
        }
        _ => return Err("has an unknown attribute"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::KINDS;

    #[test]
    fn table_is_sound() {
        let schema = parse(TABLE).unwrap();
        assert!(schema.types.iter().all(|ty| !ty.go.is_empty()), "a type is named and not described");
        for kind in KINDS.iter() {
            let gvk = &kind.gvk;
            let id = schema.kind(&gvk.group, &gvk.version, &gvk.kind);
            assert_eq!(id, schema.id(&kind.schema_name), "{gvk:?}");
            assert!(id.is_some(), "{gvk:?}");
        }
        assert!(schema.kind("apps", "v1", "DeleteOptions").is_some());
    }

    #[test]
    fn field() {
        let schema = parse(TABLE).unwrap();
        let ports = schema.named("io.k8s.api.core.v1.Container").unwrap().field("ports").unwrap();
        assert_eq!(ports.list, ListType::Map(vec!["containerPort".into(), "protocol".into()]));
        assert_eq!(ports.patch_merge_key.as_deref(), Some("containerPort"));
        let volume = schema.named("io.k8s.api.core.v1.Volume").unwrap().field("secret").unwrap();
        assert_eq!((volume.numbers.as_slice(), volume.pointer), ([2, 6].as_slice(), true));
    }

    #[test]
    fn damage_is_told() {
        for bad in ["T", "\ta A 1 s -", "P a b\nT A\n\ta A 1 x -", "P a b\nT A\n\ta A n s -", "Z z"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
