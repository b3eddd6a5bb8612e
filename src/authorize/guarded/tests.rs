//! What a server is asked, and how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::policy::tests::question;
use super::super::{Obligations, Query};
use super::*;

/// Soon over where no answer comes.
const DEADLINE: Duration = Duration::from_millis(200);

/// Answers by the pod's name, and counts.
#[derive(Default)]
struct Server {
    asked: Arc<AtomicUsize>,
    fails: bool,
    silent: bool,
    batches: bool,
}

impl Backend for Server {
    type Question = String;
    type Answer = bool;

    fn question(&self, query: &Query) -> Result<String, String> {
        match query.target.pod.as_str() {
            "never" => Err("nobody need be asked".to_owned()),
            pod => Ok(pod.to_owned()),
        }
    }

    fn ask<'a>(&'a self, pod: &'a String) -> BoxFuture<'a, Result<bool, Unavailable>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.silent {
                std::future::pending::<()>().await;
            }
            tokio::task::yield_now().await;
            if self.fails { Err(Unavailable("it answered 500".to_owned())) } else { Ok(pod.starts_with("web")) }
        })
    }

    fn ask_all<'a>(&'a self, pods: &'a [String]) -> Option<BoxFuture<'a, Result<Vec<bool>, Unavailable>>> {
        self.batches.then(|| -> BoxFuture<'a, _> {
            Box::pin(async move {
                self.asked.fetch_add(1, Ordering::Relaxed);
                Ok(pods.iter().map(|pod| pod.starts_with("web")).collect())
            })
        })
    }

    fn judge(&self, _: &Query, answer: &bool) -> Decision {
        Decision { allow: *answer, reason: "it says so".to_owned(), obligations: Obligations::default() }
    }
}

fn pod(name: &str) -> Query {
    question(|query| query.target.pod = name.to_owned())
}

fn guarded(server: Server) -> (Guarded<Server>, Arc<AtomicUsize>) {
    let asked = Arc::clone(&server.asked);
    let limits = Limits { breaker_failures: 2, deadline: DEADLINE, ..Limits::default() };
    (Guarded::new(server, &limits), asked)
}

#[tokio::test]
async fn an_answer_is_given_again_while_it_is_fresh_and_asked_once_by_many_at_once() {
    let (guarded, asked) = guarded(Server::default());
    let (one, other) = (pod("web-1"), pod("web-1"));
    let (first, second) = tokio::join!(guarded.decide(&one), guarded.decide(&other));
    assert!(first.unwrap().allow && second.unwrap().allow);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert!(!guarded.decide(&pod("db-1")).await.unwrap().allow);
    assert_eq!(asked.load(Ordering::Relaxed), 2, "another question is another answer");
}

#[tokio::test]
async fn a_failure_is_not_kept_and_too_many_leave_the_server_alone() {
    let (guarded, asked) = guarded(Server { fails: true, ..Server::default() });
    for _ in 0..2 {
        assert_eq!(guarded.decide(&pod("web-1")).await, Err(Unavailable("it answered 500".to_owned())));
    }
    let Err(Unavailable(why)) = guarded.decide(&pod("web-1")).await else { panic!("a breaker that lets through") };
    assert!(why.contains("left alone"), "{why}");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let (guarded, _) = guarded(Server { silent: true, ..Server::default() });
    assert_eq!(guarded.decide(&pod("web-1")).await, Err(Unavailable("no answer within 200ms".to_owned())));
}

#[tokio::test]
async fn a_list_asks_each_question_once_and_no_faster_than_the_pace() {
    let (guarded, asked) = guarded(Server::default());
    let queries: Vec<_> = (0..40).map(|index| pod(&format!("web-{}", index / 2))).chain([pod("never")]).collect();
    let begun = tokio::time::Instant::now();
    let decisions = guarded.decide_all(&queries).await.unwrap();
    assert_eq!(decisions.iter().filter(|decision| decision.allow).count(), 40);
    assert!(!decisions[40].allow);
    assert_eq!(asked.load(Ordering::Relaxed), 20);
    assert!(begun.elapsed() >= PACE * 19, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_list_is_one_request_where_the_server_takes_many_and_what_is_known_is_not_asked() {
    let (guarded, asked) = guarded(Server { batches: true, ..Server::default() });
    let queries = [pod("web-1"), pod("db-1"), pod("web-2")];
    let allowed = |decisions: Vec<Decision>| decisions.iter().map(|decision| decision.allow).collect::<Vec<_>>();
    assert_eq!(allowed(guarded.decide_all(&queries).await.unwrap()), [true, false, true]);
    assert_eq!(allowed(guarded.decide_all(&queries).await.unwrap()), [true, false, true]);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

/// Whoever asked for lists and left took the time of everybody's.
#[tokio::test]
async fn a_list_that_is_given_up_costs_the_next_one_nothing() {
    let (guarded, _) = guarded(Server::default());
    let queries: Vec<_> = (0..50).map(|index| pod(&format!("web-{index}"))).collect();
    for _ in 0..100 {
        assert!(futures_util::FutureExt::now_or_never(guarded.decide_all(&queries)).is_none(), "it takes its time");
    }
    let begun = Instant::now();
    guarded.decide_all(&queries[..10]).await.unwrap();
    assert!(begun.elapsed() < PACE * 100, "{:?}", begun.elapsed());
}
