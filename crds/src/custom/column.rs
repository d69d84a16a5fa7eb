//! The cells of `kubectl get` for custom resources.

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use serde_json::Value;

use super::{json_path::JsonPath, number};
use crate::{
    kind::{AGE, Column, NAME, Prose},
    table,
};

/// A column beside the name.
#[derive(Clone, Debug)]
pub struct Printed {
    kind: String,
    path: JsonPath,
}

/// The columns of a version; a version without any has the age. One whose path cannot be read ends them.
pub fn columns(columns: &[CustomResourceColumnDefinition]) -> (Vec<Column>, Vec<Printed>) {
    let mut headers = vec![NAME];
    let mut printed = Vec::new();
    if columns.is_empty() {
        headers.push(Column { kind: "date".into(), ..AGE });
        printed.extend(
            JsonPath::parse(".metadata.creationTimestamp").ok().map(|path| Printed { kind: "date".to_owned(), path }),
        );
    }
    for column in columns {
        let Ok(path) = JsonPath::parse(&column.json_path) else { break };
        let prose = match column.description.as_deref().unwrap_or_default() {
            "" => format!("Custom resource definition column (in JSONPath format): {}", column.json_path),
            words => words.to_owned(),
        };
        headers.push(Column {
            name: column.name.clone().into(),
            kind: column.type_.clone().into(),
            format: column.format.clone().unwrap_or_default().into(),
            prose: Prose::Text(prose.into()),
            priority: column.priority.unwrap_or_default(),
        });
        printed.push(Printed { kind: column.type_.clone(), path });
    }
    (headers, printed)
}

/// The cells of an object, its name first.
pub fn row(object: &Value, columns: &[Printed], now: Timestamp) -> Vec<Value> {
    let name = object.pointer("/metadata/name").cloned().unwrap_or_default();
    std::iter::once(name).chain(columns.iter().map(|column| column.cell(object, now).unwrap_or_default())).collect()
}

impl Printed {
    fn cell(&self, object: &Value, now: Timestamp) -> Option<Value> {
        let value = *self.path.find(object).first()?;
        match (self.kind.as_str(), value) {
            (_, Value::Null) => None,
            ("string", Value::Array(_) | Value::Object(_)) => Some(value.to_string().into()),
            ("string", value) => Some(number::shown(value).into()),
            ("integer", Value::Number(number)) => {
                number.as_i64().or_else(|| number.as_f64().map(|n| n as i64)).map(Value::from)
            }
            ("number", Value::Number(number)) => Some(Value::Number(number.clone())),
            ("boolean", Value::Bool(flag)) => Some(Value::Bool(*flag)),
            ("date", Value::String(text)) if text.is_empty() => Some("<unknown>".into()),
            ("date", Value::String(text)) => Some(
                text.parse::<Timestamp>()
                    .map_or_else(|_| "<invalid>".to_owned(), |then| table::since(then, now))
                    .into(),
            ),
            _ => None,
        }
    }
}
