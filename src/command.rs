//! The subcommands: their flags, and what each does.

use std::{error::Error, path::PathBuf};

use ::apiserver::zpages::Flags;
use clap::{Args, Subcommand};

use crate::data_dir::{self, DataDir};

mod apiserver;
mod client;
mod controllers;
mod down;
pub mod flags;
mod image;
mod kubelet;
mod logs;
mod reset;
mod run;
mod scheduler;
mod status;
mod up;

pub type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Subcommand)]
pub enum Command {
    /// Start a cluster on this machine and wait until a pod can run.
    Up(up::Up),
    /// Stop the cluster; what it keeps stays.
    Down(down::Down),
    /// Stop the cluster and delete everything it kept.
    Reset(reset::Reset),
    /// Say what runs, and whether it is well.
    Status(Place),
    /// Print the administrator's kubeconfig.
    Kubeconfig(Place),
    /// Images of the node.
    Image(image::Image),
    /// Show what the cluster's processes have logged.
    Logs(logs::Logs),
    /// The API server alone.
    Apiserver(Box<apiserver::Apiserver>),
    /// The controllers alone, for any cluster.
    Controllers(controllers::Controllers),
    /// The scheduler alone, for any cluster.
    Scheduler(scheduler::Scheduler),
    /// The node agent alone, for any cluster.
    Kubelet(kubelet::Kubelet),
    /// The whole cluster in the foreground: what `up` starts.
    #[command(hide = true)]
    Run(run::Run),
}

/// Where the cluster keeps what it keeps.
#[derive(Args, Clone)]
pub struct Place {
    /// The directory of everything the cluster keeps.
    #[arg(long, global = true, default_value = data_dir::DEFAULT)]
    pub data_dir: PathBuf,
}

impl Place {
    /// The directory, which is made if it is not there.
    pub fn open(&self) -> Result<DataDir> {
        DataDir::open(&self.data_dir).map_err(|e| format!("{}: {e}", self.data_dir.display()).into())
    }

    /// The directory of a cluster that was started before.
    pub fn existing(&self) -> Result<DataDir> {
        if !self.data_dir.is_dir() {
            return Err(format!("there is no cluster in {}", self.data_dir.display()).into());
        }
        self.open()
    }
}

impl Command {
    /// `flags`: all that the command has.
    pub async fn run(self, flags: Flags) -> Result {
        match self {
            Self::Up(up) => up.run().await,
            Self::Down(down) => down.run().await,
            Self::Reset(reset) => reset.run().await,
            Self::Status(place) => status::run(&place).await,
            Self::Kubeconfig(place) => status::kubeconfig(&place),
            Self::Image(image) => image.run().await,
            Self::Logs(logs) => logs.run().await,
            Self::Apiserver(apiserver) => apiserver.run(flags).await,
            Self::Controllers(controllers) => controllers.run().await,
            Self::Scheduler(scheduler) => scheduler.run().await,
            Self::Kubelet(kubelet) => kubelet.run().await,
            Self::Run(run) => run.run(flags).await,
        }
    }
}

/// Returns when the process is asked to end.
async fn asked_to_end() -> Result {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
