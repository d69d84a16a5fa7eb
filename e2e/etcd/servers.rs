//! Two API servers as two processes over one etcd, which only talks TLS: they are one cluster, and either goes on alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use futures::{StreamExt, future, stream::BoxStream};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::timeout;

use self::{certificates::Certificates, server::Etcd};

#[path = "../../apiserver/store/tests/etcd/certificates.rs"]
mod certificates;
#[path = "../../apiserver/store/tests/etcd/server.rs"]
mod server;

const PATIENCE: Duration = Duration::from_secs(120);
const NAMESPACE: &str = "default";

/// A `keelson apiserver` in a process of its own.
struct Server {
    process: Child,
    directory: TempDir,
    client: Client,
}

impl Server {
    async fn start(etcd: &[String]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), etcd).await
    }

    async fn start_in(directory: TempDir, etcd: &[String]) -> Self {
        let kubeconfig = directory.path().join("admin.kubeconfig");
        // One that an earlier start has left tells of another port.
        drop(std::fs::remove_file(&kubeconfig));
        let log = File::options().create(true).append(true).open(directory.path().join("log")).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_keelson"))
            .args(["apiserver", "--bind-address=127.0.0.1", "--secure-port=0"])
            .arg(format!("--data-dir={}", directory.path().display()))
            .args(etcd)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let ready = timeout(PATIENCE, ready(&kubeconfig, &mut process)).await.ok().flatten();
        let Some(client) = ready else {
            drop(process.kill());
            panic!("{}", std::fs::read_to_string(directory.path().join("log")).unwrap());
        };
        Self { process, directory, client }
    }

    /// Ends it as it is asked to in production; gives what it leaves behind.
    fn stop(mut self) -> TempDir {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        assert!(self.process.wait().unwrap().success());
        std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap())
    }

    fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    fn services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn watch(&self) -> BoxStream<'static, kube::Result<WatchEvent<ConfigMap>>> {
        let maps = self.config_maps();
        let start = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
        maps.watch(&WatchParams::default(), &start).await.unwrap().boxed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A client, once the server is ready; none if it has ended.
async fn ready(kubeconfig: &Path, process: &mut Child) -> Option<Client> {
    loop {
        if process.try_wait().unwrap().is_some() {
            return None;
        }
        if let Some(client) = client(kubeconfig).await
            && client.request_text(http::Request::get("/readyz").body(Vec::new()).unwrap()).await.is_ok()
        {
            return Some(client);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn client(kubeconfig: &Path) -> Option<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).ok()?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.ok()?;
    Client::try_from(config).ok()
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

/// A Service of this type; a node port that is not given is chosen.
fn service(name: &str, node_port: Option<i32>) -> Service {
    let port = json!({"port": 80, "nodePort": node_port});
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [port]}})).unwrap()
}

fn code<T: std::fmt::Debug>(answer: kube::Result<T>) -> u16 {
    match answer.unwrap_err() {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    }
}

async fn added(watch: &mut BoxStream<'static, kube::Result<WatchEvent<ConfigMap>>>, name: &str) {
    let next = async {
        loop {
            match watch.next().await.expect("the watch goes on").unwrap() {
                WatchEvent::Added(map) if map.metadata.name.as_deref() == Some(name) => return,
                WatchEvent::Error(status) => panic!("{status:?}"),
                _ => {}
            }
        }
    };
    timeout(PATIENCE, next).await.expect("an event in time");
}

fn flags(certificates: &Certificates, etcd: &Etcd) -> Vec<String> {
    let file = |flag: &str, path: PathBuf| format!("--etcd-{flag}={}", path.display());
    // The first endpoint does not answer.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    vec![
        format!("--etcd-servers=https://{free},{}", etcd.urls().join(",")),
        file("cafile", certificates.authority()),
        file("certfile", certificates.certificate()),
        file("keyfile", certificates.key()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_are_one_cluster() {
    let certificates = Certificates::make();
    let etcd = Etcd::with_members(1, &certificates.arguments());
    let flags = flags(&certificates, &etcd);
    let (one, two) = future::join(Server::start(&flags), Server::start(&flags)).await;

    what_one_writes_the_other_shows(&one, &two).await;
    nobody_overwrites_what_he_has_not_seen(&one, &two).await;
    ports_and_addresses_are_given_once(&one, &two).await;

    let mut watch = two.watch().await;
    let left = one.stop();
    two.config_maps().create(&PostParams::default(), &config_map("alone")).await.unwrap();
    added(&mut watch, "alone").await;
    let again = Server::start_in(left, &flags).await;
    again.config_maps().get("alone").await.unwrap();
    again.config_maps().create(&PostParams::default(), &config_map("together")).await.unwrap();
    added(&mut watch, "together").await;
}

async fn what_one_writes_the_other_shows(one: &Server, two: &Server) {
    let mut watch = two.watch().await;
    let (here, there) = (one.config_maps(), two.config_maps());
    for number in 0..20 {
        let name = format!("map-{number}");
        here.create(&PostParams::default(), &config_map(&name)).await.unwrap();
        // Reads without a resourceVersion are as new as the last write, wherever that was.
        there.get(&name).await.unwrap();
        let listed = there.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await.unwrap();
        assert_eq!(listed.items.len(), 1, "{name}");
        added(&mut watch, &name).await;
    }
}

async fn nobody_overwrites_what_he_has_not_seen(one: &Server, two: &Server) {
    let (here, there) = (one.config_maps(), two.config_maps());
    let seen = there.get("map-0").await.unwrap();
    let patch = |key: String| Patch::Merge(json!({"data": {key: "x"}}));
    here.patch("map-0", &PatchParams::default(), &patch("first".to_owned())).await.unwrap();
    assert_eq!(code(there.replace("map-0", &PostParams::default(), &seen).await), 409);
    // Of changes that do not say what they have seen, none is lost.
    let writes = (0..20).map(|number| {
        let api = if number % 2 == 0 { &here } else { &there };
        async move { api.patch("map-0", &PatchParams::default(), &patch(format!("key-{number}"))).await.unwrap() }
    });
    future::join_all(writes).await;
    assert_eq!(here.get("map-0").await.unwrap().data.unwrap().len(), 21);
}

async fn ports_and_addresses_are_given_once(one: &Server, two: &Server) {
    let (here, there) = (one.services(), two.services());
    here.create(&PostParams::default(), &service("fixed", Some(30080))).await.unwrap();
    assert_eq!(code(there.create(&PostParams::default(), &service("same", Some(30080))).await), 422);
    let creates = (0..16).map(|number| {
        let api = if number % 2 == 0 { &here } else { &there };
        async move { api.create(&PostParams::default(), &service(&format!("s-{number}"), None)).await.unwrap() }
    });
    let specs: Vec<_> = future::join_all(creates).await.into_iter().map(|made| made.spec.unwrap()).collect();
    let addresses: BTreeSet<_> = specs.iter().map(|spec| spec.cluster_ip.clone().unwrap()).collect();
    let ports: BTreeSet<_> = specs.iter().map(|spec| spec.ports.as_ref().unwrap()[0].node_port.unwrap()).collect();
    assert_eq!((addresses.len(), ports.len()), (16, 16));
    here.delete("fixed", &Default::default()).await.unwrap();
    there.create(&PostParams::default(), &service("same", Some(30080))).await.unwrap();
}
