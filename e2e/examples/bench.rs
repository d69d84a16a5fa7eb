//! Measures an API server: the CPU time that its processes spend on an operation, and how fast it answers.
//!
//! It knows nothing of the server: the same requests go to Keelson and to any other. CPU time hardly depends on what
//! else the machine does; compare it between servers that were measured in one run on one machine.

use std::{
    error::Error,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use futures::future::{join_all, try_join_all};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    client::ConfigExt,
    config::{KubeConfigOptions, Kubeconfig},
};

type Failure = Box<dyn Error + Send + Sync>;
type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

const CONNECTIONS: usize = 16;
const OBJECTS: usize = 256;
const BASE: &str = "/api/v1/namespaces/bench";
/// Watches are given so long for the last event.
const WATCH_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Parser)]
#[command(about = "Measures an API server")]
struct Arguments {
    /// Of an administrator.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// The processes of the server, whose CPU time is counted.
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
    /// What is measured, in this order.
    #[arg(long, value_delimiter = ',', default_value = "create,get,update,apply,watch,burst,list")]
    run: Vec<String>,
    /// How long each is measured.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    #[arg(long, default_value_t = 64)]
    clients: usize,
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    #[arg(long, default_value_t = 1000)]
    watches: usize,
    #[arg(long, default_value_t = 100)]
    events: usize,
}

struct Bench {
    arguments: Arguments,
    server: String,
    pool: Vec<Http>,
}

/// What an operation costs.
struct Cost {
    count: usize,
    failures: usize,
    cpu: Duration,
    elapsed: Duration,
    latencies: Vec<Duration>,
}

impl Cost {
    fn tell(mut self, what: &str) {
        self.latencies.sort_unstable();
        let at = |part: f64| {
            let index = (self.latencies.len().saturating_sub(1) as f64 * part) as usize;
            self.latencies.get(index).copied().unwrap_or_default().as_secs_f64() * 1e3
        };
        println!(
            "{what:24} {:9.1} µs CPU  {:9.1}/s  p50 {:8.2} ms  p99 {:8.2} ms  {} failed",
            self.cpu.as_secs_f64() * 1e6 / self.count.max(1) as f64,
            self.count as f64 / self.elapsed.as_secs_f64(),
            at(0.5),
            at(0.99),
            self.failures,
        );
    }
}

impl Bench {
    async fn new(arguments: Arguments) -> Result<Self, Failure> {
        let kubeconfig = Kubeconfig::read_from(&arguments.kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = || -> Result<Http, Failure> {
            let tls = HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?);
            Ok(Client::builder(TokioExecutor::new()).http2_only(true).build(tls.https_only().enable_http2().build()))
        };
        let pool = (0..CONNECTIONS).map(|_| client()).collect::<Result<_, _>>()?;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        Ok(Self { arguments, server, pool })
    }

    fn request(&self, method: Method, path: &str, kind: &str, body: String) -> Result<Request<Full<Bytes>>, Failure> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.server));
        let request = request.header(header::ACCEPT, "application/json").header(header::CONTENT_TYPE, kind);
        Ok(request.body(Full::new(Bytes::from(body)))?)
    }

    async fn send(&self, client: usize, method: Method, path: &str, body: String) -> Result<StatusCode, Failure> {
        let kind = if method == Method::PATCH { "application/apply-patch+yaml" } else { "application/json" };
        let request = self.request(method, path, kind, body)?;
        let answer = self.pool[client % CONNECTIONS].request(request).await?;
        let code = answer.status();
        answer.into_body().collect().await?;
        Ok(code)
    }

    /// The CPU time that the server has used so far.
    fn cpu(&self) -> Duration {
        e2e::cpu::used(&self.arguments.pids)
    }

    /// Runs operations from all clients for the configured time.
    async fn timed<F>(&self, clients: usize, operation: impl Fn(usize, usize) -> F) -> Cost
    where
        F: Future<Output = Result<StatusCode, Failure>>,
    {
        let (begun, cpu) = (Instant::now(), self.cpu());
        let end = begun + Duration::from_secs(self.arguments.seconds);
        let client = async |client: usize| {
            let (mut latencies, mut failures) = (Vec::new(), 0);
            for turn in 0.. {
                let sent = Instant::now();
                if sent >= end {
                    break;
                }
                match operation(client, turn).await {
                    Ok(code) if code.is_success() => latencies.push(sent.elapsed()),
                    _ => failures += 1,
                }
            }
            (latencies, failures)
        };
        let done = join_all((0..clients).map(client)).await;
        let failures = done.iter().map(|(_, failures)| failures).sum();
        let latencies: Vec<_> = done.into_iter().flat_map(|(latencies, _)| latencies).collect();
        Cost { count: latencies.len(), failures, cpu: self.cpu() - cpu, elapsed: begun.elapsed(), latencies }
    }

    /// Creates many objects as fast as the clients can.
    async fn load(&self, count: usize, path: &str, object: impl Fn(usize) -> String) -> Result<(), Failure> {
        let (next, path, object) = (AtomicU64::new(0), path, &object);
        let client = async |client: usize| -> Result<(), Failure> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed) as usize;
                if number >= count {
                    return Ok(());
                }
                let code = self.send(client, Method::POST, path, object(number)).await?;
                if !code.is_success() && code != StatusCode::CONFLICT {
                    return Err(format!("POST {path} was answered {code}").into());
                }
            }
        };
        try_join_all((0..self.arguments.clients).map(client)).await.map(drop)
    }

    async fn run(self: &Arc<Self>) -> Result<(), Failure> {
        self.send(0, Method::POST, "/api/v1/namespaces", named("Namespace", "bench")).await?;
        // No controller makes the account that pods need.
        let account = named("ServiceAccount", "default");
        self.send(0, Method::POST, &format!("{BASE}/serviceaccounts"), account).await?;
        let maps = format!("{BASE}/configmaps");
        let mark = std::process::id();
        let clients = self.arguments.clients;
        self.load(OBJECTS, &maps, |number| map(&format!("m-{number}"), "", 1024)).await?;
        for what in &self.arguments.run {
            match what.as_str() {
                "create" => {
                    let create = |client, turn| {
                        let object = map(&format!("c-{mark}-{client}-{turn}"), "", 1024);
                        self.send(client, Method::POST, &maps, object)
                    };
                    self.timed(clients, create).await.tell("create 1 KB ConfigMap");
                }
                "get" => {
                    let get = async |client: usize, turn: usize| {
                        let path = format!("{maps}/m-{}", (client * 7 + turn) % OBJECTS);
                        self.send(client, Method::GET, &path, String::new()).await
                    };
                    self.timed(clients, get).await.tell("get");
                }
                "update" => {
                    let update = async |client: usize, turn: usize| {
                        let name = format!("m-{client}");
                        let object = map(&name, "", 1024 - turn % 7);
                        self.send(client, Method::PUT, &format!("{maps}/{name}"), object).await
                    };
                    self.timed(clients, update).await.tell("update");
                }
                "apply" => {
                    let apply = async |client: usize, turn: usize| {
                        let path = format!("{maps}/a-{client}?fieldManager=bench&force=true");
                        let object = format!(
                            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a-{client}"}},"data":{{"k":"{turn}"}}}}"#
                        );
                        self.send(client, Method::PATCH, &path, object).await
                    };
                    self.timed(clients, apply).await.tell("server-side apply");
                }
                "watch" => self.watch(&format!("w{mark}"), Duration::from_millis(20)).await?,
                "burst" => self.watch(&format!("b{mark}"), Duration::ZERO).await?,
                "list" => self.list().await?,
                other => return Err(format!("there is no measurement called {other}").into()),
            }
        }
        Ok(())
    }

    async fn list(&self) -> Result<(), Failure> {
        let pods = format!("{BASE}/pods");
        let count = self.arguments.pods;
        self.load(count, &pods, |number| pod(&format!("p-{number}"))).await?;
        for (what, query) in
            [("list", ""), ("list, resourceVersion=0", "?resourceVersion=0"), ("page of 500", "?limit=500")]
        {
            let list = async |client, _| self.send(client, Method::GET, &format!("{pods}{query}"), String::new()).await;
            self.timed(2, list).await.tell(&format!("{what} of {count} pods"));
        }
        Ok(())
    }

    /// Many watchers of one set of objects; how much one event for one of them costs.
    async fn watch(self: &Arc<Self>, mark: &str, pace: Duration) -> Result<(), Failure> {
        let (watches, events) = (self.arguments.watches, self.arguments.events);
        let path = format!("{BASE}/configmaps?watch=1&resourceVersion=0&labelSelector=watch%3D{mark}");
        let seen = Arc::new(AtomicU64::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for watch in 0..watches {
            let request = self.request(Method::GET, &path, "application/json", String::new())?;
            let mut body = self.pool[watch % CONNECTIONS].request(request).await?.into_body();
            let seen = seen.clone();
            tasks.spawn(async move {
                while let Some(Ok(frame)) = body.frame().await {
                    let lines = frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
                    seen.fetch_add(lines as u64, Ordering::Relaxed);
                }
            });
        }
        let (begun, cpu, wanted) = (Instant::now(), self.cpu(), (watches * events) as u64);
        let maps = format!("{BASE}/configmaps");
        if pace.is_zero() {
            self.load(events, &maps, |number| map(&format!("{mark}-{number}"), mark, 512)).await?;
        } else {
            for number in 0..events {
                self.send(number, Method::POST, &maps, map(&format!("{mark}-{number}"), mark, 512)).await?;
                tokio::time::sleep(pace).await;
            }
        }
        while seen.load(Ordering::Relaxed) < wanted && begun.elapsed() < WATCH_PATIENCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let elapsed = begun.elapsed();
        let mut cut = 0;
        while tasks.try_join_next().is_some() {
            cut += 1;
        }
        let seen = seen.load(Ordering::Relaxed);
        println!(
            "{:24} {:9.1} µs CPU  {:9.1}/s  {seen} of {wanted} events, {cut} of {watches} watches cut off",
            if pace.is_zero() { "a burst to 1 watcher" } else { "an event to 1 watcher" },
            (self.cpu() - cpu).as_secs_f64() * 1e6 / seen.max(1) as f64,
            seen as f64 / elapsed.as_secs_f64(),
        );
        Ok(())
    }
}

fn named(kind: &str, name: &str) -> String {
    format!(r#"{{"apiVersion":"v1","kind":"{kind}","metadata":{{"name":"{name}"}}}}"#)
}

fn map(name: &str, mark: &str, size: usize) -> String {
    let data = "x".repeat(size);
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"app":"bench","watch":"{mark}"}}}},"data":{{"k":"{data}"}}}}"#
    )
}

fn pod(name: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","labels":{{"app":"bench","color":"blue"}}}},"spec":{{"containers":[{{"name":"c","image":"pause:1","resources":{{"requests":{{"cpu":"100m","memory":"500Mi"}}}},"ports":[{{"containerPort":80}}],"env":[{{"name":"A","value":"b"}}]}}]}}}}"#
    )
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    Arc::new(Bench::new(Arguments::parse()).await?).run().await
}
