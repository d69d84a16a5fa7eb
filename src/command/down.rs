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
use tokio::time::Instant;

use super::{Place, Result};
use crate::{cluster::Config, containerd::Containerd, data_dir::DataDir, process::Process};

const PATIENCE: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_millis(200);

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

/// Until it has worked for all: a container that is just being started cannot be removed yet.
async fn remove_sandboxes(runtime: &impl Runtime) -> Result {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut failed = None;
        for sandbox in runtime.list_sandboxes(None).await? {
            failed = remove_sandbox(runtime, sandbox.id).await.err().or(failed);
        }
        match failed {
            None => return Ok(()),
            Some(error) if Instant::now() >= end => return Err(error),
            Some(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

async fn remove_sandbox(runtime: &impl Runtime, id: String) -> Result {
    // What the node agent was about to remove may go meanwhile.
    gone(runtime.stop_sandbox(id.clone()).await)?;
    Ok(gone(runtime.remove_sandbox(id).await)?)
}
