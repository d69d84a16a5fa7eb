//! The kinds of the networking group.

pub mod backend;
pub mod i_p_address;
pub mod ingress;
pub mod ingress_class;
pub mod network_policy;
pub mod reference;
pub mod service_c_i_d_r;
