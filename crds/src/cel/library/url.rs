//! URLs as Go's net/url reads them: `url('https://example.com:80/').getHost()`.

use std::{collections::BTreeMap, sync::Arc};

use super::{Declared, text};
use crate::{
    cel::{
        map::{Key, Map},
        value::{EvalError, Outcome, Value},
    },
    url::{self, escapes, unescape},
};

/// What expressions see of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: String,
    /// As it is written.
    path: String,
    query: String,
}

impl Url {
    /// An absolute URL, or a path from the root.
    fn read(text: &str) -> Result<Self, String> {
        url::Url::of_request(text)?;
        let url::Url { scheme, host, path, query, .. } = url::Url::parse(text)?;
        Ok(Self { scheme, host: unescape(host), path: path.to_owned(), query: query.to_owned() })
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
        unescape(&self.path)
            .bytes()
            .map(|b| if kept(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
            .collect()
    }

    fn queries(&self) -> BTreeMap<Key, Value<'static>> {
        let mut found: BTreeMap<String, Vec<Value<'static>>> = BTreeMap::new();
        for pair in self.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if [key, value].iter().all(|text| escapes(text, |_| true).is_ok()) {
                let plain = |text: &str| unescape(&text.replace('+', " "));
                found.entry(plain(key)).or_default().push(Value::text(plain(value)));
            }
        }
        found.into_iter().map(|(key, values)| (Key::String(key.into()), Value::list(values))).collect()
    }
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
    let wrong = |why| EvalError::new(format!("URL parse error during conversion from string: {why}"));
    Url::read(url).map(|url| Value::Url(Arc::new(url))).map_err(wrong)
}

fn is_url<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [url] => Ok(Value::Bool(url::Url::of_request(text(url)?).is_ok())),
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
        let url = Url::read("https://u:p@[::1]:80/a b%20c?x=1&x=2#f").unwrap();
        assert_eq!((url.host.as_str(), url.hostname_and_port()), ("[::1]:80", ("::1", "80")));
        assert_eq!(url.escaped_path(), "/a%20b%20c");
        for (text, why) in [
            ("../x", "parse \"../x\": invalid URI for request"),
            ("", "parse \"\": empty url"),
            ("http://a:x/", "parse \"http://a:x/\": invalid port \":x\" after host"),
            ("/%zz", "parse \"/%zz\": invalid URL escape \"%zz\""),
            (":", "parse \":\": missing protocol scheme"),
        ] {
            assert_eq!(Url::read(text).err().as_deref(), Some(why));
        }
    }
}
