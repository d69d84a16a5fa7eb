//! The Node authorizer: a kubelet reads only what the pods on its node refer to, and writes only what is its own.

use crds::field;
use k8s_openapi::api::rbac::v1::PolicyRule;
use parking_lot::RwLock;

use super::{Attributes, Authorize, Change, Decision, Resource, Target, Why, rule};

mod graph;

use graph::{Graph, Kind};

pub const GROUP: &str = "system:nodes";
const LEASE_NAMESPACE: &str = "kube-node-lease";

pub struct NodeAuthorizer {
    rules: Vec<PolicyRule>,
    /// Whether there are requests for certificates of pods.
    pod_certificates: bool,
    graph: RwLock<Graph>,
}

fn allow() -> Decision {
    Decision::Allow(Why::Untold)
}

impl NodeAuthorizer {
    pub fn new(rules: Vec<PolicyRule>) -> Self {
        Self { rules, pod_certificates: false, graph: RwLock::default() }
    }

    /// Nodes may request certificates for their pods.
    pub fn allow_pod_certificates(&mut self) {
        self.pod_certificates = true;
    }

    pub fn observe(&self, change: &Change) -> Result<(), serde_json::Error> {
        self.graph.write().observe(change)
    }

    fn decide_resource(&self, node: &str, on: &Resource, attributes: &Attributes) -> Decision {
        let verb = attributes.verb;
        match (on.group, on.resource) {
            ("", "secrets") => self.read(node, Kind::Secret, verb, on),
            ("", "configmaps") => self.read(node, Kind::ConfigMap, verb, on),
            ("", "persistentvolumeclaims") if on.subresource == "status" => match verb {
                "update" | "patch" => self.related(node, Kind::Claim, on),
                _ => Decision::because("can only get/update/patch this type"),
            },
            ("", "persistentvolumeclaims") => self.get(node, Kind::Claim, verb, on),
            ("", "persistentvolumes") => self.get(node, Kind::Volume, verb, on),
            ("resource.k8s.io", "resourceclaims") => self.get(node, Kind::ResourceClaim, verb, on),
            ("storage.k8s.io", "volumeattachments") => self.get(node, Kind::Attachment, verb, on),
            ("", "serviceaccounts") => self.service_account(node, verb, on),
            ("coordination.k8s.io", "leases") => lease(node, verb, on),
            ("storage.k8s.io", "csinodes") => csi_node(node, verb, on),
            ("resource.k8s.io", "resourceslices") => self.resource_slice(node, verb, on),
            ("", "nodes") => node_object(node, verb, on),
            ("", "pods") => self.pod(node, verb, on),
            ("certificates.k8s.io", "podcertificaterequests") if self.pod_certificates => {
                self.pod_certificate(node, verb, on)
            }
            // Served only when switched on.
            ("certificates.k8s.io", "podcertificaterequests") => Decision::because(""),
            _ => self.by_rules(attributes),
        }
    }

    fn by_rules(&self, attributes: &Attributes) -> Decision {
        if self.rules.iter().any(|r| rule::allows(r, attributes)) { allow() } else { Decision::because("") }
    }

    fn read(&self, node: &str, kind: Kind, verb: &str, on: &Resource) -> Decision {
        if !matches!(verb, "get" | "list" | "watch") {
            return Decision::because("can only read resources of this type");
        }
        if !on.subresource.is_empty() {
            return Decision::because("cannot read subresource");
        }
        if on.namespace.is_empty() {
            return Decision::because("can only read namespaced object of this type");
        }
        self.related(node, kind, on)
    }

    fn get(&self, node: &str, kind: Kind, verb: &str, on: &Resource) -> Decision {
        if verb != "get" {
            return Decision::because("can only get individual resources of this type");
        }
        if !on.subresource.is_empty() {
            return Decision::because("cannot get subresource");
        }
        self.related(node, kind, on)
    }

    fn related(&self, node: &str, kind: Kind, on: &Resource) -> Decision {
        if on.name.is_empty() {
            return Decision::because("No Object name found");
        }
        if self.graph.read().relates(kind, on.namespace, on.name, node) {
            return allow();
        }
        Decision::because(format!("no relationship found between node '{node}' and this object"))
    }

    fn service_account(&self, node: &str, verb: &str, on: &Resource) -> Decision {
        if verb == "get" && on.subresource.is_empty() {
            return self.read(node, Kind::ServiceAccount, verb, on);
        }
        if verb != "create" || on.name.is_empty() {
            return Decision::because("can only create tokens for individual service accounts");
        }
        if on.subresource != "token" {
            return Decision::because("can only create token subresource of serviceaccount");
        }
        self.related(node, Kind::ServiceAccount, on)
    }

    fn resource_slice(&self, node: &str, verb: &str, on: &Resource) -> Decision {
        if !on.subresource.is_empty() {
            return Decision::because("cannot authorize ResourceSlice subresources");
        }
        match verb {
            // NodeRestriction sees to it that the slice is of this node.
            "create" => allow(),
            "get" | "update" | "patch" | "delete" => self.related(node, Kind::Slice, on),
            "watch" | "list" | "deletecollection" if selects(on, "spec.nodeName", node) => allow(),
            "watch" | "list" | "deletecollection" => {
                Decision::because("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => Decision::because(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                 delete, deletecollection",
            ),
        }
    }

    fn pod_certificate(&self, node: &str, verb: &str, on: &Resource) -> Decision {
        if !on.subresource.is_empty() {
            return Decision::because("nodes may not access the status subresource of PodCertificateRequests");
        }
        match verb {
            // NodeRestriction sees to it that the request is for a pod of this node.
            "create" => allow(),
            "get" => self.related(node, Kind::PodCertificate, on),
            "list" | "watch" if selects(on, "spec.nodeName", node) => allow(),
            "list" | "watch" => {
                Decision::because("can only list/watch podcertificaterequests with nodeName field selector")
            }
            verb => Decision::because(format!("nodes may not {verb} podcertificaterequests")),
        }
    }

    fn pod(&self, node: &str, verb: &str, on: &Resource) -> Decision {
        match (on.subresource, verb) {
            ("", "get") => self.get(node, Kind::Pod, verb, on),
            ("", "list" | "watch") if selects(on, "spec.nodeName", node) => allow(),
            ("", "list" | "watch") if !on.name.is_empty() => self.related(node, Kind::Pod, on),
            ("", "list" | "watch") => Decision::because("can only list/watch pods with spec.nodeName field selector"),
            // NodeRestriction sees to it that they are mirror pods, or bound to this node.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => allow(),
            _ => Decision::because(""),
        }
    }
}

fn selects(on: &Resource, path: &str, value: &str) -> bool {
    on.field_selector.iter().any(|term| term.equal && term.path == path && term.value == value)
}

fn lease(node: &str, verb: &str, on: &Resource) -> Decision {
    if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
        return Decision::because("can only get, create, update, patch, or delete a node lease");
    }
    if on.namespace != LEASE_NAMESPACE {
        return Decision::because(format!(
            "can only access leases in the {} system namespace",
            field::quote(LEASE_NAMESPACE)
        ));
    }
    // The name in a create's body is NodeRestriction's to check.
    if verb != "create" && on.name != node {
        return Decision::because("can only access node lease with the same name as the requesting node");
    }
    allow()
}

fn csi_node(node: &str, verb: &str, on: &Resource) -> Decision {
    if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
        return Decision::because("can only get, create, update, patch, or delete a CSINode");
    }
    if !on.subresource.is_empty() {
        return Decision::because("cannot authorize CSINode subresources");
    }
    if verb != "create" && on.name != node {
        return Decision::because("can only access CSINode with the same name as the requesting node");
    }
    allow()
}

/// Names are compared rather than looked up: a kubelet asks for its Node before there is one.
fn node_object(node: &str, verb: &str, on: &Resource) -> Decision {
    match (on.subresource, verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => allow(),
        ("", "get" | "list" | "watch") => match on.name {
            name if name == node => allow(),
            "" => Decision::because(format!("node '{node}' cannot read all nodes, only its own Node object")),
            name => Decision::because(format!("node '{node}' cannot read '{name}', only its own Node object")),
        },
        _ => Decision::because(""),
    }
}

impl Authorize for NodeAuthorizer {
    fn decide(&self, attributes: &Attributes) -> Decision {
        let Some(node) = attributes.user.node() else { return Decision::because("") };
        if node.is_empty() {
            return Decision::because(format!("unknown node for user {}", field::quote(&attributes.user.name)));
        }
        match &attributes.target {
            Target::Resource(on) => self.decide_resource(node, on, attributes),
            Target::Path(_) => self.by_rules(attributes),
        }
    }
}

#[cfg(test)]
mod tests;
