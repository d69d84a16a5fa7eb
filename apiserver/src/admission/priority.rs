//! Priority: a pod's class becomes its number, and only one class is the default.

use crds::kinds::scheduling::priority_class::SYSTEM;
use futures::future::BoxFuture;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::Value;

use super::{Attributes, Operation, Plugin, edit};
use crate::{error::Result, world::World};

#[derive(Default)]
pub struct Priority;

impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        let is_class = attributes.is("scheduling.k8s.io", "priorityclasses", "");
        match attributes.operation {
            Operation::Create | Operation::Update => is_class || attributes.is("", "pods", ""),
            Operation::Delete => is_class,
            Operation::Connect => false,
        }
    }

    fn admit<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if attributes.resource() != "pods" {
                return Ok(());
            }
            let Some(mut pod) = attributes.object.take() else { return Ok(()) };
            let set = match &attributes.old {
                Some(old) => {
                    keep(&mut pod, old);
                    Ok(())
                }
                None => {
                    let class = class_of(&pod, world);
                    set_priority(&mut pod, class)
                }
            };
            attributes.object = Some(pod);
            set.map_err(|why| attributes.forbidden(why))
        })
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if attributes.operation == Operation::Delete && SYSTEM.iter().any(|(name, _)| *name == attributes.name) {
                return Err(attributes.forbidden("this is a system priority class and cannot be deleted"));
            }
            let class = attributes.object.as_ref().filter(|_| attributes.resource() == "priorityclasses");
            let Some(class) = class.filter(|class| class["globalDefault"] == true) else { return Ok(()) };
            let Some(there) = default_of(world.list::<PriorityClass>("")?) else { return Ok(()) };
            let name = there.metadata.name.unwrap_or_default();
            if attributes.operation == Operation::Update && edit::text(class, "/metadata/name") == name {
                return Ok(());
            }
            let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
            Err(attributes.forbidden(why))
        })
    }
}

/// What a pod gets: the name of its class, its priority, its preemption policy.
type Given = (String, i32, Option<String>);

fn class_of(pod: &Value, world: &World) -> std::result::Result<Given, String> {
    let given = |class: PriorityClass| {
        (class.metadata.name.unwrap_or_default(), class.value.unwrap_or(0), class.preemption_policy)
    };
    match edit::text(pod, "/spec/priorityClassName") {
        "" => {
            let classes = world.list::<PriorityClass>("").map_err(|e| e.to_string())?;
            let none = || (String::new(), 0, Some("PreemptLowerPriority".to_owned()));
            Ok(default_of(classes).map_or_else(none, given))
        }
        name => match world.get::<PriorityClass>("", name).map_err(|e| e.to_string())? {
            Some(class) => Ok(given(class)),
            None => Err(format!("no PriorityClass with name {name} was found")),
        },
    }
}

/// If a race has made several, the one of the lowest value.
fn default_of(classes: Vec<PriorityClass>) -> Option<PriorityClass> {
    classes.into_iter().filter(|class| class.global_default == Some(true)).min_by_key(|class| class.value)
}

/// A pod that says the number itself must say that of its class.
fn set_priority(pod: &mut Value, class: std::result::Result<Given, String>) -> std::result::Result<(), String> {
    let (name, priority, policy) = class?;
    if !name.is_empty() {
        edit::set(pod, &["spec", "priorityClassName"], name);
    }
    let own = pod.pointer("/spec/priority").and_then(Value::as_i64);
    if let Some(own) = own.filter(|own| *own != i64::from(priority)) {
        return Err(format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed \
             {priority} from the given PriorityClass name"
        ));
    }
    edit::set(pod, &["spec", "priority"], priority);
    let Some(policy) = policy else { return Ok(()) };
    let own = pod.pointer("/spec/preemptionPolicy").and_then(Value::as_str);
    if let Some(own) = own.filter(|own| *own != policy) {
        return Err(format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller \
             computed {policy} from the given PriorityClass name"
        ));
    }
    edit::set(pod, &["spec", "preemptionPolicy"], policy);
    Ok(())
}

/// An update that leaves them out does not take them away.
fn keep(pod: &mut Value, old: &Value) {
    for field in ["priority", "preemptionPolicy"] {
        let there = |pod: &Value| pod.get("spec").and_then(|spec| spec.get(field)).filter(|v| !v.is_null()).cloned();
        if let (None, Some(value)) = (there(pod), there(old)) {
            edit::set(pod, &["spec", field], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given() -> std::result::Result<Given, String> {
        Ok(("mid".into(), 1000, Some("Never".into())))
    }

    #[test]
    fn the_class_decides() {
        let mut pod = json!({"spec": {}});
        set_priority(&mut pod, given()).unwrap();
        assert_eq!(pod["spec"], json!({"priorityClassName": "mid", "priority": 1000, "preemptionPolicy": "Never"}));
        set_priority(&mut pod, given()).unwrap();
        for (spec, why) in [
            (
                json!({"priority": 7}),
                "the integer value of priority (7) must not be provided in pod spec; priority admission controller computed \
                 1000 from the given PriorityClass name",
            ),
            (
                json!({"preemptionPolicy": "Other"}),
                "the string value of PreemptionPolicy (Other) must not be provided in pod spec; priority admission controller \
                 computed Never from the given PriorityClass name",
            ),
        ] {
            assert_eq!(set_priority(&mut json!({"spec": spec}), given()).unwrap_err(), why);
        }
    }

    #[test]
    fn updates_keep_it() {
        let mut pod = json!({"spec": {"priority": null}});
        keep(&mut pod, &json!({"spec": {"priority": 5, "preemptionPolicy": "Never"}}));
        assert_eq!(pod["spec"], json!({"priority": 5, "preemptionPolicy": "Never"}));
    }

    #[test]
    fn the_lowest_default_counts() {
        let class = |name: &str, value, default| PriorityClass {
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                name: Some(name.into()),
                ..Default::default()
            },
            value: Some(value),
            global_default: Some(default),
            ..Default::default()
        };
        let default = default_of(vec![class("a", 5, true), class("b", 3, true), class("c", 1, false)]);
        assert_eq!(default.unwrap().metadata.name.as_deref(), Some("b"));
    }
}
