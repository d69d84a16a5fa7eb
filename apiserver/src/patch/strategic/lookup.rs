//! What the schema tells about the merging of a member: its strategy, its merge key, and what is inside.

use crds::schema::{Field, Schema, Shape, TypeId};

use super::{Outcome, Wrong};

/// A place in the schema.
#[derive(Clone, Copy)]
pub(super) struct Lookup<'a> {
    schema: &'a Schema,
    at: At<'a>,
}

#[derive(Clone, Copy)]
enum At<'a> {
    Type(TypeId),
    Shape(&'a Shape),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merging {
    None,
    Merge,
    Replace,
}

pub(super) struct How<'a> {
    pub strategy: Merging,
    pub merge_key: Option<&'a str>,
}

impl<'a> Lookup<'a> {
    pub fn root(schema: &'a Schema, ty: TypeId) -> Self {
        Self { schema, at: At::Type(ty) }
    }

    /// The kind of the Go type that is here.
    pub fn kind(self) -> &'static str {
        match self.at {
            At::Type(_) => "struct",
            At::Shape(shape) => match shape {
                Shape::Bool => "bool",
                Shape::Int32 => "int32",
                Shape::Int64 => "int64",
                Shape::Double => "float64",
                Shape::String => "string",
                Shape::Bytes | Shape::List(_) => "slice",
                Shape::Map(_) => "map",
                _ => "struct",
            },
        }
    }

    fn field(self, key: &str) -> Outcome<&'a Field> {
        let ty = match self.at {
            At::Type(ty) | At::Shape(&Shape::Object(ty)) => self.schema.get(ty),
            At::Shape(_) if self.kind() == "struct" => return Err(Self::missing("", key)),
            At::Shape(_) => {
                let kind = self.kind();
                let why = format!("merging an object in json but data type is not struct, instead is: {kind}");
                return Err(Wrong::Other(why));
            }
        };
        let folded = || ty.fields.iter().find(|f| f.json.eq_ignore_ascii_case(key));
        ty.field(key).or_else(folded).ok_or_else(|| Self::missing(&ty.go, key))
    }

    fn missing(ty: &str, key: &str) -> Wrong {
        let key = crds::field::quote(key);
        Wrong::Other(format!("unable to find api field in struct {ty} for the json field {key}"))
    }

    pub fn object(self, key: &str) -> Outcome<(Self, How<'a>)> {
        let field = self.field(key)?;
        Ok((self.into_shape(&field.shape), how(field)?))
    }

    pub fn list(self, key: &str) -> Outcome<(Self, How<'a>)> {
        let field = self.field(key)?;
        let item = match &field.shape {
            Shape::List(item) if matches!(**item, Shape::List(_)) => {
                return Err(Wrong::Other("unexpected slice of slice".to_owned()));
            }
            Shape::List(item) => item,
            _ => {
                let kind = self.kind();
                return Err(Wrong::Other(format!("expected slice or array type, but got: {kind}")));
            }
        };
        Ok((self.into_shape(item), how(field)?))
    }

    fn into_shape(self, shape: &'a Shape) -> Self {
        Self { schema: self.schema, at: At::Shape(shape) }
    }
}

fn how(field: &Field) -> Outcome<How<'_>> {
    let mut strategies = field.patch_strategies.iter().map(|s| &**s).filter(|s| *s != "retainKeys");
    let strategy = match (strategies.next(), strategies.next()) {
        (_, Some(_)) => return Err(Wrong::Other(format!("unexpected patch strategy: {:?}", field.patch_strategies))),
        (Some("merge"), None) => Merging::Merge,
        (Some("replace"), None) => Merging::Replace,
        (_, None) => Merging::None,
    };
    Ok(How { strategy, merge_key: field.patch_merge_key.as_deref() })
}
