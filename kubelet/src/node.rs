//! The node itself: its registration, its status, its heartbeat and its pod network.

pub mod lease;
pub mod network;
pub mod register;
pub mod report;
pub mod status;

/// The release whose behaviour this node has.
pub const VERSION: &str = "v1.36.3";
