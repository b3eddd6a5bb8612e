//! Each kind of server, failing in each way: a no, in time, by its name in the audit trail; and over as soon as it is.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use super::server::{Mode, Reply, Request, Server};
use crate::house::{House, Plan, text};

/// `authorize.deadline`, and what a login takes beside the question.
const IN_TIME: Duration = Duration::from_secs(4);

/// A house that asks one server of this kind, and nobody else.
fn house(server: &Server, folder: &std::path::Path, kind: &str) -> House {
    let config = format!(
        "[authorize]\nask = [\"it\"]\n[authorizers.it]\ntype = \"{kind}\"\nlimits.cache-lifetime = \"0s\"\n{}\
         [authorizers.it.server]\nurl = {:?}\nca-file = {:?}\n",
        if kind == "namespaces" { "credential = \"signed-identity\"\nsigning-key = \"identity.key\"\n" } else { "" },
        server.url(),
        folder.join("ca.pem")
    );
    let before =
        Box::new(|folder: &std::path::Path| super::openssl(folder, "genpkey -algorithm ed25519 -out identity.key"));
    House::build(Plan { config, before: Some(before), ..Plan::default() })
}

fn each_failure_is_a_no_and_then_over(kind: &str, answer: fn(&Request) -> Reply) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut server = Server::encrypted(folder.path(), answer);
    let house = house(&server, folder.path(), kind);
    let unavailable = || house.audit().iter().filter(|event| event["code"] == "authorizer_unavailable").count();
    for (round, mode) in Mode::FAILURES.into_iter().enumerate() {
        server.set(Mode::Well);
        let well = house.ssh("demo.web", "exit 3");
        assert_eq!(well.status.code(), Some(3), "before {mode:?}: {}", text(&well.stderr));
        server.set(mode);
        let begun = Instant::now();
        let refused = house.ssh("demo.web", "exit 3");
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(254), "{mode:?}: {said}");
        assert!(said.contains("cannot be decided just now"), "{mode:?}: {said}");
        assert!(begun.elapsed() < IN_TIME, "{mode:?} took {:?}", begun.elapsed());
        assert_eq!(unavailable(), round + 1, "{mode:?}: {:#?}", house.audit());
    }
    server.set(Mode::Well);
    assert_eq!(house.ssh("demo.web", "exit 3").status.code(), Some(3));
    let trail = fs::read_to_string(house.file("audit.jsonl")).expect("it has a trail");
    assert!(!trail.contains(&server.url()), "an address may carry what is nobody's business");
}

#[test]
fn each_failure_of_an_opa_is_a_no_and_then_over() {
    each_failure_is_a_no_and_then_over("opa", |_| Reply::json(&json!({ "result": { "allow": true } })));
}

#[test]
fn each_failure_of_an_oathkeeper_is_a_no_and_then_over() {
    // Its yes is a 200 without a body: a page with a 200 is none.
    each_failure_is_a_no_and_then_over("oathkeeper", |_| Reply { status: 200, headers: Vec::new(), body: Vec::new() });
}

#[test]
fn each_failure_of_a_webhook_is_a_no_and_then_over() {
    each_failure_is_a_no_and_then_over("webhook", |_| Reply::json(&json!(true)));
}

#[test]
fn each_failure_of_a_list_of_namespaces_is_a_no_and_then_over() {
    each_failure_is_a_no_and_then_over("namespaces", |_| Reply::json(&json!({ "namespaces": ["demo"] })));
}

/// Where the first that answers decides, one that cannot is passed over; where all must, it is a no.
#[test]
fn another_authorizer_answers_for_one_that_cannot_only_where_that_is_configured() {
    let mut server = Server::plain(|_| Reply::json(&json!({ "result": true })));
    server.set(Mode::Killed);
    for (combine, code) in [("all", 254), ("first", 3)] {
        let config = format!(
            "[authorize]\nask = [\"it\", \"policy\"]\ncombine = \"{combine}\"\n\
             [authorizers.it]\ntype = \"opa\"\nserver.url = {:?}\n",
            server.url()
        );
        let house = House::build(Plan { config, ..Plan::default() });
        let output = house.ssh("demo.web", "exit 3");
        assert_eq!(output.status.code(), Some(code), "{combine}: {}", text(&output.stderr));
    }
}
