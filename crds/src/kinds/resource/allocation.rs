//! The status of a claim: the devices that it was given, who may use them, and how they are.

use std::collections::{BTreeSet, HashSet};

use k8s_openapi::api::resource::v1::{
    AllocatedDeviceStatus, AllocationResult, DeviceAllocationConfiguration, DeviceRequestAllocationResult,
    NetworkDeviceData, ResourceClaim, ResourceClaimConsumerReference, ResourceClaimStatus,
};
use serde_json::Value;

use super::{
    name,
    request::{self, CONFIGURATIONS_MAX, Names},
};
use crate::{
    condition, equal,
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    kind::Request,
    pod::affinity,
    syntax,
};

const STATUS: Path = Path::new("status");
const CONSUMERS_MAX: usize = 256;
const RESULTS_MAX: usize = 32;
const CONDITIONS_MAX: usize = 8;
const DATA_LENGTH_MAX: usize = 10 << 10;
const ADDRESSES_MAX: usize = 16;
const INTERFACE_LENGTH_MAX: usize = 256;
const HARDWARE_LENGTH_MAX: usize = 128;

/// Driver, pool, device, and the share of it.
type Device<'a> = (&'a str, &'a str, &'a str, &'a str);

/// Devices that are given with admin access are given to namespaces that may have it.
pub fn validate_admin_access(claim: &ResourceClaim, old: &ResourceClaim, request: &Request, errors: &mut Errors) {
    let given = |claim: &ResourceClaim| {
        let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
        let results = allocation.and_then(|allocation| allocation.devices.as_ref()).map(|d| d.results.items());
        results.unwrap_or_default().iter().position(|result| result.admin_access == Some(true))
    };
    if let (None, Some(i), false) = (given(old), given(claim), request.is_admin_namespace) {
        errors.push(request::refused_admin_access(Path::new(&format!("status.allocation.devices.results[{i}]"))));
    }
}

/// Beside the right to write a status: who may say where a claim is allocated and for whom it is reserved, and who how its
/// devices do. Rights are given on subresources that are not served.
pub fn validate_rights(claim: &ResourceClaim, old: &ResourceClaim, request: &Request, errors: &mut Errors) {
    let none = ResourceClaimStatus::default();
    let (status, was) = (claim.status.as_ref().unwrap_or(&none), old.status.as_ref().unwrap_or(&none));
    let verb = request.verb;
    let binds = !equal::same(&status.allocation, &was.allocation)
        || !equal::same(status.reserved_for.items(), was.reserved_for.items());
    if binds && let Err(why) = request.rights.require(verb, "binding", "", "") {
        let needed = format!(r#"resource="resourceclaims/binding", verb="{verb}" permission"#);
        let why = format!("changing status.allocation or status.reservedFor requires {needed}: {why}");
        errors.push(Error::forbidden(STATUS.child("allocation"), why));
    }
    // What is told of devices goes with their allocation.
    let Some(allocation) = &status.allocation else { return };
    let is_here = node(allocation).is_some_and(|node| request.user.is_bound_to(node));
    let places: &[_] = if is_here { &["associated-node", "arbitrary-node"] } else { &["arbitrary-node"] };
    let verbs: Vec<_> = places.iter().map(|place| format!("{place}:{verb}")).collect();
    let namespace = claim.metadata.namespace.text();
    for driver in changed_drivers(was.devices.items(), status.devices.items()) {
        let mut refusals = verbs.iter().map(|verb| request.rights.require(verb, "driver", namespace, driver));
        let first = refusals.next().and_then(Result::err);
        if let Some(why) = first
            && refusals.all(|refusal| refusal.is_err())
        {
            let needed = format!(r#"resource="resourceclaims/driver", verb="[{}]" permission"#, verbs.join(" "));
            let why = format!("changing status.devices requires {needed}: {why}");
            errors.push(Error::forbidden(STATUS.child("devices"), why));
        }
    }
}

/// The drivers of devices of which something else is told than before.
fn changed_drivers<'a>(old: &'a [AllocatedDeviceStatus], new: &'a [AllocatedDeviceStatus]) -> BTreeSet<&'a str> {
    let tells =
        |all: &[AllocatedDeviceStatus], one: &AllocatedDeviceStatus| all.iter().any(|other| equal::same(other, one));
    let gone = old.iter().filter(|device| !tells(new, device));
    let come = new.iter().filter(|device| !tells(old, device));
    gone.chain(come).map(|device| device.driver.as_str()).collect()
}

/// The node that an allocation is bound to by its name.
fn node(allocation: &AllocationResult) -> Option<&str> {
    let [term] = &allocation.node_selector.as_ref()?.node_selector_terms[..] else { return None };
    let ([], [field]) = (term.match_expressions.items(), term.match_fields.items()) else { return None };
    match field.values.items() {
        [name] if (&*field.key, &*field.operator) == ("metadata.name", "In") => Some(name),
        _ => None,
    }
}

fn allocated(status: &ResourceClaimStatus) -> Vec<Device<'_>> {
    let devices = status.allocation.as_ref().and_then(|allocation| allocation.devices.as_ref());
    let results = devices.map(|devices| devices.results.items()).unwrap_or_default();
    results.iter().map(|r| (&*r.driver, &*r.pool, &*r.device, r.share_id.text())).collect()
}

fn device(status: &AllocatedDeviceStatus) -> Device<'_> {
    (&status.driver, &status.pool, &status.device, status.share_id.text())
}

fn shown((driver, pool, device, share): Device) -> String {
    let share = if share.is_empty() { String::new() } else { format!("/{share}") };
    format!("{driver}/{pool}/{device}{share}")
}

/// Upstream's key of a device, as Go shows it.
fn shown_as_struct((driver, pool, device, share): Device) -> String {
    let [driver, pool, device, share] = [driver, pool, device, share].map(|text| Value::from(text).to_string());
    format!(r#"{{"Driver":{driver},"Pool":{pool},"Device":{device},"ShareID":{share}}}"#)
}

/// Drops what is told of devices that the claim no longer has.
pub fn forget_deallocated(new: &mut ResourceClaimStatus, old: Option<&ResourceClaimStatus>) {
    let mut gone: HashSet<_> = old.map(allocated).unwrap_or_default().into_iter().map(shown).collect();
    allocated(new).into_iter().map(shown).for_each(|device| {
        gone.remove(&device);
    });
    if let Some(devices) = &mut new.devices {
        devices.retain(|status| !gone.contains(&shown(device(status))));
    }
    new.devices = new.devices.take().filter(|devices| !devices.is_empty());
}

pub fn validate(claim: &ResourceClaim, old: &ResourceClaim, errors: &mut Errors) {
    let none = ResourceClaimStatus::default();
    let (status, old) = (claim.status.as_ref().unwrap_or(&none), old.status.as_ref().unwrap_or(&none));
    let (consumers, consumers_path) = (status.reserved_for.items(), STATUS.child("reservedFor"));
    let key = |consumer: &ResourceClaimConsumerReference| consumer.uid.clone();
    name::each(consumers, CONSUMERS_MAX, key, &consumers_path, errors, validate_consumer);
    let has: HashSet<_> = allocated(status).into_iter().collect();
    let (devices, list) = (status.devices.items(), STATUS.child("devices"));
    let ids: Vec<_> = devices.iter().map(device).collect();
    for (i, (status, id)) in devices.iter().zip(&ids).enumerate() {
        validate_device(status, has.contains(id), &list.index(i), errors);
    }
    name::duplicates(&ids, &list, errors, |path, id| Error::duplicate(path, "").showing(shown_as_struct(*id)));
    if !consumers.is_empty() && status.allocation.is_none() {
        errors.push(Error::forbidden(consumers_path, "may not be specified when `allocated` is not set"));
    } else if claim.metadata.deletion_timestamp.is_some()
        && consumers.iter().any(|consumer| !old.reserved_for.items().contains(consumer))
    {
        let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.push(Error::forbidden(consumers_path, why));
    }
    let path = STATUS.child("allocation");
    match (&status.allocation, &old.allocation) {
        (Some(new), Some(old)) => {
            equal::immutable_struct(new, old, "io.k8s.api.resource.v1.AllocationResult", path, errors);
        }
        (Some(new), None) => {
            let none = Default::default();
            let names = Names::of(claim.spec.devices.as_ref().unwrap_or(&none));
            validate_allocation(new, &names, &path, errors);
        }
        (None, _) => {}
    }
}

fn validate_consumer(consumer: &ResourceClaimConsumerReference, path: &Path, errors: &mut Errors) {
    for (name, value) in [("resource", &consumer.resource), ("name", &consumer.name), ("uid", &consumer.uid)] {
        if value.is_empty() {
            errors.push(Error::required(path.child(name), ""));
        }
    }
}

fn validate_device(status: &AllocatedDeviceStatus, is_allocated: bool, path: &Path, errors: &mut Errors) {
    name::driver(&status.driver, &path.child("driver"), errors);
    name::pool(&status.pool, &path.child("pool"), errors);
    name::label(&status.device, &path.child("device"), errors);
    if let Some(share) = &status.share_id {
        name::uid(share, &path.child("shareID"), errors);
    }
    if !is_allocated {
        let why = "must be an allocated device in the claim";
        errors.push(Error::invalid(*path, "", why).showing(shown_as_struct(device(status))));
    }
    let list = path.child("conditions");
    field::at_most_items(status.conditions.items(), CONDITIONS_MAX, &list, errors);
    condition::validate(status.conditions.items(), &list, errors);
    if let Some(data) = &status.data {
        request::validate_raw(data, DATA_LENGTH_MAX, &path.child("data"), errors);
    }
    if let Some(network) = &status.network_data {
        validate_network(network, &path.child("networkData"), errors);
    }
}

fn validate_network(network: &NetworkDeviceData, path: &Path, errors: &mut Errors) {
    for (name, value, max) in [
        ("interfaceName", network.interface_name.text(), INTERFACE_LENGTH_MAX),
        ("hardwareAddress", network.hardware_address.text(), HARDWARE_LENGTH_MAX),
    ] {
        if value.len() > max {
            errors.push(Error::too_long(path.child(name), max as i64));
        }
    }
    let addresses = network.ips.items();
    name::each(addresses, ADDRESSES_MAX, String::clone, &path.child("ips"), errors, |address, path, errors| {
        extend(errors, *path, address, address_wrong(address));
    });
}

/// An address and the length of its network's prefix, in the one form that is canonical.
fn address_wrong(text: &str) -> Vec<String> {
    match syntax::parse_cidr(text).map(|(address, length)| format!("{address}/{length}")) {
        None => vec!["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".to_owned()],
        Some(canonical) if canonical != text => vec![format!("must be in canonical form ({canonical:?})")],
        Some(_) => Vec::new(),
    }
}

fn validate_allocation(allocation: &AllocationResult, names: &Names, path: &Path, errors: &mut Errors) {
    let none = Default::default();
    let (devices, devices_path) = (allocation.devices.as_ref().unwrap_or(&none), path.child("devices"));
    let (list, results) = (devices_path.child("results"), devices.results.items());
    if field::at_most_items(results, RESULTS_MAX, &list, errors) {
        for (i, result) in results.iter().enumerate() {
            validate_result(result, names, &list.index(i), errors);
        }
    }
    let (list, configurations) = (devices_path.child("config"), devices.config.items());
    if field::at_most_items(configurations, 2 * CONFIGURATIONS_MAX, &list, errors) {
        for (i, configuration) in configurations.iter().enumerate() {
            validate_configuration(configuration, names, &list.index(i), errors);
        }
    }
    if let Some(selector) = &allocation.node_selector {
        affinity::node_selector(selector, &path.child("nodeSelector"), errors);
    }
}

fn validate_result(result: &DeviceRequestAllocationResult, names: &Names, path: &Path, errors: &mut Errors) {
    names.check(&result.request, &path.child("request"), errors);
    name::driver(&result.driver, &path.child("driver"), errors);
    name::pool(&result.pool, &path.child("pool"), errors);
    name::label(&result.device, &path.child("device"), errors);
    let (conditions, failures) = (result.binding_conditions.items(), result.binding_failure_conditions.items());
    name::binding_conditions(conditions, failures, path, errors);
    if let Some(share) = &result.share_id {
        name::uid(share, &path.child("shareID"), errors);
    }
}

fn validate_configuration(
    configuration: &DeviceAllocationConfiguration,
    names: &Names,
    path: &Path,
    errors: &mut Errors,
) {
    let source_path = path.child("source");
    match configuration.source.as_str() {
        "" => errors.push(Error::required(source_path, "")),
        "FromClaim" | "FromClass" => {}
        other => errors.push(Error::not_supported(source_path, other, &["FromClaim", "FromClass"])),
    }
    names.check_all(configuration.requests.items(), &path.child("requests"), errors);
    request::validate_configuration(configuration.opaque.as_ref(), path, errors);
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm},
        apimachinery::pkg::runtime::RawExtension,
    };
    use serde_json::json;

    use super::*;
    use crate::{kind::Rights, user::User};

    /// The right to this verb on this subresource.
    struct Only(&'static str, &'static str);

    impl Rights for Only {
        fn require(&self, verb: &str, subresource: &str, namespace: &str, name: &str) -> Result<(), String> {
            let is_it = (verb, subresource) == (self.0, self.1);
            if is_it { Ok(()) } else { Err(format!("no {verb} on {subresource} {namespace}/{name}")) }
        }
    }

    #[test]
    fn who_may_say_what_of_an_allocation() {
        let field = |name: &str| NodeSelectorRequirement {
            key: name.to_owned(),
            operator: "In".to_owned(),
            values: Some(vec!["n".to_owned()]),
        };
        let claim = |key: &str, data: i32| {
            let term = NodeSelectorTerm { match_fields: Some(vec![field(key)]), ..Default::default() };
            let node_selector = Some(NodeSelector { node_selector_terms: vec![term] });
            let device = AllocatedDeviceStatus {
                driver: "d.e".to_owned(),
                data: Some(RawExtension(json!(data))),
                ..Default::default()
            };
            let status = ResourceClaimStatus {
                allocation: Some(AllocationResult { node_selector, ..Default::default() }),
                devices: Some(vec![device]),
                ..Default::default()
            };
            ResourceClaim { status: Some(status), ..Default::default() }
        };
        let bound = [(User::NODE_NAME.to_owned(), vec!["n".to_owned()])].into();
        let agent = User { extra: bound, ..User::of_service_account("a", "b") };
        let told = |old: &ResourceClaim, new: &ResourceClaim, rights: Only| {
            let now = jiff::Timestamp::UNIX_EPOCH;
            let request = Request { rights: &rights, ..Request::new(&agent, now, "status") };
            let mut errors = Errors::new();
            validate_rights(new, old, &request, &mut errors);
            errors.iter().map(|error| error.field.clone()).collect::<Vec<_>>().join(" ")
        };
        let (none, name) = (ResourceClaim::default(), "metadata.name");
        assert_eq!(told(&none, &claim(name, 1), Only("", "")), "status.allocation status.devices");
        assert_eq!(told(&none, &claim(name, 1), Only("update", "binding")), "status.devices");
        assert_eq!(told(&claim(name, 1), &claim(name, 1), Only("", "")), "");
        assert_eq!(told(&claim(name, 1), &claim(name, 2), Only("arbitrary-node:update", "driver")), "");
        // The agent is where the claim is.
        assert_eq!(told(&claim(name, 1), &claim(name, 2), Only("associated-node:update", "driver")), "");
        let elsewhere = (claim("metadata.uid", 1), claim("metadata.uid", 2));
        assert_eq!(told(&elsewhere.0, &elsewhere.1, Only("associated-node:update", "driver")), "status.devices");
        // Devices that are given back are nobody's.
        assert_eq!(told(&claim(name, 1), &none, Only("update", "binding")), "");
    }

    #[test]
    fn a_device_that_is_told_twice_is_shown_by_its_key() {
        let status = AllocatedDeviceStatus {
            driver: "d.e".to_owned(),
            pool: "p".to_owned(),
            device: "x".to_owned(),
            ..Default::default()
        };
        let status = ResourceClaimStatus { devices: Some(vec![status; 2]), ..Default::default() };
        let claim = ResourceClaim { status: Some(status), ..Default::default() };
        let mut errors = Errors::new();
        validate(&claim, &ResourceClaim::default(), &mut errors);
        let told: Vec<_> = errors.iter().map(ToString::to_string).filter(|told| told.contains("Duplicate")).collect();
        let key = r#"{"Driver":"d.e","Pool":"p","Device":"x","ShareID":""}"#;
        assert_eq!(told, [format!("status.devices[1]: Duplicate value: {key}")]);
    }
}
