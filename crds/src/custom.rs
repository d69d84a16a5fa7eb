//! Custom resources: a version of a CustomResourceDefinition becomes a kind like any other.
//!
//! A schema is read once (`structural`); from it follow what is pruned and defaulted, what is checked, the cells of
//! tables, and the facts that patches, server-side apply and OpenAPI go by.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use serde_json::Value;

use self::{column::Printed, rules::CustomRules, structural::Structural};
use crate::{
    given::{Items, Text as _},
    kind::{Definition, DeleteAnswer, Generation, Gvk, ScalePaths, Subresource, Verb},
    version::by_maturity,
};

mod column;
mod default;
pub mod expression;
mod facts;
pub mod field_path;
pub mod format;
mod json_path;
mod list;
mod metadata;
pub mod number;
pub mod pattern;
mod prune;
mod rules;
pub mod structural;
pub mod value;

pub use self::{
    default::validate as validate_defaults,
    json_path::JsonPath,
    rules::{text_at, whole_at},
};

/// All versions of a custom resource: what they have in common, and how one becomes another.
#[derive(Debug)]
pub struct Family {
    pub group: String,
    pub kind: String,
    /// The version that is stored.
    pub stored: String,
    pub conversion: CustomResourceConversion,
    versions: BTreeMap<String, Version>,
}

/// What is of one version alone.
#[derive(Debug)]
pub struct Version {
    pub structural: Structural,
    /// The rules of `structural`, compiled.
    rules: Option<expression::Node>,
    /// `openAPIV3Schema`, as it was given.
    pub schema: Value,
    pub has_status: bool,
    pub scale: Option<ScalePaths>,
    printed: Vec<Printed>,
    /// By their names in field selectors.
    selectable: Vec<(String, JsonPath)>,
}

/// What is known of a custom kind beside what all kinds have.
#[derive(Clone, Debug)]
pub struct Custom {
    pub family: Arc<Family>,
    /// Whether clients are served this version; one that is not may be stored, or known to owners of fields.
    pub served: bool,
    /// The definition is being deleted: nothing can be created any more.
    pub terminating: bool,
    /// What requests in a deprecated version are warned of.
    pub warning: Option<String>,
}

impl Family {
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.get(name)
    }

    /// Whether another server turns versions into one another.
    pub fn uses_webhook(&self) -> bool {
        self.conversion.strategy == "Webhook"
    }
}

/// The path of a member, without the dot that a path does not begin with.
pub(crate) fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The kinds that a definition brings, one for each version; they carry the names that were accepted.
pub fn definitions(crd: &CustomResourceDefinition) -> Vec<Definition> {
    let (spec, status) = (&crd.spec, crd.status.as_ref());
    let Some(names) = status.and_then(|status| status.accepted_names.as_ref()) else { return Vec::new() };
    let terminating = is_true(crd, "Terminating");
    let family = Arc::new(Family {
        group: spec.group.clone(),
        kind: names.kind.clone(),
        stored: spec.versions.iter().find(|version| version.storage).map(|v| v.name.clone()).unwrap_or_default(),
        conversion: spec.conversion.clone().unwrap_or_default(),
        versions: spec.versions.iter().map(|version| (version.name.clone(), Version::of(version))).collect(),
    });
    let texts = |texts: &Option<Vec<String>>| texts.items().iter().map(|text| text.clone().into()).collect::<Vec<_>>();
    let kind = |version: &CustomResourceDefinitionVersion| {
        let known = family.version(&version.name)?;
        let mut subresources = Vec::new();
        if known.has_status {
            subresources.push(Subresource::Status);
        }
        subresources.extend(known.scale.clone().map(Subresource::Scale));
        let (columns, _) = column::columns(version.additional_printer_columns.items());
        Some(Definition {
            gvk: Gvk {
                group: spec.group.clone().into(),
                version: version.name.clone().into(),
                kind: names.kind.clone().into(),
            },
            list_kind: names.list_kind.text().to_owned().into(),
            namespaced: spec.scope == "Namespaced",
            plural: names.plural.clone().into(),
            singular: names.singular.text().to_owned().into(),
            short_names: texts(&names.short_names),
            categories: texts(&names.categories),
            verbs: Verb::ALL.to_vec(),
            subresources,
            columns,
            selectable: known.selectable.iter().map(|(name, _)| name.clone().into()).collect(),
            generation: Generation::Own,
            names_itself: false,
            create_on_update: false,
            unconditional_update: false,
            delete_answer: DeleteAnswer::Status,
            orphans_by_default: false,
            storage_prefix: format!("{}/{}", spec.group, names.plural).into(),
            tells_empty: false,
            checks_metadata: true,
            checks_prefix: true,
            checks_changes: true,
            schema_name: model_name(&spec.group, &version.name, &names.kind).into(),
            facts: facts::of(&known.structural),
            conversion: None,
            custom: Some(Custom {
                family: family.clone(),
                served: version.served,
                terminating,
                warning: warning(crd, version),
            }),
            rules: Arc::new(CustomRules { family: family.clone(), version: version.name.clone() }),
        })
    };
    spec.versions.iter().filter_map(kind).collect()
}

/// Whether a condition of a definition holds.
pub fn is_true(crd: &CustomResourceDefinition, condition: &str) -> bool {
    let conditions = crd.status.as_ref().map(|status| status.conditions.items()).unwrap_or_default();
    conditions.iter().any(|known| known.type_ == condition && known.status == "True")
}

/// The name of a custom type in OpenAPI: the group backwards, version and kind.
fn model_name(group: &str, version: &str, kind: &str) -> String {
    let group: Vec<_> = group.rsplit('.').collect();
    format!("{}.{version}.{kind}", group.join("."))
}

fn warning(crd: &CustomResourceDefinition, version: &CustomResourceDefinitionVersion) -> Option<String> {
    if version.deprecated != Some(true) {
        return None;
    }
    if let Some(own) = &version.deprecation_warning {
        return Some(own.clone());
    }
    let (group, kind) = (&crd.spec.group, &crd.spec.names.kind);
    let told = format!("{group}/{} {kind} is deprecated", version.name);
    let better = |other: &&CustomResourceDefinitionVersion| {
        other.served && other.deprecated != Some(true) && by_maturity(&other.name, &version.name).is_lt()
    };
    let best = crd.spec.versions.iter().filter(better).min_by(|a, b| by_maturity(&a.name, &b.name));
    Some(best.map_or(told.clone(), |best| format!("{told}; use {group}/{} {kind}", best.name)))
}

impl Version {
    fn of(version: &CustomResourceDefinitionVersion) -> Self {
        let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        let mut schema = schema.and_then(|schema| serde_json::to_value(schema).ok()).unwrap_or_default();
        // Go writes whole numbers as such, whatever their type.
        number::make_whole(&mut schema);
        let subresources = version.subresources.as_ref();
        let scale = subresources.and_then(|subresources| subresources.scale.as_ref());
        let (_, printed) = column::columns(version.additional_printer_columns.items());
        let selectable = version.selectable_fields.items().iter().filter_map(|field| {
            let name = field.json_path.strip_prefix('.').unwrap_or(&field.json_path);
            Some((name.to_owned(), JsonPath::parse(&field.json_path).ok()?))
        });
        let structural = Structural::of(&schema);
        Self {
            rules: expression::Node::of(&structural, &schema, true),
            structural,
            schema,
            has_status: subresources.is_some_and(|subresources| subresources.status.is_some()),
            scale: scale.map(|scale| ScalePaths {
                replicas: scale.spec_replicas_path.clone().into(),
                status_replicas: scale.status_replicas_path.clone().into(),
                selector: scale.label_selector_path.text().to_owned().into(),
            }),
            printed,
            selectable: selectable.collect(),
        }
    }
}

#[cfg(test)]
mod tests;
