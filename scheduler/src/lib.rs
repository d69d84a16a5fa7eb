//! Decides where pods run: plugins, snapshot, queue and binding.
//!
//! `decide` is pure: a snapshot, a pod, a profile and a seed give the same decision every time. All IO is in `run` and
//! `bind`; a scheduler is a client of any conforming apiserver.

pub mod bind;
pub mod cache;
pub mod decide;
pub mod framework;
pub mod plugins;
pub mod preempt;
pub mod queue;
mod run;
pub mod snapshot;

pub use run::{Clock, Config, Scheduler};
