//! Proves it: end-to-end tests, simulation, benchmarks, stock clients.

pub mod mutation;
pub mod replay;
pub mod simulation;
