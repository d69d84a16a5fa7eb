//! Gives every node a range of pod addresses out of the cluster's.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::{
    plan::{Event, Plan, Write},
    runtime::{Controller, View, Wiring, object, object::Key, server::Error},
};

/// An address and how many of its bits name the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    bits: u128,
    prefix: u8,
    v6: bool,
}

impl Cidr {
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix: u8 = prefix.parse().ok()?;
        let (bits, v6) = match address.parse().ok()? {
            IpAddr::V4(a) => (u128::from(a.to_bits()), false),
            IpAddr::V6(a) => (a.to_bits(), true),
        };
        let width = if v6 { 128 } else { 32 };
        (prefix <= width).then_some(Self { bits, prefix, v6 })
    }

    const fn width(self) -> u8 {
        if self.v6 { 128 } else { 32 }
    }

    /// The `index`th range of this size inside.
    fn range(self, prefix: u8, index: u128) -> Option<Self> {
        let free = prefix.checked_sub(self.prefix)?;
        if prefix > self.width() || free < 127 && index >> free != 0 {
            return None;
        }
        let bits = self.bits + (index << (self.width() - prefix));
        Some(Self { bits, prefix, v6: self.v6 })
    }

    fn overlaps(self, other: Self) -> bool {
        let prefix = self.prefix.min(other.prefix);
        let shift = self.width() - prefix;
        self.v6 == other.v6 && (shift >= 128 || self.bits >> shift == other.bits >> shift)
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.v6, u32::try_from(self.bits)) {
            (false, Ok(bits)) => write!(f, "{}/{}", Ipv4Addr::from_bits(bits), self.prefix),
            _ => write!(f, "{}/{}", Ipv6Addr::from_bits(self.bits), self.prefix),
        }
    }
}

#[derive(Debug)]
pub struct Observed {
    pub node: Arc<Node>,
    pub cluster: Cidr,
    pub prefix: u8,
    pub taken: BTreeSet<Cidr>,
}

#[derive(Default)]
pub struct NodeIpamController;

impl Controller for NodeIpamController {
    const NAME: &'static str = "node-ipam";
    const ACCOUNT: &'static str = "node-controller";
    const COMPONENT: &'static str = "cidrAllocator";
    /// No two nodes may be given a range at the same time.
    const WORKERS: usize = 1;
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<Node>();
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let Some(cluster) = view.config.cluster_cidr.as_deref().and_then(Cidr::parse) else {
            return Ok(None);
        };
        let nodes = view.caches.get::<Node>();
        let has_range = |n: &Node| n.spec.as_ref().is_some_and(|s| s.pod_cidr.is_some());
        let Some(node) = nodes.get(key).filter(|n| !has_range(n) && n.metadata.deletion_timestamp.is_none()) else {
            return Ok(None);
        };
        let specs = nodes.all().into_iter().filter_map(|n| n.spec.clone());
        let taken = specs.flat_map(|s| s.pod_cidr.into_iter().chain(s.pod_cidrs.into_iter().flatten()));
        let taken = taken.filter_map(|c| Cidr::parse(&c)).collect();
        Ok(Some(Observed { node, cluster, prefix: view.config.node_cidr_mask, taken }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        let ranges = (0..).map_while(|i| seen.cluster.range(seen.prefix, i));
        let free = ranges.into_iter().find(|r| !seen.taken.iter().any(|t| t.overlaps(*r)));
        let Some(range) = free else {
            let name = object::name(&seen.node.metadata);
            let message = format!("Node {name} status is now: CIDRNotAvailable");
            let event = Event::normal(object::reference(&*seen.node), "CIDRNotAvailable", message);
            // Another node may go and leave its range.
            return Plan::default().tell(event).again_after(std::time::Duration::from_secs(30));
        };
        let range = range.to_string();
        let patch = json!({"spec": {"podCIDR": range, "podCIDRs": [range]}});
        Plan::of(Write::strategic::<Node>(&seen.node.metadata, "", patch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_range() {
        let seen = |cluster: &str, prefix, taken: &[&str]| Observed {
            node: Arc::default(),
            cluster: Cidr::parse(cluster).unwrap(),
            prefix,
            taken: taken.iter().filter_map(|t| Cidr::parse(t)).collect(),
        };
        for (cluster, prefix, taken, want) in [
            ("10.244.0.0/16", 24, &[][..], Some("10.244.0.0/24")),
            ("10.244.0.0/16", 24, &["10.244.0.0/24", "10.244.2.0/24"], Some("10.244.1.0/24")),
            ("10.244.0.0/16", 24, &["10.244.0.0/20"], Some("10.244.16.0/24")),
            ("10.244.0.0/24", 24, &["10.244.0.0/24"], None),
            ("fd00::/48", 64, &["fd00::/64"], Some("fd00:0:0:1::/64")),
        ] {
            let plan = NodeIpamController.plan(&seen(cluster, prefix, taken));
            let given = plan.writes().next().map(|w| w.body().unwrap()["spec"]["podCIDR"].clone());
            assert_eq!(given.as_ref().and_then(|c| c.as_str()), want, "{cluster} {taken:?}");
        }
    }
}
