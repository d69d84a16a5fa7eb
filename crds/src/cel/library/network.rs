//! Addresses and blocks of them: `cidr('10.0.0.0/8').containsIP('10.1.2.3')`.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::{Declared, text};
use crate::{
    cel::value::{EvalError, Outcome, Value},
    field::quote,
};

macro_rules! is {
    ($name:literal, $id:literal, $test:expr) => {
        Declared::new($name, &[($id, "net.IP.(): bool", |a| of_ip(a, |ip| Value::Bool($test(ip))))])
    };
}

pub(super) const FUNCTIONS: &[Declared] = &[
    Declared::new(
        "ip",
        &[
            ("string_to_ip", "(string): net.IP", |a| {
                of_text(a, |t| parse_ip(t).map(Value::Ip).map_err(EvalError::new))
            }),
            ("cidr_ip", "net.CIDR.(): net.IP", |a| of_cidr(a, |cidr| Value::Ip(cidr.addr()))),
        ],
    ),
    Declared::new(
        "family",
        &[("ip_family", "net.IP.(): int", |a| of_ip(a, |ip| Value::Int(if ip.is_ipv4() { 4 } else { 6 })))],
    ),
    Declared::new(
        "ip.isCanonical",
        &[("ip_is_canonical", "(string): bool", |a| {
            of_text(a, |text| match parse_ip(text) {
                Ok(ip) => Ok(Value::Bool(ip.to_string() == text)),
                Err(why) => Err(EvalError::new(why)),
            })
        })],
    ),
    Declared::new(
        "isIP",
        &[("is_ip", "(string): bool", |a| of_text(a, |text| Ok(Value::Bool(parse_ip(text).is_ok()))))],
    ),
    is!("isUnspecified", "ip_is_unspecified", |ip: &IpAddr| ip.is_unspecified()),
    is!("isLoopback", "ip_is_loopback", |ip: &IpAddr| ip.is_loopback()),
    is!("isLinkLocalMulticast", "ip_is_link_local_multicast", is_link_local_multicast),
    is!("isLinkLocalUnicast", "ip_is_link_local_unicast", is_link_local_unicast),
    is!("isGlobalUnicast", "ip_is_global_unicast", is_global_unicast),
    Declared::new(
        "cidr",
        &[("string_to_cidr", "(string): net.CIDR", |a| {
            of_text(a, |text| match parse_cidr(text) {
                Ok(cidr) => Ok(Value::Cidr(cidr)),
                Err(why) => {
                    let message = format!("network address parse error during conversion from string: {why}");
                    Err(EvalError::new(message))
                }
            })
        })],
    ),
    Declared::new(
        "isCIDR",
        &[("is_cidr", "(string): bool", |a| of_text(a, |text| Ok(Value::Bool(parse_cidr(text).is_ok()))))],
    ),
    Declared::new(
        "containsIP",
        &[
            ("cidr_contains_ip_string", "net.CIDR.(string): bool", contains_ip),
            ("cidr_contains_ip_ip", "net.CIDR.(net.IP): bool", contains_ip),
        ],
    ),
    Declared::new(
        "containsCIDR",
        &[
            ("cidr_contains_cidr_string", "net.CIDR.(string): bool", contains_cidr),
            ("cidr_contains_cidr", "net.CIDR.(net.CIDR): bool", contains_cidr),
        ],
    ),
    Declared::new(
        "prefixLength",
        &[("cidr_prefix_length", "net.CIDR.(): int", |a| of_cidr(a, |cidr| Value::Int(cidr.prefix_len().into())))],
    ),
    Declared::new(
        "masked",
        &[("cidr_masked", "net.CIDR.(): net.CIDR", |a| of_cidr(a, |cidr| Value::Cidr(cidr.trunc())))],
    ),
];

fn is_mapped(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let plain = text.split_once('%').filter(|(ip, zone)| !zone.is_empty() && ip.parse::<Ipv6Addr>().is_ok());
    if plain.is_some() {
        return Err(format!("IP address {} with zone value is not allowed", quote(text)));
    }
    let ip: IpAddr = text.parse().map_err(|_| {
        let quoted = quote(text);
        let why = if text.contains(['.', ':']) { "unexpected character" } else { "unable to parse IP" };
        format!("IP Address {quoted} parse error during conversion from string: ParseAddr({quoted}): {why}")
    })?;
    if is_mapped(&ip) {
        return Err(format!("IPv4-mapped IPv6 address {} is not allowed", quote(text)));
    }
    Ok(ip)
}

fn parse_cidr(text: &str) -> Result<IpNet, String> {
    let quoted = quote(text);
    let wrong = |why: &str| {
        format!("network address parse error during conversion from string: netip.ParsePrefix({quoted}): {why}")
    };
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| wrong("no '/'"))?;
    let address: IpAddr =
        address.parse().map_err(|_| wrong(&format!("ParseAddr({}): unable to parse IP", quote(address))))?;
    let plain =
        !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) && (bits.len() == 1 || !bits.starts_with('0'));
    let bits: u8 =
        bits.parse().ok().filter(|_| plain).ok_or_else(|| wrong(&format!("bad bits after slash: {}", quote(bits))))?;
    let cidr = IpNet::new(address, bits).map_err(|_| wrong("prefix length out of range"))?;
    if is_mapped(&address) {
        return Err(format!("IPv4-mapped IPv6 address {quoted} is not allowed"));
    }
    Ok(cidr)
}

fn is_link_local_multicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_link_local_unicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_global_unicast(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(broadcast || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_link_local_unicast(ip))
}

fn of_text<'a>(arguments: &[Value<'a>], read: fn(&str) -> Outcome<'static>) -> Outcome<'a> {
    match arguments {
        [value] => read(text(value)?),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn of_ip<'a>(arguments: &[Value<'a>], read: fn(&IpAddr) -> Value<'static>) -> Outcome<'a> {
    match arguments {
        [Value::Ip(ip)] => Ok(read(ip)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn of_cidr<'a>(arguments: &[Value<'a>], read: fn(&IpNet) -> Value<'static>) -> Outcome<'a> {
    match arguments {
        [Value::Cidr(cidr)] => Ok(read(cidr)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn contains_ip<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let ip = match arguments {
        [Value::Cidr(_), Value::Ip(ip)] => *ip,
        // What is no address fails the cast to one, not the reading of it.
        [Value::Cidr(_), Value::String(text)] => parse_ip(text).map_err(|_| EvalError::no_such_overload())?,
        _ => return Err(EvalError::no_such_overload()),
    };
    match arguments {
        [Value::Cidr(cidr), _] => Ok(Value::Bool(cidr.contains(&ip))),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn contains_cidr<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [Value::Cidr(cidr), Value::Cidr(other)] => Ok(Value::Bool(cidr.contains(&other.trunc()))),
        [Value::Cidr(cidr), Value::String(text)] => match parse_cidr(text) {
            Ok(other) => Ok(Value::Bool(cidr.contains(&other.trunc()))),
            Err(why) => {
                let message = format!("network address parse error during conversion from string: {why}");
                Err(EvalError::new(message))
            }
        },
        _ => Err(EvalError::no_such_overload()),
    }
}
