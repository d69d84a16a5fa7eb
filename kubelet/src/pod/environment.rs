//! The environment of a container: services, then `envFrom`, then `env`, with `$(NAME)` expanded.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Service};

use super::{
    PodExt,
    field::{self, Addresses},
    resource,
};

/// All that an environment is made from. A missing object is absent from its map.
#[derive(Debug, Default)]
pub struct Sources {
    pub config_maps: BTreeMap<String, ConfigMap>,
    pub secrets: BTreeMap<String, Secret>,
    /// Services of the pod's namespace, and the apiserver's own.
    pub services: Vec<Service>,
    pub addresses: Addresses,
    /// Files that variables are read from, by volume and path.
    pub files: BTreeMap<(String, String), String>,
    pub allocatable: resource::List,
}

/// Names and values in a fixed order: declared ones first.
pub fn environment(pod: &Pod, container: &Container, from: &Sources) -> Result<Vec<(String, String)>, String> {
    let links = pod.spec().enable_service_links.unwrap_or(true);
    let services = service_variables(pod.namespace(), &from.services, links);
    let mut own: Vec<(String, String)> = Vec::new();
    let set = |own: &mut Vec<(String, String)>, name: &str, value: String| match own.iter_mut().find(|(n, _)| n == name)
    {
        Some(old) => old.1 = value,
        None => own.push((name.to_owned(), value)),
    };
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or("");
        for (name, value) in bundle(pod, source, from)? {
            set(&mut own, &format!("{prefix}{name}"), value);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) if !value.is_empty() => {
                let known = |name: &str| {
                    own.iter().find(|(n, _)| n == name).map(|(_, v)| v).or_else(|| services.get(name)).cloned()
                };
                Some(expand(value, &known))
            }
            (_, Some(source)) => referenced(pod, container, source, from)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            set(&mut own, &variable.name, value);
        }
    }
    let rest: Vec<_> = services.into_iter().filter(|(name, _)| !own.iter().any(|(n, _)| n == name)).collect();
    Ok(own.into_iter().chain(rest).collect())
}

type Bundle = Vec<(String, String)>;

fn bundle(pod: &Pod, source: &k8s_openapi::api::core::v1::EnvFromSource, from: &Sources) -> Result<Bundle, String> {
    if let Some(reference) = &source.config_map_ref {
        return match from.config_maps.get(&reference.name) {
            Some(map) => Ok(map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect()),
            None if reference.optional == Some(true) => Ok(Bundle::new()),
            None => Err(missing("configmap", &reference.name)),
        };
    }
    if let Some(reference) = &source.secret_ref {
        return match from.secrets.get(&reference.name) {
            Some(secret) => {
                let text = |v: &k8s_openapi::ByteString| String::from_utf8_lossy(&v.0).into_owned();
                Ok(secret.data.iter().flatten().map(|(k, v)| (k.clone(), text(v))).collect())
            }
            None if reference.optional == Some(true) => Ok(Bundle::new()),
            None => Err(missing("secret", &reference.name)),
        };
    }
    Err(format!("{} has an empty environment source", pod.title()))
}

fn missing(kind: &str, name: &str) -> String {
    format!("{kind} \"{name}\" not found")
}

/// `None` when the source is optional and absent.
fn referenced(
    pod: &Pod,
    container: &Container,
    source: &k8s_openapi::api::core::v1::EnvVarSource,
    from: &Sources,
) -> Result<Option<String>, String> {
    if let Some(field) = &source.field_ref {
        return field::value(pod, &field.field_path, &from.addresses).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        let name = selector.container_name.as_deref().filter(|n| !n.is_empty()).unwrap_or(&container.name);
        let Some((_, container)) = pod.container(name) else { return Err(format!("container {name} not found")) };
        let value = resource::field(selector, &container, &from.allocatable);
        return value.map(Some).ok_or_else(|| format!("unsupported container resource : {}", selector.resource));
    }
    let namespace = pod.namespace();
    if let Some(key) = &source.config_map_key_ref {
        let optional = key.optional == Some(true);
        return match from.config_maps.get(&key.name) {
            None if optional => Ok(None),
            None => Err(missing("configmap", &key.name)),
            Some(map) => match map.data.as_ref().and_then(|d| d.get(&key.key)) {
                Some(value) => Ok(Some(value.clone())),
                None if optional => Ok(None),
                None => Err(format!("couldn't find key {} in ConfigMap {namespace}/{}", key.key, key.name)),
            },
        };
    }
    if let Some(key) = &source.secret_key_ref {
        let optional = key.optional == Some(true);
        return match from.secrets.get(&key.name) {
            None if optional => Ok(None),
            None => Err(missing("secret", &key.name)),
            Some(secret) => match secret.data.as_ref().and_then(|d| d.get(&key.key)) {
                Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
                None if optional => Ok(None),
                None => Err(format!("couldn't find key {} in Secret {namespace}/{}", key.key, key.name)),
            },
        };
    }
    if let Some(file) = &source.file_key_ref {
        let text = from.files.get(&(file.volume_name.clone(), file.path.clone()));
        let value = text.and_then(|t| file_variable(t, &file.key));
        return match value {
            None if file.optional != Some(true) => {
                Err(format!("environment variable key \"{}\" not found in file \"{}\"", file.key, file.path))
            }
            value => Ok(value),
        };
    }
    Ok(Some(String::new()))
}

/// A `NAME='value'` line of an environment file.
fn file_variable(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.trim().split_once('=')?;
        let value = value.trim();
        let bare = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')).unwrap_or(value);
        (name.trim() == key).then(|| bare.to_owned())
    })
}

/// `$(NAME)` is replaced if it is known, `$$` is a dollar sign.
pub fn expand(text: &str, known: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out += &rest[..at];
        rest = &rest[at + 1..];
        match rest.as_bytes().first() {
            Some(b'$') => {
                out.push('$');
                rest = &rest[1..];
            }
            Some(b'(') => match rest.find(')') {
                Some(end) => {
                    let name = &rest[1..end];
                    out += &known(name).unwrap_or_else(|| format!("$({name})"));
                    rest = &rest[end + 1..];
                }
                None => {
                    out += "$(";
                    rest = &rest[1..];
                }
            },
            _ => out.push('$'),
        }
    }
    out + rest
}

/// The variables that tell of services with an address, as Docker links once named them.
fn service_variables(namespace: &str, services: &[Service], links: bool) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let own = |s: &&Service| s.metadata.namespace.as_deref() == Some(namespace);
    let master = |s: &&Service| {
        s.metadata.namespace.as_deref() == Some("default") && s.metadata.name.as_deref() == Some("kubernetes")
    };
    // A service of the pod's own namespace wins over the apiserver's.
    let chosen = services.iter().filter(master).chain(services.iter().filter(|s| links && own(s)));
    for service in chosen {
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { continue };
        let Some(first) = spec.ports.as_ref().and_then(|p| p.first()) else { continue };
        let name = service.metadata.name.as_deref().unwrap_or("").to_uppercase().replace('-', "_");
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        all.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
        all.insert(format!("{name}_SERVICE_PORT"), first.port.to_string());
        for port in spec.ports.iter().flatten() {
            if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                let port_name = port_name.to_uppercase().replace('-', "_");
                all.insert(format!("{name}_SERVICE_PORT_{port_name}"), port.port.to_string());
            }
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let (upper, lower) = (protocol.to_uppercase(), protocol.to_lowercase());
            let prefix = format!("{name}_PORT_{}_{upper}", port.port);
            let url = format!("{lower}://{host}:{}", port.port);
            if port.port == first.port && port.name == first.name {
                all.insert(format!("{name}_PORT"), url.clone());
            }
            all.insert(prefix.clone(), url);
            all.insert(format!("{prefix}_PROTO"), lower);
            all.insert(format!("{prefix}_PORT"), port.port.to_string());
            all.insert(format!("{prefix}_ADDR"), ip.to_owned());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expansion() {
        let known = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, want) in [
            ("x$(A)y", "x1y"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$(A", "$(A"),
            ("a$", "a$"),
            ("$A", "$A"),
            ("$$$(A)", "$1"),
        ] {
            assert_eq!(expand(text, &known), want, "{text}");
        }
    }

    #[test]
    fn all_sources() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [{
            "name": "c",
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}, {"secretRef": {"name": "gone", "optional": true}}],
            "env": [
                {"name": "A", "value": "$(P_k)-$(WEB_SERVICE_HOST)"},
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "x"}}},
                {"name": "O", "valueFrom": {"secretKeyRef": {"name": "s", "key": "none", "optional": true}}},
                {"name": "data-1", "value": ""},
            ],
        }]}}))
        .unwrap();
        let from = Sources {
            config_maps: [("m".to_owned(), serde_json::from_value(json!({"data": {"k": "v"}})).unwrap())].into(),
            secrets: [("s".to_owned(), serde_json::from_value(json!({"data": {"x": "c2VjcmV0"}})).unwrap())].into(),
            services: vec![
                serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n"},
                    "spec": {"clusterIP": "10.0.0.9", "ports": [{"port": 80, "name": "http"}]}}))
                .unwrap(),
            ],
            ..Default::default()
        };
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let all = environment(&pod, container, &from).unwrap();
        let lines: Vec<_> = all.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            lines,
            [
                "P_k=v",
                "A=v-10.0.0.9",
                "N=p",
                "S=secret",
                "data-1=",
                "WEB_PORT=tcp://10.0.0.9:80",
                "WEB_PORT_80_TCP=tcp://10.0.0.9:80",
                "WEB_PORT_80_TCP_ADDR=10.0.0.9",
                "WEB_PORT_80_TCP_PORT=80",
                "WEB_PORT_80_TCP_PROTO=tcp",
                "WEB_SERVICE_HOST=10.0.0.9",
                "WEB_SERVICE_PORT=80",
                "WEB_SERVICE_PORT_HTTP=80",
            ]
        );
        let gone = Sources::default();
        assert_eq!(environment(&pod, container, &gone).unwrap_err(), "configmap \"m\" not found");
    }
}
