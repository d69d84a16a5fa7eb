//! URLs as Go's net/url reads them: `url('https://example.com:80/').getHost()`.

use std::{collections::BTreeMap, sync::Arc};

use super::{Declared, text};
use crate::{
    cel::{
        map::{Key, Map},
        value::{EvalError, Outcome, Value},
    },
    field::quote,
};

/// The parts of a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    opaque: String,
    user: String,
    host: String,
    path: String,
    query: String,
    fragment: String,
}

impl Url {
    /// Reads a URL as a request has it: absolute, or a path, without a fragment. The error is Go's text.
    pub(crate) fn request(text: &str) -> Result<Self, String> {
        Self::read(text, true).map_err(|why| format!("parse {}: {why}", quote(text)))
    }

    /// Reads any URL.
    fn parse(text: &str) -> Result<Self, String> {
        let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
        let why = |why| format!("parse {}: {why}", quote(text));
        let mut url = Self::read(before, false).map_err(why)?;
        url.fragment = unescape(fragment, false).map_err(why)?;
        Ok(url)
    }

    fn read(text: &str, request: bool) -> Result<Self, String> {
        if text.bytes().any(|b| b < b' ' || b == 0x7f) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        if text.is_empty() && request {
            return Err("empty url".to_owned());
        }
        let mut url = Self::default();
        if text == "*" {
            url.path = "*".to_owned();
            return Ok(url);
        }
        let (scheme, rest) = scheme(text)?;
        url.scheme = scheme.to_ascii_lowercase();
        let (mut rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        url.query = query.to_owned();
        if !rest.starts_with('/') {
            if !url.scheme.is_empty() {
                url.opaque = rest.to_owned();
                return Ok(url);
            }
            if request {
                return Err("invalid URI for request".to_owned());
            }
            if rest.split('/').next().is_some_and(|first| first.contains(':')) {
                return Err("first path segment in URL cannot contain colon".to_owned());
            }
        }
        let may_have_host = !url.scheme.is_empty() || (!request && !rest.starts_with("///"));
        if let Some(authority) = rest.strip_prefix("//").filter(|_| may_have_host) {
            let at = authority.find('/').unwrap_or(authority.len());
            let (authority, path) = authority.split_at(at);
            rest = path;
            url.authority(authority)?;
        }
        unescape(rest, false)?;
        url.path = rest.to_owned();
        Ok(url)
    }

    fn authority(&mut self, authority: &str) -> Result<(), String> {
        let host = match authority.rsplit_once('@') {
            Some((user, host)) => {
                let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b);
                if !user.bytes().all(valid) {
                    return Err("net/url: invalid userinfo".to_owned());
                }
                unescape(user, false)?;
                self.user = user.to_owned();
                host
            }
            None => authority,
        };
        let port = if host.starts_with('[') {
            let end = host.rfind(']').ok_or("missing ']' in host")?;
            &host[end + 1..]
        } else {
            host.rfind(':').map_or("", |at| &host[at..])
        };
        if !(port.is_empty() || port.starts_with(':') && port[1..].bytes().all(|b| b.is_ascii_digit())) {
            return Err(format!("invalid port {} after host", quote(port)));
        }
        let allowed = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"%".contains(c);
        if let Some(c) = host.chars().find(|c| !allowed(*c)) {
            return Err(format!("invalid character {} in host name", quote(&c.to_string())));
        }
        self.host = unescape(host, true)?;
        Ok(())
    }

    fn hostname_and_port(&self) -> (&str, &str) {
        let (name, port) = match self.host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, port),
            _ => (self.host.as_str(), ""),
        };
        (name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name), port)
    }

    fn escaped_path(&self) -> String {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*[]%".contains(&b);
        if self.path.bytes().all(plain) {
            return self.path.clone();
        }
        let kept = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&b);
        let path = unescape(&self.path, false).unwrap_or_default();
        path.bytes().map(|b| if kept(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
    }

    fn queries(&self) -> BTreeMap<Key, Value<'static>> {
        let mut found: BTreeMap<String, Vec<Value<'static>>> = BTreeMap::new();
        for pair in self.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let plain = |text: &str| unescape(&text.replace('+', " "), false);
            if let (Ok(key), Ok(value)) = (plain(key), plain(value)) {
                found.entry(key).or_default().push(Value::text(value));
            }
        }
        found.into_iter().map(|(key, values)| (Key::String(key.into()), Value::list(values))).collect()
    }
}

fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if i > 0 => {}
            b':' if i == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&text[..i], &text[i + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

/// In a host only what is no ASCII may be escaped.
fn unescape(text: &str, host: bool) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        if b != b'%' {
            plain.push(b);
            i += 1;
            continue;
        }
        let digits = bytes.get(i + 1..i + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let value = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(value) = value.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            let bad = String::from_utf8_lossy(&bytes[i..bytes.len().min(i + 3)]).into_owned();
            return Err(format!("invalid URL escape {}", quote(&bad)));
        };
        if host && value < 0x80 && value != b'%' {
            return Err(format!("invalid URL escape {}", quote(&String::from_utf8_lossy(&bytes[i..i + 3]))));
        }
        plain.push(value);
        i += 3;
    }
    Ok(String::from_utf8_lossy(&plain).into_owned())
}

pub(super) const FUNCTIONS: &[Declared] = &[
    Declared::new("url", &[("string_to_url", "(string): kubernetes.URL", url)]),
    Declared::new("isURL", &[("is_url_string", "(string): bool", is_url)]),
    Declared::new(
        "getScheme",
        &[("url_get_scheme", "kubernetes.URL.(): string", |a| part(a, |u| Value::text(u.scheme.clone())))],
    ),
    Declared::new(
        "getHost",
        &[("url_get_host", "kubernetes.URL.(): string", |a| part(a, |u| Value::text(u.host.clone())))],
    ),
    Declared::new(
        "getHostname",
        &[("url_get_hostname", "kubernetes.URL.(): string", |a| part(a, |u| Value::text(u.hostname_and_port().0)))],
    ),
    Declared::new(
        "getPort",
        &[("url_get_port", "kubernetes.URL.(): string", |a| part(a, |u| Value::text(u.hostname_and_port().1)))],
    ),
    Declared::new(
        "getEscapedPath",
        &[("url_get_escaped_path", "kubernetes.URL.(): string", |a| part(a, |u| Value::text(u.escaped_path())))],
    ),
    Declared::new(
        "getQuery",
        &[("url_get_query", "kubernetes.URL.(): map(string, list(string))", |a| {
            part(a, |u| Value::Map(Map::new(u.queries())))
        })],
    ),
];

fn url<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let [url] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let url = text(url)?;
    let read = Url::request(url).and_then(|_| Url::parse(url));
    let wrong = |why| EvalError::new(format!("URL parse error during conversion from string: {why}"));
    read.map(|url| Value::Url(Arc::new(url))).map_err(wrong)
}

fn is_url<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [url] => Ok(Value::Bool(Url::request(text(url)?).is_ok())),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn part<'a>(arguments: &[Value<'a>], read: fn(&Url) -> Value<'static>) -> Outcome<'a> {
    match arguments {
        [Value::Url(url)] => Ok(read(url)),
        _ => Err(EvalError::no_such_overload()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let url = Url::parse("https://u:p@[::1]:80/a b%20c?x=1&x=2#f").unwrap();
        assert_eq!((url.host.as_str(), url.hostname_and_port()), ("[::1]:80", ("::1", "80")));
        assert_eq!(url.escaped_path(), "/a%20b%20c");
        for (text, why) in [
            ("../x", "parse \"../x\": invalid URI for request"),
            ("", "parse \"\": empty url"),
            ("http://a:x/", "parse \"http://a:x/\": invalid port \":x\" after host"),
            ("/%zz", "parse \"/%zz\": invalid URL escape \"%zz\""),
            (":", "parse \":\": missing protocol scheme"),
        ] {
            assert_eq!(Url::request(text).err().as_deref(), Some(why));
        }
    }
}
