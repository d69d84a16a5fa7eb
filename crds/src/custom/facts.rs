//! The schema facts of a custom kind, for server-side apply: which parts of an object are owned by themselves.

use std::sync::Arc;

use super::structural::{Additional, Structural};
use crate::{
    kind::Facts,
    schema::{self, Field, ListType, Schema, Shape, Type, TypeId},
};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The facts of a kind with this schema.
pub fn of(structural: &Structural) -> Facts {
    let mut maker = Maker { schema: Schema::default(), metadata: None };
    maker.metadata = schema::builtin().id(OBJECT_META).map(|id| maker.schema.import(schema::builtin(), id));
    let id = maker.object("", structural, true, structural.preserves);
    Facts::own(Arc::new(maker.schema), id)
}

struct Maker {
    schema: Schema,
    metadata: Option<TypeId>,
}

impl Maker {
    /// A type with these properties; `open`: it takes others, too.
    fn object(&mut self, path: &str, structural: &Structural, is_resource: bool, open: bool) -> TypeId {
        let mut fields = Vec::with_capacity(structural.properties.len() + 3);
        if is_resource {
            fields.extend(["apiVersion", "kind"].map(|name| field(name, Shape::String)));
            fields.extend(self.metadata.map(|id| field("metadata", Shape::Object(id))));
        }
        for (name, property) in &structural.properties {
            if is_resource && ["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
                continue;
            }
            let shape = self.shape(&format!("{path}.{name}"), property, open);
            let mut field = field(name, shape);
            field.default.clone_from(&property.default);
            field.atomic = property.map_type == "atomic";
            field.list = match property.list_type.as_str() {
                "set" => ListType::Set,
                "map" => ListType::Map(property.list_keys.iter().map(|key| key.as_str().into()).collect()),
                _ => ListType::Atomic,
            };
            fields.push(field);
        }
        let mut ty = Type::new(path, fields);
        ty.atomic = structural.map_type == "atomic";
        ty.open = open || structural.preserves || matches!(structural.additional, Additional::Allowed(true));
        self.schema.add(ty)
    }

    /// What is preserved above is preserved below.
    fn shape(&mut self, path: &str, structural: &Structural, open: bool) -> Shape {
        let open = open || structural.preserves;
        if structural.int_or_string {
            return Shape::Any;
        }
        match structural.kind.as_str() {
            "object" => match structural.values() {
                Some(values) => Shape::Map(Box::new(self.shape(&format!("{path}[*]"), values, open))),
                None if structural.embedded || !structural.properties.is_empty() => {
                    Shape::Object(self.object(path, structural, structural.embedded, open))
                }
                None => Shape::Map(Box::new(Shape::Any)),
            },
            "array" => {
                let none = Structural::default();
                let items = structural.items.as_deref().unwrap_or(&none);
                Shape::List(Box::new(self.shape(&format!("{path}[]"), items, open)))
            }
            "string" if structural.limits.format == "date-time" => Shape::Time,
            "string" => Shape::String,
            "integer" => Shape::Int64,
            "number" => Shape::Double,
            "boolean" => Shape::Bool,
            _ if !structural.properties.is_empty() => Shape::Object(self.object(path, structural, false, open)),
            _ => Shape::Any,
        }
    }
}

/// A field that is there only if somebody has set it.
fn field(name: &str, shape: Shape) -> Field {
    let mut field = Field::new(name, name, shape);
    field.pointer = true;
    field
}
