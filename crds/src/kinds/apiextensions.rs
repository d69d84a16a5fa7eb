//! The kinds of the apiextensions group.

pub mod custom_resource_definition;
pub mod schema;
pub mod structural;
pub mod version;
