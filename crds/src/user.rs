//! Who makes a request: the attributes that authentication finds and authorization decides on.

use std::collections::BTreeMap;

use crate::field::{dns_label, dns_subdomain};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    pub const ANONYMOUS: &str = "system:anonymous";
    pub const MASTERS: &str = "system:masters";
    pub const AUTHENTICATED: &str = "system:authenticated";
    pub const UNAUTHENTICATED: &str = "system:unauthenticated";
    /// The attribute that tells the node that a token is bound to.
    pub const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

    pub fn named(name: impl Into<String>, groups: &[&str]) -> Self {
        Self { name: name.into(), groups: groups.iter().map(|g| (*g).to_owned()).collect(), ..Self::default() }
    }

    /// A service account, in the groups that all of them are in.
    pub fn of_service_account(namespace: &str, name: &str) -> Self {
        let of_namespace = format!("system:serviceaccounts:{namespace}");
        let groups = ["system:serviceaccounts", &of_namespace, Self::AUTHENTICATED];
        Self::named(format!("system:serviceaccount:{namespace}:{name}"), &groups)
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Namespace and name, if this is a service account.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }

    /// The same, if an account can have these names.
    pub fn valid_service_account(&self) -> Option<(&str, &str)> {
        let is_valid =
            |(namespace, name): &(&str, &str)| dns_label(namespace).is_empty() && dns_subdomain(name).is_empty();
        self.service_account().filter(is_valid)
    }

    /// Whether this is a service account whose token is bound to this node.
    pub fn is_bound_to(&self, node: &str) -> bool {
        let bound = self.extra.get(Self::NODE_NAME).map(Vec::as_slice);
        self.valid_service_account().is_some() && bound.is_some_and(|names| matches!(names, [name] if name == node))
    }

    /// The node's name, if this is a kubelet.
    pub fn node(&self) -> Option<&str> {
        self.name.strip_prefix("system:node:").filter(|_| self.is_in("system:nodes"))
    }
}
