//! Flags about who may do what.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use apiserver::{
    authorize::{mode::Mode, webhook},
    start::Config,
};
use clap::Args;

use super::super::Result;

#[derive(Args)]
#[group(skip)]
pub struct Flags {
    /// The authorizers, in their order: AlwaysAllow, AlwaysDeny, Node, RBAC, Webhook.
    #[arg(long, value_delimiter = ',', default_value = "Node,RBAC")]
    authorization_mode: Vec<String>,
    /// An AuthorizationConfiguration, in place of the other flags.
    #[arg(long, conflicts_with_all = ["authorization_mode", "authorization_webhook_config_file"])]
    authorization_config: Option<PathBuf>,
    /// A kubeconfig: the server that is asked what is allowed.
    #[arg(long)]
    authorization_webhook_config_file: Option<PathBuf>,
    /// The version of SubjectAccessReviews that it is sent.
    #[arg(long, default_value = "v1beta1")]
    authorization_webhook_version: String,
    /// How long it is kept that something is allowed.
    #[arg(long, default_value = "5m0s", value_parser = super::duration)]
    authorization_webhook_cache_authorized_ttl: Duration,
    /// How long it is kept that something is not allowed.
    #[arg(long, default_value = "30s", value_parser = super::duration)]
    authorization_webhook_cache_unauthorized_ttl: Duration,
}

impl Flags {
    pub fn put(self, config: &mut Config) -> Result {
        config.authorization = match &self.authorization_config {
            Some(path) => Mode::read(path)?,
            None => self.modes()?,
        };
        if config.authentication.anonymous && self.has("AlwaysAllow") {
            // As upstream: nobody may do everything without so much as a name.
            tracing::warn!("anonymous requests are turned off: the authorizer AlwaysAllow would allow them everything");
            config.authentication.anonymous = false;
        }
        Ok(())
    }

    fn has(&self, mode: &str) -> bool {
        self.authorization_mode.iter().any(|name| name == mode)
    }

    fn modes(&self) -> Result<Vec<Mode>> {
        let names = &self.authorization_mode;
        if self.authorization_webhook_config_file.is_some() && !self.has("Webhook") {
            return Err("cannot specify --authorization-webhook-config-file without mode Webhook".into());
        }
        if names.iter().collect::<HashSet<_>>().len() < names.len() {
            let quoted: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
            return Err(format!("authorization-mode [{}] has mode specified more than once", quoted.join(" ")).into());
        }
        names.iter().map(|name| self.mode(name)).collect()
    }

    fn mode(&self, name: &str) -> Result<Mode> {
        Ok(match name {
            "AlwaysAllow" => Mode::AlwaysAllow,
            "AlwaysDeny" => Mode::AlwaysDeny,
            "Node" => Mode::Node,
            "RBAC" => Mode::Rbac,
            "Webhook" => {
                let file = self.authorization_webhook_config_file.clone();
                let file = file.ok_or("authorization-mode Webhook's authorization config file not passed")?;
                Mode::Webhook(webhook::Options {
                    version: self.authorization_webhook_version.clone(),
                    authorized_ttl: self.authorization_webhook_cache_authorized_ttl,
                    unauthorized_ttl: self.authorization_webhook_cache_unauthorized_ttl,
                    ..webhook::Options::new(file)
                })
            }
            other => return Err(format!("authorization-mode \"{other}\" is not a valid mode").into()),
        })
    }
}
