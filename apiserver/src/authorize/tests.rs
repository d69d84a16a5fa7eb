use crds::selector::FieldTerm;
use serde_json::{Value, json};

use super::*;

fn user(name: &str, groups: &[&str]) -> User {
    User::named(name, groups)
}

fn on<'a>(resource: &'a str, namespace: &'a str, name: &'a str) -> Resource<'a> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Resource { resource, subresource, namespace, name, version: "v1", ..Resource::default() }
}

fn put(authorizer: &Authorizer, resource: &str, namespace: &str, name: &str, object: Value) {
    let group = OBSERVED.iter().find(|(_, r)| *r == resource).unwrap().0;
    authorizer.observe(&Change { group, resource, namespace, name, object: Some(&object) }).unwrap();
}

fn remove(authorizer: &Authorizer, resource: &str, namespace: &str, name: &str) {
    let group = OBSERVED.iter().find(|(_, r)| *r == resource).unwrap().0;
    authorizer.observe(&Change { group, resource, namespace, name, object: None }).unwrap();
}

fn rule(groups: &[&str], resources: &[&str], names: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "resourceNames": names, "verbs": verbs})
}

fn binding(kind: &str, role: &str, subjects: Value) -> Value {
    json!({"roleRef": {"apiGroup": rbac::GROUP, "kind": kind, "name": role}, "subjects": subjects})
}

fn authorizer() -> Authorizer {
    let it = Authorizer::new(Vec::new());
    let rules = [
        rule(&[""], &["configmaps"], &["one"], &["get", "list"]),
        rule(&[""], &["pods/log", "*/scale"], &[], &["get"]),
    ];
    put(&it, "roles", "ns", "narrow", json!({"rules": rules}));
    put(&it, "rolebindings", "ns", "nina", binding("Role", "narrow", json!([{"kind": "User", "name": "nina"}])));
    put(&it, "clusterroles", "", "view", json!({"rules": [rule(&["*"], &["*"], &[], &["list"])]}));
    put(&it, "clusterroles", "", "urls", json!({"rules": [{"nonResourceURLs": ["/logs*", "/x"], "verbs": ["get"]}]}));
    let subjects =
        json!([{"kind": "Group", "name": "devs"}, {"kind": "ServiceAccount", "name": "sa", "namespace": "ns"}]);
    put(&it, "clusterrolebindings", "", "devs", binding("ClusterRole", "urls", subjects));
    put(
        &it,
        "rolebindings",
        "ns",
        "sa",
        binding("ClusterRole", "view", json!([{"kind": "ServiceAccount", "name": "sa"}])),
    );
    put(&it, "rolebindings", "lost", "lost", binding("Role", "gone", json!([{"kind": "User", "name": "nina"}])));
    it
}

#[test]
fn rbac_decides() {
    let it = authorizer();
    let (nina, sa) = (user("nina", &[]), user("system:serviceaccount:ns:sa", &[]));
    for (who, verb, resource, allowed) in [
        (&nina, "get", on("configmaps", "ns", "one"), true),
        (&nina, "get", on("configmaps", "ns", "two"), false),
        (&nina, "list", on("configmaps", "ns", ""), false),
        (&nina, "get", on("configmaps", "other", "one"), false),
        (&nina, "get", on("pods/log", "ns", "p"), true),
        (&nina, "get", on("pods", "ns", "p"), false),
        (&nina, "get", on("deployments/scale", "ns", "d"), true),
        (&nina, "get", on("deployments/rescale", "ns", "d"), false),
        (&sa, "list", on("secrets", "ns", ""), true),
        (&sa, "list", on("secrets", "", ""), false),
        (&user("root", &["system:masters"]), "delete", on("nodes", "", "n"), true),
    ] {
        let attributes = Attributes::resource(who, verb, resource);
        assert_eq!(it.decide(&attributes).allowed(), allowed, "{attributes:?}");
    }
    let dev = user("d", &["devs"]);
    for (path, allowed) in [("/logs", true), ("/logs/a", true), ("/x", true), ("/x/y", false), ("/", false)] {
        assert_eq!(it.decide(&Attributes::path(&dev, "get", path)).allowed(), allowed, "{path}");
    }
}

#[test]
fn bindings_come_and_go() {
    let it = authorizer();
    let nina = user("nina", &[]);
    let attributes = Attributes::resource(&nina, "get", on("configmaps", "ns", "one"));
    remove(&it, "rolebindings", "ns", "nina");
    assert!(!it.decide(&attributes).allowed());
    put(&it, "rolebindings", "ns", "nina", binding("Role", "narrow", json!([{"kind": "User", "name": "nina"}])));
    assert!(it.decide(&attributes).allowed());
    put(&it, "rolebindings", "ns", "nina", binding("Role", "narrow", json!([{"kind": "User", "name": "nora"}])));
    assert!(!it.decide(&attributes).allowed());
    put(&it, "rolebindings", "ns", "nina", binding("Role", "narrow", json!([{"kind": "User", "name": "nina"}])));
    remove(&it, "roles", "ns", "narrow");
    assert!(!it.decide(&attributes).allowed());
}

#[test]
fn reasons() {
    let it = authorizer();
    let (nina, dev) = (user("nina", &[]), user("d", &["other", "devs"]));
    let told = |attributes: Attributes| match it.decide(&attributes) {
        Decision::Allow(why) => why.to_string(),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => reason,
    };
    assert_eq!(
        told(Attributes::resource(&nina, "get", on("configmaps", "ns", "one"))),
        r#"RBAC: allowed by RoleBinding "nina/ns" of Role "narrow" to User "nina""#
    );
    assert_eq!(
        told(Attributes::path(&dev, "get", "/x")),
        r#"RBAC: allowed by ClusterRoleBinding "devs" of ClusterRole "urls" to Group "devs""#
    );
    let sa = user("system:serviceaccount:ns:sa", &[]);
    assert_eq!(
        told(Attributes::resource(&sa, "list", on("pods", "ns", ""))),
        r#"RBAC: allowed by RoleBinding "sa/ns" of ClusterRole "view" to ServiceAccount "sa/ns""#
    );
    assert_eq!(
        told(Attributes::resource(&nina, "get", on("pods", "lost", ""))),
        r#"RBAC: role.rbac.authorization.k8s.io "gone" not found"#
    );
}

#[test]
fn refusals() {
    let it = authorizer();
    let nina = user("nina", &[]);
    let apps = |resource| Resource { group: "apps", ..resource };
    for (attributes, message) in [
        (
            Attributes::resource(&nina, "list", on("pods", "y", "")),
            r#"pods is forbidden: User "nina" cannot list resource "pods" in API group "" in the namespace "y""#,
        ),
        (
            Attributes::resource(&nina, "delete", apps(on("deployments/scale", "", "x"))),
            r#"deployments.apps "x" is forbidden: User "nina" cannot delete resource "deployments/scale" in API group "apps" at the cluster scope"#,
        ),
        (Attributes::path(&nina, "post", "/a&b"), r#"forbidden: User "nina" cannot post path "/a&amp;b""#),
        (
            Attributes::resource(&nina, "get", on("pods", "lost", "")),
            r#"pods is forbidden: User "nina" cannot get resource "pods" in API group "" in the namespace "lost": RBAC: role.rbac.authorization.k8s.io "gone" not found"#,
        ),
    ] {
        let error = it.require(&attributes).unwrap_err();
        assert_eq!(error.message(), message);
        assert_eq!((error.code().as_u16(), error.reason()), (403, "Forbidden"));
    }
}

#[test]
fn missing_rights_are_told_together() {
    let it = authorizer();
    let rita = user("rita", &["system:authenticated"]);
    let rules =
        [rule(&[""], &["configmaps"], &[], &["get"]), rule(&["rbac.authorization.k8s.io"], &["roles"], &[], &["*"])];
    put(&it, "roles", "ns", "rita", json!({"rules": rules[..1]}));
    put(&it, "rolebindings", "ns", "rita", binding("Role", "rita", json!([{"kind": "User", "name": "rita"}])));
    let roles = Resource { group: rbac::GROUP, ..on("roles", "ns", "") };
    let role = |rules: Value| json!({"metadata": {"name": "more"}, "rules": rules});
    let check = |object: &Value, old| escalation::check(&it, &rita, &roles, object, old);

    check(&role(json!([rule(&[""], &["configmaps"], &["a"], &["get"])])), None).unwrap();
    let more = role(json!([rule(&[""], &["configmaps", "secrets"], &[], &["get", "delete"])]));
    let error = check(&more, None).unwrap_err();
    assert_eq!(
        error.message(),
        "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"rita\" (groups=[\"system:authenticated\"]) is \
         attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"configmaps\"], Verbs:[\"delete\"]}\n\
         {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"delete\"]}"
    );
    let mut kept = more.clone();
    kept["metadata"]["finalizers"] = json!(["a/b"]);
    check(&kept, Some(&more)).unwrap();

    put(&it, "roles", "ns", "rita", json!({"rules": [rule(&["*"], &["roles"], &[], &["escalate"])]}));
    check(&more, None).unwrap();
}

#[test]
fn only_roles_that_are_covered_can_be_bound() {
    let it = authorizer();
    let nina = user("nina", &[]);
    let bindings = Resource { group: rbac::GROUP, ..on("rolebindings", "ns", "") };
    let bind = |kind, role: &str| {
        let mut object = binding(kind, role, json!([]));
        object["metadata"] = json!({"name": "b"});
        escalation::check(&it, &nina, &bindings, &object, None).map_err(|e| e.message().to_owned())
    };
    bind("Role", "narrow").unwrap();
    assert!(bind("ClusterRole", "view").unwrap_err().contains("not currently held"));
    assert_eq!(bind("Role", "missing").unwrap_err(), r#"rolebindings.rbac.authorization.k8s.io "missing" not found"#);
    let allow = rule(&[rbac::GROUP], &["clusterroles"], &["view"], &["bind"]);
    put(&it, "roles", "ns", "narrow", json!({"rules": [allow]}));
    bind("ClusterRole", "view").unwrap();
}

#[test]
fn aggregation_takes_all_rights() {
    let it = authorizer();
    let sa = user("system:serviceaccount:ns:sa", &[]);
    let roles = Resource { group: rbac::GROUP, ..on("clusterroles", "", "") };
    let object = json!({"metadata": {"name": "agg"}, "rules": null,
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    let error = escalation::check(&it, &sa, &roles, &object, None).unwrap_err();
    assert!(error.message().ends_with("must have cluster-admin privileges to use the aggregationRule"), "{error}");
    escalation::check(&it, &user("root", &["system:masters"]), &roles, &object, None).unwrap();
}

#[test]
fn reviews_answer() {
    let it = authorizer();
    let spec = json!({"user": "nina", "resourceAttributes": {"namespace": "ns", "verb": "get", "resource": "configmaps", "name": "one"}});
    let review = |spec: &Value| json!({"metadata": {"managedFields": [{}]}, "spec": spec});
    let answered = review::subject(&it, review(&spec)).unwrap();
    assert_eq!(answered["spec"], spec);
    assert_eq!(answered["status"]["allowed"], true);
    assert!(answered["status"]["reason"].as_str().unwrap().starts_with("RBAC: allowed by RoleBinding"));

    let no = json!({"user": "nina", "nonResourceAttributes": {"path": "/metrics", "verb": "get"}});
    assert_eq!(review::subject(&it, review(&no)).unwrap()["status"], json!({"allowed": false}));

    let odd = json!({"user": "nina", "resourceAttributes": {"verb": "list", "resource": "pods",
        "fieldSelector": {"requirements": [{"key": "a", "operator": "Like", "values": ["x"]}]}}});
    assert_eq!(
        review::subject(&it, review(&odd)).unwrap()["status"]["evaluationError"],
        "spec.resourceAttributes.fieldSelector ignored due to parse error"
    );
}

#[test]
fn reviews_are_validated() {
    let it = authorizer();
    let pods = json!({"verb": "get", "resource": "pods"});
    let path = json!({"path": "/x", "verb": "get"});
    let invalid = |text: &str| format!(".authorization.k8s.io \"\" is invalid: {text}");
    for (spec, message) in [
        (
            json!({"resourceAttributes": pods}),
            r#"spec.user: Invalid value: "": at least one of user or group must be specified"#,
        ),
        (
            json!({"user": "a", "resourceAttributes": pods, "nonResourceAttributes": path}),
            r#"spec.nonResourceAttributes: Invalid value: {"Path":"/x","Verb":"get"}: cannot be specified in combination with resourceAttributes"#,
        ),
        (
            json!({"user": "a"}),
            "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        (
            json!({"user": "a", "resourceAttributes": {"labelSelector": {}}}),
            "spec.resourceAttributes.labelSelector.requirements: Required value: when spec.resourceAttributes.labelSelector is specified, requirements or rawSelector is required",
        ),
    ] {
        let error = review::subject(&it, json!({"spec": spec})).unwrap_err();
        assert_eq!(error.message(), invalid(message));
    }
    let error = review::local(
        &it,
        "ns",
        json!({"metadata": {"namespace": "ns"}, "spec": {"user": "a", "resourceAttributes": {"namespace": "x"}}}),
    );
    assert_eq!(
        error.unwrap_err().message(),
        invalid(r#"spec.resourceAttributes.namespace: Invalid value: "x": must match metadata.namespace"#)
    );
    let named = json!({"metadata": {"name": "n"}, "spec": {"user": "a", "resourceAttributes": pods}});
    assert!(
        review::subject(&it, named)
            .unwrap_err()
            .message()
            .contains("metadata: Invalid value: {\"name\":\"n\"}: must be empty")
    );
}

#[test]
fn rules_are_told() {
    let it = authorizer();
    let answered = review::own_rules(&it, &user("nina", &["devs"]), &json!({"spec": {"namespace": "ns"}})).unwrap();
    assert_eq!(answered["spec"], json!({}));
    assert_eq!(
        answered["status"]["nonResourceRules"],
        json!([{"nonResourceURLs": ["/logs*", "/x"], "verbs": ["get"]}])
    );
    assert_eq!(answered["status"]["resourceRules"].as_array().unwrap().len(), 2);
    assert_eq!(answered["status"]["incomplete"], false);
    let error = review::own_rules(&it, &user("nina", &[]), &json!({"spec": {}})).unwrap_err();
    assert_eq!(error.message(), "no namespace on request");
    let node = review::own_rules(&it, &user("system:node:n", &["system:nodes"]), &json!({"spec": {"namespace": "ns"}}));
    assert_eq!(node.unwrap()["status"]["incomplete"], true);
}

#[test]
fn a_node_selects_its_own_pods() {
    let it = authorizer();
    let node = user("system:node:n1", &["system:nodes"]);
    let term = |value: &str| [FieldTerm { path: "spec.nodeName".into(), value: value.into(), equal: true }];
    for (value, allowed) in [("n1", true), ("n2", false)] {
        let terms = term(value);
        let pods = Resource { field_selector: &terms, ..on("pods", "", "") };
        assert_eq!(it.decide(&Attributes::resource(&node, "list", pods)).allowed(), allowed, "{value}");
    }
}
