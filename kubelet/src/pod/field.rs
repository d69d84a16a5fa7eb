//! The downward API: what a pod may learn about itself.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::PodExt;

/// What only the node knows.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    pub host: Vec<String>,
    pub pod: Vec<String>,
}

/// The value at a field path.
pub fn value(pod: &Pod, path: &str, addresses: &Addresses) -> Result<String, String> {
    let meta = &pod.metadata;
    let spec = pod.spec();
    let text = |t: Option<&String>| t.cloned().unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.annotations" => meta.annotations.as_ref(),
            "metadata.labels" => meta.labels.as_ref(),
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        return Ok(text(map.and_then(|m| m.get(key))));
    }
    Ok(match path {
        "metadata.name" => pod.name().into(),
        "metadata.namespace" => pod.namespace().into(),
        "metadata.uid" => pod.uid().into(),
        "metadata.labels" => map(meta.labels.as_ref()),
        "metadata.annotations" => map(meta.annotations.as_ref()),
        "spec.nodeName" => text(spec.node_name.as_ref()),
        "spec.serviceAccountName" => text(spec.service_account_name.as_ref()),
        "status.hostIP" => text(addresses.host.first()),
        "status.hostIPs" => addresses.host.join(","),
        "status.podIP" => text(addresses.pod.first()),
        "status.podIPs" => addresses.pod.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// One `key="value"` a line, in order of the keys, quoted as Go quotes.
fn map(map: Option<&BTreeMap<String, String>>) -> String {
    map.into_iter().flatten().map(|(k, v)| format!("{k}={}\n", quoted(v))).collect::<String>().trim_end().to_owned()
}

fn quoted(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            '\r' => out += "\\r",
            c if c.is_control() => out += &format!("\\x{:02x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u",
            "labels": {"b": "2", "a": "say \"1\"\n"}}, "spec": {"containers": [], "nodeName": "node"}}))
        .unwrap();
        let addresses = Addresses { host: vec!["h".into()], pod: vec!["1".into(), "2".into()] };
        for (path, want) in [
            ("metadata.name", Ok("p")),
            ("metadata.labels", Ok("a=\"say \\\"1\\\"\\n\"\nb=\"2\"")),
            ("metadata.labels['b']", Ok("2")),
            ("metadata.annotations['x']", Ok("")),
            ("spec.nodeName", Ok("node")),
            ("status.hostIP", Ok("h")),
            ("status.podIPs", Ok("1,2")),
            ("spec.foo", Err("unsupported fieldPath: spec.foo")),
        ] {
            assert_eq!(value(&pod, path, &addresses), want.map(str::to_owned).map_err(str::to_owned), "{path}");
        }
    }
}
