//! The OpenAPI documents, made from the schema facts and the table of kinds alone.
//!
//! `/openapi/v3` is an index of one document for every group and version; `/openapi/v2` is all in one. A document is
//! built when it is first asked for and kept compressed.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use crds::kind::Definition;
use serde_json::{Value, json};

use self::path::PathItem;
pub use self::{
    answer::{answer, merged},
    custom::CustomTypes,
    document::Document,
};

mod answer;
mod custom;
mod definition;
mod document;
mod gnostic;
mod gnostic3;
mod operation;
mod parameter;
mod path;
mod v2;
mod v3;

/// Schemas of types that the built-in facts do not know: custom resources'.
pub trait Definitions: Send + Sync {
    /// The OpenAPI v3 schema of a type by its name.
    fn v3(&self, name: &str) -> Option<Value>;
    /// The same as v2 has it.
    fn v2(&self, name: &str) -> Option<Value>;
}

/// Only the built-in types.
pub struct BuiltIn;

impl Definitions for BuiltIn {
    fn v3(&self, _name: &str) -> Option<Value> {
        None
    }

    fn v2(&self, _name: &str) -> Option<Value> {
        None
    }
}

/// All documents of one state of the table.
pub struct OpenApi {
    kinds: Vec<Arc<Definition>>,
    definitions: Arc<dyn Definitions>,
    v3: BTreeMap<String, Arc<OnceLock<Document>>>,
    index: OnceLock<Document>,
    v2: OnceLock<Document>,
    v2_protobuf: OnceLock<Document>,
}

impl OpenApi {
    /// What does not change with custom kinds is taken over from the documents before.
    pub fn new(kinds: &[Arc<Definition>], definitions: Arc<dyn Definitions>, before: Option<&Self>) -> Self {
        let slot = |root: &str| {
            let before = before.filter(|_| !path::is_custom(root, kinds));
            before.and_then(|before| before.v3.get(root)).cloned().unwrap_or_default()
        };
        let v3 = path::roots(kinds).into_iter().map(|root| (root.clone(), slot(&root))).collect();
        let (index, v2, v2_protobuf) = Default::default();
        Self { kinds: kinds.to_vec(), definitions, v3, index, v2, v2_protobuf }
    }

    /// `/openapi/v3`: where each document is, with its hash, so that clients may keep it for ever.
    pub fn index(&self) -> &Document {
        self.index.get_or_init(|| {
            let paths: serde_json::Map<_, _> = self
                .v3
                .keys()
                .filter_map(|root| Some((root.clone(), json!({ "serverRelativeURL": self.v3(root)?.url(root) }))))
                .collect();
            Document::json(&json!({ "paths": paths }))
        })
    }

    /// `/openapi/v3/{root}`, as in `apis/apps/v1`.
    pub fn v3(&self, root: &str) -> Option<&Document> {
        let slot = self.v3.get(root)?;
        Some(slot.get_or_init(|| Document::json(&self.v3_value(root))))
    }

    fn v3_value(&self, root: &str) -> Value {
        let custom = path::is_custom(root, &self.kinds);
        v3::document(root, &path::items(root, &self.kinds), &*self.definitions, custom)
    }

    /// `/openapi/v2` as JSON.
    pub fn v2(&self) -> &Document {
        self.v2.get_or_init(|| Document::json(&self.v2_value()))
    }

    /// `/openapi/v2` as gnostic's protobuf; its tag is that of the JSON, as upstream has it.
    pub fn v2_protobuf(&self) -> &Document {
        self.v2_protobuf.get_or_init(|| {
            let bytes = gnostic::document(&self.v2_value());
            Document::with_etag(&bytes, self.v2().etag())
        })
    }

    fn v2_value(&self) -> Value {
        let items: Vec<PathItem> = self.v3.keys().flat_map(|root| path::items(root, &self.kinds)).collect();
        v2::document(&items, &*self.definitions)
    }
}

#[cfg(test)]
mod tests;
