//! `POST /certificate`: a certificate for a person whom a gateway has brought, for tools that have a token and no `ssh`.
//!
//! The body is the line of a `.pub` file, or JSON with it as `key`; the answer is the line of a `-cert.pub` file. Who it is
//! and whether they may is decided where it is for `ssh login@porthole cert`; this is another way there, and no more.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRef, Request, State};
use axum::response::Response;
use axum::routing::post;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use serde::Deserialize;

use super::http::{Brought, Entrance, Refusal};
use crate::audit::Event;
use crate::auth::issuer::{IssueError, Issuer, Kind, PUBLIC_KEY_MAX_BYTES, PublicKeyError, Wish, parse_public_key};

/// JSON may write each character of the key as `\u0041`.
const BODY_MAX_BYTES: usize = PUBLIC_KEY_MAX_BYTES * 6 + 64;

/// What the route needs.
#[derive(Clone)]
struct Counter {
    entrance: Arc<Entrance>,
    issuer: Arc<Issuer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    key: String,
}

impl FromRef<Counter> for Arc<Entrance> {
    fn from_ref(counter: &Counter) -> Arc<Entrance> {
        Arc::clone(&counter.entrance)
    }
}

/// The route.
pub fn route(entrance: Arc<Entrance>, issuer: Arc<Issuer>) -> Router {
    Router::new().route("/certificate", post(certify)).with_state(Counter { entrance, issuer })
}

async fn certify(State(counter): State<Counter>, brought: Brought, request: Request) -> Result<Response, Refusal> {
    // A page of anybody's could have one made in its visitor's name.
    if request.headers().contains_key(header::ORIGIN) {
        let refused = Event::LoginRefused {
            peer: brought.peer,
            login: String::new(),
            method: "token",
            code: "browser_refused",
            detail: format!("a page asked for a certificate in the browser of {}", brought.identity.subject()),
        };
        counter.entrance.record_refusal(&brought.connection, &refused).await;
        let line = "a browser gets no certificate here: use porthole login, or a tool of your own";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "browser_refused", line));
    }
    let is_json = is_json(request.headers());
    let body = to_bytes(request.into_body(), BODY_MAX_BYTES).await;
    let key = match body {
        Ok(body) if is_json => serde_json::from_slice::<Json>(&body)
            .map_err(|_| PublicKeyError::Malformed)
            .and_then(|json| parse_public_key(json.key.as_bytes())),
        Ok(body) => parse_public_key(&body),
        // Longer, or cut off; nobody reads the answer to that one.
        Err(_) => Err(PublicKeyError::TooLong),
    };
    let session = brought.connection.session(1);
    let wish = Wish {
        identity: &brought.identity,
        key,
        source: brought.peer.ip(),
        connection: &brought.connection,
        session: &session,
    };
    let issued = counter.issuer.issue(wish).await.map_err(|error| refusal(&error))?;
    let mut response = Response::new(Body::from(issued.line));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

fn refusal(error: &IssueError) -> Refusal {
    let status = match error.kind() {
        Kind::Malformed if matches!(error, IssueError::Key(PublicKeyError::TooLong)) => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::Malformed => StatusCode::BAD_REQUEST,
        Kind::Denied => StatusCode::FORBIDDEN,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    Refusal::new(status, error.code(), error.person())
}
