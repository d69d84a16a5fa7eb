//! ResourceSlice (resource.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{CounterSet, Device, ResourcePool, ResourceSlice, ResourceSliceSpec};
use serde_json::{Value, json};

use super::{device, name};
use crate::{
    equal,
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    kind::{AGE, About, DeleteAnswer, Generation, Kind, NAME, Prose, Request, column},
    meta,
    pod::affinity,
    table,
};

const SPEC: Path = Path::new("spec");
const DEVICES_MAX: usize = 128;
/// Where some use what makes them large.
const LARGE_DEVICES_MAX: usize = 64;
const COUNTER_SETS_MAX: usize = 8;

impl Kind for ResourceSlice {
    const ABOUT: About = About {
        columns: &[
            NAME,
            column("Node", "string", "", 0, Prose::Field("io.k8s.api.resource.v1.ResourceSliceSpec", "nodeName")),
            column("Driver", "string", "", 0, Prose::Field("io.k8s.api.resource.v1.ResourceSliceSpec", "driver")),
            column("Pool", "string", "", 0, Prose::Field("io.k8s.api.resource.v1.ResourcePool", "name")),
            AGE,
        ],
        generation: Generation::Spec,
        delete_answer: DeleteAnswer::Object,
        selectable: &["spec.nodeName", "spec.driver"],
        ..About::new("resourceslices", "resourceslice")
    };

    fn prepare_create(&mut self, request: &Request) {
        prepare_devices(&mut self.spec, &[], request.now);
    }

    fn prepare_update(&mut self, old: &Self, request: &Request) {
        prepare_devices(&mut self.spec, old.spec.devices.items(), request.now);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate_spec(&self.spec, None, errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        validate_spec(&self.spec, Some(&old.spec), errors);
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let driver = &self.spec.driver;
        let words = format!(
            "spec.driver: driver names should be lowercase; {} contains uppercase characters",
            field::quote(driver)
        );
        (*driver != driver.to_lowercase()).then_some(words).into_iter().collect()
    }

    fn selectable(&self, path: &str) -> String {
        match path {
            "spec.nodeName" => self.spec.node_name.clone().unwrap_or_default(),
            "spec.driver" => self.spec.driver.clone(),
            _ => String::new(),
        }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![
            json!(self.metadata.name),
            json!(self.spec.node_name.text()),
            json!(self.spec.driver),
            json!(self.spec.pool.name),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

/// Taints get the time they were added at; features that are off by default are dropped.
fn prepare_devices(spec: &mut ResourceSliceSpec, old: &[Device], now: Timestamp) {
    let now = meta::whole_seconds(now);
    let has_lists = old.iter().any(device::has_lists);
    let has_mappings = old.iter().any(|device| device.node_allocatable_resource_mappings.is_some());
    for device in spec.devices.iter_mut().flatten() {
        for taint in device.taints.iter_mut().flatten() {
            taint.time_added.get_or_insert_with(|| now.clone());
        }
        if !has_mappings {
            device.node_allocatable_resource_mappings = None;
        }
        if !has_lists {
            device::drop_lists(device);
        }
    }
}

fn validate_spec(spec: &ResourceSliceSpec, old: Option<&ResourceSliceSpec>, errors: &mut Errors) {
    name::driver(&spec.driver, &SPEC.child("driver"), errors);
    let pool_path = SPEC.child("pool");
    validate_pool(&spec.pool, &pool_path, errors);
    if let Some(old) = old {
        equal::immutable(&spec.pool.name, &old.pool.name, pool_path.child("name"), errors);
        equal::immutable(&spec.driver, &old.driver, SPEC.child("driver"), errors);
        equal::immutable(&spec.node_name, &old.node_name, SPEC.child("nodeName"), errors);
    }
    validate_nodes(spec, errors);
    if spec.shared_counters.is_some() && spec.devices.is_some() {
        errors.push(Error::invalid(SPEC, "", "only one of `sharedCounters` or `devices` is allowed"));
    }
    let devices = spec.devices.items();
    let max = if devices.iter().any(device::is_large) { LARGE_DEVICES_MAX } else { DEVICES_MAX };
    let per_device = spec.per_device_node_selection == Some(true);
    let key = |device: &Device| device.name.clone();
    name::each(devices, max, key, &SPEC.child("devices"), errors, |device, path, errors| {
        let old = old.and_then(|old| old.devices.items().iter().find(|other| other.name == device.name));
        device::validate(device, old, per_device, path, errors);
    });
    let key = |set: &CounterSet| set.name.clone();
    let sets = spec.shared_counters.items();
    name::each(sets, COUNTER_SETS_MAX, key, &SPEC.child("sharedCounters"), errors, |set, path, errors| {
        device::validate_counters("name", &set.name, &set.counters, path, errors);
    });
}

fn validate_pool(pool: &ResourcePool, path: &Path, errors: &mut Errors) {
    name::pool(&pool.name, &path.child("name"), errors);
    let count = pool.resource_slice_count;
    if count <= 0 {
        errors.push(Error::invalid(path.child("resourceSliceCount"), count, "must be greater than zero"));
    }
    if pool.generation < 0 {
        let why = "must be greater than or equal to zero";
        errors.push(Error::invalid(path.child("generation"), pool.generation, why));
    }
}

/// Where the devices are: told in one way.
fn validate_nodes(spec: &ResourceSliceSpec, errors: &mut Errors) {
    let mut set = Vec::new();
    let node_path = SPEC.child("nodeName");
    match spec.node_name.as_deref() {
        None => {}
        Some("") => errors.push(Error::invalid(node_path, "", "must be either unset or set to a non-empty string")),
        Some(node) => {
            set.push("`nodeName`");
            extend(errors, node_path, node, field::dns_subdomain(node));
        }
    }
    if let Some(selector) = &spec.node_selector {
        set.push("`nodeSelector`");
        let path = SPEC.child("nodeSelector");
        affinity::node_selector(selector, &path, errors);
        if selector.node_selector_terms.len() != 1 {
            let why = "must have exactly one node selector term";
            let wrong = Error::invalid(path.child("nodeSelectorTerms"), "", why);
            errors.push(wrong.showing_struct(&selector.node_selector_terms, "[]NodeSelectorTerm"));
        }
    }
    for (name, quoted, flag) in [
        ("allNodes", "`allNodes`", spec.all_nodes),
        ("perDeviceNodeSelection", "`perDeviceNodeSelection`", spec.per_device_node_selection),
    ] {
        match flag {
            None => {}
            Some(true) => set.push(quoted),
            Some(false) => errors.push(Error::invalid(SPEC.child(name), false, "must be either unset or set to true")),
        }
    }
    let why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match set.len() {
        0 => errors.push(Error::required(SPEC, why)),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", set.join(", "));
            errors.push(Error::invalid(SPEC, shown, format!("{why}, but multiple fields are set")));
        }
    }
}
