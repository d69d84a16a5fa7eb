//! Links of a proxied server, led through the proxy again: in `Location`, and in pages while they pass.

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, StreamBody};

use super::{BoxError, Relay};

/// How links of one answer change.
#[derive(Debug)]
pub(super) struct Links {
    /// The path of the proxy, which links are put below.
    pub base: String,
    /// The server's own names: its address, and what the client called the apiserver.
    pub hosts: [String; 2],
}

impl Links {
    /// A link with an absolute path at the server itself leads through the proxy; others stay.
    pub fn through(&self, link: &str) -> String {
        let (host, path) = match link.split_once("://") {
            Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()))
            }
            _ => match link.strip_prefix("//") {
                Some(rest) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
                None => ("", link),
            },
        };
        let is_own = host.is_empty() || self.hosts.iter().any(|own| own == host);
        if !is_own || !path.starts_with('/') || path.starts_with(&self.base) {
            return link.to_owned();
        }
        format!("{}{path}", self.base.trim_end_matches('/'))
    }
}

/// The attributes that hold links, by element.
fn links_of(element: &str) -> &'static [&'static str] {
    match element {
        "a" | "area" | "base" | "link" => &["href"],
        "applet" => &["codebase"],
        "blockquote" | "del" | "ins" | "q" => &["cite"],
        "body" => &["background"],
        "button" => &["formaction"],
        "command" => &["icon"],
        "embed" | "script" | "source" => &["src"],
        "form" => &["action"],
        "frame" | "iframe" => &["longdesc", "src"],
        "head" => &["profile"],
        "html" => &["manifest"],
        "img" => &["longdesc", "src", "usemap"],
        "input" => &["src", "usemap", "formaction"],
        "object" => &["classid", "codebase", "data", "usemap"],
        "audio" | "video" => &["poster", "src"],
        _ => &[],
    }
}

/// A tag longer than this is passed on as it is.
const TAG_BYTES_MAX: usize = 64 << 10;

/// A page with its links changed, while it passes.
pub(super) fn rewritten(body: Relay, links: Links) -> Relay {
    let frames = BodyStream::new(body);
    let page = Page { links, held: Vec::new() };
    let stream = stream::unfold(Some((frames, page)), |state| async move {
        let (mut frames, mut page) = state?;
        loop {
            let bytes = match frames.next().await {
                Some(Ok(frame)) => frame.into_data().ok(),
                Some(Err(error)) => return Some((Err::<Frame<Bytes>, BoxError>(error), None)),
                None => return Some((Ok(Frame::data(std::mem::take(&mut page.held).into())), None)),
            };
            let ready = bytes.map(|bytes| page.push(&bytes)).unwrap_or_default();
            if !ready.is_empty() {
                return Some((Ok(Frame::data(ready.into())), Some((frames, page))));
            }
        }
    });
    StreamBody::new(stream).boxed_unsync()
}

/// A page in parts: a tag that is not yet whole is held back.
struct Page {
    links: Links,
    held: Vec<u8>,
}

impl Page {
    fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let held = std::mem::take(&mut self.held);
        let (mut out, mut rest) = (Vec::with_capacity(held.len() + 256), held.as_slice());
        while let Some(start) = rest.iter().position(|byte| *byte == b'<') {
            out.extend_from_slice(&rest[..start]);
            rest = &rest[start..];
            let Some(end) = end_of_tag(rest) else {
                if rest.len() <= TAG_BYTES_MAX {
                    self.held = rest.to_vec();
                    return out;
                }
                break;
            };
            self.write_tag(&rest[..end], &mut out);
            rest = &rest[end..];
        }
        out.extend_from_slice(rest);
        out
    }

    fn write_tag(&self, tag: &[u8], out: &mut Vec<u8>) {
        let name_end = tag.iter().skip(1).position(|byte| !byte.is_ascii_alphanumeric()).map_or(tag.len(), |at| at + 1);
        let name = String::from_utf8_lossy(&tag[1..name_end]).to_ascii_lowercase();
        let wanted = links_of(&name);
        if wanted.is_empty() {
            return out.extend_from_slice(tag);
        }
        let mut written = 0;
        for (attribute, value) in attributes(tag, name_end) {
            let Ok(link) = std::str::from_utf8(&tag[value.clone()]) else { continue };
            if wanted.contains(&attribute.as_str()) {
                out.extend_from_slice(&tag[written..value.start]);
                out.extend_from_slice(self.links.through(link).as_bytes());
                written = value.end;
            }
        }
        out.extend_from_slice(&tag[written..]);
    }
}

/// Where a tag ends: at the first `>` outside of quotes. What is no tag ends at once.
fn end_of_tag(text: &[u8]) -> Option<usize> {
    match text.get(1) {
        None => return None,
        Some(byte) if !byte.is_ascii_alphabetic() => return Some(1),
        Some(_) => {}
    }
    let mut quote = None;
    for (at, byte) in text.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    None
}

/// The attributes of a tag: their names in lower case, and where their values stand.
fn attributes(tag: &[u8], mut at: usize) -> Vec<(String, std::ops::Range<usize>)> {
    let until = |from: usize, stop: &dyn Fn(u8) -> bool| {
        tag.iter().skip(from).position(|byte| stop(*byte)).map_or(tag.len(), |offset| from + offset)
    };
    let blank = |byte: u8| byte.is_ascii_whitespace() || byte == b'/';
    let mut found = Vec::new();
    while at < tag.len() {
        let start = until(at, &|byte| !blank(byte));
        let end = until(start, &|byte| blank(byte) || byte == b'=' || byte == b'>');
        let sign = until(end, &|byte| !byte.is_ascii_whitespace());
        if tag.get(sign) != Some(&b'=') {
            at = end.max(start + 1);
            continue;
        }
        let open = until(sign + 1, &|byte| !byte.is_ascii_whitespace());
        let (from, to) = match tag.get(open) {
            Some(quote @ (b'"' | b'\'')) => (open + 1, until(open + 1, &|byte| byte == *quote)),
            _ => (open, until(open, &|byte| byte.is_ascii_whitespace() || byte == b'>')),
        };
        found.push((String::from_utf8_lossy(&tag[start..end]).to_ascii_lowercase(), from..to));
        at = (to + 1).max(start + 1);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links { base: "/api/v1/p/proxy".into(), hosts: ["10.0.0.1:80".into(), "localhost:8001".into()] }
    }

    #[test]
    fn links_lead_through_the_proxy() {
        for (link, want) in [
            ("/rewriteme", "/api/v1/p/proxy/rewriteme"),
            ("/", "/api/v1/p/proxy/"),
            ("relative", "relative"),
            ("http://10.0.0.1:80/a?b=c#d", "/api/v1/p/proxy/a?b=c#d"),
            ("//localhost:8001/a", "/api/v1/p/proxy/a"),
            ("https://example.com/a", "https://example.com/a"),
            ("/api/v1/p/proxy/a", "/api/v1/p/proxy/a"),
            ("#top", "#top"),
        ] {
            assert_eq!(links().through(link), want, "{link}");
        }
    }

    #[test]
    fn pages_are_rewritten_in_any_parts() {
        let page = r#"<html><!-- 1 < 2 --><A class=x href="/a>b">t</A><img src='/i' alt="/no"/><p title="/no">a<b<br>"#;
        let want = r#"<html><!-- 1 < 2 --><A class=x href="/api/v1/p/proxy/a>b">t</A><img src='/api/v1/p/proxy/i' alt="/no"/><p title="/no">a<b<br>"#;
        for size in [1, 2, 7, page.len()] {
            let mut rewriting = Page { links: links(), held: Vec::new() };
            let mut out: Vec<u8> = page.as_bytes().chunks(size).flat_map(|chunk| rewriting.push(chunk)).collect();
            out.extend(rewriting.held);
            assert_eq!(String::from_utf8(out).unwrap(), want, "in parts of {size}");
        }
        let plain = r#"<a href="/rewriteme">test</a>"#;
        let mut rewriting = Page { links: links(), held: Vec::new() };
        assert_eq!(rewriting.push(plain.as_bytes()), br#"<a href="/api/v1/p/proxy/rewriteme">test</a>"#);
    }
}
