//! Values of expressions. What comes from an object stays borrowed JSON, and is typed where it is touched.

use std::{fmt, net::IpAddr, ops::Deref, sync::Arc};

use ipnet::IpNet;
use serde_json::Value as Json;

use super::{
    decl::Decl,
    library::{authorizer, format::Format, semver::Semver, url::Url},
    list::List,
    map::Map,
    time::Moment,
    typing::Type,
};
use crate::quantity::Quantity;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalError {
    message: Arc<str>,
    cancelled: bool,
}

impl EvalError {
    pub fn new(message: impl Into<Arc<str>>) -> Self {
        Self { message: message.into(), cancelled: false }
    }

    /// The limit of cost is reached; no operator absorbs this error.
    pub(crate) fn over_budget() -> Self {
        Self { message: "operation cancelled: actual cost limit exceeded".into(), cancelled: true }
    }

    pub(crate) fn no_such_overload() -> Self {
        Self::new("no such overload")
    }

    pub(crate) fn no_such_key(key: &Value<'_>) -> Self {
        Self::new(format!("no such key: {key}"))
    }

    /// Whether the expression was stopped because it cost too much.
    pub const fn is_over_budget(&self) -> bool {
        self.cancelled
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EvalError {}

/// What a step of an evaluation comes to.
pub type Outcome<'a> = Result<Value<'a>, EvalError>;

/// Text that an object holds, or that an expression made.
#[derive(Clone)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

/// A value.
#[derive(Clone)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    Timestamp(Moment),
    /// Nanoseconds.
    Duration(i64),
    List(List<'a>),
    Map(Map<'a>),
    Type(Type),
    Optional(Option<Arc<Value<'a>>>),
    /// An object that an expression made: `JSONPatch{…}`, `Object.spec{…}`.
    Object(Arc<Object<'a>>),
    Quantity(Quantity),
    Url(Arc<Url>),
    Ip(IpAddr),
    Cidr(IpNet),
    Semver(Arc<Semver>),
    Format(&'static Format),
    Authorizer(authorizer::Authorizer),
    PathCheck(Arc<authorizer::PathCheck>),
    GroupCheck(Arc<authorizer::GroupCheck>),
    ResourceCheck(Arc<authorizer::ResourceCheck>),
    Decision(Arc<authorizer::Decision>),
}

/// The fields of a made object, in the order in which they were written.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    pub name: Arc<str>,
    pub fields: Vec<(Arc<str>, Value<'a>)>,
}

impl<'a> Object<'a> {
    pub fn field(&self, name: &str) -> Option<&Value<'a>> {
        self.fields.iter().find(|(n, _)| &**n == name).map(|(_, value)| value)
    }
}

impl<'a> Value<'a> {
    /// JSON whose types are its own: whole numbers are ints, others doubles.
    pub fn json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(*b),
            Json::Number(n) => n.as_i64().map_or_else(|| Self::Double(n.as_f64().unwrap_or(f64::NAN)), Self::Int),
            Json::String(s) => Self::String(Text::Borrowed(s)),
            Json::Array(items) => Self::List(List::json(items, Decl::dynamic())),
            Json::Object(map) => Self::Map(Map::json(map, Decl::dynamic())),
        }
    }

    /// JSON that a schema types. What does not fit the schema is an error, as upstream words it.
    pub fn typed(json: &'a Json, decl: &'a Decl) -> Outcome<'a> {
        decl.value(json)
    }

    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::String(Text::Shared(text.into()))
    }

    pub fn list(items: Vec<Value<'a>>) -> Self {
        Self::List(List::new(items))
    }

    pub fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The type that the value itself carries; parameters are not known.
    pub fn type_of(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Uint(_) => Type::Uint,
            Self::Double(_) => Type::Double,
            Self::String(_) => Type::String,
            Self::Bytes(_) => Type::Bytes,
            Self::Timestamp(_) => Type::Timestamp,
            Self::Duration(_) => Type::Duration,
            Self::List(_) => Type::list(Type::Dyn),
            Self::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            Self::Type(_) => Type::Type(None),
            Self::Optional(_) => Type::optional(Type::Dyn),
            Self::Object(object) => Type::Object(object.name.clone()),
            Self::Quantity(_) => Type::object("kubernetes.Quantity"),
            Self::Url(_) => Type::object("kubernetes.URL"),
            Self::Ip(_) => Type::opaque("net.IP"),
            Self::Cidr(_) => Type::opaque("net.CIDR"),
            Self::Semver(_) => Type::object("kubernetes.Semver"),
            Self::Format(_) => Type::object("kubernetes.NamedFormat"),
            Self::Authorizer(_) => Type::object(authorizer::AUTHORIZER),
            Self::PathCheck(_) => Type::object(authorizer::PATH_CHECK),
            Self::GroupCheck(_) => Type::object(authorizer::GROUP_CHECK),
            Self::ResourceCheck(_) => Type::object(authorizer::RESOURCE_CHECK),
            Self::Decision(_) => Type::object(authorizer::DECISION),
        }
    }

    /// The Go type that holds such a value upstream, which some of its errors name.
    pub(crate) const fn go_type(&self) -> &'static str {
        match self {
            Self::Null => "types.Null",
            Self::Bool(_) => "types.Bool",
            Self::Int(_) => "types.Int",
            Self::Uint(_) => "types.Uint",
            Self::Double(_) => "types.Double",
            Self::String(_) => "types.String",
            Self::Bytes(_) => "types.Bytes",
            Self::Timestamp(_) => "types.Timestamp",
            Self::Duration(_) => "types.Duration",
            Self::List(_) => "*types.baseList",
            Self::Map(_) => "*types.baseMap",
            Self::Type(_) => "*types.Type",
            Self::Optional(_) => "*types.Optional",
            Self::Object(_) => "*dynamic.ObjectVal",
            Self::Quantity(_) => "cel.Quantity",
            Self::Url(_) => "cel.URL",
            Self::Ip(_) => "cel.IP",
            Self::Cidr(_) => "cel.CIDR",
            Self::Semver(_) => "cel.Semver",
            Self::Format(_) => "cel.Format",
            Self::Authorizer(_) => "library.authorizerVal",
            Self::PathCheck(_) => "library.pathCheckVal",
            Self::GroupCheck(_) => "library.groupCheckVal",
            Self::ResourceCheck(_) => "library.resourceCheckVal",
            Self::Decision(_) => "library.decisionVal",
        }
    }

    /// What the value counts for in costs: characters, bytes, items, entries; one for everything else.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::String(text) => text.chars().count() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(list) => list.len() as u64,
            Self::Map(map) => map.len() as u64,
            Self::Ip(IpAddr::V4(_)) => 4,
            Self::Ip(IpAddr::V6(_)) => 16,
            Self::Cidr(cidr) => u64::from(cidr.prefix_len()).div_ceil(8),
            _ => 1,
        }
    }

    /// Empty, zero, or none: what `optional.ofNonZeroValue` turns away.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(b) => !b,
            Self::Int(n) | Self::Duration(n) => *n == 0,
            Self::Uint(n) => *n == 0,
            Self::Double(n) => *n == 0.0,
            Self::String(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::List(list) => list.is_plain() && list.is_empty(),
            Self::Map(map) => map.is_plain() && map.is_empty(),
            Self::Timestamp(moment) => moment.is_zero(),
            Self::Object(object) => object.fields.is_empty(),
            _ => false,
        }
    }

    /// The value as JSON, as a patch or a message wants it.
    pub fn to_json(&self) -> Result<Json, EvalError> {
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(b) => Json::Bool(*b),
            Self::Int(n) => Json::from(*n),
            Self::Uint(n) => Json::from(*n),
            Self::Double(n) => serde_json::Number::from_f64(*n).map_or(Json::Null, Json::Number),
            Self::String(text) => Json::from(&**text),
            Self::Bytes(bytes) => {
                use base64::Engine;
                Json::from(base64::engine::general_purpose::STANDARD.encode(bytes))
            }
            Self::Timestamp(moment) => Json::from(moment.to_string()),
            Self::Duration(nanos) => Json::from(super::time::seconds(*nanos)),
            Self::List(list) => Json::Array(list.iter().map(|item| item?.to_json()).collect::<Result<_, _>>()?),
            Self::Map(map) => Json::Object(map.to_json()?),
            Self::Object(object) => Json::Object(
                object.fields.iter().map(|(name, value)| Ok((name.to_string(), value.to_json()?))).collect::<Result<
                    _,
                    EvalError,
                >>(
                )?,
            ),
            Self::Optional(Some(value)) => value.to_json()?,
            Self::Optional(None) => Json::Null,
            Self::Quantity(quantity) => Json::from(quantity.to_string()),
            Self::Ip(ip) => Json::from(ip.to_string()),
            Self::Cidr(cidr) => Json::from(cidr.to_string()),
            Self::Semver(version) => Json::from(version.to_string()),
            other => {
                let message = format!("type conversion error from '{}' to JSON", other.type_of());
                return Err(EvalError::new(message));
            }
        })
    }
}

impl fmt::Display for Value<'_> {
    /// As Go prints values with `%v` in messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(n) => write!(f, "{n}"),
            Self::Uint(n) => write!(f, "{n}"),
            Self::Double(n) => f.write_str(&super::number::general(*n)),
            Self::String(text) => f.write_str(text),
            Self::Bytes(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Self::Timestamp(moment) => write!(f, "{moment}"),
            Self::Duration(nanos) => f.write_str(&super::time::seconds(*nanos)),
            Self::Type(ty) => write!(f, "{ty}"),
            Self::Quantity(quantity) => write!(f, "{quantity}"),
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Cidr(cidr) => write!(f, "{cidr}"),
            Self::Semver(version) => write!(f, "{version}"),
            Self::List(list) => {
                f.write_str("[")?;
                for (i, item) in list.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { ", " })?;
                    match item {
                        Ok(item) => write!(f, "{item}")?,
                        Err(error) => write!(f, "{error}")?,
                    }
                }
                f.write_str("]")
            }
            other => write!(f, "{}", other.type_of()),
        }
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => write!(f, "{:?}", &**text),
            Self::Optional(Some(value)) => write!(f, "optional({value:?})"),
            Self::Optional(None) => f.write_str("optional.none()"),
            Self::Map(map) => {
                f.write_str("{")?;
                for (i, (key, value)) in map.iter().enumerate() {
                    write!(f, "{}{key:?}: ", if i == 0 { "" } else { ", " })?;
                    debug(&value, f)?;
                }
                f.write_str("}")
            }
            Self::List(list) => {
                f.write_str("[")?;
                for (i, item) in list.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { ", " })?;
                    debug(&item, f)?;
                }
                f.write_str("]")
            }
            Self::Double(n) => write!(f, "{n:?}"),
            other => write!(f, "{other}"),
        }
    }
}

fn debug(outcome: &Outcome<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match outcome {
        Ok(value) => write!(f, "{value:?}"),
        Err(error) => write!(f, "error({error})"),
    }
}
