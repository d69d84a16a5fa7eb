//! NodeRestriction: a kubelet writes its own node, its own pods, and what belongs to these.

use std::{collections::BTreeSet, sync::Arc};

use crds::field::quote;
use futures::future::BoxFuture;
use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    certificates::v1beta1::PodCertificateRequest,
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, ServiceAccount, Volume},
    storage::v1::CSIDriver,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{Attributes, Operation, Plugin, certificate, edit, pod_reference};
use crate::{
    authorize::{self, Authorize, Resource},
    error::{ApiError, Result, Subject},
    world::World,
};

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";
const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// What a kubelet may say of its own node among the labels of Kubernetes.
const ALLOWED: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const ALLOWED_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

pub struct NodeRestriction {
    authorizer: Arc<dyn Authorize>,
}

impl NodeRestriction {
    pub fn new(authorizer: Arc<dyn Authorize>) -> Self {
        Self { authorizer }
    }
}

/// Why a node is refused.
enum Refusal {
    Forbidden(String),
    NotFound(ApiError),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self::Forbidden(why)
    }
}

impl From<&str> for Refusal {
    fn from(why: &str) -> Self {
        Self::Forbidden(why.to_owned())
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::NotFound(error)
    }
}

type Checked = std::result::Result<(), Refusal>;

impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation != Operation::Connect && attributes.user.node().is_some()
    }

    fn admit<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let user = attributes.user.clone();
            let checked = match user.node() {
                None => return Ok(()),
                Some("") => Err(format!("could not determine node from user {}", quote(&user.name)).into()),
                Some(node) => self.check(node, attributes, world),
            };
            checked.map_err(|refusal| match refusal {
                Refusal::Forbidden(why) => attributes.forbidden(why),
                Refusal::NotFound(error) => error,
            })
        })
    }
}

impl NodeRestriction {
    fn check(&self, node: &str, a: &Attributes, world: &World) -> Checked {
        match (a.group(), a.resource(), a.subresource.as_str()) {
            ("", "pods", "") => check_pod(node, a, world),
            ("", "pods", "status") => check_pod_status(node, a),
            ("", "pods", "eviction") => check_eviction(node, a, world),
            ("", "pods", other) => {
                let other = quote(other);
                Err(format!("unexpected pod subresource {other}, only 'status' and 'eviction' are allowed").into())
            }
            ("", "nodes", _) => check_node(node, a),
            ("", "persistentvolumeclaims", "status") => check_claim_status(node, a),
            ("", "persistentvolumeclaims", _) => Err("may only update PVC status".into()),
            ("", "serviceaccounts", "token") if a.operation == Operation::Create => self.check_token(node, a, world),
            ("coordination.k8s.io", "leases", _) => check_lease(node, a),
            ("storage.k8s.io", "csinodes", _) => same_name(node, a, "CSINode"),
            ("resource.k8s.io", "resourceslices", _) => check_slice(node, a),
            ("certificates.k8s.io", "certificatesigningrequests", _) => check_request(node, a),
            ("certificates.k8s.io", "podcertificaterequests", _) => check_pod_certificate(node, a, world),
            _ => Ok(()),
        }
    }
}

fn pod_of(a: &Attributes, world: &World, name: &str) -> std::result::Result<Pod, Refusal> {
    let missing = || ApiError::not_found(Subject { group: "", resource: "pod", name });
    Ok(world.get::<Pod>(&a.namespace, name)?.ok_or_else(missing)?)
}

fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

fn object(a: &Attributes) -> &Value {
    a.object.as_ref().unwrap_or(&Value::Null)
}

fn old(a: &Attributes) -> &Value {
    a.old.as_deref().unwrap_or(&Value::Null)
}

fn check_pod(node: &str, a: &Attributes, world: &World) -> Checked {
    match a.operation {
        Operation::Create => {
            let pod: Pod = edit::decode(object(a))?;
            check_mirror(node, &pod)?;
            let missing = || ApiError::not_found(Subject { group: "", resource: "node", name: node });
            let there = world.get::<Node>("", node)?.ok_or_else(missing)?;
            let owner =
                pod.metadata.owner_references.iter().flatten().next().map(|o| o.uid.as_str()).unwrap_or_default();
            let uid = there.metadata.uid.as_deref().unwrap_or_default();
            if owner != uid {
                return Err(format!("node {node} UID mismatch: expected {owner} got {uid}").into());
            }
            let spec = pod.spec.unwrap_or_default();
            pod_reference::any(&spec).map_or(Ok(()), |kind| {
                Err(format!("node {} can not create pods that reference {kind}", quote(node)).into())
            })
        }
        Operation::Delete => {
            let node_name = match &a.old {
                Some(pod) => edit::text(pod, "/spec/nodeName").to_owned(),
                None => node_name(&pod_of(a, world, &a.name)?).to_owned(),
            };
            if node_name == node {
                return Ok(());
            }
            Err(format!("node {} can only delete pods with spec.nodeName set to itself", quote(node)).into())
        }
        other => Err(format!(
            "unexpected operation {}, node {} can only create and delete mirror pods",
            quote(other.name()),
            quote(node)
        )
        .into()),
    }
}

/// All but what other objects tell.
fn check_mirror(node: &str, pod: &Pod) -> Checked {
    let quoted = quote(node);
    let annotated = pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR));
    if !annotated {
        return Err(
            format!("pod does not have \"{MIRROR}\" annotation, node {quoted} can only create mirror pods").into()
        );
    }
    if node_name(pod) != node {
        return Err(format!("node {quoted} can only create pods with spec.nodeName set to itself").into());
    }
    let owner = match pod.metadata.owner_references.as_deref().unwrap_or_default() {
        [] => return Err(format!("node {quoted} can only create pods with an owner reference set to itself").into()),
        [owner] => owner,
        _ => {
            let why = format!("node {quoted} can only create pods with a single owner reference set to itself");
            return Err(why.into());
        }
    };
    if (owner.api_version.as_str(), owner.kind.as_str(), owner.name.as_str()) != ("v1", "Node", node) {
        return Err(format!("node {quoted} can only create pods with an owner reference set to itself").into());
    }
    if owner.controller != Some(true) {
        return Err(
            format!("node {quoted} can only create pods with a controller owner reference set to itself").into()
        );
    }
    if owner.block_owner_deletion == Some(true) {
        return Err(format!("node {quoted} must not set blockOwnerDeletion on an owner reference").into());
    }
    Ok(())
}

fn check_pod_status(node: &str, a: &Attributes) -> Checked {
    if a.operation != Operation::Update {
        return Err(format!("unexpected operation {}", quote(a.operation.name())).into());
    }
    let (new, old, node_quoted) = (object(a), old(a), quote(node));
    if edit::text(old, "/spec/nodeName") != node {
        let why = format!("node {node_quoted} can only update pod status for pods with spec.nodeName set to itself");
        return Err(why.into());
    }
    let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    let same = |pointer: &str| {
        let (a, b) = (new.pointer(pointer).unwrap_or(&Value::Null), old.pointer(pointer).unwrap_or(&Value::Null));
        a == b || (empty(a) && empty(b))
    };
    if !same("/metadata/labels") {
        return Err(format!("node {node_quoted} cannot update labels through pod status").into());
    }
    if !same("/status/resourceClaimStatuses") {
        return Err(format!("node {node_quoted} cannot update resource claim statues").into());
    }
    if !same("/status/extendedResourceClaimStatus") {
        return Err(format!("node {node_quoted} cannot update extended resource claim status").into());
    }
    Ok(())
}

fn check_eviction(node: &str, a: &Attributes, world: &World) -> Checked {
    if a.operation != Operation::Create {
        return Err(format!("unexpected operation {}", a.operation.name()).into());
    }
    let name = if a.name.is_empty() { edit::text(object(a), "/metadata/name") } else { a.name.as_str() };
    if name.is_empty() {
        return Err("could not determine pod from request data".into());
    }
    if node_name(&pod_of(a, world, name)?) == node {
        return Ok(());
    }
    Err(format!("node {node} can only evict pods with spec.nodeName set to itself").into())
}

fn check_claim_status(node: &str, a: &Attributes) -> Checked {
    if a.operation != Operation::Update {
        return Err(format!("unexpected operation {}", quote(a.operation.name())).into());
    }
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        if let Some(metadata) = edit::object(&mut claim, &["metadata"]) {
            metadata.retain(|name, _| !matches!(name.as_str(), "resourceVersion" | "managedFields"));
        }
        if let Some(status) = edit::object(&mut claim, &["status"]) {
            let own = ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"];
            status.retain(|name, _| !own.contains(&name.as_str()));
        }
        claim
    };
    if rest(object(a)) == rest(old(a)) {
        return Ok(());
    }
    let node = quote(node);
    Err(format!("node {node} is not allowed to update fields other than status.quantity and status.conditions").into())
}

fn check_node(node: &str, a: &Attributes) -> Checked {
    let quoted = quote(node);
    let name = if a.name.is_empty() { edit::text(object(a), "/metadata/name") } else { a.name.as_str() };
    if name != node {
        return Err(format!("node {quoted} is not allowed to modify node {}", quote(name)).into());
    }
    let (new, old) = (object(a), old(a));
    let given = |object: &Value, pointer: &str| {
        let empty = |v: &&Value| !v.is_null() && v.as_array().is_none_or(|list| !list.is_empty());
        object.pointer(pointer).filter(empty).cloned()
    };
    let config = "/spec/configSource";
    match a.operation {
        Operation::Create => {
            if given(new, config).is_some() {
                let why = format!("node {quoted} is not allowed to create pods with a non-nil configSource");
                return Err(why.into());
            }
            match forbidden_labels(new, &Value::Null).join(", ").as_str() {
                "" => Ok(()),
                labels => Err(format!("node {quoted} is not allowed to set the following labels: {labels}").into()),
            }
        }
        Operation::Update => {
            if given(new, config).is_some_and(|source| Some(source) != given(old, config)) {
                let why = format!("node {quoted} is not allowed to update configSource to a new non-nil configSource");
                return Err(why.into());
            }
            if given(new, "/spec/taints") != given(old, "/spec/taints") {
                return Err(format!("node {quoted} is not allowed to modify taints").into());
            }
            if given(new, "/metadata/ownerReferences") != given(old, "/metadata/ownerReferences") {
                return Err(format!("node {quoted} is not allowed to modify ownerReferences").into());
            }
            match forbidden_labels(new, old).join(", ").as_str() {
                "" => Ok(()),
                labels => Err(format!("is not allowed to modify labels: {labels}").into()),
            }
        }
        _ => Ok(()),
    }
}

/// The labels that differ and that a kubelet may not touch, sorted.
fn forbidden_labels<'a>(new: &'a Value, old: &'a Value) -> Vec<&'a str> {
    let labels = |object: &'a Value| object.pointer("/metadata/labels").and_then(Value::as_object);
    let (new, old) = (labels(new), labels(old));
    let names: BTreeSet<&str> =
        new.into_iter().chain(old).flat_map(|labels| labels.keys()).map(String::as_str).collect();
    let value =
        |labels: Option<&'a serde_json::Map<String, Value>>, name: &str| labels.and_then(|labels| labels.get(name));
    names.into_iter().filter(|name| value(new, name) != value(old, name) && is_forbidden(name)).collect()
}

fn is_forbidden(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let within = |parent: &str| domain.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let of_kubernetes = within("kubernetes.io") || within("k8s.io");
    let allowed = ALLOWED.contains(&label) || ALLOWED_DOMAINS.iter().any(|domain| within(domain));
    within(RESTRICTED) || (of_kubernetes && !allowed)
}

fn check_lease(node: &str, a: &Attributes) -> Checked {
    if a.namespace != LEASES {
        return Err(format!("can only access leases in the {} system namespace", quote(LEASES)).into());
    }
    same_name(node, a, "node lease")
}

fn same_name(node: &str, a: &Attributes, what: &str) -> Checked {
    let name = if a.operation == Operation::Create { edit::text(object(a), "/metadata/name") } else { a.name.as_str() };
    if name == node {
        return Ok(());
    }
    Err(format!("can only access {what} with the same name as the requesting node").into())
}

fn check_slice(node: &str, a: &Attributes) -> Checked {
    let (slice, verb) = match a.operation {
        Operation::Create => (object(a), "create"),
        Operation::Delete => (old(a), "delete"),
        _ => return Ok(()),
    };
    if edit::text(slice, "/spec/nodeName") == node {
        return Ok(());
    }
    Err(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node").into())
}

fn check_request(node: &str, a: &Attributes) -> Checked {
    let signer = edit::text(object(a), "/spec/signerName");
    let of_nodes = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
    if a.operation != Operation::Create || !of_nodes.contains(&signer) {
        return Ok(());
    }
    let subject = certificate::subject(object(a)).map_err(|why| format!("unable to parse csr: {why}"))?;
    if subject.common_name == format!("system:node:{node}") {
        return Ok(());
    }
    Err(format!("can only create a node CSR with CN=system:node:{node}").into())
}

/// A certificate is for a pod that runs on the node, as its service account. What may be told otherwise in a moment, once
/// the cache has it, is no refusal.
fn check_pod_certificate(node: &str, a: &Attributes, world: &World) -> Checked {
    if a.operation != Operation::Create {
        return Err(format!("unexpected operation {}", a.operation.name()).into());
    }
    let spec = edit::decode::<PodCertificateRequest>(object(a))?.spec;
    let retry = |why: String| Refusal::from(ApiError::unknown(why));
    let missing = |what: &str, named: &str, kind: &str, name: &str| {
        let (named, name) = (quote(named), quote(name));
        retry(format!("while retrieving {what} {named} named in the PodCertificateRequest: {kind} {name} not found"))
    };
    if spec.node_name != node {
        let why = format!(
            "PodCertificateRequest.Spec.NodeName={}, which is not the requesting node {}",
            quote(&spec.node_name),
            quote(node)
        );
        return Err(why.into());
    }
    let placed = |name: &str| format!("{}/{name}", a.namespace);
    let (full, uid_of) = (placed(&spec.pod_name), |meta: &ObjectMeta| meta.uid.clone().unwrap_or_default());
    let pod_quoted = quote(&full);
    let there = world.get::<Node>("", node)?.ok_or_else(|| missing("node", node, "node", node))?;
    let uid = uid_of(&there.metadata);
    if spec.node_uid != uid {
        let (named, uid) = (quote(&spec.node_uid), quote(&uid));
        return Err(retry(format!(
            "PodCertificateRequest for pod {pod_quoted} names node UID {named}, inconsistent with the running node ({uid})"
        )));
    }
    let pod = world.get::<Pod>(&a.namespace, &spec.pod_name)?;
    let pod = pod.ok_or_else(|| missing("pod", &full, "pod", &spec.pod_name))?;
    let uid = uid_of(&pod.metadata);
    if spec.pod_uid != uid {
        let (named, uid) = (quote(&spec.pod_uid), quote(&uid));
        return Err(retry(format!(
            "PodCertificateRequest for pod {pod_quoted} contains pod UID ({named}) which differs from running pod {uid}"
        )));
    }
    if node_name(&pod) != node {
        let node = quote(node);
        let why = format!("pod {pod_quoted} is not running on node {node} named in the PodCertificateRequest");
        return Err(why.into());
    }
    if pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        return Err(format!("pod {pod_quoted} is a mirror pod").into());
    }
    let account = pod.spec.and_then(|spec| spec.service_account_name).unwrap_or_default();
    if spec.service_account_name != account {
        let (named, account) = (quote(&spec.service_account_name), quote(&account));
        return Err(format!(
            "PodCertificateRequest for pod {pod_quoted} contains serviceAccountName ({named}) that differs from running \
             pod ({account})"
        )
        .into());
    }
    let full = placed(&account);
    let there = world.get::<ServiceAccount>(&a.namespace, &account)?;
    let there = there.ok_or_else(|| missing("service account", &full, "serviceaccount", &account))?;
    let uid = uid_of(&there.metadata);
    if spec.service_account_uid != uid {
        let (named, uid) = (quote(&spec.service_account_uid), quote(&uid));
        return Err(retry(format!(
            "PodCertificateRequest for pod {pod_quoted} names service account UID {named}, which differs from the running \
             service account ({uid})"
        )));
    }
    Ok(())
}

impl NodeRestriction {
    fn check_token(&self, node: &str, a: &Attributes, world: &World) -> Checked {
        let request: TokenRequest = edit::decode(object(a))?;
        let spec = request.spec.unwrap_or_default();
        let bound = spec.bound_object_ref.unwrap_or_default();
        let given = |text: &Option<String>| text.clone().unwrap_or_default();
        let name = given(&bound.name);
        if given(&bound.api_version) != "v1" || given(&bound.kind) != "Pod" || name.is_empty() {
            return Err("node requested token not bound to a pod".into());
        }
        let uid = given(&bound.uid);
        if uid.is_empty() {
            return Err("node requested token with a pod binding without a uid".into());
        }
        let pod = pod_of(a, world, &name)?;
        if pod.metadata.uid.as_ref() != Some(&uid) {
            return Err(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been \
                 deleted and then recreated"
            )
            .into());
        }
        if node_name(&pod) != node {
            return Err("node requested token bound to a pod scheduled on a different node".into());
        }
        self.check_audience(&spec.audiences.unwrap_or_default(), &pod, a, world)
    }

    /// A token is for whom a volume of the pod names, or for whom the node is allowed to ask.
    fn check_audience(&self, audiences: &[String], pod: &Pod, a: &Attributes, world: &World) -> Checked {
        let audience = match audiences {
            [] => "",
            [one] => one.as_str(),
            _ => return Err("node may only request 0 or 1 audiences".into()),
        };
        let mut failed = Vec::new();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            match names_audience(volume, audience, pod, world) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(why) => failed.push(why),
            }
        }
        if !failed.is_empty() {
            let why = super::limit_ranger::aggregate(failed);
            return Err(format!("error validating audience {}: {why}", quote(audience)).into());
        }
        let on = Resource {
            version: "v1",
            resource: audience,
            namespace: &a.namespace,
            name: &a.name,
            ..Resource::default()
        };
        let asked = authorize::Attributes::resource(&a.user, "request-serviceaccounts-token-audience", on);
        if self.authorizer.decide(&asked).allowed() {
            return Ok(());
        }
        let (audience, user) = (quote(audience), &a.user.name);
        let why = format!(
            "audience {audience} not found in pod spec volume, {user} is not authorized to request tokens for this audience"
        );
        Err(why.into())
    }
}

fn names_audience(volume: &Volume, audience: &str, pod: &Pod, world: &World) -> std::result::Result<bool, String> {
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    let mut tokens = sources.filter_map(|source| source.service_account_token.as_ref());
    if tokens.any(|token| token.audience.as_deref().unwrap_or_default() == audience) {
        return Ok(true);
    }
    let driver = if let Some(csi) = &volume.csi {
        Some(csi.driver.clone())
    } else if let Some(claim) = &volume.persistent_volume_claim {
        driver_of(&claim.claim_name, pod, world)?
    } else if volume.ephemeral.as_ref().is_some_and(|e| e.volume_claim_template.is_some()) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        driver_of(&format!("{name}-{}", volume.name), pod, world)?
    } else {
        None
    };
    let Some(driver) = driver else { return Ok(false) };
    let driver = world
        .get::<CSIDriver>("", &driver)
        .map_err(|e| e.to_string())?
        .ok_or_else(|| format!("csidriver.storage.k8s.io {} not found", quote(&driver)))?;
    let requests = driver.spec.token_requests.unwrap_or_default();
    Ok(requests.iter().any(|request| request.audience == audience))
}

fn driver_of(claim: &str, pod: &Pod, world: &World) -> std::result::Result<Option<String>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let missing = |what: &str, name: &str| format!("{what} {} not found", quote(name));
    let there = world.get::<PersistentVolumeClaim>(namespace, claim).map_err(|e| e.to_string())?;
    let there = there.ok_or_else(|| missing("persistentvolumeclaim", claim))?;
    let name = there.spec.and_then(|spec| spec.volume_name).unwrap_or_default();
    let volume = world.get::<PersistentVolume>("", &name).map_err(|e| e.to_string())?;
    let volume = volume.ok_or_else(|| missing("persistentvolume", &name))?;
    Ok(volume.spec.and_then(|spec| spec.csi).map(|csi| csi.driver))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels() {
        let node = |labels: Value| json!({"metadata": {"labels": labels}});
        let new =
            node(json!({"my": "1", "kubernetes.io/hostname": "n", "kubernetes.io/other": "x", "foo.k8s.io/other": "y",
            "node-restriction.kubernetes.io/team": "red", "a.kubelet.kubernetes.io/b": "c", "same.k8s.io/x": "1"}));
        let old = node(json!({"same.k8s.io/x": "1", "gone.k8s.io/x": "1"}));
        assert_eq!(
            forbidden_labels(&new, &old),
            ["foo.k8s.io/other", "gone.k8s.io/x", "kubernetes.io/other", "node-restriction.kubernetes.io/team"]
        );
    }

    #[test]
    fn mirror_pods() {
        let pod = |owners: Value| -> Pod {
            edit::decode(&json!({"metadata": {"annotations": {MIRROR: "x"}, "ownerReferences": owners}, "spec": {"containers": [], "nodeName": "n"}})).unwrap()
        };
        let owner = |controller: bool, block: bool| json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": controller, "blockOwnerDeletion": block});
        let why = |pod: &Pod| match check_mirror("n", pod) {
            Err(Refusal::Forbidden(why)) => why,
            _ => String::new(),
        };
        assert_eq!(why(&pod(json!([owner(true, false)]))), "");
        for (owners, expected) in [
            (json!([]), "node \"n\" can only create pods with an owner reference set to itself"),
            (
                json!([owner(true, false), owner(true, false)]),
                "node \"n\" can only create pods with a single owner reference set to itself",
            ),
            (
                json!([owner(false, false)]),
                "node \"n\" can only create pods with a controller owner reference set to itself",
            ),
            (json!([owner(true, true)]), "node \"n\" must not set blockOwnerDeletion on an owner reference"),
        ] {
            assert_eq!(why(&pod(owners)), expected);
        }
        assert_eq!(
            why(&Pod::default()),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n\" can only create mirror pods"
        );
    }
}
