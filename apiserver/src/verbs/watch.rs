//! Watches: the answer is a stream of events that ends with the client, the time or the watcher's patience.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use crds::{kind::Definition, schema::protobuf};
use futures::{
    FutureExt, Stream, StreamExt,
    future::{Either, ready},
};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use store::Revision;
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::{
    cache::{
        Cache, Change, KindCache, Object,
        changes::{Changes, Run},
        kind::Delivery,
        watcher::{First, From, Watch},
    },
    call::Call,
    codec::{
        Form, Media, Shape,
        answer::{self, Answer},
        body::{Body, Chunks, Listens},
        typed,
    },
    custom::{convert, stream},
    error::{ApiError, Result},
    metrics::LongRunning,
    options::{ListOptions, revision_or_500},
    pipeline::Apiserver,
    route::Target,
    table::{IncludeObject, Printer},
    websocket::Wish,
    world::World,
};

/// A watch without a timeout lives between one and two of these.
const LIFE_SECONDS: u64 = 1800;
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// As upstream: the last bookmark comes so long before the end of a watch, whose client goes on from there.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);
/// Events that are ready together are sent together, up to what one HTTP/2 frame and, with its head, one TLS record take.
const BATCH_BYTES: usize = (16 << 10) - 9;

pub async fn answer(server: &Apiserver, call: &mut Call, target: &Target) -> Result<Answer> {
    let definition = &target.definition;
    let form = super::form(call, definition)?;
    let content_type = match form.media {
        Media::Json => "application/json",
        Media::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Media::Yaml => return Err(crate::codec::negotiate::not_acceptable_stream()),
    };
    let options = ListOptions::from_query(&call.query, definition, true)?;
    let filter = super::list::filter(call, target, &options)?;
    let from = start(server, &options).await?;
    let cache = server.world.cache.clone();
    let life = match options.timeout_seconds.filter(|seconds| *seconds > 0) {
        Some(seconds) => Duration::from_secs(seconds),
        None => Duration::from_secs(LIFE_SECONDS + server.world.random.below(LIFE_SECONDS.into()) as u64),
    };
    let include = IncludeObject::parse(call.query.first("includeObject").unwrap_or_default())?;
    let encoder = Encoder {
        definition: definition.clone(),
        kind: cache.kind(definition),
        form,
        include,
        world: server.world.clone(),
        columns_told: false,
    };
    let is_converted = convert::family(definition).is_some();
    let watched = match is_converted {
        true => {
            let watched = stream::watch(&server.world, filter, from).await;
            watched.map(|watch| watch.told_by(|changes| Either::Left(Converted(changes))))
        }
        false => cache.watch(filter, from).await.map(|watch| watch.told_by(Either::Right)),
    };
    let wish = Wish::of(&call.headers, &mut call.extensions);
    let events: Chunks = match watched {
        Ok(watch) => {
            let initial_end = options.bookmarks && options.send_initial_events == Some(true);
            // Events that are still being converted would be overtaken.
            let bookmarks = options.bookmarks && !is_converted;
            let open = server.metrics.watched(&call.info);
            let events = Events::new(cache, watch, encoder, life, bookmarks, initial_end, open);
            Box::pin(if wish.is_some() { events.one_by_one() } else { events })
        }
        // As upstream: a watch that cannot begin where it should ends with an event that says so.
        Err(error) if error.code() == StatusCode::GONE => {
            let event = encoder.error(&error);
            Box::pin(futures::stream::iter([event]))
        }
        Err(error) => return Err(error),
    };
    match wish {
        Some(wish) => over_websocket(wish, form.media, events),
        None => {
            let mut answer = answer::with(StatusCode::OK, HeaderValue::from_static(content_type), Body::Chunks(events));
            answer.extensions_mut().insert(Listens);
            Ok(answer)
        }
    }
}

/// Each event is a message, which needs no frame around it.
fn over_websocket(wish: Wish<'_>, media: Media, events: Chunks) -> Result<Answer> {
    if !wish.has_origin() {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "Forbidden", "a WebSocket for events needs an Origin"));
    }
    let protocol = match wish.protocols()[..] {
        [] => None,
        [protocol] => Some(protocol),
        _ => return Err(ApiError::bad_request("a WebSocket for events is of one protocol")),
    };
    let messages = events.filter(|event| ready(!event.is_empty())).map(move |mut event| match media {
        Media::Protobuf => Ok(Message::binary(event.split_off(protobuf::LENGTH_BYTES.min(event.len())))),
        _ => Utf8Bytes::try_from(event).map(Message::Text).map_err(Into::into),
    });
    Ok(wish.switch(protocol, messages)?.map(|()| Body::Empty))
}

async fn start(server: &Apiserver, options: &ListOptions) -> Result<From> {
    let asked = revision_or_500(&options.resource_version)?;
    Ok(match (options.send_initial_events, asked) {
        (Some(true), Some(revision)) => From::State(revision),
        (Some(true), None) => From::State(server.world.store.revision().await.map_err(ApiError::from_store)?),
        (_, None | Some(0)) => From::Now,
        (_, Some(revision)) => From::After(revision),
    })
}

struct Encoder {
    definition: Arc<Definition>,
    kind: Arc<KindCache>,
    form: Form,
    include: IncludeObject,
    world: Arc<World>,
    /// A watch of tables tells the columns once.
    columns_told: bool,
}

/// What tells of changes.
trait Source {
    /// What there is, up to so many bytes, unless one event is more.
    fn poll_piece(&mut self, context: &mut Context<'_>, encoder: &mut Encoder, max: usize) -> Poll<Option<Bytes>>;
}

impl Source for Changes {
    fn poll_piece(&mut self, context: &mut Context<'_>, encoder: &mut Encoder, max: usize) -> Poll<Option<Bytes>> {
        let run = self.poll_run(context, encoder.shared_form(), max, |delivery| encoder.encoded(delivery));
        run.map(|run| {
            let Run { bytes, lengths } = run?;
            lengths.iter().for_each(|length| encoder.kind.told().observe(*length as u64));
            Some(bytes)
        })
    }
}

/// Events that were converted one by one.
struct Converted<S>(S);

impl<S: Stream<Item = Delivery> + Unpin> Source for Converted<S> {
    fn poll_piece(&mut self, context: &mut Context<'_>, encoder: &mut Encoder, _: usize) -> Poll<Option<Bytes>> {
        self.0.poll_next_unpin(context).map(|delivery| delivery.map(|delivery| encoder.event(&delivery)))
    }
}

impl<A: Source, B: Source> Source for Either<A, B> {
    fn poll_piece(&mut self, context: &mut Context<'_>, encoder: &mut Encoder, max: usize) -> Poll<Option<Bytes>> {
        match self {
            Self::Left(source) => source.poll_piece(context, encoder, max),
            Self::Right(source) => source.poll_piece(context, encoder, max),
        }
    }
}

impl Encoder {
    /// The form of events that are the same for all who want it; tables are not.
    fn shared_form(&self) -> Option<Form> {
        (self.form.shape != Shape::Table).then_some(self.form)
    }

    fn event(&mut self, delivery: &Delivery) -> Bytes {
        let event = self.encoded(delivery);
        self.kind.told().observe(event.len() as u64);
        event
    }

    fn encoded(&mut self, (change, event): &Delivery) -> Bytes {
        if self.form.shape == Shape::Table {
            return event.shown(*change).map(|object| self.table(change.name(), object)).unwrap_or_default();
        }
        event.encoded(*change, self.form, &self.definition, |object| self.frame(change.name(), object))
    }

    fn table(&mut self, change: &str, object: &Arc<Object>) -> Bytes {
        let printer = Printer {
            definition: &self.definition,
            include: self.include,
            describe: super::describe,
            now: self.world.now(),
        };
        let columns = !std::mem::replace(&mut self.columns_told, true);
        match object.form(&self.definition).and_then(|object| printer.print_one(&object, columns)) {
            Ok(table) => json_frame(change, &table),
            Err(error) => self.error(&error),
        }
    }

    fn first(&mut self, object: &Arc<Object>) -> Bytes {
        let event = match self.form.shape {
            Shape::Table => self.table(Change::Added.name(), object),
            _ => self.frame(Change::Added.name(), object),
        };
        self.kind.told().observe(event.len() as u64);
        event
    }

    fn frame(&self, change: &str, object: &Arc<Object>) -> Bytes {
        let object = match object.form(&self.definition) {
            Ok(object) => object,
            Err(error) => return self.error(&error),
        };
        if self.form.shape == Shape::Object && self.form.media == Media::Protobuf {
            return match typed::object_to_protobuf(&object, &self.definition) {
                Ok(bytes) => protobuf::watch_frame(change, &bytes).into(),
                Err(error) => self.error(&error),
            };
        }
        if self.form.shape == Shape::Object && object.is_of(&self.definition) {
            return json_frame(change, object.json());
        }
        match object.value_as(&self.definition) {
            Ok(value) => self.value(change, value),
            Err(error) => self.error(&error),
        }
    }

    fn value(&self, change: &str, object: Value) -> Bytes {
        let shaped = match self.form.shape {
            Shape::PartialMetadata | Shape::PartialMetadataList => answer::partial(&self.definition, &object),
            _ => object,
        };
        self.framed(change, &shaped)
    }

    /// A value that has kind and apiVersion, in a frame of the stream.
    fn framed(&self, change: &str, value: &Value) -> Bytes {
        if self.form.media != Media::Protobuf {
            return json_frame(change, &typed::json(value));
        }
        let bytes = typed::to_protobuf(value);
        bytes.map_or_else(|_| Bytes::new(), |bytes| protobuf::watch_frame(change, &bytes).into())
    }

    fn bookmark(&mut self, revision: Revision, ends_initial: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if ends_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let mut object = answer::named(json!({"metadata": metadata}), &self.definition);
        typed::canonical(&self.definition, &mut object);
        if self.form.shape != Shape::Table {
            return self.value("BOOKMARK", object);
        }
        match Object::of(&object, revision) {
            Ok(object) => self.table("BOOKMARK", &Arc::new(object)),
            Err(error) => self.error(&error),
        }
    }

    fn error(&self, error: &ApiError) -> Bytes {
        let mut status = serde_json::to_value(error.status()).unwrap_or_default();
        status["kind"] = "Status".into();
        status["apiVersion"] = "v1".into();
        status["metadata"] = json!({});
        self.framed("ERROR", &status)
    }
}

fn json_frame(change: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + 40);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(change.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
    out.freeze()
}

/// When a watch has something to say without an event: the next bookmark, if there are more, or its end.
fn rest_until(last_bookmark: Option<Instant>, end: Instant, now: Instant) -> Instant {
    last_bookmark.map_or(end, |last| last.min(now + BOOKMARK_INTERVAL))
}

/// The stream of one watch.
struct Events<C> {
    cache: Arc<Cache>,
    encoder: Encoder,
    objects: VecDeque<Arc<Object>>,
    deliveries: VecDeque<Delivery>,
    /// The bookmark that follows the initial events.
    initial_end: Option<Revision>,
    /// What did not fit in with those before it.
    held: Option<Bytes>,
    changes: C,
    /// What is sent at one time, unless one event is more.
    batch_bytes: usize,
    bookmarks: bool,
    last_bookmark: Instant,
    end: Instant,
    /// Until the next bookmark, or the end.
    rest: Pin<Box<Sleep>>,
    over: bool,
    _open: LongRunning,
}

impl<C: Source> Events<C> {
    fn new(
        cache: Arc<Cache>,
        watch: Watch<C>,
        encoder: Encoder,
        life: Duration,
        bookmarks: bool,
        initial_end: bool,
        open: LongRunning,
    ) -> Self {
        let (objects, deliveries) = match watch.first {
            First::Objects(objects) => (objects.into(), VecDeque::new()),
            First::Changes(changes) => (VecDeque::new(), changes.into()),
        };
        let now = Instant::now();
        let (end, last_bookmark) = (now + life, now + life.saturating_sub(LAST_BOOKMARK));
        let bookmarks = bookmarks && life > LAST_BOOKMARK;
        Self {
            cache,
            encoder,
            objects,
            deliveries,
            initial_end: initial_end.then_some(watch.revision),
            held: None,
            changes: watch.changes,
            batch_bytes: BATCH_BYTES,
            bookmarks,
            last_bookmark,
            end,
            rest: Box::pin(tokio::time::sleep_until(rest_until(bookmarks.then_some(last_bookmark), end, now))),
            over: false,
            _open: open,
        }
    }

    fn one_by_one(self) -> Self {
        Self { batch_bytes: 0, ..self }
    }

    /// The next event that needs no waiting for.
    fn ready(&mut self) -> Option<Bytes> {
        if let Some(object) = self.objects.pop_front() {
            return Some(self.encoder.first(&object));
        }
        if let Some(delivery) = self.deliveries.pop_front() {
            return Some(self.encoder.event(&delivery));
        }
        if let Some(revision) = self.initial_end.take() {
            return Some(self.encoder.bookmark(revision, true));
        }
        None
    }

    /// What came later than that.
    fn poll_later(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.over {
            return Poll::Ready(None);
        }
        // Read before the queue: everything up to this revision has been put into it.
        let revision = self.cache.revision();
        match self.changes.poll_piece(context, &mut self.encoder, self.batch_bytes) {
            Poll::Ready(Some(piece)) => return Poll::Ready(Some(piece)),
            Poll::Ready(None) => {
                self.over = true;
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
        if self.rest.as_mut().poll_unpin(context).is_pending() {
            return Poll::Pending;
        }
        if !self.bookmarks {
            self.over = true;
            return Poll::Ready(None);
        }
        let now = Instant::now();
        self.bookmarks = now < self.last_bookmark;
        let next = rest_until(self.bookmarks.then_some(self.last_bookmark), self.end, now);
        self.rest.as_mut().reset(next);
        // Asks to be woken again.
        context.waker().wake_by_ref();
        Poll::Ready(Some(self.encoder.bookmark(revision, false)))
    }
}

impl<C: Source + Unpin> Stream for Events<C> {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = &mut *self;
        let mut held = this.held.take();
        let first = Run::gather(this.batch_bytes, || held.take().or_else(|| this.ready()));
        let Some((run, held)) = first else { return this.poll_later(context) };
        this.held = held;
        Poll::Ready(Some(run.bytes))
    }
}
