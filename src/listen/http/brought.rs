//! A person's request, brought by a gateway.
//!
//! Two things make a `Brought`, and it is made nowhere else: the gateway is one that may bring a token, by its network or
//! its certificate, and the token is proved here, whatever the gateway has checked. A route that takes one as an argument
//! is closed to everybody else; each refusal is in the audit trail before it is answered.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode};

use super::{Origin, Refusal, client_address};
use crate::audit::{Audit, ConnectionId, Event};
use crate::auth::Identity;
use crate::auth::token::Tokens;
use crate::config;
use crate::listen::Gateway;

/// The way in for gateways' requests: the state of every route that takes a `Brought`, or a part of it.
pub struct Entrance {
    settings: config::Http,
    token_header: HeaderName,
    address_header: Option<HeaderName>,
    tokens: Arc<Tokens>,
    audit: Arc<Audit>,
}

/// The request of somebody who is proved.
pub struct Brought {
    pub connection: ConnectionId,
    pub identity: Identity,
    /// The client's own address.
    pub peer: SocketAddr,
    pub gateway: Gateway,
}

/// A configured header that no request could have.
#[derive(Debug, thiserror::Error)]
#[error("{key}: `{name}` is no name of a header")]
pub struct EntranceError {
    key: &'static str,
    name: String,
}

impl Entrance {
    pub fn new(settings: &config::Http, tokens: Arc<Tokens>, audit: Arc<Audit>) -> Result<Entrance, EntranceError> {
        let header = |key, name: &str| {
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| EntranceError { key, name: name.to_owned() })
        };
        let token_header = header("http.token-header", &settings.token_header)?;
        let address_header = settings.client_address_header.as_deref();
        let address_header = address_header.map(|name| header("http.client-address-header", name)).transpose()?;
        Ok(Entrance { settings: settings.clone(), token_header, address_header, tokens, audit })
    }

    pub fn settings(&self) -> &config::Http {
        &self.settings
    }

    /// Records that somebody was not let in; what the client hears is the caller's to say.
    pub async fn record_refusal(&self, connection: &ConnectionId, event: &Event) {
        tracing::debug!(%connection, ?event, "a request was refused");
        if let Err(error) = self.audit.record(connection, None, event).await {
            tracing::error!(%connection, %error, ?event, "an event is missing from the audit trail");
        }
    }

    async fn admit(&self, origin: Origin, headers: &HeaderMap) -> Result<Brought, Refusal> {
        let connection = ConnectionId::random();
        let trusted = &self.settings.trusted_networks;
        let known = origin.certified || trusted.iter().any(|network| network.contains(&origin.address.ip()));
        if !known {
            let detail = "it is in none of http.trusted-networks, and has shown no certificate of http.client-ca";
            let refused =
                Event::ConnectionRefused { peer: origin.address, code: "gateway_untrusted", detail: detail.to_owned() };
            self.record_refusal(&connection, &refused).await;
            let line = "this door is for the gateway: use its address, not porthole's own";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "gateway_untrusted", line));
        }
        let peer = match &self.address_header {
            Some(name) => client_address::behind(origin.address, headers, name, trusted),
            None => origin.address,
        };
        match self.identify(headers).await {
            Ok(identity) => {
                let gateway = Gateway { address: origin.address, reference: None };
                Ok(Brought { connection, identity, peer, gateway })
            }
            Err((refusal, detail)) => {
                let refused = Event::LoginRefused {
                    peer,
                    login: String::new(),
                    method: "token",
                    code: refusal.code(),
                    detail: format!("{detail} (brought by {})", origin.address),
                };
                self.record_refusal(&connection, &refused).await;
                Err(refusal)
            }
        }
    }

    /// Who it is; or what to answer, and what the operator should know.
    async fn identify(&self, headers: &HeaderMap) -> Result<Identity, (Refusal, String)> {
        let token = self.token(headers)?;
        self.tokens.verify(token).await.map_err(|refusal| {
            let detail = refusal.to_string();
            let answer = match refusal.code() {
                code @ "issuer_unavailable" => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, refusal.person()),
                code => Refusal::unauthorized(code, refusal.person()),
            };
            (answer, detail)
        })
    }

    fn token<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, (Refusal, String)> {
        let refused = |code, person: &str, detail: String| (Refusal::unauthorized(code, person), detail);
        let mut lines = headers.get_all(&self.token_header).iter();
        let missing = || {
            let line = "the gateway has brought no token: log in there, and come through it";
            refused("token_missing", line, format!("the request has no {}", self.token_header))
        };
        let line = lines.next().ok_or_else(missing)?;
        if lines.next().is_some() {
            // Which one the gateway has checked, and which one the client has put there, nobody can tell.
            let detail = format!("the request has {} more than once", self.token_header);
            return Err(refused(
                "token_ambiguous",
                "the request brings more than one token: send none of your own",
                detail,
            ));
        }
        let prefix = self.settings.token_prefix.as_bytes();
        // The scheme's case means nothing (RFC 9110 section 11.1).
        let (scheme, token) = line.as_bytes().split_at_checked(prefix.len()).unwrap_or_default();
        let token = std::str::from_utf8(token).unwrap_or_default().trim();
        if !scheme.eq_ignore_ascii_case(prefix) || token.is_empty() {
            return Err(missing());
        }
        Ok(token)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Brought
where
    Arc<Entrance>: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Brought, Refusal> {
        let entrance = Arc::from_ref(state);
        let origin = *parts.extensions.get::<Origin>().expect("the listener puts one into each request");
        entrance.admit(origin, &parts.headers).await
    }
}
