//! A device that a driver offers: its attributes, capacities, counters, taints, and where it is.

use std::{collections::BTreeMap, sync::LazyLock};

use k8s_openapi::api::resource::v1::{
    CapacityRequestPolicy, CapacityRequestPolicyRange, Counter, Device, DeviceAttribute, DeviceCapacity,
    DeviceCounterConsumption, DeviceTaint,
};
use regex::Regex;
use serde_json::Value;

use super::{name, request};
use crate::{
    equal,
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    meta,
    pod::affinity,
    quantity::Quantity,
};

const ATTRIBUTES_MAX: usize = 32;
const VALUES_MAX: usize = 48;
const VALUE_LENGTH_MAX: usize = 64;
const KEY_LENGTH_MAX: usize = 63 + 1 + 32;
const TAINTS_MAX: usize = 16;
const CONSUMPTIONS_MAX: usize = 2;
const COUNTERS_MAX: usize = 32;
const OPTIONS_MAX: usize = 10;

/// Semantic versions, as semver.org has them.
static VERSION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let number = r"(0|[1-9]\d*)";
    let before = r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)";
    let build = "[0-9a-zA-Z-]+";
    let all = format!(r"^{number}\.{number}\.{number}(-{before}(\.{before})*)?(\+{build}(\.{build})*)?$");
    Regex::new(&all).ok()
});

fn lists(attribute: &DeviceAttribute) -> [Option<usize>; 4] {
    [
        attribute.bools.as_ref().map(Vec::len),
        attribute.ints.as_ref().map(Vec::len),
        attribute.strings.as_ref().map(Vec::len),
        attribute.versions.as_ref().map(Vec::len),
    ]
}

pub fn has_lists(device: &Device) -> bool {
    device.attributes.iter().flatten().any(|(_, attribute)| lists(attribute).iter().any(Option::is_some))
}

pub fn drop_lists(device: &mut Device) {
    for attribute in device.attributes.iter_mut().flat_map(BTreeMap::values_mut) {
        (attribute.bools, attribute.ints, attribute.strings, attribute.versions) = (None, None, None, None);
    }
}

pub fn is_large(device: &Device) -> bool {
    !device.taints.items().is_empty() || !device.consumes_counters.items().is_empty() || has_lists(device)
}

pub fn validate(device: &Device, old: Option<&Device>, per_device: bool, path: &Path, errors: &mut Errors) {
    name::label(&device.name, &path.child("name"), errors);
    let none = BTreeMap::new();
    let attributes = device.attributes.as_ref().unwrap_or(&none);
    let no_capacity = BTreeMap::new();
    let capacities = device.capacity.as_ref().unwrap_or(&no_capacity);
    let count = attributes.len() + capacities.len();
    if count > ATTRIBUTES_MAX {
        let why = format!("the total number of attributes and capacities must not exceed {ATTRIBUTES_MAX}");
        errors.push(Error::invalid(*path, count, why));
    }
    let values = attributes.values().map(|attribute| lists(attribute).into_iter().flatten().sum::<usize>().max(1));
    let values: usize = values.sum();
    if values > VALUES_MAX {
        let why = format!("the total number of attribute values must not exceed {VALUES_MAX}");
        errors.push(Error::invalid(*path, values, why));
    }
    let map = path.child("attributes");
    for (key, attribute) in attributes {
        name::qualified(key, &map, errors);
        validate_attribute(attribute, &map.key(&shortened(key)), errors);
    }
    let (map, is_shared) = (path.child("capacity"), device.allow_multiple_allocations == Some(true));
    for (key, capacity) in capacities {
        name::qualified(key, &map, errors);
        validate_capacity(capacity, is_shared, &map.key(&shortened(key)), errors);
    }
    validate_taints(device, old, &path.child("taints"), errors);
    let key = |consumption: &DeviceCounterConsumption| consumption.counter_set.clone();
    let (list, consumptions) = (path.child("consumesCounters"), device.consumes_counters.items());
    name::each(consumptions, CONSUMPTIONS_MAX, key, &list, errors, |consumption, path, errors| {
        validate_counters("counterSet", &consumption.counter_set, &consumption.counters, path, errors);
    });
    validate_nodes(device, per_device, path, errors);
    let (conditions, failures) = (device.binding_conditions.items(), device.binding_failure_conditions.items());
    name::binding_conditions(conditions, failures, path, errors);
}

/// A key in a path is not shown in full where it is too long.
fn shortened(key: &str) -> String {
    if key.len() <= KEY_LENGTH_MAX || !key.is_ascii() {
        return key.to_owned();
    }
    let rest = KEY_LENGTH_MAX - 3;
    format!("{}...{}", &key[..rest.div_ceil(2)], &key[key.len() - rest / 2..])
}

fn validate_attribute(attribute: &DeviceAttribute, path: &Path, errors: &mut Errors) {
    let mut count = usize::from(attribute.bool.is_some()) + usize::from(attribute.int.is_some());
    if let Some(text) = &attribute.string {
        count += 1;
        validate_length(text, &path.child("string"), errors);
    }
    if let Some(version) = &attribute.version {
        count += 1;
        validate_version(version, &path.child("version"), errors);
    }
    for (name, length) in ["bools", "ints", "strings", "versions"].into_iter().zip(lists(attribute)) {
        count += usize::from(length.is_some());
        if length == Some(0) {
            let empty = Value::Array(Vec::new());
            errors.push(Error::invalid(path.child(name), empty, "must not be empty if specified"));
        }
    }
    let list = path.child("strings");
    for (i, text) in attribute.strings.items().iter().enumerate() {
        validate_length(text, &list.index(i), errors);
    }
    let list = path.child("versions");
    for (i, version) in attribute.versions.items().iter().enumerate() {
        validate_version(version, &list.index(i), errors);
    }
    let why = "exactly one value must be specified";
    match count {
        0 => errors.push(Error::invalid(*path, "", why)),
        1 => {}
        _ => {
            let wrong = Error::invalid(*path, "", why);
            errors.push(wrong.showing_struct(attribute, "io.k8s.api.resource.v1.DeviceAttribute"));
        }
    }
}

fn validate_length(text: &str, path: &Path, errors: &mut Errors) {
    if text.len() > VALUE_LENGTH_MAX {
        errors.push(Error::too_long(*path, VALUE_LENGTH_MAX as i64));
    }
}

fn validate_version(version: &str, path: &Path, errors: &mut Errors) {
    if !VERSION.as_ref().is_some_and(|form| form.is_match(version)) {
        errors.push(Error::invalid(*path, version, "must be a string compatible with semver.org spec 2.0.0"));
    }
    validate_length(version, path, errors);
}

fn validate_capacity(capacity: &DeviceCapacity, is_shared: bool, path: &Path, errors: &mut Errors) {
    let Some(policy) = &capacity.request_policy else { return };
    let path = path.child("requestPolicy");
    if !is_shared {
        errors.push(Error::forbidden(path, "allowMultipleAllocations must be true"));
        return;
    }
    validate_policy(policy, Quantity::of(Some(&capacity.value)), &path, errors);
}

fn validate_policy(policy: &CapacityRequestPolicy, max: Quantity, path: &Path, errors: &mut Errors) {
    let options: Vec<_> = policy.valid_values.items().iter().map(|option| Quantity::of(Some(option))).collect();
    let default = policy.default.as_ref().map(|default| Quantity::of(Some(default)));
    let default_path = path.child("default");
    match (options.is_empty(), &policy.valid_range, default) {
        (false, Some(_), _) => {
            let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the \
                       same time";
            errors.push(Error::forbidden(*path, why));
        }
        (true, None, _) => {}
        (false, None, None) => errors.push(Error::required(default_path, "required when validValues is defined")),
        (true, Some(_), None) => errors.push(Error::required(default_path, "required when validRange is defined")),
        (false, None, Some(default)) => {
            validate_options(&options, default, max, &path.child("validValues"), errors);
        }
        (true, Some(range), Some(default)) => {
            validate_range(range, default, max, &path.child("validRange"), errors);
        }
    }
}

fn validate_options(options: &[Quantity], default: Quantity, max: Quantity, path: &Path, errors: &mut Errors) {
    for (i, pair) in options.windows(2).enumerate() {
        if let [before, after] = pair
            && before > after
        {
            let why = "values must be sorted in ascending order";
            errors.push(Error::invalid(path.index(i + 1), after.to_string(), why));
        }
    }
    let key = |option: &Quantity| option.units().to_string();
    name::each(options, OPTIONS_MAX, key, path, errors, |option, path, errors| {
        if *option > max {
            let why = format!("option is larger than capacity value: {max}");
            errors.push(Error::invalid(*path, option.to_string(), why));
        }
    });
    if !options.contains(&default) || options.len() > OPTIONS_MAX {
        let why = "default value is not valid according to the requestPolicy";
        errors.push(Error::invalid(*path, default.to_string(), why));
    }
}

fn validate_range(
    range: &CapacityRequestPolicyRange,
    default: Quantity,
    capacity: Quantity,
    path: &Path,
    errors: &mut Errors,
) {
    let min = Quantity::of(Some(&range.min));
    let max = range.max.as_ref().map(|max| Quantity::of(Some(max)));
    let (min_path, max_path, step_path) = (path.child("min"), path.child("max"), path.child("step"));
    let mut check = |wrong: bool, path: Path, shown: Quantity, why: String| {
        if wrong {
            errors.push(Error::invalid(path, shown.to_string(), why));
        }
    };
    check(min > capacity, min_path, min, format!("min is larger than capacity value: {capacity}"));
    check(default < min, min_path, default, format!("default is less than min: {min}"));
    if let Some(max) = max {
        check(min > max, max_path, min, format!("min is larger than max: {max}"));
        check(max > capacity, max_path, max, format!("max is larger than capacity value: {capacity}"));
        check(default > max, max_path, default, format!("default is more than max: {max}"));
    }
    let Some(step) = range.step.as_ref().map(|step| Quantity::of(Some(step))) else { return };
    let next = min + step;
    check(next > capacity, step_path, step, format!("one step {next} is larger than capacity value: {capacity}"));
    for value in [Some(default), max].into_iter().flatten() {
        let (distance, length) = (value.units().saturating_sub(min.units()), step.units());
        let misses = length == 0 || distance.checked_rem(length) != Some(0);
        let why = format!("value is not a multiple of a given step ({step}) from ({min})");
        check(misses, step_path, value, why);
    }
}

fn validate_taints(device: &Device, old: Option<&Device>, path: &Path, errors: &mut Errors) {
    let taints = device.taints.items();
    let kept = old.is_some_and(|old| equal::same(&old.taints, &device.taints));
    if kept || !field::at_most_items(taints, TAINTS_MAX, path, errors) {
        return;
    }
    for (i, taint) in taints.iter().enumerate() {
        validate_taint(taint, &path.index(i), errors);
    }
}

pub fn validate_taint(taint: &DeviceTaint, path: &Path, errors: &mut Errors) {
    meta::label_name(&taint.key, path.child("key"), errors);
    let value = taint.value.text();
    extend(errors, path.child("value"), value, field::label_value(value));
    match taint.effect.as_str() {
        "" => errors.push(Error::required(path.child("effect"), "")),
        effect => request::validate_effect(effect, &path.child("effect"), errors),
    }
}

/// A set of counters, by the name that `field` holds.
pub fn validate_counters(
    field: &str,
    set: &str,
    counters: &BTreeMap<String, Counter>,
    path: &Path,
    errors: &mut Errors,
) {
    match set {
        "" => errors.push(Error::required(path.child(field), "")),
        set => name::label(set, &path.child(field), errors),
    }
    let path = path.child("counters");
    match counters.len() {
        0 => errors.push(Error::required(path, "")),
        count if count > COUNTERS_MAX => errors.push(Error::too_many(path, count as i64, COUNTERS_MAX as i64)),
        _ => counters.keys().for_each(|key| name::label(key, &path, errors)),
    }
}

fn validate_nodes(device: &Device, per_device: bool, path: &Path, errors: &mut Errors) {
    if !per_device {
        if device.node_name.is_some() || device.node_selector.is_some() || device.all_nodes.is_some() {
            let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to \
                       true in the ResourceSlice spec";
            errors.push(Error::invalid(*path, Value::Null, why));
        }
        return;
    }
    let mut set = Vec::new();
    match device.node_name.as_deref() {
        None => {}
        Some("") => errors.push(Error::invalid(path.child("nodeName"), "", "must not be empty")),
        Some(node) => {
            set.push("`nodeName`");
            extend(errors, path.child("nodeName"), node, field::dns_subdomain(node));
        }
    }
    if let Some(selector) = &device.node_selector {
        set.push("`nodeSelector`");
        affinity::node_selector(selector, &path.child("nodeSelector"), errors);
    }
    match device.all_nodes {
        None => {}
        Some(true) => set.push("`allNodes`"),
        Some(false) => {
            errors.push(Error::invalid(path.child("allNodes"), false, "must be either unset or set to true"));
        }
    }
    let why = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set \
               to true in the ResourceSlice spec";
    match set.len() {
        0 => errors.push(Error::required(*path, why)),
        1 => {}
        _ => errors.push(Error::invalid(*path, format!("{{{}}}", set.join(", ")), why)),
    }
}
