//! Flags about flow control.

use apiserver::{flow, start::Config};
use clap::{ArgAction, Args};

#[derive(Args)]
#[group(skip)]
pub struct Flags {
    /// How many requests that change nothing may run at once; 0: no limit of their own.
    #[arg(long, default_value_t = flow::Options::default().max_requests_inflight)]
    max_requests_inflight: u32,
    /// How many requests that change something may run at once; 0: no limit of their own.
    #[arg(long, default_value_t = flow::Options::default().max_mutating_requests_inflight)]
    max_mutating_requests_inflight: u32,
    /// Shares the sum of both between priority levels.
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    enable_priority_and_fairness: bool,
}

impl Flags {
    pub fn put(self, config: &mut Config) {
        config.flow = flow::Options {
            max_requests_inflight: self.max_requests_inflight,
            max_mutating_requests_inflight: self.max_mutating_requests_inflight,
            enable_priority_and_fairness: self.enable_priority_and_fairness,
        };
    }
}
