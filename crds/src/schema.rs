//! Schema facts: for every API type its fields, as Go declares them.
//!
//! One table answers strict field checking, canonical JSON, protobuf, strategic merge, server-side apply and OpenAPI.
//! For built-in types it is generated from upstream's Go declarations (see `schema/generate/`); for custom resources it
//! is made from their structural schemas.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

pub mod decode;
pub mod encode;
mod facts;
pub mod go;
pub mod nil;
pub mod prose;
pub mod protobuf;
#[cfg(test)]
pub(crate) mod sample;
pub mod stored;
pub mod time;

/// What Keelson knows of the built-in types.
pub fn builtin() -> &'static Schema {
    // The table is part of the binary and a test parses it, so that there is no failure to tell of here.
    static BUILTIN: LazyLock<Schema> = LazyLock::new(|| facts::parse(facts::TABLE).unwrap_or_default());
    &BUILTIN
}

/// Types by name; types refer to one another by their place in it.
#[derive(Debug, Default)]
pub struct Schema {
    pub types: Vec<Type>,
    by_name: HashMap<Arc<str>, TypeId>,
    by_kind: HashMap<String, TypeId>,
    /// Every group and version that upstream declares, served or not.
    pub versions: Vec<(Arc<str>, Arc<str>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(pub u32);

/// One Go struct that is part of the API.
#[derive(Debug, Default)]
pub struct Type {
    /// The OpenAPI name, `io.k8s.api.core.v1.Pod`.
    pub name: Arc<str>,
    /// The Go name, `Pod`.
    pub go: Arc<str>,
    /// In the order of Go's declaration, embedded structs' fields in their place: the order of JSON output.
    pub fields: Vec<Field>,
    /// `x-kubernetes-map-type: atomic`: server-side apply owns it as a whole.
    pub atomic: bool,
    /// It takes fields that are not declared.
    pub open: bool,
    /// The Go package that error messages name it by: the `v1` of `v1.Pod`.
    pub package: Arc<str>,
    /// What it is served as: group, version and kind.
    pub kinds: Vec<[Arc<str>; 3]>,
    /// The kind that it has in every group and version, as `DeleteOptions` does.
    pub everywhere: Option<Arc<str>>,
    /// `x-kubernetes-unions`.
    pub unions: Option<serde_json::Value>,
    /// Places of the fields that protobuf knows, in the order of their numbers.
    pub by_number: Vec<u16>,
}

/// One field of a type.
#[derive(Clone, Debug)]
pub struct Field {
    pub json: Arc<str>,
    pub go: Arc<str>,
    /// Protobuf field numbers; more than one where the field belongs to an embedded struct that protobuf nests.
    pub numbers: Vec<u32>,
    pub shape: Shape,
    /// Go holds it behind a pointer, so that zero differs from absent.
    pub pointer: bool,
    /// `omitempty`: an empty scalar, list or map, or an absent pointer, is not written. Go writes structs all the same.
    pub omit_empty: bool,
    /// `omitzero`: a zero struct is not written either.
    pub omit_zero: bool,
    pub required: bool,
    pub list: ListType,
    /// `x-kubernetes-list-type` is declared, so that OpenAPI tells it.
    pub list_declared: bool,
    /// `x-kubernetes-map-type: atomic` on the field itself.
    pub atomic: bool,
    /// `x-kubernetes-map-type: granular` on the field: its fields are owned one by one though its type is atomic.
    pub granular: bool,
    /// The key of strategic merge, for lists that are merged by it.
    pub patch_merge_key: Option<Arc<str>>,
    /// `merge`, `replace`, `retainKeys`, as upstream's tag has them.
    pub patch_strategies: Vec<Arc<str>>,
    /// The OpenAPI default: what is declared, or the zero of a field that Go always writes.
    pub default: Option<serde_json::Value>,
    /// The allowed values (of the items, for a list or map), where Go declares an enum.
    pub one_of: Vec<Arc<str>>,
    /// Protobuf has a message around the list (or around each list in the map), as Go's `ExtraValue` does.
    pub wrapped: bool,
    /// The Go type as error messages name it, where it is not plainly what the shape says: `v1.PullPolicy`.
    pub go_type: Option<Arc<str>>,
    /// The embedded structs that Go has it in, joined by dots: `VolumeSource`.
    pub embedded: Option<Arc<str>>,
}

/// How server-side apply treats a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Owned as a whole; also what is assumed where nothing is declared.
    #[default]
    Atomic,
    /// Scalars, each owned by itself.
    Set,
    /// Items known by these fields.
    Map(Vec<Arc<str>>),
}

/// What a value is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    Bool,
    Int32,
    Int64,
    Double,
    String,
    /// Base64 in JSON.
    Bytes,
    Time,
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    /// `FieldsV1` of a managed fields entry.
    FieldsV1,
    /// `runtime.RawExtension`: any object.
    Raw,
    /// `apiextensions` JSON: any value.
    Any,
    /// `JSONSchemaPropsOr…`: an object of this type, or what [`Or`] says.
    Either(TypeId, Or),
    Object(TypeId),
    List(Box<Shape>),
    /// Keys are text.
    Map(Box<Shape>),
}

/// What may stand in the place of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Or {
    Bool,
    /// A list of such objects.
    List,
    /// A list of texts.
    Texts,
}

impl Schema {
    /// The type of a kind, `DeleteOptions` and its like in every group and version included.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<TypeId> {
        let named = |group: &str, version: &str| self.by_kind.get(&format!("{group}/{version} {kind}")).copied();
        named(group, version).or_else(|| named("*", "*"))
    }

    pub fn id(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[id.0 as usize]
    }

    pub fn named(&self, name: &str) -> Option<&Type> {
        self.id(name).map(|id| self.get(id))
    }

    pub fn add(&mut self, ty: Type) -> TypeId {
        let id = TypeId(self.types.len() as u32);
        self.by_name.insert(ty.name.clone(), id);
        self.types.push(ty);
        id
    }

    /// Takes over a type of another table, with all that it is made of.
    pub fn import(&mut self, from: &Self, id: TypeId) -> TypeId {
        let ty = from.get(id);
        if let Some(known) = self.id(&ty.name) {
            return known;
        }
        let copy = Type {
            name: ty.name.clone(),
            go: ty.go.clone(),
            atomic: ty.atomic,
            open: ty.open,
            package: ty.package.clone(),
            ..Type::default()
        };
        let new = self.add(copy);
        let fields =
            ty.fields.iter().map(|field| Field { shape: self.import_shape(from, &field.shape), ..field.clone() });
        let fields = fields.collect();
        self.types[new.0 as usize].fields = fields;
        new
    }

    fn import_shape(&mut self, from: &Self, shape: &Shape) -> Shape {
        match shape {
            Shape::Object(id) => Shape::Object(self.import(from, *id)),
            Shape::Either(id, or) => Shape::Either(self.import(from, *id), *or),
            Shape::List(item) => Shape::List(Box::new(self.import_shape(from, item))),
            Shape::Map(item) => Shape::Map(Box::new(self.import_shape(from, item))),
            other => other.clone(),
        }
    }

    /// Puts the fields of every type in the order of protobuf.
    fn number(&mut self) {
        for ty in &mut self.types {
            let fields = &ty.fields;
            ty.by_number = (0u16..).zip(fields).filter(|(_, f)| !f.numbers.is_empty()).map(|(at, _)| at).collect();
            ty.by_number.sort_by(|a, b| fields[usize::from(*a)].numbers.cmp(&fields[usize::from(*b)].numbers));
        }
    }

    /// Serves a type as a kind.
    pub fn add_kind(&mut self, group: &str, version: &str, kind: &str, id: TypeId) {
        self.by_kind.insert(format!("{group}/{version} {kind}"), id);
        self.types[id.0 as usize].kinds.push([group.into(), version.into(), kind.into()]);
    }
}

impl Field {
    /// A field that Go would declare as `Name T \`json:"name,omitempty"\``.
    pub fn new(json: impl Into<Arc<str>>, go: impl Into<Arc<str>>, shape: Shape) -> Self {
        Self {
            json: json.into(),
            go: go.into(),
            numbers: Vec::new(),
            shape,
            pointer: false,
            omit_empty: true,
            omit_zero: false,
            required: false,
            list: ListType::Atomic,
            list_declared: false,
            atomic: false,
            granular: false,
            patch_merge_key: None,
            patch_strategies: Vec::new(),
            default: None,
            one_of: Vec::new(),
            wrapped: false,
            go_type: None,
            embedded: None,
        }
    }
}

impl Type {
    /// A type that no more is known of than its fields.
    pub fn new(name: &str, fields: Vec<Field>) -> Self {
        Self { name: name.into(), go: name.into(), fields, ..Self::default() }
    }

    /// Fields are few; a scan is faster than a map.
    pub fn field(&self, json: &str) -> Option<&Field> {
        self.fields.iter().find(|f| &*f.json == json)
    }
}
