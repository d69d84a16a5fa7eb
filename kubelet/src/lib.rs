//! Runs pods on a machine: CRI, volumes, probes, node status and the kubelet API.
//!
//! `Kubelet::start` is the way in. Decisions are pure (`pod::plan`, `pod::status`, `node::status`, …) and see only what
//! they are given; `pod::worker` is the one place where a pod's decisions are carried out. The runtime (`runtime`) and
//! the machine (`system`) are traits with a fake each, so that whole nodes run in a simulation.

pub mod agent;
pub mod clock;
pub mod config;
pub mod event;
pub mod evict;
pub mod image;
pub mod node;
pub mod object;
pub mod pod;
pub mod probe;
pub mod runtime;
pub mod server;
pub mod start;
pub mod system;
pub mod volume;

pub use config::Config;
pub use start::{Handle, Kubelet, StartError};
