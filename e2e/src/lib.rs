//! Proves it: end-to-end tests, simulation, benchmarks, stock clients.

pub mod cpu;
pub mod mutation;
pub mod replay;
pub mod simulation;

use std::path::Path;

use apiserver::start::{Config, StoreKind};

/// A server on loopback, on any port, that keeps nothing.
pub fn passing_server(data: &Path) -> Config {
    let mut config = Config::new(data);
    (config.secure_port, config.store) = (0, StoreKind::Memory);
    config.bind = [127, 0, 0, 1].into();
    config
}
