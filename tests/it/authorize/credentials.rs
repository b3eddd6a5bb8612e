//! Who asks: the person's own token, Porthole's, and a certificate of each side.

use std::sync::{Arc, Mutex};

use porthole::auth::Secret;
use porthole::authorize::{ActionKind, Query};
use serde_json::json;

use super::questions::developer;
use super::server::{Reply, Request, Server};
use super::{Asked, openssl};

type Answers = fn() -> Reply;

/// A server that remembers the header of each request.
fn remembering(header: &'static str, reply: Answers) -> (Server, Arc<Mutex<Vec<Option<String>>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let server = Server::plain(move |request: &Request| {
        kept.lock().expect("not poisoned").push(request.headers.get(header).cloned());
        reply()
    });
    (server, seen)
}

fn with_token(token: &str) -> Query {
    let mut query = developer(ActionKind::Shell);
    query.user.id_token = Some(Secret::new(token));
    query
}

fn config(kind: &str, url: &str, more: &str) -> String {
    format!("authorize.ask = [\"it\"]\n[authorizers.it]\ntype = \"{kind}\"\nserver.url = {url:?}\n{more}\n")
}

#[test]
fn a_persons_own_token_is_passed_on_and_who_has_none_is_denied() {
    let empty = || Reply { status: 200, headers: Vec::new(), body: Vec::new() };
    let places = || Reply::json(&json!({ "namespaces": ["payments"] }));
    let kinds: [(&str, &str, Answers); 2] =
        [("oathkeeper", "pass-token = true", empty), ("namespaces", "credential = \"id-token\"", places)];
    for (kind, more, reply) in kinds {
        let (server, seen) = remembering("authorization", reply);
        let asked = Asked::new(&config(kind, &server.url(), more));
        assert!(asked.decide(&with_token("mias-token")).expect("an answer").allow, "{kind}");
        assert_eq!(*seen.lock().expect("not poisoned"), [Some("Bearer mias-token".to_owned())], "{kind}");
        let without = asked.decide(&developer(ActionKind::Shell)).expect("an answer");
        assert!(!without.allow && without.reason.contains("without an id_token"), "{kind}: {without:?}");
        // Another person's token is another question, and one that cannot stand in a header is none.
        assert!(asked.decide(&with_token("noras-token")).expect("an answer").allow);
        assert_eq!(server.asked(), 2, "{kind}");
        assert!(asked.decide(&with_token("a\r\nb")).is_err(), "{kind}");
        assert_eq!(server.asked(), 2, "{kind}");
    }
}

#[test]
fn a_token_file_is_read_for_each_request() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("token");
    let (server, seen) = remembering("authorization", || Reply::json(&json!({ "result": true })));
    let more = format!("server.token-file = {file:?}\nlimits.cache-lifetime = \"0s\"");
    let asked = Asked::new(&config("opa", &server.url(), &more));
    assert!(asked.decide(&developer(ActionKind::Shell)).is_err(), "there is no token yet");
    for token in ["one", "two"] {
        std::fs::write(&file, format!("{token}\n")).expect("writable");
        assert!(asked.decide(&developer(ActionKind::Shell)).expect("an answer").allow);
    }
    let expected = ["one", "two"].map(|token| Some(format!("Bearer {token}")));
    assert_eq!(*seen.lock().expect("not poisoned"), expected);
}

#[test]
fn headers_carry_parts_of_the_question_and_no_more() {
    let (server, seen) = remembering("x-command", || Reply { status: 200, headers: Vec::new(), body: Vec::new() });
    let asked = Asked::new(&config("oathkeeper", &server.url(), "headers = { X-Command = \"{action}: {command}\" }"));
    let mut query = developer(ActionKind::Exec);
    query.command = Some("id\r\nAuthorization: Bearer x\"}".to_owned());
    assert!(asked.decide(&query).expect("an answer").allow);
    let expected = "exec: id%0D%0AAuthorization:%20Bearer%20x%22%7D";
    assert_eq!(*seen.lock().expect("not poisoned"), [Some(expected.to_owned())]);
}

#[test]
fn each_side_shows_a_certificate_where_both_ask_for_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::knowing_its_clients(folder.path(), |_| Reply::json(&json!({ "result": true })));
    let file = |name: &str| folder.path().join(name);
    let ca = format!("server.ca-file = {:?}\n", file("ca.pem"));
    let own = format!("{ca}server.certificate = {:?}\nserver.key = {:?}", file("client.pem"), file("client.key"));
    let ask = |more: &str| Asked::new(&config("opa", &server.url(), more)).decide(&developer(ActionKind::Shell));
    assert!(ask(&own).expect("an answer").allow);
    assert!(ask(&ca).is_err(), "it shows none");
    assert!(ask("").is_err(), "its CA is not one of the system's");
    // Another CA's, of the same name.
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(folder.path(), &format!("req -x509 {key} -keyout client.key -out client.pem -days 2 -subj /CN=client"));
    assert!(ask(&own).is_err(), "it shows a stranger's");
}
