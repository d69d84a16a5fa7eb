//! The body of an answer: nothing, bytes, or a stream of them.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::Mutex;

use crate::call::BoxError;

pub type Chunks = Pin<Box<dyn Stream<Item = Bytes> + Send + Sync>>;

#[derive(Default)]
pub enum Body {
    #[default]
    Empty,
    Full(Bytes),
    Chunks(Chunks),
    /// Another server's answer. Its errors cut the connection off, or a short answer would look whole.
    Relay(Relay),
}

/// Extends an answer that will only pass on what it is told, and takes hardly any time for it.
#[derive(Clone, Copy)]
pub struct Listens;

/// A relayed body, and what is kept as long as it is sent.
struct Holding<H> {
    relay: Relay,
    _held: H,
}

impl<H: Unpin> http_body::Body for Holding<H> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.relay.poll(context)
    }
}

/// Behind a lock that is never waited for: it only makes the body shareable, which warp asks for.
pub struct Relay(Mutex<UnsyncBoxBody<Bytes, BoxError>>);

impl Relay {
    pub fn new(body: UnsyncBoxBody<Bytes, BoxError>) -> Self {
        Self(Mutex::new(body))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        http_body::Body::poll_frame(Pin::new(self.0.get_mut()), context)
    }
}

impl Stream for Relay {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match std::task::ready!(self.poll(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }
}

impl Body {
    /// Keeps something until the body has been sent, or nobody wants it any more.
    pub fn holding(self, held: impl Send + Sync + Unpin + 'static) -> Self {
        match self {
            Self::Empty | Self::Full(_) => self,
            Self::Chunks(mut chunks) => {
                let mut held = Some(held);
                Self::chunks(futures::stream::poll_fn(move |context| {
                    let chunk = std::task::ready!(chunks.poll_next_unpin(context));
                    if chunk.is_none() {
                        drop(held.take());
                    }
                    Poll::Ready(chunk)
                }))
            }
            Self::Relay(relay) => Self::Relay(Relay::new(UnsyncBoxBody::new(Holding { relay, _held: held }))),
        }
    }

    /// Keeps something until the stream has nothing to send for the first time: until what a watch begins with is out.
    pub fn holding_until_idle(self, held: impl Send + Sync + Unpin + 'static) -> Self {
        let Self::Chunks(mut chunks) = self else { return self };
        let mut held = Some(held);
        Self::chunks(futures::stream::poll_fn(move |context| {
            let polled = chunks.poll_next_unpin(context);
            if held.is_some() && !matches!(polled, Poll::Ready(Some(_))) {
                drop(held.take());
            }
            polled
        }))
    }

    /// Shows what is sent to somebody, who is dropped with it.
    pub fn inspected(self, mut see: impl FnMut(&Bytes) + Send + Sync + 'static) -> Self {
        match self {
            Self::Chunks(chunks) => Self::chunks(chunks.inspect(move |chunk| see(chunk))),
            other => other,
        }
    }

    /// Chunks as one piece; a relayed answer stays as it is.
    pub async fn collected(self) -> Self {
        let Self::Chunks(mut chunks) = self else { return self };
        let mut whole = BytesMut::new();
        while let Some(chunk) = chunks.next().await {
            whole.extend_from_slice(&chunk);
        }
        whole.freeze().into()
    }

    pub fn chunks(stream: impl Stream<Item = Bytes> + Send + Sync + 'static) -> Self {
        Self::Chunks(Box::pin(stream))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Self::Relay(relay) = &mut *self {
            return relay.poll(context);
        }
        if let Self::Chunks(chunks) = &mut *self {
            return chunks.poll_next_unpin(context).map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))));
        }
        Poll::Ready(match std::mem::take(&mut *self) {
            Self::Full(bytes) => Some(Ok(Frame::data(bytes))),
            _ => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Chunks(_) | Self::Relay(_) => SizeHint::default(),
        }
    }
}
