//! The server behind one APIService: where it is, whether it is available, and how it is asked.

use std::time::Duration;

use bytes::Bytes;
use crds::user::User;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use crate::{
    backend::{Backend, CallError, ServicePort, Trust},
    cache::Object,
    pki::Identity,
    world::World,
};

const PORT: i32 = 443;
/// What this server fetches for itself is waited for so long, and is at most so large.
const FETCH_WAIT_MAX: Duration = Duration::from_secs(5);
const FETCHED_BYTES_MAX: usize = 32 << 20;

#[derive(Debug)]
pub struct Remote {
    /// `v1.example.com`
    pub name: String,
    pub group: String,
    pub version: String,
    pub is_available: bool,
    pub service: ServicePort,
    trust: Trust,
    backend: Result<Backend, CallError>,
}

/// What a server has answered to this one.
pub struct Fetched {
    pub code: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Remote {
    /// None for an APIService that is served here. The connections of `before` are kept if they are to the same.
    pub fn read(object: &Object, before: Option<&Self>, identity: Option<&Identity>) -> Option<Self> {
        let service = match object.decode::<APIService>() {
            Ok(service) => service,
            Err(error) => {
                tracing::error!(%error, name = %object.name, "an APIService cannot be read");
                return None;
            }
        };
        let is_available = super::available::is_told(&service);
        let spec = service.spec.unwrap_or_default();
        let reference = spec.service?;
        let service_port = ServicePort {
            namespace: reference.namespace.unwrap_or_default(),
            name: reference.name.unwrap_or_default(),
            port: reference.port.unwrap_or(PORT),
        };
        let trust = match spec.insecure_skip_tls_verify {
            Some(true) => Trust::Insecure,
            _ => Trust::Bundle(spec.ca_bundle.map(|bundle| bundle.0).unwrap_or_default()),
        };
        let same = before.filter(|before| before.service == service_port && before.trust == trust);
        let make = || Backend::new(&service_port.server_name(), &trust, identity);
        let backend = same.map_or_else(make, |before| before.backend.clone());
        Some(Self {
            name: object.name.to_string(),
            group: spec.group.unwrap_or_default(),
            version: spec.version.unwrap_or_default(),
            is_available,
            service: service_port,
            trust,
            backend,
        })
    }

    pub fn backend(&self) -> Result<&Backend, &CallError> {
        self.backend.as_ref()
    }

    /// `/apis/{group}/{version}`
    pub fn path(&self) -> String {
        format!("/apis/{}/{}", self.group, self.version)
    }

    /// Asks for something in this server's own name.
    pub async fn fetch(&self, world: &World, path: &str, user: &User, accept: &str) -> Result<Fetched, CallError> {
        let fetching = tokio::time::timeout(FETCH_WAIT_MAX, async {
            let backend = self.backend().map_err(Clone::clone)?;
            let address = self.service.resolve(world)?;
            let failed = |why: CallError| {
                CallError(format!(
                    "failing or missing response from https://{address}{path}: Get \"https://{address}{path}\": {why}"
                ))
            };
            let mut request = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
            *request.uri_mut() = path.parse().map_err(|error| CallError(format!("parse: {error}")))?;
            if let Ok(accept) = HeaderValue::from_str(accept) {
                request.headers_mut().insert(header::ACCEPT, accept);
            }
            set_user(request.headers_mut(), user);
            let answer = backend.send(&address, &address.to_string(), request).await.map_err(failed)?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, FETCHED_BYTES_MAX).collect().await;
            let body = body.map_err(|error| CallError(error.to_string()))?.to_bytes();
            Ok(Fetched { code: parts.status, headers: parts.headers, body })
        });
        let why = || CallError(format!("timed out waiting for {path}"));
        fetching.await.unwrap_or_else(|_| Err(why()))
    }
}

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA: &str = "x-remote-extra-";

/// Says on whose behalf a request is made; whatever it said of that itself is taken away.
pub fn set_user(headers: &mut HeaderMap, user: &User) {
    let claimed =
        headers.keys().filter(|name| [&USER, &UID, &GROUP].contains(name) || name.as_str().starts_with(EXTRA));
    for name in claimed.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
    let mut add = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.append(name, value);
        }
    };
    add(USER, &user.name);
    if !user.uid.is_empty() {
        add(UID, &user.uid);
    }
    user.groups.iter().for_each(|group| add(GROUP, group));
    for (key, values) in &user.extra {
        let Ok(name) = HeaderName::try_from(format!("{EXTRA}{}", escaped(key))) else { continue };
        values.iter().for_each(|value| add(name.clone(), value));
    }
}

/// A key of extra as a part of a header's name.
fn escaped(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    key.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_cannot_be_claimed() {
        let mut headers = HeaderMap::new();
        headers.insert(USER, HeaderValue::from_static("root"));
        headers.insert("x-remote-extra-a", HeaderValue::from_static("b"));
        let mut user = User::named("me", &["g", "h"]);
        user.extra.insert("example.com/key".to_owned(), vec!["v".to_owned()]);
        set_user(&mut headers, &user);
        let all = |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!((all("x-remote-user"), all("x-remote-group")), (vec!["me"], vec!["g", "h"]));
        assert_eq!(all("x-remote-extra-example.com%2Fkey"), ["v"]);
        assert!(all("x-remote-extra-a").is_empty() && all("x-remote-uid").is_empty());
    }
}
