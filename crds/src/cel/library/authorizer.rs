//! Questions to the authorizer: `authorizer.group('').resource('pods').check('get').allowed()`.

use std::sync::Arc;

use super::{Declared, text};
use crate::{
    cel::value::{EvalError, Outcome, Value},
    field,
};

pub(crate) const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
pub(crate) const PATH_CHECK: &str = "kubernetes.authorization.PathCheck";
pub(crate) const GROUP_CHECK: &str = "kubernetes.authorization.GroupCheck";
pub(crate) const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";
pub(crate) const DECISION: &str = "kubernetes.authorization.Decision";

/// Who answers the questions that expressions ask; it knows the user of the request.
pub trait Authorize: Send + Sync {
    fn authorize(&self, question: &Question) -> Decision;
}

/// One question: may the user of the request, or a service account, do this?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Namespace and name of the service account that the question is about, instead of the request's user.
    pub service_account: Option<(String, String)>,
    pub verb: String,
    pub target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Path(String),
    Resource(Resource),
}

/// A resource of any version; empty parts are not asked for. Selectors are texts, as they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    pub error: Option<String>,
}

/// `authorizer`, as an expression has it.
#[derive(Clone)]
pub struct Authorizer {
    via: Arc<dyn Authorize>,
    service_account: Option<Arc<(String, String)>>,
}

impl Authorizer {
    pub fn new(via: Arc<dyn Authorize>) -> Self {
        Self { via, service_account: None }
    }

    /// `authorizer.requestResource`: the resource of the request, ready to be checked.
    pub fn request_resource(self, resource: Resource) -> ResourceCheck {
        ResourceCheck { authorizer: self, resource }
    }

    fn ask(&self, verb: &str, target: Target) -> Outcome<'static> {
        let service_account = self.service_account.as_deref().cloned();
        let question = Question { service_account, verb: verb.to_owned(), target };
        Ok(Value::Decision(Arc::new(self.via.authorize(&question))))
    }
}

/// `authorizer.path('/healthz')`
#[derive(Clone)]
pub struct PathCheck {
    authorizer: Authorizer,
    path: String,
}

/// `authorizer.group('apps')`
#[derive(Clone)]
pub struct GroupCheck {
    authorizer: Authorizer,
    group: String,
}

/// `authorizer.group('apps').resource('deployments')`
#[derive(Clone)]
pub struct ResourceCheck {
    authorizer: Authorizer,
    resource: Resource,
}

pub(super) const FUNCTIONS: &[Declared] = &[
    Declared::new(
        "path",
        &[(
            "authorizer_path",
            "kubernetes.authorization.Authorizer.(string): kubernetes.authorization.PathCheck",
            path,
        )],
    ),
    Declared::new(
        "group",
        &[(
            "authorizer_group",
            "kubernetes.authorization.Authorizer.(string): kubernetes.authorization.GroupCheck",
            group,
        )],
    ),
    Declared::new(
        "serviceAccount",
        &[(
            "authorizer_serviceaccount",
            "kubernetes.authorization.Authorizer.(string, string): kubernetes.authorization.Authorizer",
            service_account,
        )],
    ),
    Declared::new(
        "resource",
        &[(
            "groupcheck_resource",
            "kubernetes.authorization.GroupCheck.(string): kubernetes.authorization.ResourceCheck",
            resource,
        )],
    ),
    part("subresource", &[("resourcecheck_subresource", PART, |a| with(a, |r, t| r.subresource = t))]),
    part("namespace", &[("resourcecheck_namespace", PART, |a| with(a, |r, t| r.namespace = t))]),
    part("name", &[("resourcecheck_name", PART, |a| with(a, |r, t| r.name = t))]),
    part("fieldSelector", &[("authorizer_fieldselector", PART, |a| with(a, |r, t| r.field_selector = t))]),
    part("labelSelector", &[("authorizer_labelselector", PART, |a| with(a, |r, t| r.label_selector = t))]),
    Declared::new(
        "check",
        &[
            (
                "pathcheck_check",
                "kubernetes.authorization.PathCheck.(string): kubernetes.authorization.Decision",
                check,
            ),
            (
                "resourcecheck_check",
                "kubernetes.authorization.ResourceCheck.(string): kubernetes.authorization.Decision",
                check,
            ),
        ],
    ),
    Declared::new(
        "errored",
        &[("decision_errored", "kubernetes.authorization.Decision.(): bool", |a| {
            decided(a, |d| Value::Bool(d.error.is_some()))
        })],
    ),
    Declared::new(
        "error",
        &[("decision_error", "kubernetes.authorization.Decision.(): string", |a| {
            decided(a, |d| Value::text(d.error.clone().unwrap_or_default()))
        })],
    ),
    Declared::new(
        "allowed",
        &[("decision_allowed", "kubernetes.authorization.Decision.(): bool", |a| {
            decided(a, |d| Value::Bool(d.allowed))
        })],
    ),
    Declared::new(
        "reason",
        &[("decision_reason", "kubernetes.authorization.Decision.(): string", |a| {
            decided(a, |d| Value::text(d.reason.clone()))
        })],
    ),
];

const PART: &str = "kubernetes.authorization.ResourceCheck.(string): kubernetes.authorization.ResourceCheck";

const fn part(name: &'static str, overloads: &'static [(&'static str, &'static str, super::Call)]) -> Declared {
    Declared::new(name, overloads)
}

fn path<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Authorizer(authorizer), path] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let path = text(path)?;
    if path.trim().is_empty() {
        return Err(EvalError::new("path must not be empty"));
    }
    Ok(Value::PathCheck(Arc::new(PathCheck { authorizer: authorizer.clone(), path: path.to_owned() })))
}

fn group<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Authorizer(authorizer), group] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let group = text(group)?.to_owned();
    Ok(Value::GroupCheck(Arc::new(GroupCheck { authorizer: authorizer.clone(), group })))
}

fn service_account<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Authorizer(authorizer), namespace, name] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let (namespace, name) = (text(namespace)?, text(name)?);
    if !field::dns_subdomain(name).is_empty() {
        return Err(EvalError::new("Invalid service account name"));
    }
    if !field::dns_label(namespace).is_empty() {
        return Err(EvalError::new("Invalid service account namespace"));
    }
    let service_account = Some(Arc::new((namespace.to_owned(), name.to_owned())));
    Ok(Value::Authorizer(Authorizer { service_account, ..authorizer.clone() }))
}

fn resource<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let [Value::GroupCheck(check), resource] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let resource = text(resource)?;
    if resource.trim().is_empty() {
        return Err(EvalError::new("resource must not be empty"));
    }
    let resource = Resource { group: check.group.clone(), resource: resource.to_owned(), ..Resource::default() };
    Ok(Value::ResourceCheck(Arc::new(ResourceCheck { authorizer: check.authorizer.clone(), resource })))
}

fn with<'a>(arguments: &[Value<'a>], set: fn(&mut Resource, String)) -> Outcome<'a> {
    let [Value::ResourceCheck(check), value] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let mut check = ResourceCheck::clone(check);
    set(&mut check.resource, text(value)?.to_owned());
    Ok(Value::ResourceCheck(Arc::new(check)))
}

fn check<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [Value::PathCheck(check), verb] => check.authorizer.ask(text(verb)?, Target::Path(check.path.clone())),
        [Value::ResourceCheck(check), verb] => {
            check.authorizer.ask(text(verb)?, Target::Resource(check.resource.clone()))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

fn decided<'a>(arguments: &[Value<'a>], read: fn(&Decision) -> Value<'static>) -> Outcome<'a> {
    match arguments {
        [Value::Decision(decision)] => Ok(read(decision)),
        _ => Err(EvalError::no_such_overload()),
    }
}
