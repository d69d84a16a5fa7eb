//! The kinds of the autoscaling group.

pub mod horizontal_pod_autoscaler;
pub mod horizontal_pod_autoscaler_v1;
pub mod scale;
