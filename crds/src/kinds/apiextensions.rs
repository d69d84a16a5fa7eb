//! The kinds of the apiextensions group.

pub mod approval;
mod complete;
pub mod condition;
pub mod custom_resource_definition;
pub mod names;
pub mod rule;
pub mod schema;
pub mod structural;
pub mod version;
