//! The kinds of the coordination group.

pub mod lease;
pub mod lease_candidate;
