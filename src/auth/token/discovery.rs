//! Asking an identity provider: its discovery document, its keys, and (for a device login) its endpoints.
//!
//! Invariant: whatever the provider answers, an answer is bounded in size and time, no redirect is followed, and nothing
//! is asked unencrypted unless the issuer itself is on loopback.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Url, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::TokenSetupError;
use crate::config;
pub use crate::outgoing::cause;
use crate::outgoing::{self, RootsError};

/// Discovery documents have a few kilobytes, key sets with certificate chains some tens.
const ANSWER_MAX_BYTES: usize = 256 * 1024;

/// The provider's side of one issuer.
#[derive(Debug, Clone)]
pub struct Provider {
    issuer: String,
    client: Client,
    /// On loopback, without TLS.
    plain: bool,
}

/// What of OpenID Connect Discovery (section 3) and RFC 8628 section 4 is used here.
#[derive(Debug, Clone, Deserialize)]
pub struct Document {
    issuer: String,
    pub jwks_uri: String,
    pub token_endpoint: Option<String>,
    pub device_authorization_endpoint: Option<String>,
}

/// The provider gave no answer that could be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

impl Provider {
    /// Reads the extra root certificates; sends nothing.
    pub(super) fn new(config: &config::Issuer) -> Result<Provider, TokenSetupError> {
        let plain = config.url.starts_with("http://");
        let mut client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(config.request_timeout)
            .connect_timeout(config.request_timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("porthole/", env!("CARGO_PKG_VERSION")));
        if plain {
            // A proxy from the environment cannot reach this machine's loopback, and needs no TLS roots either, which an
            // image without any would fail for.
            client = client.no_proxy().tls_certs_only([]);
        } else {
            client = client.https_only(true);
        }
        if let Some(file) = &config.ca_file {
            let roots = outgoing::roots(file).map_err(|error| match error {
                RootsError::Unreadable(source) => TokenSetupError::Unreadable { file: file.clone(), source },
                RootsError::Empty => TokenSetupError::NoCertificate { file: file.clone() },
            })?;
            client = client.tls_certs_merge(roots);
        }
        let unusable = |error| TokenSetupError::Client { issuer: config.url.clone(), problem: cause(&error) };
        Ok(Provider { issuer: config.url.clone(), client: client.build().map_err(unusable)?, plain })
    }

    /// The discovery document, which must be this very issuer's: else a document of one provider could lend its name to
    /// the keys of another.
    pub async fn document(&self) -> Result<Document, Unavailable> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let document: Document = self.ask(self.client.get(self.url(&url)?)).await?;
        if document.issuer != self.issuer {
            let said = crate::auth::name::shown(&document.issuer);
            return Err(Unavailable(format!("its discovery document is for the issuer {said}")));
        }
        Ok(document)
    }

    /// A JSON document.
    pub async fn fetch<T: DeserializeOwned>(&self, url: &str) -> Result<T, Unavailable> {
        self.ask(self.client.get(self.url(url)?)).await
    }

    /// An address that may be asked.
    pub fn url(&self, url: &str) -> Result<Url, Unavailable> {
        let parsed: Url = url.parse().map_err(|_| Unavailable("it names an address that is none".to_owned()))?;
        match parsed.scheme() {
            "https" => Ok(parsed),
            "http" if self.plain => Ok(parsed),
            _ => Err(Unavailable("it names an address without https".to_owned())),
        }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Unavailable> {
        let response = request.send().await.map_err(|error| Unavailable(cause(&error)))?;
        let status = response.status();
        let body = bounded(response).await?;
        if !status.is_success() {
            return Err(Unavailable(format!("it answers {status}")));
        }
        serde_json::from_slice(&body)
            .map_err(|error| Unavailable(format!("its answer is not what it should be: {error}")))
    }
}

/// The body of a provider's answer.
pub async fn bounded(response: reqwest::Response) -> Result<Vec<u8>, Unavailable> {
    outgoing::bounded(response, ANSWER_MAX_BYTES).await.map_err(Unavailable)
}
