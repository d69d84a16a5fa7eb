//! The names of a cluster: an index of services and endpoints, and the pure answer to a question.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT},
};

/// Seconds that an answer may be kept: short, since services come and go.
const TTL: u32 = 30;
/// Seconds that a missing name may be remembered.
const NEGATIVE_TTL: u32 = 30;
const VERSION: &str = "1.1.0";

/// What a service's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Cluster(Vec<IpAddr>),
    Headless,
    External(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub target: Target,
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    /// In lower case: `tcp`, `udp`, `sctp`.
    pub protocol: String,
    pub number: u16,
}

/// One backend of a service that is fit to be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    pub hostname: Option<String>,
    pub ports: Vec<Port>,
}

impl Endpoint {
    /// The label it has under its service: its hostname, or its address with dashes.
    fn label(&self) -> String {
        self.hostname.clone().unwrap_or_else(|| self.address.to_string().replace(['.', ':'], "-"))
    }
}

/// What is to be said to a question.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// The records asked for, and addresses of the names that they mention.
    Found { answers: Vec<Record>, additionals: Vec<Record> },
    /// Another name, outside of the cluster, whose addresses are to be looked up.
    Alias(Box<Alias>),
    /// The name exists, but has no such records.
    NoData,
    /// There is no such name.
    NoName,
    /// Not a name of the cluster.
    Elsewhere,
}

/// A name that stands for another one.
#[derive(Debug, PartialEq)]
pub struct Alias {
    pub record: Record,
    pub target: Name,
}

type Id = (String, String);

/// All names of the cluster.
#[derive(Debug, Default)]
pub struct Zone {
    /// The labels of the domain, most significant last.
    domain: Vec<String>,
    namespaces: HashSet<String>,
    services: HashMap<Id, Service>,
    /// By service, then by the slice that brought them.
    endpoints: HashMap<Id, BTreeMap<String, Vec<Endpoint>>>,
    /// Which caches have been filled.
    complete: HashSet<&'static str>,
}

impl Zone {
    pub fn new(domain: &str) -> Self {
        Self {
            domain: domain.trim_matches('.').to_lowercase().split('.').map(str::to_owned).collect(),
            ..Self::default()
        }
    }

    pub fn is_complete(&self) -> bool {
        self.complete.len() == 3
    }

    pub(crate) fn completed(&mut self, cache: &'static str) {
        self.complete.insert(cache);
    }

    pub fn set_namespace(&mut self, name: &str, exists: bool) {
        if exists {
            self.namespaces.insert(name.to_owned());
        } else {
            self.namespaces.remove(name);
        }
    }

    pub fn set_service(&mut self, namespace: &str, name: &str, service: Option<Service>) {
        let id = (namespace.to_owned(), name.to_owned());
        match service {
            Some(service) => self.services.insert(id, service),
            None => self.services.remove(&id),
        };
    }

    pub fn set_slice(&mut self, namespace: &str, service: &str, slice: &str, endpoints: Vec<Endpoint>) {
        let id = (namespace.to_owned(), service.to_owned());
        let slices = self.endpoints.entry(id.clone()).or_default();
        if endpoints.is_empty() {
            slices.remove(slice);
        } else {
            slices.insert(slice.to_owned(), endpoints);
        }
        if slices.is_empty() {
            self.endpoints.remove(&id);
        }
    }

    /// Answers a question for `name`, whose case does not matter.
    pub fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        let text = name.to_ascii().to_lowercase();
        let labels: Vec<&str> = text.trim_end_matches('.').split('.').collect();
        if let Some(labels) = self.strip_domain(&labels) {
            return self.answer_inside(name, labels, kind);
        }
        match reverse_address(&labels) {
            Some(address) => self.answer_reverse(name, address, kind),
            None => Answer::Elsewhere,
        }
    }

    /// The start of authority that goes with a negative answer.
    pub fn authority(&self) -> Option<Record> {
        let (apex, server, mail) = (self.name("")?, self.name("ns.dns")?, self.name("hostmaster")?);
        Some(Record::from_rdata(
            apex,
            NEGATIVE_TTL,
            RData::SOA(SOA::new(server, mail, 1, 7200, 1800, 86400, NEGATIVE_TTL)),
        ))
    }

    fn strip_domain<'a, 'b>(&self, labels: &'a [&'b str]) -> Option<&'a [&'b str]> {
        let split = labels.len().checked_sub(self.domain.len())?;
        labels[split..].iter().zip(&self.domain).all(|(have, want)| have == want).then_some(&labels[..split])
    }

    fn name(&self, relative: &str) -> Option<Name> {
        let domain = self.domain.join(".");
        let full = if relative.is_empty() { format!("{domain}.") } else { format!("{relative}.{domain}.") };
        Name::from_ascii(full).ok()
    }

    fn answer_inside(&self, name: &Name, labels: &[&str], kind: RecordType) -> Answer {
        match labels {
            [] => self.answer_apex(name, kind),
            ["dns-version"] if kind == RecordType::TXT => {
                found(vec![record(name, RData::TXT(TXT::new(vec![VERSION.into()])))])
            }
            ["dns-version"] | ["svc" | "pod"] => Answer::NoData,
            [.., namespace, "svc" | "pod"] if !self.namespaces.contains(*namespace) => Answer::NoName,
            [_, "svc" | "pod"] => Answer::NoData,
            [address, _, "pod"] => match dashed_address(address) {
                Some(address) => addresses(name, &[address], kind),
                None => Answer::NoName,
            },
            [rest @ .., service, namespace, "svc"] => {
                let id = ((*namespace).to_owned(), (*service).to_owned());
                match self.services.get(&id) {
                    Some(service) => self.answer_service(name, rest, &id, service, kind),
                    None => Answer::NoName,
                }
            }
            _ => Answer::NoName,
        }
    }

    fn answer_apex(&self, name: &Name, kind: RecordType) -> Answer {
        match kind {
            RecordType::SOA => found(self.authority().into_iter().collect()),
            RecordType::NS => match self.name("ns.dns") {
                Some(server) => found(vec![record(name, RData::NS(NS(server)))]),
                None => Answer::NoData,
            },
            _ => Answer::NoData,
        }
    }

    fn answer_service(&self, name: &Name, rest: &[&str], id: &Id, service: &Service, kind: RecordType) -> Answer {
        match (rest, &service.target) {
            ([], Target::External(target)) => match Name::from_ascii(format!("{}.", target.trim_end_matches('.'))) {
                Ok(target) => {
                    let record = record(name, RData::CNAME(CNAME(target.clone())));
                    Answer::Alias(Box::new(Alias { record, target }))
                }
                Err(_) => Answer::NoData,
            },
            (_, Target::External(_)) => Answer::NoName,
            ([], Target::Cluster(ips)) if kind == RecordType::SRV => self.srv_cluster(name, id, &service.ports, ips),
            ([], Target::Cluster(ips)) => addresses(name, ips, kind),
            (["_endpoints"], _) => Answer::NoData,
            ([port, protocol], target) if port.starts_with('_') && protocol.starts_with('_') => {
                self.answer_port(name, id, service, target, (&port[1..], &protocol[1..]), kind)
            }
            ([], Target::Headless) => self.answer_headless(name, id, kind, |_| true),
            ([label], Target::Headless) => self.answer_headless(name, id, kind, |e| e.label() == *label),
            _ => Answer::NoName,
        }
    }

    fn backends(&self, id: &Id) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.get(id).into_iter().flat_map(|slices| slices.values().flatten())
    }

    fn answer_headless(&self, name: &Name, id: &Id, kind: RecordType, which: impl Fn(&Endpoint) -> bool) -> Answer {
        let mut backends: Vec<_> = self.backends(id).filter(|e| which(e)).collect();
        if backends.is_empty() {
            return Answer::NoName;
        }
        if kind == RecordType::SRV {
            return self.srv_backends(name, id, &backends, |_| true);
        }
        backends.sort_by_key(|e| e.address);
        backends.dedup_by_key(|e| e.address);
        let ips: Vec<IpAddr> = backends.iter().map(|e| e.address).collect();
        addresses(name, &ips, kind)
    }

    fn answer_port(
        &self,
        name: &Name,
        id: &Id,
        service: &Service,
        target: &Target,
        port: (&str, &str),
        kind: RecordType,
    ) -> Answer {
        let named = |p: &Port| p.name == port.0 && p.protocol == port.1;
        match target {
            Target::Cluster(ips) => {
                let ports: Vec<Port> = service.ports.iter().filter(|p| named(p)).cloned().collect();
                match (ports.is_empty(), kind) {
                    (true, _) => Answer::NoName,
                    (false, RecordType::SRV) => self.srv_cluster(name, id, &ports, ips),
                    (false, _) => addresses(name, ips, kind),
                }
            }
            _ => {
                let backends: Vec<_> = self.backends(id).filter(|e| e.ports.iter().any(named)).collect();
                match (backends.is_empty(), kind) {
                    (true, _) => Answer::NoName,
                    (false, RecordType::SRV) => self.srv_backends(name, id, &backends, named),
                    (false, _) => Answer::NoData,
                }
            }
        }
    }

    fn srv_cluster(&self, name: &Name, id: &Id, ports: &[Port], ips: &[IpAddr]) -> Answer {
        let Some(target) = self.name(&format!("{}.{}.svc", id.1, id.0)) else { return Answer::NoData };
        let srv = |p: &Port| record(name, RData::SRV(SRV::new(0, weight(ports.len()), p.number, target.clone())));
        let answers = ports.iter().map(srv).collect();
        Answer::Found { answers, additionals: ips.iter().map(|ip| address(&target, *ip)).collect() }
    }

    fn srv_backends(&self, name: &Name, id: &Id, backends: &[&Endpoint], named: impl Fn(&Port) -> bool) -> Answer {
        let (mut answers, mut additionals) = (Vec::new(), Vec::new());
        for endpoint in backends {
            let Some(target) = self.name(&format!("{}.{}.{}.svc", endpoint.label(), id.1, id.0)) else { continue };
            for port in endpoint.ports.iter().filter(|p| named(p)) {
                answers
                    .push(record(name, RData::SRV(SRV::new(0, weight(backends.len()), port.number, target.clone()))));
            }
            additionals.push(address(&target, endpoint.address));
        }
        if answers.is_empty() { Answer::NoData } else { Answer::Found { answers, additionals } }
    }

    fn answer_reverse(&self, name: &Name, address: IpAddr, kind: RecordType) -> Answer {
        let mut names: Vec<String> = Vec::new();
        for (id, service) in &self.services {
            match &service.target {
                Target::Cluster(ips) if ips.contains(&address) => names.push(format!("{}.{}.svc", id.1, id.0)),
                Target::Headless => {
                    let here = self.backends(id).filter(|e| e.address == address);
                    names.extend(here.map(|e| format!("{}.{}.{}.svc", e.label(), id.1, id.0)));
                }
                _ => {}
            }
        }
        names.sort();
        names.dedup();
        match (names.is_empty(), kind) {
            (true, _) => Answer::Elsewhere,
            (false, RecordType::PTR) => found(
                names.iter().filter_map(|n| self.name(n)).map(|target| record(name, RData::PTR(PTR(target)))).collect(),
            ),
            (false, _) => Answer::NoData,
        }
    }
}

/// Records share the weight 100, as CoreDNS shares it.
fn weight(records: usize) -> u16 {
    u16::try_from(100 / records.max(1)).unwrap_or(0).max(1)
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

fn address(name: &Name, ip: IpAddr) -> Record {
    record(
        name,
        match ip {
            IpAddr::V4(ip) => RData::A(A(ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
        },
    )
}

fn addresses(name: &Name, ips: &[IpAddr], kind: RecordType) -> Answer {
    let wanted = |ip: &&IpAddr| match kind {
        RecordType::A => ip.is_ipv4(),
        RecordType::AAAA => ip.is_ipv6(),
        RecordType::ANY => true,
        _ => false,
    };
    found(ips.iter().filter(wanted).map(|ip| address(name, *ip)).collect())
}

fn found(answers: Vec<Record>) -> Answer {
    if answers.is_empty() { Answer::NoData } else { Answer::Found { answers, additionals: Vec::new() } }
}

/// `10-1-2-3` or an IPv6 address with dashes for its colons.
fn dashed_address(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}

/// The address that a name under `in-addr.arpa` or `ip6.arpa` asks for.
fn reverse_address(labels: &[&str]) -> Option<IpAddr> {
    match labels {
        [digits @ .., "in-addr", "arpa"] if digits.len() == 4 => {
            let text: Vec<_> = digits.iter().rev().copied().collect();
            text.join(".").parse::<Ipv4Addr>().map(IpAddr::V4).ok()
        }
        [digits @ .., "ip6", "arpa"] if digits.len() == 32 => {
            let mut value = 0u128;
            for digit in digits.iter().rev() {
                value = value << 4 | u128::from_str_radix(digit, 16).ok().filter(|_| digit.len() == 1)?;
            }
            Some(IpAddr::V6(Ipv6Addr::from(value)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, number: u16) -> Port {
        Port { name: name.into(), protocol: "tcp".into(), number }
    }

    fn zone() -> Zone {
        let mut zone = Zone::new("cluster.local");
        zone.set_namespace("default", true);
        let cluster = Target::Cluster(vec!["10.96.0.7".parse().unwrap()]);
        zone.set_service("default", "web", Some(Service { target: cluster, ports: vec![port("http", 80)] }));
        zone.set_service("default", "db", Some(Service { target: Target::Headless, ports: vec![port("sql", 5432)] }));
        zone.set_service(
            "default",
            "ext",
            Some(Service { target: Target::External("example.com".into()), ports: vec![] }),
        );
        let endpoint = |address: &str, hostname: Option<&str>| Endpoint {
            address: address.parse().unwrap(),
            hostname: hostname.map(str::to_owned),
            ports: vec![port("sql", 5432)],
        };
        zone.set_slice(
            "default",
            "db",
            "db-1",
            vec![endpoint("10.244.0.5", Some("db-0")), endpoint("10.244.0.6", None)],
        );
        zone
    }

    /// The data of all answers, or the kind of negative answer.
    fn ask(name: &str, kind: RecordType) -> String {
        match zone().answer(&Name::from_ascii(name).unwrap(), kind) {
            Answer::Found { answers, .. } => answers.iter().map(|r| r.data.to_string()).collect::<Vec<_>>().join(" | "),
            Answer::Alias(alias) => format!("alias {}", alias.target),
            Answer::NoData => "no data".into(),
            Answer::NoName => "no name".into(),
            Answer::Elsewhere => "elsewhere".into(),
        }
    }

    #[test]
    fn names() {
        use RecordType as R;
        for (name, kind, want) in [
            ("web.default.svc.cluster.local.", R::A, "10.96.0.7"),
            ("WEB.default.svc.Cluster.Local.", R::A, "10.96.0.7"),
            ("web.default.svc.cluster.local.", R::AAAA, "no data"),
            ("web.default.svc.cluster.local.", R::SRV, "0 100 80 web.default.svc.cluster.local."),
            ("_http._tcp.web.default.svc.cluster.local.", R::SRV, "0 100 80 web.default.svc.cluster.local."),
            ("_no._tcp.web.default.svc.cluster.local.", R::SRV, "no name"),
            ("db.default.svc.cluster.local.", R::A, "10.244.0.5 | 10.244.0.6"),
            ("db-0.db.default.svc.cluster.local.", R::A, "10.244.0.5"),
            ("10-244-0-6.db.default.svc.cluster.local.", R::A, "10.244.0.6"),
            ("db-9.db.default.svc.cluster.local.", R::A, "no name"),
            (
                "_sql._tcp.db.default.svc.cluster.local.",
                R::SRV,
                "0 50 5432 db-0.db.default.svc.cluster.local. | 0 50 5432 10-244-0-6.db.default.svc.cluster.local.",
            ),
            ("ext.default.svc.cluster.local.", R::A, "alias example.com."),
            ("10-244-0-9.default.pod.cluster.local.", R::A, "10.244.0.9"),
            ("x.default.pod.cluster.local.", R::A, "no name"),
            ("web.nowhere.svc.cluster.local.", R::A, "no name"),
            ("default.svc.cluster.local.", R::A, "no data"),
            ("svc.cluster.local.", R::A, "no data"),
            ("nonsense.cluster.local.", R::A, "no name"),
            ("dns-version.cluster.local.", R::TXT, "1.1.0"),
            ("7.0.96.10.in-addr.arpa.", R::PTR, "web.default.svc.cluster.local."),
            ("5.0.244.10.in-addr.arpa.", R::PTR, "db-0.db.default.svc.cluster.local."),
            ("9.9.9.9.in-addr.arpa.", R::PTR, "elsewhere"),
            ("example.com.", R::A, "elsewhere"),
        ] {
            assert_eq!(ask(name, kind), want, "{name} {kind}");
        }
    }

    #[test]
    fn forgotten() {
        let mut zone = zone();
        zone.set_slice("default", "db", "db-1", Vec::new());
        let name = Name::from_ascii("db.default.svc.cluster.local.").unwrap();
        assert_eq!(zone.answer(&name, RecordType::A), Answer::NoName);
        zone.set_service("default", "web", None);
        assert_eq!(
            zone.answer(&Name::from_ascii("web.default.svc.cluster.local.").unwrap(), RecordType::A),
            Answer::NoName
        );
    }
}
