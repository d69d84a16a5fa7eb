//! What a request is about, as its method, path and query tell.

use std::borrow::Cow;

use crds::{
    kind::{self, Definition},
    selector,
};
use http::{Method, Uri};

/// The options of a query, decoded, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: &str) -> Self {
        // As Go's parser, which leaves out what it cannot read.
        let pairs = query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';') && is_decodable(pair));
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name, true), decode(value, true))
                })
                .collect(),
        )
    }

    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// As upstream reads bools: anything but `0` and `false` is true, the empty text too.
    pub fn flag(&self, name: &str) -> bool {
        self.first(name).is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }
}

/// Whether all its percent encoding is one.
pub fn is_decodable(text: &str) -> bool {
    text.split('%').skip(1).all(|after| after.len() >= 2 && after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
}

/// Undoes percent encoding; what is not valid stays as it is.
fn decode(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|b| matches!(b, b'%' | b'+')) {
        return text.to_owned();
    }
    let (mut out, mut i) = (Vec::with_capacity(bytes.len()), 0);
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| (*b as char).to_digit(16));
        match bytes[i] {
            b'%' => match (hex(i + 1), hex(i + 2)) {
                (Some(high), Some(low)) => {
                    out.push((high * 16 + low) as u8);
                    i += 2;
                }
                _ => out.push(b'%'),
            },
            b'+' if plus_is_space => out.push(b' '),
            byte => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The attributes that authorization, routing, metrics and audit go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether this is about a resource, below `/api` or `/apis`.
    pub is_resource: bool,
    /// Decoded.
    pub path: String,
    /// `get`, `list`, `watch`, …; of other paths the method in lower case.
    pub verb: String,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// The segments from the resource on.
    pub parts: Vec<String>,
    /// The verb stands in the path: `/api/v1/watch/…`.
    pub verb_in_path: bool,
    /// As given, for verbs that select.
    pub field_selector: Option<String>,
    pub label_selector: Option<String>,
}

impl RequestInfo {
    pub fn new(method: &Method, uri: &Uri, query: &Query) -> Self {
        let path = decode(uri.path(), false);
        let mut info = Self { verb: method.as_str().to_lowercase(), ..Self::default() };
        info.read(method, &path, query);
        info.path = path;
        info
    }

    fn read(&mut self, method: &Method, path: &str, query: &Query) {
        let mut parts: &[&str] = &path.trim_matches('/').split('/').collect::<Vec<_>>();
        match parts {
            ["api", rest @ ..] if rest.len() >= 2 => parts = rest,
            ["apis", group, rest @ ..] if rest.len() >= 2 => {
                self.group = (*group).to_owned();
                parts = rest;
            }
            _ => return,
        }
        self.is_resource = true;
        self.version = parts[0].to_owned();
        parts = &parts[1..];
        if matches!(parts[0], "watch" | "proxy") && parts.len() >= 2 {
            self.verb = parts[0].to_owned();
            self.verb_in_path = true;
            parts = &parts[1..];
        } else {
            self.verb = verb(method).to_owned();
        }
        if parts[0] == "namespaces" && parts.len() > 1 {
            self.namespace = parts[1].to_owned();
            if parts.len() > 2 && !matches!(parts[2], "status" | "finalize") {
                parts = &parts[2..];
            }
        }
        let part = |i: usize| parts.get(i).map(|p| (*p).to_owned()).unwrap_or_default();
        (self.resource, self.name) = (part(0), part(1));
        if self.verb != "proxy" {
            self.subresource = part(2);
        }
        self.parts = parts.iter().map(|p| (*p).to_owned()).collect();
        self.read_query(query);
    }

    fn read_query(&mut self, query: &Query) {
        if self.name.is_empty() && self.verb == "get" {
            self.verb = if query.flag("watch") { "watch" } else { "list" }.to_owned();
            self.name = query.first("fieldSelector").and_then(selected_name).unwrap_or_default();
        }
        if self.name.is_empty() && self.verb == "delete" {
            self.verb = "deletecollection".to_owned();
        }
        if !self.verb_in_path && matches!(self.verb.as_str(), "list" | "watch" | "deletecollection") {
            self.field_selector = query.first("fieldSelector").map(str::to_owned);
            self.label_selector = query.first("labelSelector").map(str::to_owned);
        }
    }
}

impl RequestInfo {
    /// `apps/v1`, or `v1` of the core group.
    pub fn group_version(&self) -> String {
        kind::group_version(&self.group, &self.version)
    }

    /// Whether the answer is a stream that lasts as long as its client wants: such a request does not count as work.
    pub fn is_long_running(&self) -> bool {
        let stream = matches!(self.subresource.as_str(), "attach" | "exec" | "log" | "portforward" | "proxy");
        matches!(self.verb.as_str(), "watch" | "proxy") || (self.is_resource && stream)
    }

    /// The namespace that objects of this kind are in: none for a Namespace, whose own name stands in its place.
    pub fn namespace_of(&self, definition: &Definition) -> Cow<'_, str> {
        if definition.namespaced { Cow::Borrowed(self.namespace.as_str()) } else { Cow::Borrowed("") }
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// A list of one object by its name is authorized as such.
fn selected_name(fields: &str) -> Option<String> {
    let terms = selector::parse_fields(fields).ok()?;
    let name = terms.into_iter().find(|term| term.equal && term.path == "metadata.name")?.value;
    crds::field::path_segment(&name).is_empty().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: &str, uri: &str) -> RequestInfo {
        let uri: Uri = uri.parse().unwrap();
        let query = Query::parse(uri.query().unwrap_or_default());
        RequestInfo::new(&method.parse().unwrap(), &uri, &query)
    }

    #[test]
    fn resources() {
        for (method, uri, want) in [
            ("GET", "/api/v1/namespaces", "list  v1 namespaces   "),
            ("GET", "/api/v1/namespaces/a", "get  v1 namespaces  a a"),
            ("PUT", "/api/v1/namespaces/a/status", "update  v1 namespaces status a a"),
            ("GET", "/api/v1/namespaces/a/pods", "list  v1 pods  a "),
            ("GET", "/api/v1/namespaces/a/pods/", "list  v1 pods  a "),
            ("GET", "/api/v1/namespaces/a/pods?watch=1", "watch  v1 pods  a "),
            ("GET", "/api/v1/namespaces/a/pods?watch=false", "list  v1 pods  a "),
            ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Db", "list  v1 pods   b"),
            ("GET", "/api/v1/watch/pods", "watch  v1 pods   "),
            ("GET", "/api/v1/watch/namespaces/a/pods/b", "watch  v1 pods  a b"),
            ("DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection apps v1 deployments  a "),
            ("PATCH", "/apis/apps/v1/namespaces/a/deployments/b/scale", "patch apps v1 deployments scale a b"),
            ("POST", "/api/v1/namespaces/a/pods/b/exec/x/y", "create  v1 pods exec a b"),
            ("GET", "/api/v1/nodes/a%20b", "get  v1 nodes   a b"),
        ] {
            let i = info(method, uri);
            let (g, v, r) = (&i.group, &i.version, &i.resource);
            assert!(i.is_resource, "{uri}");
            assert_eq!(format!("{} {g} {v} {r} {} {} {}", i.verb, i.subresource, i.namespace, i.name), want, "{uri}");
        }
    }

    #[test]
    fn other_paths() {
        for uri in ["/", "/api", "/api/v1", "/apis/apps", "/apis/apps/v1", "/healthz", "/a/b/c/d"] {
            let i = info("GET", uri);
            assert_eq!((i.is_resource, i.verb.as_str()), (false, "get"), "{uri}");
        }
    }
}
