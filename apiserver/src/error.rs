//! Errors that clients see: a `Status` each, with the code, reason, details and words of upstream.

use std::{collections::HashSet, fmt};

use crds::field;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};
use store::StoreError;

/// An error answer. Whatever goes wrong on the way of a request ends as one of these, in one place.
#[derive(Clone, Debug)]
pub struct ApiError(Box<Status>);

pub type Result<T> = std::result::Result<T, ApiError>;

/// Which resource an error is about: its group and its plural name (a few errors name the kind instead).
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub group: &'a str,
    pub resource: &'a str,
    pub name: &'a str,
}

impl Subject<'_> {
    /// `deployments.apps "web"`
    fn quoted(&self) -> String {
        format!("{} {}", self.resource(), field::quote(self.name))
    }

    fn resource(&self) -> String {
        if self.group.is_empty() { self.resource.to_owned() } else { format!("{}.{}", self.resource, self.group) }
    }

    fn details(&self) -> StatusDetails {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        StatusDetails {
            group: given(self.group),
            kind: given(self.resource),
            name: given(self.name),
            ..Default::default()
        }
    }
}

impl ApiError {
    pub fn new(code: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        let reason = (!reason.is_empty()).then(|| reason.to_owned());
        Self(Box::new(Status {
            status: Some("Failure".into()),
            code: Some(i32::from(code.as_u16())),
            reason,
            message: Some(message.into()),
            ..Default::default()
        }))
    }

    /// A failure that another server has told.
    pub fn of(status: Status) -> Self {
        Self(Box::new(status))
    }

    pub fn with_details(mut self, details: StatusDetails) -> Self {
        self.0.details = Some(details);
        self
    }

    pub fn with_cause(mut self, cause: StatusCause) -> Self {
        self.0.details.get_or_insert_default().causes.get_or_insert_default().push(cause);
        self
    }

    pub fn with_retry_after(mut self, seconds: i32) -> Self {
        self.0.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    /// The token with which a list may go on all the same.
    pub fn with_continue(mut self, token: String) -> Self {
        self.0.metadata.continue_ = Some(token);
        self
    }

    pub fn status(&self) -> &Status {
        &self.0
    }

    pub fn code(&self) -> StatusCode {
        let code = self.0.code.and_then(|c| u16::try_from(c).ok());
        code.and_then(|c| StatusCode::from_u16(c).ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub fn reason(&self) -> &str {
        self.0.reason.as_deref().unwrap_or("")
    }

    pub fn message(&self) -> &str {
        self.0.message.as_deref().unwrap_or("")
    }

    /// An object that is asked for by a path is not there; where its name is one that none can have, that is told.
    pub fn missing(on: Subject) -> Self {
        let wrong = field::path_segment(on.name);
        if wrong.is_empty() {
            return Self::not_found(on);
        }
        Self::bad_request(format!("Name parameter invalid: {}: {}", field::quote(on.name), wrong.join(";")))
    }

    pub fn not_found(on: Subject) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", format!("{} not found", on.quoted())).with_details(on.details())
    }

    pub fn already_exists(on: Subject) -> Self {
        let message = format!("{} already exists", on.quoted());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).with_details(on.details())
    }

    /// What a create with `generateName` gets when every name that was tried is taken.
    pub fn name_not_generated(on: Subject) -> Self {
        let message =
            format!("{} already exists, the server was not able to generate a unique name for the object", on.quoted());
        let details = StatusDetails { retry_after_seconds: Some(1), ..on.details() };
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).with_details(details)
    }

    /// The same error with another code and reason.
    pub fn coded(mut self, code: StatusCode, reason: &str) -> Self {
        self.0.code = Some(i32::from(code.as_u16()));
        self.0.reason = Some(reason.to_owned());
        self
    }

    /// The same error in other words.
    pub fn worded(mut self, message: String) -> Self {
        self.0.message = Some(message);
        self
    }

    /// The same error with something in front of its message.
    pub fn prefixed(mut self, words: &str) -> Self {
        let message = format!("{words}{}", self.message());
        self.0.message = Some(message);
        self
    }

    pub fn conflict(on: Subject, why: impl fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {}: {why}", on.quoted());
        Self::new(StatusCode::CONFLICT, "Conflict", message).with_details(on.details())
    }

    /// What an update gets whose resourceVersion is not the stored one's.
    pub fn modified(on: Subject) -> Self {
        Self::conflict(
            on,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub fn forbidden(on: Subject, why: impl fmt::Display) -> Self {
        let message = match (on.resource, on.name) {
            ("", "") => format!("forbidden: {why}"),
            (_, "") => format!("{} is forbidden: {why}", on.resource()),
            _ => format!("{} is forbidden: {why}", on.quoted()),
        };
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).with_details(on.details())
    }

    /// A validation failure: all errors, each a cause. `kind` is the Kind, not the resource.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[field::Error]) -> Self {
        let on = Subject { group, resource: kind, name };
        let causes = errors.iter().map(|e| StatusCause {
            field: Some(e.field.clone()),
            message: Some(e.body()),
            reason: Some(e.kind.reason().to_owned()),
        });
        let details = StatusDetails { causes: Some(causes.collect()), ..on.details() };
        let mut seen = HashSet::new();
        let told: Vec<String> =
            errors.iter().map(ToString::to_string).filter(|error| seen.insert(error.clone())).collect();
        let told = if let [one] = told.as_slice() { one.clone() } else { format!("[{}]", told.join(", ")) };
        let message = if errors.is_empty() {
            format!("{} is invalid", on.quoted())
        } else {
            format!("{} is invalid: {told}", on.quoted())
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).with_details(details)
    }

    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", why)
    }

    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub fn expired(why: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", why)
    }

    pub fn method_not_allowed(on: Subject, action: &str) -> Self {
        let message = format!("{action} is not supported on resources of kind {}", field::quote(&on.resource()));
        let details = Subject { name: "", ..on }.details();
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message).with_details(details)
    }

    pub fn too_large(why: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", why)
    }

    pub fn too_many_requests(why: impl Into<String>, retry_after_seconds: i32) -> Self {
        let details = StatusDetails { retry_after_seconds: Some(retry_after_seconds), ..Default::default() };
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", why).with_details(details)
    }

    pub fn unavailable(why: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", why)
    }

    /// A list or watch that asks for a revision that the server has not reached.
    pub fn too_large_resource_version(asked: u64, newest: u64) -> Self {
        let cause = StatusCause {
            reason: Some("ResourceVersionTooLarge".into()),
            message: Some("Too large resource version".into()),
            ..Default::default()
        };
        let details = StatusDetails { retry_after_seconds: Some(1), ..Default::default() };
        let message = format!("Timeout: Too large resource version: {asked}, current: {newest}");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message).with_details(details).with_cause(cause)
    }

    /// What a failing store means to a client.
    pub fn from_store(error: StoreError) -> Self {
        match error {
            StoreError::Compacted { asked, oldest } => {
                Self::expired(format!("too old resource version: {asked} ({oldest})"))
            }
            StoreError::Future { asked, newest } => Self::too_large_resource_version(asked, newest),
            other => Self::internal(other),
        }
    }

    /// An error that upstream passes on without a thought of whose mistake it was: 500 without a reason.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "", why)
    }

    pub fn internal(why: impl fmt::Display) -> Self {
        let cause = StatusCause { message: Some(why.to_string()), ..Default::default() };
        let details = StatusDetails { causes: Some(vec![cause]), ..Default::default() };
        let message = format!("Internal error occurred: {why}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message).with_details(details)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for ApiError {}
