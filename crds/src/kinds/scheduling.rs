//! The kinds of the scheduling group.

pub mod feature;
pub mod pod_group;
pub mod policy;
pub mod priority_class;
pub mod workload;
