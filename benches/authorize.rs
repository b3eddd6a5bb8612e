//! Decisions per second of each authorizer, with its cache and without: `make bench-authorize`.
//!
//! Eight askers at once, each with questions of its own, as logins come; and one alone, whose time is what a decision adds
//! to a login. Nothing here passes or fails: the table is the point. It goes to `target/bench/` as text.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use porthole::authorize::{self, ActionKind, Authorizer as _, Combined, Query};
use porthole::config::Config;

#[path = "../tests/it/house.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod house;

#[path = "../tests/it/authorize/parts.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod parts;

#[path = "../tests/it/authorize/questions.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod questions;

const ASKERS: usize = 8;
const MEASURED: Duration = Duration::from_secs(3);

/// Different questions that each asker goes round: more than one person's, fewer than the cache keeps.
const QUESTIONS: usize = 100;

fn shipped(name: &str) -> String {
    format!("{}/config/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn main() {
    // cargo asks each bench whether it has tests.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let mut rows = String::new();
    let _ = writeln!(rows, "{:<28}{:>12}{:>14}{:>14}", "", "per second", "one, median", "one, 99 %");
    let policy = format!("authorize.policy-file = {:?}\n", shipped("policy.toml"));
    row(&mut rows, "policy file", &policy);
    let it = "authorize.ask = [\"it\"]\n[authorizers.it]\n";
    row(&mut rows, "rego inside", &format!("{it}type = \"rego\"\nfiles = [{:?}]\n", shipped("rego")));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kept = [("asked each time", "limits.cache-lifetime = \"0s\"\n"), ("through the cache", "")];
    if let Some(opa) = parts::opa(folder.path()) {
        for (how, limits) in kept {
            let config = format!("{it}type = \"opa\"\nserver.url = {:?}\n{limits}", opa.url);
            row(&mut rows, &format!("opa, {how}"), &config);
        }
    }
    if let Some(oathkeeper) = parts::oathkeeper(folder.path()) {
        for (how, limits) in kept {
            let config = format!(
                "{it}type = \"oathkeeper\"\nserver.url = {:?}\npath = {:?}\n{limits}",
                oathkeeper.url,
                parts::OATHKEEPER_PATH
            );
            row(&mut rows, &format!("oathkeeper, {how}"), &config);
        }
    }
    print!("{rows}");
    std::fs::create_dir_all("target/bench")
        .and_then(|()| std::fs::write("target/bench/authorize.txt", rows))
        .expect("writable");
}

fn row(rows: &mut String, name: &str, config: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("porthole.toml");
    std::fs::write(&file, format!("certificate.trusted-ca-files = [\"ca\"]\n{config}")).expect("writable");
    let config = Config::load(&file).expect("it loads");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let asked = Arc::new(runtime.block_on(async { authorize::open(&config, None) }).expect("they can be asked"));
    let (per_second, median, late) = runtime.block_on(measure(asked));
    let _ = writeln!(rows, "{name:<28}{per_second:>12.0}{:>14}{:>14}", micros(median), micros(late));
}

fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

fn queries(asker: usize) -> Vec<Query> {
    let one = |n: usize| {
        let mut query = questions::developer(ActionKind::Shell);
        query.target.pod = format!("web-{asker}-{n}");
        query
    };
    (0..QUESTIONS).map(one).collect()
}

/// Decisions a second of all askers together; and how long one takes that comes alone.
async fn measure(asked: Arc<Combined>) -> (f64, Duration, Duration) {
    round(&asked, &queries(0)).await;
    let begun = Instant::now();
    let askers: Vec<_> = (0..ASKERS)
        .map(|asker| {
            let asked = Arc::clone(&asked);
            tokio::spawn(async move {
                let (queries, mut count) = (queries(asker), 0);
                while begun.elapsed() < MEASURED {
                    round(&asked, &queries).await;
                    count += queries.len();
                }
                count
            })
        })
        .collect();
    let mut count = 0;
    for asker in askers {
        count += asker.await.expect("no panic");
    }
    let per_second = count as f64 / begun.elapsed().as_secs_f64();
    let mut times = Vec::new();
    for query in (0..10).flat_map(|_| queries(0)) {
        let begun = Instant::now();
        assert!(asked.decide(&query).await.expect("an answer").allow);
        times.push(begun.elapsed());
    }
    times.sort();
    (per_second, times[times.len() / 2], times[times.len() * 99 / 100])
}

async fn round(asked: &Combined, queries: &[Query]) {
    for query in queries {
        assert!(asked.decide(query).await.expect("an answer").allow);
    }
}
