//! EncryptionConfiguration: which resources are encrypted, how, and with which keys.

use std::{collections::HashMap, io, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;

use super::{
    cipher::Cipher,
    transform::{Keys, Provider, Transformer},
};
use crate::codec::yaml;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the encryption provider configuration file cannot be read")]
    Io(#[from] io::Error),
    #[error("error decoding the encryption provider configuration: {0}")]
    Decode(String),
    #[error("the encryption provider configuration is invalid: {}", .0.join("; "))]
    Invalid(Vec<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    kind: String,
    api_version: String,
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<ProviderFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderFile {
    aesgcm: Option<KeysFile>,
    aescbc: Option<KeysFile>,
    secretbox: Option<KeysFile>,
    identity: Option<serde_json::Map<String, serde_json::Value>>,
    kms: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
    #[serde(default)]
    keys: Vec<KeyFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    #[serde(default)]
    name: String,
    #[serde(default)]
    secret: String,
}

/// How each resource is kept.
#[derive(Default)]
pub struct Configuration {
    transformers: Vec<Transformer>,
    /// By group and plural; `*` stands for all.
    by_resource: HashMap<(String, String), usize>,
}

impl Configuration {
    pub(super) const PLAIN: &Transformer = &Transformer::PLAIN;

    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&std::fs::read(path)?)
    }

    /// YAML or JSON.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let parsed = yaml::parse(text).map_err(|e| ConfigError::Decode(e.to_string()))?;
        let file: File = serde_json::from_value(parsed.value).map_err(|e| ConfigError::Decode(e.to_string()))?;
        let known = matches!(file.api_version.as_str(), "apiserver.config.k8s.io/v1" | "v1");
        if !known || file.kind != "EncryptionConfiguration" {
            let why = format!("got unexpected config type: {}, Kind={}", file.api_version, file.kind);
            return Err(ConfigError::Decode(why));
        }
        let mut errors = Vec::new();
        if file.resources.is_empty() {
            errors.push("resources: Required value: at least one resources is required".to_owned());
        }
        let mut this = Self::default();
        for (i, resource) in file.resources.iter().enumerate() {
            this.take_in(resource, &format!("resources[{i}]"), &mut errors);
        }
        if errors.is_empty() { Ok(this) } else { Err(ConfigError::Invalid(errors)) }
    }

    fn take_in(&mut self, resource: &Resource, at: &str, errors: &mut Vec<String>) {
        if resource.resources.is_empty() {
            errors.push(format!("{at}.resources: Required value: at least one {at}.resources is required"));
        }
        if resource.providers.is_empty() {
            errors.push(format!("{at}.providers: Required value: at least one {at}.providers is required"));
        }
        check_overlap(&resource.resources, at, errors);
        let providers = resource.providers.iter().enumerate();
        let providers =
            providers.filter_map(|(i, p)| provider(p, &format!("{at}.providers[{i}]"), errors)).collect::<Vec<_>>();
        let index = self.transformers.len();
        self.transformers.push(Transformer::new(providers));
        for (i, name) in resource.resources.iter().enumerate() {
            if let Err(why) = check_name(name) {
                errors.push(format!("{at}.resources[{i}]: Invalid value: \"{name}\": {why}"));
                continue;
            }
            let key = group_resource(name);
            // The first rule for a resource counts; one behind its own wildcard would never be reached.
            if self.masks(&key) && !self.by_resource.contains_key(&key) {
                errors.push(format!("resource \"{name}\" is masked by earlier rule"));
            }
            self.by_resource.entry(key).or_insert(index);
        }
    }

    fn masks(&self, (group, resource): &(String, String)) -> bool {
        let wildcard = |group: &str| self.by_resource.contains_key(&(group.to_owned(), "*".to_owned()));
        (resource != "*" && wildcard(group)) || (group != "*" && wildcard("*"))
    }

    /// How a resource is kept.
    pub fn of(&self, group: &str, plural: &str) -> &Transformer {
        let find = |group: &str, plural: &str| self.by_resource.get(&(group.to_owned(), plural.to_owned()));
        let index = find(group, plural).or_else(|| find(group, "*")).or_else(|| find("*", "*"));
        index.and_then(|index| self.transformers.get(*index)).unwrap_or(Self::PLAIN)
    }
}

/// `deployments.apps`: the first dot divides. `secrets`, `secrets.`: of the core group.
fn group_resource(name: &str) -> (String, String) {
    let (resource, group) = name.split_once('.').unwrap_or((name, ""));
    (group.to_owned(), resource.to_owned())
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.chars().any(char::is_uppercase) {
        return Err("resource name should not contain capital letters");
    }
    let (group, resource) = group_resource(name);
    match (resource.as_str(), group.as_str()) {
        ("*", "") if !name.ends_with('.') => {
            Err("use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources")
        }
        ("apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations", "") => {
            Err("resources which do not have REST API/s cannot be encrypted")
        }
        (_, "extensions") => Err("'extensions' group has been removed and cannot be used for encryption"),
        (_, "events.k8s.io") => Err(
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file",
        ),
        ("*", _) => Ok(()),
        (_, "*") => Err("encrypting the same resource across groups is not supported"),
        _ => Ok(()),
    }
}

fn check_overlap(names: &[String], at: &str, errors: &mut Vec<String>) {
    for (i, name) in names.iter().enumerate() {
        let (group, resource) = group_resource(name);
        for other in &names[..i] {
            let (other_group, other_resource) = group_resource(other);
            let same_group = group == other_group || group == "*" || other_group == "*";
            if name == other {
                errors.push(format!(
                    "{at}.resources[{i}]: Invalid value: the same resource cannot be specified multiple times"
                ));
            } else if same_group && (resource == "*" || other_resource == "*") {
                errors.push(format!(
                    "{at}.resources: Invalid value: using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked"
                ));
            }
        }
    }
}

fn provider(file: &ProviderFile, at: &str, errors: &mut Vec<String>) -> Option<Provider> {
    let given = [file.aesgcm.is_some(), file.aescbc.is_some(), file.secretbox.is_some(), file.identity.is_some()];
    let given = given.iter().filter(|given| **given).count() + usize::from(file.kms.is_some());
    if given > 1 {
        let why = "more than one provider specified in a single element, should split into different list elements";
        errors.push(format!("{at}: Invalid value: {why}"));
        return None;
    }
    let sealed = |keys: &KeysFile, name: &str, prefix, called, sizes: &[usize], errors: &mut Vec<String>, make| {
        Some(Provider::Keys(Keys {
            prefix,
            called,
            keys: read_keys(keys, &format!("{at}.{name}.keys"), sizes, make, errors),
        }))
    };
    match file {
        ProviderFile { aesgcm: Some(keys), .. } => {
            sealed(keys, "aesgcm", "k8s:enc:aesgcm:v1:", "AES", &[16, 24, 32], errors, Cipher::gcm as Make)
        }
        ProviderFile { aescbc: Some(keys), .. } => {
            sealed(keys, "aescbc", "k8s:enc:aescbc:v1:", "AES", &[16, 24, 32], errors, Cipher::cbc as Make)
        }
        ProviderFile { secretbox: Some(keys), .. } => {
            sealed(keys, "secretbox", "k8s:enc:secretbox:v1:", "Secretbox", &[32], errors, Cipher::secretbox as Make)
        }
        ProviderFile { identity: Some(_), .. } => Some(Provider::Identity),
        ProviderFile { kms: Some(_), .. } => {
            errors.push(format!("{at}.kms: Invalid value: key management services are not supported"));
            None
        }
        _ => {
            let why =
                "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity";
            errors.push(format!("{at}: Required value: {why}"));
            None
        }
    }
}

type Make = fn(&[u8]) -> Option<Cipher>;

fn read_keys(
    file: &KeysFile,
    at: &str,
    sizes: &[usize],
    make: Make,
    errors: &mut Vec<String>,
) -> Vec<(String, Cipher)> {
    if file.keys.is_empty() {
        errors.push(format!("{at}: Required value: at least one {at} is required"));
    }
    let mut keys = Vec::new();
    for (i, key) in file.keys.iter().enumerate() {
        let at = format!("{at}[{i}]");
        if key.name.is_empty() {
            errors.push(format!("{at}.name: Required value: name is a mandatory field for a key"));
        }
        if key.secret.is_empty() {
            errors.push(format!("{at}.secret: Required value: secret is a mandatory field for a key"));
            continue;
        }
        // A secret is never told, not even a wrong one.
        let Ok(secret) = BASE64_STANDARD.decode(&key.secret) else {
            errors.push(format!("{at}.secret: Invalid value: \"REDACTED\": secrets must be base64 encoded"));
            continue;
        };
        match make(&secret).filter(|_| sizes.contains(&secret.len())) {
            Some(cipher) => keys.push((key.name.clone(), cipher)),
            None => {
                let expected: Vec<_> = sizes.iter().map(ToString::to_string).collect();
                errors.push(format!(
                    "{at}.secret: Invalid value: \"REDACTED\": secret is not of the expected length, got {}, expected one of [{}]",
                    secret.len(),
                    expected.join(" ")
                ));
            }
        }
    }
    keys
}
