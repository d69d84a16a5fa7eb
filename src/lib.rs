//! Wires the parts of Keelson together; a library, so that the end-to-end tests start the same wiring.

pub mod addon;
pub mod cluster;
pub mod command;
pub mod containerd;
pub mod data_dir;
pub mod machine;
pub mod process;
