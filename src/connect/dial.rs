//! From a URL to an open WebSocket: the connection, TLS, and the one request.
//!
//! A server that refuses says why in its answer, which is read whole, within bounds, and told in one line.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::listen::Stream;

/// The longest answer of a server that refuses; Porthole's has some hundred bytes, a gateway's page some thousand.
const ANSWER_MAX_BYTES: usize = 64 * 1024;
/// As much of an answer that is not Porthole's as is shown, in characters.
const SHOWN_CHARS: usize = 200;

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("`{url}` is no address: use ws://HOST[:PORT]/PATH or wss://HOST[:PORT]/PATH")]
    Url { url: String },
    /// It is not repeated: a gateway's key may stand in it.
    #[error("a --header is none: use 'NAME: VALUE'")]
    Header,
    #[error("cannot use {file}: {problem}")]
    CaFile { file: String, problem: String },
    #[error("cannot trust anybody for wss://: this machine has no CA certificates, so name some with --ca-file")]
    NoRoots,
    #[error("cannot connect to {to}: {source}")]
    Connect { to: String, source: std::io::Error },
    #[error("{to} spoke no HTTP: {source}")]
    Http { to: String, source: hyper::Error },
    #[error("{to} refused with {status}: {said}")]
    Refused { to: String, status: StatusCode, said: String },
    #[error("{to} answered as a WebSocket server never would: is there a gateway that does not know them?")]
    NoWebSocket { to: String },
}

/// Porthole's own answer.
#[derive(serde::Deserialize)]
struct Refusal {
    code: String,
    message: String,
}

/// Opens the WebSocket; what comes next are its frames.
pub async fn dial(
    url: &str,
    token: Option<(HeaderName, HeaderValue)>,
    headers: &[String],
    ca_file: Option<&Path>,
) -> Result<impl Stream, DialError> {
    let wrong = || DialError::Url { url: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
    let (tls, port) = match uri.scheme_str() {
        Some("ws") => (false, 80),
        Some("wss") => (true, 443),
        _ => return Err(wrong()),
    };
    let (host, port) = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(port));
    let failed = |source| DialError::Connect { to: authority.to_string(), source };
    // Before anything is sent: what is wrong on the command line is no fault of the server's.
    let key = generate_key();
    let request = request(&uri, authority.as_str(), &key, token, headers)?;
    let tls = if tls { Some(tls_config(ca_file)?) } else { None };

    let tcp = TcpStream::connect((host, port)).await.map_err(failed)?;
    // Keystrokes are small packets; it fails on a connection that is gone.
    let _ = tcp.set_nodelay(true);
    let io: Box<dyn Stream> = match tls {
        None => Box::new(tcp),
        Some(config) => {
            let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
            Box::new(TlsConnector::from(config).connect(name, tcp).await.map_err(failed)?)
        }
    };
    let broken = |source| DialError::Http { to: authority.to_string(), source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
    // It ends with the WebSocket, or with the answer.
    tokio::spawn(connection.with_upgrades());
    let response = sender.send_request(request).await.map_err(broken)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (to, status) = (authority.to_string(), response.status());
        return Err(DialError::Refused { to, status, said: said(response).await });
    }
    if response.headers().get(header::SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes)
        != Some(derive_accept_key(key.as_bytes()).as_bytes())
    {
        return Err(DialError::NoWebSocket { to: authority.to_string() });
    }
    Ok(TokioIo::new(hyper::upgrade::on(response).await.map_err(broken)?))
}

fn request(
    uri: &Uri,
    authority: &str,
    key: &str,
    token: Option<(HeaderName, HeaderValue)>,
    more: &[String],
) -> Result<Request<Empty<Bytes>>, DialError> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let built = Request::builder()
        .uri(path)
        .header(header::HOST, authority)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, key)
        .body(Empty::new());
    let mut request = built.map_err(|_| DialError::Url { url: uri.to_string() })?;
    request.headers_mut().extend(token);
    for line in more {
        let (name, value) = line.split_once(':').ok_or(DialError::Header)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| DialError::Header)?;
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| DialError::Header)?;
        value.set_sensitive(true);
        request.headers_mut().append(name, value);
    }
    Ok(request)
}

fn tls_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, DialError> {
    let mut roots = RootCertStore::empty();
    // What cannot be read of the machine's own is missing then, and the handshake says it.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = ca_file {
        let unusable = |problem: String| DialError::CaFile { file: file.display().to_string(), problem };
        for root in CertificateDer::pem_file_iter(file).map_err(|error| unusable(error.to_string()))? {
            let root = root.map_err(|error| unusable(error.to_string()))?;
            roots.add(root).map_err(|error| unusable(error.to_string()))?;
        }
    }
    if roots.is_empty() {
        return Err(DialError::NoRoots);
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Why the server refused, by its own words.
async fn said(response: Response<Incoming>) -> String {
    let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let text = match serde_json::from_slice(&body) {
        Ok(Refusal { code, message }) => format!("{message} ({code})"),
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    // A gateway may answer with a page; one line of it must do, and nothing that moves a cursor.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text: String = text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
    if text.is_empty() { "it does not say why".to_owned() } else { text }
}
