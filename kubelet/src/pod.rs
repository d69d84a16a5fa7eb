//! A pod on this node: what it asks for and what its parts are called.

pub mod admit;
pub mod backoff;
pub mod condition;
pub mod container;
pub mod dns;
pub mod environment;
pub mod field;
pub mod hostname;
pub mod lifecycle;
pub mod manifest;
pub mod observed;
pub mod patch;
pub mod plan;
pub mod qos;
pub mod resource;
pub mod restart;
pub mod sandbox;
pub mod security;
pub mod start;
pub mod status;
pub mod table;
pub mod worker;

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};

pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
pub const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

/// Which list of the specification a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Ephemeral,
    Init,
    /// An init container that keeps running beside the others.
    Sidecar,
    Main,
}

/// Short ways to what a pod says; an absent field counts as its zero value.
pub trait PodExt {
    fn uid(&self) -> &str;
    fn name(&self) -> &str;
    fn namespace(&self) -> &str;
    fn spec(&self) -> Cow<'_, PodSpec>;
    fn phase(&self) -> &str;
    fn containers(&self) -> Vec<(Role, Cow<'_, Container>)>;
    fn container(&self, name: &str) -> Option<(Role, Cow<'_, Container>)>;
    fn host_network(&self) -> bool;
    fn restart_policy(&self) -> &str;
    fn annotation(&self, key: &str) -> Option<&str>;
    fn is_deleted(&self) -> bool;
    fn is_static(&self) -> bool;
    fn is_mirror(&self) -> bool;
    fn is_terminal(&self) -> bool;
    fn grace_seconds(&self) -> i64;
    /// As upstream's logs and messages name a pod: `name_namespace(uid)`.
    fn title(&self) -> String;
}

impl PodExt for Pod {
    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or("")
    }

    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or("")
    }

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or("default")
    }

    fn spec(&self) -> Cow<'_, PodSpec> {
        self.spec.as_ref().map_or_else(|| Cow::Owned(PodSpec::default()), Cow::Borrowed)
    }

    fn phase(&self) -> &str {
        self.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("")
    }

    fn containers(&self) -> Vec<(Role, Cow<'_, Container>)> {
        let Some(spec) = &self.spec else { return Vec::new() };
        let ephemeral = spec
            .ephemeral_containers
            .iter()
            .flatten()
            .map(|c| (Role::Ephemeral, Cow::Owned(crds::pod::container::of_ephemeral(c))));
        let init = spec.init_containers.iter().flatten().map(|c| (init_role(c), Cow::Borrowed(c)));
        let main = spec.containers.iter().map(|c| (Role::Main, Cow::Borrowed(c)));
        ephemeral.chain(init).chain(main).collect()
    }

    fn container(&self, name: &str) -> Option<(Role, Cow<'_, Container>)> {
        self.containers().into_iter().find(|(_, c)| c.name == name)
    }

    fn host_network(&self) -> bool {
        self.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false)
    }

    fn restart_policy(&self) -> &str {
        self.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always")
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref().and_then(|a| a.get(key)).map(String::as_str)
    }

    fn is_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn is_static(&self) -> bool {
        self.annotation(CONFIG_SOURCE).is_some_and(|source| source != "api")
    }

    fn is_mirror(&self) -> bool {
        self.annotation(CONFIG_MIRROR).is_some()
    }

    fn is_terminal(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    fn grace_seconds(&self) -> i64 {
        self.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30)
    }

    fn title(&self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }
}

pub fn init_role(container: &Container) -> Role {
    if container.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init }
}

/// The target of an ephemeral container, whose processes it may see.
pub fn ephemeral_target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let containers = pod.spec.as_ref()?.ephemeral_containers.as_ref()?;
    containers.iter().find(|c| c.name == name)?.target_container_name.as_deref().filter(|t| !t.is_empty())
}

/// The status that the API holds; empty when there is none.
pub fn status_of(pod: &Pod) -> Cow<'_, PodStatus> {
    pod.status.as_ref().map_or_else(|| Cow::Owned(PodStatus::default()), Cow::Borrowed)
}
