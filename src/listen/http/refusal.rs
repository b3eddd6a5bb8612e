//! A request that is refused: a status, a stable code and a sentence, as JSON.
//!
//! The sentence is for the person behind the gateway, and says nothing that a stranger could use.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderValue};
use http::{HeaderName, StatusCode};
use serde_json::json;

/// The refusal.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    code: &'static str,
    person: String,
    /// One more header. Boxed, since a refusal is the small side of many results.
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Refusal {
    pub fn new(status: StatusCode, code: &'static str, person: impl Into<String>) -> Refusal {
        Refusal { status, code, person: person.into(), header: None }
    }

    /// Nobody is proved: a token is missing, or refused (RFC 6750 section 3.1).
    pub fn unauthorized(code: &'static str, person: impl Into<String>) -> Refusal {
        let challenge = match code {
            "token_missing" => "Bearer".to_owned(),
            code => format!("Bearer error=\"invalid_token\", error_description=\"{code}\""),
        };
        let challenge = HeaderValue::from_str(&challenge).unwrap_or(HeaderValue::from_static("Bearer"));
        Refusal::new(StatusCode::UNAUTHORIZED, code, person).with(header::WWW_AUTHENTICATE, challenge)
    }

    pub fn with(self, name: HeaderName, value: HeaderValue) -> Refusal {
        Refusal { header: Some(Box::new((name, value))), ..self }
    }

    pub fn code(&self) -> &'static str {
        self.code
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "code": self.code, "message": self.person }))).into_response();
        if let Some(header) = self.header {
            let (name, value) = *header;
            response.headers_mut().insert(name, value);
        }
        response
    }
}
