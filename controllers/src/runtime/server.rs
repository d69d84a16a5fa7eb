//! Requests to an apiserver, for kinds known at compile time and for those discovered.

use std::fmt::Write as _;

use futures::{Stream, StreamExt};
use http::{Method, Request, header};
use kube::{
    Client,
    core::{Status, WatchEvent},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::object::Resource;
use crate::plan::{Action, Write};
use crds::kind::Kind;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's answer was a Status other than success.
    #[error("{}", .0.message)]
    Refused(Box<Status>),
    #[error("asking the apiserver: {0}")]
    Transport(#[source] kube::Error),
    #[error("building a request: {0}")]
    Request(#[from] http::Error),
    #[error("reading an answer: {0}")]
    Decode(#[from] serde_json::Error),
    /// Something that a controller waits for has not come yet.
    #[error("{0}")]
    NotYet(String),
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            other => Self::Transport(other),
        }
    }
}

impl Error {
    /// The HTTP code of a refusal; 0 if there was no answer.
    pub fn code(&self) -> u16 {
        match self {
            Self::Refused(status) => status.code,
            _ => 0,
        }
    }

    pub fn is_namespace_terminating(&self) -> bool {
        let Self::Refused(status) = self else {
            return false;
        };
        status.details.iter().flat_map(|d| &d.causes).any(|c| c.reason == "NamespaceTerminating")
    }
}

/// A list in whatever shape its items have.
#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub struct List<T> {
    #[serde(default)]
    pub metadata: ListMeta,
    #[serde(default = "Option::default")]
    pub items: Option<Vec<T>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ListMeta {
    pub resource_version: String,
    #[serde(rename = "continue")]
    pub more: Option<String>,
    pub remaining_item_count: Option<i64>,
}

/// Full objects, or their metadata alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Whole,
    Metadata,
}

impl Form {
    fn accept(self, list: bool) -> &'static str {
        match (self, list) {
            (Self::Whole, _) => "application/json",
            (Self::Metadata, true) => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            (Self::Metadata, false) => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        }
    }
}

const PAGE: u32 = 500;

#[derive(Clone)]
pub struct Server {
    client: Client,
}

impl Server {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// One object, live; none if it does not exist.
    pub async fn get<K: Kind>(&self, namespace: &str, name: &str) -> Result<Option<K>, Error> {
        self.fetch(&Resource::of::<K>().path(namespace, name, ""), Form::Whole).await
    }

    pub async fn fetch<T: DeserializeOwned>(&self, path: &str, form: Form) -> Result<Option<T>, Error> {
        match self.ask(path, form.accept(false)).await {
            Ok(found) => Ok(Some(found)),
            Err(e) if e.code() == 404 => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str, accept: &str) -> Result<T, Error> {
        let request = Request::get(path).header(header::ACCEPT, accept).body(Vec::new())?;
        Ok(self.client.request(request).await?)
    }

    /// Everything under a collection's path, and the resource version of the whole.
    pub async fn list<T: DeserializeOwned>(&self, path: &str, form: Form) -> Result<(Vec<T>, u64), Error> {
        let (mut items, mut more) = (Vec::new(), String::new());
        loop {
            let mut uri = format!("{path}?limit={PAGE}");
            if !more.is_empty() {
                // Writing to a String cannot fail.
                write!(uri, "&continue={}", percent(&more)).unwrap_or_default();
            }
            let page: List<T> = self.ask(&uri, form.accept(true)).await?;
            items.extend(page.items.unwrap_or_default());
            match page.metadata.more.filter(|m| !m.is_empty()) {
                Some(next) => more = next,
                None => return Ok((items, page.metadata.resource_version.parse().unwrap_or(0))),
            }
        }
    }

    /// One page of at most `limit` items.
    pub async fn page<T: DeserializeOwned>(&self, path: &str, limit: u32, form: Form) -> Result<List<T>, Error> {
        self.ask(&format!("{path}?limit={limit}"), form.accept(true)).await
    }

    pub async fn watch<T: DeserializeOwned + Clone>(
        &self,
        path: &str,
        from: u64,
        seconds: u64,
        form: Form,
    ) -> Result<impl Stream<Item = Result<WatchEvent<T>, Error>> + use<T>, Error> {
        let uri = format!("{path}?watch=true&allowWatchBookmarks=true&resourceVersion={from}&timeoutSeconds={seconds}");
        let request = Request::get(uri).header(header::ACCEPT, form.accept(false)).body(Vec::new())?;
        Ok(self.client.request_events::<T>(request).await?.map(|event| event.map_err(Error::from)))
    }

    /// Sends an object to a path and gives the answer.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Error> {
        Ok(self.client.request(request(Method::POST, path, "application/json", body)?).await?)
    }

    /// Makes a write and gives the server's answer: the object, or a Status.
    pub async fn write(&self, write: &Write) -> Result<Value, Error> {
        let object = || write.resource.path(&write.namespace, &write.name, write.subresource);
        let collection = || write.resource.collection(if write.resource.namespaced { &write.namespace } else { "" });
        let manager = "fieldManager=keelson-controllers";
        let request = match &write.action {
            // A creation under a name is that of a subresource: an eviction, a binding.
            Action::Create(body) if !write.subresource.is_empty() => {
                request(Method::POST, &object(), "application/json", body)
            }
            Action::Create(body) => request(Method::POST, &collection(), "application/json", body),
            Action::Update(body) => request(Method::PUT, &object(), "application/json", body),
            Action::MergePatch(body) => request(Method::PATCH, &object(), "application/merge-patch+json", body),
            Action::StrategicPatch(body) => {
                request(Method::PATCH, &object(), "application/strategic-merge-patch+json", body)
            }
            Action::Apply(body) => {
                let path = format!("{}?{manager}&force=true", object());
                request(Method::PATCH, &path, "application/apply-patch+yaml", body)
            }
            Action::Delete { uid, resource_version, propagation, grace_seconds } => {
                let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
                if uid.is_some() || resource_version.is_some() {
                    let mut preconditions = json!({});
                    if let Some(uid) = uid {
                        preconditions["uid"] = json!(uid);
                    }
                    if let Some(version) = resource_version {
                        preconditions["resourceVersion"] = json!(version);
                    }
                    options["preconditions"] = preconditions;
                }
                if let Some(policy) = propagation {
                    options["propagationPolicy"] = json!(policy);
                }
                if let Some(seconds) = grace_seconds {
                    options["gracePeriodSeconds"] = json!(seconds);
                }
                request(Method::DELETE, &object(), "application/json", &options)
            }
            Action::DeleteCollection => {
                let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
                request(Method::DELETE, &collection(), "application/json", &options)
            }
        }?;
        Ok(self.client.request(request).await?)
    }
}

fn request(method: Method, path: &str, content: &str, body: &Value) -> Result<Request<Vec<u8>>, Error> {
    let builder = Request::builder().method(method).uri(path);
    let builder = builder.header(header::ACCEPT, "application/json").header(header::CONTENT_TYPE, content);
    Ok(builder.body(serde_json::to_vec(body)?)?)
}

/// Escapes a query value.
pub fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            _ => write!(out, "%{byte:02X}").unwrap_or_default(),
        }
    }
    out
}
