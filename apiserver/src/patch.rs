//! The three kinds of patch that change an object by itself: JSON patch, JSON merge patch, strategic merge patch.
//!
//! All are pure. `document` is the object as it is served, in the version of the request; what comes out must still be
//! decoded, defaulted and checked. Server-side apply is in [`crate::apply`].

mod json;
mod merge;
pub mod opened;
pub mod print;
mod strategic;

pub use json::{json, operations, unknown_members};
pub use merge::merge;
pub use strategic::strategic;

use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusDetails;

use crate::error::ApiError;

/// What upstream answers to a patch that does not fit its object: it does not tell why.
fn unfit() -> ApiError {
    let message = "the server rejected our request due to an error in our request";
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).with_details(StatusDetails::default())
}
