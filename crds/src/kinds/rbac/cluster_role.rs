//! ClusterRole (rbac.authorization.k8s.io/v1).

use k8s_openapi::api::rbac::v1::{AggregationRule, ClusterRole};

use super::rule;
use crate::{
    field::{self, Error, Errors, Path},
    given::Items,
    kind::{About, Kind, Request},
    meta, selector,
};

impl Kind for ClusterRole {
    const ABOUT: About =
        About { create_on_update: true, checks_changes: false, ..About::new("clusterroles", "clusterrole") };

    fn validate_name(name: &str) -> Vec<String> {
        field::path_segment(name)
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        rule::validate(self.rules.items(), false, &Path::new("rules"), errors);
        if let Some(aggregation) = &self.aggregation_rule {
            validate_aggregation(aggregation, errors);
        }
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        self.validate_create(request, errors);
        meta::update_of(self, old, errors);
    }
}

fn validate_aggregation(aggregation: &AggregationRule, errors: &mut Errors) {
    let path = Path::new("aggregationRule");
    let list = path.child("clusterRoleSelectors");
    let selectors = aggregation.cluster_role_selectors.items();
    if selectors.is_empty() {
        errors.push(Error::required(list, "at least one clusterRoleSelector required if aggregationRule is non-nil"));
    }
    for (i, selector) in selectors.iter().enumerate() {
        let path = list.index(i);
        selector::validate::label_selector(Some(selector), &path, errors);
        if selector::validate::selector(selector).is_none() {
            // Upstream shows what could not be made of it.
            errors.push(Error::invalid(path, "", "invalid label selector.").showing("null"));
        }
    }
}
