//! Which authorizers are asked, and in which order: flags, and the AuthorizationConfiguration that may stand in their
//! place.

use std::{collections::BTreeSet, io, path::Path, time::Duration};

use serde::Deserialize;

use super::webhook::{self, WebhookAuthorizer};
use crate::{codec::yaml, outbound::OutboundError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    AlwaysAllow,
    AlwaysDeny,
    Node,
    Rbac,
    Webhook(webhook::Options),
}

#[derive(Debug, thiserror::Error)]
pub enum ModeError {
    #[error("the authorization configuration cannot be read")]
    Io(#[from] io::Error),
    #[error("the authorization configuration is invalid: {}", .0.join("; "))]
    Invalid(Vec<String>),
    #[error("the authorization webhook")]
    Outbound(#[from] OutboundError),
}

/// A mode that is ready.
pub enum Step {
    AlwaysAllow,
    AlwaysDeny,
    Node,
    Rbac,
    Webhook(WebhookAuthorizer),
}

impl Mode {
    pub const DEFAULT: [Self; 2] = [Self::Node, Self::Rbac];

    pub fn step(&self) -> Result<Step, OutboundError> {
        Ok(match self {
            Self::AlwaysAllow => Step::AlwaysAllow,
            Self::AlwaysDeny => Step::AlwaysDeny,
            Self::Node => Step::Node,
            Self::Rbac => Step::Rbac,
            Self::Webhook(options) => Step::Webhook(WebhookAuthorizer::new(options)?),
        })
    }

    /// The modes of an AuthorizationConfiguration.
    pub fn read(path: &Path) -> Result<Vec<Self>, ModeError> {
        Self::parse(&std::fs::read(path)?)
    }

    /// YAML or JSON.
    pub fn parse(text: &[u8]) -> Result<Vec<Self>, ModeError> {
        let wrong = |why: String| ModeError::Invalid(vec![why]);
        let parsed = yaml::parse(text).map_err(|e| wrong(e.to_string()))?;
        let file: File = serde_json::from_value(parsed.value).map_err(|e| wrong(e.to_string()))?;
        if file.api_version != "apiserver.config.k8s.io/v1" || file.kind != "AuthorizationConfiguration" {
            return Err(wrong(format!("got unexpected config type: {}, Kind={}", file.api_version, file.kind)));
        }
        let (mut errors, mut names, mut modes) = (Vec::new(), BTreeSet::new(), Vec::new());
        if file.authorizers.is_empty() {
            errors.push("authorizers: Required value: at least one authorization mode must be defined".to_owned());
        }
        for (i, authorizer) in file.authorizers.iter().enumerate() {
            let at = format!("authorizers[{i}]");
            if authorizer.name.is_empty() {
                errors.push(format!("{at}.name: Required value"));
            } else if !names.insert(&authorizer.name) {
                errors.push(format!("{at}.name: Duplicate value: \"{}\"", authorizer.name));
            }
            modes.extend(authorizer.mode(&at, &mut errors));
        }
        if errors.is_empty() { Ok(modes) } else { Err(ModeError::Invalid(errors)) }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    kind: String,
    api_version: String,
    #[serde(default)]
    authorizers: Vec<Authorizer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Authorizer {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    webhook: Option<Webhook>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Webhook {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    #[serde(default = "yes")]
    cache_authorized_requests: bool,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    #[serde(default = "yes")]
    cache_unauthorized_requests: bool,
    timeout: Option<String>,
    #[serde(default)]
    subject_access_review_version: String,
    #[serde(default, rename = "matchConditionSubjectAccessReviewVersion")]
    _match_version: String,
    #[serde(default)]
    failure_policy: String,
    connection_info: Connection,
    #[serde(default)]
    match_conditions: Vec<serde_json::Value>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Connection {
    #[serde(rename = "type")]
    kind: String,
    kube_config_file: Option<String>,
}

impl Authorizer {
    fn mode(&self, at: &str, errors: &mut Vec<String>) -> Option<Mode> {
        match (self.kind.as_str(), &self.webhook) {
            ("Node", None) => Some(Mode::Node),
            ("RBAC", None) => Some(Mode::Rbac),
            ("AlwaysAllow", None) => Some(Mode::AlwaysAllow),
            ("AlwaysDeny", None) => Some(Mode::AlwaysDeny),
            ("Webhook", Some(webhook)) => webhook.options(&format!("{at}.webhook"), errors).map(Mode::Webhook),
            ("Webhook", None) => {
                errors.push(format!("{at}.webhook: Required value: required when type=Webhook"));
                None
            }
            ("Node" | "RBAC" | "AlwaysAllow" | "AlwaysDeny", Some(_)) => {
                errors.push(format!("{at}.webhook: Invalid value: may only be specified when type=Webhook"));
                None
            }
            (kind, _) => {
                let known = "supported values: \"AlwaysAllow\", \"AlwaysDeny\", \"Node\", \"RBAC\", \"Webhook\"";
                errors.push(format!("{at}.type: Unsupported value: \"{kind}\": {known}"));
                None
            }
        }
    }
}

/// `5m30s`, as far as it is made of whole hours, minutes and seconds.
pub fn duration(text: &str) -> Option<Duration> {
    let mut seconds = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let number: u64 = number.parse().ok()?;
        let unit = after.chars().next()?;
        seconds += number
            * match unit {
                'h' => 3600,
                'm' => 60,
                's' => 1,
                _ => return None,
            };
        rest = &after[1..];
    }
    (!text.is_empty()).then(|| Duration::from_secs(seconds))
}

impl Webhook {
    fn options(&self, at: &str, errors: &mut Vec<String>) -> Option<webhook::Options> {
        let before = errors.len();
        let mut check = |holds: bool, field: &str, why: &str| {
            if !holds {
                errors.push(format!("{at}.{field}: {why}"));
            }
        };
        let file = self.connection_info.kube_config_file.clone().unwrap_or_default();
        check(
            self.connection_info.kind == "KubeConfigFile",
            "connectionInfo.type",
            "Unsupported value: supported values: \"KubeConfigFile\"",
        );
        check(!file.is_empty(), "connectionInfo.kubeConfigFile", "Required value");
        check(self.match_conditions.is_empty(), "matchConditions", "expressions are not supported");
        let version = self.subject_access_review_version.as_str();
        check(matches!(version, "v1" | "v1beta1"), "subjectAccessReviewVersion", "Required value");
        let policy = self.failure_policy.as_str();
        check(matches!(policy, "NoOpinion" | "Deny"), "failurePolicy", "Required value");
        let mut time = |given: &Option<String>, field: &str, default: u64| match given {
            None => Duration::from_secs(default),
            Some(text) => duration(text).unwrap_or_else(|| {
                check(false, field, "Invalid value: must be a duration");
                Duration::ZERO
            }),
        };
        let timeout = time(&self.timeout, "timeout", 3);
        let authorized = time(&self.authorized_ttl, "authorizedTTL", 300);
        let unauthorized = time(&self.unauthorized_ttl, "unauthorizedTTL", 30);
        let kept = |ttl, caches: bool| if caches { ttl } else { Duration::ZERO };
        (errors.len() == before).then(|| webhook::Options {
            config_file: file.into(),
            version: version.to_owned(),
            authorized_ttl: kept(authorized, self.cache_authorized_requests),
            unauthorized_ttl: kept(unauthorized, self.cache_unauthorized_requests),
            timeout,
            denies_on_failure: policy == "Deny",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(authorizers: Value) -> Result<Vec<Mode>, ModeError> {
        let file = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration", "authorizers": authorizers});
        Mode::parse(file.to_string().as_bytes())
    }

    #[test]
    fn modes_of_a_file() {
        let webhook = json!({
            "authorizedTTL": "1m", "timeout": "3s", "subjectAccessReviewVersion": "v1", "failurePolicy": "Deny",
            "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "/x"},
        });
        let modes = parse(json!([{"type": "Webhook", "name": "w", "webhook": webhook}, {"type": "RBAC", "name": "r"}]))
            .unwrap();
        let [Mode::Webhook(options), Mode::Rbac] = modes.as_slice() else { unreachable!("{modes:?}") };
        assert_eq!(
            (options.authorized_ttl.as_secs(), options.unauthorized_ttl.as_secs(), options.denies_on_failure),
            (60, 30, true)
        );
        for (authorizers, want) in [
            (json!([]), "at least one authorization mode"),
            (json!([{"type": "ABAC", "name": "a"}]), "Unsupported value: \"ABAC\""),
            (json!([{"type": "Node", "name": "a"}, {"type": "RBAC", "name": "a"}]), "Duplicate value"),
            (json!([{"type": "Webhook", "name": "a"}]), "required when type=Webhook"),
        ] {
            let error = parse(authorizers).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        assert_eq!(duration("1h5m"), Some(Duration::from_secs(3900)));
        assert_eq!((duration(""), duration("5"), duration("x")), (None, None, None));
    }
}
