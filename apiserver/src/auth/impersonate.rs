//! Impersonation: a request that is to count as another user's, if its sender may.
//!
//! Besides the old verb `impersonate` there are constrained modes: `impersonate:<mode>` for whom, together with
//! `impersonate-on:<mode>:<verb>` for what. The mode that a user succeeded with is tried first the next time.

use std::collections::HashMap;

use crds::{
    field::{self, quote},
    user::User,
};
use http::HeaderMap;
use parking_lot::Mutex;

use crate::{
    authorize::{Attributes, Authorize, Resource, Target, aggregate},
    error::{ApiError, Result},
};

const GROUP: &str = "authentication.k8s.io";
const EXTRA: &str = "impersonate-extra-";
/// From so many values on, one check for all of them is tried first.
const MANY: usize = 4;
const REMEMBERED_MAX: usize = 10_000;

/// The user that the headers ask to be; none if they do not.
pub fn wanted(headers: &HeaderMap) -> Result<Option<User>> {
    let texts = |name: &str| -> Vec<String> {
        headers.get_all(name).into_iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect()
    };
    let first = |name: &str| texts(name).into_iter().next().unwrap_or_default();
    let mut user = User {
        name: first("impersonate-user"),
        uid: first("impersonate-uid"),
        groups: texts("impersonate-group"),
        ..User::default()
    };
    for name in headers.keys().map(http::HeaderName::as_str) {
        if let Some(key) = name.strip_prefix(EXTRA) {
            user.extra.entry(unescape(key)).or_default().extend(texts(name));
        }
    }
    let asked = !user.uid.is_empty() || !user.groups.is_empty() || !user.extra.is_empty();
    match (user.name.is_empty(), asked) {
        (true, true) => {
            Err(ApiError::bad_request(format!("requested {} without impersonating a user name", go_syntax(&user))))
        }
        (true, false) => Ok(None),
        _ => Ok(Some(user)),
    }
}

/// A key that is not well escaped stays as it is.
pub(super) fn unescape(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let hex = after.get(..2).and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        let Some(byte) = hex else { return key.to_owned() };
        bytes.push(byte);
        rest = &after[2..];
    }
    String::from_utf8(bytes).unwrap_or_else(|_| key.to_owned())
}

/// How Go's `%#v` prints a user, which upstream shows to clients.
fn go_syntax(user: &User) -> String {
    let list = |texts: &[String]| {
        let quoted: Vec<_> = texts.iter().map(|t| quote(t)).collect();
        format!("[]string{{{}}}", quoted.join(", "))
    };
    let groups = if user.groups.is_empty() { "[]string(nil)".to_owned() } else { list(&user.groups) };
    let pairs: Vec<_> = user.extra.iter().map(|(key, values)| format!("{}:{}", quote(key), list(values))).collect();
    let extra = if pairs.is_empty() { "(nil)".to_owned() } else { format!("{{{}}}", pairs.join(", ")) };
    let (name, uid) = (quote(&user.name), quote(&user.uid));
    format!("&user.DefaultInfo{{Name:{name}, UID:{uid}, Groups:{groups}, Extra:map[string][]string{extra}}}")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Legacy,
}

impl Mode {
    const ALL: [Self; 5] =
        [Self::AssociatedNode, Self::ArbitraryNode, Self::ServiceAccount, Self::UserInfo, Self::Legacy];

    const fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    fn verb(self) -> String {
        if self == Self::Legacy { "impersonate".to_owned() } else { format!("impersonate:{}", self.name()) }
    }

    /// Whether this mode is for such a user at all.
    fn applies(self, wanted: &User, requestor: &User) -> bool {
        let only_name = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = node_name(&wanted.name);
        match self {
            Self::AssociatedNode => only_name && node.is_some_and(|node| requestor.is_bound_to(node)),
            Self::ArbitraryNode => only_name && node.is_some(),
            Self::ServiceAccount => only_name && wanted.valid_service_account().is_some(),
            Self::UserInfo => node.is_none() && wanted.valid_service_account().is_none(),
            Self::Legacy => true,
        }
    }
}

fn node_name(user: &str) -> Option<&str> {
    user.strip_prefix("system:node:").filter(|name| field::dns_subdomain(name).is_empty())
}

/// Decides on impersonation; remembers by which mode each user last succeeded.
#[derive(Default)]
pub struct Impersonation {
    succeeded: Mutex<HashMap<String, Mode>>,
}

impl Impersonation {
    /// The user that the request then counts as. `attributes` are those of the request as its sender made it.
    pub fn impersonate(&self, authorizer: &impl Authorize, wanted: &User, attributes: &Attributes) -> Result<User> {
        let requestor = attributes.user;
        let last = self.succeeded.lock().get(&requestor.name).copied();
        let modes = last.into_iter().chain(Mode::ALL.into_iter().filter(|mode| Some(*mode) != last));
        let mut first_error = None;
        for mode in modes.filter(|mode| mode.applies(wanted, requestor)) {
            let attempt = Attempt { authorizer, mode, verb: mode.verb(), requestor };
            match attempt.run(wanted, attributes) {
                Ok(user) => {
                    if Some(mode) != last {
                        self.remember(&requestor.name, mode);
                    }
                    return Ok(user);
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| ApiError::internal("all impersonation modes failed")))
    }

    fn remember(&self, name: &str, mode: Mode) {
        let mut succeeded = self.succeeded.lock();
        if succeeded.len() >= REMEMBERED_MAX {
            // Only the order of the checks depends on it.
            succeeded.clear();
        }
        succeeded.insert(name.to_owned(), mode);
    }
}

struct Attempt<'a, A> {
    authorizer: &'a A,
    mode: Mode,
    verb: String,
    requestor: &'a User,
}

impl<A: Authorize> Attempt<'_, A> {
    fn run(&self, wanted: &User, attributes: &Attributes) -> Result<User> {
        if self.is_constrained() {
            let verb = format!("impersonate-on:{}:{}", self.mode.name(), attributes.verb);
            self.require(&Attributes { verb: &verb, ..*attributes })?;
        }
        let mut user = wanted.clone();
        self.name(wanted, &mut user)?;
        if !wanted.uid.is_empty() {
            self.check(Resource { group: GROUP, resource: "uids", name: &wanted.uid, ..Resource::default() })?;
        }
        self.groups(&wanted.groups)?;
        self.extra(wanted)?;
        let group = if user.name == User::ANONYMOUS { User::UNAUTHENTICATED } else { User::AUTHENTICATED };
        if !user.is_in(group) && !user.is_in(User::UNAUTHENTICATED) {
            user.groups.push(group.to_owned());
        }
        Ok(user)
    }

    fn is_constrained(&self) -> bool {
        self.mode != Mode::Legacy
    }

    /// Users and groups were of the core group before the constrained modes came.
    fn group(&self) -> &'static str {
        if self.is_constrained() { GROUP } else { "" }
    }

    fn check(&self, on: Resource) -> Result<()> {
        self.require(&Attributes::resource(self.requestor, &self.verb, Resource { version: "v1", ..on }))
    }

    fn refuse(&self, on: Resource, why: &str) -> Result<()> {
        Err(Attributes::resource(self.requestor, &self.verb, Resource { version: "v1", ..on }).forbidden(why))
    }

    fn require(&self, attributes: &Attributes) -> Result<()> {
        if self.mode != Mode::AssociatedNode {
            return self.authorizer.require(attributes);
        }
        // A service account on many nodes is judged alike on each: by its name, and for all nodes.
        let keys = self.requestor.extra.keys().cloned().collect();
        let extra = [("authentication.kubernetes.io/associated-node-keys".to_owned(), keys)].into();
        let user = User { extra, ..self.requestor.clone() };
        let mut attributes = Attributes { user: &user, ..*attributes };
        if let Target::Resource(on) = &mut attributes.target
            && attributes.verb == "impersonate:associated-node"
        {
            on.name = "*";
        }
        self.authorizer.require(&attributes)
    }

    fn name(&self, wanted: &User, user: &mut User) -> Result<()> {
        let mut on = Resource { group: self.group(), resource: "users", name: &wanted.name, ..Resource::default() };
        if let Some(node) = node_name(&wanted.name).filter(|_| self.is_constrained()) {
            on = Resource { resource: "nodes", name: node, ..on };
            user.groups = vec!["system:nodes".to_owned()];
        }
        if let Some((namespace, name)) = wanted.valid_service_account() {
            on = Resource { resource: "serviceaccounts", namespace, name, ..on };
            if wanted.groups.is_empty() {
                user.groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
            }
        }
        self.check(on)
    }

    fn groups(&self, groups: &[String]) -> Result<()> {
        let on = Resource { group: self.group(), resource: "groups", ..Resource::default() };
        if self.is_constrained() {
            if groups.iter().any(String::is_empty) {
                return self.refuse(on, "impersonating the empty string group is not allowed");
            }
            if groups.iter().any(|g| g == User::MASTERS) {
                let on = Resource { name: User::MASTERS, ..on };
                return self.refuse(on, "impersonating the system:masters group is not allowed");
            }
            if groups.len() >= MANY && self.check(Resource { name: "*", ..on }).is_ok() {
                return Ok(());
            }
        }
        groups.iter().try_for_each(|group| self.check(Resource { name: group, ..on }))
    }

    fn extra(&self, wanted: &User) -> Result<()> {
        if wanted.extra.is_empty() {
            return Ok(());
        }
        let on = Resource { group: GROUP, resource: "userextras", ..Resource::default() };
        if self.is_constrained() {
            if let Err(why) = wanted.extra.iter().try_for_each(|(key, values)| validate_extra(key, values)) {
                return self.refuse(on, &why);
            }
            let many = wanted.extra.len() >= MANY || wanted.extra.values().map(Vec::len).sum::<usize>() >= MANY;
            if many && self.check(Resource { subresource: "*", name: "*", ..on }).is_ok() {
                return Ok(());
            }
        }
        for (key, values) in &wanted.extra {
            values.iter().try_for_each(|value| self.check(Resource { subresource: key, name: value, ..on }))?;
        }
        Ok(())
    }
}

fn validate_extra(key: &str, values: &[String]) -> std::result::Result<(), String> {
    if key.is_empty() {
        return Err("impersonating the empty string key in extra is not allowed".to_owned());
    }
    let wrong = domain_prefixed_path(key);
    if !wrong.is_empty() {
        return Err(format!("impersonating an invalid key in extra is not allowed: {}", aggregate(&wrong)));
    }
    if key.chars().any(char::is_uppercase) {
        return Err(format!("impersonating a non-lowercase key in extra is not allowed: {}", quote(key)));
    }
    if values.is_empty() {
        return Err("impersonating empty values in extra is not allowed".to_owned());
    }
    if values.iter().any(String::is_empty) {
        return Err("impersonating the empty string value in extra is not allowed".to_owned());
    }
    Ok(())
}

/// `acme.io/foo`: what is wrong with it, nothing if it is one.
fn domain_prefixed_path(key: &str) -> Vec<String> {
    let invalid = |value: &str, why: &str| field::Error::invalid("extra.key", value, why).to_string();
    let Some((host, path)) = key.split_once('/').filter(|(host, path)| !host.is_empty() && !path.is_empty()) else {
        return vec![invalid(key, "must be a domain-prefixed path (such as \"acme.io/foo\")")];
    };
    let mut wrong: Vec<_> = field::dns_subdomain(host).iter().map(|why| invalid(host, why)).collect();
    if !path.bytes().all(|b| b.is_ascii_alphanumeric() || br"/-._~%!$&'()*+,;=:".contains(&b)) {
        let why = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
        wrong.push(invalid(path, why));
    }
    wrong
}
