//! Refusals as the API server words them: a `Status` with a reason, a code, a sentence and details.
//!
//! Clients decide by `reason` and people read `message`, so both are the real one's, to the letter.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
pub(super) struct Refusal {
    code: u16,
    reason: &'static str,
    message: String,
    details: Option<Value>,
}

impl Refusal {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { code, reason, message: message.into(), details: None }
    }

    fn about(self, plural: &str, name: &str) -> Refusal {
        Refusal { details: Some(json!({ "name": name, "kind": plural })), ..self }
    }

    pub(super) fn unauthorized() -> Refusal {
        Refusal::new(401, "Unauthorized", "Unauthorized")
    }

    pub(super) fn not_found(plural: &str, name: &str) -> Refusal {
        Refusal::new(404, "NotFound", format!("{plural} {name:?} not found")).about(plural, name)
    }

    /// There is no such resource at all.
    pub(super) fn no_resource() -> Refusal {
        let refusal = Refusal::new(404, "NotFound", "the server could not find the requested resource");
        Refusal { details: Some(json!({})), ..refusal }
    }

    pub(super) fn no_method() -> Refusal {
        let message = "the server does not allow this method on the requested resource";
        Refusal { details: Some(json!({})), ..Refusal::new(405, "MethodNotAllowed", message) }
    }

    pub(super) fn exists(plural: &str, name: &str) -> Refusal {
        Refusal::new(409, "AlreadyExists", format!("{plural} {name:?} already exists")).about(plural, name)
    }

    pub(super) fn conflict(plural: &str, name: &str) -> Refusal {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        let message = format!("Operation cannot be fulfilled on {plural} {name:?}: {why}");
        Refusal::new(409, "Conflict", message).about(plural, name)
    }

    pub(super) fn forbidden(plural: &str, name: &str, why: &str) -> Refusal {
        let message = format!("{plural} {name:?} is forbidden: {why}");
        Refusal::new(403, "Forbidden", message).about(plural, name)
    }

    /// `causes` are (field, reason, sentence), the last as in a `Status`'s causes.
    pub(super) fn invalid(kind: &str, name: &str, causes: &[(String, &'static str, String)]) -> Refusal {
        let told: Vec<_> = causes.iter().map(|(field, _, why)| format!("{field}: {why}")).collect();
        let all = match told.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let causes: Vec<_> = causes
            .iter()
            .map(|(field, reason, why)| json!({ "reason": reason, "message": why, "field": field }))
            .collect();
        let message = format!("{kind} {name:?} is invalid: {all}");
        let mut refusal = Refusal::new(422, "Invalid", message);
        refusal.details = Some(json!({ "name": name, "kind": kind, "causes": causes }));
        refusal
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Refusal {
        Refusal::new(400, "BadRequest", message)
    }

    pub(super) fn media_type() -> Refusal {
        let refusal = Refusal::new(415, "UnsupportedMediaType", "415: Unsupported Media Type");
        Refusal { details: Some(json!({})), ..refusal }
    }

    pub(super) fn expired(asked: u64, oldest: u64) -> Refusal {
        Refusal::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    pub(super) fn internal(message: impl std::fmt::Display) -> Refusal {
        Refusal::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    pub(super) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (code, Json(self.status())).into_response()
    }
}
