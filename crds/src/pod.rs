//! What a Pod comes to: the arithmetic and the rules that the apiserver, the scheduler, the kubelet and the controllers
//! share. [`default`], [`validate`], [`warn`] and [`feature`] are for a Pod and for the template of one alike.

pub mod affinity;
pub mod container;
pub mod counts;
pub mod default;
pub mod feature;
pub mod image;
pub mod port;
pub mod print;
pub mod qos;
pub mod resize;
pub mod resources;
pub mod state;
pub mod status;
pub mod sysctl;
pub mod template;
pub mod update;
pub mod validate;
pub mod warn;
