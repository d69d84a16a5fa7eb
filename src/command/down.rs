//! `keelson down`: stops the cluster.

use std::time::Duration;

use clap::Args;
use kubelet::{
    image,
    runtime::{
        Runtime,
        cri::{Cri, gone},
    },
    system::cgroup::Hierarchy,
};

use super::{Place, Result};
use crate::{cluster::Config, containerd::Containerd, data_dir::DataDir, process::Process};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Args)]
pub struct Down {
    #[command(flatten)]
    place: Place,
    /// Leave containers running; the next `up` takes them over.
    #[arg(long)]
    keep_containers: bool,
}

impl Down {
    pub async fn run(self) -> Result {
        let data = self.place.existing()?;
        stop(&data, self.keep_containers).await?;
        println!("stopped");
        Ok(())
    }
}

/// Ends the cluster's process, then its containers and their runtime.
pub async fn stop(data: &DataDir, keep_containers: bool) -> Result {
    if let Some(process) = Process::find(&data.pid_file("keelson")) {
        process.stop(PATIENCE)?;
    }
    if keep_containers {
        return Ok(());
    }
    let containerd = Containerd::of(data, image::pause::IMAGE);
    if containerd.process().is_some() {
        remove_sandboxes(&Cri::new(&containerd.socket())).await?;
        containerd.stop()?;
    }
    Hierarchy::detect().remove_way(&data.cgroup_root()).map_err(|e| format!("{}: {e}", data.cgroup_root()))?;
    if !Config::new(data.clone()).has_neighbour() {
        proxy::Proxy::clean().await?;
    }
    Ok(())
}

async fn remove_sandboxes(runtime: &impl Runtime) -> Result {
    for sandbox in runtime.list_sandboxes(None).await? {
        // What the node agent was about to remove may go meanwhile.
        gone(runtime.stop_sandbox(sandbox.id.clone()).await)?;
        gone(runtime.remove_sandbox(sandbox.id).await)?;
    }
    Ok(())
}
