//! Fields that a write through a path cannot set: they are reset, so that nobody comes to own them by such a write.

use super::{path::Element, set::Set};

/// What a write may not own. A spec's write ignores status, a status' write ignores spec, and so on.
#[derive(Clone, Debug, Default)]
pub enum Reset {
    #[default]
    Nothing,
    /// These fields, and what is below them.
    Fields(Set),
}

impl Reset {
    /// These paths, as `metadata.labels`.
    pub fn fields(paths: &[&str]) -> Self {
        let mut set = Set::default();
        for path in paths {
            set.insert(&path.split('.').map(Element::field).collect::<Vec<_>>());
        }
        Self::Fields(set)
    }

    /// What upstream's strategies say of a resource. Custom resources have `status` reset if there is a status
    /// subresource (`has_status`), and their status ignores spec and metadata.
    pub fn of(group: &str, resource: &str, subresource: &str, has_status: bool) -> Self {
        match (group, resource, subresource) {
            ("", "pods", "status") => Self::fields(&["spec", "metadata.deletionTimestamp", "metadata.ownerReferences"]),
            ("apps", "deployments", "status") => Self::fields(&["spec", "metadata.labels"]),
            ("certificates.k8s.io", "certificatesigningrequests", "") => Self::fields(&["spec", "status"]),
            ("certificates.k8s.io", "certificatesigningrequests", "status") => {
                Self::fields(&["spec", "status.conditions"])
            }
            ("certificates.k8s.io", "certificatesigningrequests", "approval") => {
                Self::fields(&["spec", "status.certificate"])
            }
            // Upstream lets a write to these own what it does not set.
            ("certificates.k8s.io", "podcertificaterequests", "") | ("scheduling.k8s.io", "podgroups", "") => {
                Self::Nothing
            }
            (_, _, "status") if resets_metadata(group, resource) => Self::fields(&["metadata", "spec"]),
            (_, _, "status") => Self::fields(&["spec"]),
            ("", "namespaces", "finalize") => Self::fields(&["status"]),
            (_, _, "") if has_status => Self::fields(&["status"]),
            _ => Self::Nothing,
        }
    }

    /// The set without what is reset.
    pub fn apply(&self, set: Set) -> Set {
        match self {
            Self::Nothing => set,
            Self::Fields(fields) => set.recursive_difference(fields),
        }
    }
}

/// Whether the status of a resource ignores metadata: of built-in kinds these, and of custom resources all.
fn resets_metadata(group: &str, resource: &str) -> bool {
    match group {
        "" | "apps" | "autoscaling" | "batch" | "policy" | "certificates.k8s.io" | "apiextensions.k8s.io" => false,
        "networking.k8s.io" => resource != "ingresses",
        _ => true,
    }
}
