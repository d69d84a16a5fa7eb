//! PersistentVolumeClaimResize: only a bound claim grows, and only if its class allows it.

use crds::quantity::Quantity;
use futures::future::BoxFuture;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;

use super::{Attributes, Operation, Plugin, edit};
use crate::{error::Result, world::World};

const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

#[derive(Default)]
pub struct PersistentVolumeClaimResize;

impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn changes(&self) -> bool {
        false
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Update && attributes.is("", "persistentvolumeclaims", "")
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (Some(claim), Some(old)) = (&attributes.object, &attributes.old) else { return Ok(()) };
            if size(claim) <= size(old) {
                return Ok(());
            }
            if edit::text(old, "/status/phase") != "Bound" {
                return Err(attributes.forbidden("Only bound persistent volume claims can be expanded"));
            }
            let name = class(claim);
            let class =
                if name.is_empty() || name != class(old) { None } else { world.get::<StorageClass>("", name)? };
            if class.and_then(|class| class.allow_volume_expansion) != Some(true) {
                return Err(attributes.forbidden(
                    "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
                     support resize",
                ));
            }
            Ok(())
        })
    }
}

fn size(claim: &Value) -> Quantity {
    edit::text(claim, "/spec/resources/requests/storage").parse().unwrap_or(Quantity::ZERO)
}

fn class(claim: &Value) -> &str {
    let old = claim.pointer("/metadata/annotations").and_then(|a| a.get(OLD_CLASS)).and_then(Value::as_str);
    old.unwrap_or_else(|| edit::text(claim, "/spec/storageClassName"))
}
