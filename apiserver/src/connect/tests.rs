use std::{future::Future, net::SocketAddr, sync::Arc};

use http_body_util::{Full, StreamBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{ServerConfig, pki_types::CertificateDer, pki_types::pem::PemObject, server::WebPkiClientVerifier};
use serde_json::{Value, json};
use store::{MemoryStore, Op, Store, Txn};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    cache::Cache,
    pki::{Names, Pki},
    registry::Registry,
};

/// A server on a port of its own; it ends with the test.
async fn serve<F>(
    tls: Option<TlsAcceptor>,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = Response<Relay>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (tls, answer) = (tls.clone(), answer.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, std::convert::Infallible>(answer.await) }
                });
                let io: Box<dyn dial::Stream> = match tls {
                    Some(tls) => Box::new(tls.accept(stream).await.unwrap()),
                    None => Box::new(stream),
                };
                http1::Builder::new().serve_connection(TokioIo::new(io), service).with_upgrades().await.ok();
            });
        }
    });
    address
}

fn full(code: u16, text: &str) -> Response<Relay> {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

/// A kubelet: tells what it was asked, and echoes streams.
async fn kubelet(mut request: Request<Incoming>) -> Response<Relay> {
    assert!(request.headers().get(names::AUTHORIZATION).is_none());
    let asked = format!("{} {}", request.method(), request.uri());
    if request.uri().path().contains("/containerLogs/") {
        if asked.contains("refused") {
            return full(404, "no such container");
        }
        let parts = [asked, "\nsecond".to_owned()].map(|part| Ok::<_, BoxError>(http_body::Frame::data(part.into())));
        return Response::new(StreamBody::new(futures::stream::iter(parts)).boxed_unsync());
    }
    if !header::is_upgrade(request.headers()) {
        return full(400, &asked);
    }
    if asked.contains("container-refuses") {
        return full(403, &asked);
    }
    let protocol = request.headers()[names::UPGRADE].clone();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        stream.write_all(format!("{asked}\n").as_bytes()).await.unwrap();
        let mut byte = [0];
        while let Ok(1) = stream.read(&mut byte).await {
            stream.write_all(&[byte[0].to_ascii_uppercase()]).await.unwrap();
        }
    });
    let answer = Response::builder().status(101).header(names::CONNECTION, "Upgrade").header(names::UPGRADE, protocol);
    answer.body(empty()).unwrap()
}

struct Cluster {
    world: Arc<World>,
    connector: Arc<Connector>,
    store: Arc<dyn Store>,
    _keys: tempfile::TempDir,
}

impl Cluster {
    async fn new() -> Self {
        let keys = tempfile::tempdir().unwrap();
        let now = "2024-05-01T10:00:00Z".parse().unwrap();
        let pki = Pki::open(keys.path(), &Names { host: "machine".into(), ..Names::default() }, jiff::Timestamp::now());
        let pki = pki.unwrap();
        let serving = pki.kubelet_serving("n", &["127.0.0.1".into()], jiff::Timestamp::now()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pki.authority.certificate.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider.clone());
        let (certificate, key) = serving.der().unwrap();
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_client_cert_verifier(clients.build().unwrap());
        let config = config.with_single_cert(vec![certificate], key).unwrap();
        let kubelet = serve(Some(TlsAcceptor::from(Arc::new(config))), kubelet).await;

        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let cache = Cache::start(store.clone(), Vec::new()).await.unwrap();
        let world = World {
            registry: Arc::new(Registry::default()),
            cache,
            store: store.clone(),
            clock: Arc::new(move || now),
            random: Default::default(),
            converters: Default::default(),
        };
        let connector = Arc::new(Connector::new(&pki.kubelet_client, Some(roots)).unwrap());
        let cluster = Self { world: Arc::new(world), connector, store, _keys: keys };
        cluster.fill(kubelet.port()).await;
        cluster
    }

    async fn fill(&self, kubelet: u16) {
        let pod = |name: &str, containers: &[&str], node: &str, ip: &str| {
            let containers: Vec<_> =
                containers.iter().map(|name| json!({"name": name, "ports": [{"containerPort": 81}]})).collect();
            let spec = json!({"containers": containers, "nodeName": node, "initContainers": [{"name": "i"}]});
            json!({"metadata": {"name": name, "namespace": "a"}, "spec": spec, "status": {"podIPs": [{"ip": ip}]}})
        };
        for (name, value) in [
            ("pods/a/p", pod("p", &["c"], "n", "10.1.0.1")),
            ("pods/a/two", pod("two", &["c", "d"], "n", "127.0.0.1")),
            ("pods/a/pending", pod("pending", &["c"], "", "")),
            ("pods/a/lost", pod("lost", &["c"], "nowhere", "")),
            (
                "minions/n",
                json!({"metadata": {"name": "n"}, "status": {
                "addresses": [{"type": "Hostname", "address": "none.invalid"}, {"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet}}}}),
            ),
            (
                "services/specs/a/s",
                json!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "web", "port": 80}]}}),
            ),
            (
                "services/endpoints/a/s",
                json!({"metadata": {"name": "s"}, "subsets": [{
                "addresses": [{"ip": "10.1.0.9", "targetRef": {"namespace": "a", "name": "p"}}],
                "ports": [{"name": "web", "port": 80}]}]}),
            ),
            ("services/specs/a/empty", json!({"metadata": {"name": "empty"}, "spec": {"ports": [{"port": 80}]}})),
            ("services/endpoints/a/empty", json!({"metadata": {"name": "empty"}})),
        ] {
            let kind = match name.split('/').collect::<Vec<_>>().as_slice() {
                ["pods", ..] => "Pod",
                ["minions", ..] => "Node",
                ["services", "specs", ..] => "Service",
                _ => "Endpoints",
            };
            let mut object = json!({"kind": kind, "apiVersion": "v1"});
            object.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
            let op = Op::Put { key: format!("/registry/{name}"), value: Bytes::from(object.to_string()), ttl: None };
            self.store.txn(Txn { compare: Vec::new(), ops: vec![op] }).await.unwrap();
        }
    }

    async fn answer<B>(world: &World, connector: &Connector, request: Request<B>) -> Result<Response<Relay>>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let info = RequestInfo::new(request.method(), request.uri(), &query);
        connector.answer(world, &info, Some("192.0.2.9".parse().unwrap()), request).await
    }

    /// Code, and message or body.
    async fn ask(&self, method: &str, uri: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(uri).body(empty()).unwrap();
        match Self::answer(&self.world, &self.connector, request).await {
            Ok(answer) => {
                let code = answer.status().as_u16();
                let body = answer.into_body().collect().await.unwrap().to_bytes();
                (code, String::from_utf8(body.to_vec()).unwrap())
            }
            Err(error) => (error.code().as_u16(), error.message().to_owned()),
        }
    }

    /// The apiserver itself, as far as it goes here.
    async fn listen(&self) -> SocketAddr {
        let (world, connector) = (self.world.clone(), self.connector.clone());
        serve(None, move |request| {
            let (world, connector) = (world.clone(), connector.clone());
            async move {
                let answer = Self::answer(&world, &connector, request).await;
                answer.unwrap_or_else(|error| full(error.code().as_u16(), error.message()))
            }
        })
        .await
    }
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_as_upstream_does() {
    let cluster = Cluster::new().await;
    let log = "tailLines: Invalid value: -1: must be greater than or equal to 0";
    for (method, path, code, message) in [
        ("GET", "pods/pending/log", 204, ""),
        ("GET", "pods/none/log", 404, "pods \"none\" not found"),
        ("GET", "pods/pending/log?container=z", 400, "container z is not valid for pod pending"),
        ("GET", "pods/p/log?tailLines=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("GET", "pods/p/log?tailLines=-1", 422, &format!("PodLogOptions \"p\" is invalid: {log}")),
        (
            "GET",
            "pods/p/log?sinceSeconds=5&sinceTime=2024-01-01T00:00:00Z",
            422,
            "PodLogOptions \"p\" is invalid: []: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
        ("GET", "pods/lost/log", 404, "nodes \"nowhere\" not found"),
        ("GET", "pods/two/log", 400, "a container name must be specified for pod two, choose one of: [i c d]"),
        ("POST", "pods/pending/exec?command=ls", 400, "pod pending does not have a host assigned"),
        ("POST", "pods/pending/exec?container=z", 400, "container z is not valid for pod pending"),
        ("POST", "pods/pending/portforward", 400, "pod pending does not have a host assigned"),
        ("POST", "pods/p/exec?command=ls", 400, "Upgrade request required"),
        ("POST", "pods/p/exec?dryRun=All", 400, "dryRun is not supported"),
        ("GET", "pods/a:b:c:d/proxy/", 400, "invalid pod request \"a:b:c:d\""),
        ("GET", "pods/two:80/proxy/", 400, "address not allowed"),
        ("GET", "pods/none:80/proxy/", 404, "pods \"none\" not found"),
        ("GET", "services/none/proxy/", 404, "services \"none\" not found"),
        ("GET", "services/empty/proxy/", 503, "no endpoints available for service \"empty\""),
        ("GET", "services/empty:81/proxy/", 503, "no service port 81 found for service \"empty\""),
        ("GET", "services/ftp:s:80/proxy/", 400, "invalid service request \"ftp:s:80\""),
        // The pod has another address than the endpoint.
        ("GET", "services/http:s:web/proxy/", 503, "no endpoints available for service \"http:s:web\""),
        ("GET", "services/s:80/proxy/", 503, "no endpoints available for service \"s:80\""),
    ] {
        let answer = cluster.ask(method, &format!("/api/v1/namespaces/a/{path}")).await;
        assert_eq!(answer, (code, message.to_owned()), "{path}");
    }
    let (code, message) = cluster.ask("GET", "/api/v1/nodes/n:1/proxy/").await;
    assert_eq!((code, message.as_str()), (400, "address not allowed"));
}

#[tokio::test]
async fn logs_pass() {
    let cluster = Cluster::new().await;
    let log = "/api/v1/namespaces/a/pods/p/log";
    let asked = format!("{log}?follow=true&tailLines=3&sinceTime=2024-01-01T01:00:00.5%2B01:00&previous=false");
    let told = "GET /containerLogs/a/p/c?follow=true&sinceTime=2024-01-01T00%3A00%3A00Z&tailLines=3\nsecond";
    assert_eq!(cluster.ask("GET", &asked).await, (200, told.to_owned()));
    let refused = "the server could not find the requested resource ( pods/log p)";
    assert_eq!(cluster.ask("GET", &format!("{log}?container=i")).await.0, 200);
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "refused"}]}});
    let op = Op::Put { key: "/registry/pods/a/p".into(), value: Bytes::from(pod.to_string()), ttl: None };
    cluster.store.txn(Txn { compare: Vec::new(), ops: vec![op] }).await.unwrap();
    assert_eq!(cluster.ask("GET", log).await, (404, refused.to_owned()));
}

/// Sends a raw request, and gives what comes back until that text has come.
async fn converse(address: SocketAddr, request: &str, until: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(until) {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "{}", String::from_utf8_lossy(&seen));
    }
    (stream, String::from_utf8(seen).unwrap())
}

#[tokio::test]
async fn streams_pass_both_ways() {
    let cluster = Cluster::new().await;
    let address = cluster.listen().await;
    for (path, protocol, asked) in [
        (
            "exec?command=ls&command=-l%20a&stdin=true&stdout=1&tty=false",
            "SPDY/3.1",
            "POST /exec/a/p/c?command=ls&command=-l%20a&input=1&output=1\n",
        ),
        ("attach?container=i&stderr=true", "websocket", "POST /attach/a/p/i?error=1\n"),
        ("portforward?ports=80&ports=81", "SPDY/3.1", "POST /portForward/a/p?port=80%2C81\n"),
    ] {
        let request = format!(
            "POST /api/v1/namespaces/a/pods/p/{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\
             Authorization: Bearer secret\r\nContent-Length: 0\r\n\r\n"
        );
        let (mut stream, seen) = converse(address, &request, asked).await;
        assert!(seen.starts_with("HTTP/1.1 101 ") && seen.to_lowercase().contains("upgrade: "), "{seen}");
        stream.write_all(b"hello").await.unwrap();
        let mut echo = [0; 5];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"HELLO");
    }
    let refused = "POST /api/v1/namespaces/a/pods/p/exec?command=container-refuses HTTP/1.1\r\nHost: x\r\n\
                   Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n";
    let (_, seen) = converse(address, refused, "container-refuses").await;
    assert!(seen.starts_with("HTTP/1.1 403 "), "{seen}");
}

/// A server behind a proxy.
async fn site(request: Request<Incoming>) -> Response<Relay> {
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("-").to_owned();
    let headers = ["x-forwarded-for", "x-forwarded-uri", "authorization", "te", "host"].map(header);
    let told = json!({"asked": format!("{} {}", request.method(), request.uri()), "headers": headers});
    let (path, method) = (request.uri().path().to_owned(), request.method().clone());
    let sent = request.into_body().collect().await.unwrap().to_bytes();
    match path.as_str() {
        "/page" => {
            let mut page = full(200, r#"<a href="/next">x</a>"#);
            page.headers_mut().insert(names::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            page
        }
        "/away" => {
            let mut away = full(302, "");
            away.headers_mut().insert(names::LOCATION, HeaderValue::from_static("/there?x=y"));
            away
        }
        _ if method == Method::POST => full(201, std::str::from_utf8(&sent).unwrap()),
        _ => full(200, &told.to_string()),
    }
}

#[tokio::test]
async fn proxies_pass_requests_and_lead_links_back() {
    let cluster = Cluster::new().await;
    let address = serve(None, site).await;
    let base = "/api/v1/namespaces/a/pods/p:80/proxy";
    let ask = async |method: &str, below: &str, sent: &str| {
        let uri = format!("{base}{below}");
        let request = Request::builder().method(method).uri(&uri).header("authorization", "Bearer secret");
        let request =
            request.header("te", "trailers").header("host", "site").body(Full::new(Bytes::from(sent.to_owned())));
        let request = request.unwrap();
        let info = RequestInfo::new(request.method(), request.uri(), &Query::default());
        let suffix = path::below(&info, 3);
        let place = Place {
            trust: place::Trust::Plain,
            host: "127.0.0.1".into(),
            port: address.port(),
            path_and_query: path::with_query(&suffix, request.uri().query()),
        };
        let kind = forward::Kind::Proxy { suffix, base: path::base(&info, 3) };
        let hop = Hop { place, client: Some("192.0.2.9".parse().unwrap()), kind };
        let answer = hop.forward(&cluster.connector.dialer, request).await.unwrap();
        let location = answer.headers().get(names::LOCATION).map(|v| v.to_str().unwrap().to_owned());
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (code, location.unwrap_or_default(), String::from_utf8(body.to_vec()).unwrap())
    };
    let (code, _, told) = ask("GET", "/a%20b//c/../d/?q=1%2F2&r", "").await;
    let told: Value = serde_json::from_str(&told).unwrap();
    let uri = format!("{base}/a%20b/d/");
    let want = json!({"asked": "GET /a%20b/d/?q=1%2F2&r", "headers": ["192.0.2.9", uri, "-", "-", "site"]});
    assert_eq!((code, told), (200, want));
    assert_eq!(ask("POST", "/x", "body").await, (201, String::new(), "body".to_owned()));
    assert_eq!(ask("GET", "?x=y", "").await, (301, format!("{base}/?x=y"), String::new()));
    assert_eq!(ask("GET", "/away", "").await, (302, format!("{base}/there?x=y"), String::new()));
    assert_eq!(ask("GET", "/page", "").await.2, format!("<a href=\"{base}/next\">x</a>"));
}

#[tokio::test]
async fn a_kubelet_that_is_not_there_is_told() {
    let cluster = Cluster::new().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let place =
        Place { trust: place::Trust::Kubelet, host: "127.0.0.1".into(), port: gone, path_and_query: "/x".into() };
    let error = forward::fetch_log(&cluster.connector.dialer, &place, "p").await.err().unwrap();
    let url = format!("https://127.0.0.1:{gone}/x");
    assert_eq!(
        (error.code().as_u16(), error.message()),
        (500, format!("Get \"{url}\": dial tcp 127.0.0.1:{gone}: connect: connection refused").as_str())
    );
}

#[test]
fn only_gets_of_streams_need_create() {
    let needs = |method: &str, path: &str| {
        let uri = format!("/api/v1/namespaces/a/pods/p/{path}").parse().unwrap();
        needs_create(&RequestInfo::new(&method.parse().unwrap(), &uri, &Query::default()))
    };
    assert!(needs("GET", "exec") && needs("GET", "portforward"));
    assert!(!needs("POST", "exec") && !needs("GET", "log") && !needs("GET", "proxy/x"));
}
