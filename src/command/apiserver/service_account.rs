//! Flags about the tokens of service accounts.

use std::path::PathBuf;

use apiserver::start::Config;
use clap::Args;

#[derive(Args)]
#[group(skip)]
pub struct Flags {
    /// Who makes the tokens; given more than once, the first signs and all are accepted.
    #[arg(long)]
    service_account_issuer: Vec<String>,
    /// Where verifiers find the keys, if not at this server.
    #[arg(long)]
    service_account_jwks_uri: Option<String>,
    /// The private key that signs tokens; by default one of the data directory.
    #[arg(long)]
    service_account_signing_key_file: Option<PathBuf>,
    /// Private or public keys whose tokens are accepted.
    #[arg(long)]
    service_account_key_file: Vec<PathBuf>,
    /// Who this server is to tokens; by default the issuer.
    #[arg(long, value_delimiter = ',')]
    api_audiences: Vec<String>,
}

impl Flags {
    pub fn put(self, config: &mut Config) {
        let accounts = &mut config.service_accounts;
        if !self.service_account_issuer.is_empty() {
            accounts.issuers = self.service_account_issuer;
        }
        accounts.jwks_uri = self.service_account_jwks_uri;
        accounts.signing_key_file = self.service_account_signing_key_file;
        accounts.key_files = self.service_account_key_file;
        accounts.audiences = self.api_audiences;
    }
}
