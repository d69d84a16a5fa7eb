//! How the pods of a group are scheduled: together or one by one.

use k8s_openapi::api::scheduling::v1alpha2::PodGroupSchedulingPolicy;

use crate::{
    declared,
    field::{Error, Errors, Path},
};

pub fn validate(policy: &PodGroupSchedulingPolicy, path: &Path, errors: &mut Errors) {
    declared::one_of_fields(&[("basic", policy.basic.is_some()), ("gang", policy.gang.is_some())], *path, errors);
    let Some(gang) = &policy.gang else { return };
    let path = path.child("gang");
    match gang.min_count {
        0 => errors.push(Error::required(path.child("minCount"), "")),
        count => declared::at_least(count, 1, path.child("minCount"), errors),
    }
}
