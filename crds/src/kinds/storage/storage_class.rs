//! StorageClass (storage.k8s.io/v1).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{TopologySelectorLabelRequirement, TopologySelectorTerm},
    storage::v1::StorageClass,
};
use serde_json::{Value, json};

use super::class;
use crate::{
    equal,
    field::{Error, Errors, Path},
    given::{Items, Text},
    kind::{AGE, About, DeleteAnswer, Kind, NAME, Prose, Request, column},
    meta,
    pod::warn,
    table,
};

const BINDING_MODES: &[&str] = &["Immediate", "WaitForFirstConsumer"];
const RECLAIM_POLICIES: &[&str] = &["Delete", "Retain"];
const DEFAULT_ANNOTATIONS: &[&str] =
    &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

impl Kind for StorageClass {
    const ABOUT: About = About {
        short_names: &["sc"],
        columns: &[
            NAME,
            column("Provisioner", "string", "", 0, Prose::Field("io.k8s.api.storage.v1.StorageClass", "provisioner")),
            column(
                "ReclaimPolicy",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.storage.v1.StorageClass", "reclaimPolicy"),
            ),
            column(
                "VolumeBindingMode",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.storage.v1.StorageClass", "volumeBindingMode"),
            ),
            column(
                "AllowVolumeExpansion",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.storage.v1.StorageClass", "allowVolumeExpansion"),
            ),
            AGE,
        ],
        delete_answer: DeleteAnswer::Object,
        checks_changes: false,
        ..About::new("storageclasses", "storageclass")
    };

    fn set_defaults(&mut self) {
        self.reclaim_policy.get_or_insert_with(|| "Delete".to_owned());
        self.volume_binding_mode.get_or_insert_with(|| "Immediate".to_owned());
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        class::validate_provisioner(&self.provisioner, &Path::new("provisioner"), errors);
        if let Some(parameters) = &self.parameters {
            class::validate_parameters(parameters, &Path::new("parameters"), errors);
        }
        let policy = self.reclaim_policy.text();
        if !policy.is_empty() && !RECLAIM_POLICIES.contains(&policy) {
            errors.push(Error::not_supported(Path::new("reclaimPolicy"), policy, RECLAIM_POLICIES));
        }
        let path = Path::new("volumeBindingMode");
        match self.volume_binding_mode.as_deref() {
            None => errors.push(Error::required(path, "")),
            Some(mode) if !BINDING_MODES.contains(&mode) => {
                errors.push(Error::not_supported(path, mode, BINDING_MODES));
            }
            Some(_) => {}
        }
        validate_topologies(self.allowed_topologies.items(), &Path::new("allowedTopologies"), errors);
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        self.validate_create(request, errors);
        meta::update_of(self, old, errors);
        let none = BTreeMap::new();
        if self.parameters.as_ref().unwrap_or(&none) != old.parameters.as_ref().unwrap_or(&none) {
            equal::immutable(&self.parameters, &Some(none), Path::new("parameters"), errors);
        }
        equal::immutable(&self.provisioner, &old.provisioner, Path::new("provisioner"), errors);
        equal::immutable(&self.reclaim_policy, &old.reclaim_policy, Path::new("reclaimPolicy"), errors);
        equal::immutable(&self.volume_binding_mode, &old.volume_binding_mode, Path::new("volumeBindingMode"), errors);
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let list = Path::new("allowedTopologies");
        let mut words = Vec::new();
        for (i, term) in self.allowed_topologies.items().iter().enumerate() {
            let path = list.index(i);
            let path = path.child("matchLabelExpressions");
            for (j, requirement) in term.match_label_expressions.items().iter().enumerate() {
                let path = path.index(j);
                words.extend(
                    warn::deprecated_label(&requirement.key).map(|words| format!("{}: {words}", path.child("key"))),
                );
            }
        }
        words
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let annotations = self.metadata.annotations.as_ref();
        let says = |name: &&str| annotations.and_then(|a| a.get(*name)).is_some_and(|value| value == "true");
        let mark = if DEFAULT_ANNOTATIONS.iter().any(says) { " (default)" } else { "" };
        vec![
            json!(format!("{}{mark}", self.metadata.name.text())),
            json!(self.provisioner),
            json!(self.reclaim_policy.as_deref().unwrap_or("Delete")),
            json!(self.volume_binding_mode.as_deref().unwrap_or("Immediate")),
            json!(self.allow_volume_expansion.unwrap_or(false)),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

fn validate_topologies(terms: &[TopologySelectorTerm], path: &Path, errors: &mut Errors) {
    // Upstream compares with one empty term for each, so an empty term is a duplicate of all of these.
    let mut seen: BTreeMap<BTreeMap<&str, BTreeSet<&String>>, usize> = [(BTreeMap::new(), terms.len())].into();
    for (i, term) in terms.iter().enumerate() {
        let path = path.index(i);
        let list = path.child("matchLabelExpressions");
        let mut keys = BTreeMap::new();
        for (j, requirement) in term.match_label_expressions.items().iter().enumerate() {
            let path = list.index(j);
            validate_requirement(requirement, &path, errors);
            if keys.insert(requirement.key.as_str(), requirement.values.iter().collect()).is_some() {
                errors.push(Error::duplicate(path.child("key"), requirement.key.as_str()));
            }
        }
        let times = seen.entry(keys).or_default();
        errors.extend((0..*times).map(|_| Error::duplicate(list, "")));
        *times += 1;
    }
}

fn validate_requirement(requirement: &TopologySelectorLabelRequirement, path: &Path, errors: &mut Errors) {
    let values = path.child("values");
    if requirement.values.is_empty() {
        errors.push(Error::required(values, ""));
    }
    let mut seen = HashSet::new();
    for (i, value) in requirement.values.iter().enumerate() {
        if !seen.insert(value) {
            errors.push(Error::duplicate(values.index(i), value.as_str()));
        }
    }
    meta::label_name(&requirement.key, path.child("key"), errors);
}
