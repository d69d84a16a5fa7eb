//! Rule sets as values: what a table should hold, and the script that leads from one to another.

use std::collections::{BTreeMap, BTreeSet};

/// The name of the table; there is one for each address family.
pub const TABLE: &str = "keelson-proxy";

/// What one table holds beside its fixed frame of hooks, which [`Ruleset::frame`] declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Chains by name, with their rules in order.
    pub chains: BTreeMap<String, Vec<String>>,
    /// Elements of the verdict maps: map, key, verdict.
    pub verdicts: BTreeMap<(&'static str, String), String>,
    /// Elements of the plain sets: set, element.
    pub elements: BTreeSet<(&'static str, String)>,
    /// Sets that remember clients, by name, with seconds to remember.
    pub affinity: BTreeMap<String, i32>,
}

/// `ip` or `ip6`, and the words that differ with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Ip,
    Ip6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::Ip, Self::Ip6];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        }
    }

    const fn address_type(self) -> &'static str {
        match self {
            Self::Ip => "ipv4_addr",
            Self::Ip6 => "ipv6_addr",
        }
    }

    const fn loopback(self) -> &'static str {
        match self {
            Self::Ip => "127.0.0.0/8",
            Self::Ip6 => "::1",
        }
    }
}

impl Ruleset {
    /// A script that puts this set in the place of whatever the table held.
    pub fn replace(&self, family: Family) -> String {
        let (name, table) = (family.name(), TABLE);
        format!("add table {name} {table}\ndelete table {name} {table}\nadd table {name} {table}\n")
            + &Self::frame(family)
            + &self.difference(&Self::default(), family)
    }

    /// The hooks, maps and sets that are always there.
    ///
    /// Packets that are to be masqueraded carry a mark, the bit that upstream's proxy uses as well.
    fn frame(family: Family) -> String {
        let (name, address, loopback) = (family.name(), family.address_type(), family.loopback());
        format!(
            "table {name} {TABLE} {{
    map service-ips {{ type {address} . inet_proto . inet_service : verdict; }}
    map service-nodeports {{ type inet_proto . inet_service : verdict; }}
    map no-endpoint-services {{ type {address} . inet_proto . inet_service : verdict; }}
    map no-endpoint-nodeports {{ type inet_proto . inet_service : verdict; }}
    map firewall-ips {{ type {address} . inet_proto . inet_service : verdict; }}
    set cluster-ips {{ type {address}; }}
    chain mark-for-masquerade {{
        meta mark set meta mark or 0x4000
    }}
    chain outgoing {{
    }}
    chain reject-chain {{
        reject
    }}
    chain services {{
        {name} daddr . meta l4proto . th dport vmap @service-ips
        fib daddr type local {name} daddr != {loopback} meta l4proto . th dport vmap @service-nodeports
    }}
    chain service-endpoints-check {{
        {name} daddr . meta l4proto . th dport vmap @no-endpoint-services
    }}
    chain nodeport-endpoints-check {{
        fib daddr type local {name} daddr != {loopback} meta l4proto . th dport vmap @no-endpoint-nodeports
    }}
    chain cluster-ips-check {{
        {name} daddr @cluster-ips reject
    }}
    chain filter-prerouting {{
        type filter hook prerouting priority dstnat - 10; policy accept;
        ct state new {name} daddr . meta l4proto . th dport vmap @firewall-ips
    }}
    chain filter-input {{
        type filter hook input priority -110; policy accept;
        ct state new jump nodeport-endpoints-check
        ct state new jump service-endpoints-check
    }}
    chain filter-forward {{
        type filter hook forward priority -110; policy accept;
        ct state new jump service-endpoints-check
        ct state new jump cluster-ips-check
    }}
    chain filter-output {{
        type filter hook output priority -110; policy accept;
        ct state new {name} daddr . meta l4proto . th dport vmap @firewall-ips
        ct state new jump service-endpoints-check
    }}
    chain filter-output-post-dnat {{
        type filter hook output priority -90; policy accept;
        ct state new jump cluster-ips-check
    }}
    chain nat-prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        jump services
    }}
    chain nat-output {{
        type nat hook output priority -100; policy accept;
        jump services
    }}
    chain nat-postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        meta mark and 0x4000 == 0 jump outgoing
        meta mark and 0x4000 == 0 return
        meta mark set meta mark xor 0x4000
        masquerade fully-random
    }}
}}
"
        )
    }

    /// A script that changes a table that holds `old` into one that holds this; empty if they are equal.
    ///
    /// What is referred to is declared before, and removed after, what refers to it.
    pub fn difference(&self, old: &Self, family: Family) -> String {
        let mut script = String::new();
        let table = format!("{} {TABLE}", family.name());
        let mut line = |text: std::fmt::Arguments| {
            script.push_str(&text.to_string());
            script.push('\n');
        };
        for (set, seconds) in self.affinity.iter().filter(|(set, seconds)| old.affinity.get(*set) != Some(seconds)) {
            let address = family.address_type();
            line(format_args!(
                "add set {table} {set} {{ type {address}; flags dynamic,timeout; timeout {seconds}s; }}"
            ));
        }
        for chain in self.chains.keys().filter(|c| !old.chains.contains_key(*c)) {
            line(format_args!("add chain {table} {chain}"));
        }
        for (chain, rules) in self.chains.iter().filter(|(c, rules)| old.chains.get(*c) != Some(rules)) {
            line(format_args!("flush chain {table} {chain}"));
            for rule in rules {
                line(format_args!("add rule {table} {chain} {rule}"));
            }
        }
        for ((map, key), verdict) in old.verdicts.iter().filter(|(e, verdict)| self.verdicts.get(e) != Some(verdict)) {
            line(format_args!("delete element {table} {map} {{ {key} : {verdict} }}"));
        }
        for ((map, key), verdict) in self.verdicts.iter().filter(|(e, verdict)| old.verdicts.get(e) != Some(verdict)) {
            line(format_args!("add element {table} {map} {{ {key} : {verdict} }}"));
        }
        for (set, element) in old.elements.difference(&self.elements) {
            line(format_args!("delete element {table} {set} {{ {element} }}"));
        }
        for (set, element) in self.elements.difference(&old.elements) {
            line(format_args!("add element {table} {set} {{ {element} }}"));
        }
        let gone: Vec<_> = old.chains.keys().filter(|c| !self.chains.contains_key(*c)).collect();
        for chain in &gone {
            line(format_args!("flush chain {table} {chain}"));
        }
        for chain in &gone {
            line(format_args!("delete chain {table} {chain}"));
        }
        for set in old.affinity.keys().filter(|s| !self.affinity.contains_key(*s)) {
            line(format_args!("delete set {table} {set}"));
        }
        script
    }
}
