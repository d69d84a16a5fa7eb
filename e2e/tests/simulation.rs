//! A whole cluster converges, whatever the network does to it: many seeds, each of which reproduces.

// All of this file is test code, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a cluster that does not converge fails the test")]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use e2e::simulation::{Config, Faults, Simulation};
use futures::future::join_all;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::Pod,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::wait::await_condition,
};
use kubelet::runtime::{api::ContainerConfig, fake::Play};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

const SEEDS: u64 = 50;
/// In the clock of the simulation.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Containers of image `job:1` end well after five seconds, all others run until they are stopped.
fn play(container: &ContainerConfig) -> Play {
    match container.image.as_ref().is_some_and(|image| image.image.ends_with("job:1")) {
        true => Play::Exit { after: Duration::from_secs(5), code: 0 },
        false => Play::Forever { shutdown: Duration::from_secs(1) },
    }
}

trait Object:
    kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
    + Serialize
    + DeserializeOwned
    + Clone
    + std::fmt::Debug
    + Send
    + 'static
{
}

impl Object for Deployment {}
impl Object for Job {}
impl Object for Pod {}
impl Object for StatefulSet {}

fn api<K: Object>(client: &Client) -> Api<K> {
    Api::namespaced(client.clone(), "default")
}

async fn create<K: Object>(client: &Client, object: Value) {
    let object: K = serde_json::from_value(object).unwrap();
    api(client).create(&PostParams::default(), &object).await.unwrap();
}

/// Waits until an object is as wanted.
async fn until<K: Object>(client: &Client, name: &str, wanted: impl Fn(&K) -> bool + Send) {
    let done = await_condition(api::<K>(client), name, |object: Option<&K>| object.is_some_and(&wanted));
    let waited = tokio::time::timeout(PATIENCE, done).await;
    if waited.is_err() {
        let last = serde_json::to_value(api::<K>(client).get(name).await.unwrap()).unwrap();
        let pods = api::<Pod>(client).list(&ListParams::default()).await.unwrap();
        let told = pods.iter().map(|pod| format!("{} {}", pod.name_any(), json!(pod.status)));
        panic!("{name} stays {}\n{}", last["status"], told.collect::<Vec<_>>().join("\n"));
    }
    waited.unwrap().unwrap();
}

fn template(app: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}},
        "spec": {"terminationGracePeriodSeconds": 5, "containers": [{"name": "c", "image": image}]}})
}

async fn pods(client: &Client, app: &str) -> Vec<Pod> {
    api(client).list(&ListParams::default().labels(&format!("app={app}"))).await.unwrap().items
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// A rollout keeps its promises: never more pods than the surge allows, never fewer ready ones than it may do without.
async fn deployment(client: Client) {
    let object = |image: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 5, "selector": {"matchLabels": {"app": "web"}}, "template": template("web", image),
                "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}}})
    };
    create::<Deployment>(&client, object("web:1")).await;
    let settled = |d: &Deployment| {
        let status = d.status.clone().unwrap_or_default();
        status.observed_generation == d.metadata.generation
            && [status.replicas, status.updated_replicas, status.available_replicas] == [Some(5); 3]
    };
    until(&client, "web", settled).await;
    let change = Patch::Merge(json!({"spec": {"template": template("web", "web:2")}}));
    api::<Deployment>(&client).patch("web", &PatchParams::default(), &change).await.unwrap();
    let watched = async {
        loop {
            let pods = pods(&client, "web").await;
            let alive: Vec<_> = pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none()).collect();
            assert!(alive.len() <= 6, "{} pods", alive.len());
            let ready = alive.iter().filter(|pod| is_ready(pod)).count();
            assert!(ready >= 4, "only {ready} pods are ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        biased;
        () = until(&client, "web", settled) => {}
        () = watched => {}
    }
    let images: BTreeSet<_> = pods(&client, "web")
        .await
        .iter()
        .filter(|p| p.metadata.deletion_timestamp.is_none())
        .map(|p| p.spec.as_ref().unwrap().containers[0].image.clone())
        .collect();
    assert_eq!(images, BTreeSet::from([Some("web:2".to_owned())]));
}

/// A job's pods succeed as often as it asks for, and no more.
async fn job(client: Client) {
    let mut template = template("sum", "job:1");
    template["spec"]["restartPolicy"] = "Never".into();
    let spec = json!({"completions": 6, "parallelism": 3, "template": template});
    create::<Job>(&client, json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "sum"}, "spec": spec}))
        .await;
    let complete = |job: &Job| {
        let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        conditions.iter().any(|c| c.type_ == "Complete" && c.status == "True")
    };
    until(&client, "sum", complete).await;
    let job: Job = api(&client).get("sum").await.unwrap();
    assert_eq!(job.status.unwrap().succeeded, Some(6));
    assert_eq!(pods(&client, "sum").await.len(), 6);
}

/// Pods of a set have their names, one after the other, and lose them from the end.
async fn stateful_set(client: Client) {
    let spec = json!({"replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
        "template": template("db", "db:1")});
    create::<StatefulSet>(
        &client,
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": spec}),
    )
    .await;
    let ready = |count: i32| {
        move |set: &StatefulSet| {
            let status = set.status.clone().unwrap_or_default();
            status.replicas == count && status.ready_replicas.unwrap_or_default() == count
        }
    };
    until(&client, "db", ready(3)).await;
    let first: Pod = api(&client).get("db-1").await.unwrap();
    api::<Pod>(&client).delete("db-1", &DeleteParams::default()).await.unwrap();
    until(&client, "db-1", |pod: &Pod| pod.uid() != first.uid() && is_ready(pod)).await;
    until(&client, "db", ready(3)).await;
    let scale = Patch::Merge(json!({"spec": {"replicas": 1}}));
    api::<StatefulSet>(&client).patch_scale("db", &PatchParams::default(), &scale).await.unwrap();
    until(&client, "db", ready(1)).await;
    let names: Vec<_> = pods(&client, "db")
        .await
        .iter()
        .filter(|p| p.metadata.deletion_timestamp.is_none())
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(names, ["db-0"]);
}

/// What ran on a node that is lost runs elsewhere before long.
async fn node_loss(simulation: &mut Simulation, client: &Client) {
    let lost = pods(client, "web").await.iter().find_map(|p| p.spec.as_ref()?.node_name.clone()).unwrap();
    simulation.lose(&lost).await;
    let moved = async {
        loop {
            let pods = pods(client, "web").await;
            let elsewhere = |p: &&Pod| p.spec.as_ref().unwrap().node_name.as_deref() != Some(&lost);
            if pods.iter().filter(elsewhere).filter(|pod| is_ready(pod)).count() == 5 {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, moved).await.unwrap();
}

async fn scenario(seed: u64, token_key: &str) -> String {
    let config =
        Config { seed, token_key: token_key.to_owned(), nodes: 3, faults: Faults::default(), script: Arc::new(play) };
    let mut simulation = Simulation::start(&config).await.unwrap();
    let client = simulation.admin();
    let parts: [futures::future::BoxFuture<'_, ()>; 3] =
        [Box::pin(deployment(client.clone())), Box::pin(job(client.clone())), Box::pin(stateful_set(client.clone()))];
    join_all(parts).await;
    node_loss(&mut simulation, &client).await;
    let history = simulation.history().await.unwrap();
    simulation.stop().await;
    history
}

/// One seed in a thread of its own, whose clock only moves when nothing else does.
fn simulate(seed: u64, token_key: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(scenario(seed, token_key))
}

fn token_key() -> String {
    rcgen::KeyPair::generate().unwrap().serialize_pem()
}

/// `KEELSON_SEED=17` runs one seed alone, to look at a failure.
#[test]
fn a_cluster_converges_whatever_the_network_does() {
    let key = token_key();
    let one: Option<u64> = std::env::var("KEELSON_SEED").ok().map(|seed| seed.parse().unwrap());
    let seeds = one.map_or(0..SEEDS, |seed| seed..seed + 1);
    let seeds = std::sync::Mutex::new(seeds);
    let failed: Vec<_> = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (seeds, key) = (&seeds, &key);
        let work = move || {
            let next = || seeds.lock().unwrap().next();
            std::iter::from_fn(next).filter(|seed| std::panic::catch_unwind(|| simulate(*seed, key)).is_err()).collect()
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| -> Vec<u64> { worker.join().unwrap() }).collect()
    });
    assert!(failed.is_empty(), "these seeds did not converge: {failed:?}; KEELSON_SEED runs one of them");
}

#[test]
fn a_seed_reproduces() {
    let key = token_key();
    assert_eq!(simulate(7, &key), simulate(7, &key));
}
