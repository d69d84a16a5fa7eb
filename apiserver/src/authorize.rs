//! Whether a user may do what it asks for: the Node authorizer and RBAC, in upstream's order, and the words of a refusal.

use std::{fmt, sync::Arc};

use crds::{field::quote, selector::FieldTerm, user::User};
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::Value;

use self::mode::Step;
use crate::error::{ApiError, Subject};

pub mod escalation;
pub mod mode;
pub mod node;
pub mod rbac;
pub mod review;
pub mod rule;
pub mod webhook;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub user: &'a User,
    /// `get`, `list`, … for a resource; the method in small letters for a path.
    pub verb: &'a str,
    pub target: Target<'a>,
}

#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    Resource(Resource<'a>),
    /// A URL that is no resource.
    Path(&'a str),
}

/// A resource, or one object of it. Empty texts: not given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resource<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    /// Also the name that a field selector `metadata.name=x` of a list asks for.
    pub name: &'a str,
    pub field_selector: &'a [FieldTerm],
}

impl<'a> Attributes<'a> {
    pub fn resource(user: &'a User, verb: &'a str, resource: Resource<'a>) -> Self {
        Self { user, verb, target: Target::Resource(resource) }
    }

    pub fn path(user: &'a User, verb: &'a str, path: &'a str) -> Self {
        Self { user, verb, target: Target::Path(path) }
    }

    /// `User "x" cannot list resource "pods" in API group "" in the namespace "y"`
    fn refusal(&self) -> String {
        let (user, verb) = (quote(&self.user.name), self.verb);
        let text = match self.target {
            Target::Path(path) => format!("User {user} cannot {verb} path {}", quote(path)),
            Target::Resource(on) => {
                let resource = match on.subresource {
                    "" => quote(on.resource),
                    subresource => quote(&format!("{}/{subresource}", on.resource)),
                };
                let scope = match on.namespace {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in the namespace {}", quote(namespace)),
                };
                format!("User {user} cannot {verb} resource {resource} in API group {} {scope}", quote(on.group))
            }
        };
        // Upstream does so, lest a browser shows it as a page.
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
    }

    /// Refuses what was not allowed.
    pub fn judge(&self, decision: Decision) -> Result<(), ApiError> {
        match decision {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(self.forbidden(&reason)),
        }
    }

    /// The 403 that upstream answers, with the reason that the authorizers gave.
    pub fn forbidden(&self, reason: &str) -> ApiError {
        let refusal = self.refusal();
        let message = if reason.is_empty() { refusal } else { format!("{refusal}: {reason}") };
        let on = match self.target {
            Target::Path(_) => Subject { group: "", resource: "", name: "" },
            Target::Resource(on) => Subject { group: on.group, resource: on.resource, name: on.name },
        };
        ApiError::forbidden(on, message)
    }
}

/// Why something is allowed; written out only when someone asks.
#[derive(Clone, Debug, Default)]
pub enum Why {
    #[default]
    Untold,
    /// As another server has put it.
    Told(String),
    Rbac(Arc<rbac::Binding>, usize),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untold => Ok(()),
            Self::Told(reason) => f.write_str(reason),
            Self::Rbac(binding, subject) => write!(f, "RBAC: allowed by {}", binding.describe(*subject)),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Decision {
    Allow(Why),
    Deny(String),
    /// Nobody allowed it; the reason may be empty.
    NoOpinion(String),
}

impl Decision {
    pub const fn allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// Why, in upstream's words; may be empty.
    pub fn reason(&self) -> String {
        match self {
            Self::Allow(why) => why.to_string(),
            Self::Deny(reason) | Self::NoOpinion(reason) => reason.clone(),
        }
    }

    fn because(reason: impl Into<String>) -> Self {
        Self::NoOpinion(reason.into())
    }
}

/// Anything that decides; tests and impersonation need no more than this.
pub trait Authorize: Send + Sync {
    fn decide(&self, attributes: &Attributes) -> Decision;

    /// Refuses with upstream's 403 what is not allowed.
    fn require(&self, attributes: &Attributes) -> Result<(), ApiError> {
        attributes.judge(self.decide(attributes))
    }
}

/// The resources whose objects must be shown to [`Authorizer::observe`]: group and plural.
pub const OBSERVED: &[(&str, &str)] = &[
    (rbac::GROUP, "clusterroles"),
    (rbac::GROUP, "clusterrolebindings"),
    (rbac::GROUP, "roles"),
    (rbac::GROUP, "rolebindings"),
    ("", "pods"),
    ("", "persistentvolumes"),
    ("storage.k8s.io", "volumeattachments"),
    ("resource.k8s.io", "resourceslices"),
    ("certificates.k8s.io", "podcertificaterequests"),
];

/// An object as it is now, or none if it was deleted.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub group: &'a str,
    pub resource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub object: Option<&'a Value>,
}

/// All rules that are known of a user in a namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    pub rules: Vec<PolicyRule>,
    /// The user may do more than the rules say.
    pub incomplete: bool,
    pub errors: Vec<String>,
}

/// The authorizers of a cluster: `system:masters`, then those of its modes.
pub struct Authorizer {
    steps: Vec<Step>,
    pub node: node::NodeAuthorizer,
    pub rbac: rbac::Rbac,
}

impl Authorizer {
    /// `node_rules`: what every node may do that is not about particular objects, the rules of `system:node`.
    pub fn new(node_rules: Vec<PolicyRule>) -> Self {
        let steps = vec![Step::Node, Step::Rbac];
        Self { steps, node: node::NodeAuthorizer::new(node_rules), rbac: rbac::Rbac::default() }
    }

    /// The same with other modes.
    pub fn with_steps(self, steps: Vec<Step>) -> Self {
        Self { steps, ..self }
    }

    /// What a mode of this process says; none: it must be asked elsewhere.
    fn local(&self, step: &Step, attributes: &Attributes) -> Option<Decision> {
        Some(match step {
            Step::AlwaysAllow => Decision::Allow(Why::Untold),
            Step::AlwaysDeny => Decision::because("Everything is forbidden."),
            Step::Node => self.node.decide(attributes),
            Step::Rbac => self.rbac.decide(attributes),
            Step::Webhook(_) => return None,
        })
    }

    /// Decides; waits for other servers where they are to be asked.
    pub async fn ask(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.is_in(User::MASTERS) {
            return Decision::Allow(Why::Untold);
        }
        let mut reasons = Vec::new();
        for step in &self.steps {
            let decision = match (self.local(step, attributes), step) {
                (Some(decision), _) => decision,
                (None, Step::Webhook(webhook)) => webhook.decide(attributes).await,
                (None, _) => continue,
            };
            match decision {
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        nobody_decided(reasons)
    }

    /// Takes in a change of one of the [`OBSERVED`] resources; others are passed over.
    pub fn observe(&self, change: &Change) -> Result<(), serde_json::Error> {
        if change.group == rbac::GROUP { self.rbac.observe(change) } else { self.node.observe(change) }
    }

    pub fn rules(&self, user: &User, namespace: &str) -> Rules {
        let mut rules = self.rbac.rules(user, namespace);
        if user.is_in(node::GROUP) && user.node().is_some() {
            rules.incomplete = true;
            rules.errors.insert(0, "node authorizer does not support user rule resolution".to_owned());
        }
        if self.steps.iter().any(|step| matches!(step, Step::Webhook(_))) {
            rules.incomplete = true;
            rules.errors.push("webhook authorizer does not support user rule resolution".to_owned());
        }
        rules
    }
}

impl Authorize for Authorizer {
    fn decide(&self, attributes: &Attributes) -> Decision {
        if attributes.user.is_in(User::MASTERS) {
            return Decision::Allow(Why::Untold);
        }
        let mut reasons = Vec::new();
        for step in &self.steps {
            let decision = match (self.local(step, attributes), step) {
                (Some(decision), _) => decision,
                (None, Step::Webhook(webhook)) => webhook.decide_now(attributes),
                (None, _) => continue,
            };
            match decision {
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        nobody_decided(reasons)
    }
}

fn nobody_decided(mut reasons: Vec<String>) -> Decision {
    reasons.retain(|reason| !reason.is_empty());
    Decision::NoOpinion(reasons.join("\n"))
}

/// How Go joins several errors into one: each told once.
pub(crate) fn aggregate(errors: &[String]) -> String {
    let mut told: Vec<&str> = Vec::new();
    for error in errors {
        if !told.contains(&error.as_str()) {
            told.push(error);
        }
    }
    match told.as_slice() {
        [one] => (*one).to_owned(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// How Go's `%q` shows a list of texts.
pub(crate) fn quote_list<T: AsRef<str>>(texts: &[T]) -> String {
    let quoted: Vec<_> = texts.iter().map(|t| quote(t.as_ref())).collect();
    format!("[{}]", quoted.join(" "))
}

#[cfg(test)]
mod tests;
