//! The resolver configuration of a pod, by its DNS policy.

use k8s_cri::v1::DnsConfig;
use k8s_openapi::api::core::v1::Pod;

use super::PodExt;

/// What the C library reads of the file.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

/// What the node's own `resolv.conf` says.
pub fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or("");
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => config.servers.extend(words.next()),
            Some("search") => {
                config.searches = words.filter(|w| w != ".").map(|w| w.trim_end_matches('.').to_owned()).collect()
            }
            Some("options") => config.options = words.collect(),
            _ => {}
        }
    }
    config
}

/// What a pod is given. Without a cluster DNS `ClusterFirst` is `Default`.
pub fn of(pod: &Pod, node: &DnsConfig, cluster_dns: &[String], cluster_domain: &str) -> DnsConfig {
    let spec = pod.spec();
    let cluster = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => None,
        "Default" => Some(false),
        "ClusterFirst" => Some(!pod.host_network()),
        _ => Some(true),
    };
    let mut config = match cluster {
        None => DnsConfig::default(),
        Some(true) if !cluster_dns.is_empty() => {
            let mut searches = vec![
                format!("{}.svc.{cluster_domain}", pod.namespace()),
                format!("svc.{cluster_domain}"),
                cluster_domain.to_owned(),
            ];
            searches.extend(node.searches.iter().cloned());
            DnsConfig { servers: cluster_dns.to_vec(), searches, options: vec!["ndots:5".into()] }
        }
        Some(_) if node.servers.is_empty() => {
            // An empty file would have the C library ask the machine itself.
            DnsConfig { servers: vec!["127.0.0.1".into()], searches: vec![".".into()], options: Vec::new() }
        }
        Some(_) => node.clone(),
    };
    if let Some(own) = &spec.dns_config {
        config.servers.extend(own.nameservers.iter().flatten().cloned());
        config.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            config.options.retain(|o| o.split(':').next() != Some(name.as_str()));
            let value = option.value.as_ref().filter(|v| !v.is_empty());
            config.options.push(value.map_or_else(|| name.clone(), |v| format!("{name}:{v}")));
        }
    }
    for list in [&mut config.servers, &mut config.searches] {
        let mut seen = std::collections::BTreeSet::new();
        list.retain(|item| seen.insert(item.clone()));
    }
    config.servers.truncate(MAX_SERVERS);
    config.searches.truncate(MAX_SEARCHES);
    config
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies() {
        let node = parse("# c\nnameserver 192.0.2.9\nsearch corp. example.com\noptions timeout:1\n");
        assert_eq!(node.searches, ["corp", "example.com"]);
        for (spec, servers, searches, options) in [
            (
                json!({}),
                "10.96.0.10",
                "n.svc.cluster.local svc.cluster.local cluster.local corp example.com",
                "ndots:5",
            ),
            (json!({"dnsPolicy": "Default"}), "192.0.2.9", "corp example.com", "timeout:1"),
            (json!({"hostNetwork": true}), "192.0.2.9", "corp example.com", "timeout:1"),
            (
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["x"],
                "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
                "1.1.1.1",
                "x",
                "ndots:2 edns0",
            ),
            (
                json!({"dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}}),
                "10.96.0.10",
                "n.svc.cluster.local svc.cluster.local cluster.local corp example.com",
                "ndots:2",
            ),
        ] {
            let mut spec = spec;
            spec["containers"] = json!([]);
            let pod: Pod = serde_json::from_value(json!({"metadata": {"namespace": "n"}, "spec": spec})).unwrap();
            let config = of(&pod, &node, &["10.96.0.10".into()], "cluster.local");
            let got = [config.servers.join(" "), config.searches.join(" "), config.options.join(" ")];
            assert_eq!(got, [servers, searches, options]);
        }
    }
}
