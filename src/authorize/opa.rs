//! Open Policy Agent, by its Data API: the question is the `input`, the decision the `result`.
//!
//! Guards: a policy that says nothing of a question (`result` is missing: it is undefined) denies it; whatever is neither
//! that nor a decision is no answer.

use futures_util::future::BoxFuture;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer;
use super::guarded::Backend;
use super::http::{Http, Unusable};
use super::query::Timeless;
use super::{Decision, Query, Unavailable};
use crate::config;

/// Questions in one request, where there is a rule for lists.
const AT_ONCE: usize = 250;

/// A questioned OPA.
pub(super) struct Opa {
    http: Http,
    path: Url,
    batch_path: Option<Url>,
}

/// Beside `result`: `decision_id`, `metrics` and more, as OPA is configured.
#[derive(Deserialize)]
struct Document {
    #[serde(default, deserialize_with = "defined")]
    result: Option<Value>,
}

/// A `null` is a result too, if no decision.
fn defined<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Opa {
    pub(super) fn new(config: &config::authorize::Opa) -> Result<Opa, Unusable> {
        let http = Http::new(&config.server)?;
        let path = http.at(&config.path)?;
        let batch_path = config.batch_path.as_deref().map(|path| http.at(path)).transpose()?;
        Ok(Opa { http, path, batch_path })
    }
}

impl Backend for Opa {
    type Question = Timeless;
    type Answer = Decision;

    fn question(&self, query: &Query) -> Result<Timeless, String> {
        Ok(Timeless(query.clone()))
    }

    fn ask<'a>(&'a self, question: &'a Timeless) -> BoxFuture<'a, Result<Decision, Unavailable>> {
        Box::pin(async move {
            let answer = self.http.post(&self.path, &json!({ "input": question })).await?;
            match answer.json::<Document>()?.result {
                Some(result) => answer::decision(result).map_err(Unavailable),
                None => Ok(Decision::denied(format!("undefined: {} says nothing of this", self.path.path()))),
            }
        })
    }

    fn ask_all<'a>(&'a self, questions: &'a [Timeless]) -> Option<BoxFuture<'a, Result<Vec<Decision>, Unavailable>>> {
        let path = self.batch_path.as_ref()?;
        Some(Box::pin(async move {
            let answer = self.http.post(path, &json!({ "input": { "queries": questions } })).await?;
            match answer.json::<Document>()?.result {
                Some(result) => answer::decisions(result).map_err(Unavailable),
                None => Err(Unavailable(format!("{} is undefined, so it has no list of decisions", path.path()))),
            }
        }))
    }

    fn at_once(&self) -> usize {
        if self.batch_path.is_some() { AT_ONCE } else { super::guarded::ONE_BY_ONE }
    }

    fn judge(&self, _: &Query, answer: &Decision) -> Decision {
        answer.clone()
    }
}
