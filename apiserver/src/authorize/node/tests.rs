use crds::user::User;
use serde_json::{Value, json};

use super::*;

fn shown(objects: &[(&str, &str, &str, Value)]) -> NodeAuthorizer {
    let it = NodeAuthorizer::new(Vec::new());
    for (resource, namespace, name, object) in objects {
        it.observe(&Change { group: "", resource, namespace, name, object: Some(object) }).unwrap();
    }
    it
}

fn allowed(
    it: &NodeAuthorizer,
    node: &str,
    verb: &str,
    group: &str,
    resource: &str,
    namespace: &str,
    name: &str,
) -> bool {
    let user = User::named(format!("system:node:{node}"), &[GROUP]);
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let on = Resource { group, resource, subresource, namespace, name, ..Resource::default() };
    it.decide(&Attributes::resource(&user, verb, on)).allowed()
}

fn pod(node: &str) -> Value {
    json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {
        "nodeName": node, "serviceAccountName": "sa",
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [{"name": "c",
            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}],
            "envFrom": [{"configMapRef": {"name": "from"}}]}],
        "volumes": [
            {"name": "s", "secret": {"secretName": "volume"}},
            {"name": "c", "configMap": {"name": "config"}},
            {"name": "j", "projected": {"sources": [{"secret": {"name": "projected"}}]}},
            {"name": "e", "ephemeral": {}},
            {"name": "d", "persistentVolumeClaim": {"claimName": "claim"}}],
        "resourceClaims": [{"name": "r", "resourceClaimTemplateName": "t"}]},
        "status": {"resourceClaimStatuses": [{"name": "r", "resourceClaimName": "made"}]}})
}

fn volume() -> Value {
    json!({"metadata": {"name": "pv"}, "spec": {
        "claimRef": {"namespace": "ns", "name": "claim"},
        "csi": {"driver": "d", "volumeHandle": "h",
            "nodeStageSecretRef": {"namespace": "store", "name": "stage"},
            "controllerPublishSecretRef": {"namespace": "store", "name": "controller"}}}})
}

const READS: [(&str, &str, &str, &str); 12] = [
    ("", "pods", "ns", "p"),
    ("", "secrets", "ns", "pull"),
    ("", "secrets", "ns", "env"),
    ("", "secrets", "ns", "volume"),
    ("", "secrets", "ns", "projected"),
    ("", "configmaps", "ns", "from"),
    ("", "configmaps", "ns", "config"),
    ("", "persistentvolumeclaims", "ns", "claim"),
    ("", "persistentvolumeclaims", "ns", "p-e"),
    ("", "persistentvolumes", "", "pv"),
    ("", "secrets", "store", "stage"),
    ("resource.k8s.io", "resourceclaims", "ns", "made"),
];

#[test]
fn a_node_reads_what_its_pods_refer_to() {
    let it = shown(&[("pods", "ns", "p", pod("n1")), ("persistentvolumes", "", "pv", volume())]);
    for (group, resource, namespace, name) in READS {
        assert!(allowed(&it, "n1", "get", group, resource, namespace, name), "{resource} {name}");
        assert!(!allowed(&it, "n2", "get", group, resource, namespace, name), "{resource} {name}");
        assert!(!allowed(&it, "n1", "get", group, resource, namespace, "other"), "{resource} {name}");
    }
    assert!(!allowed(&it, "n1", "get", "", "secrets", "store", "controller"));
    assert!(!allowed(&it, "n1", "list", "", "secrets", "ns", ""));
    assert!(allowed(&it, "n1", "create", "", "serviceaccounts/token", "ns", "sa"));
    assert!(!allowed(&it, "n2", "create", "", "serviceaccounts/token", "ns", "sa"));
    it.observe(&Change { group: "", resource: "pods", namespace: "ns", name: "p", object: None }).unwrap();
    for (group, resource, namespace, name) in READS {
        assert!(!allowed(&it, "n1", "get", group, resource, namespace, name), "{resource} {name}");
    }
}

#[test]
fn two_pods_may_share_a_secret() {
    let it = shown(&[("pods", "ns", "p", pod("n1")), ("pods", "ns", "q", pod("n1")), ("pods", "ns", "q", pod("n2"))]);
    assert!(allowed(&it, "n2", "get", "", "secrets", "ns", "env"));
    it.observe(&Change { group: "", resource: "pods", namespace: "ns", name: "q", object: None }).unwrap();
    assert!(allowed(&it, "n1", "get", "", "secrets", "ns", "env"));
    assert!(!allowed(&it, "n2", "get", "", "secrets", "ns", "env"));
}

#[test]
fn mirror_pods_open_nothing() {
    let mut mirror = pod("n1");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    let it = shown(&[("pods", "ns", "p", mirror)]);
    assert!(allowed(&it, "n1", "get", "", "pods", "ns", "p"));
    assert!(!allowed(&it, "n1", "get", "", "secrets", "ns", "env"));
}

#[test]
fn a_node_writes_its_own() {
    let attachment = json!({"metadata": {"name": "a"}, "spec": {"attacher": "x", "nodeName": "n1", "source": {}}});
    let it = shown(&[("volumeattachments", "", "a", attachment)]);
    for (verb, group, resource, namespace, name, is) in [
        ("get", "storage.k8s.io", "volumeattachments", "", "a", true),
        ("get", "", "nodes", "", "n1", true),
        ("get", "", "nodes", "", "n2", false),
        ("list", "", "nodes", "", "", false),
        ("patch", "", "nodes/status", "", "n2", true),
        ("update", "coordination.k8s.io", "leases", "kube-node-lease", "n1", true),
        ("update", "coordination.k8s.io", "leases", "kube-node-lease", "n2", false),
        ("update", "coordination.k8s.io", "leases", "default", "n1", false),
        ("create", "storage.k8s.io", "csinodes", "", "", true),
        ("delete", "storage.k8s.io", "csinodes", "", "n2", false),
        ("create", "resource.k8s.io", "resourceslices", "", "", true),
        ("create", "", "pods/eviction", "ns", "p", true),
        ("create", "", "secrets", "ns", "", false),
    ] {
        assert_eq!(allowed(&it, "n1", verb, group, resource, namespace, name), is, "{verb} {resource} {name}");
    }
}

#[test]
fn a_node_requests_certificates_for_its_pods_where_there_are_such() {
    let request = |node: &str| json!({"metadata": {"name": "r", "namespace": "ns"}, "spec": {"nodeName": node}});
    let mut it = shown(&[
        ("podcertificaterequests", "ns", "own", request("n1")),
        ("podcertificaterequests", "ns", "other", request("n2")),
    ]);
    let may = |it: &NodeAuthorizer, verb, resource, name| {
        allowed(it, "n1", verb, "certificates.k8s.io", resource, "ns", name)
    };
    assert!(!may(&it, "create", "podcertificaterequests", ""));
    it.allow_pod_certificates();
    for (verb, resource, name, is) in [
        ("create", "podcertificaterequests", "", true),
        ("get", "podcertificaterequests", "own", true),
        ("get", "podcertificaterequests", "other", false),
        ("list", "podcertificaterequests", "", false),
        ("delete", "podcertificaterequests", "own", false),
        ("update", "podcertificaterequests/status", "own", false),
    ] {
        assert_eq!(may(&it, verb, resource, name), is, "{verb} {resource} {name}");
    }
}

#[test]
fn others_are_none_of_its_business() {
    let it = shown(&[("pods", "ns", "p", pod("n1"))]);
    let user = User::named("system:node:n1", &["devs"]);
    let on = Resource { resource: "secrets", namespace: "ns", name: "env", ..Resource::default() };
    assert!(!it.decide(&Attributes::resource(&user, "get", on)).allowed());
}
