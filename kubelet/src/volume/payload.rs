//! The files of volumes that are made from API objects.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume, VolumeProjection};

use super::{Contents, reference};
use crate::pod::{PodExt, field, resource};

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    /// Who must be able to read a file that others must not.
    pub owner: Option<u32>,
}

/// Files by path.
pub type Files = BTreeMap<String, File>;

fn mode(mode: Option<i32>) -> u32 {
    mode.map_or(0o644, i32::cast_unsigned) & 0o777
}

/// What a volume of a pod must hold.
pub fn payload(pod: &Pod, volume: &Volume, contents: &Contents) -> Result<Files, String> {
    if let Some(source) = &volume.config_map {
        let map = contents.sources.config_maps.get(&source.name);
        let optional = source.optional == Some(true);
        return config_map(&source.name, map, source.items.as_deref(), mode(source.default_mode), optional);
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.clone().unwrap_or_default();
        let secret = contents.sources.secrets.get(&name);
        let optional = source.optional == Some(true);
        return secret_files(&name, secret, source.items.as_deref(), mode(source.default_mode), optional);
    }
    if let Some(source) = &volume.downward_api {
        return downward(pod, source.items.as_deref().unwrap_or(&[]), mode(source.default_mode), contents);
    }
    let Some(projected) = &volume.projected else { return Ok(Files::new()) };
    let mut all = Files::new();
    for source in projected.sources.iter().flatten() {
        all.extend(projection(pod, source, mode(projected.default_mode), contents)?);
    }
    Ok(all)
}

fn projection(pod: &Pod, source: &VolumeProjection, default: u32, contents: &Contents) -> Result<Files, String> {
    if let Some(s) = &source.config_map {
        let map = contents.sources.config_maps.get(&s.name);
        return config_map(&s.name, map, s.items.as_deref(), default, s.optional == Some(true));
    }
    if let Some(s) = &source.secret {
        let secret = contents.sources.secrets.get(&s.name);
        return secret_files(&s.name, secret, s.items.as_deref(), default, s.optional == Some(true));
    }
    if let Some(s) = &source.downward_api {
        return downward(pod, s.items.as_deref().unwrap_or(&[]), default, contents);
    }
    let Some(s) = &source.service_account_token else {
        return Err("this projection is not supported".into());
    };
    let token = contents.tokens.get(&reference::token(s)).ok_or("the token is not there yet")?;
    let (owner, group) = (user(pod), super::fs_group(pod));
    let mode = if owner.is_some() || group.is_some() { 0o600 } else { default };
    Ok(Files::from([(s.path.clone(), File { data: token.clone().into_bytes(), mode, owner })]))
}

/// The user that all containers run as, if it is one.
fn user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec();
    let shared = spec.security_context.as_ref().and_then(|s| s.run_as_user);
    let containers = pod.containers();
    let mut users = containers.iter().map(|(_, c)| c.security_context.as_ref().and_then(|s| s.run_as_user).or(shared));
    let first = users.next()??;
    users.all(|u| u == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}

fn config_map(
    name: &str,
    map: Option<&ConfigMap>,
    items: Option<&[KeyToPath]>,
    default: u32,
    optional: bool,
) -> Result<Files, String> {
    let Some(map) = map else { return absent("configmap", name, optional) };
    let text = map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
    pick(text.chain(binary).collect(), items, default, optional, |key| {
        format!("configmap references non-existent config key: {key}")
    })
}

fn secret_files(
    name: &str,
    secret: Option<&Secret>,
    items: Option<&[KeyToPath]>,
    default: u32,
    optional: bool,
) -> Result<Files, String> {
    let Some(secret) = secret else { return absent("secret", name, optional) };
    let data = secret.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())).collect();
    pick(data, items, default, optional, |key| format!("references non-existent secret key: {key}"))
}

fn absent(kind: &str, name: &str, optional: bool) -> Result<Files, String> {
    if optional { Ok(Files::new()) } else { Err(format!("{kind} \"{name}\" not found")) }
}

fn pick(
    data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    default: u32,
    optional: bool,
    missing: impl Fn(&str) -> String,
) -> Result<Files, String> {
    let file = |data: Vec<u8>, mode| File { data, mode, owner: None };
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        return Ok(data.into_iter().map(|(key, data)| (key, file(data, default))).collect());
    };
    let mut files = Files::new();
    for item in items {
        match data.get(&item.key) {
            Some(found) => {
                let mode = item.mode.map_or(default, |m| mode(Some(m)));
                files.insert(item.path.clone(), file(found.clone(), mode));
            }
            None if optional => {}
            None => return Err(missing(&item.key)),
        }
    }
    Ok(files)
}

fn downward(pod: &Pod, items: &[DownwardAPIVolumeFile], default: u32, contents: &Contents) -> Result<Files, String> {
    let mut files = Files::new();
    for item in items {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => field::value(pod, &field.field_path, &contents.sources.addresses)?,
            (_, Some(selector)) => {
                let name = selector.container_name.as_deref().unwrap_or("");
                let (_, container) = pod.container(name).ok_or_else(|| format!("container {name} not found"))?;
                resource::field(selector, &container, &contents.sources.allocatable)
                    .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?
            }
            _ => return Err(format!("{} refers to nothing", item.path)),
        };
        let mode = item.mode.map_or(default, |m| mode(Some(m)));
        files.insert(item.path.clone(), File { data: value.into_bytes(), mode, owner: None });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn made(volume: Value) -> Result<Vec<String>, String> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {
            "containers": [{"name": "c", "resources": {"limits": {"memory": "1Mi"}}}], "volumes": [volume]}}))
        .unwrap();
        let mut contents = Contents::default();
        contents.sources.config_maps.insert(
            "m".into(),
            serde_json::from_value(json!({"data": {"k": "v", "l": "w"}, "binaryData": {"b": "AAE="}})).unwrap(),
        );
        contents.tokens.insert((String::new(), 3600), "secret".into());
        let files = payload(&pod, &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0], &contents)?;
        Ok(files.iter().map(|(p, f)| format!("{p} {:o} {}", f.mode, String::from_utf8_lossy(&f.data))).collect())
    }

    #[test]
    fn sources() {
        for (volume, want) in [
            (json!({"configMap": {"name": "m"}}), Ok(vec!["b 644 \0\u{1}", "k 644 v", "l 644 w"])),
            (
                json!({"configMap": {"name": "m", "defaultMode": 256, "items": [{"key": "k", "path": "x/y", "mode": 511}]}}),
                Ok(vec!["x/y 777 v"]),
            ),
            (
                json!({"configMap": {"name": "m", "items": [{"key": "z", "path": "x"}]}}),
                Err("configmap references non-existent config key: z"),
            ),
            (json!({"configMap": {"name": "none"}}), Err("configmap \"none\" not found")),
            (json!({"secret": {"secretName": "none", "optional": true}}), Ok(vec![])),
            (
                json!({"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "m", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory"}}]}}),
                Ok(vec!["l 644 a=\"b\"", "m 644 1048576"]),
            ),
            (
                json!({"projected": {"sources": [{"configMap": {"name": "m", "items": [{"key": "k", "path": "k"}]}},
                {"serviceAccountToken": {"path": "token"}}]}}),
                Ok(vec!["k 644 v", "token 644 secret"]),
            ),
        ] {
            let mut volume = volume;
            volume["name"] = "v".into();
            let want = want.map(|w| w.into_iter().map(str::to_owned).collect()).map_err(str::to_owned);
            assert_eq!(made(volume.clone()), want, "{volume}");
        }
    }
}
