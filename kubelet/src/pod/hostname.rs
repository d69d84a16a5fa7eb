//! What a pod calls itself, and its `/etc/hosts`.

use k8s_openapi::api::core::v1::{HostAlias, Pod};

use super::PodExt;

/// What the kernel holds.
const MAX: usize = 63;

/// The host name and the domain that a headless service gives; the latter is empty for most pods.
pub fn of(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = pod.spec();
    let given = |field: &Option<String>| field.clone().filter(|f| !f.is_empty());
    if let Some(name) = given(&spec.hostname_override) {
        return (cut(&name), String::new());
    }
    let name = given(&spec.hostname).unwrap_or_else(|| pod.name().to_owned());
    let domain = given(&spec.subdomain).map(|s| format!("{s}.{}.svc.{cluster_domain}", pod.namespace()));
    (cut(&name), domain.unwrap_or_default())
}

/// The name that the kernel of the pod is told; with `setHostnameAsFQDN` the whole of it, if that fits.
pub fn kernel(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    let (name, domain) = of(pod, cluster_domain);
    if domain.is_empty() || pod.spec().set_hostname_as_fqdn != Some(true) {
        return Ok(name);
    }
    let full = format!("{name}.{domain}");
    if full.len() > MAX + 1 {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long (64 characters is the max, {} characters requested)",
            full.len()
        ));
    }
    Ok(full)
}

fn cut(name: &str) -> String {
    let end = name.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MAX).last().unwrap_or(0);
    name[..end].trim_end_matches(['-', '.']).to_owned()
}

/// The hosts file of a pod with a network of its own.
pub fn hosts(ips: &[String], name: &str, domain: &str, aliases: &[HostAlias]) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    for ip in ips {
        let names = if domain.is_empty() { name.to_owned() } else { format!("{name}.{domain}\t{name}") };
        text += &format!("{ip}\t{names}\n");
    }
    text + &entries(aliases)
}

/// The hosts file of a pod in the node's network: the node's, and the pod's aliases.
pub fn node_hosts(node: &str, aliases: &[HostAlias]) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{node}{}", entries(aliases))
}

fn entries(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let line = |a: &HostAlias| format!("{}\t{}\n", a.ip, a.hostnames.as_deref().unwrap_or(&[]).join("\t"));
    format!("\n# Entries added by HostAliases.\n{}", aliases.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names() {
        let long = "a".repeat(62) + "-b-c";
        for (name, spec, want) in [
            ("p", json!({"containers": []}), ("p".to_owned(), "")),
            (long.as_str(), json!({"containers": []}), ("a".repeat(62), "")),
            ("p", json!({"containers": [], "hostname": "h", "subdomain": "s"}), ("h".into(), "s.n.svc.cluster.local")),
            ("p", json!({"containers": [], "hostnameOverride": "x.y", "subdomain": "s"}), ("x.y".into(), "")),
        ] {
            let pod: Pod =
                serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec})).unwrap();
            assert_eq!(of(&pod, "cluster.local"), (want.0, want.1.to_owned()));
        }
    }

    #[test]
    fn hosts_file() {
        let alias = HostAlias { ip: "123.45.67.89".into(), hostnames: Some(vec!["foo".into(), "bar".into()]) };
        let text = hosts(&["10.0.0.2".into()], "h", "s.n.svc.cluster.local", &[alias]);
        assert!(text.ends_with("fe00::2\tip6-allrouters\n10.0.0.2\th.s.n.svc.cluster.local\th\n\n# Entries added by HostAliases.\n123.45.67.89\tfoo\tbar\n"));
    }
}
