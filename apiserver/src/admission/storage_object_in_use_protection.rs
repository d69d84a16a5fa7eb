//! StorageObjectInUseProtection: volumes, claims and their classes stay until nothing uses them.

use futures::future::BoxFuture;
use serde_json::Value;

use super::{Attributes, Operation, Plugin, edit};
use crate::{error::Result, world::World};

#[derive(Default)]
pub struct StorageObjectInUseProtection;

fn finalizer(attributes: &Attributes) -> Option<&'static str> {
    match (attributes.group(), attributes.resource(), attributes.subresource.as_str()) {
        ("", "persistentvolumes", "") => Some("kubernetes.io/pv-protection"),
        ("", "persistentvolumeclaims", "") => Some("kubernetes.io/pvc-protection"),
        ("storage.k8s.io", "volumeattributesclasses", "") => Some("kubernetes.io/vac-protection"),
        _ => None,
    }
}

impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Create && finalizer(attributes).is_some()
    }

    fn admit<'a>(&'a self, attributes: &'a mut Attributes, _: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let finalizer = finalizer(attributes);
            if let (Some(object), Some(finalizer)) = (&mut attributes.object, finalizer)
                && let Some(finalizers) = edit::list(object, &["metadata", "finalizers"])
                && !finalizers.iter().any(|f| f == finalizer)
            {
                finalizers.push(Value::from(finalizer));
            }
            Ok(())
        })
    }
}
