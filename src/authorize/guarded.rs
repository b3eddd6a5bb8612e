//! A server that is asked over the network, held to its limits: a deadline, a circuit breaker, and a small cache.
//!
//! The cache is keyed by what the server would be told (`Backend::question`), so no answer is given again to a question
//! in which it would have seen a difference; what is not kept is a failure. Whoever asks the same at the same moment
//! shares one request. Where a server takes one question at a time, lists are asked about at a pace that it survives.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use moka::future::Cache;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use super::breaker::Breaker;
use super::{Authorizer, Decision, Query, Unavailable};
use crate::config::authorize::Limits;

/// How far apart the questions of a list are put to a server that takes one at a time: 200 a second.
const PACE: Duration = Duration::from_millis(5);

/// So many of them wait for their answer at once.
const PARALLEL: usize = 8;

/// A list's part for a server that takes one at a time: a quarter of a second's worth.
pub(super) const ONE_BY_ONE: usize = 50;

/// One kind of server.
pub(super) trait Backend: Send + Sync + 'static {
    /// All that the server is told, but for the moment: equal ones have equal answers for a while.
    type Question: Clone + Eq + Hash + Send + Sync + 'static;
    type Answer: Clone + Send + Sync + 'static;

    /// What to ask; the reason of a no, where that needs no asking.
    fn question(&self, query: &Query) -> Result<Self::Question, String>;

    fn ask<'a>(&'a self, question: &'a Self::Question) -> BoxFuture<'a, Result<Self::Answer, Unavailable>>;

    /// Asks several at once, for as many answers in the same order; none where the server takes one at a time.
    fn ask_all<'a>(&'a self, _: &'a [Self::Question]) -> Option<BoxFuture<'a, Result<Vec<Self::Answer>, Unavailable>>> {
        None
    }

    /// How many queries of one person are well answered together.
    fn at_once(&self) -> usize {
        ONE_BY_ONE
    }

    /// What an answer means for the query whose question it answers.
    fn judge(&self, query: &Query, answer: &Self::Answer) -> Decision;
}

/// A backend within its limits.
pub(super) struct Guarded<B: Backend> {
    backend: B,
    deadline: Duration,
    breaker: Breaker,
    /// None where each question is to be asked.
    answers: Option<Cache<B::Question, B::Answer>>,
    /// When the next question of a list may go out.
    next: Mutex<Instant>,
}

impl<B: Backend> Guarded<B> {
    pub(super) fn new(backend: B, limits: &Limits) -> Guarded<B> {
        let caches = !limits.cache_lifetime.is_zero() && limits.cache_size > 0;
        let answers = caches
            .then(|| Cache::builder().max_capacity(limits.cache_size).time_to_live(limits.cache_lifetime).build());
        Guarded {
            backend,
            deadline: limits.deadline,
            breaker: Breaker::new(limits.breaker_failures, limits.breaker_pause),
            answers,
            next: Mutex::new(Instant::now()),
        }
    }

    async fn answer(&self, question: &B::Question) -> Result<B::Answer, Unavailable> {
        let asked = self.within(self.backend.ask(question));
        match &self.answers {
            Some(answers) => answers.try_get_with_by_ref(question, asked).await.map_err(|error| (*error).clone()),
            None => asked.await,
        }
    }

    /// Lets a request through the breaker, and teaches it what became of it. One that is given up teaches nothing:
    /// people who leave early must not close the door for others.
    async fn within<T>(&self, request: BoxFuture<'_, Result<T, Unavailable>>) -> Result<T, Unavailable> {
        if !self.breaker.lets_through(Instant::now()) {
            return Err(Unavailable("it has failed too often and is left alone for a moment".to_owned()));
        }
        let answer = timeout(self.deadline, request).await;
        let answer = answer.unwrap_or_else(|_| Err(Unavailable(format!("no answer within {:?}", self.deadline))));
        self.breaker.learn(answer.is_ok(), Instant::now());
        answer
    }

    /// The answers to questions that are all different.
    async fn answers(&self, questions: Vec<B::Question>) -> Result<Vec<(B::Question, B::Answer)>, Unavailable> {
        let (mut known, mut open) = (Vec::new(), Vec::new());
        for question in questions {
            let answer = match &self.answers {
                Some(answers) => answers.get(&question).await,
                None => None,
            };
            match answer {
                Some(answer) => known.push((question, answer)),
                None => open.push(question),
            }
        }
        if open.is_empty() {
            return Ok(known);
        }
        let Some(request) = self.backend.ask_all(&open) else {
            let asked = stream::iter(open).map(|question| async move {
                self.turn().await;
                let answer = self.answer(&question).await?;
                Ok((question, answer))
            });
            known.extend(asked.buffered(PARALLEL).try_collect::<Vec<_>>().await?);
            return Ok(known);
        };
        let fresh = self.within(request).await?;
        if fresh.len() != open.len() {
            return Err(Unavailable(format!("{} answers to {} questions", fresh.len(), open.len())));
        }
        for (question, answer) in open.into_iter().zip(fresh) {
            if let Some(answers) = &self.answers {
                answers.insert(question.clone(), answer.clone()).await;
            }
            known.push((question, answer));
        }
        Ok(known)
    }

    /// Waits until the next question of a list may go out.
    async fn turn(&self) {
        // Who gives up waiting takes no turn: the time of one that was given away would be lost to all.
        let mut next = self.next.lock().await;
        sleep_until(*next).await;
        *next = Instant::now() + PACE;
    }
}

impl<B: Backend> Authorizer for Guarded<B> {
    fn decide<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Decision, Unavailable>> {
        Box::pin(async move {
            match self.backend.question(query) {
                Ok(question) => Ok(self.backend.judge(query, &self.answer(&question).await?)),
                Err(reason) => Ok(Decision::denied(reason)),
            }
        })
    }

    fn decide_all<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Result<Vec<Decision>, Unavailable>> {
        Box::pin(async move {
            let questions: Vec<_> = queries.iter().map(|query| self.backend.question(query)).collect();
            let mut different: Vec<B::Question> = Vec::new();
            let mut seen = std::collections::HashSet::new();
            for question in questions.iter().flatten() {
                if seen.insert(question) {
                    different.push(question.clone());
                }
            }
            let answers: HashMap<_, _> = self.answers(different).await?.into_iter().collect();
            let decided = queries.iter().zip(questions).map(|(query, question)| match question {
                Ok(question) => match answers.get(&question) {
                    Some(answer) => Ok(self.backend.judge(query, answer)),
                    None => Err(Unavailable("a question was not answered".to_owned())),
                },
                Err(reason) => Ok(Decision::denied(reason)),
            });
            decided.collect()
        })
    }

    fn at_once(&self) -> usize {
        self.backend.at_once()
    }
}

#[cfg(test)]
mod tests;
