//! RBAC: roles and bindings, indexed by subject so that a decision looks only at what concerns the user.

use std::{
    collections::HashMap,
    fmt,
    ops::ControlFlow::{self, Break, Continue},
    sync::Arc,
};

use crds::{field::quote, user::User};
use k8s_openapi::api::rbac::v1::{self, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::Value;

use super::{Attributes, Authorize, Change, Decision, Rules, Target, Why, aggregate, rule};

pub const GROUP: &str = "rbac.authorization.k8s.io";

/// A RoleBinding, or without a namespace a ClusterRoleBinding.
#[derive(Debug)]
pub struct Binding {
    namespace: String,
    name: String,
    role_kind: String,
    role_name: String,
    subjects: Vec<v1::Subject>,
}

/// Under what a subject is found: a service account by its user name.
#[derive(PartialEq, Eq, Hash)]
enum Holder {
    User(String),
    Group(String),
}

impl Binding {
    fn holder(&self, subject: &v1::Subject) -> Option<Holder> {
        match subject.kind.as_str() {
            "User" => Some(Holder::User(subject.name.clone())),
            "Group" => Some(Holder::Group(subject.name.clone())),
            "ServiceAccount" => {
                let namespace = self.namespace_of(subject);
                let name = format!("system:serviceaccount:{namespace}:{}", subject.name);
                (!namespace.is_empty()).then_some(Holder::User(name))
            }
            _ => None,
        }
    }

    /// A RoleBinding's service accounts are of its own namespace unless they name another.
    fn namespace_of<'a>(&'a self, subject: &'a v1::Subject) -> &'a str {
        subject.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(&self.namespace)
    }

    fn first_subject_for(&self, user: &User) -> usize {
        let applies = |subject: &v1::Subject| match self.holder(subject) {
            Some(Holder::User(name)) => name == user.name,
            Some(Holder::Group(name)) => user.is_in(&name),
            None => false,
        };
        self.subjects.iter().position(applies).unwrap_or(0)
    }

    /// `RoleBinding "rb/ns" of Role "r" to User "ann"`
    pub fn describe(&self, subject: usize) -> impl fmt::Display {
        let binding = match self.namespace.as_str() {
            "" => format!("ClusterRoleBinding {}", quote(&self.name)),
            namespace => format!("RoleBinding {}", quote(&format!("{}/{namespace}", self.name))),
        };
        let subject = self.subjects.get(subject).map_or_else(String::new, |s| match s.kind.as_str() {
            "ServiceAccount" => format!("{} {}", s.kind, quote(&format!("{}/{}", s.name, self.namespace_of(s)))),
            _ => format!("{} {}", s.kind, quote(&s.name)),
        });
        format!("{binding} of {} {} to {subject}", self.role_kind, quote(&self.role_name))
    }
}

/// The bindings of one namespace, or those of the cluster.
#[derive(Default)]
struct Scope {
    bindings: HashMap<String, Arc<Binding>>,
    /// Each list is sorted by the bindings' names.
    by_user: HashMap<String, Vec<Arc<Binding>>>,
    by_group: HashMap<String, Vec<Arc<Binding>>>,
}

impl Scope {
    fn put(&mut self, binding: Binding) {
        self.remove(&binding.name);
        let binding = Arc::new(binding);
        for holder in binding.subjects.iter().filter_map(|s| binding.holder(s)) {
            let list = match holder {
                Holder::User(name) => self.by_user.entry(name).or_default(),
                Holder::Group(name) => self.by_group.entry(name).or_default(),
            };
            if let Err(at) = list.binary_search_by(|b| b.name.cmp(&binding.name)) {
                list.insert(at, Arc::clone(&binding));
            }
        }
        self.bindings.insert(binding.name.clone(), binding);
    }

    fn remove(&mut self, name: &str) {
        let Some(old) = self.bindings.remove(name) else { return };
        for holder in old.subjects.iter().filter_map(|s| old.holder(s)) {
            match holder {
                Holder::User(name) => take_out(&mut self.by_user, name, &old),
                Holder::Group(name) => take_out(&mut self.by_group, name, &old),
            }
        }
    }

    fn of<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a Arc<Binding>> {
        let groups = user.groups.iter().filter_map(|g| self.by_group.get(g));
        self.by_user.get(&user.name).into_iter().chain(groups).flatten()
    }
}

fn take_out(lists: &mut HashMap<String, Vec<Arc<Binding>>>, key: String, binding: &Arc<Binding>) {
    if let Some(list) = lists.get_mut(&key) {
        list.retain(|b| !Arc::ptr_eq(b, binding));
        if list.is_empty() {
            lists.remove(&key);
        }
    }
}

#[derive(Default)]
struct Index {
    cluster_roles: HashMap<String, Arc<[PolicyRule]>>,
    /// By namespace, then by name.
    roles: HashMap<String, HashMap<String, Arc<[PolicyRule]>>>,
    cluster: Scope,
    namespaces: HashMap<String, Scope>,
}

/// A binding's role cannot be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    ClusterRole(String),
    Role(String),
    Kind(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterRole(name) => write!(f, "clusterrole.{GROUP} {} not found", quote(name)),
            Self::Role(name) => write!(f, "role.{GROUP} {} not found", quote(name)),
            Self::Kind(kind) => write!(f, "unsupported role reference kind: {}", quote(kind)),
        }
    }
}

impl Index {
    fn rules_of(&self, kind: &str, name: &str, namespace: &str) -> Result<&Arc<[PolicyRule]>, Missing> {
        match kind {
            "ClusterRole" => self.cluster_roles.get(name).ok_or_else(|| Missing::ClusterRole(name.to_owned())),
            "Role" => {
                let role = self.roles.get(namespace).and_then(|roles| roles.get(name));
                role.ok_or_else(|| Missing::Role(name.to_owned()))
            }
            kind => Err(Missing::Kind(kind.to_owned())),
        }
    }

    fn scopes(&self, namespace: &str) -> impl Iterator<Item = &Scope> {
        let namespaced = (!namespace.is_empty()).then(|| self.namespaces.get(namespace)).flatten();
        std::iter::once(&self.cluster).chain(namespaced)
    }

    fn resolve(&self, binding: &Binding) -> Result<&Arc<[PolicyRule]>, Missing> {
        self.rules_of(&binding.role_kind, &binding.role_name, &binding.namespace)
    }

    fn decide(&self, attributes: &Attributes, errors: &mut Vec<String>) -> ControlFlow<Why> {
        let namespace = match attributes.target {
            Target::Resource(on) => on.namespace,
            Target::Path(_) => "",
        };
        for binding in self.scopes(namespace).flat_map(|scope| scope.of(attributes.user)) {
            match self.resolve(binding) {
                Ok(rules) if rules.iter().any(|r| rule::allows(r, attributes)) => {
                    return Break(Why::Rbac(Arc::clone(binding), binding.first_subject_for(attributes.user)));
                }
                Ok(_) => {}
                Err(missing) => errors.push(missing.to_string()),
            }
        }
        Continue(())
    }
}

/// The RBAC authorizer.
#[derive(Default)]
pub struct Rbac {
    index: RwLock<Index>,
}

impl Rbac {
    pub fn observe(&self, change: &Change) -> Result<(), serde_json::Error> {
        let (namespace, name) = (change.namespace, change.name);
        match change.resource {
            "clusterroles" => {
                let rules = decode::<ClusterRole>(change.object)?.map(|r| r.rules.unwrap_or_default());
                self.put_cluster_role(name, rules);
            }
            "roles" => {
                let rules = decode::<Role>(change.object)?.map(|r| r.rules.unwrap_or_default());
                self.put_role(namespace, name, rules);
            }
            "clusterrolebindings" => {
                let binding = decode::<ClusterRoleBinding>(change.object)?;
                self.put_binding("", name, binding.map(|b| (b.role_ref, b.subjects)));
            }
            "rolebindings" => {
                let binding = decode::<RoleBinding>(change.object)?;
                self.put_binding(namespace, name, binding.map(|b| (b.role_ref, b.subjects)));
            }
            _ => {}
        }
        Ok(())
    }

    fn put_cluster_role(&self, name: &str, rules: Option<Vec<PolicyRule>>) {
        let roles = &mut self.index.write().cluster_roles;
        match rules {
            Some(rules) => roles.insert(name.to_owned(), rules.into()),
            None => roles.remove(name),
        };
    }

    fn put_role(&self, namespace: &str, name: &str, rules: Option<Vec<PolicyRule>>) {
        let roles = &mut self.index.write().roles;
        if let Some(rules) = rules {
            roles.entry(namespace.to_owned()).or_default().insert(name.to_owned(), rules.into());
        } else if let Some(there) = roles.get_mut(namespace) {
            there.remove(name);
            if there.is_empty() {
                roles.remove(namespace);
            }
        }
    }

    fn put_binding(&self, namespace: &str, name: &str, binding: Option<(v1::RoleRef, Option<Vec<v1::Subject>>)>) {
        let binding = binding.map(|(role, subjects)| Binding {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            role_kind: role.kind,
            role_name: role.name,
            subjects: subjects.unwrap_or_default(),
        });
        let index = &mut *self.index.write();
        match (binding, namespace) {
            (Some(binding), "") => index.cluster.put(binding),
            (None, "") => index.cluster.remove(name),
            (Some(binding), _) => index.namespaces.entry(namespace.to_owned()).or_default().put(binding),
            (None, _) => {
                if let Some(scope) = index.namespaces.get_mut(namespace) {
                    scope.remove(name);
                    if scope.bindings.is_empty() {
                        index.namespaces.remove(namespace);
                    }
                }
            }
        }
    }

    /// All rules of a user, in the order of its bindings' names, those of the cluster first.
    pub fn rules(&self, user: &User, namespace: &str) -> Rules {
        let index = self.index.read();
        let mut found = Rules::default();
        for scope in index.scopes(namespace) {
            let mut bindings: Vec<_> = scope.of(user).collect();
            bindings.sort_by(|a, b| a.name.cmp(&b.name));
            bindings.dedup_by(|a, b| Arc::ptr_eq(a, b));
            for binding in bindings {
                match index.resolve(binding) {
                    Ok(rules) => found.rules.extend_from_slice(rules),
                    Err(missing) => found.errors.push(missing.to_string()),
                }
            }
        }
        found
    }

    /// The rules of the role that a binding in this namespace (none: of the cluster) refers to.
    pub fn role_rules(&self, kind: &str, name: &str, namespace: &str) -> Result<Arc<[PolicyRule]>, Missing> {
        self.index.read().rules_of(kind, name, namespace).cloned()
    }
}

impl Authorize for Rbac {
    fn decide(&self, attributes: &Attributes) -> Decision {
        let mut errors = Vec::new();
        match self.index.read().decide(attributes, &mut errors) {
            Break(why) => Decision::Allow(why),
            Continue(()) if errors.is_empty() => Decision::NoOpinion(String::new()),
            Continue(()) => Decision::NoOpinion(format!("RBAC: {}", aggregate(&errors))),
        }
    }
}

fn decode<'a, K: Deserialize<'a>>(object: Option<&'a Value>) -> Result<Option<K>, serde_json::Error> {
    object.map(K::deserialize).transpose()
}
