//! Parts of objects that are served under paths of their own.

use crate::{
    call::Call,
    codec::answer::Answer,
    error::Result,
    pipeline::Apiserver,
    route::{self, Target},
    verbs,
};

pub mod binding;
pub mod connect;
pub mod eviction;
pub mod scale;
pub mod token;

/// A subresource that is not the same for all kinds.
pub async fn answer(server: &Apiserver, call: &mut Call, target: &Target, name: &str) -> Result<Answer> {
    match name {
        "ephemeralcontainers" | "resize" | "finalize" | "approval" => verbs::object(server, call, target).await,
        "binding" => binding::answer(server, call, target).await,
        "eviction" => eviction::answer(server, call, target).await,
        "token" => token::answer(server, call, target).await,
        "attach" | "exec" | "log" | "portforward" | "proxy" => connect::answer(server, call, target).await,
        _ => Err(route::not_found()),
    }
}
