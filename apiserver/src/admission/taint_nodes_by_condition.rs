//! TaintNodesByCondition: a new node takes no pods until its controller has seen it ready.

use crds::taint;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin, edit};
use crate::{error::Result, world::World};

#[derive(Default)]
pub struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "nodes", "")
    }

    fn admit<'a>(&'a self, attributes: &'a mut Attributes, _: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            attributes.object.as_mut().map(add_taint);
            Ok(())
        })
    }
}

fn add_taint(node: &mut Value) {
    let Some(taints) = edit::list(node, &["spec", "taints"]) else { return };
    if !taints.iter().any(|t| t["key"] == taint::NOT_READY && t["effect"] == taint::NO_SCHEDULE) {
        taints.push(json!({"key": taint::NOT_READY, "effect": taint::NO_SCHEDULE}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once() {
        let mut node = json!({"metadata": {"name": "n"}});
        add_taint(&mut node);
        let once = node.clone();
        assert_eq!(once["spec"]["taints"], json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]));
        add_taint(&mut node);
        assert_eq!(node, once);
    }
}
