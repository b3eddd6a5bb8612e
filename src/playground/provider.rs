//! The playground's identity provider: so much of OpenID Connect that a newcomer can try the device login (RFC 8628).
//!
//! Its people are made up, and whoever approves a code chooses which of them they are. As every one of them who logs in
//! runs commands as the user who started the playground, approving takes a password that is made anew at each start
//! and stands in a file that only that user reads; it listens on loopback, and a page of another site can have nothing
//! approved by its visitor's browser.
//!
//! `code` is who waits for what, `page` what a person sees, `signer` the key and the tokens.

mod code;
mod page;
mod signer;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Form, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::kit::Kit;
use code::{Codes, Fate};
use signer::Signer;

/// The one client that the provider knows: Porthole, by the name that its configuration has as the default.
const CLIENT: &str = "porthole";
/// A person with a browser and a bastion that polls need a few.
const CONNECTIONS_MAX: usize = 64;
/// For one connection, which carries one request.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// Forms with a code and a name in them.
const BODY_MAX_BYTES: usize = 4096;

/// Somebody whom the provider vouches for. Nobody real.
pub(super) struct Person {
    pub subject: &'static str,
    pub name: &'static str,
    pub groups: &'static [&'static str],
    /// What the playground's policy makes of the groups.
    pub may: &'static str,
}

const PEOPLE: [Person; 3] = [
    Person { subject: "mia", name: "Mia", groups: &["developers"], may: "everything in demo, team and restricted" },
    Person { subject: "noor", name: "Noor", groups: &["support"], may: "shells and commands in demo" },
    Person { subject: "sam", name: "Sam", groups: &["contractors"], may: "nothing yet" },
];

/// A provider that runs.
pub struct Provider {
    office: Arc<Office>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

/// What every request sees.
struct Office {
    /// `127.0.0.1:PORT`, as a browser that means it says in `Host`.
    host: String,
    password: String,
    signer: Signer,
    codes: Mutex<Codes>,
}

impl Provider {
    /// Starts on a free port of loopback, with a key and a password of its own in the kit's folder.
    ///
    /// # Errors
    ///
    /// If the key or the password cannot be made, or no port be had.
    pub async fn start(kit: &Kit) -> io::Result<Provider> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let host = listener.local_addr()?.to_string();
        let signer = Signer::new(&format!("http://{host}"), &kit.make_provider_key().await?)?;
        let password = format!("{:016x}", rand::random::<u64>());
        kit.keep_password(&password)?;
        let office = Arc::new(Office { host, password, signer, codes: Mutex::default() });
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(accept(listener, router(Arc::clone(&office)), stopping.clone(), tasks.clone()));
        Ok(Provider { office, stopping, tasks })
    }

    /// The issuer, which is also where its pages are.
    #[must_use]
    pub fn url(&self) -> &str {
        self.office.signer.issuer()
    }

    /// What approving a code takes.
    pub(super) fn password(&self) -> &str {
        &self.office.password
    }

    /// Returns when nothing of it runs any more.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Office {
    fn codes(&self) -> MutexGuard<'_, Codes> {
        // What a panic left behind is still a list of codes.
        self.codes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn router(office: Arc<Office>) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/keys", get(keys))
        .route("/device/code", post(begin))
        .route("/token", post(token))
        .route("/device", get(page::show).post(page::decide))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(office)
}

async fn accept(listener: TcpListener, router: Router, stopping: CancellationToken, tasks: TaskTracker) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(seat) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the identity provider takes no connections any more");
                    return;
                }
            },
            () = stopping.cancelled() => return,
        };
        let service = TowerToHyperService::new(router.clone());
        let mut connection = hyper::server::conn::http1::Builder::new();
        let served = connection.keep_alive(false).serve_connection(TokioIo::new(stream), service);
        let stopping = stopping.clone();
        tasks.spawn(async move {
            tokio::select! {
                // Whoever leaves early, or dawdles, has no answer; nothing depends on it here.
                _ = tokio::time::timeout(REQUEST_DEADLINE, served) => {}
                () = stopping.cancelled() => {}
            }
            drop(seat);
        });
    }
}

async fn discovery(State(office): State<Arc<Office>>) -> Json<Value> {
    let issuer = office.signer.issuer();
    Json(json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/keys"),
        "device_authorization_endpoint": format!("{issuer}/device/code"),
        "token_endpoint": format!("{issuer}/token"),
        "grant_types_supported": [DEVICE_GRANT],
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }))
}

async fn keys(State(office): State<Arc<Office>>) -> Json<Value> {
    Json(json!({ "keys": [office.signer.public()] }))
}

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

#[derive(Deserialize)]
struct Begin {
    client_id: String,
}

/// RFC 8628 section 3.1.
async fn begin(State(office): State<Arc<Office>>, Form(wish): Form<Begin>) -> Response {
    if wish.client_id != CLIENT {
        return refusal("invalid_client");
    }
    let Some(begun) = office.codes().begin() else { return refusal("temporarily_unavailable") };
    let link = format!("{}/device", office.signer.issuer());
    private(Json(json!({
        "device_code": begun.device_code,
        "user_code": begun.user_code,
        "verification_uri": link,
        "verification_uri_complete": format!("{link}?user_code={}", begun.user_code),
        "expires_in": code::LIFETIME.as_secs(),
        "interval": 1,
    })))
}

#[derive(Deserialize)]
struct Ask {
    grant_type: String,
    client_id: String,
    device_code: String,
}

/// RFC 8628 section 3.4.
async fn token(State(office): State<Arc<Office>>, Form(wish): Form<Ask>) -> Response {
    if wish.client_id != CLIENT {
        return refusal("invalid_client");
    }
    if wish.grant_type != DEVICE_GRANT {
        return refusal("unsupported_grant_type");
    }
    let fate = office.codes().redeem(&wish.device_code);
    let person = match fate {
        Fate::Pending => return refusal("authorization_pending"),
        Fate::Denied => return refusal("access_denied"),
        Fate::Unknown => return refusal("expired_token"),
        Fate::Approved(person) => person,
    };
    match office.signer.id_token(person, CLIENT) {
        Ok(token) => private(Json(json!({
            "access_token": format!("{:032x}", rand::random::<u128>()),
            "token_type": "Bearer",
            "expires_in": signer::LIFETIME.as_secs(),
            "id_token": token,
        }))),
        Err(error) => {
            tracing::error!(%error, "the playground's identity provider cannot sign");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// RFC 6749 section 5.2.
fn refusal(word: &str) -> Response {
    let status =
        if word == "temporarily_unavailable" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST };
    (status, private(Json(json!({ "error": word })))).into_response()
}

/// An answer that nobody keeps.
fn private(answer: impl IntoResponse) -> Response {
    let mut answer = answer.into_response();
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
