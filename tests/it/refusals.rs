//! When it does not work: one line with a reason and the session's id, exit 254, within seconds.

use std::time::{Duration, Instant};

use crate::house::{House, finish, text};

fn refused(house: &House, place: &str) -> String {
    let started = Instant::now();
    let output = house.ssh(place, "echo never");
    assert_eq!(output.status.code(), Some(254), "{place}: {output:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{place} took {:?}", started.elapsed());
    let line = text(&output.stderr);
    assert!(output.stdout.is_empty() && line.lines().count() == 1, "{place}: {output:?}");
    let (what, session) = line.trim().rsplit_once(" (session ").expect("a session id at the end");
    let session = session.trim_end_matches(')');
    assert!(house.audit().iter().any(|event| event["session"] == session), "{session} is not in the trail");
    what.strip_prefix("porthole: ").expect("it says who speaks").to_owned()
}

#[test]
fn an_image_that_cannot_be_pulled_is_said_with_kubernetes_reason() {
    let house = House::open();
    let line = refused(&house, "demo.web~missing");
    assert!(line.contains("registry.invalid/debug:1") && line.contains("pull"), "{line}");
}

#[test]
fn a_pod_whose_own_image_cannot_be_pulled_is_said_so() {
    let house = House::open();
    let line = refused(&house, "demo.broken");
    assert!(line.contains("registry.invalid") || line.contains("ImagePull"), "{line}");
}

#[test]
fn what_does_not_exist_and_what_is_not_allowed_read_alike() {
    let house = House::open();
    let lines = ["secret.vault", "demo.nothing", "nowhere.web"].map(|place| refused(&house, place));
    assert!(lines.iter().all(|line| *line == lines[0]), "{lines:#?}");
    let codes: Vec<_> = house
        .audit()
        .into_iter()
        .filter(|event| event["event"] == "decision")
        .map(|event| (event["target"].as_str().expect("named").to_owned(), event["code"].clone()))
        .collect();
    assert!(codes.iter().any(|(target, code)| target.starts_with("secret.vault") && *code == "denied"), "{codes:?}");
    assert!(codes.iter().any(|(target, code)| target == "demo.nothing" && *code == "not_found"), "{codes:?}");
}

#[test]
fn a_name_that_is_no_place_says_what_a_place_looks_like() {
    let house = House::open();
    assert!(refused(&house, "dev").contains("namespace.pod"));
    assert!(refused(&house, "Demo.web").contains("namespace.pod"));
    assert!(refused(&house, "demo.web~nothing").contains("general"));
    assert!(refused(&house, "demo.web+nothing").contains("use one of web"));
}

#[test]
fn pod_security_narrows_a_profile_or_refuses_it_and_says_so() {
    let house = House::build(crate::house::Plan {
        config: format!("[profiles.netadmin]\npreset = \"netadmin\"\nimage = \"{}\"\n", crate::house::cluster().tools),
        ..Default::default()
    });
    let line = refused(&house, "restricted.app~netadmin");
    assert!(line.contains("pod security level restricted") && line.contains("~restricted"), "{line}");
    for place in ["restricted.app", "restricted.app~restricted"] {
        let output = house.ssh(place, "id -u; grep CapEff /proc/self/status");
        let seen = text(&output.stdout);
        assert!(
            !seen.starts_with("0\n") && seen.contains("0000000000000000"),
            "{place}: {seen} {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn each_action_is_its_own_question() {
    let policy = include_str!("policy-commands-only.toml");
    let house = House::build(crate::house::Plan { policy: Some(policy.to_owned()), ..Default::default() });
    assert_eq!(text(&house.ssh("demo.web", "echo yes").stdout), "yes\n");
    let sftp = finish(house.client("sftp").args(["-b", "/dev/null", "demo.web@porthole"]));
    assert!(!sftp.status.success());
    let forward = finish(house.client("ssh").args(["-W", "localhost:8080", "demo.web@porthole"]));
    assert!(!forward.status.success());
    let shell = crate::house::finish_with(house.client("ssh").arg("demo.web@porthole"), b"echo no\n");
    assert_eq!((shell.status.code(), text(&shell.stdout)), (Some(254), String::new()));
    let denied: Vec<_> =
        house.audit().into_iter().filter(|e| e["code"] == "denied").map(|e| e["action"].clone()).collect();
    assert_eq!(denied, ["files", "forward", "shell"]);
}
