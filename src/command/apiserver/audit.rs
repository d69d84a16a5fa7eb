//! Flags about the audit log.

use std::path::PathBuf;

use apiserver::{audit, start::Config};
use clap::Args;

#[derive(Args)]
#[group(skip)]
pub struct Flags {
    /// The audit policy: how much is told of which requests.
    #[arg(long)]
    audit_policy_file: Option<PathBuf>,
    /// Where audit events are written; - is standard output.
    #[arg(long)]
    audit_log_path: Option<PathBuf>,
    /// Days after which rotated files are deleted; 0: never.
    #[arg(long, default_value_t = audit::log::Options::default().max_age_days)]
    audit_log_maxage: u64,
    /// How many rotated files are kept; 0: all.
    #[arg(long, default_value_t = audit::log::Options::default().max_backups)]
    audit_log_maxbackup: usize,
    /// Megabytes at which a file is rotated; 0: never.
    #[arg(long, default_value_t = audit::log::Options::default().max_size_megabytes)]
    audit_log_maxsize: u64,
}

impl Flags {
    pub fn put(self, config: &mut Config) {
        config.audit = audit::Options {
            policy_file: self.audit_policy_file,
            log: audit::log::Options {
                path: self.audit_log_path,
                max_age_days: self.audit_log_maxage,
                max_backups: self.audit_log_maxbackup,
                max_size_megabytes: self.audit_log_maxsize,
            },
        };
    }
}
