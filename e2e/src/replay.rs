//! Replays recorded requests and compares the answers with those that a stock v1.36.3 apiserver gave.
//!
//! `replay/cases/*.http` are the requests, `replay/expected/*.json` the recorded answers. Every file runs in a namespace
//! of its own. A case begins with `### name`, then directives, the request line, headers, an empty line and the body:
//!
//! - `# @as alice group,group` impersonates, `# @anonymous` sends no client certificate;
//! - `# @capture rv .metadata.resourceVersion` keeps a value for later cases of the file: `{{rv}}`;
//! - `# @fill big 3200000 x` makes `{{big}}` a long text;
//! - `# @repeat 3` sends it again, `# @retry 5 .path [value]` until the path holds a (that) value, `# @wait 0.5` first;
//! - `# @watch W` starts a watch, `# @events W 3` waits for its events and compares them;
//! - `# @text`, `# @ignore PATH`, `# @head N PATH`, `# @sorted PATH`, `# @only PATH` say what is compared.
//!
//! What differs from run to run (uids, revisions, times, tokens, allocated addresses) is replaced on both sides.

use std::{
    collections::HashMap,
    fs, io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioExecutor;
use kube::{
    client::{Body, ConfigExt},
    config::{KubeConfigOptions, Kubeconfig},
};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tower::ServiceBuilder;

mod compare;
mod normal;
mod parse;

pub use compare::differences;
pub use normal::normal;
pub use parse::{Case, parse};

/// How long a case with `@retry` may take to be answered as expected, and the time between two requests of it.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
const HEADERS: [&str; 4] = ["content-type", "warning", "allow", "www-authenticate"];

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("{request}: {why}")]
    Request { request: String, why: String },
    #[error("{file}: {why}")]
    File { file: String, why: String },
}

/// The server under test: a client with the administrator's certificate, and one without.
#[derive(Clone)]
pub struct Server {
    pub admin: kube::Client,
    pub anonymous: kube::Client,
}

/// How a case differs from its recording; empty if it does not.
pub struct Outcome {
    pub name: String,
    pub differences: Vec<String>,
}

/// An answer as it is compared: status, headers, body.
pub type Answer = Value;

impl Server {
    /// The server that a kubeconfig is for; its certificate is the administrator's.
    pub async fn open(kubeconfig: &Path) -> Result<Self, ReplayError> {
        let wrong = |why: String| ReplayError::File { file: kubeconfig.display().to_string(), why };
        let mut given = Kubeconfig::read_from(kubeconfig).map_err(|e| wrong(e.to_string()))?;
        let client = async |given: Kubeconfig| {
            let config = kube::Config::from_custom_kubeconfig(given, &KubeConfigOptions::default()).await;
            let config = config.map_err(|e| wrong(e.to_string()))?;
            // Not kube's own stack: it repeats requests that are answered 429.
            let connector = config.rustls_https_connector().map_err(|e| wrong(e.to_string()))?;
            let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
            Ok(kube::Client::new(ServiceBuilder::new().layer(config.base_uri_layer()).service(http), "default"))
        };
        let admin = client(given.clone()).await?;
        for user in &mut given.auth_infos {
            user.auth_info = None;
        }
        Ok(Self { admin, anonymous: client(given).await? })
    }

    /// What the administrator gets from a path.
    pub async fn get(&self, path: &str) -> Result<Value, ReplayError> {
        let (_, _, text) = send(&self.admin, "GET", path, &[], String::new()).await?;
        Ok(parse_body(text))
    }
}

/// The files of a folder of cases: those named, or all in order.
pub fn files(folder: &Path, named: Vec<String>) -> Result<Vec<String>, ReplayError> {
    if !named.is_empty() {
        return Ok(named);
    }
    let wrong = |error: io::Error| ReplayError::File { file: folder.display().to_string(), why: error.to_string() };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(wrong)? {
        files.extend(entry.map_err(wrong)?.path().file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    files.sort();
    Ok(files)
}

/// Runs one file's cases against `server`, in order.
pub async fn run(server: &Server, stem: &str, cases: &[Case], expected: &[Value]) -> Result<Vec<Outcome>, ReplayError> {
    let wants: HashMap<&str, &Value> = expected.iter().filter_map(|w| Some((w["case"].as_str()?, w))).collect();
    let mut session = Session::new(server, stem).await?;
    let mut outcomes = Vec::new();
    for case in cases {
        let mut want = wants.get(case.name.as_str()).map_or_else(|| json!({"status": "never recorded"}), |w| normal(w));
        if let Some(want) = want.as_object_mut() {
            want.remove("case");
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = match session.run(case).await {
                Ok(None) => break,
                Ok(Some(answer)) => answer,
                Err(e) => json!({"status": 0, "headers": {}, "body": e.to_string()}),
            };
            let differences = differences(&want, &compare::clean(case, answer));
            // What comes about in time may be seen a moment too early.
            if case.has("retry") && !differences.is_empty() && Instant::now() < end {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            outcomes.push(Outcome { name: case.name.clone(), differences });
            break;
        }
    }
    Ok(outcomes)
}

async fn prepare(server: &Server, namespace: &str) -> Result<(), ReplayError> {
    let objects = [
        ("/api/v1/namespaces".to_owned(), "Namespace", namespace),
        (format!("/api/v1/namespaces/{namespace}/serviceaccounts"), "ServiceAccount", "default"),
    ];
    for (path, kind, name) in objects {
        let body = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}).to_string();
        let (status, _, text) =
            send(&server.admin, "POST", &path, &[("Content-Type".into(), "application/json".into())], body).await?;
        if !matches!(status, StatusCode::CREATED | StatusCode::CONFLICT) {
            return Err(ReplayError::Request { request: format!("POST {path}"), why: format!("{status} {text}") });
        }
    }
    Ok(())
}

/// A watch that runs beside the cases; its lines are collected as they come.
struct Watch {
    status: StatusCode,
    lines: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One file's way through its cases: what it has captured, and the watches that run beside it.
pub struct Session<'a> {
    server: &'a Server,
    variables: HashMap<String, String>,
    watches: HashMap<String, Watch>,
}

impl<'a> Session<'a> {
    /// In the file's own namespace, which is made.
    pub async fn new(server: &'a Server, stem: &str) -> Result<Self, ReplayError> {
        let namespace = format!("replay-{stem}");
        prepare(server, &namespace).await?;
        Ok(Self { server, variables: HashMap::from([("ns".to_owned(), namespace)]), watches: HashMap::new() })
    }

    /// Sends a case; `None` for one that only starts a watch.
    pub async fn run(&mut self, case: &Case) -> Result<Option<Answer>, ReplayError> {
        for fill in case.all("fill") {
            let mut words = fill.splitn(3, ' ');
            let (name, count) = (words.next().unwrap_or(""), words.next().and_then(|n| n.parse().ok()).unwrap_or(0));
            self.variables.insert(name.to_owned(), words.next().unwrap_or("x").repeat(count));
        }
        for seconds in case.all("wait") {
            tokio::time::sleep(Duration::from_secs_f64(seconds.parse().unwrap_or(0.0))).await;
        }
        if let Some(events) = case.first("events") {
            return Ok(Some(self.events(events).await));
        }
        let (path, body) = (self.substitute(&case.path), self.substitute(&case.body));
        let headers = self.headers(case);
        if let Some(name) = case.first("watch") {
            let watch = self.watch(&case.method, &path, &headers).await?;
            self.watches.insert(name.to_owned(), watch);
            return Ok(None);
        }
        let client = if case.has("anonymous") { &self.server.anonymous } else { &self.server.admin };
        let mut repeat: u32 = case.first("repeat").and_then(|n| n.parse().ok()).unwrap_or(1);
        let retry = case.first("retry").map(Retry::parse);
        loop {
            let (status, headers, text) = send(client, &case.method, &path, &headers, body.clone()).await?;
            let body = if case.has("text") { Value::String(text) } else { parse_body(text) };
            repeat = repeat.saturating_sub(1);
            let done = match &retry {
                Some(retry) => retry.is_over(&body),
                None => repeat == 0,
            };
            if !done {
                tokio::time::sleep(if retry.is_some() { PAUSE } else { Duration::ZERO }).await;
                continue;
            }
            for capture in case.all("capture") {
                let (name, path) = capture.split_once(' ').unwrap_or((capture, ""));
                let value = compare::at(&body, path.trim());
                self.variables.insert(name.to_owned(), value.map(plain).unwrap_or_default());
            }
            return Ok(Some(json!({"status": status.as_u16(), "headers": headers, "body": body})));
        }
    }

    fn substitute(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("{{") {
            let Some(length) = rest[start..].find("}}") else { break };
            let name = &rest[start + 2..start + length];
            out.push_str(&rest[..start]);
            match self.variables.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&rest[start..start + length + 2]),
            }
            rest = &rest[start + length + 2..];
        }
        out + rest
    }

    fn headers(&self, case: &Case) -> Vec<(String, String)> {
        let mut headers = vec![("Accept".to_owned(), "application/json".to_owned())];
        if !case.body.is_empty() {
            headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        }
        for (name, value) in &case.headers {
            headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
            headers.push((name.clone(), self.substitute(value)));
        }
        if let Some(who) = case.first("as") {
            let (user, group) = who.split_once(' ').unwrap_or((who, ""));
            headers.push(("Impersonate-User".to_owned(), user.to_owned()));
            if !group.trim().is_empty() {
                headers.push(("Impersonate-Group".to_owned(), group.trim().to_owned()));
            }
        }
        headers
    }

    async fn watch(&self, method: &str, path: &str, headers: &[(String, String)]) -> Result<Watch, ReplayError> {
        let response = open(&self.server.admin, method, path, headers, String::new()).await?;
        let status = response.status();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let mut body = response.into_body().into_data_stream();
        let task = tokio::spawn(async move {
            let mut pending = Vec::new();
            while let Some(Ok(chunk)) = body.next().await {
                pending.extend_from_slice(&chunk);
                while let Some(end) = pending.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    sink.lock().push(String::from_utf8_lossy(&line).into_owned());
                }
            }
        });
        Ok(Watch { status, lines, task })
    }

    /// Waits until the watch has seen enough; bookmarks do not count, but the one that ends the initial events does.
    async fn events(&self, directive: &str) -> Answer {
        let (name, count) = directive.split_once(' ').unwrap_or((directive, "0"));
        let count: usize = count.trim().parse().unwrap_or(0);
        let Some(watch) = self.watches.get(name) else {
            return json!({"status": 0, "headers": {}, "body": format!("no watch {name}")});
        };
        let counts = |line: &&String| {
            line.contains("initial-events-end")
                || !(line.contains("\"type\":\"BOOKMARK\"") || line.contains("\"type\": \"BOOKMARK\""))
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while watch.lines.lock().iter().filter(counts).count() < count && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // One event more than was asked for is a difference, too.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let events: Vec<Value> =
            watch.lines.lock().iter().filter(counts).map(|line| parse_body(line.clone())).collect();
        json!({"status": watch.status.as_u16(), "headers": {}, "body": events})
    }
}

struct Retry {
    deadline: Instant,
    path: String,
    value: Option<String>,
}

impl Retry {
    fn parse(directive: &str) -> Self {
        let mut words = directive.splitn(3, ' ');
        let seconds: f64 = words.next().and_then(|s| s.parse().ok()).unwrap_or(0.0);
        Self {
            deadline: Instant::now() + Duration::from_secs_f64(seconds),
            path: words.next().unwrap_or("").to_owned(),
            value: words.next().filter(|v| !v.is_empty()).map(str::to_owned),
        }
    }

    fn is_over(&self, body: &Value) -> bool {
        let found = compare::at(body, &self.path);
        let met = match &self.value {
            Some(value) => found.map(plain).as_ref() == Some(value),
            None => found.is_some(),
        };
        met || Instant::now() > self.deadline
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn parse_body(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

async fn open(
    client: &kube::Client,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: String,
) -> Result<http::Response<Body>, ReplayError> {
    let failed = |why: String| ReplayError::Request { request: format!("{method} {path}"), why };
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Body::from(body.into_bytes())).map_err(|e| failed(e.to_string()))?;
    client.send(request).await.map_err(|e| failed(e.to_string()))
}

async fn send(
    client: &kube::Client,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: String,
) -> Result<(StatusCode, Map<String, Value>, String), ReplayError> {
    let response = open(client, method, path, headers, body).await?;
    let status = response.status();
    let mut kept = Map::new();
    for name in HEADERS {
        let values: Vec<_> = response.headers().get_all(name).iter().filter_map(|v| v.to_str().ok()).collect();
        if !values.is_empty() {
            kept.insert(name.to_owned(), values.join(", ").into());
        }
    }
    let bytes = tokio::time::timeout(Duration::from_secs(30), response.into_body().collect()).await;
    let failed = |why: String| ReplayError::Request { request: format!("{method} {path}"), why };
    let bytes = bytes
        .map_err(|_| failed("no end of the body after 30 s".into()))?
        .map_err(|e| failed(e.to_string()))?
        .to_bytes();
    Ok((status, kept, text(&bytes)))
}

/// Bytes as the recordings have them: what is no UTF-8 is escaped.
fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    out
}
