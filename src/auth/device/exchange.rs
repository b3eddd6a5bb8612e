//! The two requests of RFC 8628: for a code, and, again and again, for what became of it.
//!
//! The types and the rules of polling are `oauth2`'s; the HTTP is the issuer's own client, so that its limits hold here
//! too. A provider that is away for a moment (no answer, or a 5xx from what stands before it) is asked again later; one
//! that answers nonsense is not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AsyncHttpClient, ClientId, ClientSecret, DeviceAuthorizationUrl, DeviceCodeErrorResponseType, EndpointNotSet,
    EndpointSet, ExtraTokenFields, HttpRequest, HttpResponse, RequestTokenError, Scope,
    StandardDeviceAuthorizationResponse, StandardRevocableToken, StandardTokenResponse, TokenUrl,
};
use serde::{Deserialize, Serialize};

use super::DeviceRefusal;
use crate::auth::Secret;
use crate::auth::name::shown;
use crate::auth::token::{Document, Provider, Unavailable, bounded, cause};

/// A provider that asks for no pause between two requests gets one all the same.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

type Client = oauth2::Client<
    BasicErrorResponse,
    StandardTokenResponse<Fields, BasicTokenType>,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// What OpenID Connect adds to OAuth's answer.
#[derive(Debug, Serialize, Deserialize)]
struct Fields {
    id_token: Option<Secret>,
}

impl ExtraTokenFields for Fields {}

/// How the provider answers while a login waits.
#[derive(Debug, Default)]
pub(super) struct Weather {
    slowed: AtomicBool,
    away: Mutex<Option<Unavailable>>,
}

impl Weather {
    /// Whether the provider has asked for more patience since the last call.
    pub(super) fn was_slowed(&self) -> bool {
        self.slowed.swap(false, Ordering::Relaxed)
    }

    /// Why the last request had no answer, if it had none.
    pub(super) fn away(&self) -> Option<Unavailable> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) struct Exchange {
    client: Client,
    http: reqwest::Client,
}

impl Exchange {
    pub(super) fn new(
        client_id: &str,
        client_secret: Option<ClientSecret>,
        provider: &Provider,
        document: &Document,
    ) -> Result<Exchange, DeviceRefusal> {
        let named = |endpoint: &Option<String>, name| endpoint.clone().ok_or(DeviceRefusal::Unsupported(name));
        let device = named(&document.device_authorization_endpoint, "device_authorization_endpoint")?;
        let token = named(&document.token_endpoint, "token_endpoint")?;
        let (device, token) = (provider.url(&device)?, provider.url(&token)?);
        let mut client = oauth2::Client::new(ClientId::new(client_id.to_owned()))
            .set_device_authorization_url(DeviceAuthorizationUrl::from_url(device))
            .set_token_uri(TokenUrl::from_url(token));
        if let Some(secret) = client_secret {
            client = client.set_client_secret(secret);
        }
        Ok(Exchange { client, http: provider.client().clone() })
    }

    pub(super) async fn begin(&self, scopes: Vec<Scope>) -> Result<StandardDeviceAuthorizationResponse, DeviceRefusal> {
        let unheard = Weather::default();
        let http = Http { client: &self.http, weather: &unheard };
        let asked = self.client.exchange_device_code().add_scopes(scopes).request_async(&http).await;
        asked.map_err(|error| match error {
            RequestTokenError::Request(unavailable) => DeviceRefusal::Unavailable(unavailable),
            RequestTokenError::ServerResponse(answer) => DeviceRefusal::Refused(shown(answer.error().as_ref())),
            RequestTokenError::Parse(error, _) => DeviceRefusal::Broken(error.to_string()),
            RequestTokenError::Other(problem) => DeviceRefusal::Broken(problem),
        })
    }

    /// Asks until the person has decided. `weather` tells meanwhile how the provider answers.
    pub(super) async fn poll(
        &self,
        answer: &StandardDeviceAuthorizationResponse,
        weather: &Weather,
    ) -> Result<Secret, DeviceRefusal> {
        let http = Http { client: &self.http, weather };
        let asking = self.client.exchange_device_access_token(answer);
        let pause = |wanted: Duration| tokio::time::sleep(wanted.max(SHORTEST_PAUSE));
        let response = asking.request_async(&http, pause, None).await.map_err(|error| match error {
            RequestTokenError::Request(unavailable) => DeviceRefusal::Unavailable(unavailable),
            RequestTokenError::ServerResponse(answer) => match answer.error() {
                DeviceCodeErrorResponseType::AccessDenied => DeviceRefusal::Denied,
                DeviceCodeErrorResponseType::ExpiredToken => DeviceRefusal::Expired,
                other => DeviceRefusal::Refused(shown(other.as_ref())),
            },
            // What comes with it is the answer itself, in which a token may stand.
            RequestTokenError::Parse(..) => DeviceRefusal::Broken("its answer is not what it should be".to_owned()),
            RequestTokenError::Other(problem) => DeviceRefusal::Broken(problem),
        })?;
        response.extra_fields().id_token.clone().ok_or(DeviceRefusal::NoToken)
    }
}

/// The issuer's client, as `oauth2` asks for it, with the answers' size bounded.
struct Http<'a> {
    client: &'a reqwest::Client,
    weather: &'a Weather,
}

impl Http<'_> {
    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, Unavailable> {
        let request = reqwest::Request::try_from(request).map_err(|error| Unavailable(cause(&error)))?;
        let answer = self.client.execute(request).await.map_err(|error| Unavailable(cause(&error)))?;
        let status = answer.status();
        if status.is_server_error() {
            return Err(Unavailable(format!("it answers {status}")));
        }
        let kind = answer.headers().get(http::header::CONTENT_TYPE).cloned();
        let body = bounded(answer).await?;
        if status.is_client_error() && memchr::memmem::find(&body, b"\"slow_down\"").is_some() {
            self.weather.slowed.store(true, Ordering::Relaxed);
        }
        let mut response = HttpResponse::new(body);
        *response.status_mut() = status;
        response.headers_mut().extend(kind.map(|kind| (http::header::CONTENT_TYPE, kind)));
        Ok(response)
    }
}

impl<'c> AsyncHttpClient<'c> for Http<'_> {
    type Error = Unavailable;
    type Future = BoxFuture<'c, Result<HttpResponse, Unavailable>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let answer = self.ask(request).await;
            *self.weather.away.lock().unwrap_or_else(PoisonError::into_inner) = answer.as_ref().err().cloned();
            answer
        })
    }
}
