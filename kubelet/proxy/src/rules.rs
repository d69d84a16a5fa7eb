//! Which rules make service ports reachable.

use std::net::IpAddr;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::{
    ruleset::{Family, Ruleset},
    service::{Endpoint, ServicePort},
};

/// nftables' limit on names.
const NAME_MAX: usize = 128;

/// The rules for all service ports, for one address family.
pub fn rules(ports: &[ServicePort], cluster_cidrs: &[IpNet], family: Family) -> Ruleset {
    let cidrs: Vec<String> =
        cluster_cidrs.iter().filter(|c| is_of(c.addr(), family)).map(ToString::to_string).collect();
    let mut builder = Builder {
        rules: Ruleset::default(),
        family,
        cluster: (!cidrs.is_empty()).then(|| format!("{{ {} }}", cidrs.join(", "))),
    };
    builder.outgoing();
    for port in ports {
        builder.port(port);
    }
    builder.rules
}

fn is_of(address: IpAddr, family: Family) -> bool {
    address.is_ipv4() == (family == Family::Ip)
}

struct Builder {
    rules: Ruleset,
    family: Family,
    /// Pods' addresses, as a set.
    cluster: Option<String>,
}

impl Builder {
    /// Pods' addresses mean nothing outside: what leaves the cluster leaves it as the node's.
    fn outgoing(&mut self) {
        let family = self.family.name();
        let leaves = |cluster: &String| {
            format!("{family} saddr {cluster} {family} daddr != {cluster} fib daddr type != local masquerade")
        };
        let rules = self.cluster.iter().map(leaves).collect();
        self.rules.chains.insert("outgoing".to_owned(), rules);
    }

    fn port(&mut self, port: &ServicePort) {
        let family = self.family;
        let own = |ips: &[IpAddr]| -> Vec<IpAddr> { ips.iter().copied().filter(|ip| is_of(*ip, family)).collect() };
        let cluster_ips = own(&port.cluster_ips);
        let Some(id) = (!cluster_ips.is_empty()).then(|| identity(port)) else { return };
        let all: Vec<Endpoint> = port.endpoints.iter().copied().filter(|e| is_of(e.address, family)).collect();
        let local: Vec<Endpoint> = all.iter().copied().filter(|e| e.local).collect();

        let internal = if port.internal_local { &local } else { &all };
        let external = if port.external_local { &local } else { &all };
        let service_chain = format!("service-{id}");
        let external_chain = format!("external-{id}");
        self.endpoint_chains(port, &id, &all);
        self.service_chain(port, &id, &service_chain, &cluster_ips, internal);
        let external_ips = [own(&port.external_ips), own(&port.load_balancer_ips)].concat();
        let is_external = port.node_port.is_some() || !external_ips.is_empty();
        if is_external && !external.is_empty() {
            self.external_chain(port, &id, &external_chain, &service_chain, &all, external);
        }

        let protocol = port.protocol.name();
        for ip in &cluster_ips {
            self.rules.elements.insert(("cluster-ips", ip.to_string()));
            self.reach(
                "service-ips",
                "no-endpoint-services",
                format!("{ip} . {protocol} . {}", port.port),
                &service_chain,
                internal,
                &all,
            );
        }
        for ip in &external_ips {
            self.reach(
                "service-ips",
                "no-endpoint-services",
                format!("{ip} . {protocol} . {}", port.port),
                &external_chain,
                external,
                &all,
            );
        }
        if let Some(node_port) = port.node_port {
            self.reach(
                "service-nodeports",
                "no-endpoint-nodeports",
                format!("{protocol} . {node_port}"),
                &external_chain,
                external,
                &all,
            );
        }
        self.firewall(port, &id, &own(&port.load_balancer_ips));
    }

    /// Leads a destination to its chain, or, without endpoints, refuses it: if others than this node have some, packets
    /// are dropped, so that a client asks another node, otherwise they are rejected.
    fn reach(
        &mut self,
        map: &'static str,
        refusing: &'static str,
        key: String,
        chain: &str,
        usable: &[Endpoint],
        all: &[Endpoint],
    ) {
        if !usable.is_empty() {
            self.rules.verdicts.insert((map, key), format!("goto {chain}"));
        } else {
            let verdict = if all.is_empty() { "goto reject-chain" } else { "drop" };
            self.rules.verdicts.insert((refusing, key), verdict.to_owned());
        }
    }

    fn endpoint_chains(&mut self, port: &ServicePort, id: &str, endpoints: &[Endpoint]) {
        let family = self.family.name();
        for endpoint in endpoints {
            let (chain, set) = (endpoint_chain(id, endpoint), affinity_set(id, endpoint));
            // A pod that reaches itself through its service must see an address that answers come back to.
            let mut rules = vec![format!("{family} saddr {} jump mark-for-masquerade", endpoint.address)];
            if let Some(seconds) = port.affinity_seconds {
                rules.push(format!("update @{set} {{ {family} saddr }}"));
                self.rules.affinity.insert(set, seconds);
            }
            let target = match endpoint.address {
                IpAddr::V4(ip) => format!("{ip}:{}", endpoint.port),
                IpAddr::V6(ip) => format!("[{ip}]:{}", endpoint.port),
            };
            rules.push(format!("meta l4proto {} dnat to {target}", port.protocol.name()));
            self.rules.chains.insert(chain, rules);
        }
    }

    fn service_chain(
        &mut self,
        port: &ServicePort,
        id: &str,
        chain: &str,
        cluster_ips: &[IpAddr],
        endpoints: &[Endpoint],
    ) {
        let (family, protocol) = (self.family.name(), port.protocol.name());
        let mut rules = Vec::new();
        if let Some(cluster) = &self.cluster {
            for ip in cluster_ips {
                rules.push(format!(
                    "{family} daddr {ip} {protocol} dport {} {family} saddr != {cluster} jump mark-for-masquerade",
                    port.port
                ));
            }
        }
        rules.extend(self.choose(port, id, endpoints));
        self.rules.chains.insert(chain.to_owned(), rules);
    }

    fn external_chain(
        &mut self,
        port: &ServicePort,
        id: &str,
        chain: &str,
        service_chain: &str,
        all: &[Endpoint],
        usable: &[Endpoint],
    ) {
        let family = self.family.name();
        let mut rules = Vec::new();
        if port.external_local {
            // Pods and the node itself reach all endpoints: for them the external address stands for the cluster's.
            if let Some(cluster) = self.cluster.as_ref().filter(|_| !all.is_empty()) {
                rules.push(format!("{family} saddr {cluster} goto {service_chain}"));
            }
            rules.push("fib saddr type local jump mark-for-masquerade".to_owned());
            rules.push(format!("fib saddr type local goto {service_chain}"));
        } else {
            rules.push("jump mark-for-masquerade".to_owned());
        }
        rules.extend(self.choose(port, id, usable));
        self.rules.chains.insert(chain.to_owned(), rules);
    }

    /// A client that is remembered goes where it went before; any other anywhere.
    fn choose(&self, port: &ServicePort, id: &str, endpoints: &[Endpoint]) -> Vec<String> {
        let family = self.family.name();
        let mut rules = Vec::new();
        if port.affinity_seconds.is_some() {
            let stay = |e: &Endpoint| format!("{family} saddr @{} goto {}", affinity_set(id, e), endpoint_chain(id, e));
            rules.extend(endpoints.iter().map(stay));
        }
        let verdicts: Vec<String> =
            endpoints.iter().enumerate().map(|(i, e)| format!("{i} : goto {}", endpoint_chain(id, e))).collect();
        if !verdicts.is_empty() {
            rules.push(format!("numgen random mod {} vmap {{ {} }}", verdicts.len(), verdicts.join(", ")));
        }
        rules
    }

    fn firewall(&mut self, port: &ServicePort, id: &str, ips: &[IpAddr]) {
        let ranges: Vec<String> =
            port.source_ranges.iter().filter(|r| is_of(r.addr(), self.family)).map(|r| r.trunc().to_string()).collect();
        if port.source_ranges.is_empty() || ips.is_empty() {
            return;
        }
        let chain = format!("firewall-{id}");
        let mut rules = Vec::new();
        if !ranges.is_empty() {
            rules.push(format!("{} saddr {{ {} }} return", self.family.name(), ranges.join(", ")));
        }
        rules.push("drop".to_owned());
        self.rules.chains.insert(chain.clone(), rules);
        for ip in ips {
            let key = format!("{ip} . {} . {}", port.protocol.name(), port.port);
            self.rules.verdicts.insert(("firewall-ips", key), format!("goto {chain}"));
        }
    }
}

/// Unique, stable, and within nftables' limit even with an endpoint behind it.
fn identity(port: &ServicePort) -> String {
    let name = format!("{}/{}/{}/{}", port.namespace, port.name, port.protocol.name(), port.port_name);
    let hash: String = Sha256::digest(&name).iter().take(4).map(|b| format!("{b:02x}")).collect();
    let mut id = format!("{hash}-{name}");
    id.truncate(NAME_MAX - "endpoint-__".len() - "ffff.ffff.ffff.ffff.ffff.ffff.ffff.ffff/65535".len());
    id.trim_end_matches(['/', '-', '.']).to_owned()
}

fn place(endpoint: &Endpoint) -> String {
    // A colon ends a name in nftables' grammar.
    format!("{}/{}", endpoint.address.to_string().replace(':', "."), endpoint.port)
}

fn endpoint_chain(id: &str, endpoint: &Endpoint) -> String {
    format!("endpoint-{id}__{}", place(endpoint))
}

fn affinity_set(id: &str, endpoint: &Endpoint) -> String {
    format!("affinity-{id}__{}", place(endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Protocol;

    fn port() -> ServicePort {
        let endpoint = |last: u8, local| Endpoint { address: IpAddr::from([10, 244, 0, last]), port: 8080, local };
        ServicePort {
            namespace: "default".into(),
            name: "web".into(),
            port_name: "http".into(),
            protocol: Protocol::Tcp,
            cluster_ips: vec![IpAddr::from([10, 96, 0, 7])],
            port: 80,
            node_port: Some(30080),
            external_ips: vec![],
            load_balancer_ips: vec![],
            source_ranges: vec![],
            affinity_seconds: None,
            internal_local: false,
            external_local: false,
            endpoints: vec![endpoint(5, true), endpoint(6, false)],
        }
    }

    fn of(port: ServicePort) -> Ruleset {
        rules(&[port], &["10.244.0.0/16".parse().unwrap()], Family::Ip)
    }

    fn chain<'a>(rules: &'a Ruleset, start: &str) -> &'a [String] {
        rules.chains.iter().find(|(name, _)| name.starts_with(start)).map(|(_, rules)| rules.as_slice()).unwrap()
    }

    #[test]
    fn reached_by_cluster_ip_and_node_port() {
        let rules = of(port());
        assert!(rules.verdicts[&("service-ips", "10.96.0.7 . tcp . 80".to_owned())].starts_with("goto service-"));
        assert!(rules.verdicts[&("service-nodeports", "tcp . 30080".to_owned())].starts_with("goto external-"));
        assert!(chain(&rules, "service-")[1].starts_with("numgen random mod 2 vmap"));
        assert_eq!(chain(&rules, "external-")[0], "jump mark-for-masquerade");
        assert_eq!(chain(&rules, "endpoint-")[1], "meta l4proto tcp dnat to 10.244.0.5:8080");
    }

    #[test]
    fn refused_without_endpoints() {
        let rules = of(ServicePort { endpoints: vec![], ..port() });
        assert_eq!(rules.verdicts[&("no-endpoint-services", "10.96.0.7 . tcp . 80".to_owned())], "goto reject-chain");
        assert!(!rules.verdicts.keys().any(|(map, _)| *map == "service-ips"));
    }

    #[test]
    fn local_policies() {
        let rules = of(ServicePort { external_local: true, ..port() });
        assert!(chain(&rules, "external-").last().unwrap().starts_with("numgen random mod 1 "));
        let mut elsewhere = ServicePort { external_local: true, internal_local: true, ..port() };
        elsewhere.endpoints.remove(0);
        let rules = of(elsewhere);
        assert_eq!(rules.verdicts[&("no-endpoint-nodeports", "tcp . 30080".to_owned())], "drop");
        assert_eq!(rules.verdicts[&("no-endpoint-services", "10.96.0.7 . tcp . 80".to_owned())], "drop");
    }

    #[test]
    fn affinity_remembers_by_endpoint() {
        let rules = of(ServicePort { affinity_seconds: Some(60), ..port() });
        assert_eq!(rules.affinity.values().copied().collect::<Vec<_>>(), [60, 60]);
        assert!(chain(&rules, "service-")[1].contains("saddr @affinity-"));
        assert!(chain(&rules, "endpoint-")[1].starts_with("update @affinity-"));
    }

    #[test]
    fn source_ranges() {
        let port = ServicePort {
            load_balancer_ips: vec![IpAddr::from([1, 2, 3, 4])],
            source_ranges: vec!["9.0.0.0/8".parse().unwrap()],
            ..port()
        };
        let rules = of(port);
        assert_eq!(chain(&rules, "firewall-"), ["ip saddr { 9.0.0.0/8 } return", "drop"]);
    }

    #[test]
    fn differences_are_complete_and_minimal() {
        let (one, two) = (of(port()), of(ServicePort { endpoints: vec![], ..port() }));
        assert_eq!(one.difference(&one, Family::Ip), "");
        let script = two.difference(&one, Family::Ip);
        let at = |text: &str| script.find(text).unwrap_or_else(|| panic!("no {text} in {script}"));
        assert!(at("delete element ip keelson-proxy service-ips") < at("delete chain ip keelson-proxy endpoint-"));
        assert!(at("add element ip keelson-proxy no-endpoint-services") < at("delete chain"));
    }

    #[test]
    fn names_fit() {
        let long = ServicePort { namespace: "n".repeat(63), name: "s".repeat(63), ..port() };
        assert!(of(long).chains.keys().all(|name| name.len() <= NAME_MAX));
    }
}
