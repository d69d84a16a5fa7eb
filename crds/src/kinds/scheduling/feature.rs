//! Fields of features that v1.36 has switched off unless asked for: they are dropped, unless what is stored has them.

use k8s_openapi::api::scheduling::v1alpha2::{PodGroupSpec, PodGroupTemplate};

/// `PodGroupSpec` and `PodGroupTemplate` have the same fields, and no type in common.
macro_rules! drop_unused {
    ($new:ident, $old:ident, $($field:ident),+) => { $(
        if $old.is_none_or(|old| old.$field.is_none()) {
            $new.$field = None;
        }
    )+ };
}

pub fn drop_disabled(new: &mut PodGroupSpec, old: Option<&PodGroupSpec>) {
    drop_unused!(new, old, scheduling_constraints, resource_claims, disruption_mode, priority_class_name, priority);
}

pub fn drop_disabled_in_template(new: &mut PodGroupTemplate, old: Option<&PodGroupTemplate>) {
    drop_unused!(new, old, scheduling_constraints, resource_claims, disruption_mode, priority_class_name, priority);
}
