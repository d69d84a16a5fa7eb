//! Flags about who makes a request.

use std::{path::PathBuf, time::Duration};

use apiserver::{
    auth::{config, front_proxy, jwt, webhook},
    start::Config,
};
use clap::{ArgAction, Args};

use super::super::Result;

#[derive(Args)]
#[group(skip)]
pub struct Flags {
    /// Whether requests without credentials are let through to authorization.
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    anonymous_auth: bool,
    /// Authorities of clients' certificates, beside that of the data directory.
    #[arg(long)]
    client_ca_file: Option<PathBuf>,
    /// Tokens: token,user,uid,"group1,group2", one a line.
    #[arg(long)]
    token_auth_file: Option<PathBuf>,
    /// Whether Secrets of type bootstrap.kubernetes.io/token are credentials.
    #[arg(long)]
    enable_bootstrap_token_auth: bool,
    /// An AuthenticationConfiguration.
    #[arg(long)]
    authentication_config: Option<PathBuf>,
    /// A kubeconfig: the server that is asked about tokens.
    #[arg(long)]
    authentication_token_webhook_config_file: Option<PathBuf>,
    /// The version of TokenReviews that it is sent.
    #[arg(long, default_value = "v1beta1")]
    authentication_token_webhook_version: String,
    /// How long its answers are kept.
    #[arg(long, default_value = "2m0s", value_parser = super::duration)]
    authentication_token_webhook_cache_ttl: Duration,
    #[command(flatten)]
    oidc: Oidc,
    #[command(flatten)]
    front_proxy: FrontProxy,
}

#[derive(Args)]
struct Oidc {
    /// The issuer of tokens from outside of the cluster; an https URL.
    #[arg(long)]
    oidc_issuer_url: Option<String>,
    /// Who this server is to the issuer.
    #[arg(long, requires = "oidc_issuer_url")]
    oidc_client_id: Option<String>,
    /// Authorities of the issuer's certificate; by default those of this machine.
    #[arg(long)]
    oidc_ca_file: Option<PathBuf>,
    /// The claim that is the user's name.
    #[arg(long, default_value = "sub")]
    oidc_username_claim: String,
    /// Before names; by default the issuer's URL, unless the claim is email; - for none.
    #[arg(long)]
    oidc_username_prefix: Option<String>,
    /// The claim that lists the user's groups.
    #[arg(long, default_value = "")]
    oidc_groups_claim: String,
    /// Before groups.
    #[arg(long, default_value = "")]
    oidc_groups_prefix: String,
    /// The algorithms that tokens may be signed with.
    #[arg(long, value_delimiter = ',', default_value = "RS256")]
    oidc_signing_algs: Vec<String>,
    /// A claim that tokens must have: key=value.
    #[arg(long)]
    oidc_required_claim: Vec<String>,
}

#[derive(Args)]
struct FrontProxy {
    /// Authorities of front proxies; by default that of the data directory.
    #[arg(long)]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of front proxies; by default front-proxy-client, and with an authority of their own any.
    #[arg(long, value_delimiter = ',')]
    requestheader_allowed_names: Vec<String>,
    /// Headers that tell the user's name.
    #[arg(long, value_delimiter = ',', default_value = "x-remote-user")]
    requestheader_username_headers: Vec<String>,
    /// Headers that tell the user's uid.
    #[arg(long, value_delimiter = ',', default_value = "x-remote-uid")]
    requestheader_uid_headers: Vec<String>,
    /// Headers that tell the user's groups.
    #[arg(long, value_delimiter = ',', default_value = "x-remote-group")]
    requestheader_group_headers: Vec<String>,
    /// How headers begin that tell more of the user.
    #[arg(long, value_delimiter = ',', default_value = "x-remote-extra-")]
    requestheader_extra_headers_prefix: Vec<String>,
}

impl Flags {
    pub fn put(self, config: &mut Config) -> Result {
        let webhook = self.authentication_token_webhook_config_file.map(|config_file| webhook::Options {
            config_file,
            version: self.authentication_token_webhook_version,
            cache_ttl: self.authentication_token_webhook_cache_ttl,
        });
        config.authentication = config::Options {
            anonymous: self.anonymous_auth,
            client_ca_file: self.client_ca_file,
            token_file: self.token_auth_file,
            bootstrap_tokens: self.enable_bootstrap_token_auth,
            oidc: self.oidc.configuration()?,
            configuration: self.authentication_config,
            webhook,
            front_proxy: self.front_proxy.options(),
        };
        Ok(())
    }
}

impl Oidc {
    fn configuration(self) -> Result<Option<jwt::Configuration>> {
        let Some(issuer) = self.oidc_issuer_url else { return Ok(None) };
        if !issuer.starts_with("https://") {
            return Err("--oidc-issuer-url must be an https URL".into());
        }
        let client = self.oidc_client_id.ok_or("--oidc-client-id must be specified with --oidc-issuer-url")?;
        let username_prefix = match self.oidc_username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) if !prefix.is_empty() => prefix.to_owned(),
            _ if self.oidc_username_claim == "email" => String::new(),
            _ => format!("{issuer}#"),
        };
        let algorithm = |name: &String| {
            let known = jwt::ALGORITHMS.iter().find(|(known, _)| known == name);
            known.map(|(_, algorithm)| *algorithm).ok_or_else(|| format!("oidc: unsupported signing alg: \"{name}\""))
        };
        let claim = |pair: &String| {
            let (claim, value) = pair.split_once('=').ok_or("--oidc-required-claim must be key=value")?;
            Ok::<_, &str>((claim.to_owned(), value.to_owned()))
        };
        Ok(Some(jwt::Configuration {
            issuer,
            discovery_url: None,
            authorities: self.oidc_ca_file.map(std::fs::read_to_string).transpose()?,
            audiences: vec![client],
            algorithms: self.oidc_signing_algs.iter().map(algorithm).collect::<std::result::Result<_, _>>()?,
            username_claim: self.oidc_username_claim,
            username_prefix,
            groups_claim: self.oidc_groups_claim,
            groups_prefix: self.oidc_groups_prefix,
            uid_claim: String::new(),
            required_claims: self.oidc_required_claim.iter().map(claim).collect::<std::result::Result<_, _>>()?,
        }))
    }
}

impl FrontProxy {
    fn options(self) -> front_proxy::Options {
        let own = front_proxy::Options::default();
        let given = self.requestheader_client_ca_file.is_some() || !self.requestheader_allowed_names.is_empty();
        front_proxy::Options {
            client_ca_file: self.requestheader_client_ca_file,
            allowed_names: if given { self.requestheader_allowed_names } else { own.allowed_names },
            username_headers: self.requestheader_username_headers,
            uid_headers: self.requestheader_uid_headers,
            group_headers: self.requestheader_group_headers,
            extra_headers_prefixes: self.requestheader_extra_headers_prefix,
        }
    }
}
