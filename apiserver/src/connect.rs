//! Subresources that are a conversation with a machine: exec, attach, port-forward and log of a pod, and the proxies
//! of pods, services and nodes.
//!
//! The kubelet's answer is passed on as it is, upgrades too: WebSocket and SPDY are bytes here, both ways.

mod dial;
pub(crate) mod forward;
pub(crate) mod header;
mod html;
mod option;
mod path;
mod place;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{HeaderValue, Method, Request, Response, StatusCode, header as names};
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use rustls::RootCertStore;
use tokio_tungstenite::tungstenite::Message;

pub(crate) use self::dial::Unverified;
use self::{
    dial::Dialer,
    forward::Hop,
    option::{LogOptions, StreamOptions},
    place::{Asked, Place},
};
use crate::{
    error::{ApiError, Result, Subject},
    pki::Identity,
    request::{Query, RequestInfo},
    websocket::Wish,
    world::World,
};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer; an error in it must cut the client's connection off, or a short answer would look whole.
pub type Relay = UnsyncBoxBody<Bytes, BoxError>;

/// The types of node address, the one to prefer first.
const ADDRESS_TYPES: [&str; 5] = ["InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"];

/// What a log is read in over a WebSocket; the second is for those that know only text.
const LOG_PROTOCOLS: [&str; 2] = ["binary.k8s.io", TEXT_PROTOCOL];
const TEXT_PROTOCOL: &str = "base64.binary.k8s.io";

/// How kubelets are reached.
pub struct Connector {
    dialer: Dialer,
    address_types: Vec<String>,
}

/// The methods that the proxies pass on.
pub const PROXY_METHODS: [Method; 7] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];

/// As upstream: a GET that opens one of these streams (as WebSocket does) must be allowed to `create`, too.
pub fn needs_create(info: &RequestInfo) -> bool {
    info.verb == "get"
        && info.resource == "pods"
        && matches!(info.subresource.as_str(), "exec" | "attach" | "portforward")
}

impl Connector {
    /// With the certificate that kubelets know the apiserver by. Without roots, kubelets' certificates are not
    /// verified, as upstream's apiserver does unless it is told the kubelets' authority.
    pub fn new(identity: &Identity, kubelet_roots: Option<RootCertStore>) -> Result<Self> {
        let address_types = ADDRESS_TYPES.map(str::to_owned).to_vec();
        Ok(Self { dialer: Dialer::new(identity, kubelet_roots)?, address_types })
    }

    /// With another order of the types of node addresses.
    pub fn with_address_types(mut self, address_types: Vec<String>) -> Self {
        self.address_types = address_types;
        self
    }

    /// Answers a request for one of these subresources; authorization and admission have let it pass. `client` is
    /// the address that it came from.
    pub async fn answer<B>(
        &self,
        world: &World,
        info: &RequestInfo,
        client: Option<IpAddr>,
        request: Request<B>,
    ) -> Result<Response<Relay>>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        if query.all("dryRun").next().is_some() && info.subresource != "log" {
            return Err(ApiError::bad_request("dryRun is not supported"));
        }
        let subject = (info.resource.as_str(), info.subresource.as_str());
        match subject {
            ("pods", "log") => over_websocket(request, self.log(world, info, &query).await?),
            ("pods", "exec" | "attach" | "portforward") => {
                let options = StreamOptions::parse(&info.subresource, &query)?;
                let pod = find::<Pod>(world, "pods", &info.namespace, &info.name).await?;
                let container = options.container(&pod)?;
                let node = place::host_of(&pod).ok_or_else(|| place::no_host(&info.name))?;
                let mut place = self.kubelet(world, node).await?;
                place.path_and_query = options.path_and_query(&info.namespace, &info.name, container);
                let hop = Hop { place, client, kind: forward::Kind::Stream };
                hop.forward(&self.dialer, request).await
            }
            (_, "proxy") => {
                let mut place = self.proxied(world, info).await?;
                let suffix = path::below(info, 3);
                let below = if suffix.is_empty() { "/" } else { &suffix };
                place.path_and_query = path::with_query(below, request.uri().query());
                let hop = Hop { place, client, kind: forward::Kind::Proxy { suffix, base: path::base(info, 3) } };
                hop.forward(&self.dialer, request).await
            }
            _ => Err(ApiError::internal(format!("{}/{} is not connected", info.resource, info.subresource))),
        }
    }

    async fn log(&self, world: &World, info: &RequestInfo, query: &Query) -> Result<Response<Relay>> {
        let options = LogOptions::parse(query)?;
        options.validate(&info.name)?;
        let pod = find::<Pod>(world, "pods", &info.namespace, &info.name).await?;
        let container = place::container(&pod, &options.container)?;
        let Some(node) = place::host_of(&pod) else {
            let mut nothing = Response::new(empty());
            *nothing.status_mut() = StatusCode::NO_CONTENT;
            return Ok(nothing);
        };
        let mut place = self.kubelet(world, node).await?;
        if options.insecure_backend {
            place.trust = place::Trust::UnverifiedKubelet;
        }
        place.path_and_query = options.path_and_query(&info.namespace, &info.name, container);
        let mut answer = forward::fetch_log(&self.dialer, &place, &info.name).await?;
        answer.headers_mut().insert(names::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(answer)
    }

    async fn kubelet(&self, world: &World, node: &str) -> Result<Place> {
        let node = find::<Node>(world, "nodes", "", node).await?;
        place::kubelet(&node, &self.address_types)
    }

    async fn proxied(&self, world: &World, info: &RequestInfo) -> Result<Place> {
        let asked = Asked::parse(&info.name).ok_or_else(|| {
            let kind = info.resource.trim_end_matches('s');
            ApiError::bad_request(format!("invalid {kind} request {}", crds::field::quote(&info.name)))
        })?;
        match info.resource.as_str() {
            "pods" => place::pod(&find::<Pod>(world, "pods", &info.namespace, asked.name).await?, &asked),
            "nodes" => {
                let kubelet = self.kubelet(world, asked.name).await?;
                dial::check_proxyable(&kubelet.host).await?;
                place::node(kubelet, &asked)
            }
            _ => self.service(world, &info.namespace, &asked).await,
        }
    }

    async fn service(&self, world: &World, namespace: &str, asked: &Asked<'_>) -> Result<Place> {
        let port = match asked.port.parse::<i32>() {
            Ok(number) => {
                let service = find::<Service>(world, "services", namespace, asked.name).await?;
                place::port_name(&service, number, asked.name)?
            }
            Err(_) => asked.port.to_owned(),
        };
        // As upstream: it is the service that is told to be missing when its Endpoints are.
        let endpoints = find_as::<Endpoints>(world, "services", namespace, asked.name).await?;
        let ready = place::ready(&endpoints, &port, asked.name)?;
        for turn in place::turns(ready.len(), world.random.below(ready.len() as u128) as usize) {
            let (address, port) = &ready[turn];
            let Some(target) = place::target(address, namespace) else { continue };
            let pod = world.get_live::<Pod>(namespace, target).await?;
            if pod.is_some_and(|pod| place::has_address(&pod, &address.ip)) {
                return Ok(place::endpoint(asked, &address.ip, *port));
            }
        }
        let why = format!("no endpoints available for service {}", crds::field::quote(asked.whole));
        Err(ApiError::unavailable(why))
    }
}

async fn find<K: crds::kind::Kind>(world: &World, resource: &str, namespace: &str, name: &str) -> Result<K> {
    find_as(world, resource, namespace, name).await
}

async fn find_as<K: crds::kind::Kind>(world: &World, resource: &str, namespace: &str, name: &str) -> Result<K> {
    let found = world.get_live::<K>(namespace, name).await?;
    found.ok_or_else(|| ApiError::missing(Subject { group: "", resource, name }))
}

/// A log as it is, or as messages if the request asks for those.
fn over_websocket<B>(mut request: Request<B>, log: Response<Relay>) -> Result<Response<Relay>> {
    let mut extensions = std::mem::take(request.extensions_mut());
    let wish = Wish::of(request.headers(), &mut extensions).filter(|_| log.status().is_success());
    let Some(wish) = wish else { return Ok(log) };
    let offered = wish.protocols();
    let protocol = offered.iter().find_map(|wanted| LOG_PROTOCOLS.into_iter().find(|known| known == wanted));
    if protocol.is_none() && !offered.is_empty() {
        let why = format!("none of the requested protocols is served: {}", offered.join(", "));
        return Err(ApiError::new(StatusCode::FORBIDDEN, "Forbidden", why));
    }
    let is_text = protocol == Some(TEXT_PROTOCOL);
    let message = move |bytes: Bytes| match is_text {
        true => Message::text(BASE64_STANDARD.encode(bytes)),
        false => Message::binary(bytes),
    };
    // As upstream, an empty message first: the log has been found.
    let first = futures::stream::iter([Ok(message(Bytes::new()))]);
    let rest = log.into_body().into_data_stream().map_ok(message);
    Ok(wish.switch(protocol, first.chain(rest))?.map(|()| empty()))
}

fn empty() -> Relay {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
