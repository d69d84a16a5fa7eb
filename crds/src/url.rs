//! URLs as Go reads them, and why it would not.

use std::net::IpAddr;

use crate::field::quote;

/// The parts of a URL, as they are written.
#[derive(Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// In lower case; empty where there is none.
    pub scheme: String,
    pub user: Option<&'a str>,
    /// With the port; empty where there is none.
    pub host: &'a str,
    /// Empty of `mailto:me`.
    pub path: &'a str,
    pub query: &'a str,
    pub fragment: &'a str,
}

const OF_USERS: &[u8] = b"-._:~!$&'()*+,;=%@";
const OF_HOSTS: &[u8] = b"-_.~!$&'()*+,;=:[]<>\"";

impl<'a> Url<'a> {
    /// Any URL, absolute or not. The error is told in Go's words.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        let (whole, fragment) = text.split_once('#').unwrap_or((text, ""));
        let url = Self::read(whole, false).map_err(|why| told(whole, &why))?;
        escapes(fragment, |_| true).map_err(|why| told(text, &why))?;
        Ok(Self { fragment, ..url })
    }

    /// What a request may be for: an absolute URL, or a path from the root. It has no fragment.
    pub fn of_request(text: &'a str) -> Result<Self, String> {
        Self::read(text, true).map_err(|why| told(text, &why))
    }

    fn read(text: &'a str, is_request: bool) -> Result<Self, String> {
        if text.bytes().any(|c| c.is_ascii_control()) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        if text.is_empty() && is_request {
            return Err("empty url".to_owned());
        }
        let (scheme, rest) = if text == "*" { (String::new(), text) } else { scheme(text)? };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut url = Self { scheme, user: None, host: "", path: "", query, fragment: "" };
        if !rest.starts_with('/') && text != "*" {
            if !url.scheme.is_empty() {
                return Ok(url);
            }
            validate_rootless(rest, is_request)?;
        }
        let has_authority = !url.scheme.is_empty() || !is_request && !rest.starts_with("///");
        url.path = match rest.strip_prefix("//").filter(|_| has_authority) {
            Some(rest) => url.take_authority(rest)?,
            None => rest,
        };
        escapes(url.path, |_| true)?;
        Ok(url)
    }

    /// Gives what comes behind it.
    fn take_authority(&mut self, rest: &'a str) -> Result<&'a str, String> {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        (self.user, self.host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        validate_host(&self.scheme, self.host)?;
        self.user.map_or(Ok(()), validate_user)?;
        Ok(path)
    }
}

/// What `%` escapes is put in its place, where it is well-formed.
pub fn unescape(text: &str) -> String {
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match byte(part) {
            Some(byte) => {
                plain.push(byte);
                plain.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => plain.extend(std::iter::once(b'%').chain(part.bytes())),
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// The byte that the first two digits stand for.
fn byte(digits: &str) -> Option<u8> {
    let digits = digits.get(..2).filter(|digits| digits.bytes().all(|c| c.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

/// Every `%` is followed by two hexadecimal digits, which stand for a byte that `allowed` allows.
pub fn escapes(text: &str, allowed: impl Fn(u8) -> bool) -> Result<(), String> {
    for (at, _) in text.match_indices('%') {
        if !byte(&text[at + 1..]).is_some_and(&allowed) {
            let shown: String = text[at..].chars().take(3).collect();
            return Err(format!("invalid URL escape {}", quote(&shown)));
        }
    }
    Ok(())
}

fn validate_rootless(path: &str, is_request: bool) -> Result<(), String> {
    if is_request {
        return Err("invalid URI for request".to_owned());
    }
    if path.split('/').next().is_some_and(|first| first.contains(':')) {
        return Err("first path segment in URL cannot contain colon".to_owned());
    }
    Ok(())
}

fn told(text: &str, why: &str) -> String {
    format!("parse {}: {why}", quote(text))
}

/// The scheme in lower case, and what comes behind it.
fn scheme(text: &str) -> Result<(String, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
    match end.map(|end| text.split_at(end)) {
        Some(("", rest)) if rest.starts_with(':') => Err("missing protocol scheme".to_owned()),
        Some((scheme, rest)) if rest.starts_with(':') && scheme.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            Ok((scheme.to_lowercase(), rest.strip_prefix(':').unwrap_or(rest)))
        }
        _ => Ok((String::new(), text)),
    }
}

fn validate_user(user: &str) -> Result<(), String> {
    if !user.bytes().all(|c| c.is_ascii_alphanumeric() || OF_USERS.contains(&c)) {
        return Err("net/url: invalid userinfo".to_owned());
    }
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    escapes(name, |_| true)?;
    escapes(password, |_| true)
}

fn validate_host(scheme: &str, host: &str) -> Result<(), String> {
    match host.rfind('[') {
        Some(0) => validate_literal(host),
        Some(_) => Err("invalid IP-literal".to_owned()),
        None => {
            // Colons in hosts were let pass for long, and are for schemes of databases.
            let is_web = matches!(scheme, "http" | "https");
            let colon = if is_web { host.find(':') } else { host.rfind(':') };
            validate_port(colon.map_or("", |at| &host[at..]))?;
            validate_name(host)
        }
    }
}

/// An IPv6 address in brackets, perhaps with a zone.
fn validate_literal(host: &str) -> Result<(), String> {
    let Some((address, port)) = host.strip_prefix('[').and_then(|rest| rest.rsplit_once(']')) else {
        return Err("missing ']' in host".to_owned());
    };
    validate_port(port)?;
    let (name, zone) = address.split_at(address.find("%25").unwrap_or(address.len()));
    validate_name(name)?;
    escapes(zone, |escaped| escaped == 0x25 || escaped == b' ' || is_of_host(escaped))?;
    match name.parse() {
        Ok(IpAddr::V6(_)) => Ok(()),
        Ok(IpAddr::V4(_)) => Err("invalid IP-literal".to_owned()),
        Err(_) => Err(format!("invalid host: ParseAddr({}): unable to parse IP", quote(address))),
    }
}

fn validate_port(port: &str) -> Result<(), String> {
    let is_number = |port: &str| port.strip_prefix(':').is_some_and(|port| port.bytes().all(|c| c.is_ascii_digit()));
    if port.is_empty() || is_number(port) {
        return Ok(());
    }
    Err(format!("invalid port {} after host", quote(port)))
}

fn is_of_host(c: u8) -> bool {
    !c.is_ascii() || c.is_ascii_alphanumeric() || OF_HOSTS.contains(&c)
}

fn validate_name(name: &str) -> Result<(), String> {
    // Whatever comes first is told.
    let wrong = name.char_indices().find(|(_, c)| *c != '%' && c.is_ascii() && !is_of_host(*c as u8));
    escapes(wrong.map_or(name, |(at, _)| &name[..at]), |escaped| escaped >= 0x80 || escaped == 0x25)?;
    wrong.map_or(Ok(()), |(_, c)| Err(format!("invalid character {} in host name", quote(&c.to_string()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let url = Url::parse("HTTPS://me@a.example.com:443/x?y#z").unwrap();
        let want = Url {
            scheme: "https".into(),
            user: Some("me"),
            host: "a.example.com:443",
            path: "/x",
            query: "y",
            fragment: "z",
        };
        assert_eq!(url, want);
        for (text, scheme, host) in [
            ("", "", ""),
            ("*", "", ""),
            ("/a/b", "", ""),
            ("//h/p", "", "h"),
            ("mailto:a:b", "mailto", ""),
            ("a/b:c", "", ""),
            ("https://[fe80::1%25en0]:80/", "https", "[fe80::1%25en0]:80"),
            ("db://a:1,b:2/", "db", "a:1,b:2"),
            ("https://h%C3%BC/", "https", "h%C3%BC"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((&*url.scheme, url.host), (scheme, host), "{text}");
        }
    }

    #[test]
    fn what_go_does_not_read() {
        for (text, want) in [
            (":a", "missing protocol scheme"),
            ("a:b/c:d\n", "net/url: invalid control character in URL"),
            ("1a:b", "first path segment in URL cannot contain colon"),
            ("https://h:x/", "invalid port \":x\" after host"),
            ("https://a:1:2/", "invalid port \":1:2\" after host"),
            ("https://a b/", "invalid character \" \" in host name"),
            ("https://a%20b/", "invalid URL escape \"%20\""),
            ("https://a[::1]/", "invalid IP-literal"),
            ("https://[::1/", "missing ']' in host"),
            ("https://[1.2.3.4]/", "invalid IP-literal"),
            ("https://[x]/", "invalid host: ParseAddr(\"x\"): unable to parse IP"),
            ("https://a b@h/", "net/url: invalid userinfo"),
            ("https://h/%zz", "invalid URL escape \"%zz\""),
            ("https://h/%2", "invalid URL escape \"%2\""),
        ] {
            assert_eq!(Url::parse(text), Err(told(text, want)));
        }
        assert_eq!(Url::of_request("a/b"), Err("parse \"a/b\": invalid URI for request".into()));
        assert_eq!(Url::of_request(""), Err("parse \"\": empty url".into()));
        assert_eq!(Url::of_request("//h").unwrap().host, "");
    }

    #[test]
    fn escaped() {
        for (text, want) in [("a%20b", "a b"), ("%C3%BC%", "ü%"), ("%4", "%4"), ("%zz", "%zz")] {
            assert_eq!(unescape(text), want);
        }
    }
}
