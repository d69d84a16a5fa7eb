//! exec, attach, port-forward, log and the proxies: admission first, then another server's answer.

use std::borrow::Cow;

use crds::kind::{Gvk, Subresource};
use http::Request;
use serde_json::{Map, Value, json};

use crate::{
    admission::{Operation, Options},
    call::Call,
    codec::{
        answer::Answer,
        body::{Body, Relay},
        negotiate::{self, Offer},
    },
    error::{ApiError, Result},
    options::WriteOptions,
    pipeline::Apiserver,
    route::Target,
    server::Remote,
    verbs,
};

pub async fn answer(server: &Apiserver, call: &mut Call, target: &Target) -> Result<Answer> {
    let connector = server.connector.as_ref().ok_or_else(|| ApiError::unavailable("no way to reach nodes"))?;
    if call.info.subresource == "log" {
        // As upstream, which asks for a form in which it can tell of errors before it looks for the pod.
        negotiate::routable(&call.headers, negotiate::LOGS)?;
        negotiate::accepted(&call.headers, &call.query, Offer::Question)?;
    } else {
        admit(server, call, target).await?;
    }
    let client = call.extensions.get::<Remote>().map(|remote| remote.0.ip());
    let body = call.body.get_mut().take();
    let body = body.unwrap_or_else(|| {
        http_body_util::BodyExt::boxed_unsync(http_body_util::BodyExt::map_err(http_body_util::Empty::new(), |never| {
            match never {}
        }))
    });
    let mut request = Request::new(body);
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = call.uri.clone();
    *request.headers_mut() = call.headers.clone();
    *request.extensions_mut() = std::mem::take(&mut call.extensions);
    let answer = connector.answer(&server.world, &call.info, client, request).await?;
    Ok(answer.map(|body| Body::Relay(Relay::new(body))))
}

/// Admission sees the options of the connection, as an object.
async fn admit(server: &Apiserver, call: &mut Call, target: &Target) -> Result<()> {
    let Some(Subresource::Other { kind: (group, version, kind), .. }) = &target.subresource else { return Ok(()) };
    let mut options = Map::new();
    for (name, value) in call.query.pairs() {
        let value: Value = match (name.as_str(), value.as_str()) {
            ("stdin" | "stdout" | "stderr" | "tty", text) => (text != "false" && text != "0").into(),
            ("command" | "ports", _) => {
                let list = options.entry(name.clone()).or_insert_with(|| json!([]));
                if let Some(list) = list.as_array_mut() {
                    list.push(value.clone().into());
                }
                continue;
            }
            (_, text) => text.into(),
        };
        options.insert(name.clone(), value);
    }
    let gvk = Gvk { group: Cow::Borrowed(group), version: Cow::Borrowed(version), kind: Cow::Borrowed(kind) };
    options.insert("kind".into(), (*kind).into());
    options.insert("apiVersion".into(), gvk.api_version().into());
    let name = call.info.name.clone();
    let mut writer = verbs::writer(server, call, target, &name, WriteOptions::default());
    let mut attributes = writer.attributes(Operation::Connect, Some(Value::Object(options)), None);
    attributes.kind = gvk;
    attributes.options = Options::None;
    let admitted = writer.admit_other(attributes).await;
    let warnings = std::mem::take(&mut writer.warnings);
    call.warnings.extend(warnings);
    admitted.map(drop)
}
