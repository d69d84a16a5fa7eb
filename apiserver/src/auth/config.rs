//! How users are authenticated: flags, and the AuthenticationConfiguration that may stand in place of some of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    Authenticator, certificate,
    front_proxy::{self, FrontProxy},
    issuer::Issuer,
    jwt::{self, JwtAuthenticator},
    static_token::{StaticTokenError, StaticTokens},
    webhook::{self, WebhookTokens},
};
use crate::{codec::yaml, outbound::OutboundError};

#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    #[error("{path} cannot be read")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the token file")]
    StaticTokens(#[from] StaticTokenError),
    #[error("the authentication configuration is invalid: {}", .0.join("; "))]
    Configuration(Vec<String>),
    #[error("another server cannot be asked")]
    Outbound(#[from] OutboundError),
    #[error("the authorities of front proxies")]
    Trust(#[from] certificate::TrustError),
}

/// Flags of authentication.
#[derive(Clone, Debug)]
pub struct Options {
    pub anonymous: bool,
    /// PEM, sign clients' certificates beside the authority of the data directory.
    pub client_ca_file: Option<PathBuf>,
    pub token_file: Option<PathBuf>,
    pub bootstrap_tokens: bool,
    pub oidc: Option<jwt::Configuration>,
    /// An AuthenticationConfiguration.
    pub configuration: Option<PathBuf>,
    pub webhook: Option<webhook::Options>,
    pub front_proxy: front_proxy::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            anonymous: true,
            client_ca_file: None,
            token_file: None,
            bootstrap_tokens: false,
            oidc: None,
            configuration: None,
            webhook: None,
            front_proxy: front_proxy::Options::default(),
        }
    }
}

fn read(path: &Path) -> Result<String, AuthenticationError> {
    std::fs::read_to_string(path).map_err(|source| AuthenticationError::Io { path: path.to_owned(), source })
}

impl Options {
    /// Those that sign clients' certificates: `own`, and those of the flag. PEM.
    pub fn client_authorities(&self, own: &str) -> Result<String, AuthenticationError> {
        let given = self.client_ca_file.as_deref().map(read).transpose()?;
        Ok(given.map_or_else(|| own.to_owned(), |given| format!("{own}\n{given}")))
    }

    /// `front_proxy_authority`: PEM, of the data directory.
    pub fn authenticator(
        &self,
        issuer: Issuer,
        front_proxy_authority: &str,
    ) -> Result<Authenticator, AuthenticationError> {
        let mut authenticator = Authenticator::new(issuer);
        authenticator.anonymous = self.anonymous;
        authenticator.bootstrap_tokens = self.bootstrap_tokens;
        if let Some(path) = &self.token_file {
            authenticator.static_tokens = StaticTokens::parse(&read(path)?)?;
        }
        let mut issuers: Vec<jwt::Configuration> = self.oidc.iter().cloned().collect();
        if let Some(path) = &self.configuration {
            let file = File::parse(read(path)?.as_bytes())?;
            if !file.jwt.is_empty() && self.oidc.is_some() {
                let why = "authentication-config file and oidc-* flags are mutually exclusive";
                return Err(AuthenticationError::Configuration(vec![why.to_owned()]));
            }
            issuers.extend(file.issuers()?);
            if let Some(anonymous) = file.anonymous {
                authenticator.anonymous = anonymous.enabled;
                let paths: Vec<_> = anonymous.conditions.into_iter().map(|condition| condition.path).collect();
                authenticator.anonymous_paths = (!paths.is_empty()).then_some(paths);
            }
        }
        for configuration in issuers {
            authenticator.issuers.push(JwtAuthenticator::new(configuration)?);
        }
        authenticator.webhook = self.webhook.as_ref().map(WebhookTokens::new).transpose()?;
        let authority = self.front_proxy.client_ca_file.as_deref().map(read).transpose()?;
        let authority = authority.as_deref().unwrap_or(front_proxy_authority);
        authenticator.front_proxy = Some(FrontProxy::new(authority, self.front_proxy.clone())?);
        Ok(authenticator)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    kind: String,
    api_version: String,
    #[serde(default)]
    jwt: Vec<Jwt>,
    anonymous: Option<Anonymous>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Anonymous {
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    path: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Jwt {
    issuer: IssuerFile,
    #[serde(default)]
    claim_validation_rules: Vec<ClaimRule>,
    claim_mappings: ClaimMappings,
    #[serde(default)]
    user_validation_rules: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IssuerFile {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: Option<String>,
    #[serde(default)]
    certificate_authority: String,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    audience_match_policy: String,
    #[serde(default)]
    egress_selector_type: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClaimRule {
    #[serde(default)]
    claim: String,
    #[serde(default)]
    required_value: String,
    #[serde(default)]
    expression: String,
    #[serde(default, rename = "message")]
    _message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClaimMappings {
    username: Claim,
    #[serde(default)]
    groups: Claim,
    #[serde(default)]
    uid: Claim,
    #[serde(default)]
    extra: Vec<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    #[serde(default)]
    claim: String,
    prefix: Option<String>,
    #[serde(default)]
    expression: String,
}

/// Expressions need a language that is not spoken here.
const NO_EXPRESSIONS: &str = "expressions are not supported";

impl File {
    fn parse(text: &[u8]) -> Result<Self, AuthenticationError> {
        let wrong = |why: String| AuthenticationError::Configuration(vec![why]);
        let parsed = yaml::parse(text).map_err(|e| wrong(e.to_string()))?;
        let file: Self = serde_json::from_value(parsed.value).map_err(|e| wrong(e.to_string()))?;
        if file.api_version != "apiserver.config.k8s.io/v1" || file.kind != "AuthenticationConfiguration" {
            return Err(wrong(format!("got unexpected config type: {}, Kind={}", file.api_version, file.kind)));
        }
        Ok(file)
    }

    fn issuers(&self) -> Result<Vec<jwt::Configuration>, AuthenticationError> {
        let (mut errors, mut urls) = (Vec::new(), BTreeSet::new());
        for (i, jwt) in self.jwt.iter().enumerate() {
            if !urls.insert(&jwt.issuer.url) {
                errors.push(format!("jwt[{i}].issuer.url: Duplicate value: \"{}\"", jwt.issuer.url));
            }
            jwt.validate(&format!("jwt[{i}]"), &mut errors);
        }
        if errors.is_empty() {
            return Ok(self.jwt.iter().map(Jwt::configuration).collect());
        }
        Err(AuthenticationError::Configuration(errors))
    }
}

impl Jwt {
    fn validate(&self, at: &str, errors: &mut Vec<String>) {
        let mut check = |holds: bool, field: &str, why: &str| {
            if !holds {
                errors.push(format!("{at}.{field}: {why}"));
            }
        };
        let Self { issuer, claim_mappings: mappings, .. } = self;
        check(issuer.url.starts_with("https://"), "issuer.url", "Invalid value: URL scheme must be https");
        let discovered = issuer.discovery_url.as_deref().unwrap_or("https://");
        check(discovered.starts_with("https://"), "issuer.discoveryURL", "Invalid value: URL scheme must be https");
        check(
            !issuer.audiences.is_empty(),
            "issuer.audiences",
            "Required value: at least one jwt[*].issuer.audiences is required",
        );
        let policy = issuer.audience_match_policy.as_str();
        let policy_given = policy == "MatchAny" || (policy.is_empty() && issuer.audiences.len() < 2);
        check(
            policy_given,
            "issuer.audienceMatchPolicy",
            "Invalid value: audienceMatchPolicy must be MatchAny for multiple audiences",
        );
        check(
            issuer.egress_selector_type.is_empty(),
            "issuer.egressSelectorType",
            "Invalid value: egress selectors are not supported",
        );
        let username = &mappings.username;
        check(
            !username.claim.is_empty() || !username.expression.is_empty(),
            "claimMappings.username",
            "Required value: claim or expression is required",
        );
        check(
            username.claim.is_empty() || username.prefix.is_some(),
            "claimMappings.username.prefix",
            "Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
        );
        let groups = &mappings.groups;
        check(
            groups.claim.is_empty() || groups.prefix.is_some(),
            "claimMappings.groups.prefix",
            "Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
        );
        let expressions = [&username.expression, &groups.expression, &mappings.uid.expression];
        let no_expressions = expressions.iter().all(|expression| expression.is_empty()) && mappings.extra.is_empty();
        check(no_expressions, "claimMappings", NO_EXPRESSIONS);
        check(self.user_validation_rules.is_empty(), "userValidationRules", NO_EXPRESSIONS);
        for (i, rule) in self.claim_validation_rules.iter().enumerate() {
            let field = format!("claimValidationRules[{i}]");
            check(rule.expression.is_empty(), &field, NO_EXPRESSIONS);
            check(
                !rule.claim.is_empty() || !rule.expression.is_empty(),
                &field,
                "Required value: claim or expression is required",
            );
        }
    }

    fn configuration(&self) -> jwt::Configuration {
        let Self { issuer, claim_mappings: mappings, .. } = self;
        let required: BTreeMap<String, String> =
            self.claim_validation_rules.iter().map(|rule| (rule.claim.clone(), rule.required_value.clone())).collect();
        jwt::Configuration {
            issuer: issuer.url.clone(),
            discovery_url: issuer.discovery_url.clone(),
            authorities: Some(issuer.certificate_authority.clone()).filter(|pem| !pem.is_empty()),
            audiences: issuer.audiences.clone(),
            algorithms: jwt::ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).collect(),
            username_claim: mappings.username.claim.clone(),
            username_prefix: mappings.username.prefix.clone().unwrap_or_default(),
            groups_claim: mappings.groups.claim.clone(),
            groups_prefix: mappings.groups.prefix.clone().unwrap_or_default(),
            uid_claim: mappings.uid.claim.clone(),
            required_claims: required,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn file(jwt: Value) -> Result<Vec<jwt::Configuration>, AuthenticationError> {
        let file =
            json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [jwt]});
        File::parse(file.to_string().as_bytes())?.issuers()
    }

    #[test]
    fn issuers_of_a_file() {
        let issuer = json!({"url": "https://issuer", "audiences": ["us"]});
        let username = json!({"claim": "sub", "prefix": "x:"});
        let rules = json!([{"claim": "hd", "requiredValue": "example.com"}]);
        let good =
            file(json!({"issuer": issuer, "claimMappings": {"username": username}, "claimValidationRules": rules}));
        let good = good.unwrap().remove(0);
        assert_eq!((good.username_prefix.as_str(), good.required_claims["hd"].as_str()), ("x:", "example.com"));
        for (jwt, want) in [
            (
                json!({"issuer": {"url": "http://issuer", "audiences": ["us"]}, "claimMappings": {"username": username}}),
                "URL scheme must be https",
            ),
            (
                json!({"issuer": {"url": "https://issuer", "audiences": ["a", "b"]}, "claimMappings": {"username": username}}),
                "must be MatchAny",
            ),
            (
                json!({"issuer": issuer, "claimMappings": {"username": {"claim": "sub"}}}),
                "prefix is required when claim is set",
            ),
            (json!({"issuer": issuer, "claimMappings": {"username": {"expression": "claims.sub"}}}), NO_EXPRESSIONS),
            (json!({"issuer": issuer, "claimMappings": {"username": username}, "other": 1}), "unknown field"),
        ] {
            let error = file(jwt).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
