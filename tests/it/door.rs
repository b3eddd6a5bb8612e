//! Plain ssh into a pod: commands, their streams and their ends.

use std::io::Read as _;
use std::process::Stdio;

use crate::house::{House, finish, finish_with, text};

#[test]
fn output_errors_and_status_arrive_exactly_every_time() {
    let house = House::open();
    // A real cluster needs a container for each: fewer of them there keep the pods' lists short.
    for round in 0..if crate::house::cluster().real { 20 } else { 50 } {
        let output = house.ssh("demo.web", "echo o; echo e >&2; exit 7");
        let seen = (text(&output.stdout), text(&output.stderr), output.status.code());
        assert_eq!(seen, ("o\n".into(), "e\n".into(), Some(7)), "round {round}");
    }
}

#[test]
fn the_input_of_a_command_and_its_end_reach_it() {
    let house = House::open();
    let mut client = house.client("ssh");
    let output = finish_with(client.args(["demo.web@porthole", "cat; echo after"]), b"x\n");
    assert_eq!((text(&output.stdout), output.status.code()), ("x\nafter\n".into(), Some(0)));
}

#[test]
fn bytes_go_both_ways_at_once_and_none_is_lost() {
    let house = House::open();
    // More than every buffer on the way together, both ways at once: what stops a stock russh server for good.
    let mut sent = vec![0; 64 << 20];
    let mut random = std::fs::File::open("/dev/urandom").expect("it is there");
    random.read_exact(&mut sent).expect("endless");
    let mut client = house.client("ssh");
    let output = finish_with(client.args(["demo.web@porthole", "cat"]), &sent);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stdout == sent, "{} bytes of {} came back, or others", output.stdout.len(), sent.len());
}

#[test]
fn a_shell_without_a_terminal_reads_its_commands_from_input() {
    let house = House::open();
    let output = finish_with(house.client("ssh").arg("demo.web@porthole"), b"echo one; exit 3\n");
    assert_eq!((text(&output.stdout), output.status.code()), ("one\n".into(), Some(3)));
}

#[test]
fn many_sessions_share_one_connection() {
    let house = House::open();
    let mut master = house.client("ssh");
    let socket = house.file("mux");
    master.args(["-M", "-N", "-S"]).arg(&socket).arg("demo.web@porthole");
    let mut master = master.stderr(Stdio::null()).spawn().expect("ssh starts");
    crate::house::await_change(house.folder(), || socket.exists().then_some(())).expect("the master's socket");
    let sessions: Vec<_> = (0..8)
        .map(|n| {
            let mut client = house.client("ssh");
            client.arg("-S").arg(&socket).arg("demo.web@porthole").arg(format!("echo {n}; exit {n}"));
            std::thread::spawn(move || finish(&mut client))
        })
        .collect();
    for (n, session) in sessions.into_iter().enumerate() {
        let output = session.join().expect("no panic");
        assert_eq!((text(&output.stdout), output.status.code()), (format!("{n}\n"), Some(n as i32)));
    }
    let mut stop = house.client("ssh");
    finish(stop.arg("-S").arg(&socket).args(["-O", "exit", "demo.web@porthole"]));
    master.wait().expect("a child of ours");
}

#[test]
fn only_listed_variables_reach_the_program() {
    let house = House::open();
    let mut client = house.client("ssh");
    client.args(["-o", "SetEnv=LC_WORD=yes OTHER=no"]).args(["demo.web@porthole", "echo [$LC_WORD] [$OTHER]"]);
    assert_eq!(text(&finish(&mut client).stdout), "[yes] []\n");
}

#[test]
fn the_container_says_who_is_there_and_why() {
    let house = House::open();
    let output = house.ssh("demo.web", "echo $PORTHOLE_USER $PORTHOLE_SESSION");
    let seen = text(&output.stdout);
    let started = house.await_audit("container", |event| event["event"] == "container_started");
    let session = started["session"].as_str().expect("a session");
    assert_eq!(seen.trim(), format!("dev {session}"));
    let container = started["container"].as_str().expect("a container");
    assert!(container.contains("dev") && container.ends_with(session), "{container}");
}

#[test]
fn the_same_person_meets_the_same_pod_again() {
    let house = House::open();
    let pods: Vec<_> = (0..4).map(|_| text(&house.ssh("demo.web", "hostname").stdout)).collect();
    assert!(pods[0].starts_with("web-") && pods.iter().all(|pod| *pod == pods[0]), "{pods:?}");
}

#[test]
fn the_audit_trail_tells_the_whole_way() {
    let house = House::open();
    house.ssh("demo.web", "exit 3");
    let ended = house.await_audit("end", |event| event["event"] == "connection_closed");
    let trail = house.audit();
    let of_this = trail.iter().filter(|event| event["connection"] == ended["connection"]);
    let names: Vec<_> = of_this.clone().map(|event| event["event"].as_str().expect("named")).collect();
    let way = [
        "connection_opened",
        "login_accepted",
        "decision",
        "container_started",
        "process_started",
        "process_ended",
        "connection_closed",
    ];
    assert_eq!(names, way);
    let end = of_this.clone().find(|event| event["event"] == "process_ended").expect("just seen");
    assert_eq!((&end["status"], &end["code"], &end["subject"]), (&3.into(), &"exited".into(), &"dev".into()));
}

#[test]
fn a_client_that_takes_no_more_output_ends_the_program() {
    let house = House::open();
    let mut client = house.client("ssh");
    let client = client.args(["demo.web@porthole", "yes"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut client = client.spawn().expect("ssh starts");
    let mut output = client.stdout.take().expect("piped");
    crate::house::read_until(&mut output, "y\n");
    // As `head -1` does.
    drop(output);
    client.wait().expect("a child of ours");
    let ended = house.await_audit("container's end", |event| event["event"] == "container_ended");
    assert_eq!(ended["code"], "terminated", "{}", house.log());
}
