//! Decisions of the default profile: which node, or which words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step fails the test")]

use std::{collections::BTreeSet, sync::Arc};

use crds::selector;
use scheduler::{
    decide::{Decision, Diagnosis, Nominated, decide},
    plugins::Profile,
    preempt::{Budget, Preemption, preempt},
    snapshot::{Claim, Node, Pod, Snapshot},
};
use serde_json::{Value, json};

fn node(name: &str, change: impl Fn(&mut Value)) -> Node {
    let mut object = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}}});
    change(&mut object);
    Node::new(Arc::new(serde_json::from_value(object).unwrap()))
}

fn pod(name: &str, spec: Value) -> Pod {
    let mut object = json!({"metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": name.split('-').next()}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (key, value) in spec.as_object().unwrap() {
        match key.as_str() {
            "cpu" => object["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": value}}),
            "port" => object["spec"]["containers"][0]["ports"] = json!([{"containerPort": value, "hostPort": value}]),
            _ => object["spec"][key] = value.clone(),
        }
    }
    Pod::new(Arc::new(serde_json::from_value(object).unwrap()))
}

fn with(mut node: Node, pods: &[Pod]) -> Node {
    pods.iter().for_each(|p| node.add(Arc::new(p.clone())));
    node
}

fn cluster(nodes: Vec<Node>) -> Snapshot {
    Snapshot::new(nodes.into_iter().map(Arc::new).collect())
}

fn outcome(snapshot: &Snapshot, pod: &Pod) -> String {
    match decide(snapshot, pod, &Profile::default(), &Nominated::new(), 1) {
        Decision::Node(node) => node,
        Decision::Nowhere(diagnosis) => diagnosis.message(),
    }
}

fn plain(name: &str) -> Node {
    node(name, |_| ())
}

fn zoned(name: &str, zone: &str) -> Node {
    node(name, |n| n["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!(zone))
}

#[test]
fn the_emptier_node_is_taken() {
    let snapshot = cluster(vec![with(plain("a"), &[pod("x", json!({"cpu": "1"}))]), plain("b")]);
    assert_eq!(outcome(&snapshot, &pod("p", json!({"cpu": "500m"}))), "b");
}

#[test]
fn refusals_are_counted() {
    let tainted = node("a", |n| n["spec"]["taints"] = json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]));
    let cordoned = node("b", |n| n["spec"]["unschedulable"] = json!(true));
    let full = with(plain("c"), &[pod("x", json!({"cpu": "2"}))]);
    let snapshot = cluster(vec![tainted, cordoned, full]);
    assert_eq!(
        outcome(&snapshot, &pod("p", json!({"cpu": "1"}))),
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {k: v}, 1 node(s) were unschedulable."
    );
}

#[test]
fn pods_choose_nodes() {
    let ssd = node("a", |n| n["metadata"]["labels"]["disk"] = json!("ssd"));
    let snapshot = cluster(vec![ssd, plain("b")]);
    let required = |operator: &str, values: Value| {
        let expression = json!({"key": "disk", "operator": operator, "values": values});
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}}})
    };
    let preferred = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 50, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}]}}});
    for (spec, want) in [
        (json!({"nodeSelector": {"disk": "ssd"}}), "a"),
        (required("In", json!(["ssd"])), "a"),
        (required("NotIn", json!(["ssd"])), "b"),
        (preferred, "a"),
        (
            json!({"nodeSelector": {"disk": "hdd"}}),
            "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
        ),
    ] {
        assert_eq!(outcome(&snapshot, &pod("p", spec)), want);
    }
}

#[test]
fn host_ports_conflict() {
    let snapshot = cluster(vec![with(plain("a"), &[pod("x", json!({"port": 80}))])]);
    assert_eq!(outcome(&snapshot, &pod("p", json!({"port": 81}))), "a");
    let want = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    assert_eq!(outcome(&snapshot, &pod("p", json!({"port": 80}))), want);
}

#[test]
fn affinity_between_pods() {
    let near = |which: &str, app: &str| {
        let term = json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "kubernetes.io/hostname"});
        json!({"affinity": {which: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
    };
    let guarded = pod("db-0", near("podAntiAffinity", "web"));
    let snapshot = cluster(vec![with(plain("a"), &[guarded]), plain("b")]);
    for (pod, want) in [
        (pod("other", near("podAffinity", "db")), "a"),
        (pod("other", near("podAntiAffinity", "db")), "b"),
        (pod("web-0", json!({})), "b"),
        (
            pod("web-0", near("podAffinity", "db")),
            "0/2 nodes are available: 1 node(s) didn't match pod affinity rules, 1 node(s) didn't satisfy existing pods anti-affinity rules.",
        ),
        (
            pod("alone", near("podAffinity", "nobody")),
            "0/2 nodes are available: 2 node(s) didn't match pod affinity rules.",
        ),
    ] {
        assert_eq!(outcome(&snapshot, &pod), want, "{}", pod.name);
    }
    // The first of a group begins anywhere.
    assert!(["a", "b"].contains(&outcome(&snapshot, &pod("first", near("podAffinity", "first"))).as_str()));
}

#[test]
fn spread_over_zones() {
    let constraint = json!({"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}});
    let spec = json!({"topologySpreadConstraints": [constraint]});
    let snapshot = cluster(vec![with(zoned("a", "1"), &[pod("web-0", json!({}))]), zoned("b", "2"), plain("c")]);
    assert_eq!(outcome(&snapshot, &pod("web-1", spec.clone())), "b");
    let without_second = cluster(vec![
        with(zoned("a", "1"), &[pod("web-0", json!({}))]),
        with(zoned("b", "2"), &[pod("x", json!({"cpu": "2"}))]),
    ]);
    let mut wanting = spec;
    wanting["cpu"] = json!("1");
    assert_eq!(
        outcome(&without_second, &pod("web-1", wanting)),
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints."
    );
}

#[test]
fn claims_are_waited_for() {
    let spec = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]});
    let mut snapshot = cluster(vec![plain("a")]);
    assert_eq!(
        outcome(&snapshot, &pod("p", spec.clone())),
        "0/1 nodes are available: persistentvolumeclaim \"data\" not found."
    );
    for (claim, want) in [
        (Claim::Bound, "a"),
        (Claim::WaitsForPod, "a"),
        (Claim::Unbound, "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
    ] {
        snapshot.claims = Arc::new([(("default".to_owned(), "data".to_owned()), claim)].into());
        assert_eq!(outcome(&snapshot, &pod("p", spec.clone())), want);
    }
}

#[test]
fn the_same_seed_decides_the_same() {
    let snapshot = cluster((0..20).map(|i| plain(&format!("n{i:02}"))).collect());
    let pod = pod("p", json!({}));
    let decide = |seed| match decide(&snapshot, &pod, &Profile::default(), &Nominated::new(), seed) {
        Decision::Node(node) => node,
        Decision::Nowhere(_) => String::new(),
    };
    let drawn: BTreeSet<String> = (0..50).map(decide).collect();
    assert!(drawn.len() > 5, "{drawn:?}");
    assert!((0..50).all(|seed| decide(seed) == decide(seed)));
}

#[test]
fn a_promised_node_is_kept_for_whom_it_was_promised() {
    let snapshot = cluster(vec![plain("a")]);
    let promised = Arc::new(pod("important", json!({"cpu": "2", "priority": 10})));
    let nominated = Nominated::from([("a".to_owned(), vec![promised.clone()])]);
    let lesser = decide(&snapshot, &pod("p", json!({"cpu": "1"})), &Profile::default(), &nominated, 1);
    assert!(matches!(lesser, Decision::Nowhere(_)));
    assert_eq!(decide(&snapshot, &promised, &Profile::default(), &nominated, 1), Decision::Node("a".into()));
}

fn diagnosis(snapshot: &Snapshot, pod: &Pod) -> Diagnosis {
    match decide(snapshot, pod, &Profile::default(), &Nominated::new(), 1) {
        Decision::Nowhere(diagnosis) => diagnosis,
        Decision::Node(node) => panic!("it fits on {node}"),
    }
}

fn evicted(snapshot: &Snapshot, pod: &Pod, budgets: &[Budget]) -> String {
    match preempt(snapshot, pod, &Profile::default(), &Nominated::new(), budgets, &diagnosis(snapshot, pod)) {
        Preemption::None(why) => why,
        Preemption::Evict { node, victims } => {
            format!("{node}: {}", victims.iter().map(|v| v.name.as_str()).collect::<Vec<_>>().join(" "))
        }
    }
}

#[test]
fn as_few_and_as_unimportant_as_possible_are_evicted() {
    let sized = |name: &str, cpu: &str, priority: i32| pod(name, json!({"cpu": cpu, "priority": priority}));
    let a = with(plain("a"), &[sized("a1", "1", 1), sized("a2", "1", 5)]);
    let b = with(plain("b"), &[sized("b1", "1", 2), sized("b2", "1", 3)]);
    let snapshot = cluster(vec![a, b]);
    assert_eq!(evicted(&snapshot, &sized("p", "1", 10), &[]), "a: a1");
    assert_eq!(evicted(&snapshot, &sized("p", "2", 10), &[]), "b: b2 b1");
    assert_eq!(evicted(&snapshot, &sized("p", "1", 2), &[]), "a: a1");
    assert_eq!(
        evicted(&snapshot, &sized("p", "1", 1), &[]),
        "preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
    );
    assert_eq!(
        evicted(&snapshot, &sized("p", "3", 10), &[]),
        "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
    let never = pod("p", json!({"cpu": "1", "priority": 10, "preemptionPolicy": "Never"}));
    assert_eq!(evicted(&snapshot, &never, &[]), "preemption: not eligible due to preemptionPolicy=Never.");
}

#[test]
fn budgets_are_broken_last() {
    let sized = |name: &str, priority: i32| pod(name, json!({"cpu": "2", "priority": priority}));
    let snapshot = cluster(vec![with(plain("a"), &[sized("guarded", 1)]), with(plain("b"), &[sized("other", 5)])]);
    let budget = Budget {
        namespace: "default".into(),
        selector: selector::parse("app=guarded").unwrap(),
        allowed: 0,
        disrupted: BTreeSet::new(),
    };
    assert_eq!(evicted(&snapshot, &sized("p", 10), &[budget]), "b: other");
    assert_eq!(evicted(&snapshot, &sized("p", 10), &[]), "a: guarded");
}
