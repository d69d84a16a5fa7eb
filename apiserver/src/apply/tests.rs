use crds::schema::{Field, ListType, Shape, Type};
use http::StatusCode;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What the schemas of these tests are made of: a name, a shape, how it is owned.
enum As {
    Plain,
    /// Behind no pointer, always written.
    Written,
    Atomic,
    Set,
    Map(&'static [&'static str]),
}

fn field(json: &str, shape: Shape, own: As) -> Field {
    let written = matches!(own, As::Written);
    Field {
        pointer: !written,
        omit_empty: !written,
        atomic: matches!(own, As::Atomic),
        list: match own {
            As::Set => ListType::Set,
            As::Map(keys) => ListType::Map(keys.iter().map(|k| (*k).into()).collect()),
            _ => ListType::Atomic,
        },
        // As upstream's OpenAPI has it.
        default: (written && shape == Shape::String).then(|| json!("")),
        ..Field::new(json, json, shape)
    }
}

fn list(item: Shape) -> Shape {
    Shape::List(Box::new(item))
}

fn texts() -> Shape {
    Shape::Map(Box::new(Shape::String))
}

/// `Thing`: metadata, data, a spec with the kinds of lists and maps that there are, a status.
fn things() -> (Schema, TypeId) {
    let mut schema = Schema::default();
    let mut add = |name: &str, fields| {
        let mut ty = Type::default();
        (ty.name, ty.go, ty.fields) = (name.into(), name.into(), fields);
        Shape::Object(schema.add(ty))
    };
    let text = |name: &str| field(name, Shape::String, As::Plain);
    let meta = add(
        "Meta",
        vec![
            text("name"),
            text("namespace"),
            text("uid"),
            text("resourceVersion"),
            field("labels", texts(), As::Plain),
            field("annotations", texts(), As::Plain),
            field("finalizers", list(Shape::String), As::Set),
            field("managedFields", list(Shape::Any), As::Plain),
        ],
    );
    let port = add(
        "Port",
        vec![
            field("port", Shape::Int32, As::Written),
            Field { default: Some(json!("TCP")), ..text("protocol") },
            text("name"),
        ],
    );
    let container = add(
        "Container",
        vec![
            field("name", Shape::String, As::Written),
            text("image"),
            field("args", list(Shape::String), As::Plain),
            field("ports", list(port), As::Map(&["port", "protocol"])),
        ],
    );
    let spec = add(
        "Spec",
        vec![
            field("replicas", Shape::Int32, As::Plain),
            field("selector", texts(), As::Atomic),
            field("containers", list(container), As::Map(&["name"])),
            field("target", Shape::IntOrString, As::Plain),
            field("free", Shape::Any, As::Plain),
        ],
    );
    let status = add("Status", vec![field("replicas", Shape::Int32, As::Plain)]);
    add(
        "Thing",
        vec![
            text("apiVersion"),
            text("kind"),
            field("metadata", meta, As::Written),
            field("data", texts(), As::Plain),
            field("spec", spec, As::Plain),
            field("status", status, As::Plain),
        ],
    );
    let id = schema.id("Thing").unwrap();
    (schema, id)
}

static NOTHING: Reset = Reset::Nothing;

fn by(name: &str, second: i64) -> Manager<'_> {
    Manager {
        name,
        api_version: "v1",
        kind: "Thing",
        subresource: "",
        force: false,
        now: Timestamp::from_second(second).unwrap(),
        reset: &NOTHING,
        versions: None,
    }
}

fn thing(rest: Value) -> Value {
    let mut thing = json!({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "t"}});
    for (key, value) in rest.as_object().unwrap() {
        match (&mut thing[key], value) {
            (Value::Object(there), Value::Object(more)) => there.extend(more.clone()),
            (there, value) => *there = value.clone(),
        }
    }
    thing
}

fn do_apply(live: Option<&Value>, applied: Value, manager: &Manager) -> Result<Value> {
    let (schema, ty) = things();
    apply(&schema, ty, live, &thing(applied), manager).map(stored)
}

fn do_track(old: Option<&Value>, new: Value, manager: &Manager) -> Value {
    let (schema, ty) = things();
    let mut new = thing(new);
    if let Some(old) = old {
        new["metadata"]["uid"] = old["metadata"]["uid"].clone();
    }
    track(&schema, ty, old, &mut new, manager);
    stored(new)
}

/// As the store would give it back.
fn stored(mut object: Value) -> Value {
    object["metadata"]["uid"] = json!("u");
    object
}

/// `manager:operation:time` and the fields of each entry.
fn owners(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
    let told = entries.iter().map(|entry| {
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        let seconds = text("time").parse::<Timestamp>().map_or(-1, |t| t.as_second());
        let subresource =
            if text("subresource").is_empty() { String::new() } else { format!("/{}", text("subresource")) };
        (format!("{}{subresource}:{}:{seconds}", text("manager"), text("operation")), entry["fieldsV1"].clone())
    });
    told.collect()
}

fn owner(name: &str, fields: Value) -> (String, Value) {
    (name.to_owned(), fields)
}

#[test]
fn a_creation_is_tracked() {
    let created = do_track(
        None,
        json!({"data": {"k": "v"}, "metadata": {"labels": {"l": "1"}}, "spec": {"containers": [{"name": "web", "ports": [{"port": 80}]}], "selector": {"a": "b"}}}),
        &by("a", 1),
    );
    let fields = json!({
        "f:data": {".": {}, "f:k": {}},
        "f:metadata": {"f:labels": {".": {}, "f:l": {}}},
        "f:spec": {
            ".": {},
            "f:containers": {".": {}, "k:{\"name\":\"web\"}": {".": {}, "f:name": {},
                "f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}},
            "f:selector": {},
        },
    });
    assert_eq!(owners(&created), [owner("a:Update:1", fields)]);
    assert_eq!(do_track(None, json!({}), &by("", 1))["metadata"].get("managedFields"), None);
}

#[test]
fn updates_take_what_they_change() {
    let old = do_track(None, json!({"data": {"a": "1", "b": "2"}}), &by("a", 1));
    let same = do_track(Some(&old), json!({"data": {"a": "1", "b": "2"}}), &by("b", 2));
    assert_eq!(owners(&same), owners(&old));
    let new = do_track(Some(&old), json!({"data": {"a": "1", "b": "3", "c": "4"}}), &by("b", 2));
    assert_eq!(
        owners(&new),
        [
            owner("a:Update:1", json!({"f:data": {".": {}, "f:a": {}}})),
            owner("b:Update:2", json!({"f:data": {"f:b": {}, "f:c": {}}})),
        ]
    );
    let fewer = do_track(Some(&new), json!({"data": {"c": "4"}}), &by("c", 3));
    assert_eq!(
        owners(&fewer),
        [owner("a:Update:1", json!({"f:data": {}})), owner("b:Update:2", json!({"f:data": {"f:c": {}}}))]
    );
}

#[test]
fn managed_fields_can_be_dropped_and_then_nothing_is_tracked() {
    let old = do_track(None, json!({"data": {"a": "1"}}), &by("a", 1));
    for reset in [json!([]), json!([{}])] {
        // Dropped, and as the object has a uid, this write is not tracked either.
        let new = do_track(Some(&old), json!({"data": {"a": "2"}, "metadata": {"managedFields": reset}}), &by("b", 2));
        assert_eq!(owners(&new), []);
        assert_eq!(owners(&do_track(Some(&new), json!({"data": {"a": "3"}}), &by("b", 3))), []);
        let applied = do_apply(Some(&new), json!({"data": {"a": "2", "b": "1"}}), &by("c", 4)).unwrap();
        assert_eq!(
            owners(&applied),
            [
                owner("c:Apply:4", json!({"f:data": {"f:a": {}, "f:b": {}}})),
                owner("before-first-apply:Update:4", json!({"f:data": {".": {}, "f:a": {}}})),
            ]
        );
    }
    let wrong = json!({"data": {"a": "1"}, "metadata": {"managedFields": [{"manager": "x", "operation": "Frob"}]}});
    assert_eq!(owners(&do_track(Some(&old), wrong, &by("b", 2))), owners(&old));
}

#[test]
fn applies() {
    let first = do_apply(None, json!({"data": {"k": "v"}, "spec": {"replicas": 1}}), &by("a", 1)).unwrap();
    assert_eq!(owners(&first), [owner("a:Apply:1", json!({"f:data": {"f:k": {}}, "f:spec": {"f:replicas": {}}}))]);
    assert_eq!(
        do_apply(Some(&first), json!({"data": {"k": "v"}, "spec": {"replicas": 1}}), &by("a", 2)).unwrap(),
        first
    );

    let error = do_apply(Some(&first), json!({"data": {"k": "w"}, "spec": {"replicas": 2}}), &by("b", 2)).unwrap_err();
    assert_eq!(error.message(), "Apply failed with 2 conflicts: conflicts with \"a\":\n- .data.k\n- .spec.replicas");
    let causes = error.status().details.as_ref().unwrap().causes.as_ref().unwrap();
    assert_eq!(causes[1].field.as_deref(), Some(".spec.replicas"));
    assert_eq!((error.code(), error.reason()), (StatusCode::CONFLICT, "Conflict"));

    // Nothing but ownership changes: the entry has no time.
    let shared = do_apply(Some(&first), json!({"data": {"k": "v"}}), &by("b", 2)).unwrap();
    assert_eq!(owners(&shared)[0], owner("b:Apply:-1", json!({"f:data": {"f:k": {}}})));
    let forced = do_apply(Some(&shared), json!({"data": {"k": "w"}}), &Manager { force: true, ..by("c", 3) }).unwrap();
    assert_eq!(
        owners(&forced),
        [owner("a:Apply:1", json!({"f:spec": {"f:replicas": {}}})), owner("c:Apply:3", json!({"f:data": {"f:k": {}}})),]
    );
}

#[test]
fn what_is_no_longer_applied_goes_unless_another_owns_it() {
    let both = json!({"data": {"k": "v", "j": "w"}, "metadata": {"finalizers": ["x", "y"]}});
    let one = do_apply(None, both, &by("a", 1)).unwrap();
    let two =
        do_apply(Some(&one), json!({"data": {"j": "w"}, "metadata": {"finalizers": ["y"]}}), &by("b", 2)).unwrap();
    let less = do_apply(Some(&two), json!({}), &by("a", 3)).unwrap();
    assert_eq!((&less["data"], &less["metadata"]["finalizers"]), (&json!({"j": "w"}), &json!(["y"])));
    assert_eq!(owners(&less).len(), 1);
    let none = do_apply(Some(&less), json!({}), &by("b", 4)).unwrap();
    assert!(none.get("data").is_none_or(Value::is_null), "{none}");
    assert_eq!(owners(&none), []);

    // An item stays for those who apply it, not for those who have merely written into it.
    let applied = json!({"spec": {"containers": [{"name": "web", "image": "w"}, {"name": "side"}]}});
    let one = do_apply(None, applied, &by("a", 1)).unwrap();
    let only_web = || json!({"spec": {"containers": [{"name": "web"}]}});
    let side = json!({"name": "side", "image": "s"});
    let two = do_apply(Some(&one), json!({"spec": {"containers": [side]}}), &by("b", 2)).unwrap();
    let less = do_apply(Some(&two), only_web(), &by("a", 3)).unwrap();
    assert_eq!(less["spec"]["containers"], json!([{"name": "web"}, side]));
    let mut changed = one.clone();
    changed["spec"]["containers"][1]["image"] = json!("s");
    let two = do_track(Some(&one), changed, &by("b", 2));
    let less = do_apply(Some(&two), only_web(), &by("a", 3)).unwrap();
    assert_eq!(less["spec"]["containers"], json!([{"name": "web"}]));
}

#[test]
fn lists_keep_their_order_and_keys_have_defaults() {
    let ports = |ports| json!({"spec": {"containers": [{"name": "web", "ports": ports}]}});
    let live =
        do_track(None, ports(json!([{"port": 1, "protocol": "TCP"}, {"port": 2, "protocol": "UDP"}])), &by("a", 1));
    let merged = |applied| {
        let merged = do_apply(Some(&live), ports(applied), &by("b", 2)).unwrap();
        let ports = merged["spec"]["containers"][0]["ports"].as_array().unwrap().clone();
        ports.iter().map(|p| p["port"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(merged(json!([{"port": 1, "name": "n"}])), [1, 2]);
    assert_eq!(merged(json!([{"port": 2, "protocol": "UDP"}, {"port": 1}])), [2, 1]);
    assert_eq!(merged(json!([{"port": 2}, {"port": 1}])), [2, 1, 2]);
    assert_eq!(merged(json!([{"port": 3}, {"port": 2, "protocol": "UDP"}])), [1, 3, 2]);
}

#[test]
fn what_does_not_fit_is_refused() {
    for (applied, code, message) in [
        (json!({"kind": "Other"}), 400, "invalid object type: /v1, Kind=Other"),
        (json!({"apiVersion": "apps/v1"}), 400, "invalid object type: apps/v1, Kind=Thing"),
        (json!({"metadata": {"managedFields": []}}), 400, "metadata.managedFields must be nil"),
        (
            json!({"spec": {"bogus": 1}}),
            500,
            "failed to create typed patch object (/t; /v1, Kind=Thing): .spec.bogus: field not declared in schema",
        ),
        (
            json!({"spec": {"replicas": "x"}}),
            500,
            "failed to create typed patch object (/t; /v1, Kind=Thing): .spec.replicas: expected numeric (int or float), got string",
        ),
        (
            json!({"data": {"k": 1}, "metadata": {"finalizers": ["x", "x"]}}),
            500,
            "failed to create typed patch object (/t; /v1, Kind=Thing): errors:\n  \
             .data.k: expected string, got &value.valueUnstructured{Value:1}\n  \
             .metadata.finalizers: duplicate entries for key [=\"x\"]",
        ),
        (
            json!({"spec": {"containers": [{"name": "x", "ports": [{"port": 1}, {"port": 1, "protocol": "TCP"}]}]}}),
            500,
            "failed to create typed patch object (/t; /v1, Kind=Thing): \
             .spec.containers[name=\"x\"].ports: duplicate entries for key [port=1,protocol=\"TCP\"]",
        ),
    ] {
        let error = do_apply(None, applied, &by("a", 1)).unwrap_err();
        assert_eq!((error.code().as_u16(), error.message()), (code, message));
    }
    // A key that Go always writes has its zero value for default.
    assert!(do_apply(None, json!({"spec": {"containers": [{"image": "x"}]}}), &by("a", 1)).is_ok());
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let annotation =
        "{\"apiVersion\":\"v1\",\"data\":{\"k\":\"v\"},\"kind\":\"Thing\",\"metadata\":{\"name\":\"t\"}}\n";
    let live = json!({"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": annotation}}, "data": {"k": "v", "j": "w"}});
    let live = do_track(None, live, &by("kubectl-client-side-apply", 1));
    let taken = do_apply(Some(&live), json!({"data": {"k": "<2>"}}), &by("kubectl", 2)).unwrap();
    assert_eq!(
        taken["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"],
        "{\"apiVersion\":\"v1\",\"data\":{\"k\":\"\\u003c2\\u003e\"},\"kind\":\"Thing\",\"metadata\":{\"name\":\"t\"}}\n"
    );
    let error = do_apply(Some(&live), json!({"data": {"k": "2", "j": "2"}}), &by("kubectl", 2)).unwrap_err();
    assert_eq!(
        error.message(),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .data.j"
    );
    assert!(do_apply(Some(&live), json!({"data": {"k": "2"}}), &by("other", 2)).is_err());
}

#[test]
fn resets() {
    let main = Reset::of("apps", "deployments", "", true);
    let status = Reset::of("apps", "deployments", "status", true);
    let object = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"replicas": 1}, "status": {"replicas": 2}});
    let created = do_track(None, object.clone(), &Manager { reset: &main, ..by("a", 1) });
    let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {".": {}, "f:replicas": {}}});
    assert_eq!(owners(&created), [owner("a:Update:1", fields)]);
    let mut new = object;
    new["status"]["replicas"] = json!(3);
    new["spec"]["replicas"] = json!(3);
    new["metadata"]["labels"]["a"] = json!("3");
    let updated = do_track(Some(&created), new, &Manager { reset: &status, subresource: "status", ..by("b", 2) });
    assert_eq!(owners(&updated)[0].0, "a:Update:1");
    assert_eq!(owners(&updated)[1], owner("b/status:Update:2", json!({"f:status": {"f:replicas": {}}})));
}

#[test]
fn many_updaters_become_ancient() {
    let mut object = do_track(None, json!({"data": {}}), &by("m0", 0));
    for i in 0..14 {
        let mut new = object.clone();
        new["data"][format!("k{i}")] = json!("v");
        object = do_track(Some(&object), new, &by(&format!("m{i}"), i));
    }
    let owners = owners(&object);
    assert_eq!(owners.len(), 10);
    assert_eq!(owners[0].0, "ancient-changes:Update:4");
    assert_eq!(owners[1].0, "m5:Update:5");
}

#[test]
fn scale_shares_the_owners_of_replicas() {
    let at = |version: &str| (version == "v1").then(|| Some(scale::path(".spec.replicas")));
    let parent = do_apply(None, json!({"data": {"k": "v"}, "spec": {"replicas": 1}}), &by("a", 1)).unwrap();
    let shown = scale::to_scale(&parent, &at).unwrap();
    assert_eq!(
        (&shown[0]["apiVersion"], &shown[0]["fieldsV1"]),
        (&json!("autoscaling/v1"), &json!({"f:spec": {"f:replicas": {}}}))
    );

    let taken = json!([{"manager": "hpa", "operation": "Update", "apiVersion": "autoscaling/v1", "subresource": "scale", "time": "1970-01-01T00:00:09Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
    let scaled = json!({"metadata": {"managedFields": taken}});
    let entries = scale::to_parent(&parent, "v1", &scaled, &at).unwrap();
    let after = json!({"metadata": {"managedFields": entries}});
    assert_eq!(
        owners(&after),
        [
            owner("a:Apply:1", json!({"f:data": {"f:k": {}}})),
            owner("hpa/scale:Update:-1", json!({"f:spec": {"f:replicas": {}}})),
        ]
    );
    assert_eq!(after["metadata"]["managedFields"][1]["apiVersion"], "v1");
}

#[test]
fn times_stay_if_nothing_else_changes() {
    let old = do_track(None, json!({"data": {"a": "1"}}), &by("a", 1));
    let later = |object: &Value| {
        let mut later = object.clone();
        later["metadata"]["managedFields"][0]["time"] = json!("1970-01-01T00:00:09Z");
        later
    };
    let mut new = later(&old);
    keep_times(&old, &mut new);
    assert_eq!(new, old);
    new = later(&old);
    new["data"]["a"] = json!("2");
    let expected = new.clone();
    keep_times(&old, &mut new);
    assert_eq!(new, expected);
}

#[test]
fn entries_follow_a_schema_that_became_atomic() {
    let old = do_track(None, json!({"data": {"a": "1"}, "spec": {"selector": {"a": "b"}}}), &by("a", 1));
    let mut old = old;
    old["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:selector"] = json!({".": {}, "f:a": {}});
    let new = do_track(Some(&old), json!({"data": {"a": "2"}, "spec": {"selector": {"a": "b"}}}), &by("b", 2));
    assert_eq!(owners(&new)[0].1["f:spec"], json!({".": {}, "f:selector": {}}));
}

/// A second version of Thing, in which `data` is called the same and nothing differs but the version.
struct Two(Schema, TypeId);

impl Versions for Two {
    fn convert(&self, object: &Value, api_version: &str) -> std::result::Result<Option<Versioned<'_>>, String> {
        Ok((api_version == "v2").then(|| Versioned { object: object.clone(), schema: &self.0, ty: self.1 }))
    }

    fn revert(&self, object: Value, _: &str) -> Option<Value> {
        Some(object)
    }
}

/// A version that no object fits.
struct Unfit;

impl Versions for Unfit {
    fn convert(&self, _: &Value, _: &str) -> std::result::Result<Option<Versioned<'_>>, String> {
        Err(".spec.old: field not declared in schema".to_owned())
    }

    fn revert(&self, _: Value, _: &str) -> Option<Value> {
        None
    }
}

#[test]
fn owners_that_cannot_be_told_are_forgotten() {
    let v2 = Manager { api_version: "v2", ..by("a", 1) };
    let one = do_apply(None, json!({"apiVersion": "v2", "data": {"k": "v"}}), &v2).unwrap();
    let other = Manager { versions: Some(&Unfit), ..by("b", 2) };
    assert!(owners(&do_track(Some(&one), json!({"data": {"k": "x"}}), &other)).is_empty());
    let error = do_apply(Some(&one), json!({"data": {"k": "x"}}), &other).unwrap_err();
    assert_eq!(error.message(), "failed to convert object: .spec.old: field not declared in schema");
}

#[test]
fn versions() {
    let (schema, ty) = things();
    let two = Two(schema, ty);
    let v2 = Manager { api_version: "v2", ..by("a", 1) };
    let one = do_apply(None, json!({"apiVersion": "v2", "data": {"k": "v", "j": "w"}}), &v2).unwrap();
    let v1 = |force| Manager { force, versions: Some(&two), ..by("b", 2) };
    let error = do_apply(Some(&one), json!({"data": {"k": "x"}}), &v1(false)).unwrap_err();
    assert_eq!(error.message(), "Apply failed with 1 conflict: conflict with \"a\": .data.k");
    let forced = do_apply(Some(&one), json!({"data": {"k": "x"}}), &v1(true)).unwrap();
    assert_eq!(owners(&forced)[0], owner("a:Apply:1", json!({"f:data": {"f:j": {}}})));
    // The same manager applies in the other version: what it applied there and not here goes.
    let less = do_apply(Some(&one), json!({"data": {"k": "v"}}), &Manager { name: "a", ..v1(false) }).unwrap();
    assert_eq!(less["data"], json!({"k": "v"}));
    // A version that is not served any more: its owners are forgotten.
    let gone = do_track(Some(&one), json!({"data": {"k": "v"}}), &by("c", 3));
    assert_eq!(owners(&gone), []);
}

fn some_config() -> impl Strategy<Value = Value> {
    let data = prop::collection::btree_map("[abc]", "[xy]", 0..3);
    let finalizers = prop::collection::btree_set("[abc]", 0..3);
    let port = (1..4, prop::sample::select(vec!["TCP", "UDP"]));
    let ports = prop::collection::btree_set(port, 0..3).prop_map(|ports| {
        ports.into_iter().map(|(port, protocol)| json!({"port": port, "protocol": protocol})).collect::<Value>()
    });
    let containers = prop::collection::btree_map("[pq]", (prop::option::of("[xy]"), ports), 0..3);
    let containers = containers.prop_map(|containers| {
        let containers = containers.into_iter().map(|(name, (image, ports))| {
            let mut container = json!({"name": name, "ports": ports});
            if let Some(image) = image {
                container["image"] = json!(image);
            }
            container
        });
        containers.collect::<Value>()
    });
    (data, finalizers, containers, prop::option::of(1..3)).prop_map(|(data, finalizers, containers, replicas)| {
        let mut spec = json!({"containers": containers});
        if let Some(replicas) = replicas {
            spec["replicas"] = json!(replicas);
        }
        json!({"data": data, "metadata": {"finalizers": finalizers}, "spec": spec})
    })
}

fn forced(name: &str) -> Manager<'_> {
    Manager { force: true, ..by(name, 1) }
}

/// Order of items and empty containers aside.
fn essence(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().map(|(key, value)| (key.clone(), essence(value)));
            Value::Object(
                kept.filter(|(_, v)| !matches!(v, Value::Null) && *v != json!({}) && *v != json!([])).collect(),
            )
        }
        Value::Array(items) => {
            let mut items: Vec<_> = items.iter().map(essence).collect();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn apply_is_idempotent(a in some_config(), b in some_config()) {
        let live = do_track(None, a, &by("u", 1));
        let once = do_apply(Some(&live), b.clone(), &forced("m")).unwrap();
        let twice = do_apply(Some(&once), b, &Manager { now: Timestamp::from_second(9).unwrap(), ..forced("m") }).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn applies_of_different_parts_commute(a in some_config(), b in some_config()) {
        // Data of one, the rest of the other: nothing in common.
        let (a, b) = (json!({"data": a["data"]}), json!({"metadata": b["metadata"], "spec": b["spec"]}));
        let live = do_track(None, json!({"spec": {"target": 1}}), &by("u", 1));
        let then = |live: &Value, config: &Value, name| do_apply(Some(live), config.clone(), &by(name, 1)).unwrap();
        let ab = then(&then(&live, &a, "a"), &b, "b");
        let ba = then(&then(&live, &b, "b"), &a, "a");
        prop_assert_eq!(essence(&ab), essence(&ba));
    }

    #[test]
    fn force_moves_ownership(a in some_config(), b in some_config()) {
        let one = do_apply(None, a, &by("a", 1)).unwrap();
        let two = do_apply(Some(&one), b.clone(), &forced("b")).unwrap();
        let (schema, ty) = things();
        let set = typed::fields(&schema, Place::Type(ty), &thing(b.clone())).difference(&UNOWNED);
        let owner = Owner { manager: "b".into(), operation: Operation::Apply, api_version: String::new(), subresource: String::new() };
        let owned = Managed::of(&two).unwrap().0.remove(&owner).map(|o| o.set).unwrap_or_default();
        prop_assert_eq!(set, owned);
        // Who owns all that differs can apply it again without force; then giving all up leaves only what the other has.
        prop_assert!(do_apply(Some(&two), b, &by("b", 2)).is_ok());
    }

    #[test]
    fn giving_all_up_leaves_what_the_other_applied(a in some_config(), b in some_config()) {
        let one = do_apply(None, a.clone(), &by("a", 1)).unwrap();
        let two = do_apply(Some(&one), b, &forced("b")).unwrap();
        let left = do_apply(Some(&two), json!({}), &by("b", 2)).unwrap();
        let again = do_apply(Some(&left), a.clone(), &forced("a")).unwrap();
        let alone = do_apply(None, a, &by("a", 1)).unwrap();
        for part in ["data", "spec"] {
            prop_assert_eq!(essence(&again)[part].clone(), essence(&alone)[part].clone());
        }
    }

    #[test]
    fn field_sets_round_trip(a in some_config()) {
        let (schema, ty) = things();
        let set = typed::fields(&schema, Place::Type(ty), &thing(a));
        prop_assert_eq!(Set::decode(&set.encode()).unwrap(), set);
    }

    #[test]
    fn owners_of_a_tracked_object_own_all_of_it(a in some_config(), b in some_config()) {
        let old = do_track(None, a, &by("a", 1));
        let new = do_track(Some(&old), b.clone(), &by("b", 2));
        let owned = Managed::of(&new).unwrap().0.into_values().fold(Set::default(), |all, o| all.union(&o.set));
        let (schema, ty) = things();
        let there = typed::fields(&schema, Place::Type(ty), &thing(b)).difference(&UNOWNED);
        prop_assert!(there.difference(&owned).is_empty());
    }
}
