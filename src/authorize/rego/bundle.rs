//! A bundle that is fetched from a server, and fetched again when it has changed there.
//!
//! Guards: until the first bundle has come, nobody is allowed anything, and whoever asks waits for it as long as a
//! question may take; after that the last good one stays, whatever the server says.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use reqwest::{Method, StatusCode, Url};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::Policy;
use super::source::Source;
use crate::authorize::Unavailable;
use crate::authorize::http::{Http, Unusable};
use crate::config::authorize::Server;

/// Packed. A bundle of this size holds every binding of a very large company.
const BUNDLE_MAX_BYTES: usize = 16 << 20;

/// For one look at the server.
const FETCH_MAX: Duration = Duration::from_secs(30);

/// The newest bundle that was good.
pub(super) struct Fetched {
    policy: watch::Receiver<Option<Arc<Policy>>>,
    changes: watch::Receiver<u64>,
    /// Looking ends when this is dropped.
    _poller: AbortOnDropHandle<()>,
}

struct Poller {
    http: Http,
    url: Url,
    rule: String,
    etag: Option<HeaderValue>,
}

impl Fetched {
    /// Begins to look for bundles, at once and then every `pause`.
    pub(super) fn open(server: &Server, pause: Duration, rule: String) -> Result<Fetched, Unusable> {
        // The bundle's address is the whole `url`; what `Http` asks for is a path of a server.
        let whole: Url = server.url.parse().map_err(|error| Unusable(format!("bundle.url is no address: {error}")))?;
        let http = Http::new(server)?.with_answers_up_to(BUNDLE_MAX_BYTES);
        let mut poller = Poller { http, url: whole, rule, etag: None };
        let (tell_policy, policy) = watch::channel(None);
        let (tell_change, changes) = watch::channel(0);
        let polling = async move {
            let mut ticks = interval(pause);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let fetched = timeout(FETCH_MAX, poller.look()).await;
                match fetched.unwrap_or_else(|_| Err(format!("no bundle within {FETCH_MAX:?}"))) {
                    Ok(Some(policy)) => {
                        tell_policy.send_replace(Some(Arc::new(policy)));
                        tell_change.send_modify(|generation| *generation += 1);
                        tracing::info!(url = %poller.url, "took a new bundle");
                    }
                    Ok(None) => {}
                    Err(problem) => {
                        tracing::error!(url = %poller.url, problem, "no new bundle, the last good one stays in force");
                    }
                }
            }
        };
        Ok(Fetched { policy, changes, _poller: AbortOnDropHandle::new(tokio::spawn(polling)) })
    }

    /// The policy of the newest good bundle; waits for the first one.
    pub(super) async fn current(&self) -> Result<Arc<Policy>, Unavailable> {
        let mut policy = self.policy.clone();
        let first = policy.wait_for(Option::is_some).await;
        let first = first.ok().and_then(|policy| policy.clone());
        first.ok_or_else(|| Unavailable("no bundle has come yet".to_owned()))
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

impl Poller {
    /// A bundle that is another one than before; none where it is the same.
    async fn look(&mut self) -> Result<Option<Policy>, String> {
        let known = self.etag.clone().map(|etag| (IF_NONE_MATCH, etag));
        let headers = HeaderMap::from_iter(known);
        let answer = self.http.send(Method::GET, self.url.clone(), headers, Vec::new()).await;
        let answer = answer.map_err(|Unavailable(why)| why)?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED => return Ok(None),
            _ => return Err(answer.unexpected().0),
        }
        let rule = self.rule.clone();
        let (body, etag) = (answer.body, answer.headers.get(ETAG).cloned());
        let compiled = tokio::task::spawn_blocking(move || Policy::load(&Source::of_bundle(&body)?, &rule));
        let policy = compiled.await.map_err(|error| error.to_string())?.map_err(|Unusable(why)| why);
        // A bundle that is broken is not fetched again either, until there is another.
        self.etag = etag;
        policy.map(Some)
    }
}
