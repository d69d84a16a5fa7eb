use crds::schema::{Field, Shape, Type};
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Shorthand of the schemas in these tests: a member with its merging.
fn field(json: &str, shape: Shape, merge_key: Option<&str>, strategies: &[&str]) -> Field {
    Field {
        patch_merge_key: merge_key.map(Into::into),
        patch_strategies: strategies.iter().map(|s| (*s).into()).collect(),
        ..Field::new(json, json, shape)
    }
}

fn list(item: Shape) -> Shape {
    Shape::List(Box::new(item))
}

fn pods() -> (Schema, TypeId) {
    let mut schema = Schema::default();
    let mut add = |name: &str, fields| {
        let mut ty = Type::default();
        (ty.name, ty.go, ty.fields) = (name.into(), name.into(), fields);
        Shape::Object(schema.add(ty))
    };
    let env = add("EnvVar", vec![field("name", Shape::String, None, &[]), field("value", Shape::String, None, &[])]);
    let port =
        add("Port", vec![field("containerPort", Shape::Int32, None, &[]), field("name", Shape::String, None, &[])]);
    let container = add(
        "Container",
        vec![
            field("name", Shape::String, None, &[]),
            field("image", Shape::String, None, &[]),
            field("args", list(Shape::String), None, &[]),
            field("env", list(env), Some("name"), &["merge"]),
            field("ports", list(port), Some("containerPort"), &["merge"]),
        ],
    );
    let strategy =
        add("Strategy", vec![field("type", Shape::String, None, &[]), field("rolling", Shape::Any, None, &[])]);
    add(
        "Pod",
        vec![
            field("labels", Shape::Map(Box::new(Shape::String)), None, &[]),
            field("finalizers", list(Shape::String), None, &["merge"]),
            field("containers", list(container), Some("name"), &["merge"]),
            field("strategy", strategy, None, &["retainKeys"]),
            field("nested", Shape::Map(Box::new(Shape::Map(Box::new(Shape::String)))), None, &[]),
        ],
    );
    let id = schema.id("Pod").unwrap();
    (schema, id)
}

fn apply(document: Value, patch: Value) -> Result<Value> {
    let (schema, pod) = pods();
    strategic(&schema, pod, document, &patch)
}

#[test]
fn objects() {
    let document = json!({"labels": {"a": "1", "b": "2"}, "strategy": {"type": "R", "rolling": {"x": 1}}});
    let labels = |labels| json!({"labels": labels, "strategy": {"type": "R", "rolling": {"x": 1}}});
    for (patch, expected) in [
        (json!({"labels": {"a": null, "c": "3"}}), labels(json!({"b": "2", "c": "3"}))),
        (json!({"labels": {"$patch": "replace", "y": "2"}}), labels(json!({"y": "2"}))),
        (json!({"labels": {"$patch": "delete"}}), labels(json!({}))),
        (
            json!({"strategy": {"$retainKeys": ["type"], "type": "X"}}),
            json!({"labels": {"a": "1", "b": "2"}, "strategy": {"type": "X"}}),
        ),
        (json!({"nested": {"a": {"b": null}, "c": {"$patch": "replace"}}}), {
            json!({"labels": {"a": "1", "b": "2"}, "strategy": {"type": "R", "rolling": {"x": 1}}, "nested": {"a": {}}})
        }),
    ] {
        assert_eq!(apply(document.clone(), patch.clone()).unwrap(), expected, "{patch}");
    }
}

#[test]
fn lists_of_objects() {
    let document = json!({"containers": [{"name": "web", "image": "w", "args": ["a"], "env": [{"name": "A", "value": "1"}]}, {"name": "side"}]});
    let names = |value: &Value| -> Vec<String> {
        value["containers"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
    };
    for (patch, expected) in [
        (json!([{"name": "side", "image": "s"}]), vec!["web", "side"]),
        (json!([{"name": "log"}]), vec!["log", "web", "side"]),
        (json!([{"name": "side"}, {"name": "web"}]), vec!["side", "web"]),
        (json!([{"name": "web", "$patch": "delete"}]), vec!["side"]),
        (json!([{"name": "none", "$patch": "delete"}]), vec!["web", "side"]),
        (json!([{"name": "x"}, {"$patch": "replace"}]), vec!["x"]),
    ] {
        assert_eq!(names(&apply(document.clone(), json!({"containers": patch})).unwrap()), expected, "{patch}");
    }
    let patch = json!({"$setElementOrder/containers": [{"name": "side"}, {"name": "web"}],
        "containers": [{"name": "web", "image": "w2", "args": ["b"], "env": [{"name": "B", "value": "2"}]}]});
    let patched = apply(document, patch).unwrap();
    assert_eq!(names(&patched), ["side", "web"]);
    assert_eq!(
        patched["containers"][1],
        json!({"name": "web", "image": "w2", "args": ["b"], "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]})
    );
}

#[test]
fn lists_of_scalars() {
    for (patch, expected) in [
        (json!({"finalizers": ["c", "a"]}), json!(["c", "a", "b"])),
        (json!({"$deleteFromPrimitiveList/finalizers": ["a", "x"]}), json!(["b"])),
        (json!({"$setElementOrder/finalizers": ["b", "a"]}), json!(["b", "a"])),
        (json!({"$setElementOrder/finalizers": ["c", "a"], "finalizers": ["c"]}), json!(["c", "a", "b"])),
    ] {
        let patched = apply(json!({"finalizers": ["a", "b"]}), patch.clone()).unwrap();
        assert_eq!(patched["finalizers"], expected, "{patch}");
    }
}

#[test]
fn refusals() {
    let document = json!({"containers": [{"name": "web"}], "finalizers": ["a"], "nested": {"a": {"b": "c"}}, "strategy": {"rolling": {"a": {}}}});
    for (patch, code, message) in [
        (json!({"containers": [{"image": "x"}]}), 500, "map: map[image:x] does not contain declared merge key: name"),
        (
            json!({"$setElementOrder/containers": [{"name": "side"}], "containers": [{"name": "web"}]}),
            500,
            "The order in patch list:\n[map[name:web]]\n doesn't match $setElementOrder list:\n[map[name:side]]\n",
        ),
        (json!({"strategy": {"$retainKeys": ["x"], "type": "R"}}), 400, "invalid patch format of retainKeys"),
        (json!({"$deleteFromPrimitiveList": []}), 400, "invalid patch format of primitive list"),
        (json!({"finalizers": [["x"]]}), 500, "list element types are not identical: [[a] [[x]]]"),
        (
            json!({"labels": {}, "$patch": "frob"}),
            500,
            "unknown patch type: frob in map: map[$patch:frob labels:map[]]",
        ),
        (
            json!({"nested": {"a": {"b": "d"}}}),
            500,
            "merging an object in json but data type is not struct, instead is: map",
        ),
        (json!([]), 400, "json: cannot unmarshal array into Go value of type map[string]interface {}"),
    ] {
        let error = apply(document.clone(), patch.clone()).unwrap_err();
        assert_eq!((error.code().as_u16(), error.message()), (code, message), "{patch}");
    }
}

/// The patch that makes `new` of `old`, as kubectl would compute it.
fn difference(old: &Value, new: &Value) -> Value {
    let mut patch = Object::new();
    let (old, new) = (old.as_object().unwrap(), new.as_object().unwrap());
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        match (old.get(key), value) {
            (Some(there), value) if there == value => {}
            (Some(there @ Value::Object(_)), Value::Object(_)) => {
                patch.insert(key.clone(), difference(there, value));
            }
            (Some(Value::Array(there)), Value::Array(items)) if key == "finalizers" => {
                let added = items.iter().filter(|i| !there.contains(i)).cloned().collect();
                let gone = there.iter().filter(|i| !items.contains(i)).cloned().collect();
                patch.insert(key.clone(), Value::Array(added));
                patch.insert(format!("{DELETE_FROM}/{key}"), Value::Array(gone));
                patch.insert(format!("{ELEMENT_ORDER}/{key}"), value.clone());
            }
            (Some(Value::Array(there)), Value::Array(items)) => {
                let named = |list: &[Value], item: &Value| list.iter().find(|i| i["name"] == item["name"]).cloned();
                let changes = items.iter().filter_map(|item| match named(there, item) {
                    Some(old) if old == *item => None,
                    Some(old) => {
                        let mut change = difference(&old, item);
                        change["name"] = item["name"].clone();
                        Some(change)
                    }
                    None => Some(item.clone()),
                });
                let gone = there.iter().filter(|item| named(items, item).is_none());
                let gone = gone.map(|item| json!({"name": item["name"], "$patch": "delete"}));
                patch.insert(key.clone(), changes.chain(gone).collect());
                let order = items.iter().map(|item| json!({"name": item["name"]}));
                patch.insert(format!("{ELEMENT_ORDER}/{key}"), order.collect());
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

fn some_pod() -> impl Strategy<Value = Value> {
    let env = prop::collection::btree_map("[AB]", "[xy]", 1..3).prop_shuffle_();
    let container = (prop::option::of("[xy]"), prop::option::of(env)).prop_map(|(image, env)| {
        let mut container = Object::new();
        image.map(|image| container.insert("image".into(), json!(image)));
        env.map(|env| {
            let env = env.into_iter().map(|(name, value)| json!({"name": name, "value": value}));
            container.insert("env".into(), env.collect())
        });
        container
    });
    let containers = prop::collection::btree_map("[abcd]", container, 1..4).prop_shuffle_().prop_map(|containers| {
        let named = containers.into_iter().map(|(name, mut container)| {
            container.insert("name".into(), json!(name));
            Value::Object(container)
        });
        named.collect::<Value>()
    });
    let finalizers = prop::collection::btree_set("[abc]", 1..4).prop_map(|f| json!(f));
    let labels = prop::collection::btree_map("[abc]", "[xy]", 1..3).prop_map(|l| json!(l));
    (containers, finalizers, labels)
        .prop_map(|(containers, finalizers, labels)| json!({"containers": containers, "finalizers": finalizers, "labels": labels}))
}

trait Shuffled<T>: Sized {
    fn prop_shuffle_(self) -> proptest::strategy::Shuffle<proptest::strategy::BoxedStrategy<Vec<T>>>;
}

impl<S, K, V> Shuffled<(K, V)> for S
where
    S: Strategy<Value = std::collections::BTreeMap<K, V>> + 'static,
    K: std::fmt::Debug + Clone + Ord + 'static,
    V: std::fmt::Debug + Clone + 'static,
{
    fn prop_shuffle_(self) -> proptest::strategy::Shuffle<proptest::strategy::BoxedStrategy<Vec<(K, V)>>> {
        self.prop_map(|map| map.into_iter().collect::<Vec<_>>()).boxed().prop_shuffle()
    }
}

proptest! {
    #[test]
    fn a_difference_makes_the_new_of_the_old(old in some_pod(), new in some_pod()) {
        let patch = difference(&old, &new);
        prop_assert_eq!(apply(old, patch).unwrap(), new);
    }
}
