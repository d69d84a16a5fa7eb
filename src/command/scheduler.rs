//! `keelson scheduler`: the scheduler alone, for any cluster.

use clap::Args;
use scheduler::{Config, plugins::Profile};

use super::{Result, asked_to_end, client::Cluster};

#[derive(Args)]
pub struct Scheduler {
    #[command(flatten)]
    cluster: Cluster,
    /// Which pods are its own: those that name it.
    #[arg(long, default_value = "default-scheduler")]
    scheduler_name: String,
}

impl Scheduler {
    pub async fn run(self) -> Result {
        let profile = Profile { scheduler_name: self.scheduler_name, ..Profile::default() };
        let config = Config { profile, seed: crate::machine::seed(), ..Config::default() };
        let _running = scheduler::Scheduler::start(config, self.cluster.client().await?);
        asked_to_end().await
    }
}
