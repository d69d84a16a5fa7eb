//! What things are: every kind, its names, schema, defaults, validation and columns.
//!
//! Everything in this crate is pure: no runtime, no sockets, no clock, no randomness. The arithmetic of Kubernetes
//! nouns (quantities, selectors, taints, owners) lives here too, so that the apiserver, the controllers, the scheduler
//! and the kubelet all reckon alike.

pub mod cel;
pub mod condition;
pub mod cron;
pub mod custom;
pub mod declared;
pub mod diff;
pub mod duration;
pub mod equal;
pub mod field;
pub mod given;
pub mod kind;
pub mod kinds;
pub mod meta;
pub mod owner;
pub mod percent;
pub mod pod;
pub mod quantity;
pub mod quota;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod syntax;
pub mod table;
pub mod taint;
pub mod url;
pub mod user;
pub mod version;
pub mod volume;

pub use schema::go;
