//! Webhooks: where a configuration says that one is, and a call of it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;

use crate::{
    backend::{Address, Backend, BoxError, CallError, ServicePort, Trust},
    world::World,
};

mod answer;

/// What a webhook may answer at most.
const ANSWER_BYTES_MAX: usize = 8 << 20;
const PORT: u16 = 443;
/// As upstream calls itself to webhooks.
const USER_AGENT: &str = "kube-apiserver-admission";

/// One webhook, ready to be called.
#[derive(Debug)]
pub struct Webhook {
    place: Result<Place, CallError>,
}

#[derive(Debug)]
struct Place {
    backend: Backend,
    target: Target,
    /// As in the URL, and as the `Host` header.
    authority: String,
    /// With a leading slash.
    path: String,
}

#[derive(Debug)]
enum Target {
    Service(ServicePort),
    Address(Address),
}

impl Webhook {
    /// Of an admission webhook.
    pub fn of(config: &WebhookClientConfig) -> Self {
        let service = config.service.as_ref().map(|service| {
            let port = service.port.unwrap_or(i32::from(PORT));
            let port = ServicePort { namespace: service.namespace.clone(), name: service.name.clone(), port };
            (port, service.path.as_deref())
        });
        Self::new(config.url.as_deref(), service, config.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice()))
    }

    /// A configuration that cannot be used is told when the webhook is called.
    pub fn new(url: Option<&str>, service: Option<(ServicePort, Option<&str>)>, bundle: Option<&[u8]>) -> Self {
        let trust = Trust::Bundle(bundle.unwrap_or_default().to_vec());
        Self { place: Place::new(url, service, &trust) }
    }

    /// What keeps it from being called at all.
    pub fn usable(&self) -> Result<(), CallError> {
        self.place.as_ref().map(drop).map_err(Clone::clone)
    }

    /// Posts JSON and gives the body of a successful answer. The error is what upstream's client says.
    pub async fn post(&self, world: &World, body: Bytes, wait_max: Duration) -> Result<Bytes, CallError> {
        let place = self.place.as_ref().map_err(Clone::clone)?;
        let seconds = wait_max.as_secs() + u64::from(wait_max.subsec_nanos() > 0);
        let query = format!("{}?timeout={}", place.path, told_seconds(seconds));
        let failed = |why: &CallError| CallError(format!("Post \"https://{}{query}\": {why}", place.authority));
        let posted = tokio::time::timeout(wait_max, place.post(world, &query, body)).await;
        let (code, text_type, answer) = match posted {
            Err(_) => return Err(failed(&CallError("context deadline exceeded".into()))),
            Ok(Err(why)) => return Err(failed(&why)),
            Ok(Ok(answer)) => answer,
        };
        answer::body(code, text_type, answer).map_err(CallError)
    }
}

/// A duration of whole seconds as Go writes it.
fn told_seconds(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        _ => format!("{}m{}s", seconds / 60, seconds % 60),
    }
}

impl Place {
    fn new(url: Option<&str>, service: Option<(ServicePort, Option<&str>)>, trust: &Trust) -> Result<Self, CallError> {
        if let Some((service, path)) = service {
            let name = service.server_name();
            let backend = Backend::new(&name, trust, None)?;
            let authority = format!("{name}:{}", service.port);
            return Ok(Self {
                backend,
                target: Target::Service(service),
                authority,
                path: cleaned(path.unwrap_or("")),
            });
        }
        let url = url.ok_or_else(|| CallError("webhook configuration must have either service or URL".into()))?;
        let uri: Uri = url.parse().map_err(|error| CallError(format!("Unparsable URL: {error}")))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let backend = Backend::new(&host, trust, None)?;
        let address = Address { host, port: uri.port_u16().unwrap_or(PORT) };
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        Ok(Self { backend, target: Target::Address(address), authority, path: cleaned(uri.path()) })
    }

    async fn post(&self, world: &World, query: &str, body: Bytes) -> Result<(u16, bool, Bytes), CallError> {
        let address = match &self.target {
            Target::Service(service) => service.resolve(world)?,
            Target::Address(address) => address.clone(),
        };
        let mut request = Request::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = query.parse().map_err(|error| CallError(format!("parse: {error}")))?;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json.clone());
        request.headers_mut().insert(header::ACCEPT, json);
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let answer = self.backend.send(&address, &self.authority, request).await?;
        let (code, is_text) = (answer.status().as_u16(), answer::is_text(answer.headers()));
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error: BoxError| CallError(error.to_string()))?;
        Ok((code, is_text, body.to_bytes()))
    }
}

/// A path with a leading slash and nothing superfluous, as Go joins it.
fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_times() {
        for (path, want) in [("", "/"), ("/", "/"), ("validate/", "/validate"), ("/a//b/../c", "/a/c")] {
            assert_eq!(cleaned(path), want, "{path}");
        }
        assert_eq!((told_seconds(30), told_seconds(90)), ("30s".to_owned(), "1m30s".to_owned()));
    }

    #[test]
    fn what_cannot_be_called() {
        let told = |webhook: Webhook| webhook.usable().unwrap_err().0;
        assert_eq!(told(Webhook::new(None, None, None)), "webhook configuration must have either service or URL");
        let no_pem = Webhook::new(Some("https://h/x"), None, Some(b"nothing"));
        assert_eq!(told(no_pem), "unable to load root certificates: unable to parse bytes as PEM block");
    }
}
