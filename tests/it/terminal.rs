//! Terminals: sizes, keys, hang-ups. The client runs in a real terminal of its own, by `script`.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use crate::house::{House, read_until};

/// `ssh` inside a terminal of the given size.
struct Terminal {
    child: Child,
    output: std::process::ChildStdout,
}

impl Terminal {
    fn open(house: &House, place: &str, columns: u16, rows: u16, command: &str) -> Terminal {
        let config = house.file("ssh_config");
        let client = format!(
            "stty cols {columns} rows {rows}; echo pid:$$; exec ssh -F {} -tt {place}@porthole '{command}'",
            config.display()
        );
        let mut child = Command::new("script")
            .args(["-qefc", &client, "/dev/null"])
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is installed (util-linux)");
        let output = child.stdout.take().expect("piped");
        Terminal { child, output }
    }

    fn see(&mut self, mark: &str) -> String {
        read_until(&mut self.output, mark)
    }

    fn type_in(&mut self, keys: &[u8]) {
        let input = self.child.stdin.as_mut().expect("piped");
        input.write_all(keys).and_then(|()| input.flush()).expect("the terminal is open");
    }

    /// The id of the `ssh` process, which replaced the shell that told it.
    fn client_id(&mut self) -> String {
        let seen = self.see("\n");
        seen.rsplit("pid:").next().expect("one part at least").trim().to_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_size_is_right_before_the_first_byte_and_follows() {
    let house = House::open();
    let command = "stty size; echo ready; while ! read -t 0.2 x; do stty size; done; exit 5";
    let mut terminal = Terminal::open(&house, "demo.web", 101, 37, command);
    let client = terminal.client_id();
    let seen = terminal.see("ready");
    assert!(seen.contains("37 101"), "{seen:?}");
    // The client asks its own terminal for the size when it is told of a change.
    let tty = std::fs::read_link(format!("/proc/{client}/fd/0")).expect("the client's terminal");
    let resized =
        Command::new("stty").arg("-F").arg(&tty).args(["cols", "90", "rows", "20"]).status().expect("stty runs");
    assert!(resized.success());
    terminal.see("20 90");
    terminal.type_in(b"\n");
    assert_eq!(terminal.child.wait().expect("a child of ours").code(), Some(5));
}

#[test]
fn an_interrupt_reaches_a_program_whose_output_is_stuck() {
    let house = House::open();
    let mut client = house.client("ssh");
    // A shell that is not interactive dies of the signal that its child died of, unless it minds it.
    client.args(["-tt", "demo.web@porthole", "trap : INT; yes; echo status:$?"]);
    let client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut client = client.spawn().expect("ssh starts");
    let mut output = client.stdout.take().expect("piped");
    read_until(&mut output, "y\r\ny");
    // Nobody reads: the client's pipe fills (its pages are not all full then), its window, every buffer up to the program.
    let started = std::time::Instant::now();
    while rustix::io::ioctl_fionread(&output).expect("a pipe") < 16_000 {
        assert!(started.elapsed() < crate::house::PATIENCE, "the output does not fill the pipe");
        std::thread::yield_now();
    }
    let input = client.stdin.as_mut().expect("piped");
    input.write_all(b"\x03").and_then(|()| input.flush()).expect("open");
    read_until(&mut std::io::BufReader::new(output), "status:130");
    client.wait().expect("a child of ours");
}

#[test]
fn the_terminals_name_reaches_the_program() {
    let house = House::open();
    let mut terminal = Terminal::open(&house, "demo.web", 80, 24, "echo term:$TERM; tput cols; echo done");
    let seen = terminal.see("done");
    assert!(seen.contains("term:xterm-256color") && seen.contains("80"), "{seen:?}");
}

#[test]
fn a_client_that_is_killed_leaves_no_process() {
    let house = House::open();
    for (terminal, place) in [(true, "demo.web"), (false, "demo.web"), (true, "demo.web~alone")] {
        let mut client = house.client("ssh");
        client.args([if terminal { "-tt" } else { "-T" }, &format!("{place}@porthole")]);
        // It ignores the hang-up and keeps a child: only being ended helps.
        client.arg("trap '' HUP TERM INT; sleep 98765 & echo begin; while :; do sleep 98765; done");
        let mut client = client.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("ssh starts");
        read_until(client.stdout.as_mut().expect("piped"), "begin");
        client.kill().expect("it runs");
        client.wait().expect("a child of ours");
        let ended =
            house.await_audit("end", |event| event["event"] == "process_ended" && event["code"] == "client_left");
        let container = ended["container"].as_str().expect("named").to_owned();
        assert_gone(&house, &container);
        std::fs::write(house.file("audit.jsonl"), "").expect("writable");
    }
}

/// Waits until the log has the container's end, which Porthole takes from the pod's own status.
fn assert_gone(house: &House, container: &str) {
    let ended = house
        .await_audit("container's end", |event| event["event"] == "container_ended" && event["container"] == container);
    assert_eq!(ended["code"], "terminated", "{}", house.log());
}
