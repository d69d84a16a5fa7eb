use std::collections::BTreeMap;

use super::*;
use crate::registry::Registry;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const START: &str = "2027-01-15T08:00:00Z";

pub(crate) fn cluster() -> Cluster {
    Cluster {
        address: "192.0.2.1".parse().unwrap(),
        addresses: vec!["192.0.2.1".parse().unwrap()],
        port: 16443,
        service_ranges: vec!["10.0.0.0/16".into()],
        service_ip: "10.0.0.1".parse().unwrap(),
        client_authority: "<pem>".into(),
        front_proxy_authority: "<pem>".into(),
    }
}

fn all() -> Vec<Wanted> {
    waves(&cluster(), &Registry::default().table(), NOW).unwrap().into_iter().flatten().collect()
}

fn find<'a>(all: &'a [Wanted], resource: &str, name: &str) -> &'a Wanted {
    all.iter().find(|w| w.resource == resource && w.name == name).unwrap()
}

/// An object as it is after all writes, without an API server.
fn made(wanted: &Wanted) -> Value {
    let mut object: Option<Value> = None;
    while let Some(write) = wanted.plan(object.as_ref(), NOW) {
        object = Some(match (write, object) {
            (Write::Create(new) | Write::Update(new) | Write::UpdateStatus(new), _) => new,
            (Write::ApplyStatus(_, applied), Some(mut there)) => {
                there["status"] = applied["status"].clone();
                there
            }
            (write, there) => panic!("{write:?} of {there:?}"),
        });
    }
    object.unwrap()
}

#[test]
fn they_are_those_of_a_stock_server() {
    let mut recorded: BTreeMap<String, Vec<Value>> = serde_json::from_str(include_str!("recorded.json")).unwrap();
    let since = NOW.strftime("%Y-%m-%d").to_string();
    for wanted in all() {
        let mut made = made(&wanted);
        made.as_object_mut().unwrap().retain(|field, _| field != "apiVersion" && field != "kind");
        for condition in made.pointer_mut("/status/conditions").and_then(Value::as_array_mut).into_iter().flatten() {
            assert_eq!(condition.as_object_mut().unwrap().remove("lastTransitionTime").unwrap(), START);
        }
        let of_kind = recorded.get_mut(wanted.resource).unwrap();
        let metadata = |o: &Value| (o["metadata"]["namespace"].clone(), o["metadata"]["name"].clone());
        let at = of_kind.iter().position(|o| metadata(o) == metadata(&made)).unwrap_or_else(|| panic!("{made}"));
        let mut stock = of_kind.remove(at);
        stock["metadata"].as_object_mut().unwrap().remove("generation");
        let text = stock.to_string().replace("<host-ip>", "192.0.2.1").replace("2026-11-21", &since);
        let mut stock: Value =
            serde_json::from_str(&text.replace("[\\\"front-proxy\\\"]", "[\\\"front-proxy-client\\\"]")).unwrap();
        // What the kinds' own rules fill in.
        if wanted.resource == "namespaces" {
            stock.as_object_mut().unwrap().remove("spec");
            stock["metadata"].as_object_mut().unwrap().remove("labels");
        }
        if wanted.resource == "servicecidrs" {
            assert_eq!(stock["status"]["conditions"][0].as_object_mut().unwrap().remove("reason").unwrap(), "");
        }
        if wanted.resource == "services" {
            stock["spec"].as_object_mut().unwrap().retain(|field, _| field != "clusterIPs" && field != "ipFamilies");
        }
        if wanted.status.is_none() {
            stock.as_object_mut().unwrap().remove("status");
        }
        assert_eq!(made, stock);
    }
    for (resource, left) in recorded {
        assert_eq!(left, Vec::<Value>::new(), "{resource}");
    }
}

#[test]
fn what_is_there_is_kept() {
    let all = all();
    for wanted in &all {
        assert_eq!(wanted.plan(Some(&made(wanted)), NOW), None, "{}", wanted.name);
    }
    let view = find(&all, "clusterroles", "system:discovery");
    let mut changed = made(view);
    changed["rules"] = json!([{"verbs": ["list"], "apiGroups": ["x"], "resources": ["y"]}]);
    changed["metadata"]["labels"] = json!({"own": "label"});
    let Some(Write::Update(updated)) = view.plan(Some(&changed), NOW) else { panic!("no update") };
    assert_eq!(updated["rules"][0], changed["rules"][0]);
    assert_eq!(updated["rules"].as_array().unwrap().len(), 12);
    assert_eq!(updated["metadata"]["labels"], json!({"own": "label", "kubernetes.io/bootstrapping": "rbac-defaults"}));
    assert_eq!(view.plan(Some(&updated), NOW), None);

    changed["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = "false".into();
    assert_eq!(view.plan(Some(&changed), NOW), None);
}

#[test]
fn bindings_to_another_role_are_made_anew() {
    let all = all();
    let binding = find(&all, "clusterrolebindings", "system:discovery");
    let mut changed = made(binding);
    changed["subjects"] = json!([{"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"}]);
    let Some(Write::Update(updated)) = binding.plan(Some(&changed), NOW) else { panic!("no update") };
    assert_eq!(updated["subjects"].as_array().unwrap().len(), 2);
    changed["roleRef"]["name"] = "other".into();
    assert_eq!(binding.plan(Some(&changed), NOW), Some(Write::Delete));
}

#[test]
fn specs_are_kept_up_unless_they_were_taken_over() {
    let all = all();
    for (resource, name, annotation, generation, updated) in [
        ("flowschemas", "probes", Some("true"), 3, true),
        ("flowschemas", "probes", Some("false"), 3, false),
        ("flowschemas", "probes", None, 1, true),
        ("flowschemas", "catch-all", Some("false"), 3, true),
    ] {
        let wanted = find(&all, resource, name);
        let mut changed = made(wanted);
        changed["spec"]["matchingPrecedence"] = 77.into();
        changed["metadata"]["generation"] = generation.into();
        changed["metadata"]["annotations"] =
            annotation.map_or(json!({}), |a| json!({"apf.kubernetes.io/autoupdate-spec": a}));
        let plan = wanted.plan(Some(&changed), NOW);
        assert_eq!(plan.is_some(), updated, "{name} {annotation:?}");
        if let Some(Write::Update(object)) = plan {
            assert_eq!(object["spec"], wanted.object["spec"]);
        }
    }
}

#[test]
fn a_new_address_is_told() {
    let all = all();
    let endpoints = find(&all, "endpoints", "kubernetes");
    let mut old = made(endpoints);
    old["subsets"][0]["addresses"][0]["ip"] = "192.0.2.99".into();
    assert!(matches!(endpoints.plan(Some(&old), NOW), Some(Write::Update(_))));
}

#[test]
fn nodes_have_rules() {
    let rules = node_rules().unwrap();
    assert_eq!(rules.len(), 25);
    assert!(rules.iter().any(|r| r.resources.as_deref() == Some(&["services".to_owned()])));
}
