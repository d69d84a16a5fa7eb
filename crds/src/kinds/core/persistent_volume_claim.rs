//! PersistentVolumeClaim (core/v1).

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, TypedLocalObjectReference,
    TypedObjectReference,
};
use serde_json::{Value, json};

use super::persistent_volume::{CLASS, modes, phase, unset};
use crate::{
    equal,
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    kind::{AGE, About, DeleteAnswer, Kind, NAME, Prose, Request, Subresource, column, text},
    meta,
    pod::{update::difference, warn},
    quantity::Quantity,
    resource::{self, STORAGE, Written},
    table, volume,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");
const RESIZE_STATES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

impl Kind for PersistentVolumeClaim {
    const ABOUT: About = About {
        short_names: &["pvc"],
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column("Status", "string", "", 0, Prose::Field("io.k8s.api.core.v1.PersistentVolumeClaimStatus", "phase")),
            column(
                "Volume",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.core.v1.PersistentVolumeClaimSpec", "volumeName"),
            ),
            column(
                "Capacity",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.core.v1.PersistentVolumeClaimStatus", "capacity"),
            ),
            column(
                "Access Modes",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.core.v1.PersistentVolumeClaimStatus", "accessModes"),
            ),
            column("StorageClass", "string", "", 0, text("StorageClass of the pvc")),
            column("VolumeAttributesClass", "string", "", 0, text("VolumeAttributesClass of the pvc")),
            AGE,
            column(
                "VolumeMode",
                "string",
                "",
                1,
                Prose::Field("io.k8s.api.core.v1.PersistentVolumeClaimSpec", "volumeMode"),
            ),
        ],
        delete_answer: DeleteAnswer::Object,
        selectable: &["name"],
        ..About::new("persistentvolumeclaims", "persistentvolumeclaim")
    };

    fn set_defaults(&mut self) {
        volume::claim::default(self.spec.get_or_insert_default());
        let status = self.status.get_or_insert_default();
        status.phase.or_set("Pending");
        resource::default(&mut status.capacity);
        resource::default(&mut status.allocated_resources);
    }

    fn prepare_create(&mut self, _request: &Request) {
        let phase = Some("Pending".to_owned());
        self.status = Some(PersistentVolumeClaimStatus { phase, ..PersistentVolumeClaimStatus::default() });
        self.spec.iter_mut().for_each(|spec| prepare(spec, None));
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
        self.spec.iter_mut().for_each(|spec| prepare(spec, old.spec.as_ref()));
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        self.spec.iter().for_each(|spec| volume::claim::validate(spec, &SPEC, errors));
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        self.spec.iter().for_each(|spec| volume::claim::validate(spec, &SPEC, errors));
        validate_change(self, old, errors);
    }

    fn validate_subresource(&self, _old: &Self, _request: &Request, errors: &mut Errors) {
        if self.spec.as_ref().is_none_or(|s| s.access_modes.items().is_empty()) {
            errors.push(Error::required(Path::new("Spec.accessModes"), ""));
        }
        self.status.iter().for_each(|status| validate_status(status, errors));
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let mut words = Vec::new();
        if class_annotation(self).is_some() {
            words.push(format!(
                "metadata.annotations[{CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
            ));
        }
        self.spec.iter().for_each(|spec| warn::claim(spec, &SPEC, &mut words));
        words
    }

    fn selectable(&self, path: &str) -> String {
        if path == "name" { self.metadata.name.text().to_owned() } else { String::new() }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (self.spec.clone().unwrap_or_default(), self.status.clone().unwrap_or_default());
        let bound = !spec.volume_name.text().is_empty();
        let capacity = size(status.capacity.as_ref());
        let class = class_annotation(self).map_or(spec.storage_class_name.text(), String::as_str);
        vec![
            json!(self.metadata.name),
            json!(phase(&self.metadata, status.phase.text())),
            json!(spec.volume_name.text()),
            json!(if bound { capacity.to_string() } else { String::new() }),
            json!(if bound { modes(status.access_modes.items()) } else { String::new() }),
            json!(class),
            json!(unset(spec.volume_attributes_class_name.as_deref())),
            json!(table::age(&self.metadata, now)),
            json!(unset(spec.volume_mode.as_deref())),
        ]
    }
}

fn class_annotation(claim: &PersistentVolumeClaim) -> Option<&String> {
    claim.metadata.annotations.as_ref()?.get(CLASS)
}

fn size(list: Option<&Written>) -> Quantity {
    Quantity::of(list.and_then(|list| list.get(STORAGE)))
}

fn requests(spec: &PersistentVolumeClaimSpec) -> Option<&Written> {
    spec.resources.as_ref()?.requests.as_ref()
}

/// Keeps `dataSource` and `dataSourceRef` the same thing.
fn prepare(spec: &mut PersistentVolumeClaimSpec, old: Option<&PersistentVolumeClaimSpec>) {
    let other_namespace = spec.data_source_ref.as_ref().is_some_and(|r| !r.namespace.text().is_empty());
    if other_namespace && old.is_none_or(|old| old.data_source_ref.is_none()) {
        spec.data_source_ref = None;
    }
    let had = old.is_some_and(|old| old.data_source.is_some() || old.data_source_ref.is_some());
    let is_known = |source: &TypedLocalObjectReference| {
        let known = [("PersistentVolumeClaim", ""), ("VolumeSnapshot", "snapshot.storage.k8s.io")];
        known.contains(&(source.kind.as_str(), source.api_group.text()))
    };
    if !had && spec.data_source_ref.is_none() {
        spec.data_source = spec.data_source.take().filter(is_known);
    }
    match (&spec.data_source, &spec.data_source_ref) {
        (Some(source), None) => {
            spec.data_source_ref = Some(TypedObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
                namespace: None,
            });
        }
        (None, Some(source)) if source.namespace.text().is_empty() => {
            spec.data_source = Some(TypedLocalObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
            });
        }
        _ => {}
    }
}

fn validate_change(new: &PersistentVolumeClaim, old: &PersistentVolumeClaim, errors: &mut Errors) {
    let (Some(spec), Some(mut was)) = (&new.spec, old.spec.clone()) else {
        return;
    };
    prepare(&mut was, old.spec.as_ref());
    let original = was.clone();
    let status = old.status.clone().unwrap_or_default();
    let mut kept = spec.clone();
    if was.volume_name.text().is_empty() {
        was.volume_name.clone_from(&spec.volume_name);
    }
    let (annotation, had) = (class_annotation(new), class_annotation(old));
    let class = spec.storage_class_name.as_ref();
    let from_annotation = had.is_some()
        && was.storage_class_name.is_none()
        && class == had
        && annotation.is_none_or(|annotation| Some(annotation) == had);
    if from_annotation {
        kept.storage_class_name = None;
    } else {
        if annotation.map(String::as_str).unwrap_or_default() != had.map(String::as_str).unwrap_or_default() {
            let path = Path::new("metadata");
            let path = path.child("annotations");
            let shown = annotation.map(String::as_str).unwrap_or_default();
            errors.push(Error::invalid(path.child(CLASS), shown, meta::IMMUTABLE));
        }
        if class.is_some() && was.storage_class_name.is_none() && had.is_none_or(|had| class == Some(had)) {
            kept.storage_class_name = None;
        }
    }
    let is_bound = status.phase.text() == "Bound";
    if is_bound {
        if let Some(wanted) = kept.resources.as_mut().and_then(|r| r.requests.as_mut()) {
            let before = requests(&original).and_then(|r| r.get(STORAGE)).cloned();
            wanted.insert(STORAGE.to_owned(), before.unwrap_or_default());
        }
        kept.volume_attributes_class_name.clone_from(&was.volume_attributes_class_name);
    }
    if !equal::same(&kept, &was) {
        let words = difference(&was, &kept, "io.k8s.api.core.v1.PersistentVolumeClaimSpec");
        let why =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(Error::forbidden(SPEC, format!("{why}\n{words}")));
    }
    let now = size(requests(spec));
    if now < size(requests(&original)) && now <= size(status.capacity.as_ref()) {
        let path = Path::new("spec.resources.requests.storage");
        errors.push(Error::forbidden(path, "field can not be less than status.capacity"));
    }
    if spec.volume_mode != original.volume_mode {
        errors.push(Error::invalid(Path::new("volumeMode"), json!(spec.volume_mode), meta::IMMUTABLE));
    }
    let class = spec.volume_attributes_class_name.as_deref();
    if class != original.volume_attributes_class_name.as_deref()
        && status.current_volume_attributes_class_name.is_some()
        && let Some(to) = match class {
            None => Some("nil"),
            Some("") => Some("empty string"),
            Some(_) => None,
        }
    {
        let why = format!("update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil");
        errors.push(Error::forbidden(SPEC.child("volumeAttributesClassName"), why));
    }
}

fn resource_key(key: &str, path: &Path, errors: &mut Errors) -> bool {
    let wrong = field::qualified_name(key);
    let is_known = !resource::is_native(key) || key == STORAGE;
    let is_right = wrong.is_empty() && is_known;
    if wrong.is_empty() && !is_known {
        errors.push(Error::not_supported(*path, key, &[STORAGE]));
    }
    extend(errors, *path, key, wrong);
    is_right
}

fn validate_status(status: &PersistentVolumeClaimStatus, errors: &mut Errors) {
    let path = STATUS.child("capacity");
    for (name, amount) in resource::amounts(status.capacity.as_ref()) {
        volume::persistent::validate_basic(amount, &path.key(&name), errors);
    }
    let path = STATUS.child("allocatedResourceStatuses");
    let states: BTreeMap<&String, &String> = status.allocated_resource_statuses.iter().flatten().collect();
    for (key, state) in states {
        resource_key(key, &path, errors);
        if !RESIZE_STATES.contains(&state.as_str()) {
            let mut known = RESIZE_STATES;
            known.sort_unstable();
            errors.push(Error::not_supported(path, key.as_str(), &known));
        }
    }
    let path = STATUS.child("allocatedResources");
    for (name, amount) in resource::amounts(status.allocated_resources.as_ref()) {
        if !resource_key(&name, &path, errors) {
            continue;
        }
        let before = errors.len();
        volume::persistent::validate_basic(amount, &path.key(&name), errors);
        if errors.len() == before {
            resource::validate_amount(STORAGE, amount, &path.key(&name), errors);
        }
    }
}
