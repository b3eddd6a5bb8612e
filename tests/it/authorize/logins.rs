//! Real `ssh`, decided by each of them: what is open, what is not, and what the trail says of it.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::server::{Reply, Server};
use super::{parts, shipped};
use crate::house::{House, Plan, finish, text};

/// The shipped Rego with data in which developers have the namespaces of the tests.
fn rego(folder: &Path) {
    fs::create_dir(folder.join("rego")).expect("a new folder");
    fs::copy(shipped("rego/porthole.rego"), folder.join("rego/porthole.rego")).expect("it ships");
    fs::write(folder.join("rego/data.json"), data(&["demo", "team"])).expect("writable");
}

fn data(namespaces: &[&str]) -> String {
    json!({ "access": {
        "roles": { "developer": [
            { "id": "own", "actions": ["list", "exec", "files"], "namespaces": namespaces },
            { "id": "ports", "actions": "forward", "namespaces": namespaces, "destinations": "localhost:8080" },
        ] },
        "bindings": [{ "groups": "developers", "roles": "developer" }],
    } })
    .to_string()
}

/// What each of the authorizers lets the person do: a command in one place, and nothing in another.
fn holds_people_to_it(house: &House, who: &str) {
    let inside = house.ssh("demo.web", "exit 3");
    assert_eq!(inside.status.code(), Some(3), "{}", text(&inside.stderr));
    let outside = house.ssh("secret.vault", "exit 3");
    assert_eq!(outside.status.code(), Some(254));
    assert!(text(&outside.stderr).contains("no such place, or it is not open to you"), "{}", text(&outside.stderr));
    let shell = finish(house.client("ssh").args(["demo.web@porthole"]));
    assert_eq!(shell.status.code(), Some(254), "no rule allows a shell: {}", text(&shell.stderr));
    let decisions: Vec<_> = house.audit().into_iter().filter(|event| event["event"] == "decision").collect();
    let seen: Vec<_> = decisions.iter().map(|event| (event["action"].as_str(), event["allow"].as_bool())).collect();
    assert_eq!(seen, [(Some("exec"), Some(true)), (Some("exec"), Some(false)), (Some("shell"), Some(false))]);
    for decision in decisions {
        assert!(decision["reason"].as_str().is_some_and(|reason| reason.starts_with(who)), "{decision:#}");
    }
}

#[test]
fn rego_inside_porthole_decides_and_is_asked_anew_when_it_changes() {
    let config = "[authorize]\nask = [\"it\"]\n[authorizers.it]\ntype = \"rego\"\nfiles = [\"rego\"]\n".to_owned();
    let house = House::build(Plan { config, before: Some(Box::new(rego)), ..Plan::default() });
    holds_people_to_it(&house, "it: ");
    let change = |text: &str, word: &str| {
        let before = house.log().matches(word).count();
        fs::write(house.file("change"), text).expect("writable");
        fs::rename(house.file("change"), house.file("rego/data.json")).expect("the same disk");
        house.await_log_again(word, before);
    };
    change(&data(&["team"]), "re-read after a change");
    assert_eq!(house.ssh("demo.web", "exit 3").status.code(), Some(254), "{}", house.log());
    // Half a policy is worse than yesterday's.
    change("{", "cannot re-read, the last good one stays in force");
    assert_eq!(house.ssh("demo.web", "exit 3").status.code(), Some(254));
    change(&data(&["demo"]), "re-read after a change");
    assert_eq!(house.ssh("demo.web", "exit 3").status.code(), Some(3));
}

#[test]
fn open_policy_agent_decides_who_gets_in() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    rego(folder.path());
    let Some(opa) = parts::opa_with(folder.path(), &folder.path().join("rego")) else { return };
    let config = format!("[authorize]\nask = [\"it\"]\n[authorizers.it]\ntype = \"opa\"\nserver.url = {:?}\n", opa.url);
    let house = House::build(Plan { config, ..Plan::default() });
    holds_people_to_it(&house, "it: ");
}

#[test]
fn oathkeeper_decides_who_gets_in() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rules = json!([{
        "id": "developers", "match": {
            "url": "<https?>://<[^/]+>/<(?:[^/]*,)?developers(?:,[^/]*)?>/<exec|files>/<demo|team>/<[^/]+>",
            "methods": ["POST"],
        },
        "authenticators": [{ "handler": "noop" }], "authorizer": { "handler": "allow" },
        "mutators": [{ "handler": "noop" }], "errors": [{ "handler": "json" }],
    }]);
    fs::write(folder.path().join("rules.json"), rules.to_string()).expect("writable");
    let rules = folder.path().join("rules.json").display().to_string();
    let Some(oathkeeper) = parts::oathkeeper_with(folder.path(), &rules) else { return };
    let config = format!(
        "[authorize]\nask = [\"it\"]\n[authorizers.it]\ntype = \"oathkeeper\"\nserver.url = {:?}\n\
         path = \"/decisions/{{groups}}/{{action}}/{{namespace}}/{{command}}\"\n",
        oathkeeper.url
    );
    let house = House::build(Plan { config, ..Plan::default() });
    holds_people_to_it(&house, "it: ");
    // A command is one part of the path, whatever is in it.
    for command in ["exit 3 # /../../x", "exit 3 # ?a=%2F\n", "(exit 3)"] {
        assert_eq!(house.ssh("demo.web", command).status.code(), Some(3), "{command:?}: {}", house.log());
    }
}

#[test]
fn obligations_of_a_server_are_kept() {
    let server =
        Server::plain(|_| Reply::json(&json!({ "allow": true, "obligations": { "profiles": ["restricted"] } })));
    let config =
        format!("[authorize]\nask = [\"it\"]\n[authorizers.it]\ntype = \"webhook\"\nserver.url = {:?}\n", server.url());
    let house = House::build(Plan { config, ..Plan::default() });
    let output = house.ssh("demo.web", "exit 3");
    assert_eq!(output.status.code(), Some(254));
    assert!(text(&output.stderr).contains("use one of restricted"), "{}", text(&output.stderr));
    assert_eq!(house.ssh("demo.web~restricted", "exit 3").status.code(), Some(3), "{}", house.log());
}
