//! DefaultTolerationSeconds: a pod stays five minutes on a node that fails, unless it says otherwise.

use crds::taint;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin, edit};
use crate::{error::Result, world::World};

const SECONDS: i64 = 300;

#[derive(Default)]
pub struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        matches!(attributes.operation, Operation::Create | Operation::Update) && attributes.is("", "pods", "")
    }

    fn admit<'a>(&'a self, attributes: &'a mut Attributes, _: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            attributes.object.as_mut().map(add_tolerations);
            Ok(())
        })
    }
}

fn add_tolerations(pod: &mut Value) {
    let tolerated = |taint: &str| {
        edit::items(pod, "/spec/tolerations").iter().any(|t| {
            let (key, effect) = (edit::text(t, "/key"), edit::text(t, "/effect"));
            (key.is_empty() || key == taint) && (effect.is_empty() || effect == taint::NO_EXECUTE)
        })
    };
    let missing: Vec<_> =
        [taint::NOT_READY, taint::UNREACHABLE].into_iter().filter(|taint| !tolerated(taint)).collect();
    if missing.is_empty() {
        return;
    }
    let Some(tolerations) = edit::list(pod, &["spec", "tolerations"]) else { return };
    tolerations.extend(missing.into_iter().map(
        |key| json!({"key": key, "operator": "Exists", "effect": taint::NO_EXECUTE, "tolerationSeconds": SECONDS}),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tolerated_stays_as_it_is() {
        let keys = |tolerations: Value| {
            let mut pod = json!({"spec": {"tolerations": tolerations}});
            add_tolerations(&mut pod);
            let keys = edit::items(&pod, "/spec/tolerations")
                .iter()
                .map(|t| edit::text(t, "/key").replace("node.kubernetes.io/", ""));
            keys.collect::<Vec<_>>()
        };
        assert_eq!(keys(Value::Null), ["not-ready", "unreachable"]);
        assert_eq!(keys(json!([{"operator": "Exists"}])), [""]);
        assert_eq!(keys(json!([{"key": taint::NOT_READY, "effect": "NoExecute"}])), ["not-ready", "unreachable"]);
        assert_eq!(
            keys(json!([{"key": taint::UNREACHABLE, "effect": "NoSchedule"}])),
            ["unreachable", "not-ready", "unreachable"]
        );
    }
}
