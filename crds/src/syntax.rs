//! The syntax of what objects hold beside names: ports, variables, keys, addresses. Each tells what is wrong, in
//! upstream's words, and nothing if all is right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::field::{Error, Errors, Path, extend, quote, too_long_name};

/// A whole number as Go's `strconv.ParseInt` reads it, and its words for what is none.
pub fn go_int(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    text.parse().map_err(|_| {
        let syntax = digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit());
        let why = if syntax { "invalid syntax" } else { "value out of range" };
        format!("strconv.ParseInt: parsing {}: {why}", quote(text))
    })
}

pub fn in_range(value: i64, min: i64, max: i64) -> Vec<String> {
    if (min..=max).contains(&value) { Vec::new() } else { vec![range_text(min, max)] }
}

pub fn range_text(min: i64, max: i64) -> String {
    format!("must be between {min} and {max}, inclusive")
}

pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

/// A user or group id.
pub fn id(id: i64) -> Vec<String> {
    in_range(id, 0, i64::from(i32::MAX))
}

pub fn port_name(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if name.len() > 15 {
        wrong.push(too_long_name(15));
    }
    if name.is_empty() || !name.bytes().all(allowed) {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|c| c.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// A percentage, `25%`.
pub fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or("");
    if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) {
        return Vec::new();
    }
    vec!["a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')".to_owned()]
}

pub fn header_name(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
        return Vec::new();
    }
    vec!["a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')".to_owned()]
}

/// The name of an environment variable: anything printable but `=`.
pub fn variable_name(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if name.is_empty() {
        wrong.push("environment variable name must be non-empty".to_owned());
    }
    if name.chars().any(|c| !(' '..='~').contains(&c) || c == '=') {
        wrong.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    wrong
}

/// The key of a ConfigMap or a Secret.
pub fn config_key(key: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if key.len() > 253 {
        wrong.push(too_long_name(253));
    }
    if key.is_empty() || !key.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_')) {
        wrong.push("a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')".to_owned());
    }
    match key {
        "." => wrong.push("must not be '.'".to_owned()),
        ".." => wrong.push("must not be '..'".to_owned()),
        key if key.starts_with("..") => wrong.push("must not start with '..'".to_owned()),
        _ => {}
    }
    wrong
}

/// A DNS subdomain whose labels may hold underscores, as search paths do.
pub fn dns_search(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > 253 {
        wrong.push(too_long_name(253));
    }
    let lower = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| {
        let b = label.strip_prefix('_').unwrap_or(label).as_bytes();
        !b.is_empty() && lower(b[0]) && lower(b[b.len() - 1]) && b.iter().all(|c| lower(*c) || matches!(c, b'-' | b'_'))
    };
    if !value.split('.').all(label) {
        wrong.push("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')".to_owned());
    }
    wrong
}

pub fn c_identifier(value: &str) -> Vec<String> {
    let b = value.as_bytes();
    let inner = |c: &u8| c.is_ascii_alphanumeric() || *c == b'_';
    if !b.is_empty() && !b[0].is_ascii_digit() && b.iter().all(inner) {
        return Vec::new();
    }
    vec!["a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')".to_owned()]
}

/// `*.` and a DNS subdomain.
pub fn wildcard_subdomain(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > 253 {
        wrong.push(too_long_name(253));
    }
    let rest = value.strip_prefix("*.").unwrap_or("");
    if rest.is_empty() || crate::field::dns_subdomain(rest).iter().any(|w| !w.starts_with("must be no more")) {
        wrong.push("a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".to_owned());
    }
    wrong
}

/// An address as older fields take it: leading zeros in IPv4 parts are read, and then refused.
pub fn parse_ip(value: &str) -> Option<IpAddr> {
    value.parse().ok().or_else(|| zero_padded(value).map(IpAddr::V4))
}

fn zero_padded(value: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u8> = value
        .split('.')
        .map(|part| {
            let plain = !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
            plain.then(|| part.trim_start_matches('0')).map(|p| if p.is_empty() { "0" } else { p })
        })
        .map(|part| part.and_then(|p| p.parse().ok()))
        .collect::<Option<_>>()?;
    <[u8; 4]>::try_from(parts).ok().map(Ipv4Addr::from)
}

/// An IP address.
pub fn ip(value: &str) -> Vec<String> {
    match (value.parse::<IpAddr>(), parse_ip(value)) {
        (_, None) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
        (Err(_), Some(_)) => vec!["must not have leading 0s".to_owned()],
        (Ok(IpAddr::V6(ip)), _) if is_mapped(&ip) => vec!["must not be an IPv4-mapped IPv6 address".to_owned()],
        _ => Vec::new(),
    }
}

fn is_mapped(ip: &Ipv6Addr) -> bool {
    ip.to_ipv4_mapped().is_some()
}

/// An IP address in the one form that is canonical.
pub fn canonical_ip(value: &str) -> Vec<String> {
    let wrong = ip(value);
    match parse_ip(value) {
        Some(ip) if wrong.is_empty() && ip.to_string() != value => {
            vec![format!("must be in canonical form ({:?})", ip.to_string())]
        }
        _ => wrong,
    }
}

/// An address that a Service can lead to: not one that means something else on each machine.
pub fn endpoint_ip(value: &str) -> Vec<String> {
    let Some(ip) = parse_ip(value) else {
        return vec!["must be a valid IP address".to_owned()];
    };
    let (local, multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    let mut wrong = Vec::new();
    if ip.is_unspecified() {
        wrong.push(format!("may not be unspecified ({value})"));
    }
    for (is, range) in [
        (ip.is_loopback(), "loopback range (127.0.0.0/8, ::1/128)"),
        (local, "link-local range (169.254.0.0/16, fe80::/10)"),
        (multicast, "link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ] {
        if is {
            wrong.push(format!("may not be in the {range}"));
        }
    }
    wrong
}

/// An address and the length of its prefix.
pub fn parse_cidr(value: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = value.split_once('/')?;
    let address = parse_ip(address)?;
    let digits = !length.is_empty() && length.bytes().all(|c| c.is_ascii_digit());
    let length: u8 = length.parse().ok().filter(|_| digits)?;
    (length <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, length))
}

/// A block of addresses.
pub fn cidr(value: &str) -> Vec<String> {
    let Some((address, length)) = parse_cidr(value) else {
        return vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()];
    };
    let (written, digits) = value.split_once('/').unwrap_or((value, ""));
    if written.parse::<IpAddr>().is_err() || (digits.len() > 1 && digits.starts_with('0')) {
        return vec!["must not have leading 0s in IP or prefix length".to_owned()];
    }
    if matches!(address, IpAddr::V6(ip) if is_mapped(&ip)) {
        return vec!["must not have an IPv4-mapped IPv6 address".to_owned()];
    }
    if masked(address, length) != address {
        return vec!["must not have bits set beyond the prefix length".to_owned()];
    }
    Vec::new()
}

/// A block of addresses in the one form that is canonical.
pub fn canonical_cidr(value: &str) -> Vec<String> {
    let wrong = cidr(value);
    match parse_cidr(value).map(|(address, length)| format!("{}/{length}", masked(address, length))) {
        Some(canonical) if wrong.is_empty() && canonical != value => {
            vec![format!("must be in canonical form ({canonical:?})")]
        }
        _ => wrong,
    }
}

/// A domain and a path: `acme.io/foo`.
pub fn domain_path(value: &str, path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.push(Error::required(*path, ""));
        return;
    }
    let Some((host, rest)) = value.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty()) else {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(Error::invalid(*path, value, why));
        return;
    };
    extend(errors, *path, host, crate::field::dns_subdomain(host));
    if !rest.bytes().all(|c| c.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&c)) {
        let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.push(Error::invalid(*path, rest, why));
    }
}

/// A domain and a name: `acme.io/foo`.
pub fn domain_key(value: &str, path: &Path, errors: &mut Errors) {
    let wrong = crate::field::qualified_name(value);
    if value.is_empty() {
        errors.push(Error::required(*path, ""));
    } else if wrong.is_empty() && !value.contains('/') {
        errors.push(Error::invalid(*path, value, "must be a domain-prefixed key (such as \"acme.io/foo\")"));
    } else {
        extend(errors, *path, value, wrong);
    }
}

/// A domain name of two labels or more, with or without the dot at its end.
pub fn domain_name(value: &str, path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.push(Error::required(*path, ""));
        return;
    }
    let name = value.strip_suffix('.').unwrap_or(value);
    let wrong = crate::field::dns_subdomain(name);
    if !wrong.is_empty() {
        errors.push(Error::invalid(*path, name, wrong.join(",")));
        return;
    }
    if !name.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(*path, name, why));
        return;
    }
    let wrong = name.split('.').map(|label| (label, crate::field::dns_label(label)));
    if let Some((label, wrong)) = wrong.into_iter().find(|(_, wrong)| !wrong.is_empty()) {
        errors.push(Error::invalid(*path, label, wrong.join(",")));
    }
}

/// The address with all bits behind the prefix cleared.
pub fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            IpAddr::V4((u32::from(ip) & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)).into())
        }
        IpAddr::V6(ip) => {
            IpAddr::V6((u128::from(ip) & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)).into())
        }
    }
}

/// Whether these are addresses of both families, one at least of each.
pub fn is_dual_stack(addresses: &[String]) -> bool {
    let families = |v4: bool| addresses.iter().any(|a| parse_ip(a).is_some_and(|ip| ip.is_ipv4() == v4));
    families(true) && families(false)
}

/// The warning that a valid address gets for not being in canonical form.
pub fn ip_warning(path: impl std::fmt::Display, value: &str) -> Option<String> {
    let ip = parse_ip(value)?;
    if !crate::syntax::ip(value).is_empty() {
        let plain = match ip {
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
            IpAddr::V4(_) => ip,
        };
        return Some(format!("{path}: non-standard IP address {value:?} is invalid: use {:?}", plain.to_string()));
    }
    (ip.is_ipv6() && ip.to_string() != value).then(|| {
        format!("{path}: IPv6 address {value:?} should be in RFC 5952 canonical format ({:?})", ip.to_string())
    })
}

/// The same for a range of addresses.
pub fn cidr_warning(path: impl std::fmt::Display, value: &str) -> Option<String> {
    let (address, length) = parse_cidr(value)?;
    let network = format!("{}/{length}", masked(address, length));
    if masked(address, length) != address {
        let whole = if address.is_ipv4() { 32 } else { 128 };
        return Some(format!(
            "{path}: CIDR value {value:?} is ambiguous in this context (should be {network:?} or \"{address}/{whole}\"?)"
        ));
    }
    if !cidr(value).is_empty() {
        return Some(format!("{path}: non-standard CIDR value {value:?} is invalid: use {network:?}"));
    }
    (address.is_ipv6() && network != value)
        .then(|| format!("{path}: IPv6 CIDR value {value:?} should be in RFC 5952 canonical format ({network:?})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (value, want) in [
            ("10.0.0.1", ""),
            ("1.2.3", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            ("010.0.0.1", "must not have leading 0s"),
            ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
            ("fe80::1%eth0", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ] {
            assert_eq!(ip(value).join(";"), want, "{value}");
        }
        for (value, want) in [
            ("10.0.0.0/8", ""),
            ("10.0.0.1/8", "must not have bits set beyond the prefix length"),
            ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
            ("10.0.0.0/33", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
            ("::/0", ""),
        ] {
            assert_eq!(cidr(value).join(";"), want, "{value}");
        }
        assert_eq!(
            ip_warning("p", "2001:DB8::1").as_deref(),
            Some("p: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")")
        );
    }

    #[test]
    fn ports_and_keys() {
        for (value, ok) in [("http", true), ("1", false), ("a--b", false), ("", false), ("-a", false)] {
            assert_eq!(port_name(value).is_empty(), ok, "{value}");
        }
        for (value, ok) in [("a.b", true), ("..a", false), ("a/b", false), (".", false)] {
            assert_eq!(config_key(value).is_empty(), ok, "{value}");
        }
    }
}
