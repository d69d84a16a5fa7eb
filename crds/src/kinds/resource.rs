//! The kinds of the resource group.

pub mod allocation;
pub mod device;
pub mod device_class;
pub mod device_taint_rule;
pub mod name;
pub mod request;
pub mod resource_claim;
pub mod resource_claim_template;
pub mod resource_pool_status_request;
pub mod resource_slice;
pub mod v1beta1;
