//! Where clients come in: plain TCP, and a WebSocket through the company's gateway.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::duration;

/// The TCP listener.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Listen {
    pub address: SocketAddr,
    /// Load balancers, which must begin each connection with a PROXY protocol header; nobody else may.
    pub proxy_protocol_from: Vec<IpNet>,
    /// From a load balancer's connection to the end of its header.
    #[serde(with = "duration")]
    pub proxy_protocol_deadline: Duration,
}

impl Default for Listen {
    fn default() -> Listen {
        Listen {
            address: SocketAddr::from(([0, 0, 0, 0], 2222)),
            proxy_protocol_from: Vec::new(),
            proxy_protocol_deadline: Duration::from_secs(5),
        }
    }
}

/// The HTTP listener: SSH in a WebSocket, from a gateway that brings the person's token.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Http {
    /// None: it is off.
    pub address: Option<SocketAddr>,
    /// The last segment of the WebSocket's path; what a gateway leaves before it does not matter.
    pub path: String,
    /// The request header with the person's id_token, and what stands before the token in it.
    pub token_header: String,
    pub token_prefix: String,
    /// Gateways that may bring a token, by their network.
    pub trusted_networks: Vec<IpNet>,
    /// The request header in which a trusted gateway says who its client is (`X-Forwarded-For`, `X-Real-IP`).
    pub client_address_header: Option<String>,
    /// For TLS: the certificate's chain and its key, in PEM; re-read when they change.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// CAs of gateways' client certificates, which may bring a token from any network; re-read when it changes.
    pub client_ca: Option<PathBuf>,
    /// From a connection's beginning to the answer, the TLS handshake and the token's verification included.
    #[serde(with = "duration")]
    pub request_deadline: Duration,
    /// A request's line and headers, in bytes.
    pub max_request_header: usize,
    /// Connections that are not WebSockets yet, from trusted networks; and as many from elsewhere.
    pub max_connections: usize,
    /// How often a WebSocket's client is asked whether it lives.
    #[serde(with = "duration")]
    pub ping_interval: Duration,
}

impl Default for Http {
    fn default() -> Http {
        Http {
            address: None,
            path: "/ssh".to_owned(),
            token_header: "Authorization".to_owned(),
            token_prefix: "Bearer ".to_owned(),
            trusted_networks: Vec::new(),
            client_address_header: None,
            certificate: None,
            key: None,
            client_ca: None,
            request_deadline: Duration::from_secs(15),
            max_request_header: 32 * 1024,
            max_connections: 200,
            ping_interval: Duration::from_secs(20),
        }
    }
}

impl Http {
    /// The first key that cannot be used, and what would be right.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let segment = self.path.strip_prefix('/').unwrap_or_default();
        if segment.is_empty() || !segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return Err(("http.path", format!("`{}` is not one segment, as in \"/ssh\"", self.path)));
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err(("http.certificate", "goes with http.key: name both or none".into()));
        }
        if self.client_ca.is_some() && self.certificate.is_none() {
            return Err(("http.client-ca", "needs TLS: name http.certificate and http.key as well".into()));
        }
        if self.address.is_some() && self.trusted_networks.is_empty() && self.client_ca.is_none() {
            return Err((
                "http.trusted-networks",
                "is empty and there is no http.client-ca, so nobody may bring a token: name the gateway's network"
                    .into(),
            ));
        }
        // hyper takes no smaller buffer.
        if self.max_request_header < 8192 {
            return Err(("http.max-request-header", "is less than 8192, which a token may need".into()));
        }
        if self.max_connections == 0 || self.ping_interval.is_zero() {
            return Err(("http.max-connections", "and http.ping-interval must be more than 0".into()));
        }
        Ok(())
    }

    /// The files that it names.
    pub(super) fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.certificate.iter_mut().chain(&mut self.key).chain(&mut self.client_ca)
    }
}
