//! Which objects belong to a controller: those it owns and selects; it adopts orphans and releases what it selects no more.

use std::sync::Arc;

use crds::{kind::Kind, owner, selector::Selector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use crate::{plan::Write, runtime::object};

/// The objects that a controller may claim, sorted out.
#[derive(Debug)]
pub struct Claim<T> {
    pub owned: Vec<Arc<T>>,
    pub adopt: Vec<Arc<T>>,
    pub release: Vec<Arc<T>>,
}

impl<T> Default for Claim<T> {
    fn default() -> Self {
        Self { owned: Vec::new(), adopt: Vec::new(), release: Vec::new() }
    }
}

impl<T: Kind> Claim<T> {
    /// `root` is the claiming controller's metadata. An object is adopted or released only while neither is being deleted.
    pub fn sort(root: &ObjectMeta, selector: &Selector, candidates: impl IntoIterator<Item = Arc<T>>) -> Self {
        let mut claim = Self::default();
        let leaving = root.deletion_timestamp.is_some();
        for object in candidates {
            let meta = object.metadata();
            let selected = selector.matches(meta.labels.as_ref().unwrap_or(&Default::default()));
            match owner::controller(meta) {
                Some(owner) if owner.uid != object::uid(root) => {}
                Some(_) if selected => claim.owned.push(object),
                Some(_) if !leaving => claim.release.push(object),
                Some(_) => {}
                None if selected && !leaving && meta.deletion_timestamp.is_none() => claim.adopt.push(object),
                None => {}
            }
        }
        claim
    }

    /// Those that it has once the adoptions are made.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.owned.iter().chain(&self.adopt).cloned().collect()
    }

    /// The patches that make the claim true.
    pub fn writes(&self, reference: &OwnerReference) -> Vec<Write> {
        let adopt = self.adopt.iter().map(|object| {
            let patch = json!({"metadata": {"ownerReferences": [reference]}});
            Write::strategic::<T>(object.metadata(), "", patch)
        });
        // Gone, or no longer with that owner: as good as released.
        let release = self.release.iter().map(|object| {
            let patch = json!({"metadata": {"ownerReferences": [{"$patch": "delete", "uid": reference.uid}]}});
            Write::strategic::<T>(object.metadata(), "", patch).forgiving(&[404, 409, 422])
        });
        adopt.chain(release).collect()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn sorted_by_owner_and_labels() {
        let root = ObjectMeta { uid: Some("root".into()), ..ObjectMeta::default() };
        let selector = crds::selector::parse("app=a").unwrap();
        let with = |name: &str, owner: Option<&str>, label: &str| {
            let mut pod = pod(name, "ready");
            pod.metadata.labels = Some([("app".into(), label.into())].into());
            pod.metadata.owner_references = owner.map(|uid| {
                vec![OwnerReference { uid: uid.into(), controller: Some(true), ..OwnerReference::default() }]
            });
            Arc::new(pod)
        };
        let candidates = vec![
            with("owned", Some("root"), "a"),
            with("orphan", None, "a"),
            with("stray", Some("root"), "b"),
            with("foreign", Some("other"), "a"),
            with("unrelated", None, "b"),
        ];
        let names = |pods: &[Arc<Pod>]| pods.iter().map(|p| p.metadata.name.clone().unwrap()).collect::<Vec<_>>();
        let claim = Claim::sort(&root, &selector, candidates.clone());
        assert_eq!(names(&claim.owned), ["owned"]);
        assert_eq!(names(&claim.adopt), ["orphan"]);
        assert_eq!(names(&claim.release), ["stray"]);
        let leaving = ObjectMeta { deletion_timestamp: candidates[0].metadata.creation_timestamp.clone(), ..root };
        let claim = Claim::sort(&leaving, &selector, candidates);
        assert!(claim.adopt.is_empty() && claim.release.is_empty());
    }
}
