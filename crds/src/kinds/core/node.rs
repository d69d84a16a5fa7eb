//! Node (core/v1).

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Taint};
use serde_json::{Value, json};

use crate::{
    condition,
    field::{self, Error, ErrorKind, Errors, Path, extend},
    given::{Items, Text},
    go,
    kind::{AGE, About, Kind, NAME, Prose, Request, Subresource, column, text},
    meta,
    pod::validate::taint_effect,
    resource, syntax, table,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");
const TAINTS: Path = Path::new("metadata.taints");
const KEPT_RANGE: &str = "node updates may not change podCIDR except from \"\" to valid";

impl Kind for Node {
    const ABOUT: About = About {
        short_names: &["no"],
        subresources: &[
            Subresource::Other {
                name: "proxy",
                kind: ("", "v1", "NodeProxyOptions"),
                verbs: &["create", "delete", "get", "patch", "update"],
            },
            Subresource::Status,
        ],
        columns: &[
            NAME,
            column("Status", "string", "", 0, text("The status of the node")),
            column("Roles", "string", "", 0, text("The roles of the node")),
            AGE,
            column("Version", "string", "", 0, Prose::Field("io.k8s.api.core.v1.NodeSystemInfo", "kubeletVersion")),
            column("Internal-IP", "string", "", 1, Prose::Field("io.k8s.api.core.v1.NodeStatus", "addresses")),
            column("External-IP", "string", "", 1, Prose::Field("io.k8s.api.core.v1.NodeStatus", "addresses")),
            column("OS-Image", "string", "", 1, Prose::Field("io.k8s.api.core.v1.NodeSystemInfo", "osImage")),
            column(
                "Kernel-Version",
                "string",
                "",
                1,
                Prose::Field("io.k8s.api.core.v1.NodeSystemInfo", "kernelVersion"),
            ),
            column(
                "Container-Runtime",
                "string",
                "",
                1,
                Prose::Field("io.k8s.api.core.v1.NodeSystemInfo", "containerRuntimeVersion"),
            ),
        ],
        storage_prefix: "minions",
        selectable: &["spec.unschedulable"],
        checks_changes: false,
        ..About::new("nodes", "node")
    };

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        let first = spec.pod_cidr.text().to_owned();
        match spec.pod_cidrs.items().first() {
            None if !first.is_empty() => spec.pod_cidrs = Some(vec![first]),
            Some(other) if !first.is_empty() && *other != first => spec.pod_cidrs = Some(vec![first]),
            Some(other) => spec.pod_cidr = Some(other.clone()),
            None => {}
        }
        let status = self.status.get_or_insert_default();
        if status.allocatable.is_none() {
            status.allocatable.clone_from(&status.capacity);
        }
        resource::default(&mut status.capacity);
        resource::default(&mut status.allocatable);
    }

    fn prepare_create(&mut self, _request: &Request) {
        drop_config(self);
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
        if old.spec.as_ref().is_none_or(|s| s.config_source.is_none()) {
            drop_config(self);
        }
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        let had = old.status.as_ref().is_some_and(|s| s.config.is_some());
        if let Some(status) = self.status.as_mut().filter(|_| !had) {
            status.config = None;
        }
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate(self, errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        validate(self, errors);
        meta::update_of(self, old, errors);
        validate_change(self, old, errors);
    }

    fn validate_subresource(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        meta::update_of(self, old, errors);
        validate_change(self, old, errors);
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let Some(spec) = &self.spec else {
            return Vec::new();
        };
        let mut words = Vec::new();
        if spec.config_source.is_some() {
            words.push("spec.configSource: the feature is removed".to_owned());
        }
        if !spec.external_id.text().is_empty() {
            words.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
        }
        let path = SPEC.child("podCIDRs");
        for (i, range) in spec.pod_cidrs.items().iter().enumerate() {
            words.extend(syntax::cidr_warning(path.index(i), range));
        }
        words
    }

    fn selectable(&self, path: &str) -> String {
        match path {
            "spec.unschedulable" => self.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or_default().to_string(),
            _ => String::new(),
        }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let none = NodeStatus::default();
        let status = self.status.as_ref().unwrap_or(&none);
        let info = status.node_info.clone().unwrap_or_default();
        let unknown = |text: &str| if text.is_empty() { "<unknown>".to_owned() } else { text.to_owned() };
        let address = |kind: &str| {
            let found = status.addresses.items().iter().find(|a| a.type_ == kind);
            found.map_or_else(|| "<none>".to_owned(), |a| a.address.clone())
        };
        let mut kernel = unknown(&info.kernel_version);
        if !info.architecture.is_empty() {
            kernel = format!("{kernel} ({})", info.architecture);
        }
        vec![
            json!(self.metadata.name),
            json!(state(self, status)),
            json!(table::or_none(&roles(self))),
            json!(table::age(&self.metadata, now)),
            json!(info.kubelet_version),
            json!(address("InternalIP")),
            json!(address("ExternalIP")),
            json!(unknown(&info.os_image)),
            json!(kernel),
            json!(unknown(&info.container_runtime_version)),
        ]
    }
}

/// Configuration through the API is gone.
fn drop_config(node: &mut Node) {
    if let Some(spec) = &mut node.spec {
        spec.config_source = None;
    }
    if let Some(status) = &mut node.status {
        status.config = None;
    }
}

fn state(node: &Node, status: &NodeStatus) -> String {
    let ready = condition::find(status.conditions.items(), "Ready");
    let ready = ready.map_or("Unknown", |c| if c.status == "True" { "Ready" } else { "NotReady" });
    let closed = node.spec.as_ref().is_some_and(|s| s.unschedulable == Some(true));
    if closed { format!("{ready},SchedulingDisabled") } else { ready.to_owned() }
}

fn roles(node: &Node) -> String {
    let role = |(key, value): (&String, &String)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role.to_owned()),
        None => (key == "kubernetes.io/role").then(|| value.clone()),
    };
    let roles: BTreeSet<String> =
        node.metadata.labels.iter().flatten().filter_map(role).filter(|r| !r.is_empty()).collect();
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn validate(node: &Node, errors: &mut Errors) {
    let none = (NodeSpec::default(), NodeStatus::default());
    let (spec, status) = (node.spec.as_ref().unwrap_or(&none.0), node.status.as_ref().unwrap_or(&none.1));
    taints(spec.taints.items(), errors);
    amounts(status, errors);
    let swap = status.node_info.as_ref().and_then(|info| info.swap.as_ref()).and_then(|swap| swap.capacity);
    if let Some(capacity) = swap.filter(|c| *c <= 0) {
        errors.push(Error::invalid("metadata.nodeSwapStatus.capacity", capacity, "must be greater than zero"));
    }
    features(status.declared_features.items(), errors);
    let (ranges, path) = (spec.pod_cidrs.items(), SPEC.child("podCIDRs"));
    for (i, range) in ranges.iter().enumerate() {
        extend(errors, path.index(i), range, syntax::cidr(range));
    }
    if ranges.len() > 1 {
        let parsed: Vec<_> = ranges.iter().map(|range| syntax::parse_cidr(range)).collect();
        if let Some(i) = parsed.iter().position(Option::is_none) {
            let why = "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR";
            errors.push(Error::internal(path, format!("{why}[{i}]: <nil> (invalid CIDR address: {})", ranges[i])));
        }
        let four = parsed.iter().flatten().filter(|(address, _)| address.is_ipv4()).count();
        let is_dual = parsed.iter().all(Option::is_some) && four > 0 && four < ranges.len();
        if !is_dual || ranges.len() > 2 {
            let why = "may specify no more than one CIDR for each IP family";
            errors.push(Error::invalid(path, ranges.to_vec(), why));
        }
    }
}

fn validate_change(new: &Node, old: &Node, errors: &mut Errors) {
    let none = (NodeSpec::default(), NodeStatus::default());
    let (spec, was) = (new.spec.as_ref().unwrap_or(&none.0), old.spec.as_ref().unwrap_or(&none.0));
    let status = new.status.as_ref().unwrap_or(&none.1);
    amounts(status, errors);
    features(status.declared_features.items(), errors);
    let mut seen = HashSet::new();
    for (i, address) in status.addresses.items().iter().enumerate() {
        if !seen.insert((&address.type_, &address.address)) {
            let shown = go::show(address, "io.k8s.api.core.v1.NodeAddress");
            let path = STATUS.child("addresses");
            errors.push(Error::rendered(ErrorKind::Duplicate, path.index(i), shown, ""));
        }
    }
    let (ranges, had) = (spec.pod_cidrs.items(), was.pod_cidrs.items());
    let changes = match () {
        () if had.is_empty() => 0,
        () if had.len() != ranges.len() => 1,
        () => had.iter().zip(ranges).filter(|(a, b)| a != b).count(),
    };
    errors.extend((0..changes).map(|_| Error::forbidden(SPEC.child("podCIDRs"), KEPT_RANGE)));
    if !was.provider_id.text().is_empty() && was.provider_id != spec.provider_id {
        let why = "node updates may not change providerID except from \"\" to valid";
        errors.push(Error::forbidden(SPEC.child("providerID"), why));
    }
    taints(spec.taints.items(), errors);
    if spec.external_id.text() != was.external_id.text() {
        errors.push(Error::forbidden(SPEC.child("externalID"), "may not be updated"));
    }
}

fn amounts(status: &NodeStatus, errors: &mut Errors) {
    for (field, list) in [("capacity", &status.capacity), ("allocatable", &status.allocatable)] {
        let path = STATUS.child(field);
        for (name, amount) in resource::amounts(list.as_ref()) {
            resource::validate_amount(&name, amount, &path.child(&name), errors);
        }
    }
}

fn features(names: &[String], errors: &mut Errors) {
    let path = STATUS.child("declaredFeatures");
    for (i, name) in names.iter().enumerate() {
        let shown = field::quote(name);
        if name.len() > 253 {
            let why = format!("invalid feature name {shown}: must be no more than 253 characters");
            errors.push(Error::invalid(path.index(i), name.as_str(), why));
        } else if !is_feature(name) {
            let why = format!(
                "invalid feature name {shown}: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
            );
            errors.push(Error::invalid(path.index(i), name.as_str(), why));
        }
        match names.get(i + 1) {
            Some(next) if next == name => errors.push(Error::duplicate(path.index(i + 1), next.as_str())),
            Some(next) if next < name => {
                errors.push(Error::invalid(path.index(i + 1), next.as_str(), "list must be sorted alphabetically"));
            }
            _ => {}
        }
    }
}

fn is_feature(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.split('/').all(|part| {
            part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.chars().all(|c| c.is_ascii_alphanumeric())
        })
}

fn taints(taints: &[Taint], errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, taint) in taints.iter().enumerate() {
        let path = TAINTS.index(i);
        meta::label_name(&taint.key, path.child("key"), errors);
        let wrong = field::label_value(taint.value.text());
        if !wrong.is_empty() {
            errors.push(Error::invalid(path.child("value"), taint.value.text(), wrong.join(";")));
        }
        taint_effect(&taint.effect, &path.child("effect"), errors);
        if !seen.insert((&taint.key, &taint.effect)) {
            let why = "taints must be unique by key and effect pair";
            let shown = go::show(taint, "io.k8s.api.core.v1.Taint");
            errors.push(Error::rendered(ErrorKind::Duplicate, path, shown, why));
        }
    }
}
