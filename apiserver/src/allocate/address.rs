//! Cluster addresses: the blocks that they are from, and the IPAddress that says whose one is.

use std::net::IpAddr;

use bytes::Bytes;
use crds::{
    given::{Items, Text},
    kind::{Gvk, Kind},
};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::ServiceSpec,
    networking::v1::{IPAddress, ServiceCIDR},
};
use serde_json::{Value, json};

use super::{
    family::{self, Families},
    range::Block,
};
use crate::{apply, cache, codec::typed, metadata, world::World};

/// The one that is there from the start, and says which families there are.
const DEFAULT: &str = "kubernetes";
/// Who writes IPAddresses, as upstream: the server itself.
const MANAGER: &str = "kube-apiserver";

/// All blocks that addresses may be from now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    blocks: Vec<Block>,
    pub families: Families,
}

impl Blocks {
    pub fn new(mut ranges: Vec<ServiceCIDR>) -> Self {
        ranges.sort_by_key(|range| range.metadata.name.text() != DEFAULT);
        let of = |range: &ServiceCIDR| -> Vec<Block> {
            let blocks = range.spec.iter().flat_map(|spec| spec.cidrs.items());
            blocks.filter_map(|block| Block::parse(block)).collect()
        };
        let mut families: Vec<&'static str> = Vec::new();
        for family in ranges.first().map(of).unwrap_or_default().iter().map(|b| family::family_of(b.is_ipv4())) {
            if !families.contains(&family) {
                families.push(family);
            }
        }
        Self {
            blocks: ranges.iter().filter(|range| is_ready(range)).flat_map(of).collect(),
            families: Families(families),
        }
    }

    pub fn of_family<'a>(&'a self, family: &'a str) -> impl Iterator<Item = &'a Block> {
        self.blocks.iter().filter(move |block| family::family_of(block.is_ipv4()) == family)
    }

    /// Why an address cannot be given; whether somebody has it is not known here. Like upstream's, a dry run looks at
    /// one block only, in other words.
    pub fn refuse(&self, address: IpAddr, dry_run: bool) -> Option<String> {
        if self.blocks.iter().any(|block| block.contains(address)) {
            return None;
        }
        let family = family::family_of(address.is_ipv4());
        match self.of_family(family).next() {
            Some(block) if dry_run => Some(format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {}/{}",
                block.network, block.length
            )),
            _ => Some("the provided network does not match the current range".to_owned()),
        }
    }
}

/// Without a condition it is: nobody may be there who would set one.
fn is_ready(range: &ServiceCIDR) -> bool {
    let conditions = range.status.as_ref().map(|status| status.conditions.items()).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    range.metadata.deletion_timestamp.is_none() && ready.is_none_or(|condition| condition.status == "True")
}

/// The addresses that a Service holds.
pub fn of(spec: &ServiceSpec) -> Vec<IpAddr> {
    if !family::has_addresses(spec) || family::is_headless(spec) {
        return Vec::new();
    }
    spec.cluster_ips.items().iter().filter_map(|ip| crds::syntax::parse_ip(ip)).collect()
}

pub fn key(address: IpAddr) -> String {
    cache::key_of(IPAddress::ABOUT.storage_prefix, "", &address.to_string())
}

/// The IPAddress of a Service, as it is stored.
pub fn object(address: IpAddr, namespace: &str, name: &str, world: &World) -> Bytes {
    let now = world.now();
    let gvk = Gvk { group: "networking.k8s.io".into(), version: "v1".into(), kind: "IPAddress".into() };
    let mut object = json!({
        "apiVersion": gvk.api_version(), "kind": gvk.kind,
        "metadata": {
            "name": address.to_string(),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": family::family_of(address.is_ipv4()),
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": name}},
    });
    metadata::fill(&mut object, false, now, &world.random);
    track(&gvk, &mut object, now);
    typed::json(&object).into()
}

fn track(gvk: &Gvk, object: &mut Value, now: Timestamp) {
    let Some((schema, ty)) = typed::type_of(gvk) else { return };
    let reset = apply::Reset::of(&gvk.group, "ipaddresses", "", false);
    let manager = apply::Manager {
        name: MANAGER,
        api_version: &gvk.api_version(),
        kind: &gvk.kind,
        subresource: "",
        force: false,
        now,
        reset: &reset,
        versions: None,
    };
    apply::track(schema, ty, None, object, &manager);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(name: &str, block: &str, ready: Option<&str>) -> ServiceCIDR {
        let conditions: Vec<Value> = ready
            .map(|status| {
                json!({"type": "Ready", "status": status, "reason": "",
            "message": "", "lastTransitionTime": "2024-05-01T10:00:00Z"})
            })
            .into_iter()
            .collect();
        let object = json!({
            "metadata": {"name": name}, "spec": {"cidrs": [block]}, "status": {"conditions": conditions},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn addresses_are_from_ranges_that_are_ready() {
        let blocks = Blocks::new(vec![
            range("a", "10.1.0.0/24", Some("True")),
            range("b", "10.2.0.0/24", Some("False")),
            range("kubernetes", "10.0.0.0/24", None),
        ]);
        assert_eq!(blocks.families, Families(vec!["IPv4"]));
        let first = blocks.of_family("IPv4").next().map(|block| block.network.to_string());
        assert_eq!(first.as_deref(), Some("10.0.0.0"));
        let outside = "the provided network does not match the current range";
        let not_in = "the provided IP (10.2.0.1) is not in the valid range. The range of valid IPs is 10.0.0.0/24";
        for (address, dry_run, want) in [
            ("10.0.0.1", false, None),
            ("10.1.0.1", false, None),
            ("10.2.0.1", false, Some(outside)),
            ("10.2.0.1", true, Some(not_in)),
            ("fd00::1", false, Some(outside)),
        ] {
            assert_eq!(blocks.refuse(address.parse().unwrap(), dry_run).as_deref(), want, "{address}");
        }
    }
}
