//! `keelson up`: starts a cluster in the background and waits until a pod can run.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use clap::Args;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::{Api, Client};
use tokio::net::TcpStream;

use super::{
    Place, Result, client,
    run::{Run, Shape},
};
use crate::{
    cluster::{Config, check_machine},
    data_dir::DataDir,
    machine,
    process::Process,
};

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Args)]
pub struct Up {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    shape: Shape,
    /// The kubectl to name in what is said at the end.
    #[arg(long, default_value = "kubectl")]
    kubectl: PathBuf,
}

impl Up {
    pub async fn run(self) -> Result {
        if !nix::unistd::geteuid().is_root() {
            return Err("a node needs root: it makes namespaces, mounts and network rules; use sudo".into());
        }
        let begin = Instant::now();
        let data = if let Some(data) = self.running()? {
            println!("the cluster runs already");
            data
        } else {
            check_machine(machine::address(), self.shape.secure_port)?;
            let data = self.place.open()?;
            start(&Run { place: self.place.clone(), shape: self.shape.clone() }, &data)?;
            data
        };
        self.wait(&data).await?;
        println!("ready after {:.1} s\n", begin.elapsed().as_secs_f64());
        println!("  export KUBECONFIG={}", data.admin_kubeconfig().display());
        println!("  {} get nodes", self.kubectl.display());
        Ok(())
    }

    /// The directory of the cluster, if it runs.
    fn running(&self) -> Result<Option<DataDir>> {
        if !self.place.data_dir.is_dir() {
            return Ok(None);
        }
        let data = self.place.open()?;
        Ok(Process::find(&data.pid_file("keelson")).map(|_| data))
    }

    async fn wait(&self, data: &DataDir) -> Result {
        let watched = Watched { process: Process::find(&data.pid_file("keelson")), log: data.log("keelson") };
        let client: Client =
            watched.step("API server", async || client::client(&data.admin_kubeconfig()).await.ok()).await?;
        watched.step("control plane", async || is_ready(&client).await.then_some(())).await?;
        let name = self.shape.node_name.clone().unwrap_or_else(machine::host_name);
        let nodes: Api<Node> = Api::all(client.clone());
        // What the API has of the node may be from before: its agent answers once it is at work again.
        let agent = Config::new(data.clone()).kubelet();
        watched.step("node agent", async || TcpStream::connect(agent).await.ok().map(drop)).await?;
        watched.step("node", async || nodes.get(&name).await.ok().filter(is_node_ready).map(drop)).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
        watched.step("service accounts", async || accounts.get("default").await.ok().map(drop)).await?;
        Ok(())
    }
}

fn start(run: &Run, data: &DataDir) -> Result {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["run", "--data-dir"]).arg(&run.place.data_dir);
    command.args(["--secure-port", &run.shape.secure_port.to_string()]);
    command.args(["--cluster-cidr", &run.shape.cluster_cidr.to_string()]);
    if let Some(name) = &run.shape.node_name {
        command.args(["--node-name", name]);
    }
    Process::start(&mut command, &data.log("keelson"), &data.pid_file("keelson"))?;
    Ok(())
}

async fn is_ready(client: &Client) -> bool {
    let request = http::Request::get("/readyz").body(Vec::new());
    match request {
        Ok(request) => client.request_text(request).await.is_ok_and(|text| text.trim() == "ok"),
        Err(_) => false,
    }
}

fn is_node_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    crds::condition::is_true(conditions, "Ready")
}

/// The process that is waited for, and where it tells why it ended.
struct Watched {
    process: Option<Process>,
    log: PathBuf,
}

impl Watched {
    /// Waits for one step, and says what is waited for.
    async fn step<T>(&self, what: &str, test: impl AsyncFn() -> Option<T>) -> Result<T> {
        print!("{what} ... ");
        std::io::Write::flush(&mut std::io::stdout())?;
        let begin = Instant::now();
        loop {
            if let Some(found) = test().await {
                println!("{:.1} s", begin.elapsed().as_secs_f64());
                return Ok(found);
            }
            if !self.process.is_some_and(|p| p.is_running()) {
                println!("failed");
                return Err(format!("it has ended: {}", last_line(&self.log)).into());
            }
            if begin.elapsed() > PATIENCE {
                println!("not yet");
                return Err(format!("not ready after {} s; see {}", PATIENCE.as_secs(), self.log.display()).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("its log is empty");
    last.trim_start_matches("keelson: ").to_owned()
}
