//! The menu and the words of a login name without a dot, as a person meets them: `ssh dev@porthole`.

use std::fs;
use std::process::Command;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::house::{House, Plan, cluster, finish, text};
use crate::screen::Window;

const SIZE: [u16; 2] = [80, 24];
const DOWN: &str = "\x1b[B";

/// The usual policy without the namespace team.
const WITHOUT_TEAM: &str = r#"
[roles.developer]
[[roles.developer.rules]]
id = "everything"
actions = "*"
namespaces = ["demo", "restricted"]
profiles = "*"
[[bindings]]
groups = "developers"
roles = "developer"
"#;

/// A pod of its own in the shared cluster, gone with the value.
struct OwnPod {
    name: String,
}

impl OwnPod {
    fn create(name: &str) -> OwnPod {
        let pod = json!({
            "metadata": { "name": name, "namespace": "demo" },
            "spec": {
                "containers": [{ "name": "app", "image": cluster().tools, "command": ["sleep", "1000"] }],
                "terminationGracePeriodSeconds": 0,
            },
        });
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        pods(async |pods| drop(pods.create(&PostParams::default(), &pod).await.expect("created")));
        OwnPod { name: name.to_owned() }
    }
}

impl Drop for OwnPod {
    fn drop(&mut self) {
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        pods(async |pods| drop(pods.delete(&self.name, &now).await));
    }
}

/// Does something with the pods of the namespace demo.
fn pods(act: impl AsyncFnOnce(Api<Pod>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // Another test may have installed it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // On a real cluster Porthole's own account may make no pods.
        let ours = &cluster().kubeconfig;
        let file = if cluster().real { ours.with_file_name("kubeconfig") } else { ours.clone() };
        let kubeconfig = Kubeconfig::read_from(&file).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = kube::Client::try_from(config.expect("usable")).expect("usable");
        act(Api::namespaced(client, "demo")).await;
    });
}

fn said(house: &House, command: &str) -> String {
    let output = house.ssh("dev", command);
    assert_eq!(output.status.code(), Some(0), "{command}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The line with which a command is refused, without the session's id, which is another one each time.
fn refused(house: &House, command: &str) -> String {
    let output = house.ssh("dev", command);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(254), ""), "{command}");
    let line = text(&output.stderr);
    assert!(line.starts_with("porthole: ") && line.lines().count() == 1, "{line:?}");
    line.split(" (session ").next().expect("one part at least").to_owned()
}

#[test]
fn a_filter_and_enter_lead_into_a_pod_and_what_was_typed_ahead_is_for_its_shell() {
    let house = House::open();
    let mut window = Window::open(&house, "dev", "xterm-256color", SIZE);
    window.shows(&["porthole", "NAME", "demo", "db-0", "distroless", "Running", "login name"], &["looking"]);
    window.keys("db-");
    window.shows(&["> db-", "StatefulSet", "db-0"], &["distroless"]);
    window.keys(&format!("{DOWN}\rhostname; stty size; exit 7\r"));
    let (status, bytes) = window.end();
    let seen = text(&bytes);
    assert_eq!(status, Some(7), "{seen:?}");
    let after = seen.rsplit("\u{1b}[?1049l").next().expect("one part at least");
    assert!(after.starts_with("demo.db-0\r\n") && after.contains("24 80"), "{after:?}");
    assert!(seen.contains("\u{1b}[?25h"), "the cursor is back");
    let started = house.await_audit("process", |event| event["event"] == "process_started");
    assert_eq!((&started["target"], &started["terminal"]), (&json!("demo.db-0+db"), &json!(true)));
    let listed = house.await_audit("list", |event| event["event"] == "places_listed");
    assert_eq!(listed["code"], "listed");
}

#[test]
fn arrows_and_the_second_key_choose_the_place_its_container_and_its_profile() {
    let house = House::open();
    let mut window = Window::open(&house, "dev", "xterm", SIZE);
    window.shows(&["distroless"], &["looking"]);
    window.keys("distroless");
    window.shows(&["> distroless", "login name  demo.distroless"], &[]);
    window.keys(&format!("\t\t{DOWN}"));
    window.shows(&["CONTAINER", "* app  default", "* alone", "demo.distroless~alone"], &["NAME"]);
    window.keys("\r");
    window.says("demo.distroless~alone\r\n");
    window.keys("exit 3\r");
    assert_eq!(window.end().0, Some(3));
    let started = house.await_audit("container", |event| event["event"] == "container_started");
    assert_eq!((&started["profile"], &started["target"]), (&json!("alone"), &json!("demo.distroless+app")));
}

#[test]
fn a_place_that_is_closed_is_in_no_byte_whatever_is_typed() {
    let house = House::open();
    let mut window = Window::open(&house, "dev", "xterm", [100, 30]);
    window.shows(&["demo", "team", "restricted"], &["looking"]);
    // Its names are never typed whole, or the echo would be them.
    for typed in ["secre", "vaul", "s", "v", ".", "e", "playgroun"] {
        window.keys(typed);
        window.shows(&[&format!("> {typed}")], &[]);
        for key in [DOWN, "\x1b[A", "\x1b[F", "\x1b[H", "\x1b[6~", "\x1b[5~", "\x1b[C", "\x1b[D", "\t", "\t", "\t"] {
            window.keys(key);
        }
        window.keys("\x15");
        window.shows(&["type to filter"], &[]);
    }
    window.keys("secre");
    window.shows(&["> secre", "0 of ", "nothing has this"], &[]);
    window.keys("\x03");
    let (status, bytes) = window.end();
    assert_eq!(status, Some(0));
    for words in ["ls", "ls --json", "ls demo", "ssh-config porthole", "whoami", "help"] {
        let output = house.ssh("dev", words);
        let seen = text(&[bytes.clone(), output.stdout, output.stderr].concat());
        assert!(!seen.contains("secret") && !seen.contains("vault"), "{words}: {seen}");
    }
    assert_eq!(refused(&house, "ls secret"), refused(&house, "ls nowhere"));
    assert_eq!(refused(&house, "ls secret --json"), "porthole: no such place, or it is not open to you");
}

#[test]
fn a_window_that_changes_its_size_is_filled_again_and_a_small_one_too() {
    let house = House::open();
    let mut window = Window::with(&house, "dev", "xterm", SIZE, "-o SetEnv=NO_COLOR=1");
    let last = |row: usize| move |seen: &crate::screen::Received| (seen.screen.last().0 == row).then_some(());
    window.shows(&["distroless"], &["looking"]);
    window.until("footer in line 24", last(24));
    window.resize(100, 33);
    window.until("footer in line 33", last(33));
    window.resize(30, 6);
    window.until("footer in line 6", last(6));
    window.shows(&["login name  demo.broken"], &["RESTARTS"]);
    // What is written anew is complete, and after a key only what differs.
    let before = window.until("bytes", |seen| Some(seen.bytes.len()));
    window.keys(DOWN);
    window.shows(&["login name  demo.db"], &[]);
    let after = window.until("bytes", |seen| (seen.bytes.len() > before).then_some(seen.bytes.len()));
    assert!(after - before < 300, "{}", after - before);
    window.keys("\x1b");
    let (status, bytes) = window.end();
    let seen = text(&bytes);
    assert!(status == Some(0) && !seen.contains(";36m") && seen.contains("\u{1b}[0;7m"), "{seen:?}");
}

#[test]
fn a_terminal_without_a_screen_has_a_numbered_list() {
    let house = House::open();
    for term in ["dumb", "unheard-of"] {
        let mut window = Window::open(&house, "dev", term, SIZE);
        window.says("Ctrl-D leaves\r\n> ");
        window.keys("db\r");
        window.says("  2  demo.db-0 ");
        window.keys("99\r");
        window.says("there is no such number");
        window.keys("2\rexit 4\r");
        let (status, bytes) = window.end();
        assert_eq!(status, Some(4), "{}", text(&bytes));
        let menu = text(&bytes).split("demo.db-0\r\n").next().expect("one part").to_owned();
        assert!(!menu.contains('\u{1b}') && !menu.contains("secret"), "{menu:?}");
    }
}

#[test]
fn pods_come_and_go_on_the_open_screen() {
    let house = House::open();
    let mut window = Window::open(&house, "dev", "xterm", [100, 40]);
    let selected = |shown: &str| shown.lines().find(|line| line.contains("login name")).map(str::to_owned);
    let before = window.shows(&["distroless"], &["looking", "fresh-one"]);
    let pod = OwnPod::create("fresh-one");
    let shown = window.shows(&["fresh-one", "Running"], &[]);
    assert_eq!(selected(&shown), selected(&before), "the selection stays: {shown}");
    drop(pod);
    window.shows(&["distroless"], &["fresh-one"]);
    window.keys("\x04");
    assert_eq!(window.end().0, Some(0));
}

#[test]
fn a_place_that_the_policy_closes_leaves_the_open_screen() {
    let house = House::open();
    let mut window = Window::open(&house, "dev", "xterm", [100, 40]);
    window.shows(&["team", "api"], &["looking"]);
    window.keys("api");
    window.shows(&["> api", "login name  team.api"], &[]);
    house.change("policy.toml", WITHOUT_TEAM);
    window.shows(&["nothing has this"], &["team.api"]);
    window.keys("\x1b");
    window.shows(&["demo"], &["team"]);
    window.keys("\x1b");
    assert_eq!(window.end().0, Some(0));
}

#[test]
fn a_menu_ends_with_its_login_and_with_porthole() {
    let mut house = House::build(Plan {
        config: "[certificate]\nrevoked-file = \"revoked\"\n".to_owned(),
        before: Some(Box::new(|folder| fs::write(folder.join("revoked"), "# none\n").expect("writable"))),
        ..Plan::default()
    });
    let mut window = Window::open(&house, "dev", "xterm", SIZE);
    window.shows(&["distroless"], &["looking"]);
    house.change("revoked", "id: dev\n");
    let (status, bytes) = window.end();
    let seen = text(&bytes);
    let after = seen.rsplit("\u{1b}[?1049l").next().expect("one part at least");
    assert!(status == Some(254) && after.starts_with("porthole: your certificate is no longer"), "{seen:?}");

    house.change("revoked", "# none\n");
    let mut window = Window::open(&house, "dev", "xterm", SIZE);
    window.shows(&["distroless"], &["looking"]);
    house.stop();
    let (_, bytes) = window.end();
    let seen = text(&bytes);
    let after = seen.rsplit("\u{1b}[?1049l").next().expect("one part at least");
    assert!(after.starts_with("porthole: porthole is restarting"), "{seen:?}");
}

#[test]
fn without_a_terminal_or_with_another_word_a_line_says_what_there_is() {
    let house = House::open();
    for command in ["", "id", "ls;id"] {
        let line = refused(&house, command);
        assert!(line.contains("one of ls, whoami, ssh-config, help"), "{line}");
    }
    assert!(refused(&house, "ls --wide").contains("ls [NAMESPACE] [--json]"));
    assert!(refused(&house, "ssh-config").contains("ssh-config HOST"));
    let help = said(&house, "help");
    assert!(["ls ", "whoami ", "ssh-config ", "help "].iter().all(|word| help.contains(word)), "{help}");
}

#[test]
fn ls_says_in_columns_and_in_json_what_the_menu_shows() {
    let house = House::open();
    let columns = said(&house, "ls");
    let head = columns.lines().next().expect("a head");
    assert_eq!(head.split_whitespace().collect::<Vec<_>>(), ["PLACE", "WORKLOAD", "READY", "STATE", "RESTARTS", "AGE"]);
    let db = columns.lines().find(|line| line.starts_with("demo.db-0 ")).expect("db-0");
    assert_eq!(db.split_whitespace().collect::<Vec<_>>()[1..5], ["demo.db", "1/1", "Running", "0"]);
    let team = said(&house, "ls team");
    assert!(team.lines().count() >= 3 && team.lines().skip(1).all(|line| line.starts_with("team.")), "{team}");

    let all: Value = serde_json::from_str(&said(&house, "ls --json")).expect("JSON");
    let places = all["places"].as_array().expect("a list");
    let db = places.iter().find(|place| place["place"] == "demo.db-0").expect("db-0");
    assert_eq!(db["workload"], json!({ "kind": "StatefulSet", "name": "db" }));
    assert_eq!((&db["state"], &db["containers"], &db["restarts"]), (&json!("Running"), &json!(["db"]), &json!(0)));
    assert!(db["created"].as_str().is_some_and(|time| time.ends_with('Z')), "{db}");

    let me: Value = serde_json::from_str(&said(&house, "whoami --json")).expect("JSON");
    assert_eq!(
        (&me["subject"], &me["login"], &me["groups"]),
        (&json!("dev"), &json!("certificate"), &json!(["developers"]))
    );
    assert!(me["valid_until"].is_string(), "{me}");
}

#[test]
fn the_printed_ssh_config_makes_each_place_a_host() {
    let house = House::build(Plan {
        config: "[ssh]\npublic-address = \"porthole.example.com:2222\"\n".to_owned(),
        ..Plan::default()
    });
    let block = said(&house, "ssh-config");
    assert!(
        block.contains("Host demo.web\n    HostName porthole.example.com\n    User demo.web\n    Port 2222\n"),
        "{block}"
    );
    let block = said(&house, &format!("ssh-config 127.0.0.1:{}", house.port));
    let rest = fs::read_to_string(house.file("ssh_config")).expect("readable").replace("Host porthole\n", "Host *\n");
    fs::write(house.file("places"), block + &rest).expect("writable");
    let mut ssh = Command::new("ssh");
    let output = finish(ssh.arg("-F").arg(house.file("places")).args(["demo.db", "hostname; exit 5"]));
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
}
