//! PersistentVolume (core/v1).

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus, VolumeNodeAffinity},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};

use crate::{
    equal,
    field::{Error, ErrorKind, Errors, Path},
    given::{Items, Text},
    go,
    kind::{AGE, About, DeleteAnswer, Kind, NAME, Prose, Request, Subresource, column, text},
    meta,
    pod::{update::difference, warn},
    quantity::Quantity,
    resource::{self, STORAGE},
    table, volume,
};

const SPEC: Path = Path::new("spec");
pub const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
/// Sources that an annotation can give mount options for.
const MOUNTED: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];
/// Fields of the spec beside the source.
const GENERAL: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

impl Kind for PersistentVolume {
    const ABOUT: About = About {
        short_names: &["pv"],
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column("Capacity", "string", "", 0, Prose::Field("io.k8s.api.core.v1.PersistentVolumeSpec", "capacity")),
            column(
                "Access Modes",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.core.v1.PersistentVolumeSpec", "accessModes"),
            ),
            column(
                "Reclaim Policy",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.core.v1.PersistentVolumeSpec", "persistentVolumeReclaimPolicy"),
            ),
            column("Status", "string", "", 0, Prose::Field("io.k8s.api.core.v1.PersistentVolumeStatus", "phase")),
            column("Claim", "string", "", 0, Prose::Field("io.k8s.api.core.v1.PersistentVolumeSpec", "claimRef")),
            column("StorageClass", "string", "", 0, text("StorageClass of the pv")),
            column("VolumeAttributesClass", "string", "", 0, text("VolumeAttributesClass of the pv")),
            column("Reason", "string", "", 0, Prose::Field("io.k8s.api.core.v1.PersistentVolumeStatus", "reason")),
            AGE,
            column(
                "VolumeMode",
                "string",
                "",
                1,
                Prose::Field("io.k8s.api.core.v1.PersistentVolumeSpec", "volumeMode"),
            ),
        ],
        delete_answer: DeleteAnswer::Object,
        selectable: &["name"],
        checks_changes: false,
        ..About::new("persistentvolumes", "persistentvolume")
    };

    fn set_defaults(&mut self) {
        volume::persistent::default(self.spec.get_or_insert_default());
        self.status.get_or_insert_default().phase.or_set("Pending");
    }

    fn prepare_create(&mut self, request: &Request) {
        self.status = Some(PersistentVolumeStatus {
            phase: Some("Pending".to_owned()),
            last_phase_transition_time: Some(Time(request.now)),
            ..PersistentVolumeStatus::default()
        });
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, request: &Request) {
        self.spec.clone_from(&old.spec);
        let (status, was) = (self.status.get_or_insert_default(), old.status.clone().unwrap_or_default());
        let kept = status.last_phase_transition_time == was.last_phase_transition_time;
        if status.phase.text() == was.phase.text() {
            if status.last_phase_transition_time.is_none() {
                status.last_phase_transition_time = was.last_phase_transition_time;
            }
        } else if kept || status.last_phase_transition_time.is_none() {
            status.last_phase_transition_time = Some(Time(request.now));
        }
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate(self, errors);
        mount_options(self, errors);
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        validate(self, errors);
        mount_options(self, errors);
        meta::create_of(self, errors);
        validate(self, errors);
        if let (Some(spec), Some(was)) = (&self.spec, &old.spec) {
            validate_change(spec, was, &request.sent["spec"], errors);
        }
    }

    fn validate_subresource(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        meta::update_of(self, old, errors);
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        self.spec.as_ref().map(|spec| warnings(self, spec)).unwrap_or_default()
    }

    fn selectable(&self, path: &str) -> String {
        if path == "name" { self.metadata.name.text().to_owned() } else { String::new() }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let none = PersistentVolumeSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&none);
        let status = self.status.clone().unwrap_or_default();
        let capacity = resource::amounts(spec.capacity.as_ref()).get(STORAGE).copied().unwrap_or(Quantity::ZERO);
        let claim = spec.claim_ref.as_ref().map(|c| format!("{}/{}", c.namespace.text(), c.name.text()));
        let class = self.metadata.annotations.as_ref().and_then(|a| a.get(CLASS));
        vec![
            json!(self.metadata.name),
            json!(capacity.to_string()),
            json!(modes(spec.access_modes.items())),
            json!(spec.persistent_volume_reclaim_policy.text()),
            json!(phase(&self.metadata, status.phase.text())),
            json!(claim.unwrap_or_default()),
            json!(class.map_or(spec.storage_class_name.text(), String::as_str)),
            json!(unset(spec.volume_attributes_class_name.as_deref())),
            json!(status.reason.text()),
            json!(table::age(&self.metadata, now)),
            json!(unset(spec.volume_mode.as_deref())),
        ]
    }
}

/// Access modes in short.
pub fn modes(modes: &[String]) -> String {
    let names =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| modes.iter().any(|m| m == mode);
    names.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

pub fn unset(text: Option<&str>) -> &str {
    text.unwrap_or("<unset>")
}

pub fn phase<'a>(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta, phase: &'a str) -> &'a str {
    if meta.deletion_timestamp.is_some() { "Terminating" } else { phase }
}

fn validate(volume: &PersistentVolume, errors: &mut Errors) {
    if let Some(spec) = &volume.spec {
        volume::persistent::validate(spec, volume.metadata.name.text(), &SPEC, errors);
    }
}

fn mount_options(volume: &PersistentVolume, errors: &mut Errors) {
    let spec = json!(volume.spec);
    let is_given = volume.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MOUNT_OPTIONS));
    if is_given && MOUNTED.iter().all(|source| spec[source].is_null()) {
        let path = Path::new("metadata");
        let path = path.child("annotations");
        let why = "may not specify mount options for this volume type";
        errors.push(Error::forbidden(path.child(MOUNT_OPTIONS), why));
    }
}

/// The spec's source alone.
fn source(spec: &PersistentVolumeSpec, sent: &Value) -> Value {
    let mut source = go::as_sent(spec, sent, "PersistentVolumeSpec");
    if let Some(fields) = source.as_object_mut() {
        fields.retain(|name, _| !GENERAL.contains(&name.as_str()));
    }
    source
}

fn validate_change(spec: &PersistentVolumeSpec, was: &PersistentVolumeSpec, sent: &Value, errors: &mut Errors) {
    let mut kept = spec.clone();
    let had = was.csi.as_ref().is_some_and(|csi| csi.controller_expand_secret_ref.is_none());
    if let Some(csi) = kept.csi.as_mut().filter(|_| had) {
        csi.controller_expand_secret_ref = None;
    }
    let (new, old) = (source(&kept, sent), source(was, &Value::Null));
    if !equal::same(&new, &old) {
        let words = difference(&old, &new, "io.k8s.api.core.v1.PersistentVolumeSource");
        let why = format!("spec.persistentvolumesource is immutable after creation\n{words}");
        errors.push(Error::forbidden(SPEC.child("persistentvolumesource"), why));
    }
    if spec.volume_mode != was.volume_mode {
        errors.push(Error::invalid(Path::new("volumeMode"), json!(spec.volume_mode), meta::IMMUTABLE));
    }
    if let Some(old) = was.node_affinity.as_ref().filter(|old| !is_same_affinity(spec.node_affinity.as_ref(), old)) {
        let _ = old;
        let shown = spec.node_affinity.as_ref();
        let shown = shown
            .map_or_else(|| "null".to_owned(), |affinity| go::show(affinity, "io.k8s.api.core.v1.VolumeNodeAffinity"));
        let why = "field is immutable, except for updating from beta label to GA";
        errors.push(Error::rendered(ErrorKind::Invalid, Path::new("nodeAffinity"), shown, why));
    }
    if was.volume_attributes_class_name.is_some() && spec.volume_attributes_class_name.is_none() {
        let why = "update from non-nil value to nil is forbidden";
        errors.push(Error::forbidden(SPEC.child("volumeAttributesClassName"), why));
    }
}

/// The same, but for labels that were beta and now are not.
fn is_same_affinity(new: Option<&VolumeNodeAffinity>, old: &VolumeNodeAffinity) -> bool {
    let plain = |affinity: &VolumeNodeAffinity| {
        let mut affinity = affinity.clone();
        for term in affinity.required.iter_mut().flat_map(|r| &mut r.node_selector_terms) {
            for expression in term.match_expressions.iter_mut().flatten() {
                expression.key = match expression.key.as_str() {
                    "failure-domain.beta.kubernetes.io/zone" => "topology.kubernetes.io/zone",
                    "failure-domain.beta.kubernetes.io/region" => "topology.kubernetes.io/region",
                    "beta.kubernetes.io/instance-type" => "node.kubernetes.io/instance-type",
                    "beta.kubernetes.io/os" => "kubernetes.io/os",
                    "beta.kubernetes.io/arch" => "kubernetes.io/arch",
                    key => key,
                }
                .to_owned();
            }
        }
        affinity
    };
    new.is_some_and(|new| equal::same(&plain(new), &plain(old)))
}

fn warnings(volume: &PersistentVolume, spec: &PersistentVolumeSpec) -> Vec<String> {
    let mut words = Vec::new();
    for (key, message) in [
        (CLASS, "deprecated since v1.8; use \"storageClassName\" attribute instead"),
        (MOUNT_OPTIONS, "deprecated since v1.31; use \"mountOptions\" attribute instead"),
    ] {
        if volume.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(key)) {
            words.push(format!("metadata.annotations[{key}]: {message}"));
        }
    }
    if spec.persistent_volume_reclaim_policy.text() == "Recycle" {
        words.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
    }
    let required = spec.node_affinity.as_ref().and_then(|a| a.required.as_ref());
    let path = Path::new("spec.nodeAffinity.required.nodeSelectorTerms");
    for (i, term) in required.iter().flat_map(|r| &r.node_selector_terms).enumerate() {
        warn::node_term(term, false, &path.index(i), &mut words);
    }
    let fields = json!(spec);
    for (field, message) in [
        ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ] {
        if !fields[field].is_null() {
            let field = if field == "storageos" { "storageOS" } else { field };
            words.push(format!("spec.{field}: {message}"));
        }
    }
    words
}
