//! Answers: objects, lists and errors in the form that the client takes, with upstream's headers.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use crds::kind::Definition;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;
use serde_json::{Map, Value, json};

use super::{Form, Media, Shape, body::Body, json, negotiate, typed, yaml};
use crate::{
    audit::event::ResponseStatus,
    cache::{Object, list::Listing},
    error::{ApiError, Result},
    write::Shown,
};

/// Lists beyond this size are sent in chunks of this size.
const CHUNK_BYTES: usize = 32 << 10;

/// Go's words for the one of our codes that has others here; HTTP/1 clients show them.
const TOO_LARGE: ReasonPhrase = ReasonPhrase::from_static(b"Request Entity Too Large");

pub type Answer = Response<Body>;

pub const META_VERSION: &str = "meta.k8s.io/v1";

/// An answer with a body of this type.
pub fn with(code: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = code;
    answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    answer
}

/// Tells a browser to believe what type a body is said to be of.
pub const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub fn text(code: StatusCode, text: impl Into<Body>) -> Answer {
    let mut answer = plain(code, text);
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    answer
}

/// Text that a browser may take for something else.
pub fn plain(code: StatusCode, text: impl Into<Body>) -> Answer {
    with(code, PLAIN, text)
}

fn of_media(code: StatusCode, media: Media, body: impl Into<Body>) -> Answer {
    with(code, HeaderValue::from_static(media.name()), body)
}

/// A value that has kind and apiVersion.
pub fn value(code: StatusCode, form: Form, value: &Value) -> Result<Answer> {
    Ok(of_media(code, form.media, encode(form, value)?))
}

pub fn encode(form: Form, value: &Value) -> Result<Bytes> {
    match form.media {
        Media::Json => Ok(laid_out(form, typed::json(value))),
        Media::Protobuf => typed::to_protobuf(value),
        Media::Yaml => Ok(Bytes::from(yaml::write(value))),
    }
}

/// As upstream: one line, or text for people, which has no line end.
fn laid_out(form: Form, text: Vec<u8>) -> Bytes {
    if form.pretty { json::indented(&text).into() } else { json::ended(text) }
}

/// JSON text that is sent as the form wants it.
pub fn json_text(code: StatusCode, form: Form, text: Vec<u8>) -> Result<Answer> {
    if form.media == Media::Json {
        return Ok(of_media(code, Media::Json, laid_out(form, text)));
    }
    value(code, form, &serde_json::from_slice(&text).map_err(ApiError::internal)?)
}

/// An error, as a Status.
pub fn error(form: Form, error: &ApiError) -> Answer {
    let status = serde_json::to_value(error.status()).unwrap_or_default();
    let mut answer = encode(form, &status_object(status)).map_or_else(
        |_| text(error.code(), error.message().to_owned()),
        |bytes| of_media(error.code(), form.media, bytes),
    );
    let retry = error.status().details.as_ref().and_then(|d| d.retry_after_seconds);
    if let Some(seconds) = retry {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.code() == StatusCode::PAYLOAD_TOO_LARGE {
        answer.extensions_mut().insert(TOO_LARGE);
    }
    answer.extensions_mut().insert(ResponseStatus::of(error.status()));
    answer
}

fn status_object(mut status: Value) -> Value {
    status["kind"] = "Status".into();
    status["apiVersion"] = "v1".into();
    if status.get("metadata").is_none_or(Value::is_null) {
        status["metadata"] = json!({});
    }
    status
}

/// A Status that tells of success.
pub fn success(code: StatusCode, form: Form, details: Value) -> Result<Answer> {
    let told = ResponseStatus::success(&details);
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    let mut answer = value(code, Form { shape: Shape::Object, ..form }, &status)?;
    answer.extensions_mut().insert(told);
    Ok(answer)
}

/// One object in the shape that was asked for.
pub fn object(code: StatusCode, form: Form, definition: &Definition, shown: &Shown) -> Result<Answer> {
    if let (Shown::Stored(object), Form { media: Media::Json, shape: Shape::Object, pretty: false }) = (shown, form)
        && object.is_of(definition)
    {
        return Ok(of_media(code, Media::Json, object.line.clone()));
    }
    if let (Shown::Stored(object), Form { media: Media::Protobuf, shape: Shape::Object, .. }) = (shown, form) {
        return Ok(of_media(code, form.media, typed::object_to_protobuf(object, definition)?));
    }
    let whole = shown.value(definition)?;
    let shaped = match form.shape {
        Shape::Object => named(whole, definition),
        Shape::PartialMetadata => partial(definition, &whole),
        Shape::PartialMetadataList => {
            return Err(negotiate::unservable(format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list ({})",
                go_type(definition, &definition.gvk.kind)
            )));
        }
        Shape::Table => return Err(ApiError::internal("tables of single objects are made elsewhere")),
    };
    value(code, form, &shaped)
}

/// The same with kind and apiVersion of the version that was asked for.
pub fn named(mut object: Value, definition: &Definition) -> Value {
    object["kind"] = definition.gvk.kind.clone().into();
    object["apiVersion"] = definition.gvk.api_version().into();
    object
}

/// `PartialObjectMetadata` of an object.
pub fn partial(definition: &Definition, object: &Value) -> Value {
    let metadata = metadata_alone(definition, object);
    json!({"kind": "PartialObjectMetadata", "apiVersion": META_VERSION, "metadata": metadata})
}

/// The metadata of an object as it is shown without the rest.
pub fn metadata_alone(definition: &Definition, object: &Value) -> Value {
    let mut metadata = object.get("metadata").cloned().unwrap_or_else(|| json!({}));
    let inner = definition.rules.inner_annotations();
    if let Some(annotations) =
        metadata.get_mut("annotations").and_then(Value::as_object_mut).filter(|_| !inner.is_empty())
    {
        annotations.retain(|name, _| !inner.contains(&name.as_str()));
        if annotations.is_empty()
            && let Value::Object(metadata) = &mut metadata
        {
            metadata.remove("annotations");
        }
    }
    metadata
}

/// The metadata of a list.
pub fn list_metadata(listing: &Listing) -> Value {
    let mut metadata = Map::new();
    let version = listing.version();
    if !version.is_empty() {
        metadata.insert("resourceVersion".into(), version.into());
    }
    if let Some(next) = &listing.next {
        metadata.insert("continue".into(), next.clone().into());
    }
    if let Some(remaining) = listing.remaining {
        metadata.insert("remainingItemCount".into(), remaining.into());
    }
    Value::Object(metadata)
}

pub fn list(form: Form, definition: &Definition, listing: Listing) -> Result<Answer> {
    let plain = form == Form::JSON;
    if plain && listing.objects.iter().all(|object| object.is_of(definition)) {
        return Ok(of_media(StatusCode::OK, Media::Json, concatenated(definition, listing)));
    }
    let custom = definition.is_custom();
    let mut metadata = list_metadata(&listing);
    if form.media == Media::Protobuf && form.shape == Shape::Object {
        let bytes = typed::list_to_protobuf(definition, &listing, &metadata)?;
        return Ok(of_media(StatusCode::OK, form.media, bytes));
    }
    let items: Result<Vec<Value>> = listing.objects.iter().map(|object| object.value_as(definition)).collect();
    let list = match form.shape {
        Shape::Object => {
            if custom {
                metadata["continue"] = listing.next.clone().unwrap_or_default().into();
            }
            let items: Vec<_> = items?.into_iter().map(|item| if custom { item } else { unnamed(item) }).collect();
            json!({"kind": definition.list_kind, "apiVersion": definition.gvk.api_version(), "metadata": metadata, "items": items})
        }
        Shape::PartialMetadata => {
            return Err(negotiate::unservable(format!(
                "you requested PartialObjectMetadata, but the requested object is a list ({})",
                go_type(definition, &definition.list_kind)
            )));
        }
        Shape::PartialMetadataList => {
            let items: Vec<_> = items?.iter().map(|item| partial(definition, item)).collect();
            // As Go writes a nil slice.
            let items = if items.is_empty() { Value::Null } else { Value::Array(items) };
            json!({"kind": "PartialObjectMetadataList", "apiVersion": META_VERSION, "metadata": metadata, "items": items})
        }
        Shape::Table => return Err(ApiError::internal("tables of lists are made elsewhere")),
    };
    value(StatusCode::OK, form, &list)
}

/// The Go type that upstream's errors name.
fn go_type(definition: &Definition, kind: &str) -> String {
    let group = definition.gvk.group.split('.').next().unwrap_or_default();
    format!("*{}.{kind}", if group.is_empty() { "core" } else { group })
}

/// Items of typed lists carry neither kind nor apiVersion.
fn unnamed(mut item: Value) -> Value {
    if let Some(fields) = item.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    item
}

/// A list that is put together from the bytes of its objects; large ones while they are sent.
fn concatenated(definition: &Definition, listing: Listing) -> Body {
    let custom = definition.is_custom();
    let mut metadata = list_metadata(&listing);
    if custom {
        metadata["continue"] = listing.next.clone().unwrap_or_default().into();
    }
    let (kind, version) = (&definition.list_kind, definition.gvk.api_version());
    let metadata = typed::list_metadata_json(&metadata, custom);
    let metadata = String::from_utf8_lossy(&metadata);
    let (head, tail) = if custom {
        let tail = format!(r#"],"kind":"{kind}","metadata":{metadata}}}"#);
        (format!(r#"{{"apiVersion":"{version}","items":["#), tail)
    } else {
        let head = format!(r#"{{"kind":"{kind}","apiVersion":"{version}","metadata":{metadata},"items":["#);
        (head, "]}".to_owned())
    };
    let size = head.len() + tail.len() + 1 + listing.objects.iter().map(|object| object.line.len()).sum::<usize>();
    let mut parts = Parts { head: Some(head), tail, objects: listing.objects.into_iter(), custom, begun: false };
    if size <= CHUNK_BYTES {
        return Body::from(parts.next_chunk(size).unwrap_or_default());
    }
    Body::chunks(futures::stream::iter(std::iter::from_fn(move || parts.next_chunk(CHUNK_BYTES))))
}

struct Parts {
    head: Option<String>,
    tail: String,
    objects: std::vec::IntoIter<Arc<Object>>,
    custom: bool,
    begun: bool,
}

impl Parts {
    fn next_chunk(&mut self, size: usize) -> Option<Bytes> {
        let mut out = BytesMut::new();
        if let Some(head) = self.head.take() {
            out.reserve(size);
            out.put_slice(head.as_bytes());
        } else if self.objects.as_slice().is_empty() {
            return None;
        } else {
            out.reserve(size + (size >> 3));
        }
        for object in self.objects.by_ref() {
            if std::mem::replace(&mut self.begun, true) {
                out.put_u8(b',');
            }
            if self.custom {
                out.put_slice(object.json());
            } else {
                out.put_u8(b'{');
                out.put_slice(object.body());
            }
            if out.len() >= size {
                break;
            }
        }
        if self.objects.as_slice().is_empty() {
            out.put_slice(self.tail.as_bytes());
            out.put_u8(b'\n');
        }
        Some(out.freeze())
    }
}
