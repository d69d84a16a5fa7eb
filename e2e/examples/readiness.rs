//! Measures a whole cluster of one node: how soon a pod is Ready, and how long many pods take to come and to go.

use std::{
    error::Error,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Parser;
use crds::condition;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{
        conditions,
        wait::{Condition, await_condition},
    },
};
use serde_json::json;

type Failure = Box<dyn Error + Send + Sync>;

/// A pod is given so long for anything.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Parser)]
#[command(about = "Measures how soon pods are Ready and gone")]
struct Arguments {
    /// Of an administrator.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// One that the node has.
    #[arg(long, default_value = "busybox:1")]
    image: String,
    /// Pods that are measured one after the other.
    #[arg(long, default_value_t = 20)]
    single: usize,
    /// Pods that are made at once.
    #[arg(long, default_value_t = 60)]
    many: usize,
}

fn pod(name: &str, image: &str) -> Result<Pod, serde_json::Error> {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": "readiness"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": image, "command": ["sleep", "3600"]}],
        },
    }))
}

async fn until(pods: &Api<Pod>, name: &str, condition: impl Condition<Pod>) -> Result<(), Failure> {
    tokio::time::timeout(PATIENCE, await_condition(pods.clone(), name, condition)).await??;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let kubeconfig = Kubeconfig::read_from(&arguments.kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let pods: Api<Pod> = Api::default_namespaced(Client::try_from(config)?);
    let (create, delete) = (PostParams::default(), DeleteParams::default());

    let mut times = Vec::new();
    for turn in 0..arguments.single {
        let name = format!("single-{turn}");
        let begun = Instant::now();
        pods.create(&create, &pod(&name, &arguments.image)?).await?;
        let ready = |pod: Option<&Pod>| {
            condition::is_true(pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref()), "Ready")
        };
        until(&pods, &name, ready).await?;
        times.push(begun.elapsed());
        pods.delete(&name, &delete).await?;
        until(&pods, &name, |pod: Option<&Pod>| pod.is_none()).await?;
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    println!("a pod is Ready {} ms after its POST (median of {})", median.as_millis(), times.len());

    let names: Vec<String> = (0..arguments.many).map(|number| format!("many-{number}")).collect();
    let begun = Instant::now();
    for name in &names {
        pods.create(&create, &pod(name, &arguments.image)?).await?;
    }
    try_join_all(names.iter().map(|name| until(&pods, name, conditions::is_pod_running()))).await?;
    println!("{} pods run after {:.1} s", names.len(), begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    pods.delete_collection(&delete, &ListParams::default().labels("app=readiness")).await?;
    try_join_all(names.iter().map(|name| until(&pods, name, |pod: Option<&Pod>| pod.is_none()))).await?;
    println!("and are gone after {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}
