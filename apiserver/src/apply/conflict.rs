//! The refusal of an apply that would change what others own.

use std::collections::BTreeMap;

use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{StatusCause, StatusDetails};

use super::{
    managed::{Operation, Owner},
    path::Element,
    set::Set,
};
use crate::error::ApiError;

/// Who owns which of the fields that would change. Never empty where it is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conflicts(pub BTreeMap<Owner, Set>);

impl Conflicts {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those outside of `allowed`.
    pub fn without(&self, allowed: &Set) -> Self {
        let left = self.0.iter().map(|(owner, set)| (owner.clone(), set.difference(allowed)));
        Self(left.filter(|(_, set)| !set.is_empty()).collect())
    }

    pub fn into_error(self) -> ApiError {
        let told: Vec<(String, Vec<String>)> = self.0.iter().map(|(owner, set)| (name(owner), paths(set))).collect();
        let message = match told.as_slice() {
            [(owner, paths)] if paths.len() == 1 => {
                format!("Apply failed with 1 conflict: conflict with {owner}: {}", paths.concat())
            }
            all => {
                let count: usize = all.iter().map(|(_, paths)| paths.len()).sum();
                let lines = all.iter().flat_map(|(owner, paths)| {
                    let paths = paths.iter().map(|path| format!("- {path}"));
                    std::iter::once(format!("conflicts with {owner}:")).chain(paths)
                });
                format!("Apply failed with {count} conflicts: {}", lines.collect::<Vec<_>>().join("\n"))
            }
        };
        let causes = told.into_iter().flat_map(|(owner, paths)| {
            paths.into_iter().map(move |path| StatusCause {
                reason: Some("FieldManagerConflict".to_owned()),
                message: Some(format!("conflict with {owner}")),
                field: Some(path),
            })
        });
        let details = StatusDetails { causes: Some(causes.collect()), ..Default::default() };
        ApiError::new(StatusCode::CONFLICT, "Conflict", message).with_details(details)
    }
}

fn paths(set: &Set) -> Vec<String> {
    let mut paths = Vec::new();
    set.each(&mut Vec::new(), &mut |path: &[&Element]| paths.push(path.iter().map(ToString::to_string).collect()));
    paths
}

fn name(owner: &Owner) -> String {
    let mut name = crds::field::quote(&owner.manager);
    if !owner.subresource.is_empty() {
        name = format!("{name} with subresource {}", crds::field::quote(&owner.subresource));
    }
    match owner.operation {
        Operation::Update => format!("{name} using {}", owner.api_version),
        Operation::Apply => name,
    }
}
