//! Rego inside Porthole, for those who run no Open Policy Agent: the same policy, evaluated here.
//!
//! Guards: questions are decided by one whole version of the policy, the last that loaded; one that does not load changes
//! nothing and is logged. An evaluation runs beside the connections' threads, has its time, and cannot reach out:
//! `http.send` is not among its functions.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use regorus::Engine;
use regorus::utils::limits::ExecutionTimerConfig;
use tokio::sync::{Semaphore, watch};

use super::answer;
use super::http::Unusable;
use super::{Authorizer, Decision, Query, Unavailable};
use crate::config;
use crate::watched::Watched;

mod bundle;
mod source;

use bundle::Fetched;
use source::Source;

/// For the questions that are asked together. A policy that needs more is broken, and must not hold a thread for longer.
const EVALUATION_MAX: Duration = Duration::from_secs(1);

/// Steps of the evaluation between two looks at the clock.
const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::new(256).expect("it is not zero");

/// A list's part: some milliseconds of work.
const AT_ONCE: usize = 50;

/// A policy in Rego as an authorizer.
pub(super) struct Rego {
    policy: Origin,
    /// Evaluations at a time: as many as there are processors, since more would only be slower.
    turns: Arc<Semaphore>,
}

enum Origin {
    Files(Watched<Policy>),
    Fetched(Fetched),
}

/// One version of the policy, ready to be asked.
pub(super) struct Policy {
    /// Each evaluation works on a copy, which shares all that was compiled.
    engine: Mutex<Engine>,
    rule: String,
}

impl Rego {
    pub(super) fn new(config: &config::authorize::Rego) -> Result<Rego, Unusable> {
        let rule = config.rule.clone();
        let policy = match &config.bundle {
            Some(server) => Origin::Fetched(Fetched::open(server, config.bundle_interval, rule)?),
            None => {
                let files = config.files.clone();
                let load = move || Policy::load(&Source::of_files(&files)?, &rule);
                Origin::Files(Watched::open("Rego policy", &config.files, load)?)
            }
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Rego { policy, turns: Arc::new(Semaphore::new(processors)) })
    }

    async fn policy(&self) -> Result<Arc<Policy>, Unavailable> {
        match &self.policy {
            Origin::Files(policy) => Ok(policy.current()),
            Origin::Fetched(policy) => policy.current().await,
        }
    }

    async fn ask(&self, queries: &[Query]) -> Result<Vec<Decision>, Unavailable> {
        let inputs: Result<Vec<_>, _> = queries.iter().map(serde_json::to_string).collect();
        let inputs = inputs.map_err(|error| Unavailable(format!("cannot be asked: {error}")))?;
        let policy = self.policy().await?;
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| Unavailable("it is shutting down".to_owned()))?;
        // Nobody may wait any more when it ends, but its turn is over only then.
        let evaluation = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            policy.decide(&inputs)
        });
        evaluation.await.map_err(|error| Unavailable(format!("the policy's evaluation broke: {error}")))?
    }
}

impl Authorizer for Rego {
    fn decide<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Decision, Unavailable>> {
        Box::pin(async move {
            let decisions = self.ask(std::slice::from_ref(query)).await?;
            decisions.into_iter().next().ok_or_else(|| Unavailable("the policy gave no answer".to_owned()))
        })
    }

    fn decide_all<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Result<Vec<Decision>, Unavailable>> {
        Box::pin(self.ask(queries))
    }

    fn at_once(&self) -> usize {
        AT_ONCE
    }

    fn changes(&self) -> Vec<watch::Receiver<u64>> {
        vec![match &self.policy {
            Origin::Files(policy) => policy.changes(),
            Origin::Fetched(policy) => policy.changes(),
        }]
    }
}

impl Policy {
    /// Compiles a policy that has this rule.
    pub(super) fn load(source: &Source, rule: &str) -> Result<Policy, Unusable> {
        let mut engine = Engine::new();
        for (name, text) in &source.modules {
            let added = engine.add_policy(name.clone(), text.clone());
            added.map_err(|error| Unusable(format!("{name}: {error:#}")))?;
        }
        let data = serde_json::Value::Object(source.data.clone()).to_string();
        let added = regorus::Value::from_json_str(&data).and_then(|data| engine.add_data(data));
        added.map_err(|error| Unusable(format!("its data is none: {error:#}")))?;
        let compiled = engine.compile_with_entrypoint(&rule.into());
        compiled.map_err(|error| Unusable(format!("it cannot be asked for `{rule}`: {error:#}")))?;
        Ok(Policy { engine: Mutex::new(engine), rule: rule.to_owned() })
    }

    /// One answer for each input, all of them in time.
    fn decide(&self, inputs: &[String]) -> Result<Vec<Decision>, Unavailable> {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let end = Instant::now() + EVALUATION_MAX;
        let decide = |input: &String| match self.decide_one(&mut engine, input, end) {
            Ok(decision) => Ok(decision),
            Err(why) if inputs.len() == 1 || Instant::now() >= end => Err(Unavailable(why)),
            // In a list, what the policy fails at is closed, and hides nothing else.
            Err(why) => {
                tracing::warn!(why, "the policy failed at a place of a list, which is closed for that");
                Ok(Decision::denied(why))
            }
        };
        inputs.iter().map(decide).collect()
    }

    fn decide_one(&self, engine: &mut Engine, input: &str, end: Instant) -> Result<Decision, String> {
        let limit = end.saturating_duration_since(Instant::now());
        engine.set_execution_timer_config(ExecutionTimerConfig { limit, check_interval: CHECK_INTERVAL });
        let failed = |error| format!("the policy failed: {error:#}");
        engine.set_input(regorus::Value::from_json_str(input).map_err(failed)?);
        let result = engine.eval_rule(self.rule.clone()).map_err(failed)?;
        match result {
            regorus::Value::Undefined => Ok(Decision::denied(format!("undefined: {} says nothing of this", self.rule))),
            result => {
                let json = result.to_json_str().map_err(failed)?;
                answer::decision(serde_json::from_str(&json).map_err(|error| format!("its decision is none: {error}"))?)
            }
        }
    }
}

#[cfg(test)]
mod tests;
