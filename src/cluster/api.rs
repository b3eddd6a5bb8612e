//! The API server: how it is reached, and for how long an answer is waited for.
//!
//! Plain requests have a deadline and a few tries; streams have neither, since they live as long as a session.

use std::future::Future;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::error::{ConnectError, Refused, chain};
use crate::authorize::Reviewer;
use crate::config;

/// Tries of one request, where the API server is busy, restarting, or behind a load balancer that is.
const TRIES: u32 = 4;
/// Before the second try; doubled before each further one. Together well under the few seconds in which a person wants
/// to know.
const PAUSE: Duration = Duration::from_millis(200);

/// One API server.
#[derive(Clone)]
pub struct ApiServer {
    client: Client,
    request_timeout: Duration,
}

impl ApiServer {
    /// Reads the kubeconfig or the pod's own account. Sends nothing yet.
    pub async fn open(settings: &config::Cluster) -> Result<ApiServer, ConnectError> {
        let mut config = match &settings.kubeconfig {
            Some(file) => {
                let wrong = |error: &dyn std::error::Error| {
                    let key = "cluster.kubeconfig";
                    ConnectError::new("kubeconfig", format!("cannot use {} ({key}): {}", file.display(), chain(error)))
                };
                let kubeconfig = Kubeconfig::read_from(file).map_err(|error| wrong(&error))?;
                let options = KubeConfigOptions { context: settings.context.clone(), ..KubeConfigOptions::default() };
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| wrong(&error))?
            }
            None => Config::incluster().map_err(|error| {
                let advice = "set cluster.kubeconfig, or run in a pod with a service account";
                ConnectError::new("kubeconfig", format!("not in a cluster, {advice}: {}", chain(&error)))
            })?,
        };
        config.connect_timeout = Some(settings.connect_timeout);
        // A stream may be silent for hours, in both directions.
        config.read_timeout = None;
        // kube would try 15 times, for minutes, while somebody waits at a prompt.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| {
            ConnectError::new("kubeconfig", format!("cannot use the kubeconfig: {}", chain(&error)))
        })?;
        Ok(ApiServer { client, request_timeout: settings.request_timeout })
    }

    /// The same, to be asked who may do what.
    pub fn reviewer(&self) -> Reviewer {
        Reviewer::new(self.client())
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Sends a request that may be sent twice without harm, and again where the API server is not there. `doing` says for
    /// the operator what was tried.
    pub(super) async fn ask<T, F>(&self, doing: &str, request: impl Fn(Client) -> F) -> Result<T, Refused>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let all = async {
            let mut pause = PAUSE;
            let mut tries = 1;
            loop {
                match request(self.client()).await {
                    Err(error) if tries < TRIES && is_passing(&error) => {
                        tracing::debug!(error = chain(&error), tries, "{doing}: trying again");
                        tokio::time::sleep(pause).await;
                        tries += 1;
                        pause *= 2;
                    }
                    answer => return answer.map_err(|error| Refused::new(&error, doing)),
                }
            }
        };
        let answer = tokio::time::timeout(self.request_timeout, all).await;
        answer.unwrap_or_else(|_| Err(Refused::late(doing, self.request_timeout)))
    }
}

/// Whether the same request may succeed a moment later.
pub(super) fn is_passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => {
            matches!(status.code, 409 | 429 | 502 | 503 | 504) || status.code == 500 && status.reason == "ServerTimeout"
        }
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}
