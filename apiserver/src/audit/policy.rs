//! The audit policy: how much is told of which requests. The first rule that matches counts.

use std::{io, path::Path};

use crds::{
    field::{self, quote},
    user::User,
};
use serde::{Deserialize, Serialize};

use super::Stage;
use crate::{codec::yaml, request::RequestInfo};

pub const API_VERSION: &str = "audit.k8s.io/v1";

/// How much is told of a request; each level tells what those before it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("the file cannot be read")]
    Io(#[from] io::Error),
    #[error("failed decoding: {0}")]
    Decode(String),
    #[error("unknown group version field {0} in policy")]
    Version(String),
    #[error("{}", .0.join(", "))]
    Invalid(Vec<String>),
    #[error("loaded illegal policy with 0 rules")]
    Empty,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    kind: String,
    api_version: String,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// What the policy says of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision {
    pub level: Level,
    pub omit_stages: Vec<Stage>,
    pub omit_managed_fields: bool,
}

impl Policy {
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        Self::parse(&std::fs::read(path)?)
    }

    /// YAML or JSON.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        let parsed = yaml::parse(text).map_err(|e| PolicyError::Decode(e.to_string()))?;
        let policy: Self = serde_json::from_value(parsed.value).map_err(|e| PolicyError::Decode(e.to_string()))?;
        if policy.api_version != API_VERSION || policy.kind != "Policy" {
            return Err(PolicyError::Version(format!("{}, Kind={}", policy.api_version, policy.kind)));
        }
        let errors = policy.validate();
        if !errors.is_empty() {
            return Err(PolicyError::Invalid(errors));
        }
        if policy.rules.is_empty() { Err(PolicyError::Empty) } else { Ok(policy) }
    }

    fn validate(&self) -> Vec<String> {
        let mut errors = Vec::new();
        for (i, rule) in self.rules.iter().enumerate() {
            let at = format!("rules[{i}]");
            for (j, url) in rule.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
                let mut refuse = |why: &str| {
                    errors.push(format!("{at}.nonResourceURLs[{j}]: Invalid value: {}: {why}", quote(url)));
                };
                if !url.starts_with('/') {
                    refuse("non-resource URL rules must begin with a '/' character");
                }
                if url.find('*').is_some_and(|star| star + 1 < url.len()) {
                    refuse("non-resource URL wildcards '*' must be the final character of the rule");
                }
            }
            for (j, group) in rule.resources.iter().enumerate() {
                let at = format!("{at}.resources[{j}]");
                if !matches!(group.group.as_str(), "" | "*") && !field::dns_subdomain(&group.group).is_empty() {
                    let why = field::dns_subdomain(&group.group).join(",");
                    errors.push(format!("{at}.group: Invalid value: {}: {why}", quote(&group.group)));
                }
                if !group.resource_names.is_empty() && group.resources.is_empty() {
                    errors.push(format!(
                        "{at}.resourceNames: Invalid value: using resourceNames requires at least one resource"
                    ));
                }
            }
            let of_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
            if of_resources && !rule.non_resource_urls.is_empty() {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(format!("{at}.nonResourceURLs: Invalid value: {why}"));
            }
        }
        errors
    }

    pub fn decide(&self, user: &User, info: &RequestInfo) -> Decision {
        let rule = self.rules.iter().find(|rule| rule.matches(user, info));
        let mut omit_stages = self.omit_stages.clone();
        omit_stages.extend(rule.iter().flat_map(|rule| &rule.omit_stages));
        let omit_managed_fields = rule.and_then(|rule| rule.omit_managed_fields).unwrap_or(self.omit_managed_fields);
        Decision { level: rule.map_or(Level::None, |rule| rule.level), omit_stages, omit_managed_fields }
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == wanted)
}

impl Rule {
    fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        let by_user = self.users.is_empty() || has(&self.users, &user.name);
        let by_group = self.user_groups.is_empty() || user.groups.iter().any(|group| has(&self.user_groups, group));
        let by_verb = self.verbs.is_empty() || has(&self.verbs, &info.verb);
        if !(by_user && by_group && by_verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return self.matches_resource(info);
        }
        if self.non_resource_urls.is_empty() {
            return true;
        }
        !info.is_resource && self.non_resource_urls.iter().any(|url| covers(url, &info.path))
    }

    fn matches_resource(&self, info: &RequestInfo) -> bool {
        if !info.is_resource || !(self.namespaces.is_empty() || has(&self.namespaces, &info.namespace)) {
            return false;
        }
        self.resources.is_empty() || self.resources.iter().any(|group| group.matches(info))
    }
}

/// A trailing star stands for anything.
fn covers(url: &str, path: &str) -> bool {
    url == "*" || url == path || url.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

impl GroupResources {
    fn matches(&self, info: &RequestInfo) -> bool {
        if self.group != "*" && self.group != info.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let named = self.resource_names.is_empty() || has(&self.resource_names, &info.name);
        named && self.resources.iter().any(|resource| names(resource, &info.resource, &info.subresource))
    }
}

/// `pods`, `pods/log`, `*/scale`, `pods/*` and `*`; `pods` alone is not `pods/log`.
fn names(rule: &str, resource: &str, subresource: &str) -> bool {
    match rule.split_once('/') {
        None => rule == "*" || (rule == resource && subresource.is_empty()),
        Some(("*", of)) => !subresource.is_empty() && of == subresource,
        Some((of, "*")) => of == resource,
        Some((of, part)) => of == resource && part == subresource,
    }
}
