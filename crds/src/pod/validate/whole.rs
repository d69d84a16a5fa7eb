//! Resources of a Pod as a whole, against those of its containers.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PodSpec;

use crate::{
    field::{Error, Errors, Path},
    pod::resources as sums,
    resource,
};

pub fn resources(spec: &PodSpec, claims: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    let Some(whole) = &spec.resources else {
        return;
    };
    let path = path.child("resources");
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        errors.push(Error::forbidden(path, "may not be set for a windows pod"));
        return;
    }
    if whole.claims.is_some() {
        errors.push(Error::forbidden(path.child("claims"), "claims may not be set for Resources at pod-level"));
    }
    resource::validate_pod(whole, claims, &path, errors);
    let (limits, requests) = (resource::amounts(whole.limits.as_ref()), resource::amounts(whole.requests.as_ref()));
    let list = path.child("requests");
    for (name, sum) in sums::container_requests_of(spec) {
        if let Some(request) = requests.get(&name).filter(|request| sum > **request) {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.push(Error::invalid(list.key(&name), request.to_string(), why));
        }
    }
    let list = path.child("limits");
    for (name, sum) in sums::container_limits_of(spec).iter().filter(|(name, _)| resource::is_huge_pages(name)) {
        if let Some(limit) = limits.get(name).filter(|limit| sum > *limit) {
            let why = format!("must be greater than or equal to aggregate container limits of {sum}");
            errors.push(Error::invalid(list.key(name), limit.to_string(), why));
        }
    }
    let list = path.child("containers");
    for (i, container) in spec.containers.iter().enumerate() {
        let path = list.index(i);
        let own = resource::amounts(container.resources.as_ref().and_then(|r| r.limits.as_ref()));
        for (name, own) in own {
            if let Some(limit) = limits.get(&name).filter(|limit| own > **limit) {
                let path = path.key(&name);
                let why = format!("must be less than or equal to pod limits of {limit}");
                errors.push(Error::invalid(path.child("limits"), own.to_string(), why));
            }
        }
    }
}
