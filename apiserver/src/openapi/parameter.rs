//! Parameters of operations: those that the options kinds of the API hold, and those in paths.

use crds::schema::{Shape, builtin, prose};

/// A parameter in the path or the query.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parameter {
    pub name: String,
    pub place: Place,
    /// `string`, `integer` or `boolean`.
    pub kind: &'static str,
    pub prose: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Path,
    Query,
}

impl Place {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
        }
    }
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

pub fn in_path(name: &str, prose: impl Into<String>) -> Parameter {
    Parameter { name: name.to_owned(), place: Place::Path, kind: "string", prose: prose.into() }
}

pub fn namespace() -> Parameter {
    in_path("namespace", "object name and auth scope, such as for teams and projects")
}

pub fn pretty() -> Parameter {
    let prose = "If 'true', then the output is pretty printed. Defaults to 'false' unless the user-agent indicates a \
        browser or command-line HTTP tool (curl and wget).";
    Parameter { name: "pretty".to_owned(), place: Place::Query, kind: "string", prose: prose.to_owned() }
}

pub fn list() -> Vec<Parameter> {
    options(&format!("{META}.ListOptions"))
}

pub fn create() -> Vec<Parameter> {
    options(&format!("{META}.CreateOptions"))
}

pub fn update() -> Vec<Parameter> {
    options(&format!("{META}.UpdateOptions"))
}

pub fn patch() -> Vec<Parameter> {
    options(&format!("{META}.PatchOptions"))
}

pub fn delete() -> Vec<Parameter> {
    options(&format!("{META}.DeleteOptions"))
}

/// What selects the objects of a collection to delete.
pub fn delete_collection() -> Vec<Parameter> {
    let mut all = delete();
    all.extend(list().into_iter().filter(|p| p.name != "watch" && p.name != "allowWatchBookmarks"));
    all
}

/// The scalar fields of an options type.
pub fn options(name: &str) -> Vec<Parameter> {
    let Some(ty) = builtin().named(name) else { return Vec::new() };
    let mut all = Vec::new();
    for field in ty.fields.iter().filter(|f| &*f.json != "kind" && &*f.json != "apiVersion") {
        let scalar = if let Shape::List(item) = &field.shape { item } else { &field.shape };
        let kind = match scalar {
            Shape::String => "string",
            Shape::Bool => "boolean",
            Shape::Int32 | Shape::Int64 => "integer",
            _ => continue,
        };
        let prose = prose::of_field(name, &field.json).to_owned();
        all.push(Parameter { name: field.json.to_string(), place: Place::Query, kind, prose });
    }
    all
}
