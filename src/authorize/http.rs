//! One server of the company's own, asked over HTTP.
//!
//! Guards: nothing goes out but to the address that the configuration names, by TLS or to loopback: no redirect is
//! followed and no proxy stands between. An answer is bounded. Certificates and keys are those on the disk: they are
//! re-read when they change, and a bearer token for each request.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Identity, Method, StatusCode, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Unavailable;
use crate::config::authorize::Server;
use crate::outgoing::{self, cause};
use crate::watched::Watched;

/// The decisions of a list with room to spare; a server that sends more is not answering the question.
pub(super) const ANSWER_MAX_BYTES: usize = 1 << 20;

/// A connection that takes longer is given up, even where the question that wanted it has gone already.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server, and how to ask it.
pub(super) struct Http {
    url: String,
    client: Source,
    token_file: Option<PathBuf>,
    answer_max_bytes: usize,
}

/// The client: of files that may change, or of none.
enum Source {
    Fixed(Client),
    Watched(Watched<Client>),
}

/// What came back, whatever the status says.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Something that cannot be set up. The text says what is wrong and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unusable(pub(super) String);

impl From<notify::Error> for Unusable {
    fn from(error: notify::Error) -> Unusable {
        Unusable(format!("cannot watch the folder of its files for changes: {error}"))
    }
}

impl Http {
    /// Reads its certificates; sends nothing.
    pub(super) fn new(server: &Server) -> Result<Http, Unusable> {
        let files: Vec<_> =
            [&server.ca_file, &server.certificate, &server.key].into_iter().flatten().cloned().collect();
        let client = match files.is_empty() {
            true => Source::Fixed(client(server)?),
            false => {
                let server = server.clone();
                Source::Watched(Watched::open("authorizer's certificates", &files, move || client(&server))?)
            }
        };
        let http = Http {
            url: server.url.trim_end_matches('/').to_owned(),
            client,
            token_file: server.token_file.clone(),
            answer_max_bytes: ANSWER_MAX_BYTES,
        };
        http.at("/")?;
        Ok(http)
    }

    /// The same, for answers of another size.
    pub(super) fn with_answers_up_to(self, answer_max_bytes: usize) -> Http {
        Http { answer_max_bytes, ..self }
    }

    /// The address of a path there, which must begin with a slash.
    pub(super) fn at(&self, path: &str) -> Result<Url, Unusable> {
        if !path.starts_with('/') {
            return Err(Unusable(format!("path {path:?} must begin with a slash")));
        }
        let url = format!("{}{path}", self.url);
        url.parse().map_err(|error| Unusable(format!("{url:?} is no address: {error}")))
    }

    /// Sends a document.
    pub(super) async fn post(&self, url: &Url, document: &impl Serialize) -> Result<Answer, Unavailable> {
        let body = serde_json::to_vec(document).map_err(|error| Unavailable(format!("cannot be asked: {error}")))?;
        self.send(Method::POST, url.clone(), json_headers(), body).await
    }

    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        mut headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, Unavailable> {
        if let Some(file) = &self.token_file {
            headers.insert(AUTHORIZATION, bearer(&read_secret(file).await?)?);
        }
        let client = match &self.client {
            Source::Fixed(client) => client.clone(),
            Source::Watched(client) => Client::clone(&client.current()),
        };
        let response = client.request(method, url).headers(headers).body(body).send().await;
        let mut response = response.map_err(|error| Unavailable(cause(&error)))?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let body = outgoing::bounded(response, self.answer_max_bytes).await.map_err(Unavailable)?;
        Ok(Answer { status, headers, body })
    }
}

impl Answer {
    /// The document of a 200; anything else is no answer.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Unavailable> {
        if self.status != StatusCode::OK {
            return Err(self.unexpected());
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| Unavailable(format!("its answer is not what it should be: {error}")))
    }

    pub(super) fn unexpected(&self) -> Unavailable {
        Unavailable(format!("it answers {}", self.status))
    }
}

pub(super) fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

/// `Authorization: Bearer …`, which no log of a client shows.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, Unavailable> {
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value.map_err(|_| Unavailable("the token for it is none: it has control characters".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A secret in a file, without the line break at its end.
pub(super) async fn read_secret(file: &Path) -> Result<String, Unavailable> {
    match tokio::fs::read_to_string(file).await {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(error) => Err(Unavailable(format!("cannot read {}: {error}", file.display()))),
    }
}

fn client(server: &Server) -> Result<Client, Unusable> {
    let mut client = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(Duration::from_secs(30))
        .user_agent(concat!("porthole/", env!("CARGO_PKG_VERSION")));
    if server.url.starts_with("http://") {
        // Needs no roots, which an image without any would fail for.
        client = client.tls_certs_only([]);
    } else {
        client = client.https_only(true);
    }
    if let Some(file) = &server.ca_file {
        let roots = outgoing::roots(file).map_err(|error| Unusable(format!("{}: {error}", file.display())))?;
        client = client.tls_certs_only(roots);
    }
    if let (Some(certificate), Some(key)) = (&server.certificate, &server.key) {
        let read = |file: &Path| {
            std::fs::read(file).map_err(|error| Unusable(format!("cannot read {}: {error}", file.display())))
        };
        let mut pem = read(certificate)?;
        pem.push(b'\n');
        pem.extend(read(key)?);
        let identity = Identity::from_pem(&pem)
            .map_err(|error| Unusable(format!("{} and {}: {}", certificate.display(), key.display(), cause(&error))))?;
        client = client.identity(identity);
    }
    client.build().map_err(|error| Unusable(format!("cannot make a client: {}", cause(&error))))
}
