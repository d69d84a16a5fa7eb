//! Objects as a `meta.k8s.io/v1 Table`: what kubectl prints.

use std::sync::Arc;

use crds::{
    field::{self, Path},
    kind::{Column, Definition, META, NAME, Prose, column},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    cache::Object,
    codec::{answer, json, typed},
    error::{ApiError, Result},
};

/// What stands beside the cells of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    /// The value of `includeObject` in the query; empty if it is not given.
    pub fn parse(value: &str) -> Result<Self> {
        match value {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => {
                let why = "must be 'Metadata', 'Object', 'None', or empty";
                let error = field::Error::invalid(Path::new("includeObject"), other, why);
                Err(ApiError::bad_request(format!("Unable to convert to Table as requested: {error}")))
            }
        }
    }
}

/// The metadata of a table: that of the list, or the resourceVersion of its one object.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_item_count: Option<u64>,
}

/// How the tables of one request look.
#[derive(Clone, Copy)]
pub struct Printer<'a> {
    pub definition: &'a Definition,
    pub include: IncludeObject,
    /// The description of a type's field.
    pub describe: fn(&str, &str) -> &'static str,
    pub now: Timestamp,
}

/// The columns of a kind without its own.
static DEFAULT: [Column; 2] = [NAME, column("Created At", "date", "", 0, Prose::Field(META, "creationTimestamp"))];

/// The bookmark that ends the initial events of a streaming list shows itself by this, whatever is included.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Table<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: &'a Metadata,
    column_definitions: Option<Vec<ColumnDefinition<'a>>>,
    rows: Option<Vec<Row<'a>>>,
}

/// Columns are described by a field's comment alone, to which OpenAPI adds the values that the field can have.
fn without_values(description: &str) -> &str {
    description.split("\n\nPossible enum values:").next().unwrap_or(description)
}

#[derive(Serialize)]
struct ColumnDefinition<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    format: &'a str,
    description: &'a str,
    priority: i32,
}

#[derive(Serialize)]
struct Row<'a> {
    cells: Vec<Value>,
    object: Included<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Included<'a> {
    None,
    Metadata(Partial<'a>),
    Made(Box<RawValue>),
    Whole(&'a RawValue),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Partial<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: &'a RawValue,
}

/// What a row needs of an object's bytes.
#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

impl Printer<'_> {
    /// A table of objects, the JSON text. In a watch only the first table has `headers`.
    pub fn print(&self, objects: &[Arc<Object>], metadata: &Metadata, headers: bool) -> Result<Vec<u8>> {
        let rows = objects.iter().map(|object| self.row(object)).collect::<Result<Vec<_>>>()?;
        self.table(rows, metadata, headers)
    }

    fn table(&self, rows: Vec<Row<'_>>, metadata: &Metadata, headers: bool) -> Result<Vec<u8>> {
        let table = Table {
            kind: "Table",
            api_version: "meta.k8s.io/v1",
            metadata,
            column_definitions: headers.then(|| self.columns()),
            // Upstream's default printer leaves its rows null when there are none, the others do not.
            rows: Some(rows).filter(|rows| !rows.is_empty() || !self.definition.columns.is_empty()),
        };
        json::text(&table).map_err(ApiError::internal)
    }

    /// A table of one object, as an answer or in a watch event.
    pub fn print_one(&self, object: &Arc<Object>, headers: bool) -> Result<Vec<u8>> {
        let metadata = Metadata { resource_version: object.revision.to_string(), ..Metadata::default() };
        self.print(std::slice::from_ref(object), &metadata, headers)
    }

    /// The same of an object that is not stored.
    pub fn print_value(&self, object: &Value) -> Result<Vec<u8>> {
        let revision = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let included = match self.include {
            IncludeObject::None => Included::None,
            IncludeObject::Object => made(&typed::to_json(self.definition, object))?,
            IncludeObject::Metadata => self.partial(object)?,
        };
        let row = Row { cells: self.cells(object), object: included };
        let metadata = Metadata { resource_version: revision.to_owned(), ..Metadata::default() };
        self.table(vec![row], &metadata, true)
    }

    fn columns(&self) -> Vec<ColumnDefinition<'_>> {
        let own = &self.definition.columns;
        let columns = if own.is_empty() { DEFAULT.as_slice() } else { own };
        columns.iter().map(|column| self.column(column)).collect()
    }

    fn column<'c>(&self, column: &'c Column) -> ColumnDefinition<'c> {
        let description = match &column.prose {
            Prose::Text(text) => text,
            Prose::Field(name, field) => without_values((self.describe)(name, field)),
        };
        let Column { name, kind, format, priority, .. } = column;
        ColumnDefinition { name, kind, format, description, priority: *priority }
    }

    fn row<'o>(&self, object: &'o Object) -> Result<Row<'o>> {
        let value = object.value_as(self.definition)?;
        Ok(Row { cells: self.cells(&value), object: self.included(object, &value)? })
    }

    fn cells(&self, object: &Value) -> Vec<Value> {
        if self.definition.columns.is_empty() {
            default_cells(object)
        } else {
            self.definition.rules.row(object, self.now)
        }
    }

    fn partial(&self, object: &Value) -> Result<Included<'static>> {
        made(&typed::json(&answer::partial(self.definition, object)))
    }

    fn included<'o>(&self, object: &'o Object, value: &Value) -> Result<Included<'o>> {
        let ends_initial_events = || !value["metadata"]["annotations"][INITIAL_EVENTS_END].is_null();
        match self.include {
            IncludeObject::Object if object.is_of(self.definition) => Ok(Included::Whole(parse(object.json())?)),
            IncludeObject::Object => made(&typed::to_json(self.definition, value)),
            IncludeObject::None if !ends_initial_events() => Ok(Included::None),
            _ if self.definition.is_custom() || !self.definition.rules.inner_annotations().is_empty() => {
                self.partial(value)
            }
            IncludeObject::None | IncludeObject::Metadata => {
                let Outer { metadata } = parse(object.json())?;
                let (kind, api_version) = ("PartialObjectMetadata", "meta.k8s.io/v1");
                Ok(Included::Metadata(Partial { kind, api_version, metadata }))
            }
        }
    }
}

fn made(json: &[u8]) -> Result<Included<'static>> {
    serde_json::from_slice(json).map(Included::Made).map_err(ApiError::internal)
}

fn parse<'o, T: Deserialize<'o>>(json: &'o [u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(ApiError::internal)
}

fn default_cells(object: &Value) -> Vec<Value> {
    let text = |name: &str| object["metadata"][name].as_str();
    // Go's zero time.
    let created = text("creationTimestamp").unwrap_or("0001-01-01T00:00:00Z");
    vec![text("name").unwrap_or_default().into(), created.into()]
}

#[cfg(test)]
mod tests {
    use crds::{kind::Verb, kinds::KINDS};
    use serde_json::json;

    use super::*;

    fn kind(name: &str) -> &'static Definition {
        KINDS.iter().find(|kind| kind.gvk.kind == name).unwrap()
    }

    fn printer(definition: &Definition, include: IncludeObject) -> Printer<'_> {
        let now = "2024-05-01T10:00:00Z".parse().unwrap();
        Printer { definition, include, describe: |_, field| if field == "name" { "its name" } else { "" }, now }
    }

    fn object(value: &Value) -> Arc<Object> {
        Arc::new(Object::of(value, 7).unwrap())
    }

    fn limit_range() -> Arc<Object> {
        object(&json!({"kind": "LimitRange", "apiVersion": "v1", "spec": {"limits": [{"type": "Pod"}]},
            "metadata": {"name": "a", "namespace": "b", "creationTimestamp": "2024-05-01T09:59:00Z"}}))
    }

    fn print(name: &str, include: IncludeObject, objects: &[Arc<Object>], headers: bool) -> Value {
        let metadata = Metadata { resource_version: "9".into(), next: Some("c".into()), remaining_item_count: Some(3) };
        serde_json::from_slice(&printer(kind(name), include).print(objects, &metadata, headers).unwrap()).unwrap()
    }

    #[test]
    fn columns_are_as_recorded() {
        for definition in KINDS.iter().filter(|kind| kind.verbs.contains(&Verb::List)) {
            let gvk = &definition.gvk;
            let place = match &*gvk.group {
                "" => format!("api__{}", gvk.version),
                group => format!("apis__{group}__{}", gvk.version),
            };
            let path =
                format!("{}/tests/golden/columns/{place}__{}.json", env!("CARGO_MANIFEST_DIR"), definition.plural);
            let recorded: Value = serde_json::from_slice(&std::fs::read(&path).expect(&path)).unwrap();
            let mut columns = serde_json::to_value(printer(definition, IncludeObject::None).columns()).unwrap();
            for column in columns.as_array_mut().unwrap() {
                column.as_object_mut().unwrap().remove("description");
            }
            assert_eq!(columns, recorded, "{gvk:?}");
        }
    }

    #[test]
    fn a_page_of_the_default_table() {
        let table = print("LimitRange", IncludeObject::Metadata, &[limit_range()], true);
        assert_eq!(table["metadata"], json!({"resourceVersion": "9", "continue": "c", "remainingItemCount": 3}));
        let row = &table["rows"][0];
        assert_eq!(row["cells"], json!(["a", "2024-05-01T09:59:00Z"]));
        assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(row["object"]["metadata"]["resourceVersion"], "7");
        assert_eq!(
            (&row["object"]["spec"], &table["columnDefinitions"][0]["description"]),
            (&Value::Null, &json!("its name"))
        );
    }

    #[test]
    fn what_is_included() {
        let included = |include| print("LimitRange", include, &[limit_range()], true)["rows"][0]["object"].clone();
        assert_eq!(included(IncludeObject::None), Value::Null);
        assert_eq!(included(IncludeObject::Object)["spec"], json!({"limits": [{"type": "Pod"}]}));
        let bookmark = object(&json!({"kind": "LimitRange", "apiVersion": "v1",
            "metadata": {"annotations": {"k8s.io/initial-events-end": "true"}}}));
        let table = print("LimitRange", IncludeObject::None, &[bookmark], false);
        assert_eq!(table["rows"][0]["object"]["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    }

    #[test]
    fn tables_without_rows_or_headers() {
        assert_eq!(print("LimitRange", IncludeObject::None, &[], true)["rows"], Value::Null);
        assert_eq!(print("ConfigMap", IncludeObject::None, &[], true)["rows"], json!([]));
        let printer = printer(kind("LimitRange"), IncludeObject::None);
        let event: Value = serde_json::from_slice(&printer.print_one(&limit_range(), false).unwrap()).unwrap();
        assert_eq!(event["metadata"], json!({"resourceVersion": "7"}));
        assert_eq!(event.get("columnDefinitions"), Some(&Value::Null));
    }

    #[test]
    fn include_object_is_checked() {
        let error = IncludeObject::parse("Some").unwrap_err();
        assert_eq!(
            error.message(),
            "Unable to convert to Table as requested: includeObject: Invalid value: \"Some\": must be 'Metadata', 'Object', 'None', or empty"
        );
        assert_eq!(IncludeObject::parse("").unwrap(), IncludeObject::Metadata);
    }
}
