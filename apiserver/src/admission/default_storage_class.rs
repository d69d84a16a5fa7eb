//! DefaultStorageClass: a claim without a class gets the default one, the newest if several are marked.

use futures::future::BoxFuture;
use k8s_openapi::{api::storage::v1::StorageClass, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{Attributes, Operation, Plugin, edit};
use crate::{error::Result, world::World};

/// The older name of each of these is understood as well.
const MARKS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

#[derive(Default)]
pub struct DefaultStorageClass;

impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "persistentvolumeclaims", "")
    }

    fn admit<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Some(claim) = &mut attributes.object else { return Ok(()) };
            let old = claim.pointer("/metadata/annotations").and_then(|a| a.get(OLD_CLASS));
            // An empty name is an answer, too.
            if old.is_some() || claim.pointer("/spec/storageClassName").is_some_and(|name| !name.is_null()) {
                return Ok(());
            }
            let classes = world.list::<StorageClass>("")?;
            if let Some(name) = newest(classes.iter().map(|class| &class.metadata), &MARKS) {
                edit::set(claim, &["spec", "storageClassName"], name);
            }
            Ok(())
        })
    }
}

/// The name of the newest object that is marked as default; of several made at once, the first by name.
pub fn newest<'a>(objects: impl Iterator<Item = &'a ObjectMeta>, marks: &[&str]) -> Option<&'a str> {
    let marked = objects.filter(|metadata| {
        let annotations = metadata.annotations.iter().flatten();
        annotations.into_iter().any(|(key, value)| marks.contains(&key.as_str()) && value == "true")
    });
    let mut marked: Vec<_> = marked
        .map(|metadata| {
            (std::cmp::Reverse(metadata.creation_timestamp.as_ref().map(|t| t.0)), metadata.name.as_deref())
        })
        .collect();
    marked.sort();
    marked.first().and_then(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_is_taken() {
        let class = |name: &str, second: u32, marked: &str| -> ObjectMeta {
            edit::decode(&json!({"name": name, "creationTimestamp": format!("2026-01-01T00:00:0{second}Z"), "annotations": {MARKS[0]: marked}}))
                .unwrap()
        };
        let classes = [class("a", 1, "true"), class("c", 2, "true"), class("b", 2, "true"), class("d", 3, "false")];
        assert_eq!(newest(classes.iter(), &MARKS), Some("b"));
        assert_eq!(newest(classes.iter().skip(3), &MARKS), None);
    }
}
