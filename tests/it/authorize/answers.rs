//! The same forty questions to each authorizer, and the same answers.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use porthole::authorize::Query;
use serde_json::{Value, json};

use super::questions::{Question, all};
use super::server::{Reply, Request, Server};
use super::{Asked, openssl, parts, shipped};
use crate::access_review;

/// Asks each question alone, and then all of them at once.
fn check<'a>(asked: &Asked, questions: impl Iterator<Item = &'a Question>) -> usize {
    let questions: Vec<_> = questions.collect();
    let queries: Vec<_> = questions.iter().map(|question| question.query.clone()).collect();
    let alone = queries.iter().map(|query| asked.decide(query).expect("an answer")).collect();
    let together = asked.decide_all(&queries).expect("answers");
    for decisions in [alone, together] {
        let seen = (decisions.iter().zip(&queries))
            .map(|(decision, query)| decision.allow.then_some(decision.obligations.lasts(query.time)));
        let wrong: Vec<_> = (questions.iter().zip(seen).zip(&decisions))
            .filter(|((question, seen), _)| *seen != question.yes.map(Some))
            .map(|((question, _), decision)| format!("{}: {decision:?} and not {:?}", question.name, question.yes))
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
    questions.len()
}

fn policy() -> String {
    format!("authorize.policy-file = {:?}\n", shipped("policy.toml"))
}

#[test]
fn the_policy_file_answers_forty_questions() {
    assert_eq!(check(&Asked::new(&policy()), all().iter()), 40);
}

#[test]
fn rego_inside_porthole_gives_the_same_answers() {
    let config =
        format!("authorize.ask = [\"it\"]\nauthorizers.it = {{ type = \"rego\", files = [{:?}] }}\n", shipped("rego"));
    assert_eq!(check(&Asked::new(&config), all().iter()), 40);
}

#[test]
fn open_policy_agent_gives_the_same_answers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(opa) = parts::opa(folder.path()) else { return };
    for more in ["", "batch-path = \"/v1/data/porthole/decisions\"\n"] {
        let config =
            format!("authorize.ask = [\"it\"]\n[authorizers.it]\ntype = \"opa\"\nserver.url = {:?}\n{more}", opa.url);
        assert_eq!(check(&Asked::new(&config), all().iter()), 40);
    }
}

/// Its rules see a path: nine of the forty are about what is in none.
#[test]
fn oathkeeper_gives_the_same_answers_to_all_that_a_path_can_say() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(oathkeeper) = parts::oathkeeper(folder.path()) else { return };
    let config = format!(
        "authorize.ask = [\"it\"]\n[authorizers.it]\ntype = \"oathkeeper\"\nserver.url = {:?}\npath = {:?}\n",
        oathkeeper.url,
        parts::OATHKEEPER_PATH
    );
    assert_eq!(check(&Asked::new(&config), all().iter().filter(|question| !question.beyond_a_path)), 31);
}

const SECRET: &str = "a secret of at least thirty-two bytes";

/// What a server of the company's own would do: verify who asks, decide, sign.
fn webhook(questions: &[Question]) -> impl Fn(&Request) -> Reply + Send + Sync + use<> {
    let text = |query: &Query| serde_json::to_value(query).expect("JSON").to_string();
    let answers: HashMap<_, _> = questions.iter().map(|question| (text(&question.query), question.yes)).collect();
    let key = Key::new(HMAC_SHA256, SECRET.as_bytes());
    let decide = move |query: &Value| match answers[&query.to_string()] {
        None => json!({ "allow": false, "reason": "not in the table" }),
        Some(yes) => json!({ "allow": true, "obligations": { "max_duration": format!("{}s", yes.as_secs()) } }),
    };
    move |request| {
        let header = |name: &str| request.headers[name].as_str();
        let (time, nonce) = (header("x-porthole-timestamp"), header("x-porthole-nonce"));
        let signed =
            |direction: &str, body: &[u8]| [format!("{direction}\n{time}\n{nonce}\n").as_bytes(), body].concat();
        let written = |message: &[u8]| {
            let digits =
                hmac::sign(&key, message).as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            format!("sha256={digits}")
        };
        assert_eq!(header("x-porthole-signature"), written(&signed("request", &request.body)));
        let asked: Value = serde_json::from_slice(&request.body).expect("JSON");
        let answer = match asked["queries"].as_array() {
            Some(queries) => queries.iter().map(&decide).collect(),
            None => decide(&asked),
        };
        let mut reply = Reply::json(&answer);
        let signature = written(&signed("answer", &reply.body));
        reply.headers = vec![("X-Porthole-Timestamp", time.to_owned()), ("X-Porthole-Signature", signature)];
        reply
    }
}

/// What somebody on the way does to an answer.
type Change = fn(&mut Reply);

fn webhook_config(folder: &Path, url: &str, more: &str) -> String {
    std::fs::write(folder.join("webhook.key"), format!("{SECRET}\n")).expect("writable");
    format!(
        "authorize.ask = [\"it\"]\n[authorizers.it]\ntype = \"webhook\"\nserver.url = {url:?}\nhmac-key-file = {:?}\n{more}",
        folder.join("webhook.key")
    )
}

#[test]
fn a_webhook_is_told_all_that_the_answers_rest_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let questions = all();
    let server = Server::plain(webhook(&questions));
    for (more, requests) in [("", 80), ("batch = true\n", 41)] {
        let before = server.asked();
        // Nothing is kept, so that each is told.
        let more = format!("limits.cache-lifetime = \"0s\"\n{more}");
        assert_eq!(check(&Asked::new(&webhook_config(folder.path(), &server.url(), &more)), questions.iter()), 40);
        assert_eq!(server.asked() - before, requests);
    }
}

#[test]
fn a_webhooks_answer_is_believed_only_with_its_signature_for_this_request() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let questions = all();
    let asked = |change: Change| {
        let honest = webhook(&questions);
        let server = Server::plain(move |request: &Request| {
            let mut reply = honest(request);
            change(&mut reply);
            reply
        });
        let asked = Asked::new(&webhook_config(folder.path(), &server.url(), ""));
        asked.decide(&questions[1].query).map(|decision| decision.allow)
    };
    assert_eq!(asked(|_| ()), Ok(true));
    let changes: [(Change, &str); 6] = [
        (|reply| reply.headers.clear(), "it has no x-porthole-timestamp"),
        (|reply| drop(reply.headers.pop()), "it has no x-porthole-signature"),
        (|reply| reply.headers[1].1.replace_range(7..9, "zz"), "it has no x-porthole-signature"),
        (|reply| reply.headers[1].1 = format!("sha256={}", "00".repeat(32)), "it does not verify"),
        (|reply| reply.headers[0].1 = "1".to_owned(), "it is from another time"),
        (|reply| reply.body.push(b' '), "it does not verify"),
    ];
    for (change, why) in changes {
        let said = asked(change).expect_err("no answer").to_string();
        assert!(said.contains(why), "{said}");
    }
    // Yesterday's yes, to another request.
    let first = std::sync::Mutex::new(None);
    let honest = webhook(&questions);
    let server = Server::plain(move |request: &Request| {
        let reply = honest(request);
        let mut first = first.lock().expect("not poisoned");
        let (headers, body) = first.get_or_insert((reply.headers, reply.body)).clone();
        Reply { status: 200, headers, body }
    });
    let asked = Asked::new(&webhook_config(folder.path(), &server.url(), "limits.cache-lifetime = \"0s\"\n"));
    assert!(asked.decide(&questions[1].query).expect("an answer").allow);
    let said = asked.decide(&questions[1].query).expect_err("a replay").to_string();
    assert!(said.contains("it does not verify"), "{said}");
}

/// Knows people by what Porthole signs, and where each may go.
fn places(public_key: Vec<u8>, audience: &str) -> impl Fn(&Request) -> Reply + Send + Sync + use<> {
    let key = jsonwebtoken::DecodingKey::from_ed_pem(&public_key).expect("a public key");
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    rules.set_audience(&[audience]);
    rules.set_issuer(&["porthole"]);
    rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    move |request| {
        let token = request.headers["authorization"].strip_prefix("Bearer ").expect("a bearer token");
        let claims = jsonwebtoken::decode::<Value>(token, &key, &rules).expect("Porthole's signature").claims;
        assert_eq!(claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat), Some(60));
        let groups: Vec<_> = claims["groups"].as_array().expect("groups").iter().filter_map(Value::as_str).collect();
        let answer = if groups.contains(&"platform") || claims["sub"] == "carol" {
            json!({ "namespaces": ["*"] })
        } else if groups.iter().any(|group| group.starts_with("payments-")) {
            json!({ "namespaces": ["payments", "checkout"], "actions": { "list": ["payments", "kube-*"] } })
        } else if groups.contains(&"support-1") {
            json!({ "namespaces": [], "actions": { "list": ["*-prod"], "exec": ["shop-prod"] } })
        } else {
            json!({ "namespaces": [] })
        };
        Reply::json(&answer)
    }
}

/// The list knows namespaces and actions alone; the rest of the forty is the policy file's, and both must allow.
#[test]
fn namespaces_and_the_policy_together_give_the_same_answers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    openssl(folder.path(), "genpkey -algorithm ed25519 -out identity.key");
    openssl(folder.path(), "pkey -in identity.key -pubout -out identity.pem");
    let public = std::fs::read(folder.path().join("identity.pem")).expect("just made");
    // Its address is the audience, so it must be known before it answers.
    let audience = Arc::new(std::sync::OnceLock::<String>::new());
    let known = Arc::clone(&audience);
    let handler = std::sync::OnceLock::new();
    let server = Server::plain(move |request: &Request| {
        let handler = handler.get_or_init(|| places(public.clone(), known.get().expect("set below")));
        handler(request)
    });
    audience.set(server.url()).expect("once");
    let its = |ask: &str| {
        format!(
            "authorize.ask = {ask}\nauthorize.policy-file = {:?}\n[authorizers.it]\ntype = \"namespaces\"\n\
             server.url = {:?}\ncredential = \"signed-identity\"\nsigning-key = {:?}\n",
            shipped("policy.toml"),
            server.url(),
            folder.path().join("identity.key")
        )
    };
    let questions = all();
    assert_eq!(check(&Asked::new(&its("[\"it\", \"policy\"]")), questions.iter()), 40);
    // Each person once, whatever they ask.
    let mut people: Vec<_> =
        questions.iter().map(|question| (&question.query.user.subject, &question.query.user.groups)).collect();
    people.sort();
    people.dedup();
    assert_eq!(server.asked(), people.len());
    // And what it says by itself.
    let alone = Asked::new(&its("[\"it\"]"));
    let says = |index: usize| alone.decide(&questions[index].query).expect("an answer");
    assert!(says(0).allow && says(1).allow, "a list of its own for an action, and the common one");
    assert!(!says(15).allow && says(19).allow, "another namespace; one that only list may see");
    let other = says(22);
    assert_eq!((other.allow, other.reason.as_str()), (false, "it: payments is not among this person's namespaces"));
}

/// Everybody of the forty may do anything by the cluster's roles, but for one person, of whom it knows nothing.
const ROLES: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: porthole-test-everything}
rules: [{apiGroups: [porthole.dev], resources: [pods], verbs: ["*"]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: porthole-test-everything}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: porthole-test-everything}
subjects:
- {kind: User, name: alice, apiGroup: rbac.authorization.k8s.io}
- {kind: User, name: bob, apiGroup: rbac.authorization.k8s.io}
- {kind: User, name: carol, apiGroup: rbac.authorization.k8s.io}
- {kind: User, name: dave, apiGroup: rbac.authorization.k8s.io}
- {kind: Group, name: platform, apiGroup: rbac.authorization.k8s.io}
- {kind: Group, name: support-1, apiGroup: rbac.authorization.k8s.io}
"#;

/// A cluster's roles know no labels, hours, commands or destinations: those are the policy file's, and both must allow.
#[test]
fn the_clusters_roles_and_the_policy_together_give_the_same_answers() {
    let Some(kubeconfig) = access_review::real() else { return };
    let _roles = access_review::Roles::apply(kubeconfig.parent().expect("a file in the state's folder"), ROLES);
    let config = |ask: &str| {
        format!(
            "authorize.ask = {ask}\ncluster.kubeconfig = {kubeconfig:?}\n{}authorizers.it = {{ type = \"access-review\" }}\n",
            policy()
        )
    };
    assert_eq!(check(&Asked::by(&config("[\"it\", \"policy\"]"), true), all().iter()), 40);
    // By itself it denies whom it does not know, in its own words.
    let [_, known, ..] = all();
    let mut stranger = known.query;
    stranger.user.subject = "stranger".to_owned();
    stranger.user.groups.clear();
    let said = Asked::by(&config("[\"it\"]"), true).decide(&stranger).expect("an answer");
    assert!(!said.allow && said.reason.contains("stranger may not"), "{said:?}");
}

/// A person whose token is taken no more is no failure of the server's, by which others would be kept out.
#[test]
fn a_person_whom_the_list_of_namespaces_does_not_know_closes_it_for_nobody_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    openssl(folder.path(), "genpkey -algorithm ed25519 -out identity.key");
    let server = Server::plain(|_| Reply { status: 401, ..Reply::json(&json!({})) });
    let asked = Asked::new(&format!(
        "authorize.ask = [\"it\"]\n[authorizers.it]\ntype = \"namespaces\"\nserver.url = {:?}\n\
         credential = \"signed-identity\"\nsigning-key = {:?}\nlimits.cache-lifetime = \"0s\"\n",
        server.url(),
        folder.path().join("identity.key")
    ));
    for question in &all()[..10] {
        let said = asked.decide(&question.query).expect("an answer");
        assert!(!said.allow, "{said:?}");
    }
    assert_eq!(server.asked(), 10);
}
