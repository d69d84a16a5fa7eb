//! Large answers, compressed while they are sent, for clients that take that.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, header};

use super::{
    answer::Answer,
    body::{Body, Chunks},
};

/// Smaller answers are not worth it; as upstream's threshold.
const MIN_BYTES: usize = 128 << 10;
/// What is compressed at a time.
const STEP_BYTES: usize = 128 << 10;

pub fn is_accepted(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|a| a.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|encoding| encoding.trim() == "gzip")
}

/// The answer with its body compressed, if that is large. Streams are taken for large.
pub fn compressed(answer: Answer) -> Answer {
    let (mut parts, body) = answer.into_parts();
    let chunks: Chunks = match body {
        Body::Full(bytes) if bytes.len() > MIN_BYTES => Box::pin(steps(bytes)),
        Body::Chunks(chunks) => chunks,
        body => return Answer::from_parts(parts, body),
    };
    parts.headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    zipped(parts, chunks)
}

/// The answer with its body compressed, whatever its size.
pub fn whole(answer: Answer) -> Answer {
    let (parts, body) = answer.into_parts();
    match body {
        Body::Full(bytes) => zipped(parts, Box::pin(steps(bytes))),
        body => Answer::from_parts(parts, body),
    }
}

fn zipped(mut parts: http::response::Parts, chunks: Chunks) -> Answer {
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Answer::from_parts(parts, Body::chunks(gzip(chunks)))
}

fn steps(mut bytes: Bytes) -> impl futures::Stream<Item = Bytes> + Send + Sync {
    stream::iter(std::iter::from_fn(move || {
        let step = bytes.split_to(bytes.len().min(STEP_BYTES));
        (!step.is_empty()).then_some(step)
    }))
}

fn gzip(chunks: Chunks) -> impl futures::Stream<Item = Bytes> + Send + Sync {
    // Level 1, as upstream: it costs the least and saves nearly as much.
    let encoder = Some(GzEncoder::new(Vec::new(), Compression::new(1)));
    stream::unfold((chunks, encoder), |(mut chunks, encoder)| async move {
        let mut encoder = encoder?;
        loop {
            let Some(chunk) = chunks.next().await else {
                // Writing to memory does not fail.
                let rest = encoder.finish().unwrap_or_default();
                return Some((Bytes::from(rest), (chunks, None)));
            };
            if encoder.write_all(&chunk).is_err() {
                return None;
            }
            let out = std::mem::take(encoder.get_mut());
            if !out.is_empty() {
                return Some((Bytes::from(out), (chunks, Some(encoder))));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn comes_out_as_it_went_in() {
        let text: String = (0..100_000).map(|i| format!("{i},")).collect();
        let answer = compressed(Answer::new(text.clone().into()));
        assert_eq!(answer.headers()[header::CONTENT_ENCODING], "gzip");
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(bytes.len() < text.len());
        let mut back = String::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut back).unwrap();
        assert_eq!(back, text);
        assert!(!compressed(Answer::new("small".into())).headers().contains_key(header::CONTENT_ENCODING));
    }
}
