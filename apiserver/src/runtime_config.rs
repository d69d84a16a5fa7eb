//! `--runtime-config`: which groups, versions and resources of the kinds table are served. What it accepts, and what it
//! says of what it does not, is upstream's (`k8s.io/apiserver/pkg/server/resourceconfig`).

use std::collections::{BTreeMap, BTreeSet};

use crds::{
    kind::{Definition, group_version},
    schema,
    version::{Level, level},
};

const ALL: &str = "api/all";
/// The keys for all versions of a level (none: of every level), in the order in which they count.
const LEVELS: [(&str, Option<Level>); 4] =
    [(ALL, None), ("api/ga", Some(Level::General)), ("api/beta", Some(Level::Beta)), ("api/alpha", Some(Level::Alpha))];

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RuntimeConfigError {
    #[error("invalid runtime-config with only {ALL}=false")]
    Nothing,
    #[error("runtime-config invalid key {0}")]
    Key(String),
    #[error("unknown api groups {0}")]
    Groups(String),
    #[error("group version {0} that has not been registered")]
    Version(String),
    #[error("invalid value {key}={value}")]
    Level { key: &'static str, value: String },
    #[error("invalid value of {key}: {value}, err: strconv.ParseBool: parsing {quoted}: invalid syntax")]
    Value { key: String, value: String, quoted: String },
    #[error("invalid key {key}: group/version/resource and resource is always lowercase plural, not {quoted}")]
    Resource { key: String, quoted: String },
}

/// What is turned on and off. By default all general versions are on, and nothing else is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// The last one that is for a version's level counts.
    levels: Vec<(Option<Level>, bool)>,
    /// `group/version`.
    versions: BTreeMap<String, bool>,
    /// `group/version/resource`.
    resources: BTreeMap<String, bool>,
}

impl RuntimeConfig {
    /// Reads pairs such as `api/beta=true,apps/v1/deployments=false`; a key that is given again counts with its last value.
    ///
    /// # Errors
    /// Upstream's, of the first pair that is wrong.
    pub fn parse<T: AsRef<str>>(flags: impl IntoIterator<Item = T>) -> Result<Self, RuntimeConfigError> {
        let mut pairs = BTreeMap::new();
        for flag in flags {
            for pair in flag.as_ref().split(',').filter(|pair| !pair.is_empty()) {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                pairs.insert(key.trim().to_owned(), value.trim().to_owned());
            }
        }
        if pairs.len() == 1 && pairs.get(ALL).is_some_and(|value| value == "false") {
            return Err(RuntimeConfigError::Nothing);
        }
        check_groups(&pairs)?;
        let mut config = Self::default();
        for (key, level) in LEVELS {
            let Some(value) = pairs.remove(key) else { continue };
            match value.as_str() {
                "true" => config.levels.push((level, true)),
                "false" => config.levels.push((level, false)),
                _ => return Err(RuntimeConfigError::Level { key, value }),
            }
        }
        for (key, value) in pairs {
            config.put(key, value)?;
        }
        Ok(config)
    }

    fn put(&mut self, key: String, value: String) -> Result<(), RuntimeConfigError> {
        let mut parts = key.splitn(3, '/');
        let (group, version, resource) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next());
        if !schema::builtin().versions.iter().any(|(g, v)| (&**g, &**v) == (group, version)) {
            return Err(RuntimeConfigError::Version(group_version(group, version)));
        }
        let Some(on) = truth(&value) else {
            let quoted = crds::field::quote(&value);
            return Err(RuntimeConfigError::Value { key, value, quoted });
        };
        match resource {
            None => drop(self.versions.insert(key, on)),
            Some(resource) if resource.to_lowercase() != resource => {
                let quoted = crds::field::quote(resource);
                return Err(RuntimeConfigError::Resource { key, quoted });
            }
            Some(_) => drop(self.resources.insert(key, on)),
        }
        Ok(())
    }

    /// Whether a built-in kind is served.
    pub fn serves(&self, definition: &Definition) -> bool {
        let version = format!("{}/{}", definition.gvk.group, definition.gvk.version);
        if let Some(on) = self.resources.get(&format!("{version}/{}", definition.plural)) {
            return *on;
        }
        if let Some(on) = self.versions.get(&version) {
            return *on;
        }
        let own = level(&definition.gvk.version);
        let told = self.levels.iter().rev().find(|(level, _)| level.is_none() || *level == own);
        told.map_or(own == Some(Level::General), |(_, on)| *on)
    }
}

/// All groups must be known, whatever is said of them.
fn check_groups(pairs: &BTreeMap<String, String>) -> Result<(), RuntimeConfigError> {
    let mut unknown = BTreeSet::new();
    for key in pairs.keys().filter(|key| LEVELS.iter().all(|(level, _)| level != key)) {
        let parts: Vec<&str> = key.split('/').collect();
        let ([group, version] | [group, version, _]) = parts[..] else {
            return Err(RuntimeConfigError::Key(key.clone()));
        };
        if !schema::builtin().versions.iter().any(|(known, _)| **known == *group) {
            unknown.insert(group_version(group, version));
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    Err(RuntimeConfigError::Groups(unknown.into_iter().collect::<Vec<_>>().join(",")))
}

/// What Go takes for a truth value; nothing is true.
fn truth(text: &str) -> Option<bool> {
    match text {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crds::kinds;

    use super::*;

    fn served(flags: &[&str]) -> BTreeSet<String> {
        let config = RuntimeConfig::parse(flags).unwrap();
        let on = kinds::all().filter(|definition| config.serves(definition));
        on.map(|definition| format!("{}/{}", definition.gvk.api_version(), definition.plural)).collect()
    }

    #[test]
    fn general_versions_are_on() {
        let general: BTreeSet<String> =
            kinds::KINDS.iter().map(|d| format!("{}/{}", d.gvk.api_version(), d.plural)).collect();
        assert_eq!(served(&[]), general);
        assert_eq!(served(&["api/ga=true"]), general);
        assert_eq!(served(&["api/all=true"]).len(), kinds::all().count());
    }

    #[test]
    fn levels_versions_and_resources_are_turned_on_and_off() {
        let on = |flags: &[&str], what: &str| served(flags).contains(what);
        let address = "networking.k8s.io/v1beta1/ipaddresses";
        assert!(on(&["api/beta=true"], address) && !on(&["api/alpha=true"], address));
        assert!(on(&["networking.k8s.io/v1beta1"], address));
        assert!(!on(&["api/beta=true,networking.k8s.io/v1beta1=false"], address));
        assert!(on(&["networking.k8s.io/v1beta1=false", "networking.k8s.io/v1beta1/ipaddresses=T"], address));
        // A level counts more than all, a later flag more than an earlier one.
        assert!(!on(&["api/beta=false,api/all=true"], address));
        assert!(on(&["api/beta=false", "api/beta=true"], address));
        assert!(!on(&["/v1=false"], "v1/pods") && !on(&["/v1/pods=0"], "v1/pods"));
        assert_eq!(served(&["api/all=false,apps/v1=true"]).len(), 5);
    }

    #[test]
    fn what_is_wrong_is_told_in_upstreams_words() {
        for (flag, want) in [
            ("api/all=false", "invalid runtime-config with only api/all=false"),
            ("v1=true", "runtime-config invalid key v1"),
            ("a/b/c/d=true", "runtime-config invalid key a/b/c/d"),
            ("b.io/v1,a/v1/x=false,apps/v1=true", "unknown api groups a/v1,b.io/v1"),
            ("api/legacy=true", "unknown api groups api/legacy"),
            ("apps/v7=true", "group version apps/v7 that has not been registered"),
            ("api/beta=1", "invalid value api/beta=1"),
            ("apps/v1=yes", "invalid value of apps/v1: yes, err: strconv.ParseBool: parsing \"yes\": invalid syntax"),
            (
                "apps/v1/Deployments=true",
                "invalid key apps/v1/Deployments: group/version/resource and resource is always lowercase plural, not \"Deployments\"",
            ),
        ] {
            assert_eq!(RuntimeConfig::parse([flag]).unwrap_err().to_string(), want);
        }
    }
}
