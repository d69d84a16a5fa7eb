//! `keelson status` and `keelson kubeconfig`: what runs, and how to reach it.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, ResourceExt, api::ListParams};

use super::{Place, Result, client};
use crate::process::Process;

pub async fn run(place: &Place) -> Result {
    let data = place.existing()?;
    for name in ["keelson", "containerd"] {
        match Process::find(&data.pid_file(name)) {
            Some(process) => println!("{name}\trunning\tprocess {}", process.pid),
            None => println!("{name}\tnot running"),
        }
    }
    if Process::find(&data.pid_file("keelson")).is_none() {
        return Err("the cluster does not run".into());
    }
    let client = client::client(&data.admin_kubeconfig()).await?;
    for node in Api::<Node>::all(client.clone()).list(&ListParams::default()).await? {
        let ready = crds::condition::is_true(node.status.as_ref().and_then(|s| s.conditions.as_ref()), "Ready");
        println!("node {}\t{}", node.name_any(), if ready { "ready" } else { "not ready" });
    }
    let pods = Api::<Pod>::all(client).list(&ListParams::default()).await?.items;
    let running = pods.iter().filter(|p| crds::pod::state::phase(p) == "Running").count();
    println!("pods\t{running} of {} running", pods.len());
    Ok(())
}

pub fn kubeconfig(place: &Place) -> Result {
    let path = place.existing()?.admin_kubeconfig();
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}; is there a cluster?", path.display()))?;
    print!("{text}");
    Ok(())
}
